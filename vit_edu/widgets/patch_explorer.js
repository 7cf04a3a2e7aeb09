// PatchExplorer: photo -> patches -> vector -> sequence. All counting starts at 0, as in Python.

const DURATION = 1800; // ms, of the flight from the photo into the sequence

function patchPage({ C, H, W, sizes }) {
  const { el } = look;
  const id = `ve-${Math.random().toString(36).slice(2)}`; // two views on one page must not share a radio group
  const text = (name, tag = "p") => el(tag, { class: name });
  const page = {
    headline: text("ve-headline"),
    radios: sizes.map((size) => el("input", { type: "radio", name: id, value: size, "aria-label": `${size} pixels` })),
    button: el("button", { class: "ve-button", type: "button" }),
    photo: el("canvas", { class: "ve-pixels", width: W, height: H, "aria-hidden": "true" }),
    grid: el("canvas", { class: "ve-over ve-grid", tabindex: 0, role: "application", "aria-describedby": id }),
    enlarged: el("canvas", { class: "ve-pixels", "aria-hidden": "true" }),
    lens: el("canvas", { class: "ve-over ve-lens", "aria-hidden": "true" }),
    title: text("ve-title"),
    sum: text("ve-sum"),
    swatch: text("ve-swatch", "span"),
    mean: text("", "span"),
    order: text("ve-quiet"),
    vectorTitle: text("ve-title"),
    segments: el("div", { class: "ve-segments", "aria-hidden": "true" }),
    vector: el("canvas", { class: "ve-vector", tabindex: 0, role: "slider", "aria-label": "Number of the vector", "aria-valuemin": 0 }),
    values: el("div", { class: "ve-values", "aria-hidden": "true" }),
    vectorWords: text("ve-quiet ve-vector-words"),
    sequenceTitle: text("ve-title"),
    strip: el("canvas", { class: "ve-strip", role: "img" }),
    flight: el("canvas", { class: "ve-flight", "aria-hidden": "true" }),
    status: el("p", { class: "ve-status", id, role: "status", "aria-live": "polite" }),
  };
  const sizeChoice = el("fieldset", { class: "ve-choice" }, el("legend", {}, "Patch size"),
    ...page.radios.map((radio) => el("label", {}, radio, el("span", { "aria-hidden": "true" }, radio.value))));
  const frame = el("div", { class: "ve-photo" }, page.photo, page.grid);
  frame.style.aspectRatio = `${W} / ${H}`;
  frame.style.width = `${Math.round(Math.min(340, (400 * W) / H))}px`;
  page.photo.toggleAttribute("data-big", W < 100);
  page.stage = el("div", { class: "ve-stage" },
    frame,
    el("div", { class: "ve-detail" },
      el("div", { class: "ve-patch" },
        el("div", { class: "ve-enlarged" }, page.enlarged, page.lens),
        el("div", { class: "ve-facts" }, page.title, page.sum, el("p", {}, page.swatch, page.mean), page.order)),
      el("div", {}, page.vectorTitle, page.segments, page.vector, page.values, page.vectorWords)),
    el("div", { class: "ve-sequence" }, page.sequenceTitle,
      el("p", { class: "ve-quiet" }, "Row after row of the photo, read like text. The model sees this row, not the photo."), page.strip),
    page.flight);
  page.root = el("div", { class: "ve ve-patch-explorer", role: "group", "aria-label": "Patch explorer" },
    page.headline, el("div", { class: "ve-row ve-controls" }, sizeChoice, page.button), page.stage, page.status,
    el("p", { class: "ve-quiet ve-help" },
      "Click a patch, or reach the photo with Tab and use the arrow keys. + and − change the patch size, F flattens. ",
      "Rows, columns and tokens are counted from 0, as in Python."));
  return page;
}

function render({ model, el }) {
  const [C, H, W] = model.get("shape");
  const sizes = model.get("sizes");
  const sent = model.get("pixels");
  const pixels = new Uint8Array(sent.buffer, sent.byteOffset, sent.byteLength);
  const page = patchPage({ C, H, W, sizes });
  const drawing = patchDrawing({ C, H, W, pixels, photo: page.photo });
  const { words } = look;
  el.append(page.root);
  drawing.paintPhoto();

  // What is chosen (the model's, shared with Python and other views) and what is pointed at (this view's) ----------------
  let hovered = null; // the patch under the mouse is shown; the chosen one stays chosen
  let value = 0; // the marked number of the vector
  let progress = model.get("flattened") ? 1 : 0;
  let running = 0;
  let news = ""; // said before what is chosen; null when all is said

  function state() {
    const p = model.get("patch_size");
    const [rows, columns] = [H / p, W / p];
    const [N, D] = [rows * columns, C * p * p];
    const chosen = Math.min(model.get("selected"), N - 1); // patch size and selection may come one after the other
    value = Math.min(value, D - 1);
    return { p, rows, columns, N, D, chosen, hovered, value, progress };
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
  function resize(size) {
    const s = state();
    const middle = (index) => Math.floor(((index + 0.5) * s.p) / size); // stay at the same place of the photo
    hovered = null;
    value = 0;
    const selected = middle(Math.floor(s.chosen / s.columns)) * (W / size) + middle(s.chosen % s.columns);
    change({ patch_size: size, selected });
  }
  const toggle = () => change({ flattened: !model.get("flattened") });
  function mark(i) {
    value = i;
    paint();
  }

  // In words -----------------------------------------------------------------------------------------------------------
  const tokens = (n) => `${words(n)} ${n === 1 ? "token" : "tokens"}`;
  const product = (s) => `${C} × ${s.p} × ${s.p} = ${words(s.D)} numbers`;

  // Several changes in one frame are one sentence for the screen reader.
  function say(what = "") {
    news = what || news || "";
    paint();
  }
  function writeStatus(s) {
    if (news === null) return;
    const place = `row ${Math.floor(s.chosen / s.columns)}, column ${s.chosen % s.columns}`;
    const mean = drawing.meanColour(drawing.vectorOf(s.chosen, s));
    page.status.textContent = `${news}Patch ${s.chosen} of ${words(s.N)}: ${place}. ${product(s)}. Mean colour ${mean}.`;
    news = null;
  }

  function write(s) {
    const [row, column] = [Math.floor(s.shown / s.columns), s.shown % s.columns];
    page.headline.textContent = `${H} × ${W} × ${C} → ${tokens(s.N)} of ${words(s.D)} numbers`;
    for (const radio of page.radios) radio.checked = Number(radio.value) === s.p;
    page.button.textContent = model.get("flattened") ? "Un-flatten" : "Flatten";
    page.grid.setAttribute("aria-label", `Photo cut into ${s.rows} rows and ${s.columns} columns of patches. ` +
      "Arrow keys choose a patch, plus and minus change the patch size, F flattens.");
    page.title.textContent = `Patch ${s.shown}`;
    page.sum.textContent = `Row ${row}, column ${column} → token ${row} × ${s.columns} + ${column} = ${s.shown} of ${words(s.N)}`;
    page.swatch.style.background = drawing.meanColour(s.vector);
    page.mean.textContent = `Mean colour ${drawing.meanColour(s.vector)}`;
    page.order.textContent = C === 1 ? "As a vector: the pixels row by row." :
      "As a vector: all its reds row by row, then all greens, then all blues.";
    page.vectorTitle.textContent = `Its vector: ${product(s)}`;
    page.sequenceTitle.textContent = `The sequence: ${tokens(s.N)} in one long row`;
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
    const sentence = `Number ${words(value)}: ${CHANNELS[C][c]}, row ${y}, column ${x} of the patch = ${s.vector[value]}`;
    page.vectorWords.textContent = sentence;
    page.vector.setAttribute("aria-valuemax", s.D - 1);
    page.vector.setAttribute("aria-valuenow", value);
    page.vector.setAttribute("aria-valuetext", sentence);
  }

  const [paint, stop] = look.painter(page.root, [page.grid, page.strip, page.vector], () => {
    const [s, colours] = [state(), look.colours(page.root)];
    s.shown = s.hovered ?? s.chosen;
    s.vector = drawing.vectorOf(s.shown, s);
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
  const patchAt = (event) => {
    const [s, [x, y]] = [state(), look.where(event)];
    return Math.floor(y * s.rows) * s.columns + Math.floor(x * s.columns);
  };
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
  for (const radio of page.radios) radio.addEventListener("change", () => resize(Number(radio.value)));
  page.button.addEventListener("click", toggle);

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
    const step = { "+": 1, "=": 1, "-": -1, "_": -1 }[key] ?? 0;
    const size = sizes[sizes.indexOf(state().p) + step];
    if (step && size) resize(size);
    if (key === "f" || key === "F") toggle();
    return Boolean(step) || key === "f" || key === "F";
  }
  look.keys(page.root, ({ key, target }) =>
    (target === page.grid && gridKey(key)) || (target === page.vector && vectorKey(key)) || anyKey(key));

  // Changes of the model: from here, from another view of it, or from Python ---------------------------------------------
  const unfollow = look.follow(model, {
    selected: () => say(),
    patch_size: () => say(`Patch size ${state().p}: ${tokens(state().N)}. `),
    flattened: () => {
      say(model.get("flattened") ? "The patches stand in one row. " : "The patches are back in the photo. ");
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
