"""WindowShiftExplorer: Swin's windows, their cyclic shift, the mask, patch merging (section 3, figures 2 and 4)."""

import torch
import torch.nn.functional as F
import traitlets as t
from PIL import Image, ImageDraw

from vit_edu.images import image_bytes
from vit_edu.layers import cyclic_shift, shift_mask, window_partition
from vit_edu.widgets.look import LARGEST_SIDE, Explorer, source

STEPS = ["grid", "windows", "shift", "attention", "back", "merge"]
MOST_TOKENS = 56  # a side: those of Swin's first stage; more would be drawn smaller than the eye can tell apart
LARGEST_WINDOW = 16
CORNERS = torch.tensor([[[255, 214, 150], [255, 168, 190]], [[176, 228, 170], [160, 196, 255]]]).float()
DARK, LIT, STRANGER = range(3)


class WindowShiftExplorer(Explorer):
    """Step through Swin's shifted windows; choose a token and see whom it may attend to, and why.

    image: laid over the grid, (3, H, W), (1, H, W) or (H, W), uint8 or float in 0..1; without one cells have colours.
    grid_size: (rows, columns) of tokens; where the window does not divide it, it is padded. shift_size: half a window.

    In the next cell read (or set) `explorer.step` ("grid", "windows", "shift", "attention", "back" or "merge"),
    `explorer.selected` (the token, counted from 0, row by row), `explorer.masked` and `explorer.shifted`. The matrix
    shown is `shift_mask(padded, (M, M), (s, s))[window]`. Raises TypeError or ValueError with what is wanted.
    """

    _esm = source("look.js", "window_shift_drawing.js", "window_shift_explorer.js")
    _css = source("look.css", "window_shift_explorer.css")

    pixels = t.Bytes(read_only=True).tag(sync=True)  # uint8, (C, H, W) in torch's order; empty without an image
    shape = t.Tuple(t.Int(), t.Int(), t.Int(), default_value=(0, 0, 0), read_only=True).tag(sync=True)
    grid_size = t.Tuple(t.Int(), t.Int(), read_only=True).tag(sync=True)
    window_size = t.Int(read_only=True).tag(sync=True)
    shift_size = t.Int(read_only=True).tag(sync=True)
    step = t.Enum(STEPS, "grid").tag(sync=True)
    selected = t.Int().tag(sync=True)
    masked = t.Bool(True).tag(sync=True)
    shifted = t.Bool(True).tag(sync=True)

    def __init__(
        self,
        image: torch.Tensor | None = None,
        grid_size: tuple[int, int] = (8, 8),
        window_size: int = 4,
        shift_size: int | None = None,
    ):
        _check(grid_size, window_size, shift_size)
        if image is not None:
            image = image_bytes(image, LARGEST_SIDE)
            self.set_trait("pixels", image.numpy().tobytes())
            self.set_trait("shape", tuple(image.shape))
        self.set_trait("grid_size", tuple(grid_size))
        self.set_trait("window_size", window_size)
        self.set_trait("shift_size", window_size // 2 if shift_size is None else shift_size)
        super().__init__(selected=grid_size[0] // 2 * grid_size[1])  # at the left edge, which goes over to the right

    @t.validate("selected")
    def _valid_selected(self, proposal):
        rows, columns = self.grid_size
        if not 0 <= proposal.value < rows * columns:
            raise t.TraitError(f"selected is {proposal.value}; wanted a token from 0 to {rows * columns - 1}.")
        return proposal.value

    def _shift(self) -> tuple[int, int]:
        """The shift before this step's windows: as in WindowAttention none on a side that one window covers."""
        on = self.shifted and self.step in ("shift", "attention", "back")
        return tuple(self.shift_size if on and side > self.window_size else 0 for side in self.grid_size)

    def _tokens(self, multiple: int) -> torch.Tensor:
        """(1, H', W'): the tokens' numbers on a map whose sides `multiple` divides; -1 is padding."""
        rows, columns = self.grid_size
        tokens = torch.arange(rows * columns).view(1, rows, columns)
        return F.pad(tokens, (0, -columns % multiple, 0, -rows % multiple), value=-1)

    def _window(self) -> tuple[int, torch.Tensor, torch.Tensor]:
        """The chosen token's window: its number, the tokens in it (n,), and which of them the mask hides (n,)."""
        padded, size = self._tokens(self.window_size), (self.window_size, self.window_size)
        tokens = window_partition(cyclic_shift(padded, self._shift()), size)[0]  # (nW, n)
        window, row = (tokens == self.selected).nonzero()[0].tolist()
        strangers = shift_mask(tuple(padded.shape[1:]), size, self._shift())[window, row] < 0
        return window, tokens[window], strangers & any(self._shift())

    def sentence(self) -> str:
        rows, columns = self.grid_size
        row, column = divmod(self.selected, columns)
        who = f"Token {self.selected} (row {row}, column {column})"
        if self.step == "grid":
            tokens = f"{rows * columns:,} tokens"
            return f"{who} of {rows} × {columns}: global attention would let it attend to all {tokens}."
        if self.step == "merge":
            top, left = row // 2 * 2, column // 2 * 2
            four = self._tokens(2)[0, top : top + 2, left : left + 2].T.flatten().tolist()
            names = ", ".join("padding" if token < 0 else str(token) for token in four)
            high, wide = -(-rows // 2), -(-columns // 2)
            return (
                f"Tokens {names} become token {top // 2 * wide + left // 2} of {high} × {wide}: "
                "4C numbers side by side, which a linear layer makes 2C."
            )
        shift, (window, tokens, strangers) = self._shift(), self._window()
        still = "" if any(shift) or self.step == "windows" else f" Nothing is shifted: {self._reason()}."
        if self.step == "shift" and any(shift):
            sides = self._tokens(self.window_size).shape[1:]
            row, column = ((at - s) % side for at, s, side in zip((row, column), shift, sides))
            return f"{who} moves to row {row}, column {column}, into window {window}."
        n, apart = len(tokens), int(strangers.sum())
        reached = tokens if not self.masked else tokens[~strangers]
        padding = int((reached < 0).sum())
        aside = f" ({padding} of them padding)" if padding else ""
        if not apart:
            return f"{who} stands in window {window} and may attend to all {n} tokens{aside}.{still}"
        if self.masked:
            return (
                f"{who} stands in window {window} and may attend to {len(reached)} of {n} tokens{aside}: "
                f"the other {apart} come from the other side of the image."
            )
        return (
            f"{who} stands in window {window} and attends to all {n} tokens{aside}: without the mask also to {apart} "
            "that come from the other side of the image."
        )

    def _reason(self) -> str:
        if not self.shifted:
            return "the shift is off"
        return "one window covers the whole grid" if self.shift_size else "shift_size is 0"

    def _states(self) -> torch.Tensor:
        """(H', W'), at the places where the step shows them: DARK, LIT or STRANGER."""
        if self.step == "merge":
            states = torch.full(self._tokens(2).shape[1:], DARK)
            row, column = (at // 2 * 2 for at in divmod(self.selected, self.grid_size[1]))
            states[row : row + 2, column : column + 2] = LIT
            return states
        if self.step in ("grid", "shift"):
            return torch.full(self._tokens(self.window_size if self.step == "shift" else 1).shape[1:], LIT)
        M, (window, _, strangers) = self.window_size, self._window()
        states = torch.full(self._tokens(M).shape[1:], DARK)
        row, column = (at * M for at in divmod(window, states.shape[1] // M))
        states[row : row + M, column : column + M] = torch.where(strangers, STRANGER, LIT).view(M, M)
        return cyclic_shift(states[None], tuple(-s for s in self._shift()))[0] if self.step == "back" else states

    def picture(self) -> Image.Image:
        states, (rows, columns) = self._states(), self.grid_size
        cell = max(6, 336 // max(states.shape))
        if self.pixels:
            array = torch.frombuffer(bytearray(self.pixels), dtype=torch.uint8).view(self.shape).expand(3, -1, -1)
            whole = Image.fromarray(array.permute(1, 2, 0).contiguous().numpy())
        else:
            corners = CORNERS.permute(2, 0, 1)[None]
            colours = F.interpolate(corners, (rows, columns), mode="bilinear", align_corners=True)
            whole = Image.fromarray(colours[0].permute(1, 2, 0).round().byte().contiguous().numpy())
        whole = whole.resize((columns * cell, rows * cell), Image.BICUBIC if self.pixels else Image.NEAREST)
        multiple = {"grid": 1, "merge": 2}.get(self.step, self.window_size)
        shift = self._shift() if self.step in ("shift", "attention") else (0, 0)
        tokens = cyclic_shift(self._tokens(multiple), shift)[0]
        picture = Image.new("RGB", (tokens.shape[1] * cell + 1, tokens.shape[0] * cell + 1), "#d4d6d9")
        draw = ImageDraw.Draw(picture, "RGBA")
        for y, (line, marks) in enumerate(zip(tokens.tolist(), states.tolist())):
            for x, (token, state) in enumerate(zip(line, marks)):
                corner = (x * cell, y * cell)
                box = (*corner, corner[0] + cell, corner[1] + cell)
                if token >= 0:
                    at = (token % columns * cell, token // columns * cell)
                    picture.paste(whole.crop((*at, at[0] + cell, at[1] + cell)), corner)
                if state == DARK:
                    draw.rectangle(box, fill=(255, 255, 255, 200))
                draw.rectangle(box, outline="#ffffff")
                if state == STRANGER and self.masked:
                    for ends in (box, (box[0], box[3], box[2], box[1])):
                        draw.line(ends, fill="#c4282a")
                elif state == STRANGER:
                    draw.rectangle((box[0] + 2, box[1] + 2, box[2] - 2, box[3] - 2), outline="#c4282a")
                if token >= 0 and cell > 24:
                    draw.text((box[0] + 4, box[1] + 3), str(token), fill="white" if self.pixels else "#1f2328")
        lines = {"grid": 0, "merge": 2}.get(self.step, self.window_size)
        offset = self._shift() if self.step == "back" else (0, 0)
        if lines:
            for y in range(offset[0] % lines, tokens.shape[0] + 1, lines):
                draw.line((0, y * cell, picture.width, y * cell), fill="#1f2328", width=3)
            for x in range(offset[1] % lines, tokens.shape[1] + 1, lines):
                draw.line((x * cell, 0, x * cell, picture.height), fill="#1f2328", width=3)
        y, x = (tokens == self.selected).nonzero()[0].tolist()
        draw.rectangle((x * cell, y * cell, (x + 1) * cell, (y + 1) * cell), outline="#1677ff", width=3)
        return picture


def _whole(number: object, low: int, high: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and low <= number <= high


def _check(grid_size: object, window_size: object, shift_size: object) -> None:
    pair = isinstance(grid_size, tuple | list) and len(grid_size) == 2
    if not pair or not all(_whole(side, 2, MOST_TOKENS) for side in grid_size):
        raise ValueError(
            f"grid_size is {grid_size!r}; wanted (rows, columns), two whole numbers from 2 to {MOST_TOKENS}: "
            "(8, 8) is easy to follow."
        )
    if not _whole(window_size, 2, LARGEST_WINDOW):
        raise ValueError(
            f"window_size is {window_size!r}; wanted a whole number from 2 to {LARGEST_WINDOW}: the paper's is 7."
        )
    if shift_size is not None and not _whole(shift_size, 0, window_size - 1):
        raise ValueError(
            f"shift_size is {shift_size!r} with windows of {window_size}; wanted a whole number from 0 to "
            f"{window_size - 1}: leave it out for half a window, {window_size // 2}."
        )
