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
