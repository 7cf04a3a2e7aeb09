// AttentionExplorer: a token of the photo looks at the others. Layers, heads and patches are counted from 0, as in Python.

function attentionPage({ C, H, W, layers, prefix, single, turn }) {
  const { el } = look;
  const text = (name, tag = "p") => el(tag, { class: name });
  const parts = {
    photo: el("canvas", { class: "ve-att-picture", width: W, height: H, "aria-hidden": "true" }),
    heat: el("canvas", { class: "ve-att-heat", "aria-hidden": "true" }),
    marks: el("canvas", { class: "ve-att-marks", tabindex: 0, role: "application" }),
    scale: el("canvas", { class: "ve-att-scale", "aria-hidden": "true" }),
    top: text("", "span"),
    small: el("canvas", { "aria-hidden": "true" }),
    chosen: el("canvas", { class: "ve-att-marks", tabindex: 0, role: "application" }),
    title: text("ve-title"),
    row: text(""),
    ahead: text("ve-title"),
    best: Array.from({ length: Math.min(5, Math.max(...layers.map(({ rows, columns }) => rows * columns))) }, () => {
      const line = { patch: el("canvas", { width: 20, height: 20, "aria-hidden": "true" }), words: text("", "span"), bar: text("ve-att-bar", "span") };
      return { ...line, root: el("div", { class: "ve-att-line" }, line.patch, line.words, line.bar) };
    }),
    rest: text("ve-quiet"),
    head: text(""),
    distances: el("canvas", { class: "ve-att-distances", role: "img" }),
    shown: look.choice("Show", [["head", "one head"], ["mean", "mean of heads"], ["rollout", "rollout"]], turn.shown),
    from: prefix.length ? look.choice("Look from", [[0, "a patch"], ...prefix.map((name, i) => [-1 - i, name])], turn.from) : "",
    strength: look.slider("Strength", { min: 0, max: 100, step: 5 }, turn.strength),
  };
  parts.photo.toggleAttribute("data-big", W < 100);
  parts.frame = el("div", { class: "ve-att-frame" }, parts.photo, parts.heat, parts.marks);
  parts.frame.style.aspectRatio = `${W} / ${H}`;
  const width = `${Math.round(single ? Math.min(480, (520 * W) / H) : Math.min(340, (400 * W) / H))}px`;
  parts.frame.style.width = width;
  const left = el("div", { class: "ve-att-left" }, parts.frame,
    el("div", { class: "ve-att-legend" }, el("span", {}, "Weight 0"), parts.scale, parts.top), parts.strength);
  left.style.width = width;
  parts.over = el("div", { class: "ve-att-small" }, parts.small, parts.chosen);
  parts.right = el("div", { class: "ve-att-right" });
  (single ? parts.right : left).append(parts.title, parts.row, parts.ahead, el("div", { class: "ve-att-best" },
    ...parts.best.map(({ root }) => root)), parts.rest);
  if (!single) {
    parts.right.append(el("p", { class: "ve-title" }, "The same query in every head"),
      el("p", { class: "ve-quiet" }, "A row a layer, a column a head; each map by its own largest weight."), parts.over,
      el("p", { class: "ve-title" }, "How far each head looks"),
      el("p", { class: "ve-quiet" }, "Mean distance in pixels, layer by layer; a dot is a head."), parts.distances);
  }
  parts.right.append(parts.head);
  const page = look.page("Attention explorer", {
    controls: [single ? "" : parts.shown, parts.from],
    stage: [left, parts.right],
    help: "A token's new vector is a sum over all tokens, each times its attention weight: bright patches count most, the dashed one more than all. " +
      `Point at a patch${single ? " to try it, click to keep it; or reach the photo" : " or at a small map to try it, click to " +
      "keep it; or reach both"} with Tab and use the arrow keys. ${prefix.length ? `C: ${prefix[0]} or patch. ` : ""}` +
      (single ? "" : "H: one head, M: mean of heads, R: rollout, which multiplies the layers up to this one."),
  });
  return Object.assign(page, parts);
}

function render({ model, el }) {
  const [C, H, W] = model.get("shape");
  const [layers, prefix, size] = ["layers", "prefix", "size"].map((name) => model.get(name));
  const numbers = attentionNumbers({ sent: model.get("weights"), layers, prefix, size });
  const drawing = attentionDrawing({ numbers, layers, size });
  const { grids, move } = numbers;
  const single = layers.length === 1 && layers[0].heads === 1; // no other head to go to
  const page = attentionPage({ C, H, W, layers, prefix, single, turn: {
    shown: (shown) => choose({ shown }),
    from: (query) => choose({ query: query < 0 ? query : patch() }),
    strength: (percent) => fade(percent),
  } });
  el.append(page.root);
  look.photo(look.bytes(model.get("pixels")), [C, H, W], page.photo);
  look.heat(page.scale, Float32Array.from({ length: 256 }, (_, i) => i), 1, 256, 256);

  // What is chosen (the model's, shared with Python and other views) and what is pointed at (this view's) ----------------
  let preview = null; // { query }, or { layer, head } under the mouse: shown, not chosen
  let before = null; // the patch before the class token, and its layer
  let news = true; // something to say

  function state() {
    const layer = Math.min(model.get("layer"), layers.length - 1); // layer, head and query may come one after the other
    const { heads, rows, columns } = grids[layer];
    const head = Math.min(model.get("head"), heads - 1);
    const query = Math.max(Math.min(model.get("query"), rows * columns - 1), -prefix.length);
    return { layer, head, query, shown: model.get("shown") };
  }
  function shownState() {
    const chosen = state();
    const s = { ...chosen, ...preview, preview: Boolean(preview) };
    if (!(preview && "query" in preview)) s.query = move(chosen.query, chosen.layer, s.layer);
    s.queries = grids.map((_, layer) => move(s.query, s.layer, layer));
    return s;
  }
  function choose(values) {
    preview = null;
    for (const [key, to] of Object.entries(values)) model.set(key, to);
    model.save_changes();
    news = true;
    paint();
  }
  function go(layer, head) {
    const s = state();
    choose({ layer, head: Math.min(head, grids[layer].heads - 1), query: move(s.query, s.layer, layer) });
  }
  function patch() {
    const { layer } = state();
    const { rows, columns } = grids[layer];
    return before ? move(before.query, before.layer, layer) : Math.floor(rows / 2) * columns + Math.floor(columns / 2);
  }
  function lookAt(next) {
    if (JSON.stringify(next) === JSON.stringify(preview)) return;
    preview = next;
    paint();
  }
  function fade(percent) {
    page.strength.set(percent, `${percent} %`);
    page.heat.style.opacity = percent / 100;
    page.photo.style.filter = percent ? "grayscale(1)" : ""; // the photo's colours are not the map's
  }

  // In words -----------------------------------------------------------------------------------------------------------
  const place = (query, { columns }) => `patch ${query} (row ${Math.floor(query / columns)}, column ${query % columns})`;
  const whose = (s) => (s.query < 0 ? `the ${prefix[-1 - s.query]}` : place(s.query, grids[s.layer]));
  const capital = (words) => words[0].toUpperCase() + words.slice(1);
  const verb = (s) => (s.shown === "rollout" ? "comes most from" : "looks most at");
  const four = (weight) => weight.toFixed(4);
  function what({ shown, layer, head }) {
    if (shown === "head") return `layer ${layer}, head ${head}`;
    if (shown === "mean") return `layer ${layer}, mean of ${grids[layer].heads} heads`;
    return `rollout of layers ${numbers.first(layer)} to ${layer}`;
  }
  function ofHead({ shown, layer, head }, [distance, entropy] = [layers[layer].distance[head], layers[layer].entropy[head]]) {
    if (shown !== "head") return "";
    return `This head's mean distance is ${distance.toFixed(1)} pixels, its entropy ${entropy.toFixed(2)} bits.`;
  }
  const from = ({ shown }, distance) => (distance === null ? "It has no place in the photo, so no distance. " :
    `${shown === "rollout" ? "Comes from" : "Looks"} ${distance.toFixed(1)} pixels away on average. `);
  const spread = (entropy, { N }) => `Entropy ${entropy.toFixed(2)} bits, as if spread evenly over ${(2 ** entropy).toFixed(1)} of ${N} tokens.`;
  // The longest that these can be, whatever is pointed at.
  const [farthest, evenest] = [Math.hypot(...size), Math.max(...grids.map(({ N }) => Math.log2(N)))];
  const last = Math.max(...grids.map(({ rows, columns }) => rows * columns)) - 1;
  const asks = look.longest([`patch ${last}`, ...prefix.map((name) => `the ${name}`)]);

  function write(s, weights, { best, top, distance, entropy }) {
    const grid = grids[s.layer];
    const headline = (who, key) => `${capital(what(s))}: ${who} ${verb(s)} patch ${key}`;
    look.write(page.headline, headline(s.query < 0 ? whose(s) : `patch ${s.query}`, best[0]), headline(asks, last));
    page.shown.choose(s.shown);
    if (prefix.length) page.from.choose(Math.min(s.query, 0));
    page.top.textContent = `${four(top)} (patch ${best[0]})`;
    page.title.textContent = capital(whose(s));
    const placed = prefix.length ? null : farthest; // the sentence without a place is the longer one
    look.write(page.row, from(s, distance) + spread(entropy, grid), from(s, placed) + spread(evenest, grid));
    const all = (words) => words.replace("This", "Over all queries, this");
    look.write(page.head, all(ofHead(s)), all(ofHead({ shown: "head" }, [farthest, evenest])));
    page.ahead.textContent = s.shown === "rollout" ? "Most of it comes from" : "Largest weights";
    page.best.forEach(({ root, words, bar }, i) => {
      root.style.visibility = i < best.length ? "" : "hidden"; // a layer of fewer patches keeps the room
      if (i >= best.length) return;
      const weight = weights[prefix.length + best[i]];
      words.textContent = `${place(best[i], grid)}: ${four(weight)}`;
      bar.style.width = `${(weight / (top || 1)) * 100}%`;
    });
    page.rest.textContent = prefix.map((name, i) => `${capital(name)}: ${four(weights[i])}.`).join(" ");
    page.marks.setAttribute("aria-label", `Photo of ${grid.rows} rows and ${grid.columns} columns of patches. ` +
      "Arrow keys choose the patch that looks.");
    page.chosen.setAttribute("aria-label", `${layers.length} layers and their heads, ${what(s)} is shown. ` +
      "Up and down choose the layer, left and right the head.");
    page.distances.setAttribute("aria-label", `Mean attention distance of every head by layer. ${ofHead(s)}`);
    if (!news || preview) return;
    news = false;
    page.status.textContent = `${capital(what(s))}: ${whose(s)} ${verb(s)} ${place(best[0], grid)}, weight ${four(top)}. ${ofHead(s)}`;
  }

  const [paint, stop] = look.painter(page.root, [page.root, page.marks, page.chosen, page.distances], () => {
    const [s, colours] = [shownState(), look.colours(page.root)];
    if (!preview && s.query >= 0) before = { query: s.query, layer: s.layer };
    const weights = numbers.row(s);
    const facts = numbers.facts(weights, s);
    const l = drawing.layout(page.right.clientWidth); // of no use to a single head
    [page.over.style.width, page.over.style.height] = [`${l.width}px`, `${l.height}px`];
    drawing.paintHeat(page.heat, facts, grids[s.layer]);
    drawing.paintMarks(page.marks, s, facts.best[0], colours);
    drawing.paintBest(page.best, page.photo, facts.best, grids[s.layer]);
    if (!single) {
      drawing.paintSmall(page.small, s, l);
      drawing.paintChosen(page.chosen, s, l, colours);
      drawing.paintDistances(page.distances, s, colours);
    }
    write(s, weights, facts); // last: a size asked for behind a change of text would lay out the page once more
  });

  // Mouse and finger -----------------------------------------------------------------------------------------------------
  function patchAt(event) {
    const [[x, y], { rows, columns }] = [look.where(event), grids[state().layer]];
    return { query: Math.floor(y * rows) * columns + Math.floor(x * columns) };
  }
  const mapAt = (event) => drawing.cellAt(event.offsetX, event.offsetY, drawing.layout(page.right.clientWidth));
  look.pointer(page.marks, patchAt, lookAt, choose);
  look.pointer(page.chosen, mapAt, lookAt, ({ layer, head }) => go(layer, head));

  // Keys; each function answers whether it used the key ------------------------------------------------------------------
  function photoKey(key) {
    const { query, layer } = state();
    const { rows, columns } = grids[layer];
    const from = query < 0 ? patch() : query;
    const [row, column] = [Math.floor(from / columns), from % columns];
    const to = look.onGrid(key, [row, column], [rows, columns]);
    if (to) choose({ query: to[0] * columns + to[1] });
    return Boolean(to);
  }
  function mapKey(key) {
    const { layer, head } = state();
    const to = {
      ArrowLeft: [layer, Math.max(head - 1, 0)],
      ArrowRight: [layer, head + 1],
      ArrowUp: [Math.max(layer - 1, 0), head],
      ArrowDown: [Math.min(layer + 1, layers.length - 1), head],
      Home: [layer, 0],
      End: [layer, Infinity],
      PageUp: [0, head],
      PageDown: [layers.length - 1, head],
    }[key];
    if (to) go(...to);
    return Boolean(to);
  }
  function anyKey(key) {
    const shown = !single && { h: "head", m: "mean", r: "rollout" }[key.toLowerCase()];
    const flip = prefix.length && key.toLowerCase() === "c";
    if (shown) choose({ shown });
    if (flip) choose({ query: state().query < 0 ? patch() : -1 });
    return Boolean(shown || flip);
  }
  look.keys(page.root, ({ key, target }) =>
    (target === page.marks && photoKey(key)) || (target === page.chosen && mapKey(key)) || anyKey(key));

  // Changes of the model: from here, from another view of it, or from Python ---------------------------------------------
  const follow = () => {
    news = true;
    paint();
  };
  const unfollow = look.followAll(model, ["layer", "head", "query", "shown"], follow);
  fade(70);
  paint();
  let ready = 0; // a layer at a time, or the first rollout would wait for all of them
  let timer = setTimeout(function prepare() {
    numbers.mean(ready);
    if (++ready < layers.length) timer = setTimeout(prepare, 20);
  }, 100);
  return () => {
    stop();
    clearTimeout(timer);
    unfollow();
  };
}

export default { render };
