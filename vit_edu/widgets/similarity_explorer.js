// SimilarityExplorer: every picture with every text. Row i is picture i, column j is text j, as in figure 1 of CLIP.

function similarityPage({ texts, W, H }) {
  const { el } = look;
  const page = {
    labels: el("div", { class: "ve-texts" }, ...texts.map((text, j) => el("span", { "data-column": j }, text))),
    thumbs: el("div", { class: "ve-pictures" }),
    cells: el("canvas", { class: "ve-pixels ve-cells", "aria-hidden": "true" }),
    over: el("canvas", { class: "ve-over", tabindex: 0, role: "application" }),
    low: el("span", { class: "ve-quiet" }),
    bar: el("canvas", { class: "ve-bar", width: 256, height: 1, "aria-hidden": "true" }),
    high: el("span", { class: "ve-quiet" }),
    marks: el("span", { class: "ve-quiet" }),
    enlarged: el("canvas", { class: "ve-pixels ve-enlarged", width: W, height: H, "aria-hidden": "true" }),
    text: el("p", { class: "ve-text" }),
    sum: el("p", {}),
    fate: el("p", { class: "ve-quiet" }),
  };
  page.enlarged.toggleAttribute("data-big", W < 120);
  page.matrix = el("div", { class: "ve-matrix" },
    el("div", {}), page.labels, page.thumbs, el("div", { class: "ve-frame" }, page.cells, page.over));
  page.wide = el("div", { class: "ve-wide" }, page.matrix,
    el("div", { class: "ve-cellscale" }, page.low, page.bar, page.high, page.marks));
  page.wide.style.maxWidth = `${Math.max(360, (texts.length + 1) * 72 + 8)}px`;
  page.detail = el("div", { class: "ve-pair" }, page.enlarged, el("div", {}, page.text, page.sum, page.fate));
  page.help = "Point at a cell, or reach the matrix with Tab and use the arrow keys. S switches what is shown, + and − change the " +
    "temperature, T sets the model's own. Cosine: 1 where the model's vectors of a picture and a text point the same way, 0 where " +
    "at right angles. Softmax of cosine / temperature makes shares of it that sum to 100 % along a row or a column: a low " +
    "temperature gives all to the largest, a high one the same to each.";
  return page;
}

function render({ model, el }) {
  const [C, H, W] = model.get("shape");
  const [texts, own] = [model.get("texts"), model.get("own")];
  const cosines = new Float32Array(look.bytes(model.get("cosines")).slice().buffer);
  const [T, I] = [texts.length, cosines.length / texts.length];
  const pixels = look.bytes(model.get("pixels"));
  const photo = (i, canvas) => look.photo(pixels.subarray(i * C * H * W, (i + 1) * C * H * W), [C, H, W], canvas);
  const table = look.map("viridis");
  const paired = T === I;

  // Shares that sum to 1 along each row (over the texts) or each column (over the pictures).
  function softmax(temperature, overTexts) {
    const shares = new Float64Array(I * T);
    const [lines, length] = overTexts ? [I, T] : [T, I];
    for (let line = 0; line < lines; line++) {
      const at = Array.from({ length }, (_, k) => (overTexts ? line * T + k : k * T + line));
      const top = Math.max(...at.map((n) => cosines[n]));
      const powers = at.map((n) => Math.exp((cosines[n] - top) / temperature));
      const sum = powers.reduce((a, b) => a + b);
      at.forEach((n, k) => (shares[n] = powers[k] / sum));
    }
    return shares;
  }
  // The place of the largest in each row or column; the first, where there are several.
  const largest = (numbers, overTexts) => Array.from({ length: overTexts ? I : T }, (_, line) => {
    const at = Array.from({ length: overTexts ? T : I }, (_, k) => (overTexts ? line * T + k : k * T + line));
    return at.reduce((best, n) => (numbers[n] > numbers[best] ? n : best), at[0]);
  });

  // What is chosen (the model's) and what is pointed at (this view's) -----------------------------------------------------
  let hovered = null;
  function state() {
    const [row, column, temperature, shown] = ["row", "column", "temperature", "shown"].map((name) => model.get(name));
    const [byText, byPicture] = [softmax(temperature, true), softmax(temperature, false)];
    const numbers = { cosine: cosines, texts: byText, images: byPicture }[shown];
    const at = hovered ?? row * T + column;
    const best = largest(numbers, shown !== "images");
    let [low, high] = [0, 1];
    if (shown === "cosine") [low, high] = [Math.min(...cosines), Math.max(...cosines)];
    if (low === high) low -= 1;
    const shares = Float64Array.from(numbers, (x) => (x - low) / (high - low));
    return { row, column, temperature, shown, byText, byPicture, numbers, shares, at, best, low, high };
  }
  function change(values) {
    for (const [key, to] of Object.entries(values)) model.set(key, to);
    model.save_changes();
    paint();
  }
  function choose(row, column) {
    hovered = null;
    change({ row, column });
  }

  // The page --------------------------------------------------------------------------------------------------------------
  const parts = similarityPage({ texts, W, H });
  const kinds = [["cosine", "cosine"], ["texts", "which text for this picture"], ["images", "which picture for this text"]];
  const kind = look.choice("Show", kinds, (shown) => change({ shown }));
  const log = Math.log10;
  const degree = (t) => (t < 0.095 ? t.toFixed(3) : t.toFixed(2));
  const [coldest, hottest] = [Math.min(log(own), -2), Math.max(log(own), 0)];
  const heat = look.slider("Temperature", { min: coldest, max: hottest, step: 0.01 }, (to) => warm(to));
  // A step that comes next to the model's own is the model's own.
  function warm(to) {
    change({ temperature: Math.abs(to - log(own)) < 0.006 ? own : 10 ** Math.min(Math.max(to, coldest), hottest) });
  }
  const ticks = look.el("datalist", { id: look.id() }, look.el("option", { value: log(own) }));
  heat.append(ticks);
  heat.querySelector("input").setAttribute("list", ticks.id);
  const reset = look.el("button", { class: "ve-button", type: "button" }, `The model's own: ${degree(own)}`);
  const controls = [kind, look.el("div", { class: "ve-row" }, heat, reset)];
  const page = look.page("Similarity explorer", { controls, stage: [parts.wide, parts.detail], help: parts.help });
  parts.over.setAttribute("aria-describedby", page.id);
  parts.thumbs.append(...Array.from({ length: I }, (_, i) => {
    const small = photo(i);
    small.toggleAttribute("data-big", W < 50);
    return look.el("span", { "data-row": i }, small);
  }));
  for (let x = 0; x < 256; x++) {
    const ctx = parts.bar.getContext("2d");
    ctx.fillStyle = `rgb(${table[x]})`;
    ctx.fillRect(x, 0, 1, 1);
  }
  el.append(page.root);

  // In words --------------------------------------------------------------------------------------------------------------
  const figure = (x, places = 2) => x.toFixed(places).replace(/^-(?=0\.0*$)/, "").replace("-", "−");
  const percent = (x) => `${(x * 100).toFixed(1)} %`;
  const short = (s, n) => (s.shown === "cosine" ? figure(s.numbers[n]) : `${Math.round(s.numbers[n] * 100)}%`);
  const longest = look.longest(texts);
  const plural = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;

  function headline(s) {
    const others = s.shown === "images";
    if (!paired) {
      const n = s.best[others ? s.at % T : Math.floor(s.at / T)];
      const best = (row, text, number) => {
        const pair = [`picture ${row}`, `“${text}”`];
        const [one, other] = others ? pair.reverse() : pair;
        const value = s.shown === "cosine" ? `cosine ${figure(number)}` : percent(number);
        return `${plural(I, "picture")}, ${plural(T, "text")}: for ${one} the best is ${other}, ${value}`;
      };
      return [best(Math.floor(n / T), texts[n % T], s.numbers[n]), best(I - 1, longest, s.shown === "cosine" ? -1 : 1)];
    }
    const right = s.best.filter((n) => n % T === Math.floor(n / T)).length;
    const mean = s.best.reduce((sum, _, i) => sum + s.numbers[i * T + i], 0) / I;
    const [who, what] = others ? ["text", "picture"] : ["picture", "text"];
    const found = `${right} of ${plural(I, who)} ${right === 1 ? "finds its" : "find their"} ${what}`;
    return [`${found}${s.shown === "cosine" ? ": it has the highest cosine of the row" : `, which gets ${percent(mean)} on average`}`, ""];
  }
  function write(s) {
    const [row, column] = [Math.floor(s.at / T), s.at % T];
    look.write(page.headline, ...headline(s));
    kind.choose(s.shown);
    const isOwn = Math.abs(s.temperature / own - 1) < 1e-6;
    heat.set(log(s.temperature), degree(s.temperature), `${degree(s.temperature)}${isOwn ? ", the model's" : ""}`);
    const all = (i, j, text, cosine, byText, byPicture) => `Picture ${i} with text ${j}, “${text}”: cosine ${figure(cosine, 3)}, ` +
      `logit ${figure(cosine / s.temperature)}, softmax ${percent(byText)} over the ${plural(T, "text")} of this picture, ` +
      `${percent(byPicture)} over the ${plural(I, "picture")} of this text.`;
    look.write(page.status, all(row, column, texts[column], cosines[s.at], s.byText[s.at], s.byPicture[s.at]),
      all(I - 1, T - 1, longest, -1, 1, 1));
    look.write(parts.text, `“${texts[column]}”`, `“${longest}”`);
    const sum = (cosine) => `cosine / temperature = ${figure(cosine, 3)} / ${degree(s.temperature)} = ` +
      `${figure(cosine / s.temperature)}, the logit`;
    look.write(parts.sum, sum(cosines[s.at]), sum(-1));
    const belongs = (text) => (paired ? `To this picture belongs “${text}”.` : "");
    look.write(parts.fate, paired && row === column ? "They belong together." : belongs(texts[row]), belongs(longest));
    parts.over.setAttribute("aria-label", `Matrix of ${plural(I, "picture")}, the rows, and ${plural(T, "text")}, the columns. ` +
      "Arrow keys choose a cell, S switches what is shown, plus and minus change the temperature.");
    [parts.low.textContent, parts.high.textContent] = s.shown === "cosine" ? [figure(s.low), figure(s.high)] : ["0 %", "100 %"];
    const line = s.shown === "images" ? "column" : "row";
    parts.marks.textContent = `Dot: the highest of its ${line}.${paired ? " Dashed: they belong together." : ""}`;
    parts.labels.childNodes.forEach((label, j) => label.classList.toggle("ve-now", j === column));
    parts.thumbs.childNodes.forEach((thumb, i) => thumb.classList.toggle("ve-now", i === row));
    photo(row, parts.enlarged);
  }

  // Cells as large as the width allows, and the texts above them as high as they need, so that none is cut: by whole words, and
  // only where these are too long inside them.
  let laid = 0;
  function layout() {
    if (laid === (laid = parts.wide.clientWidth)) return;
    const cell = Math.max(16, Math.min(72, Math.floor((laid - 8) / (T + 1))));
    parts.matrix.style.cssText = `--cell: ${cell}px; --rows: ${I}; --columns: ${T}`;
    const labels = [...parts.labels.childNodes];
    const range = document.createRange(); // of the words alone; they may stick out of their box on either side
    function over(node) {
      range.selectNodeContents(node);
      const [words, box] = [range.getBoundingClientRect(), node.getBoundingClientRect()];
      return words.width > box.width || words.height > box.height - 8; // without its padding
    }
    function fit(inside, least, most) {
      parts.labels.classList.toggle("ve-inside", inside);
      for (let tall = least; tall <= most; tall += 16) {
        parts.labels.style.height = `${tall}px`;
        if (!labels.some(over)) return true;
      }
      return false;
    }
    fit(false, 64, 192) || fit(true, 192, 640); // words of up to 192 pixels stay whole in either
  }

  function paintOver(s, colours) {
    const { ctx, width, height } = look.sharp(parts.over);
    const [w, h] = [width / T, height / I];
    ctx.font = `${w > 50 ? 13 : 11}px ${getComputedStyle(parts.over).fontFamily}`;
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    const fits = Math.max(...Array.from(cosines, (_, n) => ctx.measureText(short(s, n)).width)) <= w - 4;
    const middle = (n) => [((n % T) + 0.5) * w, (Math.floor(n / T) + 0.5) * h];
    const ink = (n) => {
      const [r, g, b] = look.shade(table, s.shares[n]);
      return 0.3 * r + 0.59 * g + 0.11 * b > 120 ? "#000" : "#fff";
    };
    for (let n = 0; fits && n < I * T; n++) {
      ctx.fillStyle = ink(n);
      ctx.fillText(short(s, n), ...middle(n));
    }
    for (let i = 0; paired && i < I; i++) {
      ctx.strokeStyle = ink(i * T + i);
      ctx.lineWidth = 1.5;
      ctx.setLineDash([4, 3]);
      ctx.strokeRect(i * w + 3, i * h + 3, w - 6, h - 6);
      ctx.setLineDash([]);
    }
    const aside = fits ? w / 2 - 10 : 0; // the dot makes room for the number
    for (const n of s.best) {
      const [x, y] = middle(n);
      ctx.beginPath();
      ctx.arc(x + aside, y - aside, Math.min(4, w / 8), 0, 7);
      ctx.fillStyle = ink(n);
      ctx.fill();
    }
    const box = (n) => {
      const [x, y] = [Math.max((n % T) * w, 2), Math.max(Math.floor(n / T) * h, 2)];
      return [x, y, Math.min(w, width - x - 2), Math.min(h, height - y - 2)];
    };
    if (s.at !== s.row * T + s.column) look.ring(ctx, ...box(s.at), "#000", 2);
    look.ring(ctx, ...box(s.row * T + s.column), colours.ring);
  }

  const [paint, stop] = look.painter(page.root, [parts.wide, parts.over], () => {
    const [s, colours] = [state(), look.colours(page.root)];
    layout();
    write(s);
    look.heat(parts.cells, s.shares, I, T, 1, table);
    paintOver(s, colours);
  });

  // Mouse, touch, keys ------------------------------------------------------------------------------------------------------
  const cellAt = (event) => {
    const [x, y] = look.where(event);
    return Math.floor(y * I) * T + Math.floor(x * T);
  };
  const show = (n) => {
    hovered = n;
    paint();
  };
  look.pointer(parts.over, cellAt, show, (n) => choose(Math.floor(n / T), n % T));
  parts.matrix.addEventListener("click", ({ target }) => {
    const { row, column } = target.closest("[data-row], [data-column]")?.dataset ?? {};
    if (row) choose(Number(row), model.get("column"));
    if (column) choose(model.get("row"), Number(column));
    parts.over.focus({ preventScroll: true });
  });
  const toOwn = () => change({ temperature: own });
  reset.addEventListener("click", toOwn);

  function cellKey(key) {
    const [row, column] = [model.get("row"), model.get("column")];
    const to = look.onGrid(key, [row, column], [I, T]);
    if (to) choose(...to);
    return Boolean(to);
  }
  function anyKey(key) {
    const step = { "+": 0.1, "=": 0.1, "-": -0.1, "_": -0.1 }[key] ?? 0;
    if (step) warm(log(model.get("temperature")) + step);
    const names = kinds.map(([name]) => name);
    const next = () => change({ shown: names[(names.indexOf(model.get("shown")) + 1) % 3] });
    const act = { s: next, t: toOwn }[key.toLowerCase()];
    act?.();
    return Boolean(step || act);
  }
  look.keys(page.root, ({ key, target }) => (target === parts.over && cellKey(key)) || anyKey(key));

  const unfollow = look.followAll(model, ["row", "column", "temperature", "shown"], paint);
  paint();
  return () => {
    stop();
    unfollow();
  };
}

export default { render };
