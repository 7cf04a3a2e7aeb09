// Where WindowShiftExplorer's cells stand, whom each may attend to, and how both are drawn. A cell is [row, column] of the padded
// map before the shift; its place is where it stands after it. Held to vit_edu.layers by the tests.

const REGIONS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#6b4c9a", "#7f7f7f"];
const BRIGHT = new Set(["#e69f00", "#cc79a7", "#56b4e9", "#f0e442"]); // those want dark digits
const CORNERS = [[[255, 214, 150], [255, 168, 190]], [[176, 228, 170], [160, 196, 255]]]; // colours of cells without a photo

function windowMap({ H, W, M, S }) {
  const up = (side, by) => Math.ceil(side / by) * by;
  const padded = [up(H, M), up(W, M)];
  const most = [H > M ? S : 0, W > M ? S : 0]; // as WindowAttention: no shift on a side that one window covers

  function seat([row, column], [sy, sx]) {
    const [y, x] = [(row - sy + padded[0]) % padded[0], (column - sx + padded[1]) % padded[1]];
    // 0 where every window is whole; 1 and 2, the two parts of the last one
    const part = (place, side, shift) => (shift ? (place >= side - M) + (place >= side - shift) : 0);
    return {
      y, x,
      window: Math.floor(y / M) * (padded[1] / M) + Math.floor(x / M),
      index: (y % M) * M + (x % M),
      region: part(y, padded[0], sy) * (sx ? 3 : 1) + part(x, padded[1], sx),
    };
  }
  const cellAt = (y, x, [sy, sx]) => [(y + sy) % padded[0], (x + sx) % padded[1]];
  const tokenOf = ([row, column]) => (row < H && column < W ? row * W + column : null);
  const cellOf = (token) => [Math.floor(token / W), token % W];

  // The window of a cell: its n cells in order, each with its token (null: padding) and region.
  function windowOf(cell, shift) {
    const me = seat(cell, shift);
    const corner = [me.y - (me.y % M), me.x - (me.x % M)];
    const cells = Array.from({ length: M * M }, (_, i) => {
      const at = cellAt(corner[0] + Math.floor(i / M), corner[1] + (i % M), shift);
      return { at, token: tokenOf(at), region: seat(at, shift).region };
    });
    return { ...me, cells, strangers: cells.filter(({ region }) => region !== me.region) };
  }
  // The first cell of each region, for its number.
  function regions([sy, sx]) {
    const starts = (side, shift) => (shift ? [0, side - M, side - shift] : [0]);
    return starts(padded[0], sy).flatMap((y) => starts(padded[1], sx).map((x) => cellAt(y, x, [sy, sx])));
  }
  // The four cells that merge, in the published order: down the left column, then the right.
  const four = ([row, column]) =>
    [[0, 0], [1, 0], [0, 1], [1, 1]].map(([y, x]) => [row - (row % 2) + y, column - (column % 2) + x]);

  const even = [up(H, 2), up(W, 2)];
  const shown = (step) => (step === "grid" ? [H, W] : step === "merge" ? even : padded);
  const all = [Math.max(padded[0], even[0]), Math.max(padded[1], even[1])];
  return { H, W, M, S, padded, even, most, all, shown, seat, cellAt, tokenOf, cellOf, windowOf, regions, four };
}

// s: step, shift in effect and whether it moves anything, masked, cell and window of the shown token, hovered; now: moved, split,
// lines, each 0..1 on its way.
function windowShiftDrawing(map, photo) {
  const { H, W, M, padded, all, most } = map;
  const base = look.el("canvas");
  const veil = look.el("canvas", { width: all[1], height: all[0] });
  let [drawn, veiled] = ["", ""]; // what base and veil show now
  const ease = (t) => t * t * (3 - 2 * t);

  function hatch(ctx, x, y, w, h, colours) {
    ctx.save();
    ctx.beginPath();
    ctx.rect(x, y, w, h);
    ctx.clip();
    ctx.fillStyle = colours.soft;
    ctx.fillRect(x, y, w, h);
    ctx.strokeStyle = colours.grey;
    ctx.lineWidth = 1;
    ctx.beginPath();
    for (let d = 0; d < w + h; d += 7) ctx.moveTo(x + d, y), ctx.lineTo(x + d - h, y + h);
    ctx.stroke();
    ctx.restore();
  }
  // A token's number, in its cell's lower left corner; none where there is no room.
  function number(ctx, token, [x, y], u, v, font, faint) {
    const small = Math.min(u, v);
    if (small < 19) return;
    ctx.font = `${small > 36 ? 13 : 10}px ${font}`;
    [ctx.textAlign, ctx.textBaseline, ctx.lineJoin, ctx.lineWidth] = ["left", "bottom", "round", 3];
    [ctx.fillStyle, ctx.strokeStyle] = photo ? ["#fff", "rgba(0,0,0,.75)"] : ["#1f2328", "rgba(255,255,255,.6)"];
    if (faint) ctx.fillStyle = faint;
    else ctx.strokeText(token, x + 6, y + v - 5);
    ctx.fillText(token, x + 6, y + v - 5);
  }
  // Every cell's own look: drawn once for a size and a theme, and only moved after that.
  function paintBase(width, height, ratio, colours, font) {
    const key = [width, height, ratio, colours.soft].join();
    if (key === drawn) return;
    drawn = key;
    [base.width, base.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    const ctx = base.getContext("2d");
    ctx.setTransform(base.width / width, 0, 0, base.height / height, 0, 0);
    const [u, v] = [width / all[1], height / all[0]];
    hatch(ctx, 0, 0, width, height, colours);
    ctx.imageSmoothingQuality = "high";
    if (photo) ctx.drawImage(photo, 0, 0, W * u, H * v);
    for (let i = 0; i < H * W; i++) {
      const [row, column] = map.cellOf(i);
      const mix = (a, b, t) => a.map((from, c) => from + (b[c] - from) * t);
      const [down, right] = [row / (H - 1), column / (W - 1)];
      const colour = mix(...CORNERS.map(([a, b]) => mix(a, b, right)), down);
      if (!photo) {
        ctx.fillStyle = `rgb(${colour.map(Math.round).join()})`;
        ctx.fillRect(column * u, row * v, u + 0.5, v + 0.5);
      }
      number(ctx, i, [column * u, row * v], u, v, font);
    }
    ctx.strokeStyle = "rgba(255,255,255,.65)";
    ctx.lineWidth = Math.min(u, v) < 12 ? 0.5 : 1;
    ctx.beginPath();
    for (let c = 0; c <= all[1]; c++) ctx.moveTo(c * u, 0), ctx.lineTo(c * u, height);
    for (let r = 0; r <= all[0]; r++) ctx.moveTo(0, r * v), ctx.lineTo(width, r * v);
    ctx.stroke();
  }

  const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  // One pixel a cell: dark, the colour of a region, or nothing.
  function paintVeil(s, dark) {
    const wanted = [s.step, s.masked, s.shift, s.cell, dark].join();
    if (wanted === veiled) return;
    veiled = wanted;
    const image = new ImageData(all[1], all[0]);
    const put = ([row, column], [r, g, b], alpha) => image.data.set([r, g, b, 255 * alpha], 4 * (row * all[1] + column));
    const every = (visit) => {
      const [rows, columns] = map.shown(s.step);
      for (let i = 0; i < rows * columns; i++) visit([Math.floor(i / columns), i % columns]);
    };
    if (s.step === "shift" && s.moves) {
      every((cell) => put(cell, rgb(REGIONS[map.seat(cell, s.shift).region]), 0.5));
    } else if (s.step === "merge") {
      every((cell) => put(cell, dark, 0.6));
      for (const cell of map.four(s.cell)) put(cell, dark, 0);
    } else if (s.step !== "grid" && s.step !== "shift") {
      every((cell) => put(cell, dark, 0.82));
      for (const { at } of s.window.cells) put(at, dark, 0);
      if (s.masked) for (const { at, region } of s.window.strangers) put(at, rgb(REGIONS[region]), 0.6);
    }
    veil.getContext("2d").putImageData(image, 0, 0);
  }

  // Where a cell is drawn, in cells, on its way up and left, or over to the other side.
  const way = (at, side, shift, moved) => at + (at < shift ? side - shift : -shift) * moved;
  const at = ([row, column], moved) => [way(row, padded[0], most[0], moved), way(column, padded[1], most[1], moved)];
  // The shift moves four blocks as wholes; those that cross the map come last, on top.
  function blocks([rows, columns], moved) {
    const cut = (side, shift) => (moved && shift ? [[shift, side], [0, shift]] : [[0, side]]);
    return cut(rows, most[0]).flatMap(([top, bottom]) => cut(columns, most[1]).map(([left, right]) => {
      return { top, left, h: bottom - top, w: right - left, to: at([top, left], moved) };
    }));
  }

  function paintGrid(canvas, s, now, colours) {
    const { ctx, width, height, ratio } = look.sharp(canvas);
    if (!width) return;
    const font = getComputedStyle(canvas).fontFamily;
    paintBase(width, height, ratio, colours, font);
    ctx.fillStyle = colours.page; // read back it is #rrggbb, however the theme wrote it
    paintVeil(s, rgb(ctx.fillStyle));
    const [u, v] = [width / all[1], height / all[0]];
    const [moved, split, lines] = [now.moved, now.split, now.lines].map(ease);
    const [rows, columns] = map.shown(s.step);
    const [sx, sy] = [base.width / all[1], base.height / all[0]];
    for (const { top, left, h, w, to: [y, x] } of blocks([rows, columns], moved)) {
      const target = [x * u, y * v, w * u, h * v];
      ctx.imageSmoothingEnabled = true;
      ctx.drawImage(base, left * sx, top * sy, w * sx, h * sy, ...target);
      ctx.imageSmoothingEnabled = false;
      ctx.drawImage(veil, left, top, w, h, ...target);
    }
    const box = (cell) => (([y, x]) => [x * u, y * v])(at(cell, moved));
    const windowed = s.step !== "grid" && s.step !== "merge";

    const apart = windowed && s.step !== "shift" ? s.window.strangers : [];
    // The veil lies over the numbers; here they are again, on it.
    const clear = new Set(s.step === "merge" ? map.four(s.cell).map(map.tokenOf) : s.window.cells.map(({ token }) => token));
    const strange = new Set(s.masked ? apart.map(({ token }) => token) : []);
    for (let token = 0; token < H * W && Math.min(u, v) >= 19 && s.step !== "grid"; token++) {
      const tinted = s.step === "shift" ? s.moves : strange.has(token);
      const faint = s.step !== "shift" && !clear.has(token);
      if (tinted || faint) number(ctx, token, box(map.cellOf(token)), u, v, font, faint && colours.quiet);
    }
    const [from, to, top, bottom] = [0.4, 0.8, 0.16, 0.56]; // a cross above the cell's number
    ctx.beginPath();
    for (const { at: cell } of apart) {
      const [x, y] = box(cell);
      if (s.masked) {
        ctx.moveTo(x + u * from, y + v * top), ctx.lineTo(x + u * to, y + v * bottom);
        ctx.moveTo(x + u * to, y + v * top), ctx.lineTo(x + u * from, y + v * bottom);
      } else ctx.rect(x + 4, y + 4, u - 8, v - 8);
    }
    const strokes = s.masked ? [["#fff", 4, []], ["#1f2328", 2, []]] : [["#fff", 4, []], ["#c4282a", 2, [4, 3]]];
    for (const [colour, thick, dash] of strokes) {
      [ctx.strokeStyle, ctx.lineWidth] = [colour, u < 14 ? thick / 2 : thick];
      ctx.setLineDash(dash);
      ctx.stroke();
    }
    ctx.setLineDash([]);

    if (windowed) paintLines(ctx, lines, u, v, colours);
    if (split) {
      ctx.beginPath();
      for (let c = 0; c <= columns; c += 2) ctx.moveTo(c * u, 0), ctx.lineTo(c * u, rows * v);
      for (let r = 0; r <= rows; r += 2) ctx.moveTo(0, r * v), ctx.lineTo(columns * u, r * v);
      [ctx.strokeStyle, ctx.lineWidth] = [colours.page, 0.2 * Math.min(u, v) * split];
      ctx.stroke();
    }
    if (s.moves && (s.step === "shift" || apart.length)) {
      const firsts = s.step === "shift" ? map.regions(s.shift) : firstOfEach(s.window.cells);
      for (const cell of firsts) paintRegion(ctx, map.seat(cell, s.shift).region, box(cell), Math.min(u, v), font);
    }
    const thick = Math.min(u, v) < 16 ? 2 : 3;
    const ring = ([x, y]) => [Math.max(x, 2), Math.max(y, 2), Math.min(u, width - x - 2), Math.min(v, height - y - 2)];
    if (s.hovered) look.ring(ctx, ...ring(box(s.hovered)), colours.quiet, 2);
    look.ring(ctx, ...ring(box(s.chosen)), colours.ring, thick);
  }

  function firstOfEach(cells) {
    const seen = new Map();
    for (const { at: cell, region } of cells) if (!seen.has(region)) seen.set(region, cell);
    return [...seen.values()];
  }
  // Borders of the windows; on the unshifted map, those of the shifted ones go through the middle of the others.
  function paintLines(ctx, lines, u, v, colours) {
    const [high, wide] = [padded[0] * v, padded[1] * u];
    const path = new Path2D();
    path.rect(1.5, 1.5, wide - 3, high - 3);
    for (let c = 0; c < padded[1]; c += M) {
      const x = (c + most[1] * lines) * u;
      if (x > 0 && x < wide) path.moveTo(x, 0), path.lineTo(x, high);
    }
    for (let r = 0; r < padded[0]; r += M) {
      const y = (r + most[0] * lines) * v;
      if (y > 0 && y < high) path.moveTo(0, y), path.lineTo(wide, y);
    }
    for (const [colour, thick] of [[colours.page, 5], [colours.ink, 3]]) {
      [ctx.strokeStyle, ctx.lineWidth] = [colour, u < 14 ? thick / 2 : thick];
      ctx.stroke(path);
    }
  }
  function paintRegion(ctx, region, [x, y], size, font) {
    const radius = Math.max(6, Math.min(10, size * 0.2));
    const middle = [x + radius + 3, y + radius + 3];
    ctx.beginPath();
    ctx.arc(...middle, radius, 0, 2 * Math.PI);
    [ctx.fillStyle, ctx.strokeStyle, ctx.lineWidth] = [REGIONS[region], "#fff", 1.5];
    ctx.fill();
    ctx.stroke();
    ctx.fillStyle = BRIGHT.has(REGIONS[region]) ? "#1f2328" : "#fff";
    ctx.font = `600 ${radius * 1.4}px ${font}`;
    [ctx.textAlign, ctx.textBaseline] = ["center", "middle"];
    ctx.fillText(region, ...middle);
  }

  // The window's mask, one pixel a pair: light 0, dark -100; the token's row between two lines.
  const table = Array.from({ length: 256 }, (_, i) => (i < 128 ? [206, 226, 245] : [38, 50, 66]));
  const small = look.el("canvas");
  function paintMask(canvas, s, colours) {
    const { ctx, width, height } = look.sharp(canvas);
    const { cells, index } = s.window;
    const n = cells.length;
    const numbers = new Uint8Array(n * n);
    if (s.masked) for (let i = 0; i < n * n; i++) numbers[i] = cells[Math.floor(i / n)].region !== cells[i % n].region;
    ctx.imageSmoothingEnabled = false;
    const [edge, size] = [5, width - 10];
    ctx.drawImage(look.heat(small, numbers, n, n, 1, table), edge, edge, size, height - 2 * edge);
    look.ring(ctx, edge - 2, edge + (index * size) / n - 2, size + 4, size / n + 4, colours.ring, 2);
  }

  return { paintGrid, paintMask };
}

// The paper's equations 1 and 2: multiply-adds of one attention layer on an image of side x side pixels.
const PATCH = 4;
const CHANNELS = 96;
const SIDES = [56, 1024];
function attentionCost(side, M) {
  const hw = (side / PATCH) ** 2;
  const both = 4 * hw * CHANNELS ** 2;
  return { tokens: hw, everyone: both + 2 * hw ** 2 * CHANNELS, windows: both + 2 * M ** 2 * hw * CHANNELS };
}

function paintCost(canvas, side, M, colours) {
  const { ctx, width, height } = look.sharp(canvas);
  const [left, right, top, bottom] = [62, 14, 12, 34];
  const [low, high] = [5e6, 1e12].map(Math.log10);
  const x = (pixels) => left + (Math.log(pixels / SIDES[0]) / Math.log(SIDES[1] / SIDES[0])) * (width - left - right);
  const y = (cost) => top + (1 - (Math.log10(cost) - low) / (high - low)) * (height - top - bottom);
  ctx.font = `12px ${getComputedStyle(canvas).fontFamily}`;
  ctx.fillStyle = colours.quiet;
  ctx.strokeStyle = colours.line;
  ctx.lineWidth = 1;
  [ctx.textAlign, ctx.textBaseline] = ["right", "middle"];
  for (const [cost, words] of [[1e7, "10 M"], [1e8, "100 M"], [1e9, "1 G"], [1e10, "10 G"], [1e11, "100 G"], [1e12, "1,000 G"]]) {
    ctx.beginPath();
    ctx.moveTo(left, y(cost)), ctx.lineTo(width - right, y(cost));
    ctx.stroke();
    ctx.fillText(words, left - 8, y(cost));
  }
  [ctx.textAlign, ctx.textBaseline] = ["center", "top"];
  for (const pixels of [56, 112, 224, 448, 896]) ctx.fillText(`${pixels} px`, Math.max(x(pixels), left + 4), height - bottom + 8);
  const curve = (name, colour, dash) => {
    [ctx.strokeStyle, ctx.lineWidth] = [colour, 3];
    ctx.setLineDash(dash);
    ctx.beginPath();
    for (let pixels = SIDES[0]; pixels <= SIDES[1]; pixels += 8) ctx.lineTo(x(pixels), y(attentionCost(pixels, M)[name]));
    ctx.stroke();
    ctx.setLineDash([]);
    ctx.beginPath();
    ctx.arc(x(side), y(attentionCost(side, M)[name]), 6, 0, 2 * Math.PI);
    [ctx.fillStyle, ctx.strokeStyle, ctx.lineWidth] = [colour, colours.page, 2];
    ctx.fill();
    ctx.stroke();
  };
  [ctx.strokeStyle, ctx.lineWidth] = [colours.grey, 1];
  ctx.beginPath();
  ctx.moveTo(x(side), top), ctx.lineTo(x(side), height - bottom);
  ctx.stroke();
  curve("everyone", colours.red, [7, 4]);
  curve("windows", colours.blue, []);
}
