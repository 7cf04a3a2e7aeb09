// What all explorers share: elements, sharp canvases, colours, keyboard. The Python side puts this file in front of each explorer's
// own, since the page loads one module.

const look = {
  words: (n) => n.toLocaleString("en-US"),

  still: () => matchMedia("(prefers-reduced-motion: reduce)").matches,

  // <tag class=… other=…>…children</tag>
  el(tag, { class: name, ...attributes } = {}, ...children) {
    const node = document.createElement(tag);
    if (name) node.className = name;
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  },

  // Words that change under the mouse: the longest they can be hold the room, unseen, so that nothing below them moves.
  write(node, words, longest) {
    node.textContent = words;
    node.dataset.room = longest;
  },
  longest: (texts) => texts.reduce((a, b) => (b.length > a.length ? b : a), ""),

  // A page's frame: headline, controls, stage, status line and help, in this order, and the keys kept inside.
  page(name, { controls = [], stage = [], help = "" }) {
    const { el } = look;
    const id = look.id();
    const page = {
      id,
      headline: el("p", { class: "ve-headline" }),
      stage: el("div", { class: "ve-stage" }, ...stage),
      status: el("p", { class: "ve-status", id, role: "status", "aria-live": "polite" }),
    };
    const row = el("div", { class: "ve-row ve-controls" }, ...controls);
    const own = `ve-${name.toLowerCase().replaceAll(" ", "-")}`; // its style sheet is nested in this
    page.root = el("div", { class: `ve ${own}`, role: "group", "aria-label": name },
      page.headline, row, page.stage, page.status, el("p", { class: "ve-quiet ve-help" }, help));
    return page;
  },

  // Two views on one page must not share a radio group.
  id: () => `ve-${Math.random().toString(36).slice(2)}`,

  // One of several, as native radio buttons: options [[value, words, label for the ear], …]; node.choose(value) marks one.
  choice(legend, options, pick) {
    const { el } = look;
    const name = look.id();
    const radios = options.map(([value, words, label = words]) => {
      const radio = el("input", { type: "radio", name, value, "aria-label": label });
      radio.addEventListener("change", () => pick(value));
      return [value, radio, el("label", {}, radio, el("span", { "aria-hidden": "true" }, String(words)))];
    });
    const node = el("fieldset", { class: "ve-choice" }, el("legend", {}, legend), ...radios.map(([, , label]) => label));
    node.choose = (value) => radios.forEach(([mine, radio]) => (radio.checked = mine === value));
    return node;
  },

  // A native slider with its words beside it: node.set(value, words, and for the ear, where these are others).
  slider(legend, { min, max, step = 1 }, slide) {
    const { el } = look;
    const range = el("input", { type: "range", min, max, step, "aria-label": legend });
    const shown = el("span", { class: "ve-shown", "aria-hidden": "true" }); // the ear hears aria-valuetext
    range.addEventListener("input", () => slide(Number(range.value)));
    const node = el("label", { class: "ve-slider" }, el("span", {}, legend), range, shown);
    node.set = (value, words, spoken = words) => {
      range.value = value;
      range.setAttribute("aria-valuetext", spoken);
      shown.textContent = words;
    };
    return node;
  },

  // On or off, by a native check box: node.set(on).
  toggle(words, turn) {
    const { el } = look;
    const box = el("input", { type: "checkbox" });
    box.addEventListener("change", () => turn(box.checked));
    const node = el("label", { class: "ve-toggle" }, box, el("span", {}, words));
    node.set = (on) => (box.checked = on);
    return node;
  },

  // A binary trait as numbers: uint8 as they are; float16, sent as pairs of bytes, as Float32Array.
  bytes: (sent) => new Uint8Array(sent.buffer, sent.byteOffset, sent.byteLength),
  halves(sent) {
    const half = new Uint16Array(look.bytes(sent).slice().buffer);
    look.half ||= Float32Array.from({ length: 65536 }, (_, bits) => {
      const [sign, exponent, rest] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
      if (exponent === 31) return rest ? NaN : sign * Infinity;
      return sign * (exponent ? 2 ** (exponent - 15) * (1 + rest / 1024) : 2 ** -14 * (rest / 1024));
    });
    return Float32Array.from(half, (bits) => look.half[bits]);
  },

  // uint8 (C, H, W) as a canvas of W x H, to draw from.
  photo(pixels, [C, H, W], canvas = look.el("canvas", { width: W, height: H })) {
    const image = new ImageData(W, H);
    for (let i = 0; i < H * W; i++) {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = pixels[(C === 3 ? c : 0) * H * W + i];
      image.data[4 * i + 3] = 255;
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  },

  // A colour map as a table of 256 [r, g, b]; look.map("viridis")[255 * share].
  map(name) {
    look.maps ||= {};
    return (look.maps[name] ||= ((raw) =>
      Array.from({ length: 256 }, (_, i) => [0, 1, 2].map((c) => raw.charCodeAt(3 * i + c))))(atob(colourMaps[name])));
  },
  // The colour of a share 0..1 of a map, as 256 steps.
  shade: (table, share) => table[Math.min(255, Math.max(0, Math.floor(share * 256)))] ?? [128, 128, 128],

  // Numbers (rows x columns), each over `top`, as one pixel each on a canvas; what is no number is grey.
  heat(canvas, numbers, rows, columns, top, table = look.map("viridis")) {
    if (canvas.width !== columns || canvas.height !== rows) [canvas.width, canvas.height] = [columns, rows];
    const image = new ImageData(columns, rows);
    for (let i = 0; i < rows * columns; i++) image.data.set([...look.shade(table, numbers[i] / top), 255], 4 * i);
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  },

  // The theme's colours for a canvas: colours.accent is --ve-accent.
  colours(node) {
    const style = getComputedStyle(node);
    const names = ["ink", "quiet", "page", "soft", "line", "accent", "ring", "red", "green", "blue", "grey"];
    return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--ve-${name}`).trim()]));
  },

  // Canvas in device pixels, context in CSS pixels.
  sharp(canvas) {
    const { clientWidth: width, clientHeight: height } = canvas;
    const ratio = devicePixelRatio || 1;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    const ctx = canvas.getContext("2d");
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, width, height);
    return { ctx, width, height, ratio };
  },

  // Whether a canvas would show something else than at the last call: `what` it shows, its size, the zoom.
  changed(canvas, ...what) {
    const now = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio, ...what].join();
    const before = (look.drawn ||= new WeakMap()).get(canvas);
    look.drawn.set(canvas, now);
    return now !== before;
  },

  // A ring that stands out on any picture: the accent between two light lines.
  ring(ctx, x, y, w, h, accent, thick = 3) {
    ctx.strokeStyle = "#fff";
    ctx.lineWidth = thick + 2;
    ctx.strokeRect(x, y, w, h);
    ctx.strokeStyle = accent;
    ctx.lineWidth = thick;
    ctx.strokeRect(x, y, w, h);
  },

  // Keys typed here are the explorer's: in JupyterLab a, b, x or dd would change the notebook. Tab moves on as everywhere;
  // Ctrl and Cmd combinations (save, copy) stay the notebook's.
  keys(root, handle) {
    root.tabIndex = -1; // a click on its texts and pictures leaves the focus here, not on the notebook's cell
    root.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey) return;
      event.stopPropagation();
      if (!event.altKey && handle(event)) event.preventDefault();
    });
  },

  // What is under the mouse is shown (null once it leaves), what is clicked or tapped chosen; find(event) says what it is.
  pointer(canvas, find, show, choose) {
    canvas.addEventListener("pointermove", (event) => event.pointerType !== "touch" && show(find(event)));
    canvas.addEventListener("pointerleave", () => show(null));
    canvas.addEventListener("click", (event) => choose(find(event)));
  },

  // Changes of the model, from here, from another view of it, or from Python: { trait: callback, … }. Returns how to stop.
  follow(model, callbacks) {
    const entries = Object.entries(callbacks).map(([name, callback]) => [`change:${name}`, callback]);
    for (const [name, callback] of entries) model.on(name, callback);
    return () => entries.forEach(([name, callback]) => model.off(name, callback));
  },
  followAll: (model, names, callback) => look.follow(model, Object.fromEntries(names.map((name) => [name, callback]))),

  // Where a key leads on a grid from [row, column], or undefined for other keys.
  onGrid(key, [row, column], [rows, columns]) {
    return {
      ArrowLeft: [row, Math.max(column - 1, 0)],
      ArrowRight: [row, Math.min(column + 1, columns - 1)],
      ArrowUp: [Math.max(row - 1, 0), column],
      ArrowDown: [Math.min(row + 1, rows - 1), column],
      Home: [row, 0],
      End: [row, columns - 1],
      PageUp: [0, column],
      PageDown: [rows - 1, column],
    }[key];
  },

  // One repaint a frame, however much changes; also when the size, the zoom or the theme does. Returns [ask for one, stop].
  painter(root, watched, paint) {
    let frame = 0;
    const ask = () => (frame ||= requestAnimationFrame(() => {
      frame = 0;
      if (root.clientWidth) paint();
    }));
    const sizes = new ResizeObserver(ask);
    watched.forEach((node) => sizes.observe(node));
    const theme = new MutationObserver(ask);
    theme.observe(document.body, { attributes: true });
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", ask);
    const stop = () => {
      cancelAnimationFrame(frame);
      sizes.disconnect();
      theme.disconnect();
      dark.removeEventListener("change", ask);
    };
    return [ask, stop];
  },

  // Where in the element the pointer is, 0..1 each way.
  where(event) {
    const box = event.currentTarget.getBoundingClientRect();
    const part = (at, size) => Math.min(Math.max(at / size, 0), 1 - 1e-9);
    return [part(event.clientX - box.left, box.width), part(event.clientY - box.top, box.height)];
  },
};
