// Explorers on a page without a kernel: `explorers` has their render functions by name, each .ve-still its state.

function staticModel(state) {
  const listeners = new Map();
  const model = {
    get: (name) => state[name],
    set(name, value) {
      if (state[name] === value) return;
      state[name] = value;
      for (const callback of [...(listeners.get(`change:${name}`) ?? [])]) callback();
    },
    save_changes() {},
    on: (name, callback) => listeners.set(name, [...(listeners.get(name) ?? []), callback]),
    off: (name, callback) => listeners.set(name, (listeners.get(name) ?? []).filter((one) => one !== callback)),
  };
  return model;
}

for (const place of document.querySelectorAll(".ve-still")) {
  const { name, state, bytes } = JSON.parse(place.querySelector("script").textContent);
  for (const [key, text] of Object.entries(bytes)) {
    state[key] = new DataView(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
  }
  const alive = document.createElement("div");
  place.before(alive);
  try {
    explorers[name].render({ model: staticModel(state), el: alive });
    place.remove(); // the picture for where JavaScript is off
  } catch (error) {
    alive.remove(); // the picture stays, and the other explorers live
    console.error(error);
  }
}
