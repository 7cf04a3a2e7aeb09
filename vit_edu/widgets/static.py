"""Explorers without a kernel: alive on an HTML page by itself, a still picture where JavaScript is off."""

import base64
import html
import json
from collections.abc import Iterable
from dataclasses import dataclass

from vit_edu.widgets.look import HERE, Explorer

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
NOT_DRAWN = {"layout", "tabbable", "tooltip"}  # Jupyter's own traits


@dataclass(frozen=True)
class Saved:
    """An explorer as a notebook keeps it: all that a page needs."""

    state: dict  # its traits, binary ones apart
    bytes: dict[str, str]  # these, in base64
    png: str  # in base64
    alt: str

    @property
    def name(self) -> str:
        return self.state["_anywidget_id"].rpartition(".")[2]

    @classmethod
    def now(cls, explorer: Explorer) -> "Saved":
        state, (shown, about) = explorer.get_state(), explorer._repr_mimebundle_()
        data = {name: value for name, value in state.items() if isinstance(value, bytes)}
        return cls(
            {name: value for name, value in state.items() if name not in data},
            {name: base64.b64encode(value).decode() for name, value in data.items()},
            shown["image/png"],
            about["image/png"]["alt"],
        )

    @classmethod
    def within(cls, notebook, output) -> "Saved | None":
        """The explorer that an output of an executed notebook shows; None where it shows no explorer, or its state is
        not stored."""
        shown, about = output.get("data", {}), output.get("metadata", {}).get("image/png", {})
        models = notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
        model = models.get(shown.get(VIEW, {}).get("model_id"), {"state": {}})
        if not ("_anywidget_id" in model["state"] and "image/png" in shown and "alt" in about):
            return None
        data = {buffer["path"][0]: buffer["data"] for buffer in model.get("buffers", ())}
        return cls(model["state"], data, shown["image/png"], about["alt"])


def place(explorer: Explorer | Saved) -> str:
    """HTML for one explorer: its picture with alt text, and its state. `scripts` brings it to life."""
    saved = explorer if isinstance(explorer, Saved) else Saved.now(explorer)
    drawn = {name: value for name, value in saved.state.items() if name[0] != "_" and name not in NOT_DRAWN}
    told = {"name": saved.name, "state": drawn, "bytes": saved.bytes}
    state = json.dumps(told).replace("<", "\\u003c")  # nothing in it ends the script
    return (
        f'<div class="ve-still"><img alt="{html.escape(saved.alt)}" src="data:image/png;base64,{saved.png}">'
        f'<script type="application/json">{state}</script></div>'
    )


def scripts(explorers: Iterable[Saved]) -> str:
    """HTML for the end of the page: the style and the code of every kind of explorer that is on it, once."""
    kinds = {saved.name: saved.state for saved in explorers}
    styles = "".join(f"<style>{state['_css']}</style>" for state in kinds.values())
    codes = []
    for name, state in kinds.items():
        code = state["_esm"].replace("export default { render };", f"explorers.{name} = {{ render }};")
        codes.append(f"(() => {{\n{code}\n}})();")
    host = (HERE / "static.js").read_text(encoding="utf-8")
    script = "\n".join(["const explorers = {};", *codes, host]).replace("</script", "<\\/script")
    return f"{styles}<script>{script}</script>" if kinds else ""


def page(explorers: list[Explorer], title: str) -> str:
    """A whole HTML page of explorers, no request to any host."""
    saved = [Saved.now(explorer) for explorer in explorers]
    places = "\n".join(map(place, saved))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        f"<body>{places}{scripts(saved)}</body></html>"
    )
