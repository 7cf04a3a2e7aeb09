// How PatchExplorer draws: where each patch is, in the photo and in the sequence, and the five canvases.
// The state s: p, stride, rows, columns, N, D, chosen, hovered, shown and its vector, the marked value of it, progress (0 in the
// photo, 1 in the sequence), near: the cosine of each place's position with the chosen one's, where it is to be painted.

const figure = (x, places = 2) => x.toFixed(places).replace(/^-(?=0\.0*$)/, "").replace("-", "−");
const CHANNELS = { 1: ["grey"], 3: ["red", "green", "blue"] };

function patchDrawing({ C, H, W, pixels: original, photo }) {
  let pixels = original; // with the patches where they stand now
  const FLIGHT = 0.4; // share of the whole animation that one patch is on its way
  const MARGIN = 34; // of the sequence, for the number of each line's first token
  const GAP = 8; // between the channels of the vector

  // Number i of a patch's vector: the patch flattened as (channel, row, column), like the weight of the convolution.
  const at = (i, p) => ({ c: Math.floor(i / (p * p)), y: Math.floor(i / p) % p, x: i % p });
  const cornerOf = (patch, { stride, columns }) => [Math.floor(patch / columns) * stride, (patch % columns) * stride];
  function vectorOf(patch, s) {
    const { p } = s;
    const vector = new Uint8Array(C * p * p);
    const [top, left] = cornerOf(patch, s);
    const corner = top * W + left;
    for (let row = 0; row < C * p; row++) {
      const start = Math.floor(row / p) * H * W + corner + (row % p) * W;
      vector.set(pixels.subarray(start, start + p), row * p);
    }
    return vector;
  }
  function meanColour(vector) {
    const area = vector.length / C;
    const mean = (c) => Math.round(vector.subarray(c * area, (c + 1) * area).reduce((sum, v) => sum + v, 0) / area);
    return `rgb(${[0, 1, 2].map((c) => mean(C === 3 ? c : 0)).join(", ")})`;
  }

  // The photo with patch order[place] at each place, which all others draw from.
  function paintPhoto(order, s) {
    pixels = original.slice();
    const { p } = s;
    order.forEach((patch, place) => {
      if (patch === place) return;
      const [[fromY, fromX], [toY, toX]] = [patch, place].map((i) => cornerOf(i, s));
      for (let row = 0; row < C * p; row++) {
        const line = Math.floor(row / p) * H + (row % p);
        const start = (line + fromY) * W + fromX;
        pixels.set(original.subarray(start, start + p), (line + toY) * W + toX);
      }
    });
    look.photo(pixels, [C, H, W], photo);
  }
  function draw(ctx, i, s, x, y, size) {
    const [top, left] = cornerOf(i, s);
    ctx.imageSmoothingEnabled = W >= 100; // a small picture keeps its pixels, as in the photo
    ctx.drawImage(photo, left, top, s.p, s.p, x, y, size, size);
  }

  // The way of patch i, 0..1: row by row, inside a row one a little after the other.
  function journey(i, s) {
    const start = (Math.floor(i / s.columns) + (0.5 * (i % s.columns)) / s.columns) / s.rows;
    const t = Math.min(Math.max((s.progress - start * (1 - FLIGHT)) / FLIGHT, 0), 1);
    return t < 0.5 ? 4 * t ** 3 : 1 - (2 - 2 * t) ** 3 / 2;
  }
  function inPhoto(i, s, width) {
    const [scale, [top, left]] = [width / W, cornerOf(i, s)];
    return [left * scale, top * scale, s.p * scale];
  }
  // The sequence is set like text, in tokens as large as 150 pixels of height allow.
  function layout(s, width) {
    for (let size = 40; ; size--) {
      const gap = size > 12 ? 3 : size > 6 ? 2 : 1;
      const pitch = size + gap + (size > 12 ? 4 : 0);
      const perLine = Math.max(1, Math.min(s.N, Math.floor((width - MARGIN + gap) / (size + gap))));
      const lines = Math.ceil(s.N / perLine);
      if (lines * pitch <= 150 || size <= 4) return { size, gap, pitch, perLine, lines };
    }
  }
  const inStrip = (i, l) => [MARGIN + (i % l.perLine) * (l.size + l.gap), Math.floor(i / l.perLine) * l.pitch + 3, l.size];
  function tokenAt(x, y, s, width) {
    const l = layout(s, width);
    const place = Math.floor((x - MARGIN) / (l.size + l.gap));
    const token = Math.floor((y - 2) / l.pitch) * l.perLine + place;
    return place >= 0 && place < l.perLine && token >= 0 && token < s.N ? token : null;
  }
  function valueAt(x, s, width) {
    const segment = (width - GAP * (C - 1)) / C;
    const c = Math.min(Math.max(Math.floor(x / (segment + GAP)), 0), C - 1);
    const part = Math.min(Math.max((x - c * (segment + GAP)) / segment, 0), 1 - 1e-9);
    return c * s.p * s.p + Math.floor(part * s.p * s.p);
  }

  // The patch whose middle is next to a point of the photo, 0..1 each way.
  function patchAt([x, y], s) {
    const near = (part, side, most) => Math.min(Math.max(Math.floor((part * side - s.p / 2) / s.stride + 0.5), 0), most - 1);
    return near(y, H, s.rows) * s.columns + near(x, W, s.columns);
  }

  // Each place in the colour of its cosine, and the number where all fit.
  function paintNear(ctx, s, scale) {
    const table = look.map("viridis");
    const low = Math.min(...s.near);
    const edge = (i, most) => (i === 0 ? 0 : i === most ? (most - 1) * s.stride + s.p : i * s.stride + (s.p - s.stride) / 2) * scale;
    const words = Array.from(s.near, (x) => figure(x));
    ctx.font = `${s.stride * scale > 44 ? 12 : 11}px ${getComputedStyle(ctx.canvas).fontFamily}`;
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    const fits = Math.max(...words.map((word) => ctx.measureText(word).width)) <= s.stride * scale - 4;
    for (let i = 0; i < s.N; i++) {
      const [row, column] = [Math.floor(i / s.columns), i % s.columns];
      const [x, y] = [edge(column, s.columns), edge(row, s.rows)];
      const [w, h] = [edge(column + 1, s.columns) - x, edge(row + 1, s.rows) - y];
      const [r, g, b] = look.shade(table, (s.near[i] - low) / (1 - low));
      ctx.fillStyle = `rgb(${r}, ${g}, ${b})`;
      ctx.fillRect(x, y, w + 0.5, h + 0.5);
      ctx.fillStyle = 0.3 * r + 0.59 * g + 0.11 * b > 120 ? "#000" : "#fff";
      if (fits) ctx.fillText(words[i], x + w / 2, y + h / 2);
    }
  }

  function paintGrid(canvas, s, colours) {
    const { ctx, width, height } = look.sharp(canvas);
    const scale = width / W;
    ctx.fillStyle = colours.page;
    ctx.globalAlpha = 0.86; // patches that have left the photo
    ctx.beginPath();
    for (let i = 0; i < s.N; i++) {
      const [x, y, size] = inPhoto(i, s, width);
      if (journey(i, s) > 0) ctx.rect(x, y, size, size);
    }
    ctx.fill();
    ctx.globalAlpha = 1;
    if (s.near) paintNear(ctx, s, scale);
    const cell = scale * s.stride;
    for (const [shade, offset] of s.near ? [] : [["rgba(0,0,0,.28)", 0.5], ["rgba(255,255,255,.62)", -0.5]]) {
      ctx.strokeStyle = shade;
      ctx.lineWidth = cell < 10 ? 0.5 : 1;
      ctx.beginPath();
      for (let c = 1; c < W / s.stride; c++) ctx.moveTo(c * cell + offset, 0), ctx.lineTo(c * cell + offset, height);
      for (let r = 1; r < H / s.stride; r++) ctx.moveTo(0, r * cell + offset), ctx.lineTo(width, r * cell + offset);
      ctx.stroke();
    }
    const box = (i) => {
      const [x, y, size] = inPhoto(i, s, width);
      return [Math.max(x, 2), Math.max(y, 2), Math.min(size, width - x - 2), Math.min(size, height - y - 2)];
    };
    if (s.stride < s.p) {
      ctx.setLineDash([5, 4]); // the patches that share half of it, to the right and below
      ctx.strokeStyle = "#fff";
      ctx.lineWidth = 2;
      if (s.chosen % s.columns < s.columns - 1) ctx.strokeRect(...box(s.chosen + 1));
      if (s.chosen + s.columns < s.N) ctx.strokeRect(...box(s.chosen + s.columns));
      ctx.setLineDash([]);
    }
    if (s.hovered !== null && s.hovered !== s.chosen) {
      ctx.strokeStyle = s.near ? "#000" : "#fff";
      ctx.lineWidth = 3;
      const [x, y, size] = inPhoto(s.hovered, s, width);
      ctx.strokeRect(x, y, size, size);
    }
    look.ring(ctx, ...box(s.chosen), colours.ring, cell < 16 ? 2 : 3);
  }

  function paintPatch(enlarged, lens, s, colours) {
    if (enlarged.width !== s.p) [enlarged.width, enlarged.height] = [s.p, s.p];
    draw(enlarged.getContext("2d"), s.shown, s, 0, 0, s.p);
    const { ctx, width } = look.sharp(lens);
    const { y, x } = at(s.value, s.p);
    const cell = width / s.p;
    const size = Math.max(cell, 6);
    const inside = (start) => Math.min(Math.max(start + (cell - size) / 2, 2), width - size - 2);
    look.ring(ctx, inside(x * cell), inside(y * cell), size, size, colours.ring, 2);
  }

  function paintVector(canvas, s, colours) {
    const { ctx, width, height, ratio } = look.sharp(canvas);
    const per = s.p * s.p;
    const segment = (width - GAP * (C - 1)) / C;
    const snap = (x) => Math.round(x * ratio) / ratio;
    const bars = Math.min(per, Math.floor(segment * ratio)); // one a number, or the mean of a few where they are too many
    CHANNELS[C].forEach((name, c) => {
      const left = c * (segment + GAP);
      ctx.fillStyle = colours.soft;
      ctx.fillRect(snap(left), 0, snap(left + segment) - snap(left), height);
      ctx.fillStyle = colours[name];
      for (let bar = 0; bar < bars; bar++) {
        const [from, to] = [Math.floor((bar * per) / bars), Math.floor(((bar + 1) * per) / bars)];
        let total = 0;
        for (let i = from; i < to; i++) total += s.vector[c * per + i];
        const tall = snap((total / (to - from) / 255) * (height - 2) + 1);
        const [x, end] = [snap(left + (bar / bars) * segment), snap(left + ((bar + 1) / bars) * segment)];
        ctx.fillRect(x, height - tall, end - x > 4 ? end - x - 1 : end - x, tall);
      }
    });
    const wide = Math.max(segment / per, 3);
    const x = Math.min(Math.floor(s.value / per) * (segment + GAP) + ((s.value % per) / per) * segment, width - wide);
    ctx.fillStyle = colours.page;
    ctx.fillRect(x - 1, 0, wide + 2, height);
    ctx.fillStyle = colours.accent;
    ctx.fillRect(x, 0, wide, height);
  }

  function paintStrip(canvas, s, colours) {
    const l = layout(s, canvas.clientWidth);
    canvas.style.height = `${l.lines * l.pitch + 6}px`;
    const { ctx } = look.sharp(canvas);
    ctx.imageSmoothingQuality = "high";
    ctx.font = `11px ${getComputedStyle(canvas).fontFamily}`;
    ctx.textAlign = "right";
    ctx.textBaseline = "middle";
    ctx.fillStyle = colours.quiet;
    for (let line = 0; line < l.lines; line += Math.ceil(13 / l.pitch)) {
      ctx.fillText(line * l.perLine, MARGIN - 8, line * l.pitch + 3 + l.size / 2);
    }
    ctx.fillStyle = colours.accent;
    for (let i = 0; i < s.N; i++) {
      const [x, y, size] = inStrip(i, l);
      ctx.globalAlpha = journey(i, s) === 1 ? 1 : 0.45; // a faint copy until the patch is here
      draw(ctx, i, s, x, y, size);
      ctx.globalAlpha = 1;
      const sameRow = Math.floor(i / s.columns) === Math.floor(s.shown / s.columns);
      if (sameRow && size > 12) ctx.fillRect(x - l.gap / 2, y + size + 2, size + l.gap, 2);
    }
    for (const i of new Set([s.shown, s.chosen])) {
      const [x, y, size] = inStrip(i, l);
      draw(ctx, i, s, x, y, size);
      ctx.strokeStyle = i === s.chosen ? colours.accent : colours.ink;
      ctx.lineWidth = size > 12 ? 3 : 2;
      ctx.strokeRect(x - 0.5, y - 0.5, size + 1, size + 1);
    }
  }

  // The patches on their way, over the whole stage.
  function paintFlight(canvas, grid, strip, s) {
    const { ctx } = look.sharp(canvas);
    if (s.progress === 0 || s.progress === 1) return;
    const l = layout(s, strip.clientWidth);
    const [box, a, b] = [canvas, grid, strip].map((node) => node.getBoundingClientRect());
    for (let i = s.N - 1; i >= 0; i--) {
      const t = journey(i, s);
      if (t === 0 || t === 1) continue;
      const [x, y, size] = inPhoto(i, s, a.width);
      const [u, v, small] = inStrip(i, l);
      const mix = (from, to) => from + (to - from) * t;
      draw(ctx, i, s, mix(a.left + x, b.left + u) - box.left, mix(a.top + y, b.top + v) - box.top, mix(size - 1, small));
    }
  }

  return {
    at, cornerOf, vectorOf, meanColour, patchAt, tokenAt, valueAt,
    paintPhoto, paintGrid, paintPatch, paintVector, paintStrip, paintFlight,
  };
}
