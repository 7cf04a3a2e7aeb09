// MaskExplorer: the picture, what the encoder sees of it, what the decoder paints. All counting starts at 0, as in Python.

function maskPage({ names, ratios, draws, normed, W, H }) {
  const { el } = look;
  const three = ["Original", "Encoder sees", "Model paints"].map((title, i) => {
    const part = {
      title: el("p", { class: "ve-title" }, title),
      words: el("p", { class: "ve-quiet" }),
      pixels: el("canvas", { class: "ve-pixels", width: W, height: H, "aria-hidden": "true" }),
      over: el("canvas", { class: "ve-over", "data-part": i }),
    };
    part.frame = el("div", { class: "ve-frame" }, part.pixels, part.over);
    part.frame.style.aspectRatio = `${W} / ${H}`;
    part.root = el("div", { class: "ve-third" }, part.title, part.frame, part.words);
    return part;
  });
  const growth = el("canvas", { class: "ve-growth", role: "img" });
  const growthWords = el("p", { class: "ve-quiet" });
  const button = el("button", { class: "ve-button", type: "button" }, "Other patches");
  return { three, growth, growthWords, button, pictures: el("div", { class: "ve-three" }, ...three.map(({ root }) => root)),
    chart: el("div", { class: "ve-chart" }, el("p", { class: "ve-title" }, "Loss at each mask ratio"), growth, growthWords),
    help: "Point at a patch, or reach the pictures with Tab and use the arrow keys. + and − change the mask ratio, " +
      `${draws > 1 ? "N removes other patches, " : ""}V switches the right picture. ` +
      "Loss: the mean squared error, over the removed patches only. " + (normed ?
      "This model's target is each patch with mean 0 and variance 1 (norm_pix_loss): to guess one colour costs about 1 where " +
      "there is texture. For the picture each patch gets its true mean and contrast back: these the model did not find out." :
      "The pixels go from −1 to 1.") };
}

// Two figures behind the point for what is shown as a number.
const figure = (x) => x.toFixed(2);
const share = (ratio) => `${Number((ratio * 100).toFixed(1))} %`;

function render({ model, el }) {
  const [C, H, W] = model.get("shape");
  const [names, ratios, draws, p] = ["names", "ratios", "draws", "patch_size"].map((name) => model.get(name));
  const [rows, columns] = [H / p, W / p];
  const N = rows * columns;
  const [pixels, painted, removed] = ["pixels", "painted", "removed"].map((name) => look.bytes(model.get(name)));
  const losses = look.halves(model.get("losses"));
  const part = (array, at, size) => array.subarray(at * size, (at + 1) * size);
  const originals = names.map((_, i) => look.photo(part(pixels, i, C * H * W), [C, H, W]));

  // The mean loss of the removed patches, of every picture, ratio and draw.
  const means = Float32Array.from({ length: names.length * ratios.length * draws }, (_, at) => {
    let [sum, count] = [0, 0];
    for (let n = at * N; n < (at + 1) * N; n++) if (removed[n]) [sum, count] = [sum + losses[n], count + 1];
    return sum / count;
  });

  // What is chosen (the model's) and what is pointed at (this view's) -----------------------------------------------------
  let hovered = null;
  let whole = false; // the right picture: all that the model paints, or the visible patches as they are
  let drawn = ""; // what the pixels show now
  function state() {
    const [chosen, ratio, draw, selected] = ["chosen", "ratio", "draw", "selected"].map((name) => model.get(name));
    const level = ratios.indexOf(ratio);
    const at = (chosen * ratios.length + level) * draws + draw;
    const [gone, loss] = [part(removed, at, N), part(losses, at, N)];
    return { chosen, ratio, level, draw, selected, at, gone, loss, shown: hovered ?? selected };
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
  const nextDraw = () => change({ draw: (model.get("draw") + 1) % draws });
  function setWhole(to) {
    whole = to;
    paint();
  }

  // The page --------------------------------------------------------------------------------------------------------------
  const parts = maskPage({ names, ratios, draws, normed: model.get("normed"), W, H });
  const [original, masked, rebuilt] = parts.three;
  const pictures = look.choice("Picture", names.map((name, i) => [i, "", name]), (i) => change({ chosen: i }));
  pictures.classList.add("ve-thumbs");
  pictures.querySelectorAll("span").forEach((span, i) => span.append(look.photo(part(pixels, i, C * H * W), [C, H, W])));
  const levels = look.choice("Mask ratio", ratios.map((ratio) => [ratio, share(ratio)]), (ratio) => change({ ratio }));
  const kinds = [[false, "with the visible patches"], [true, "only what the model painted"]];
  const rights = look.choice("Right picture", kinds, setWhole);
  const controls = [...(names.length > 1 ? [pictures] : []), levels, ...(draws > 1 ? [parts.button] : []), rights];
  const page = look.page("Mask explorer", { controls, stage: [parts.pictures, parts.chart], help: parts.help });
  masked.over.tabIndex = 0;
  masked.over.setAttribute("role", "application");
  masked.over.setAttribute("aria-describedby", page.id);
  for (const { over } of [original, rebuilt]) over.setAttribute("aria-hidden", "true");
  for (const { pixels: canvas } of parts.three) canvas.toggleAttribute("data-big", W < 200);
  el.append(page.root);

  function write(s) {
    const kept = s.gone.reduce((sum, gone) => sum + !gone, 0);
    const mean = figure(means[s.at]);
    const sum = `from ${kept} of ${N} patches the model paints ${N - kept}, loss ${mean}`;
    page.headline.textContent = `${share(s.ratio)} removed: ${sum}`;
    pictures.choose(s.chosen);
    levels.choose(s.ratio);
    rights.choose(whole);
    parts.button.textContent = `Other patches (${s.draw + 1} of ${draws})`;
    original.words.textContent = names[s.chosen];
    masked.words.textContent = `${kept} visible tokens of ${N}`;
    rebuilt.words.textContent = whole ? `All ${N} patches as painted; only the ${N - kept} removed ones were trained for` :
      `${N - kept} painted, ${kept} as they are`;
    const told = (n, gone, loss) => `Patch ${n} of ${N}: row ${Math.floor(n / columns)}, column ${n % columns}, ` +
      `${gone ? "removed" : "visible"}. Its squared error ${figure(loss)}` +
      (gone ? `; the mean over the ${N - kept} removed is ${mean}.` : " does not count in the loss.");
    look.write(page.status, told(s.shown, s.gone[s.shown], s.loss[s.shown]), told(N - 1, true, Math.max(...s.loss)));
    masked.over.setAttribute("aria-label", `${names[s.chosen]}, ${rows} rows and ${columns} columns of patches, ` +
      `${kept} visible. Arrow keys choose a patch, plus and minus change the mask ratio.`);
  }

  // The three pictures, pixel by pixel; only when another is chosen ----------------------------------------------------------
  function paintPixels(s) {
    if (drawn === (drawn = `${s.at} ${whole}`)) return;
    const [left, middle, right] = parts.three.map(({ pixels: canvas }) => canvas.getContext("2d"));
    left.drawImage(originals[s.chosen], 0, 0);
    middle.drawImage(originals[s.chosen], 0, 0);
    look.photo(part(painted, s.at, C * H * W), [C, H, W], rebuilt.pixels);
    for (let n = 0; n < N; n++) {
      const [x, y] = [(n % columns) * p, Math.floor(n / columns) * p];
      if (s.gone[n]) middle.clearRect(x, y, p, p);
      else if (!whole) right.drawImage(originals[s.chosen], x, y, p, p, x, y, p, p);
    }
  }
  function paintOver({ over }, s, colours) {
    const { ctx, width, height } = look.sharp(over);
    const size = (width / W) * p;
    const box = (n) => [(n % columns) * size, Math.floor(n / columns) * size, size, size];
    if (over === masked.over) {
      ctx.save();
      ctx.beginPath();
      for (let n = 0; n < N; n++) if (s.gone[n]) ctx.rect(...box(n));
      ctx.clip();
      ctx.fillStyle = colours.soft;
      ctx.fillRect(0, 0, width, height);
      ctx.strokeStyle = colours.quiet;
      ctx.globalAlpha = 0.45;
      ctx.beginPath();
      for (let x = -height; x < width; x += 7) ctx.moveTo(x, height), ctx.lineTo(x + height, 0);
      ctx.stroke();
      ctx.restore();
    }
    const edge = ([x, y]) => [Math.max(x, 2), Math.max(y, 2), Math.min(size, width - x - 2), Math.min(size, height - y - 2)];
    if (s.shown !== s.selected) {
      ctx.strokeStyle = "#fff";
      ctx.lineWidth = 5;
      ctx.strokeRect(...edge(box(s.shown)));
      ctx.strokeStyle = "#000";
      ctx.lineWidth = 2;
      ctx.strokeRect(...edge(box(s.shown)));
    }
    look.ring(ctx, ...edge(box(s.selected)), colours.ring, size < 20 ? 2 : 3);
  }

  // The bars: a ratio's mean over the draws, each draw a dot ------------------------------------------------------------------
  const mean = (values) => values.reduce((sum, x) => sum + x, 0) / values.length;
  const levelMeans = (s) => ratios.map((_, level) => part(means, s.chosen * ratios.length + level, draws));
  function paintGrowth(s, colours) {
    const { ctx, width, height } = look.sharp(parts.growth);
    const several = levelMeans(s);
    const top = Math.max(...several.flatMap((values) => [...values])) || 1;
    const [slot, floor] = [width / ratios.length, height - 20];
    const y = (loss) => floor - (loss / top) * (floor - 20);
    ctx.font = `12px ${getComputedStyle(parts.growth).fontFamily}`;
    ctx.textAlign = "center";
    several.forEach((values, level) => {
      const [middle, wide, high] = [(level + 0.5) * slot, Math.min(slot * 0.6, 56), y(mean(values))];
      ctx.fillStyle = level === s.level ? colours.accent : colours.line;
      ctx.fillRect(middle - wide / 2, high, wide, floor - high);
      ctx.fillStyle = level === s.level ? colours.ink : colours.quiet;
      ctx.fillText(figure(mean(values)), middle, Math.min(high, ...[...values].map(y)) - 6);
      ctx.fillText(share(ratios[level]), middle, height - 5);
      if (draws === 1) return;
      values.forEach((loss, draw) => {
        const now = level === s.level && draw === s.draw;
        ctx.beginPath();
        ctx.arc(middle + (draw - (draws - 1) / 2) * (wide / draws), y(loss), now ? 5 : 3, 0, 7);
        ctx.fillStyle = colours.ink;
        ctx.strokeStyle = colours.page;
        ctx.lineWidth = 1.5;
        ctx.fill();
        ctx.stroke();
      });
    });
    const words = several.map((values, level) => `${share(ratios[level])} removed: ${figure(mean(values))}`).join(", ");
    parts.growth.setAttribute("aria-label", `Loss of ${names[s.chosen]} at each mask ratio. ${words}.`);
    parts.growthWords.textContent = draws > 1 ?
      `Bar: the mean of ${draws} draws of the patches; dots: each of them, the large one on the screen now.` : "Of this picture.";
  }

  const watched = [...parts.three.map(({ over }) => over), parts.growth];
  const [paint, stop] = look.painter(page.root, watched, () => {
    const [s, colours] = [state(), look.colours(page.root)];
    write(s);
    paintPixels(s);
    for (const one of parts.three) paintOver(one, s, colours);
    paintGrowth(s, colours);
  });

  // Mouse, touch, keys ------------------------------------------------------------------------------------------------------
  const patchAt = (event) => {
    const [x, y] = look.where(event);
    return Math.floor(y * rows) * columns + Math.floor(x * columns);
  };
  const show = (patch) => {
    hovered = patch;
    paint();
  };
  const keep = (patch) => {
    choose(patch);
    masked.over.focus({ preventScroll: true });
  };
  for (const { over } of parts.three) look.pointer(over, patchAt, show, keep);
  parts.growth.addEventListener("click", (event) => change({ ratio: ratios[Math.floor(look.where(event)[0] * ratios.length)] }));
  parts.button.addEventListener("click", nextDraw);
  function patchKey(key) {
    const { selected } = state();
    const [row, column] = [Math.floor(selected / columns), selected % columns];
    const to = look.onGrid(key, [row, column], [rows, columns]);
    if (to) choose(to[0] * columns + to[1]);
    return Boolean(to);
  }
  function anyKey(key) {
    const step = { "+": 1, "=": 1, "-": -1, "_": -1 }[key] ?? 0;
    const ratio = ratios[state().level + step];
    if (step && ratio) change({ ratio });
    const act = { n: nextDraw, v: () => setWhole(!whole) }[key.toLowerCase()];
    act?.();
    return Boolean(step || act);
  }
  look.keys(page.root, ({ key, target }) => (target === masked.over && patchKey(key)) || anyKey(key));

  const unfollow = look.followAll(model, ["chosen", "ratio", "draw", "selected"], paint);
  paint();
  return () => {
    stop();
    unfollow();
  };
}

export default { render };
