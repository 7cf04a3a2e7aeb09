// PatchExplorer: photo -> patches -> vector -> sequence. All counting starts at 0, as in Python.

const DURATION = 1800; // ms, of the flight from the photo into the sequence
const MOST_PATCHES = 4096; // as in patch_model.py
const WHITE = "rgb(255, 255, 255)"; // no colour has longer words

function patchPage({ W, H, keys }, controls, legend, answers) {
  const { el } = look;
  const text = (name, tag = "p") => el(tag, { class: name });
  const parts = {
    photo: el("canvas", { class: "ve-pixels", width: W, height: H, "aria-hidden": "true" }),
    grid: el("canvas", { class: "ve-over ve-grid", tabindex: 0, role: "application" }),
    enlarged: el("canvas", { class: "ve-pixels", "aria-hidden": "true" }),
    lens: el("canvas", { class: "ve-over ve-lens", "aria-hidden": "true" }),
    title: text("ve-title"),
    sum: text("ve-sum"),
    swatch: text("ve-swatch", "span"),
    mean: text("ve-mean", "span"),
    order: text("ve-quiet"),
    vectorTitle: text("ve-title"),
    segments: el("div", { class: "ve-segments", "aria-hidden": "true" }),
    vector: el("canvas", { class: "ve-vector", tabindex: 0, role: "slider", "aria-label": "Number of the vector", "aria-valuemin": 0 }),
    values: el("div", { class: "ve-values", "aria-hidden": "true" }),
    vectorWords: text("ve-quiet ve-vector-words"),
    sequenceTitle: text("ve-title"),
    sequenceWords: text("ve-quiet"),
    strip: el("canvas", { class: "ve-strip", role: "img" }),
    flight: el("canvas", { class: "ve-flight", "aria-hidden": "true" }),
  };
  const frame = el("div", { class: "ve-photo" }, parts.photo, parts.grid);
  frame.style.aspectRatio = `${W} / ${H}`;
  parts.photo.toggleAttribute("data-big", W < 100);
  const left = el("div", { class: "ve-left" }, frame, legend);
  left.style.width = `${Math.round(Math.min(340, (400 * W) / H))}px`;
  const stage = [
    left,
    el("div", { class: "ve-detail" },
      el("div", { class: "ve-patch" },
        el("div", { class: "ve-enlarged" }, parts.enlarged, parts.lens),
        el("div", { class: "ve-facts" }, parts.title, parts.sum, el("p", {}, parts.swatch, "Mean colour ", parts.mean), parts.order)),
      el("div", {}, parts.vectorTitle, parts.segments, parts.vector, parts.values, parts.vectorWords)),
    ...answers,
    el("div", { class: "ve-sequence" }, parts.sequenceTitle, parts.sequenceWords, parts.strip),
    parts.flight,
  ];
  const page = look.page("Patch explorer", { controls, stage, help:
    `Click a patch, or reach the photo with Tab and use the arrow keys. ${keys}. ` +
    "Rows, columns and tokens are counted from 0, as in Python." });
  parts.grid.setAttribute("aria-describedby", page.id);
  return Object.assign(page, parts);
}

function render({ model, el }) {
  const [C, H, W] = model.get("shape");
  const sizes = model.get("sizes");
  const { words } = look;
  const drawn = new Int16Array(look.bytes(model.get("drawn")).slice().buffer);
  const cosines = look.halves(model.get("cosines"));
  const said = new Float32Array(look.bytes(model.get("answers")).slice().buffer);
  const placed = cosines.length || !said.length; // a model without positions has none to compare

  const sizeChoice = look.choice("Patch size", sizes.map((size) => [size, size, `${size} pixels`]), (size) => cut(size, half()));
  const button = look.el("button", { class: "ve-button", type: "button" });
  const overlap = look.toggle("Overlap by half", (on) => cut(state().p, on));
  const shares = look.choice("Shuffled", SHARES.map((share) => [share, `${share} %`]), (share) => shuffle(share));
  const near = look.toggle("Position similarity", (on) => change({ positions: on }));
  const legend = placesLegend(cosines.length ? "The model's position embeddings." : "MAE's sin-cos positions.");
  const answers = said.length ? [modelAnswers(said, model.get("classes"))] : [];
  const more = [...(said.length ? [] : [overlap]), shares, ...(placed ? [near] : [])];
  const controls = [...(sizes.length > 1 ? [sizeChoice] : []), button, look.el("div", { class: "ve-row" }, ...more)];
  const keys = ["F flattens", "S shuffles", ...(said.length ? [] : ["O overlaps"]), ...(placed ? ["P compares positions"] : []),
    ...(sizes.length > 1 ? ["+ and − change the patch size"] : [])].join(", ");
  const page = patchPage({ W, H, keys }, controls, legend.node, answers.map(({ node }) => node));
  const drawing = patchDrawing({ C, H, W, pixels: look.bytes(model.get("pixels")), photo: page.photo });
  el.append(page.root);

  // What is chosen (the model's, shared with Python and other views) and what is pointed at (this view's) ----------------
  let hovered = null; // the patch under the mouse is shown; the chosen one stays chosen
  let value = 0; // the marked number of the vector
  let progress = model.get("flattened") ? 1 : 0;
  let running = 0;
  let news = () => ""; // of the state, said before what is chosen; null when all is said
  let laid = {}; // which patches are moved, as they were last laid

  const canOverlap = (p) => p % 2 === 0 && ((2 * H) / p - 1) * ((2 * W) / p - 1) <= MOST_PATCHES;
  const half = () => model.get("overlap") && canOverlap(model.get("patch_size"));
  function state() {
    const [p, shuffled] = [model.get("patch_size"), model.get("shuffled")];
    const stride = half() ? p / 2 : p;
    const [rows, columns] = [H, W].map((side) => (side - p) / stride + 1);
    const [N, D] = [rows * columns, C * p * p];
    const chosen = Math.min(model.get("selected"), N - 1); // patch size and selection may come one after the other
    value = Math.min(value, D - 1);
    const key = [p, stride, shuffled].join();
    if (laid.key !== key) {
      const order = movedOrder(drawn, N, stride < p ? 0 : shuffled);
      laid = { key, order, moved: order.filter((patch, place) => patch !== place).length };
      drawing.paintPhoto(order, { p, stride, columns });
    }
    return { p, stride, rows, columns, N, D, chosen, hovered, value, progress, shuffled, ...laid };
  }
  function change(values) {
    for (const [key, to] of Object.entries(values)) model.set(key, to);
    model.save_changes();
  }
  function choose(patch) {
    hovered = null;
    change({ selected: patch });
    paint();
  }
  // Patches of another size or stride; the one whose middle is next to that of the chosen one is chosen.
  function cut(size, overlapping) {
    const s = state();
    const stride = overlapping && canOverlap(size) ? size / 2 : size;
    const middle = drawing.cornerOf(s.chosen, s).map((start) => start + s.p / 2);
    const after = { p: size, stride, rows: (H - size) / stride + 1, columns: (W - size) / stride + 1 };
    hovered = null;
    if (size !== s.p) value = 0;
    const selected = drawing.patchAt([middle[1] / W, middle[0] / H], after);
    change({ ...(stride < size && { shuffled: 0 }), overlap: stride < size, patch_size: size, selected });
  }
  function shuffle(share) {
    if (share && half()) cut(state().p, false); // patches that share pixels make no picture when they are moved
    hovered = null;
    change({ shuffled: share });
  }
  const toggle = () => change({ flattened: !model.get("flattened") });
  function mark(i) {
    value = i;
    paint();
  }

  // In words -----------------------------------------------------------------------------------------------------------
  const tokens = (n) => `${words(n)} ${n === 1 ? "token" : "tokens"}`;
  const product = (s) => `${C} × ${s.p} × ${s.p} = ${words(s.D)} numbers`;

  const whence = (s, place) => (s.order[place] === place ? null : s.order[place]);
  const came = (s, from) => (from === null ? "" :
    `Its pixels come from patch ${from}: row ${Math.floor(from / s.columns)}, column ${from % s.columns}. `);
  const furthest = (s) => (s.moved ? s.N - 1 : null);

  // Several changes in one frame are one sentence for the screen reader.
  function say(what = news ?? (() => "")) {
    news = what;
    paint();
  }
  function writeStatus(s) {
    if (news === null) return;
    const mean = drawing.meanColour(drawing.vectorOf(s.chosen, s));
    const told = (patch, colour, from) => `Patch ${patch} of ${words(s.N)}: row ${Math.floor(patch / s.columns)}, ` +
      `column ${patch % s.columns}. ${product(s)}. Mean colour ${colour}. ${came(s, from)}${s.near ? placesWords(s) : ""}`.trim();
    look.write(page.status, news(s) + told(s.chosen, mean, whence(s, s.chosen)), told(s.N - 1, WHITE, furthest(s)));
    news = null;
  }

  function write(s) {
    const [row, column] = [Math.floor(s.shown / s.columns), s.shown % s.columns];
    page.headline.textContent = `${H} × ${W} × ${C} → ${tokens(s.N)} of ${words(s.D)} numbers`;
    sizeChoice.choose(s.p);
    overlap.set(s.stride < s.p);
    overlap.querySelector("input").disabled = !canOverlap(s.p);
    overlap.title = canOverlap(s.p) ? "" : "Wants an even patch size, and not too many patches";
    shares.choose(s.shuffled);
    near.set(Boolean(s.near));
    button.textContent = model.get("flattened") ? "Un-flatten" : "Flatten";
    legend.write(s);
    for (const each of answers) each.write(s);
    page.grid.setAttribute("aria-label", `Photo cut into ${s.rows} rows and ${s.columns} columns of patches. ` +
      `Arrow keys choose a patch, ${keys}.`);
    page.title.textContent = `Patch ${s.shown}`;
    const sum = (y, x) => `Row ${y}, column ${x} → token ${y} × ${s.columns} + ${x} = ${y * s.columns + x} of ${words(s.N)}`;
    look.write(page.sum, sum(row, column), sum(s.rows - 1, s.columns - 1));
    page.swatch.style.background = drawing.meanColour(s.vector);
    page.mean.textContent = drawing.meanColour(s.vector);
    const begins = ([top, left]) => `Starts at pixel row ${top}, column ${left}. `;
    const order = (patch, from) => (s.stride < s.p ? begins(drawing.cornerOf(patch, s)) : came(s, from)) + `As a vector: ${C === 1 ? "the pixels row by row." : "all its reds row by row, then all greens, then all blues."}`;
    look.write(page.order, order(s.shown, whence(s, s.shown)), order(s.N - 1, furthest(s)));
    page.vectorTitle.textContent = `Its vector: ${product(s)}`;
    page.sequenceTitle.textContent = `The sequence: ${tokens(s.N)} in one long row`;
    const count = ([side, found]) => `(${side} − ${s.p}) / ${s.stride} + 1 = ${found}`;
    const each = H === W ? `${count([H, s.rows])} rows and columns` : `${count([H, s.rows])} rows, ${count([W, s.columns])} columns`;
    page.sequenceWords.textContent = s.stride < s.p ? `A patch every ${s.stride} pixels: ${each}. Inside, each pixel is in four tokens.` :
      "Row after row of the photo, read like text. The model sees this row, not the photo.";
    page.strip.setAttribute("aria-label", `The sequence of ${tokens(s.N)}; token ${s.chosen} is marked.`);
    page.stage.dataset.patches = progress === 0 ? "photo" : progress === 1 ? "sequence" : "moving";
  }

  function writeVector(s) {
    const { el: tag } = look;
    page.segments.replaceChildren(...CHANNELS[C].map((name, c) => {
      const label = tag("span", {}, `${name[0].toUpperCase()} `, tag("small", {}, `from ${words(c * s.p * s.p)}`));
      label.style.color = `var(--ve-${name})`;
      return label;
    }));
    const count = Math.min(s.D, Math.max(5, Math.min(10, Math.floor(page.vector.clientWidth / 46))));
    const first = Math.max(0, Math.min(value - (count >> 1), s.D - count));
    const chips = Array.from({ length: count }, (_, k) => {
      const chip = tag("span", { "data-value": first + k }, String(s.vector[first + k]));
      chip.style.borderBottomColor = `var(--ve-${CHANNELS[C][drawing.at(first + k, s.p).c]})`;
      chip.classList.toggle("ve-now", first + k === value);
      return chip;
    });
    const dots = () => tag("span", { class: "ve-dots" }, "…");
    page.values.replaceChildren(...(first > 0 ? [dots()] : []), ...chips, ...(first + count < s.D ? [dots()] : []));
    const { c, y, x } = drawing.at(value, s.p);
    const told = (i, channel, row, column, number) => `Number ${words(i)}: ${channel}, row ${row}, column ${column} of the patch = ${number}`;
    const sentence = told(value, CHANNELS[C][c], y, x, s.vector[value]);
    look.write(page.vectorWords, sentence, told(s.D - 1, look.longest(CHANNELS[C]), s.p - 1, s.p - 1, 255));
    page.vector.setAttribute("aria-valuemax", s.D - 1);
    page.vector.setAttribute("aria-valuenow", value);
    page.vector.setAttribute("aria-valuetext", sentence);
  }

  const [paint, stop] = look.painter(page.root, [page.grid, page.strip, page.vector], () => {
    const [s, colours] = [state(), look.colours(page.root)];
    s.shown = s.hovered ?? s.chosen;
    s.vector = drawing.vectorOf(s.shown, s);
    s.near = placed && model.get("positions") ? placeCosines(cosines, s.chosen, s) : null;
    write(s);
    writeVector(s);
    writeStatus(s);
    drawing.paintGrid(page.grid, s, colours);
    drawing.paintPatch(page.enlarged, page.lens, s, colours);
    drawing.paintVector(page.vector, s, colours);
    drawing.paintStrip(page.strip, s, colours);
    drawing.paintFlight(page.flight, page.grid, page.strip, s);
  });

  function fly() {
    cancelAnimationFrame(running);
    const target = model.get("flattened") ? 1 : 0;
    if (look.still()) progress = target;
    let last = null;
    const step = (time) => {
      const by = Math.min(time - (last ?? time), 60) / DURATION; // a busy page takes longer and shows every step
      last = time;
      progress = target ? Math.min(progress + by, 1) : Math.max(progress - by, 0);
      paint();
      if (progress !== target) running = requestAnimationFrame(step);
    };
    running = requestAnimationFrame(step);
  }

  // Mouse and touch ----------------------------------------------------------------------------------------------------
  const patchAt = (event) => drawing.patchAt(look.where(event), state());
  const tokenAt = (event) => drawing.tokenAt(event.offsetX, event.offsetY, state(), page.strip.clientWidth);
  const show = (patch) => {
    hovered = patch;
    paint();
  };
  const keep = (patch) => {
    if (patch !== null) choose(patch);
    page.grid.focus({ preventScroll: true });
  };
  for (const [canvas, find] of [[page.grid, patchAt], [page.strip, tokenAt]]) look.pointer(canvas, find, show, keep);
  const atPixel = (event) => {
    const [{ p }, [x, y]] = [state(), look.where(event)];
    mark(drawing.at(value, p).c * p * p + Math.floor(y * p) * p + Math.floor(x * p));
  };
  const atNumber = (event) => mark(drawing.valueAt(event.offsetX, state(), page.vector.clientWidth));
  for (const name of ["pointermove", "pointerdown"]) {
    page.lens.addEventListener(name, atPixel);
    page.vector.addEventListener(name, atNumber);
  }
  page.values.addEventListener("pointerdown", (event) => event.target.dataset.value && mark(Number(event.target.dataset.value)));
  button.addEventListener("click", toggle);

  // Keys; each function answers whether it used the key ------------------------------------------------------------------
  function gridKey(key) {
    const { rows, columns, chosen } = state();
    const [row, column] = [Math.floor(chosen / columns), chosen % columns];
    const to = look.onGrid(key, [row, column], [rows, columns]);
    if (to) choose(to[0] * columns + to[1]);
    return Boolean(to);
  }
  function vectorKey(key) {
    const { p, D } = state();
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: p * p, PageDown: -p * p, Home: -D, End: D };
    if (key in steps) mark(Math.min(Math.max(value + steps[key], 0), D - 1));
    return key in steps;
  }
  function anyKey(key) {
    const size = sizes[sizes.indexOf(state().p) + ({ "+": 1, "=": 1, "-": -1, "_": -1 }[key] ?? 0)];
    const does = {
      f: toggle,
      o: () => said.length || cut(state().p, !half()),
      p: () => placed && change({ positions: !model.get("positions") }),
      s: () => shuffle(SHARES[(SHARES.indexOf(state().shuffled) + 1) % SHARES.length]),
      ...Object.fromEntries([..."+=-_"].map((sign) => [sign, () => size && cut(size, half())])),
    }[key.toLowerCase()];
    does?.();
    return Boolean(does);
  }
  look.keys(page.root, ({ key, target }) =>
    (target === page.grid && gridKey(key)) || (target === page.vector && vectorKey(key)) || anyKey(key));

  // Changes of the model: from here, from another view of it, or from Python ---------------------------------------------
  const moves = (s) => `${words(s.moved)} of ${words(s.N)} patches moved. ${answers.map((each) => each.words(s.shuffled)).join("")}`;
  const unfollow = look.follow(model, {
    selected: () => say(),
    patch_size: () => say((s) => `Patch size ${s.p}: ${tokens(s.N)}. `),
    overlap: () => say((s) =>
      `Patches ${s.stride < s.p ? "overlap by half" : "lie edge to edge"}: ${tokens(s.N)}. ${s.moved ? moves(s) : ""}`),
    shuffled: () => say(moves),
    positions: () => say((s) => (s.near ? "Places are painted by how like their positions are. " : "The photo is back. ")),
    flattened: () => {
      say(() => (model.get("flattened") ? "The patches stand in one row. " : "The patches are back in the photo. "));
      fly();
    },
  });
  paint();
  return () => {
    stop();
    cancelAnimationFrame(running);
    unfollow();
  };
}

export default { render };
