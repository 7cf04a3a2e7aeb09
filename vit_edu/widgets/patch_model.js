// What PatchExplorer knows of places: which patches are moved, how like positions are, and what the model says.

const SHARES = [0, 25, 50, 100]; // per cent of the patches that are moved

// As patch_model.shuffle: the patch that stands at each of N places. `drawn` is the order in which patches are taken; each goes to
// the place of the next.
function movedOrder(drawn, N, share) {
  const moved = drawn.filter((patch) => patch < N).slice(0, Math.floor((N * share) / 100));
  const order = Array.from({ length: N }, (_, place) => place);
  moved.forEach((place, k) => (order[place] = moved.at(k - 1)));
  return order;
}

// The cosine of the position embedding of `place` with each place's: from the model's table `own` (N x N), or of MAE's sin-cos
// positions. There each axis has 192 frequencies, and sin a sin b + cos a cos b = cos(a − b) leaves the distance alone.
function placeCosines(own, place, { rows, columns, N }) {
  if (own.length) return own.subarray(place * N, (place + 1) * N);
  const frequencies = Array.from({ length: 192 }, (_, k) => 10000 ** (-k / 192));
  const along = (n) => Array.from({ length: n }, (_, apart) =>
    frequencies.reduce((sum, f) => sum + Math.cos(apart * f), 0) / 384);
  const [down, across] = [along(rows), along(columns)];
  const [row, column] = [Math.floor(place / columns), place % columns];
  return Float64Array.from({ length: N }, (_, other) =>
    down[Math.abs(Math.floor(other / columns) - row)] + across[Math.abs((other % columns) - column)]);
}

// The legend of the map over the photo: { node, write(s) }.
function placesLegend(source) {
  const { el } = look;
  const low = el("span", { class: "ve-quiet" });
  const bar = look.heat(el("canvas", { class: "ve-bar", "aria-hidden": "true" }), Array.from({ length: 256 }, (_, i) => i), 1, 256, 256);
  const [pair, like] = [el("p", {}), el("p", { class: "ve-quiet" })];
  const node = el("div", { class: "ve-places" },
    el("div", { class: "ve-scale" }, low, bar, el("span", { class: "ve-quiet" }, "1.00")), pair, like);
  function write(s) {
    node.hidden = !s.near;
    if (!s.near) return;
    low.textContent = figure(Math.min(...s.near));
    const other = s.shown === s.chosen ? "itself" : `patch ${s.shown}`;
    const words = (patch, whom, cosine) => `Position of patch ${patch} with ${whom}: cosine ${figure(cosine)}`;
    look.write(pair, words(s.chosen, other, s.near[s.shown]), words(s.N - 1, `patch ${s.N - 1}`, -1));
    like.textContent = `${source} ${placesWords(s)}`;
  }
  return { node, write };
}
function placesWords({ near, chosen, N }) {
  const others = Array.from({ length: N }, (_, i) => i).filter((i) => i !== chosen).sort((a, b) => near[b] - near[a]);
  const words = (several) => several.map((i) => `${i} (${figure(near[i])})`).join(", ");
  return N === 1 ? "" : `Most like its position: patches ${words(others.slice(0, 4))}; least: ${words(others.slice(-1))}.`;
}

// What the model says, with patches moved under their positions and together with them: { node, write(s), words(share) }.
function modelAnswers(numbers, classes) {
  const { el } = look;
  const K = Math.max(classes.length, 1); // one number where there is no head: the cosine of features
  const said = (row, share) => {
    const start = (row * SHARES.length + SHARES.indexOf(share)) * K;
    return numbers.subarray(start, start + K);
  };
  const shown = (x) => (classes.length ? `${(100 * x).toFixed(1)} %` : figure(x, 3));
  const top = (row, share) => {
    const all = said(row, share);
    const best = Array.from(all, (_, k) => k).sort((a, b) => all[b] - all[a]).slice(0, 3);
    return best.map((k) => [classes[k] ?? "cosine", all[k]]);
  };
  const title = el("p", { class: "ve-title" });
  const sides = ["Patches moved, positions stayed", "Patches and positions moved together"].map((words) => {
    const bars = el("div", { class: "ve-bars" });
    return [bars, el("div", {}, el("p", {}, words), bars)];
  });
  const node = el("div", { class: "ve-answers" }, title, ...sides.map(([, side]) => side), el("p", { class: "ve-quiet" },
    "Attention, MLP and norm treat all tokens alike: where each takes its position along, a ViT says the same in any order."));
  let written = null;
  function write(s) {
    if (written === (written = s.shuffled)) return;
    const place = s.moved ? `${look.words(s.moved)} of ${look.words(s.N)} patches moved` : "the picture in order";
    title.textContent = classes.length ? `What the model says: ${place}` :
      `The model's feature against that of the picture in order: ${place}`;
    sides.forEach(([bars], row) => {
      const lines = top(row, s.shuffled).map(([name, x]) => {
        const fill = el("span");
        fill.style.width = `${100 * Math.max(0, x)}%`;
        return [el("span", { class: "ve-name" }, name), el("span", { class: "ve-track", "aria-hidden": "true" }, fill), el("span", {}, shown(x))];
      });
      bars.replaceChildren(...lines.flat());
    });
  }
  const first = (row, share) => `${top(row, share)[0][0]} ${shown(top(row, share)[0][1])}`;
  const words = (share) => `${classes.length ? "The model says" : "The feature's"} ${first(0, share)}; ` +
    `with positions moved along ${first(1, share)}. `;
  return { node, write, words };
}
