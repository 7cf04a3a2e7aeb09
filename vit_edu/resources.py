"""Where the kit's files are: in a checkout beside the package, in an installed wheel inside it."""

import os
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """The kit's folder `name` ("data" or "notebooks"). Raises FileNotFoundError where neither place has it."""
    checkout = (PACKAGE.parent / "pyproject.toml").is_file()  # else that is site-packages, and its data another's
    for root in (PACKAGE, PACKAGE.parent) if checkout else (PACKAGE,):
        if (root / name).is_dir():
            return root / name
    raise FileNotFoundError(
        f"The kit's folder {name!r} is neither in {PACKAGE} nor beside it; "
        "install vit-edu again, or work in a complete checkout."
    )


def cache_dir() -> Path:
    """Where downloads are kept: `VIT_EDU_CACHE`, or the user's cache folder."""
    if override := os.environ.get("VIT_EDU_CACHE"):
        return Path(override).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("vit-edu", appauthor=False))


def repository_url() -> str:
    """The repository's address, which stands once, in pyproject's `[project.urls]`."""
    urls = (line.split(", ", 1) for line in metadata.metadata("vit-edu").get_all("Project-URL") or ())
    return dict(urls)["Repository"]
