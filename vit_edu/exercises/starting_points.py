"""Exercises of lesson 08: what a new model takes over from a published one. Dosovitskiy et al. 2021, section 3.2."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vit_edu import layers
from vit_edu.exercises.core import Draw, Exercise
from vit_edu.exercises.trial import AnswerError


def take_over(published: dict[str, Tensor], own: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What the new model loads: `own` names with the values published under prefix + name; its head stays its own."""
    return {name: x if name.startswith("head.") else published[prefix + name] for name, x in own.items()}


NAMES = "pos_embed patch_embed.proj.weight blocks.0.mlp.fc1.weight norm.weight norm.bias head.weight head.bias"
PARTS = tuple(NAMES.split())


def two_models(draw: Draw):
    """Old classes, new classes, width, prefix; with as many classes as before every shape fits."""
    for old, new, C, prefix in ((2, 3, 2, "encoder."), (3, 3, 2, "encoder."), (4, 3, 5, "model."), (2, 2, 3, "0.")):

        def state(classes, C=C):
            shapes = ((1, 3, C), (C, 1, 2, 2), (C + 1, C), (C,), (C,), (classes, C), (classes,))
            return {name: draw.normal(*shape) for name, shape in zip(PARTS, shapes, strict=True)}

        encoder = {prefix + name: x for name, x in state(old).items()}
        decoder = {f"decoder.{name}": x for name, x in state(old).items()}
        yield encoder | decoder, state(new), prefix


class Values(tuple):
    """What our own answers return in the place of a dict: the values of PARTS, in this order."""


def by_name(mine, published, own, prefix):
    """The learner's dict as a tuple. Raises AnswerError where names are missing or not wanted."""
    for state in (published, own):  # the tensors of a state dict have no graph
        state.update({name: x.detach() for name, x in state.items()})
    given = mine(published, own, prefix)
    if isinstance(given, Values):
        return tuple(given)
    if not isinstance(given, dict):
        raise AnswerError(f"A dict is wanted, one tensor for every name of `own`; yours is a {type(given).__name__}.")
    missing, more = own.keys() - given.keys(), given.keys() - own.keys()
    if missing or more:
        found = [f"{name} is missing" for name in sorted(missing)] + [f"{name} is not wanted" for name in sorted(more)]
        raise AnswerError(f"The names are not those of the new model: {'; '.join(found)}.")
    return tuple(given[name] for name in PARTS)


heads = Exercise(
    "take_over",
    lesson="08",
    points=2,
    reference=take_over,
    cases=two_models,
    returns=PARTS,
    observed=PARTS,
    call=by_name,
    hints=(
        "Walk through the names of the new model, for these are what it will load. For each: whose value is it to get?",
        "A name of the new model, `norm.weight`, is called prefix + `norm.weight` in the file. The two names that "
        "begin with `head.` are the exception.",
        "taken = {}\nfor name in own:\n    if name.startswith(...):\n        taken[name] = own[name]\n    else:\n"
        "        taken[name] = ...\nreturn taken",
    ),
)


def is_head(name, there, here):
    return name.startswith("head.")


@heads.recipe
def take_over_in_steps(
    published,
    own,
    prefix,
    *,
    new=is_head,
    look_up=lambda published, name, prefix: published[prefix + name],
    fresh=lambda x: x,
):
    taken = []
    for name, x in own.items():
        there = look_up(published, name, prefix)
        taken.append(fresh(x) if new(name, there, x) else there)
    return Values(taken)


heads.mistake(
    "the old head is taken along",
    "All of your values are the published ones, the head's too. What do its rows stand for, and how many of them do "
    "you need?",
    new=lambda name, there, here: False,
)
heads.mistake(
    "the old head is taken wherever it fits",
    "You go by the shapes. With as many classes as before the old head fits, and answers the old question: row 3 was "
    "some other thing. What tells you that a part is the head?",
    new=lambda name, there, here: there.shape != here.shape,
)
heads.mistake(
    "nothing is found, and nobody says so",
    "Your model keeps all its own random values: not a single name was found, and yours passes over that in silence, "
    "as strict=False does. How is norm.weight called in the file?",
    lambda published, own, prefix: Values(published.get(name, x) for name, x in own.items()),
)
heads.mistake(
    "only the head is taken over",
    "It is the other way round: the body knows how to see, the head only knows the old classes. Which of them do you "
    "want to keep?",
    new=lambda name, there, here: not is_head(name, there, here),
)
heads.mistake(
    "the last norm is new as well",
    "Your norm begins anew. It has learned which size of features the blocks give: does it know anything about "
    "classes?",
    new=lambda name, there, here: name.startswith(("head.", "norm.")),
)
heads.mistake(
    "the patch embedding is new as well",
    "Your first layer begins at random, so that every block behind it reads tokens that it has never seen. What in it "
    "depends on the classes?",
    new=lambda name, there, here: name.startswith(("head.", "patch_embed.")),
)
heads.mistake(
    "the positions are new as well",
    "Your positions begin at random. The blocks have learned to read the published ones: of their size the next "
    "exercise takes care.",
    new=lambda name, there, here: name.startswith(("head.", "pos_embed")),
)
heads.mistake(
    "only the blocks are taken over",
    "Positions, patch embedding and the last norm belong to the body too. What are blocks worth behind a random first "
    "layer?",
    new=lambda name, there, here: not name.startswith("blocks."),
)
heads.mistake(
    "the head's bias is the old one",
    "You replace head.weight alone. What is the bias: one number for what?",
    new=lambda name, there, here: name == "head.weight",
)
heads.mistake(
    "the head begins at nought",
    "A head of zeros is no bad start (the ViT paper begins so), but another than asked for: `own` has its values.",
    fresh=torch.zeros_like,
)
heads.mistake(
    "the decoder's values under the encoder's names",
    "You cut off whatever stands before the first dot. Then encoder.norm.weight and decoder.norm.weight get the same "
    "name, and the later one wins. Which of them do you want?",
    look_up=lambda published, name, prefix: published["decoder." + name],
)


@heads.invariance("a file in which a part of the body is missing raises an error and does not pass in silence")
def strict(mine, draw):
    published, own, prefix = next(two_models(draw))
    del published[f"{prefix}norm.weight"]
    try:
        mine(published, own, prefix)
    except AnswerError:  # the name is left out, in silence
        return False
    except Exception:
        return True
    return False


def position_cases(draw: Draw):
    """(1, 1+N, C), the grid they are for, the new one: larger, smaller, turned, one axis alone, the same."""
    for grid, new, C in (
        ((2, 2), (2, 3), 1),
        ((2, 3), (3, 4), 2),
        ((4, 5), (3, 2), 3),
        ((6, 8), (4, 3), 2),
        ((3, 6), (6, 3), 2),
        ((11, 6), (15, 10), 4),  # 11 * (15 / 11) is a hair below 15
        ((8, 8), (7, 7), 5),
        ((3, 4), (3, 4), 3),
    ):
        yield draw.normal(1, 1 + grid[0] * grid[1], C).float(), grid, new  # timm's own way computes in float32


resizing = Exercise(
    "resize_positions",
    lesson="08",
    points=3,
    reference=layers.resize_positions,
    cases=position_cases,
    returns="positions",
    hints=(
        "The patches' positions are a picture: rows × columns pixels, C channels. A picture can be resized. What about "
        "the class token: where in the picture does it lie?",
        "(1, 1+N, C) → the first token (1, 1, C) aside; the others (1, N, C) → (1, rows, columns, C) → (1, C, rows, "
        "columns), which is what F.interpolate wants. Then all the way back, and the class token in front.",
        "cls, patches = pos_embed[:, :1], pos_embed[:, 1:]\npatches = patches.reshape(1, rows, columns, "
        "C).permute(...)\n"
        "patches = F.interpolate(patches, new_grid_size, mode=..., antialias=...)\n"
        "patches = patches.flatten(2).transpose(1, 2)\nreturn torch.cat([...], dim=1)",
    ),
)


def image_of(patches, grid):
    return patches.transpose(1, 2).unflatten(2, grid)  # (1, N, C) -> (1, C, rows, columns)


def interpolated(image, new, **words):
    return F.interpolate(image, new, **({"mode": "bicubic", "antialias": True} | words))


@resizing.recipe
def resize_positions_in_steps(
    pos_embed,
    grid_size,
    new_grid_size,
    *,
    picture=image_of,
    old=lambda grid: tuple(grid),
    new=lambda grid: tuple(grid),
    resize=interpolated,
    sequence=lambda image: image.flatten(2).transpose(1, 2),
    join=lambda cls, patches: torch.cat([cls, patches], dim=1),
):
    cls, patches = pos_embed[:, :1], pos_embed[:, 1:]
    image = picture(patches, old(grid_size))
    return join(cls, sequence(resize(image, new(new_grid_size))))


def as_a_row(pos_embed, grid_size, new_grid_size):
    N = 1 + new_grid_size[0] * new_grid_size[1]
    return F.interpolate(pos_embed.transpose(1, 2), N, mode="linear").transpose(1, 2)


def cut_or_padded(pos_embed, grid_size, new_grid_size):
    N = 1 + new_grid_size[0] * new_grid_size[1]
    return F.pad(pos_embed[:, :N], (0, 0, 0, max(0, N - pos_embed.shape[1])))


def a_tenth_more(image, new):
    """DINO's published code: so that rounding down never loses a row."""
    factor = [(side + 0.1) / was for side, was in zip(new, image.shape[2:])]
    return F.interpolate(image, scale_factor=factor, mode="bicubic")


resizing.mistake(
    "not resized",
    "You give the positions back as they were. How many tokens has the model for the new grid?",
    lambda pos_embed, grid_size, new_grid_size: pos_embed.clone(),
)
resizing.mistake(
    "cut off, or filled up with zeros",
    "You take the first N positions as they stand. With fewer columns the second row then begins in the middle of the "
    "first. Which place in the picture does each position belong to?",
    cut_or_padded,
)
resizing.mistake(
    "interpolated as one long row",
    "You stretch the sequence, so that the end of one row melts into the beginning of the next, and the class token "
    "into the first patch. Which axes do the patches really have?",
    as_a_row,
)
resizing.mistake(
    "the class token is lost",
    "Your result is one token short. The class token has no place in the grid and is not resized, but it must come "
    "back.",
    join=lambda cls, patches: patches,
)
resizing.mistake(
    "the class token comes last",
    "Your class token stands behind the patches. Where does the model look for it?",
    join=lambda cls, patches: torch.cat([patches, cls], dim=1),
)
resizing.mistake(
    "the class token's position is zeroed",
    "Your class token has lost its position. It has one of its own that no change of the grid touches.",
    join=lambda cls, patches: torch.cat([torch.zeros_like(cls), patches], dim=1),
)
resizing.mistake(
    "channels read as places",
    "You reshape (N, C) straight to (C, rows, columns), which moves no number: channels and places are mixed up. "
    "First (rows, columns, C); which call then brings C to the front?",
    picture=lambda patches, grid: patches.reshape(1, -1, *grid),
)
resizing.mistake(
    "channels read as places on the way back",
    "You resize well, and then reshape (C, rows, columns) straight to (N, C). Which axis must move first?",
    sequence=lambda image: image.reshape(1, -1, image.shape[1]),
)
resizing.mistake(
    "rows and columns of the old grid exchanged",
    "You read the old grid as (columns, rows). On a square one nobody would notice. How many patches stand in a row?",
    old=lambda grid: tuple(grid[::-1]),
)
resizing.mistake(
    "rows and columns of the new grid exchanged",
    "Your new grid lies on its side. F.interpolate wants (height, width): which of them is the number of rows?",
    new=lambda grid: tuple(grid[::-1]),
)
resizing.mistake(
    "no antialias",
    "Right where the grid grows. Where it shrinks, bicubic without antialias looks at four neighbours and leaves "
    "others out. transformers and MAE do so; asked for is timm's way.",
    resize=lambda image, new: interpolated(image, new, antialias=False),
)
resizing.mistake(
    "bilinear",
    "You draw straight lines between neighbours. Which mode fits a smooth curve through them?",
    resize=lambda image, new: interpolated(image, new, mode="bilinear"),
)
resizing.mistake(
    "bilinear without antialias",
    "Another mode is asked for, and one that smooths where the grid shrinks: look at both words of F.interpolate.",
    resize=lambda image, new: interpolated(image, new, mode="bilinear", antialias=False),
)
resizing.mistake(
    "the nearest one is copied",
    "Your new positions are copies of old ones, so that neighbours cannot be told apart. F.interpolate does that "
    "unless you name a mode.",
    resize=lambda image, new: F.interpolate(image, new),
)
resizing.mistake(
    "the corners are held fast",
    "You align the corners, as torchvision does. timm looks at patches as areas, whose borders are aligned.",
    resize=lambda image, new: interpolated(image, new, align_corners=True, antialias=False),
)
resizing.mistake(
    "a tenth of a patch too much",
    "You scale by a factor with 0.1 added, as DINO's code does against rounding; everything is shifted a little. "
    "F.interpolate takes the size itself.",
    resize=a_tenth_more,
)


@resizing.invariance("for the same grid nothing changes")
def same_grid(mine, draw):
    positions = draw.normal(1, 13, 4)
    return torch.allclose(mine(positions, (3, 4), (3, 4)), positions, atol=1e-5)


@resizing.invariance("positions that are the same everywhere stay so")
def constant(mine, draw):
    positions = draw.normal(1, 1, 4)
    return torch.allclose(mine(positions.expand(1, 31, 4), (5, 6), (3, 8)), positions.expand(1, 25, 4), atol=1e-5)
