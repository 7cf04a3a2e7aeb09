// ReceptiveFieldExplorer: which pixels reach one output, in several models side by side, layer by layer.

const LIGHT = [255, 214, 90];
const INKS = ["red", "blue", "green", "ink", "grey", "accent"]; // a model's colour in the chart
const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [4, 4], [1, 4]]; // and its line, where colours are not told apart

function fieldPage({ names, steps, shape: [, H, W], pick }) {
  const { el } = look;
  const depth = look.slider("Depth", { min: 0, max: steps - 1 }, pick.depth);
  const scale = look.choice("Light", [["linear", "linear"], ["log", "log", "logarithmic"]], pick.scale);
  const panels = names.map((name, i) => {
    const part = {
      dim: el("canvas", { class: "ve-field-dim", width: W, height: H, "aria-hidden": "true" }),
      light: el("canvas", { class: "ve-field-light", "aria-hidden": "true" }),
      over: el("canvas", { class: "ve-field-over", tabindex: 0, role: "application" }),
      dash: el("canvas", { class: "ve-field-dash", "aria-hidden": "true" }),
      layer: el("p", { class: "ve-quiet ve-field-layer" }),
      reach: el("p", { class: "ve-field-reach" }),
      half: el("p", { class: "ve-quiet" }),
    };
    part.dim.toggleAttribute("data-big", W < 100);
    const frame = el("div", { class: "ve-field-frame" }, part.dim, part.light, part.over);
    frame.style.aspectRatio = `${W} / ${H}`;
    part.root = el("div", { class: "ve-field-panel", "data-model": i },
      el("p", { class: "ve-title" }, part.dash, name), frame, part.layer, part.reach, part.half);
    return part;
  });
  const chart = el("canvas", { class: "ve-field-chart", role: "img" });
  const bar = el("canvas", { class: "ve-field-bar", width: 256, height: 1, "aria-hidden": "true" });
  const most = el("span", {});
  const stage = [
    el("div", { class: "ve-field-panels" }, ...panels.map((part) => part.root)),
    el("p", { class: "ve-quiet ve-field-key" },
      "Gradient: ", el("span", { class: "ve-field-none" }), "none, ", most, bar, "the strongest"),
    el("div", { class: "ve-field-growth" }, el("p", { class: "ve-title" }, "Pixels that reach the output, by depth"), chart),
  ];
  const help = "The ring is one output of the layer; light falls on the pixels that change it, and the dashed line ends where " +
    "none can. Click a place in any picture, or use the arrow keys there. + and − change the depth, L the light.";
  const page = look.page("Receptive field explorer", { controls: [depth, scale], stage, help });
  for (const { over } of panels) over.setAttribute("aria-describedby", page.id);
  return { ...page, depth, scale, panels, chart, bar, most };
}

// The light of a level 0..1; _light in Python is the same.
const opacity = (level) => 0.14 + 0.76 * level;
const mix = (from, to, part) => from + (to - from) * part;
// Of each code 0..255 that was sent, as 0..255.
function lights(scale) {
  return Uint8Array.from({ length: 256 }, (_, code) => {
    const share = (code / 255) ** 2;
    return code ? 255 * opacity(scale === "linear" ? share : 1 + Math.log10(Math.max(share, 1e-4)) / 4) : 0;
  });
}

function fieldDrawing({ pixels, shape: [C, H, W], size: [h, w] }) {
  function paintDim(canvas) {
    look.photo(pixels, [C, H, W], canvas);
    const ctx = canvas.getContext("2d");
    const image = ctx.getImageData(0, 0, W, H);
    for (let i = 0; i < image.data.length; i += 4) {
      const [r, g, b] = image.data.subarray(i, i + 3);
      image.data.fill(0.45 * (0.299 * r + 0.587 * g + 0.114 * b), i, i + 3);
    }
    ctx.putImageData(image, 0, 0);
  }

  const light = new ImageData(w, h); // all of one colour; only its opacity changes
  for (let i = 0; i < h * w; i++) light.data.set(LIGHT, 4 * i);
  function paintLight(canvas, field, table) {
    if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    for (let i = 0; i < h * w; i++) light.data[4 * i + 3] = table[field[i]];
    canvas.getContext("2d").putImageData(light, 0, 0);
  }

  // The border between exact zeros and the rest, and the output's cell.
  function paintOver(canvas, field, cell, colours) {
    const { ctx, width, height } = look.sharp(canvas);
    const [sx, sy] = [width / w, height / h];
    const parted = (a, b) => field[a] > 0 !== field[b] > 0;
    // Each line as far as it goes: dashes do not start anew at every pixel.
    const trace = (lines, length, differs, line) => {
      for (let k = 1; k < lines; k++) {
        for (let from = 0, to; from < length; from = to + 1) {
          for (to = from; to < length && differs(k, to); ) to++;
          if (to > from) line(k, from, to);
        }
      }
    };
    ctx.beginPath();
    trace(h, w, (y, x) => parted(y * w + x, (y - 1) * w + x), (y, from, to) => {
      ctx.moveTo(from * sx, y * sy);
      ctx.lineTo(to * sx, y * sy);
    });
    trace(w, h, (x, y) => parted(y * w + x, y * w + x - 1), (x, from, to) => {
      ctx.moveTo(x * sx, from * sy);
      ctx.lineTo(x * sx, to * sy);
    });
    for (const [shade, dash] of [["#0009", []], ["#fff", [4, 3]]]) {
      ctx.strokeStyle = shade;
      ctx.lineWidth = 1.5;
      ctx.setLineDash(dash);
      ctx.stroke();
    }
    ctx.setLineDash([]);
    const side = [Math.max(width / cell.columns, 6), Math.max(height / cell.rows, 6)];
    const [x, y] = [(cell.column + 0.5) * (width / cell.columns), (cell.row + 0.5) * (height / cell.rows)];
    const inside = (middle, length, whole) => Math.min(Math.max(middle - length / 2, 2), whole - length - 2);
    const small = [Math.min(side[0], width - 4), Math.min(side[1], height - 4)];
    look.ring(ctx, inside(x, small[0], width), inside(y, small[1], height), ...small, colours.ring, 2);
  }

  // From the weakest light to the strongest, on dark grey.
  function paintBar(canvas) {
    const image = new ImageData(256, 1);
    for (let i = 0; i < 256; i++) image.data.set([...LIGHT.map((value) => mix(40, value, opacity(i / 255))), 255], 4 * i);
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  return { paintDim, paintLight, paintOver, paintBar };
}

// Lines of shares 0..1 by share of depth, the current depth marked: curves [{ shares, now, ink, dash }].
function paintGrowth(canvas, curves, at, colours) {
  const { ctx, width, height } = look.sharp(canvas);
  const [left, right, top, bottom] = [44, width - 12, 10, height - 24];
  const x = (share) => left + share * (right - left);
  const y = (share) => bottom - share * (bottom - top);
  ctx.font = `12px ${getComputedStyle(canvas).fontFamily}`;
  ctx.fillStyle = colours.quiet;
  ctx.strokeStyle = colours.line;
  ctx.lineWidth = 1;
  ctx.textBaseline = "middle";
  ctx.textAlign = "right";
  for (const share of [0, 0.5, 1]) {
    ctx.beginPath();
    ctx.moveTo(left, y(share));
    ctx.lineTo(right, y(share));
    ctx.stroke();
    ctx.fillText(`${100 * share} %`, left - 6, y(share));
  }
  ctx.textBaseline = "alphabetic";
  ctx.fillText("last layer", right, height - 6);
  ctx.textAlign = "left";
  ctx.fillText("first layer", left, height - 6);
  ctx.strokeStyle = colours.accent;
  ctx.beginPath();
  ctx.moveTo(x(at), top);
  ctx.lineTo(x(at), bottom);
  ctx.stroke();
  for (const { shares, now, ink, dash } of curves) {
    const place = (i) => [x(i / Math.max(shares.length - 1, 1)), y(shares[i])];
    ctx.strokeStyle = ctx.fillStyle = colours[ink];
    ctx.lineWidth = 2;
    ctx.setLineDash(dash);
    ctx.beginPath();
    shares.forEach((_, i) => ctx.lineTo(...place(i)));
    ctx.stroke();
    ctx.setLineDash([]);
    shares.forEach((_, i) => {
      ctx.beginPath();
      ctx.arc(...place(i), i === now ? 5 : 2.5, 0, 7);
      ctx.fill();
    });
  }
}

function paintDash(canvas, ink, dash, colours) {
  const { ctx, width, height } = look.sharp(canvas);
  ctx.strokeStyle = colours[ink];
  ctx.lineWidth = 3;
  ctx.setLineDash(dash);
  ctx.beginPath();
  ctx.moveTo(0, height / 2);
  ctx.lineTo(width, height / 2);
  ctx.stroke();
}

function render({ model, el }) {
  const [names, layers, grids, P] = ["names", "layers", "grids", "places"].map((name) => model.get(name));
  const [shape, size] = [model.get("shape"), model.get("size")];
  const [area, total] = [size[0] * size[1], shape[1] * shape[2]];
  const fields = look.bytes(model.get("fields"));
  const counts = new Int32Array(look.bytes(model.get("counts")).slice().buffer);
  const steps = Math.max(...layers.map((some) => some.length));
  const begins = layers.map((_, i) => layers.slice(0, i).flat().length); // a model's first layer among all
  const change = (values) => {
    for (const [key, to] of Object.entries(values)) model.set(key, to);
    model.save_changes();
  };
  const pick = { depth: (depth) => change({ depth }), scale: (scale) => change({ scale }) };
  const page = fieldPage({ names, steps, shape, pick });
  const drawing = fieldDrawing({ pixels: look.bytes(model.get("pixels")), shape, size });
  const tables = { linear: lights("linear"), log: lights("log") };
  el.append(page.root);
  page.panels.forEach(({ dim }) => drawing.paintDim(dim));
  drawing.paintBar(page.bar);

  let hovered = null; // shown while pointed at; the chosen place stays chosen
  let news = true;

  const share = (part) => `${(100 * part).toFixed(part >= 0.0995 || part === 0 ? 0 : 1)} %`;
  const layerAt = (i, depth) => Math.floor((depth * (layers[i].length - 1)) / Math.max(steps - 1, 1) + 0.5);
  const count = (i, layer, place) => counts.subarray(2 * ((begins[i] + layer) * P * P + place)).subarray(0, 2);
  // Of one model: its layer, the field of the place, how many pixels are reached, how few hold half.
  function fact(i, place) {
    const layer = layerAt(i, model.get("depth"));
    const start = ((begins[i] + layer) * P * P + place) * area;
    const [reached, half] = count(i, layer, place);
    const [rows, columns] = grids[i][layer];
    const [row, column] = [((Math.floor(place / P) + 0.5) / P) * rows, (((place % P) + 0.5) / P) * columns].map(Math.floor);
    return { layer, reached, half, cell: { rows, columns, row, column }, field: fields.subarray(start, start + area) };
  }
  const pixelsOf = (n) => `${look.words(n)} ${n === 1 ? "pixel" : "pixels"}`;
  const where = (place) => `row ${Math.floor(place / P)}, column ${place % P} of ${P} × ${P} places`;
  const step = () => `step ${model.get("depth") + 1} of ${steps}`;

  function write(facts, chosen) {
    const headline = (part) => "How much of the picture does one output see? " +
      names.map((name, i) => `${name} ${share(part(i))}`.replaceAll(" ", "\u00a0")).join(" · ");
    look.write(page.headline, headline((i) => facts[i].reached / total), headline(() => 1));
    page.depth.set(model.get("depth"), `after ${model.get("depth") + 1} of ${steps}`);
    page.scale.choose(model.get("scale"));
    page.most.textContent = model.get("scale") === "log" ? "1/10,000 " : "a little ";
    page.panels.forEach((part, i) => {
      const { layer, reached, half, cell } = facts[i];
      look.write(part.layer, layers[i][layer], look.longest(layers[i]));
      const [reach, from] = [(x) => `${share(x)} of the pixels reach it`, (n) => `half of the gradient from ${pixelsOf(n)}`];
      look.write(part.reach, reach(reached / total), reach(1));
      look.write(part.half, from(half), from(total));
      part.over.setAttribute("aria-label", `${names[i]}, ${layers[i][layer]}, ${cell.rows} × ${cell.columns} outputs. ` +
        "Arrow keys choose the output, plus and minus the depth, L the light.");
    });
    const growth = (i) => layers[i].map((one, k) => `${one} ${share(count(i, k, chosen)[0] / total)}`).join(", ");
    const line = (name, i) => `${name}: ${growth(i)}`;
    page.chart.setAttribute("aria-label",
      `Line chart: the share of pixels that reach the output, by depth. ${names.map(line).join(". ")}.`);
    if (!news) return;
    news = false;
    const tell = (name, i) => {
      const { reached, half } = fact(i, chosen);
      return `${name} ${share(reached / total)} of the pixels, half of the gradient from ${pixelsOf(half)}`;
    };
    page.status.textContent = `Output at ${where(chosen)}, ${step()}: ${names.map(tell).join("; ")}.`;
  }

  const watched = [page.chart, ...page.panels.map(({ over }) => over)];
  const [paint, stop] = look.painter(page.root, watched, () => {
    const [chosen, colours, table] = [model.get("selected"), look.colours(page.root), tables[model.get("scale")]];
    const shown = hovered ?? chosen;
    const facts = names.map((_, i) => fact(i, shown));
    write(facts, chosen);
    page.panels.forEach((part, i) => {
      drawing.paintLight(part.light, facts[i].field, table);
      drawing.paintOver(part.over, facts[i].field, facts[i].cell, colours);
      paintDash(part.dash, INKS[i], DASHES[i], colours);
    });
    const curves = names.map((_, i) => ({
      shares: layers[i].map((_, k) => count(i, k, shown)[0] / total), now: facts[i].layer, ink: INKS[i], dash: DASHES[i],
    }));
    paintGrowth(page.chart, curves, model.get("depth") / Math.max(steps - 1, 1), colours);
  });

  function choose(place) {
    hovered = null;
    change({ selected: place });
    paint();
  }
  for (const { over } of page.panels) {
    const placeAt = (event) => {
      const [x, y] = look.where(event);
      return Math.floor(y * P) * P + Math.floor(x * P);
    };
    const show = (place) => {
      hovered = place;
      paint();
    };
    look.pointer(over, placeAt, show, (place) => {
      choose(place);
      over.focus({ preventScroll: true });
    });
  }

  function placeKey(key) {
    const [row, column] = [Math.floor(model.get("selected") / P), model.get("selected") % P];
    const to = look.onGrid(key, [row, column], [P, P]);
    if (to) choose(to[0] * P + to[1]);
    return Boolean(to);
  }
  function anyKey(key) {
    const by = { "+": 1, "=": 1, "-": -1, "_": -1 }[key];
    if (by) change({ depth: Math.min(Math.max(model.get("depth") + by, 0), steps - 1) });
    const turn = key === "l" || key === "L";
    if (turn) change({ scale: model.get("scale") === "log" ? "linear" : "log" });
    return Boolean(by) || turn;
  }
  look.keys(page.root, ({ key, target }) => (page.panels.some(({ over }) => over === target) && placeKey(key)) || anyKey(key));

  const follow = () => {
    news = true;
    paint();
  };
  const unfollow = look.followAll(model, ["depth", "selected", "scale"], follow);
  paint();
  return () => {
    stop();
    unfollow();
  };
}

export default { render };
