// AttentionExplorer's numbers and canvases. Rows of weights come from the float16 of all layers, (h, N, N) one after the other;
// N = prefix tokens + rows x columns of that layer. A query is a patch, or -1, -2 … for the prefix tokens.

function attentionNumbers({ sent, layers, prefix, size: [H, W] }) {
  look.halves(new DataView(new ArrayBuffer(0))); // makes look.half: a row is decoded when it is shown, not millions at the start
  const halves = new Uint16Array(look.bytes(sent).slice().buffer);
  const P = prefix.length;
  let start = 0;
  const grids = layers.map(({ heads, rows, columns }) => {
    const N = P + rows * columns;
    const grid = { heads, rows, columns, N, start };
    start += heads * N * N;
    return grid;
  });
  const token = (query) => (query < 0 ? -1 - query : P + query);
  const same = (a, b) => a.rows === b.rows && a.columns === b.columns;

  // The patch of another layer's grid at the same place of the photo.
  function move(query, from, to) {
    if (query < 0 || same(grids[from], grids[to])) return query;
    const [a, b] = [grids[from], grids[to]];
    const row = Math.floor(((Math.floor(query / a.columns) + 0.5) * b.rows) / a.rows);
    return row * b.columns + Math.floor((((query % a.columns) + 0.5) * b.columns) / a.columns);
  }
  function headRow(layer, head, query) {
    const { N, start: from } = grids[layer];
    const [row, at, { half }] = [new Float32Array(N), from + (head * N + token(query)) * N, look];
    for (let i = 0; i < N; i++) row[i] = half[halves[at + i]];
    return row;
  }
  // The mean of a layer's heads, (N, N), and what its rows sum to, kept.
  function mean(layer) {
    const [grid, { half }] = [grids[layer], look];
    if (grid.mean) return grid;
    const { N, heads, start: from } = grid;
    const [mean, sums] = [new Float32Array(N * N), new Float32Array(N)];
    for (let head = 0; head < heads; head++) {
      for (let i = 0, at = from + head * N * N; i < N * N; i++) mean[i] += half[halves[at + i]] / heads;
    }
    for (let i = 0; i < N * N; i++) sums[Math.floor(i / N)] += mean[i];
    return Object.assign(grid, { mean, sums });
  }
  function first(layer) {
    while (layer && same(grids[layer - 1], grids[layer])) layer--;
    return layer;
  }
  // One row of A_L … A_2 A_1 with A = 0.5 W + 0.5 I, its rows summing to 1 (Abnar & Zuidema 2020).
  function rolloutRow(layer, query) {
    const { N } = grids[layer];
    let flow = new Float32Array(N);
    flow[token(query)] = 1;
    for (let l = layer; l >= first(layer); l--) {
      const [{ mean: weights, sums }, next] = [mean(l), new Float32Array(N)];
      for (let i = 0; i < N; i++) {
        const part = flow[i] / (1 + sums[i]);
        if (!part) continue;
        next[i] += part;
        for (let j = 0, at = i * N; j < N; j++) next[j] += part * weights[at + j];
      }
      flow = next;
    }
    return flow;
  }
  function row({ shown, layer, head, query }) {
    if (shown === "head") return headRow(layer, head, query);
    const { N } = grids[layer];
    return shown === "mean" ? mean(layer).mean.subarray(token(query) * N, (token(query) + 1) * N) : rolloutRow(layer, query);
  }

  // Of one row: its largest patches, how far it looks in pixels (prefix tokens have no place), its entropy in bits.
  function facts(weights, { layer, query }) {
    const { rows, columns } = grids[layer];
    const patches = weights.subarray(P);
    const order = Array.from(patches.keys()).sort((a, b) => patches[b] - patches[a]);
    let [total, far, entropy] = [0, 0, 0];
    patches.forEach((weight, key) => {
      const dy = ((Math.floor(key / columns) - Math.floor(query / columns)) * H) / rows;
      const dx = (((key % columns) - (query % columns)) * W) / columns;
      total += weight;
      far += weight * Math.hypot(dy, dx);
    });
    for (const weight of weights) if (weight > 0) entropy -= weight * Math.log2(weight);
    return { patches, best: order.slice(0, 5), top: patches[order[0]], distance: query < 0 ? null : far / (total || 1), entropy };
  }

  return { grids, first, move, headRow, mean, row, facts };
}

// The canvases: heat over the photo, all layers x heads small, distance by depth. Each is painted where it changes.
function attentionDrawing({ numbers, layers, size: [H, W] }) {
  const LEFT = 26; // of the small maps, for the layers' numbers
  const TOP = 18; // for the heads'
  const { grids } = numbers;
  const most = Math.max(...grids.map(({ heads }) => heads));
  const reach = Math.max(...layers.flatMap(({ distance }) => distance)) || 1;
  const colours32 = Uint32Array.from(look.map("viridis"), ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0);
  const strips = grids.map(({ heads, rows, columns }) => look.el("canvas", { width: heads * columns, height: rows }));

  const paintHeat = (canvas, { patches, top }, { rows, columns }) => look.heat(canvas, patches, rows, columns, top || 1);

  // Grid lines, the patch that is looked at most, dashed, and the one that looks.
  function paintMarks(canvas, s, best, colours) {
    const { ctx, width, height } = look.sharp(canvas);
    const { rows, columns } = grids[s.layer];
    const [w, h] = [width / columns, height / rows];
    if (Math.min(w, h) > 7) {
      ctx.strokeStyle = "rgba(255,255,255,.16)";
      ctx.beginPath();
      for (let c = 1; c < columns; c++) ctx.moveTo(c * w, 0), ctx.lineTo(c * w, height);
      for (let r = 1; r < rows; r++) ctx.moveTo(0, r * h), ctx.lineTo(width, r * h);
      ctx.stroke();
    }
    const box = (patch) => {
      const [x, y] = [(patch % columns) * w, Math.floor(patch / columns) * h];
      return [Math.max(x, 2), Math.max(y, 2), Math.min(w, width - x - 2, width - 4), Math.min(h, height - y - 2, height - 4)];
    };
    for (const [colour, dash] of [["#fff", []], ["#000", [4, 3]]]) {
      ctx.strokeStyle = colour;
      ctx.lineWidth = 2;
      ctx.setLineDash(dash);
      ctx.strokeRect(...box(best));
    }
    ctx.setLineDash([]);
    if (s.query >= 0) look.ring(ctx, ...box(s.query), colours.ring, Math.min(w, h) < 12 ? 2 : 3);
  }
  // The patches that are looked at most, cut out of the photo.
  function paintBest(lines, photo, best, { rows, columns }) {
    const [w, h] = [photo.width / columns, photo.height / rows];
    best.forEach((key, i) => {
      const { patch } = lines[i];
      const ctx = patch.getContext("2d");
      ctx.imageSmoothingEnabled = w > patch.width;
      ctx.drawImage(photo, (key % columns) * w, Math.floor(key / columns) * h, w, h, 0, 0, patch.width, patch.height);
    });
  }

  // A small map is w x h, with a gap of one pixel.
  function layout(width) {
    const w = Math.max(6, Math.min((width - LEFT) / most, (Math.max(14, 440 / grids.length) * W) / H));
    const h = (w * H) / W;
    return { w, h, width: LEFT + most * w, height: TOP + grids.length * h };
  }
  function cellAt(x, y, l) {
    const layer = Math.min(Math.max(Math.floor((y - TOP) / l.h), 0), grids.length - 1);
    return { layer, head: Math.min(Math.max(Math.floor((x - LEFT) / l.w), 0), grids[layer].heads - 1) };
  }
  // Each small map by its own largest weight.
  function paintSmall(canvas, s, l) {
    if (!look.changed(canvas, s.queries, l.w)) return;
    const { ctx, ratio } = look.sharp(canvas);
    ctx.imageSmoothingEnabled = false;
    const snap = (at) => Math.round(at * ratio) / ratio;
    grids.forEach(({ heads, rows, columns, N }, layer) => {
      const pixels = new Uint32Array(heads * columns * rows);
      for (let head = 0; head < heads; head++) {
        const patches = numbers.headRow(layer, head, s.queries[layer]).subarray(N - rows * columns);
        let top = 1e-12;
        for (const weight of patches) if (weight > top) top = weight;
        for (let i = 0; i < patches.length; i++) {
          const at = Math.floor(i / columns) * heads * columns + head * columns + (i % columns);
          pixels[at] = colours32[Math.min(255, Math.floor((patches[i] / top) * 256))];
        }
      }
      const strip = strips[layer];
      strip.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(pixels.buffer), strip.width, rows), 0, 0);
      const [y, bottom] = [snap(TOP + layer * l.h), snap(TOP + (layer + 1) * l.h - 1)];
      for (let head = 0; head < heads; head++) {
        const [x, right] = [snap(LEFT + head * l.w), snap(LEFT + (head + 1) * l.w - 1)];
        ctx.drawImage(strip, head * columns, 0, columns, rows, x, y, right - x, bottom - y);
      }
    });
  }
  // A ring around what is shown: a head, the heads of a layer, or the layers of a rollout; thin, where it is a preview.
  function paintChosen(canvas, s, l, colours) {
    if (!look.changed(canvas, s.shown, s.layer, s.head, s.preview, l.w, Object.values(colours))) return;
    const { ctx } = look.sharp(canvas);
    ctx.font = `11px ${getComputedStyle(canvas).fontFamily}`;
    ctx.fillStyle = colours.quiet;
    ctx.textBaseline = "middle";
    ctx.textAlign = "center";
    for (let head = 0; head < most; head += Math.ceil(16 / l.w)) ctx.fillText(head, LEFT + (head + 0.5) * l.w, TOP / 2);
    ctx.textAlign = "right";
    for (let layer = 0; layer < grids.length; layer += Math.ceil(12 / l.h)) ctx.fillText(layer, LEFT - 6, TOP + (layer + 0.5) * l.h);
    const from = s.shown === "rollout" ? numbers.first(s.layer) : s.layer;
    const [left, heads] = s.shown === "head" ? [s.head, 1] : [0, grids[s.layer].heads];
    look.ring(ctx, LEFT + left * l.w - 0.5, TOP + from * l.h - 0.5, heads * l.w, (s.layer + 1 - from) * l.h,
      colours.ring, s.preview ? 1 : 2);
  }

  // A dot a head: layer to the right, mean distance upwards. What is shown is filled and larger.
  function paintDistances(canvas, s, colours) {
    if (!look.changed(canvas, s.shown, s.layer, s.head, Object.values(colours))) return;
    const { ctx, width, height } = look.sharp(canvas);
    const [left, bottom, top] = [38, height - 18, 8];
    const x = (layer) => left + ((layer + 0.5) * (width - left - 4)) / layers.length;
    const y = (distance) => bottom - (distance / reach) * (bottom - top);
    ctx.font = `11px ${getComputedStyle(canvas).fontFamily}`;
    ctx.textBaseline = "middle";
    ctx.textAlign = "right";
    for (const part of [0, 0.5, 1]) {
      ctx.fillStyle = colours.line;
      ctx.fillRect(left, Math.round(y(part * reach)), width - left, 1);
      ctx.fillStyle = colours.quiet;
      ctx.fillText(`${(part * reach).toFixed(reach < 20 ? 1 : 0)}`, left - 6, y(part * reach));
    }
    ctx.textAlign = "center";
    for (let layer = 0; layer < layers.length; layer += Math.ceil((16 * layers.length) / (width - left))) {
      ctx.fillText(layer, x(layer), height - 7);
    }
    const from = s.shown === "rollout" ? numbers.first(s.layer) : s.layer;
    const mine = (layer, head) => layer >= from && layer <= s.layer && (s.shown !== "head" || head === s.head);
    for (const marked of [false, true]) {
      layers.forEach(({ distance }, layer) => distance.forEach((far, head) => {
        if (mine(layer, head) !== marked) return;
        ctx.beginPath();
        ctx.arc(x(layer), y(far), marked ? 4.5 : 3, 0, 7);
        ctx.fillStyle = marked ? colours.accent : colours.grey;
        ctx.globalAlpha = marked ? 1 : 0.65;
        ctx.fill();
        ctx.globalAlpha = 1;
      }));
    }
  }

  return { paintHeat, paintMarks, paintBest, layout, cellAt, paintSmall, paintChosen, paintDistances };
}
