// WindowShiftExplorer: the shifted windows of Swin, step by step. All counting starts at 0, as in Python.

const DURATION = 1100; // ms, of the cells' way to the other side
const STEPS = [
  ["grid", "1 Grid"], ["windows", "2 Windows"], ["shift", "3 Shift"], ["attention", "4 Masked attention"],
  ["back", "5 Shift back"], ["merge", "6 Merge"],
];

function windowShiftPage(map, aspect, act) {
  const { el } = look;
  const text = (name) => el("p", { class: name });
  const parts = {
    steps: look.choice("Step", STEPS, act.step),
    mask: look.toggle("Mask (M)", act.mask),
    shift: look.toggle("Shift (S)", act.shift),
    explain: text("ve-explain"),
    grid: el("canvas", { class: "ve-windows", tabindex: 0, role: "application" }),
    legend: el("ul", { class: "ve-legend" }),
    title: text("ve-title"),
    matrix: el("canvas", { class: "ve-mask", role: "img" }),
    scale: el("p", { class: "ve-quiet" },
      el("span", { class: "ve-key ve-none" }), "0   ", el("span", { class: "ve-key ve-hidden" }),
      "−100, a weight of 0 after the softmax. Rows ask, columns answer; the chosen token's row is framed."),
    reach: text("ve-reach"),
    side: look.slider("Side of the image", { min: SIDES[0], max: SIDES[1], step: 8 }, act.side),
    cost: el("canvas", { class: "ve-cost", role: "img" }),
    costWords: text("ve-cost-words"),
  };
  parts.steps.classList.add("ve-steps");
  const frame = el("div", { class: "ve-board" }, parts.grid, parts.legend);
  const share = (map.all[1] * aspect) / map.all[0];
  parts.grid.style.aspectRatio = share;
  frame.style.width = `${Math.round(Math.max(200, Math.min(440, 440 * share)))}px`;
  const stage = [parts.explain, frame, el("div", { class: "ve-detail" }, parts.title, parts.matrix, parts.scale, parts.reach)];
  const page = look.page("Window shift explorer", {
    controls: [parts.steps, el("div", { class: "ve-row" }, parts.mask, parts.shift)],
    stage,
    help: "Click a token, or reach the grid with Tab and use the arrow keys. M turns the mask on and off, S the shift. " +
      "Tokens, rows, columns, windows and regions are counted from 0, as in Python.",
  });
  page.root.append(el("div", { class: "ve-price" },
    el("p", { class: "ve-title" }, "What one attention layer costs as the image grows"),
    parts.side,
    el("p", { class: "ve-quiet" },
      el("span", { class: "ve-dash ve-everyone" }), "global: 4·hw·C² + 2·(hw)²·C   ",
      el("span", { class: "ve-dash ve-local" }), "windows: 4·hw·C² + 2·M²·hw·C   ",
      `(h × w tokens of ${PATCH} × ${PATCH} pixels, C = ${CHANNELS}, M = ${map.M}; equations 1 and 2)`),
    parts.cost, parts.costWords));
  parts.grid.setAttribute("aria-describedby", page.id);
  return { ...page, ...parts };
}

function render({ model, el }) {
  const [[H, W], M, S] = ["grid_size", "window_size", "shift_size"].map((name) => model.get(name));
  const shape = model.get("shape");
  const photo = shape[0] ? look.photo(look.bytes(model.get("pixels")), shape) : null;
  const aspect = photo ? Math.min(Math.max(shape[2] / W / (shape[1] / H), 1 / 3), 3) : 1; // of a cell
  const map = windowMap({ H, W, M, S });
  const drawing = windowShiftDrawing(map, photo);
  const change = (name, value) => {
    model.set(name, value);
    model.save_changes();
  };
  let side = 224;
  let hovered = null; // the cell under the mouse is shown; the chosen one stays chosen
  const now = { moved: 0, split: 0, lines: 0 };
  let [running, written] = [0, ""];
  const page = windowShiftPage(map, aspect, {
    step: (step) => change("step", step),
    mask: (on) => change("masked", on),
    shift: (on) => change("shifted", on),
    side: (pixels) => {
      side = pixels;
      paint();
    },
  });
  const { words } = look;
  el.append(page.root);

  function state(shown = hovered) {
    const [step, masked, shifted] = ["step", "masked", "shifted"].map((name) => model.get(name));
    const shift = shifted && ["shift", "attention", "back"].includes(step) ? map.most : [0, 0];
    const chosen = map.cellOf(model.get("selected"));
    const cell = shown && map.tokenOf(shown) !== null ? shown : chosen;
    const moves = shift.some(Boolean);
    const window = map.windowOf(cell, shift);
    const reached = masked ? window.cells.filter(({ region }) => region === window.region) : window.cells;
    const goal = { moved: +(moves && step !== "back"), split: +(step === "merge"), lines: +(moves && step === "back") };
    return { step, masked, shifted, shift, moves, chosen, cell, window, reached, hovered: shown, goal };
  }

  // In words; Python's sentence() says the same -----------------------------------------------------------------------------
  const reason = (s) => (!s.shifted ? "the shift is off" : S ? "one window covers the whole grid" : "shift_size is 0");
  const last = H * W - 1;
  const rangesOfRows = Array(M).fill(`${last}–\u2060${last}`).join(", ");
  const paddingOf = (cells) => cells.filter(({ token }) => token === null).length;

  function sentence(s) {
    const [row, column] = s.cell;
    const token = map.tokenOf(s.cell);
    const who = `Token ${token} (row ${row}, column ${column})`;
    const { window, cells, strangers } = s.window;
    if (s.step === "grid") {
      return `${who} of ${H} × ${W}: global attention would let it attend to all ${words(H * W)} tokens.`;
    }
    if (s.step === "merge") {
      const names = map.four(s.cell).map((cell) => map.tokenOf(cell) ?? "padding").join(", ");
      const [high, wide] = map.even.map((n) => n / 2);
      return `Tokens ${names} become token ${Math.floor(row / 2) * wide + Math.floor(column / 2)} of ${high} × ${wide}: ` +
        "4C numbers side by side, which a linear layer makes 2C.";
    }
    if (s.step === "shift" && s.moves) return `${who} moves to row ${s.window.y}, column ${s.window.x}, into window ${window}.`;
    const still = s.moves || s.step === "windows" ? "" : ` Nothing is shifted: ${reason(s)}.`;
    const n = cells.length;
    const padding = paddingOf(s.reached);
    const aside = padding ? ` (${padding} of them padding)` : "";
    if (!strangers.length) return `${who} stands in window ${window} and may attend to all ${n} tokens${aside}.${still}`;
    if (s.masked) {
      return `${who} stands in window ${window} and may attend to ${s.reached.length} of ${n} tokens${aside}: ` +
        `the other ${strangers.length} come from the other side of the image.`;
    }
    return `${who} stands in window ${window} and attends to all ${n} tokens${aside}: without the mask also to ` +
      `${strangers.length} that come from the other side of the image.`;
  }

  const [hp, wp] = map.padded;
  const count = (hp * wp) / (M * M);
  const grew = hp > H || wp > W ? ` The grid is padded to ${hp} × ${wp}, for windows to fit.` : "";
  function headline(s) {
    const cut = `${count} ${count === 1 ? "window" : "windows"} of ${M} × ${M}`;
    return {
      grid: `${H} × ${W} = ${words(H * W)} tokens: all could look at all, at a high price`,
      windows: `${cut}: each token looks only inside its own`,
      shift: s.moves ? `The cells move, the windows stay: old borders are now inside` : `Nothing moves: ${reason(s)}`,
      attention: !s.moves ? `Windows as in step 2: ${reason(s)}` :
        s.masked ? "The mask parts cells that were no neighbours" : "Without the mask, opposite sides of the image mix",
      back: s.moves ? "Back in place: it is as if the windows had moved instead" : `Windows as in step 2: ${reason(s)}`,
      merge: `2 × 2 neighbours become one token: ${H} × ${W} × C → ${map.even[0] / 2} × ${map.even[1] / 2} × 2C`,
    }[s.step];
  }
  const ways = ["up", "left"].map((name, i) => map.most[i] && `${name} by ${map.most[i]}`).filter(Boolean).join(" and ");
  const explain = (s) => ({
    grid: "Each cell is a token, a patch of the image. It keeps its number and its look through all steps: follow one.",
    windows: "The first of two blocks cuts the grid into windows, and attention stays inside: cheap, but nothing crosses a " +
      "border." + grew,
    shift: !s.moves ? "With a shift, cells would move up and left here; without, this block works as the one before." :
      `The second block moves all cells ${ways}; what leaves comes in at the other side. Each colour is a ` +
      "region: inside one, cells are still neighbours." + grew,
    attention: !s.moves ? "Without a shift every window holds neighbours only, and no mask is needed." :
      s.masked ? "The last windows hold cells of several regions. Between two regions the mask adds −100 to the scores: " +
        "no attention." :
        "The framed cells are not its neighbours: they came from the other side. Turn the mask on to part them.",
    back: (s.moves ? "Each cell is where it was. The thick lines are the shifted windows, laid across the borders of step 2." :
      "Nothing had moved.") + (grew && " Then the padding is dropped."),
    merge: "After the blocks of a stage: four neighbours side by side, down the left column, then the right. Fewer tokens, " +
      "wider ones." + (H % 2 || W % 2 ? " An odd side gets padding of zeros." : ""),
  })[s.step];

  // Tokens as ranges: 32–33, 40–41; no line breaks inside one.
  function ranges(cells) {
    const tokens = cells.map(({ token }) => token).filter((token) => token !== null).sort((a, b) => a - b);
    const runs = [];
    for (const token of tokens) runs.at(-1)?.[1] === token - 1 ? (runs.at(-1)[1] = token) : runs.push([token, token]);
    return runs.map(([from, to]) => (from === to ? `${from}` : `${from}–\u2060${to}`)).join(", ");
  }
  const named = (cells) => {
    const padding = paddingOf(cells);
    return [ranges(cells), padding && `${padding} of padding`].filter(Boolean).join(" and ");
  };

  function legend(s) {
    const windowed = !["grid", "merge", "shift"].includes(s.step);
    const padded = s.step === "merge" ? map.even : map.padded;
    return [
      ["ve-chosen", "the chosen token"],
      windowed && ["ve-lit", "bright: it may attend to"],
      windowed && s.moves && s.masked && ["ve-crossed", "crossed out, coloured: another region, masked"],
      windowed && s.moves && !s.masked && ["ve-framed", "framed: no neighbours, yet attended to"],
      s.step === "shift" && s.moves && ["ve-round", "number of a region"],
      windowed && count > 1 && ["ve-faint", "faint: another window"],
      s.step === "merge" && ["ve-lit", "bright: the four that merge"],
      s.step !== "grid" && (padded[0] > H || padded[1] > W) && ["ve-padding", "padding: zeros, which take part"],
    ].filter(Boolean);
  }

  function write(s) {
    const { el: tag } = look;
    const { window, index, cells, strangers } = s.window;
    page.headline.textContent = headline(s);
    page.explain.textContent = explain(s);
    page.steps.choose(s.step);
    page.mask.set(s.masked);
    page.shift.set(s.shifted);
    const entries = legend(s).map(([name, meaning]) => tag("li", {}, tag("span", { class: `ve-key ${name}` }), meaning));
    page.legend.replaceChildren(...entries);
    page.grid.setAttribute("aria-label", `Grid of ${H} × ${W} tokens. Arrow keys choose a token, M turns the mask, S the shift.`);
    const windowed = s.step !== "grid" && s.step !== "merge";
    for (const node of [page.matrix, page.scale]) node.hidden = !windowed;
    const n = cells.length;
    const token = map.tokenOf(s.cell);
    if (windowed) {
      const title = (at, row, who) => `Mask of window ${at}, ${n} × ${n}: row ${row} is token ${who}`;
      look.write(page.title, title(window, index, token), title(count - 1, n - 1, last));
      page.matrix.setAttribute("aria-label", `Mask of window ${window}: in row ${index}, token ${token}'s, ` +
        `${s.masked ? strangers.length : 0} of ${n} entries are −100, the others 0.`);
      const hidden = s.masked && strangers.length ? ` Masked: ${named(strangers)}.` : "";
      const may = (who, whom, not) => `Token ${who} may attend to ${whom}.${not}`;
      const parted = s.masked && s.moves; // then the ranges of the window's rows are two each
      look.write(page.reach, may(token, named(s.reached), hidden), may(last, rangesOfRows, parted ? ` Masked: ${rangesOfRows}.` : ""));
    } else if (s.step === "grid") {
      page.title.textContent = `Token ${token}, row ${s.cell[0]}, column ${s.cell[1]}`;
      const all = words(H * W);
      page.reach.textContent = `Global attention compares ${all} × ${all} = ${words((H * W) ** 2)} pairs of tokens. ` +
        `Windows of ${M} × ${M} leave ${words(count)} × ${n} × ${n} = ${words(count * n * n)}.`;
    } else {
      page.title.textContent = `${H} × ${W} tokens of C → ${map.even[0] / 2} × ${map.even[1] / 2} tokens of 2C`;
      page.reach.textContent = `With C = ${CHANNELS}: 4 × ${CHANNELS} = ${4 * CHANNELS} numbers side by side, then a linear ` +
        `layer to ${2 * CHANNELS}. The next stage's windows of ${M} × ${M} cover twice as much of the image each way.`;
    }
    const told = sentence(state(null));
    if (page.status.textContent !== told) page.status.textContent = told;
  }

  const short = (cost) => (cost < 999.5e6 ? `${(cost / 1e6).toPrecision(3)}\u00a0M` : `${(cost / 1e9).toPrecision(3)}\u00a0G`);
  function writeCost() {
    const { tokens, everyone, windows } = attentionCost(side, M);
    const [ratio, across] = [everyone / windows, Math.sqrt(tokens)];
    page.side.set(side, `${side} pixels`);
    const verdict = Math.abs(ratio - 1) < 0.005 ? "the same" : ratio < 1 ? "less, for one window is larger than the grid" :
      `${words(Number(ratio.toPrecision(3)))} times as much`;
    page.costWords.textContent = `${side} × ${side} pixels are ${across} × ${across} = ${words(tokens)} tokens. ` +
      `Windows: ${short(windows)} multiply-adds (M: million, G: thousand million). Global: ${short(everyone)}, ${verdict}. ` +
      "Twice the side costs windows four times as much, and global attention nearly sixteen times on large images.";
    page.cost.setAttribute("aria-label", `Cost against side of the image, on logarithmic scales. ${page.costWords.textContent}`);
  }

  const [paint, stop] = look.painter(page.root, [page.grid, page.cost], () => {
    const [s, colours] = [state(), look.colours(page.root)];
    const key = [s.step, s.masked, s.shifted, s.cell, model.get("selected")].join();
    if (key !== written) write(s); // not again in each frame of a journey
    written = key;
    writeCost();
    drawing.paintGrid(page.grid, s, now, colours);
    if (!page.matrix.hidden) drawing.paintMask(page.matrix, s, colours);
    paintCost(page.cost, side, M, colours);
    page.stage.dataset.cells = Object.keys(now).every((key) => now[key] === s.goal[key]) ? "still" : "moving";
  });

  function move() {
    cancelAnimationFrame(running);
    let last = null;
    const tick = (time) => {
      const { goal } = state();
      const by = Math.min(time - (last ?? time), 60) / DURATION; // a busy page takes longer, and shows every step
      last = time;
      for (const key in now) now[key] += Math.min(Math.max(goal[key] - now[key], -by), by);
      paint();
      if (Object.keys(now).some((key) => now[key] !== goal[key])) running = requestAnimationFrame(tick);
    };
    Object.assign(now, look.still() && state().goal);
    running = requestAnimationFrame(tick);
    paint();
  }

  // Mouse and touch ---------------------------------------------------------------------------------------------------------
  // The cell at a place of the shown map, and back; outside it null.
  function cellAt(y, x) {
    const { step, goal, shift } = state();
    const [rows, columns] = map.shown(step);
    if (y < 0 || x < 0 || y >= rows || x >= columns) return null;
    return goal.moved ? map.cellAt(y, x, shift) : [y, x];
  }
  const under = (event) => {
    const [x, y] = look.where(event);
    return cellAt(Math.floor(y * map.all[0]), Math.floor(x * map.all[1]));
  };
  const hover = (cell) => {
    if (String(cell) === String(hovered)) return;
    hovered = cell;
    paint();
  };
  look.pointer(page.grid, under, hover, (cell) => {
    const token = cell && map.tokenOf(cell);
    hovered = null;
    if (token !== null) change("selected", token);
    page.grid.focus({ preventScroll: true });
  });

  // Keys; each function answers whether it used the key ----------------------------------------------------------------------
  function gridKey(key) {
    const { goal, chosen, shift } = state();
    const from = goal.moved ? [map.seat(chosen, shift).y, map.seat(chosen, shift).x] : chosen;
    const way = {
      ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], // to the next token, over padding
      Home: [0, -1, "end"], End: [0, 1, "end"], PageUp: [-1, 0, "end"], PageDown: [1, 0, "end"],
    }[key];
    if (!way) return false;
    let token = null;
    for (let [y, x] = from; token === null || way[2]; ) {
      const cell = cellAt((y += way[0]), (x += way[1]));
      if (!cell) break;
      token = map.tokenOf(cell) ?? token;
    }
    hovered = null;
    if (token !== null) change("selected", token);
    return true;
  }
  function anyKey(key) {
    const name = { m: "masked", s: "shifted" }[key.toLowerCase()];
    if (name) change(name, !model.get(name));
    return Boolean(name);
  }
  look.keys(page.root, ({ key, target }) => (target === page.grid && gridKey(key)) || anyKey(key));

  // Changes of the model: from here, from another view of it, or from Python -------------------------------------------------
  const unfollow = look.follow(model, { selected: paint, masked: paint, step: move, shifted: move });
  Object.assign(now, state().goal);
  paint();
  return () => {
    stop();
    cancelAnimationFrame(running);
    unfollow();
  };
}

export default { render };
