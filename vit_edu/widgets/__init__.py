"""Explorers: pictures to touch, alive in JupyterLab. Each is a .py with its .js and .css beside it."""

from vit_edu.widgets.patch_explorer import PatchExplorer

__all__ = ["PatchExplorer"]
