"""Explorers without a kernel: alive on an HTML page by itself, a still picture where JavaScript is off."""

import base64
import html
import io
import json
from collections.abc import Iterable

from vit_edu.widgets.look import HERE, Explorer


def place(explorer: Explorer) -> str:
    """HTML for one explorer: its picture with alt text, and its state. `scripts` brings it to life."""
    own = {name: trait for name, trait in explorer.traits(sync=True).items() if not name.startswith("_")}
    values = {name: getattr(explorer, name) for name in own if name not in {"layout", "tabbable", "tooltip"}}
    data = {name: value for name, value in values.items() if isinstance(value, bytes)}
    told = {
        "name": type(explorer).__name__,
        "state": {name: value for name, value in values.items() if name not in data},
        "bytes": {name: base64.b64encode(value).decode() for name, value in data.items()},
    }
    png = io.BytesIO()
    explorer.picture().save(png, "PNG", optimize=True)
    source = base64.b64encode(png.getvalue()).decode()
    state = json.dumps(told).replace("</", "<\\/")  # nothing in it ends the script
    return (
        f'<div class="ve-still"><img alt="{html.escape(explorer.sentence())}" src="data:image/png;base64,{source}">'
        f'<script type="application/json">{state}</script></div>'
    )


def scripts(explorers: Iterable[Explorer]) -> str:
    """HTML for the end of the page: the style and the code of every kind of explorer that is on it, once."""
    kinds = {type(explorer).__name__: explorer for explorer in explorers}
    styles = "".join(f"<style>{explorer._css}</style>" for explorer in kinds.values())
    codes = []
    for name, explorer in kinds.items():
        code = str(explorer._esm).replace("export default { render };", f"explorers.{name} = {{ render }};")
        codes.append(f"(() => {{\n{code}\n}})();")
    host = (HERE / "static.js").read_text(encoding="utf-8")
    script = "\n".join(["const explorers = {};", *codes, host]).replace("</script", "<\\/script")
    return f"{styles}<script>{script}</script>" if kinds else ""


def page(explorers: list[Explorer], title: str) -> str:
    """A whole HTML page of explorers, no request to any host."""
    places = "\n".join(place(explorer) for explorer in explorers)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><body>{places}{scripts(explorers)}</body></html>'
    )
