"""Some 1,600 emoji in six hands: one sheet a style, rendered from SVG, and two tables (concepts.csv, styles.csv).

The drawings and names come from npm packages, fetched by name and version and verified by SHA-256.
"""

import csv
import hashlib
import io
import json
import re
import subprocess
import tempfile
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SIZE, COLUMNS = 64, 40
HELD_OUT_STYLE = "twemoji"  # the one complete style without a sibling by the same author
HELD_OUT_SHARE = 5  # one concept in five, in each group
MAJORITY = 4  # styles that must draw a concept

UNICODE = ("unicode-emoji-json", "0.9.0", "2ebd44d5c66459b48aadbb34ad21161850da6c9b74036dce9097b2bfad9b2c23")
# style: version of @iconify-json/STYLE, SHA-256 of its icons.json and chars.json, author, licence, address
EMPTY = "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356"
GOOGLE = ("Google Inc.", "Apache-2.0", "https://github.com/googlefonts/noto-emoji")
MICROSOFT = ("Microsoft Corporation", "MIT", "https://github.com/microsoft/fluentui-emoji")
STYLES = {
    "noto": (
        "1.2.9",
        "9eac6ef4e7ec122b6f0e7ac281d61008afdbc720d0ce861e398b939daaa347c6",
        "91485653ca890bff640f2a6c2d7be62d625a90527b6b4d816b41593675bf5c8f",
        *GOOGLE,
    ),
    "noto-v1": ("1.2.5", "ce70d8aa90345cf389875c3571ecd245bd943401822a0c5a0f62336bf8487333", EMPTY, *GOOGLE),
    "twemoji": (
        "1.2.5",
        "5d5d820790565b764f2728675d487c9ee4c1fc83916d8567d5aca8ba7527c242",
        "8e6a83d5a3ac185b2446154b9c4ee07c983bd4a5b2a21aa4b9ff04af9831eefe",
        "Twitter, Inc. and other contributors",
        "CC-BY-4.0",
        "https://github.com/jdecked/twemoji",
    ),
    "emojione": (
        "1.2.3",
        "e9a865faed523a7c3535b5319ae533d09fac1a62b4e96920eb178bb60e707e80",
        EMPTY,
        "Emoji One and EmojiTwo",
        "CC-BY-4.0",
        "https://github.com/EmojiTwo/emojitwo",
    ),
    "fluent-emoji": ("1.2.7", "87f3336be6f46747d40d046a15ffa8b23809ff7a1a280b5d3521d3782fb85de7", EMPTY, *MICROSOFT),
    "fluent-emoji-flat": (
        "1.2.6",
        "f5f4cf457c0db2ad5a2e42e033e02e0c87d10e43d0164cfffb3bb84914970a63",
        "7f084c5a95807edb4702a7c9f6f18e74d59026d1c34ceb8cae85df0b9a9f0a10",
        *MICROSOFT,
    ),
}

# Words that tell twins apart and nothing else: who, how many, which colour, which way, how big, which phase.
TWIN_WORDS = set(
    """
    a and man men woman women person people boy girl child adult older old mans mens womans womens santa mrs mx
    zero one two three four five six seven eight nine ten eleven twelve thirty oclock 0 1 2 3 4 5 6 7 8 9 10 1st 2nd 3rd
    red orange yellow green light blue purple brown black white grey pink
    left right up down upwards downwards leftwards rightwards facing pointed
    small medium large new first last quarter full waxing waning crescent gibbous
    """.split()  # noqa: SIM905
)
TWIN_NAMES = {"merman": "merperson", "mermaid": "merperson", "princess": "prince"}


def slug(name: str) -> str:
    """ "woman’s boot" -> "womans-boot", as the icon packages spell it."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub("[’.“”]", "", name.lower().replace("ñ", "n"))).strip("-")


def family(name: str) -> str:
    """What stays of a name without "with …" after two words and without the words that only tell twins apart."""
    words = slug(name).split("-")
    if "with" in words[2:]:
        words = words[: words.index("with", 2)]
    return " ".join(TWIN_NAMES.get(word, word) for word in words if word not in TWIN_WORDS)


def held_out(concepts: list[dict]) -> set[tuple[str, str]]:
    """Families in the order of their names' SHA-256, as far as they fit into a fifth of their group's concepts."""
    sizes = Counter((concept["group"], concept["family"]) for concept in concepts)
    left = {group: n // HELD_OUT_SHARE for group, n in Counter(concept["group"] for concept in concepts).items()}
    taken = set()
    for group, name in sorted(sizes, key=lambda key: hashlib.sha256("/".join(key).encode()).hexdigest()):
        if sizes[group, name] <= left[group]:
            left[group] -= sizes[group, name]
            taken.add((group, name))
    return taken


class Icons:
    """One style's drawings: an icon set in Iconify's JSON format."""

    def __init__(self, folder: Path, checksums: tuple[str, str]):
        self.set = json.loads(verified(folder / "icons.json", checksums[0]))
        self.names = (
            json.loads(verified(folder / "chars.json", checksums[1])) or {}
        )  # code points -> name, where the style says

    def find(self, names: list[str]) -> str | None:
        return next((name for name in names if name in self.set["icons"] or name in self.set["aliases"]), None)

    def drawing(self, name: str) -> tuple[str, bool]:
        """The icon that a name, or an alias, stands for, and whether it is mirrored."""
        mirrored = False
        while name in self.set["aliases"]:
            alias = self.set["aliases"][name]
            mirrored ^= alias.get("hFlip", False)
            name = alias["parent"]
        return name, mirrored

    def svg(self, name: str) -> str:
        icon = self.set["icons"][name]
        box = " ".join(str(icon.get(key, self.set.get(key, 0))) for key in ("left", "top", "width", "height"))
        links = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        return f'<svg {links} viewBox="{box}" width="{SIZE}" height="{SIZE}">{icon["body"]}</svg>'


def verified(path: Path, sha256: str) -> bytes:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(
            f"{path.parent.name}/{path.name} is not the file that the emoji are made of: its SHA-256 is not {sha256}"
        )
    return content


def find_concepts(emoji: dict, icons: dict[str, Icons]) -> list[dict]:
    """The emoji that a majority of styles draw, in Unicode's order; `drawings` is style -> (icon, mirrored)."""
    concepts = []
    for character, facts in emoji.items():
        if facts["group"] == "Flags":
            continue
        names = [slug(facts["name"])]  # then what the styles call this character: names have changed over the years
        for points in (character, character.replace("\ufe0f", "")):
            code = "-".join(f"{ord(c):x}" for c in points)
            names += [style.names[code] for style in icons.values() if code in style.names]
        found = {style: icon.find(names) for style, icon in icons.items()}
        drawings = {style: icons[style].drawing(name) for style, name in found.items() if name}
        concepts.append({"emoji": character, "name": facts["name"], "group": facts["group"], "drawings": drawings})

    groups = defaultdict(set)  # a drawing in two groups is a mistaken alias ("cricket", the insect, drawn as the game)
    for concept in concepts:
        for style, (icon, _) in concept["drawings"].items():
            groups[style, icon].add(concept["group"])
    for concept in concepts:
        own = slug(concept["name"])
        concept["family"] = family(concept["name"])
        concept["drawings"] = {
            style: (icon, mirrored)
            for style, (icon, mirrored) in concept["drawings"].items()
            if icon == own or len(groups[style, icon]) == 1
        }
    return [concept for concept in concepts if len(concept["drawings"]) >= MAJORITY]


def render_sheet(task: tuple[Path, list[tuple[str, bool] | None]]) -> Path:
    """Draw each (svg, mirrored), row by row, nothing where a concept has None, and write a lossless WebP."""
    import resvg_py
    from PIL import Image, ImageOps

    path, drawings = task
    # Six bits a colour save 1.5 MB and change no value by more than 2; alpha keeps its eight.
    six_bits = [round(round(value * 63 / 255) * 255 / 63) for value in range(256)] * 3 + list(range(256))
    sheet = Image.new("RGBA", (COLUMNS * SIZE, -(-len(drawings) // COLUMNS) * SIZE))
    for index, drawing in enumerate(drawings):
        if drawing is not None:
            png = resvg_py.svg_to_bytes(svg_string=drawing[0], width=SIZE, height=SIZE, skip_system_fonts=True)
            picture = Image.open(io.BytesIO(png)).convert("RGBA").point(six_bits)
            corner = (index % COLUMNS * SIZE, index // COLUMNS * SIZE)
            sheet.paste(ImageOps.mirror(picture) if drawing[1] else picture, corner)
    sheet.save(path, lossless=True, quality=100, method=6)  # the slowest setting: 25 % smaller, a minute a sheet
    return path


def build(out: Path) -> list[Path]:
    """Write the sheets and tables into `out`; returns the files."""
    with tempfile.TemporaryDirectory() as scratch:
        packages = [
            f"{UNICODE[0]}@{UNICODE[1]}",
            *(f"@iconify-json/{style}@{facts[0]}" for style, facts in STYLES.items()),
        ]
        quiet = ["--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", scratch]
        subprocess.run(["npm", "install", *quiet, *packages], check=True, stdout=subprocess.DEVNULL)
        modules = Path(scratch) / "node_modules"
        emoji = json.loads(verified(modules / UNICODE[0] / "data-by-emoji.json", UNICODE[2]))
        icons = {style: Icons(modules / "@iconify-json" / style, facts[1:3]) for style, facts in STYLES.items()}

    concepts = find_concepts(emoji, icons)
    away = held_out(concepts)
    with open(out / "concepts.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["emoji", "name", "group", "family", "held_out", "missing"])
        for concept in concepts:
            missing = " ".join(style for style in STYLES if style not in concept["drawings"])
            key = (concept["group"], concept["family"])
            table.writerow([concept["emoji"], concept["name"], *key, int(key in away), missing])
    with open(out / "styles.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["style", "held_out", "author", "licence", "address", "package"])
        for style, (version, _, _, *origin) in STYLES.items():
            table.writerow([style, int(style == HELD_OUT_STYLE), *origin, f"@iconify-json/{style} {version}"])

    tasks = []
    for style, icon in icons.items():
        drawings = [concept["drawings"].get(style) for concept in concepts]
        tasks.append((out / f"{style}.webp", [drawing and (icon.svg(drawing[0]), drawing[1]) for drawing in drawings]))
    # threads are enough: the encoder, which takes nearly all the time, lets the others run
    with ThreadPoolExecutor() as pool:
        return [*pool.map(render_sheet, tasks), out / "concepts.csv", out / "styles.csv"]
