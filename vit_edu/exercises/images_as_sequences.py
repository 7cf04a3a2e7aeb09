"""Exercises of lesson 01: cut an image into patches and join them again; the others are in embedding and positions."""

import torch
import torch.nn.functional as F
from einops import rearrange

from vit_edu import layers
from vit_edu.exercises.core import Exercise


def numbered(*shape):
    """0, 1, 2, ... in the shape: in a report every number then says which pixel it is."""
    return torch.arange(float(torch.Size(shape).numel()), dtype=torch.float64).reshape(shape)


def images_to_cut(draw):
    yield numbered(1, 1, 4, 4), 2
    yield numbered(1, 2, 2, 4), 2
    yield numbered(1, 1, 4, 6), 2
    yield draw.normal(2, 3, 6, 9), 3
    yield draw.normal(3, 2, 8, 4), 2
    yield draw.normal(2, 3, 4, 8), 4
    yield draw.normal(2, 3, 2, 3), 1
    yield draw.normal(2, 5, 6, 4), 2


cutting = Exercise(
    "patchify",
    lesson="01",
    points=3,
    reference=layers.patchify,
    cases=images_to_cut,
    returns="patches",
    hints=(
        "Which pixels are neighbours in memory, and which should be neighbours in a patch? reshape alone never "
        "changes the order of the numbers; what does?",
        "(B, C, H, W)\n  -> (B, C, rows, p, columns, p)    split H and W, nothing moves\n"
        "  -> (B, rows, columns, C, p, p)    now the axes change places\n  -> (B, rows * columns, C * p * p)",
        "B, C, H, W = images.shape\nx = images.reshape(B, C, H // p, p, W // p, p)\nx = x.permute(0, 2, ..., 5)\n"
        "return x.reshape(B, ..., ...)",
    ),
)


@cutting.recipe
def patchify_in_steps(
    images,
    patch_size,
    *,
    split=lambda images, p: rearrange(images, "b c (y p) (x q) -> b c y p x q", p=p, q=p),
    sequence=lambda x: rearrange(x, "b c y p x q -> b (y x) c p q"),
    turn=lambda x: x,
    flatten=lambda x: x.flatten(2),
):
    return flatten(turn(sequence(split(images, patch_size))))


cutting.mistake(
    "a plain reshape",
    "reshape reads the numbers in the order in which they lie in memory: a whole row of pixels comes before the next "
    "row. Look at your first patch: are its pixels a square in the image, or a strip?",
    lambda images, p: images.reshape(len(images), -1, images.shape[1] * p * p),
)


def runs_of_memory(images, p):
    B, C, H, W = images.shape
    return images.reshape(B, C, H // p, W // p, p, p).transpose(3, 4)


cutting.mistake(
    "the axes are split the wrong way round",
    "You cut H into pieces, but the pieces lie elsewhere than you think. Row 5 of an image with patches of 2 is row "
    "1 of patch row 2: which of the two comes first when one axis is split into (rows, p)?",
    split=runs_of_memory,
)
cutting.mistake(
    "every patch takes pixels from all over the image",
    "Your patches are coarse copies of the whole image: you take every second, third, … pixel. Is patch_size the "
    "number of pixels in a patch, or the step from one to the next? In (rows p) the second factor moves fastest.",
    split=lambda images, p: rearrange(images, "b c (p y) (q x) -> b c y p x q", p=p, q=p),
)
cutting.mistake(
    "height and width are mixed up",
    "You split the height into as many parts as the width has patches. On a square image nobody would notice. Which "
    "axis of (B, C, H, W) is the height?",
    split=lambda images, p: images.reshape(*images.shape[:2], images.shape[3] // p, p, images.shape[2] // p, p),
)
cutting.mistake(
    "column by column",
    "Your patches are right, their order is not: your sequence goes down first. In which order do you read a page?",
    sequence=lambda x: rearrange(x, "b c y p x q -> b (x y) c p q"),
)


cutting.mistake(
    "each channel is a patch of its own",
    "Your sequence is C times too long, and its tokens C times too short. Should a token know all colours of its "
    "patch?",
    lambda images, p: rearrange(images, "b c (y p) (x q) -> b (c y x) (p q)", p=p, q=p),
)
cutting.mistake(
    "the channels are left in front",
    "All patches of the first colour come before those of the second, so that your tokens mix patches and colours: "
    "the channel axis still stands before the grid when you flatten. Where must it go first?",
    lambda images, p: rearrange(images, "b c (y p) (x q) -> b (c y x p q)", p=p, q=p).reshape(
        len(images), -1, images.shape[1] * p * p
    ),
)
cutting.mistake(
    "pixels are turned inside the patch",
    "Every patch is mirrored along its diagonal: its rows have become columns. In which order do the two pixel axes "
    "stand in your last reshape?",
    turn=lambda x: x.transpose(-1, -2),
)
cutting.mistake(
    "the channels stand last",
    "Your patches are flattened as (p, p, C), pixel by pixel. That is how MAE orders its targets, but a "
    "convolution's weight is (C, p, p), and these patches are to meet one. Which axis comes first?",
    flatten=lambda x: rearrange(x, "b n c p q -> b n (p q c)"),
)
cutting.mistake(
    "the channels stand between rows and columns",
    "Your patches are flattened as (p, C, p). Write down where each of your six axes goes: which one stands before the "
    "two pixel axes?",
    flatten=lambda x: rearrange(x, "b n c p q -> b n (p c q)"),
)
cutting.mistake(
    "patches are not flattened",
    "The numbers are right, but every patch still has the shape of an image. A token is one vector: how long is it?",
    flatten=lambda x: x,
)
cutting.mistake(
    "tokens and their numbers are swapped",
    "Your result is (B, C·p·p, N): torch's unfold gives it in this order. Which axis does a sequence run along?",
    flatten=lambda x: x.flatten(2).mT,
)


cutting.mistake(
    "the right shape from the wrong axis",
    "You have N and C·p·p swapped, and reshape has hidden it. A reshape is no transpose: which method changes the "
    "order of axes?",
    flatten=lambda x: x.flatten(2).mT.reshape(x.flatten(2).shape),
)


cutting.mistake(
    "patches overlap",
    "Your patches start at every pixel. What is the step from one patch to the next when none shares a pixel?",
    lambda images, p: F.unfold(images, p).mT,
)


cutting.mistake(
    "images of a batch are joined",
    "All images have become one long sequence. What should (B, …) be at the end, when B images come in?",
    lambda images, p: rearrange(images, "b c (y p) (x q) -> (b y x) (c p q)", p=p, q=p),
)
cutting.mistake(
    "patches are put together along the batch",
    "You have joined the patches along the axis of the images. torch.cat makes an axis longer, torch.stack makes a "
    "new one: which of them do you need, and which dim?",
    lambda images, p: rearrange(images, "b c (y p) (x q) -> (y x b) (c p q)", p=p, q=p),
)
cutting.mistake(
    "only the first image is cut",
    "The axis of the images is gone: you have cut the first one only. What should (B, …) be at the end, when B "
    "images come in?",
    lambda images, p: layers.patchify(images, p)[0],
)


@cutting.invariance("every image of a batch is cut on its own")
def each_on_its_own(mine, draw):
    images = draw.normal(3, 2, 4, 6)
    return torch.equal(mine(images, 2)[1:2], mine(images[1:2], 2))


def patches_to_join(draw):
    yield numbered(1, 4, 4), 2, (1, 4)
    yield numbered(1, 4, 4), 2, (2, 2)
    yield numbered(1, 4, 8), 2, (4, 1)
    yield draw.normal(2, 9, 12), 2, (3, 3)
    yield draw.normal(2, 16, 27), 3, (2, 8)
    yield draw.normal(3, 4, 3), 1, (2, 2)
    yield draw.normal(2, 6, 20), 2, (2, 3)


joining = Exercise(
    "unpatchify",
    lesson="01",
    points=2,
    reference=layers.unpatchify,
    cases=patches_to_join,
    returns="images",
    hints=(
        "It is your patchify read backwards. Which of its steps came last, and what undoes a permute?",
        "(B, N, C * p * p)\n  -> (B, rows, columns, C, p, p)    nothing moves; C is what is left over\n"
        "  -> (B, C, rows, p, columns, p)\n  -> (B, C, rows * p, columns * p)",
        "rows, columns = grid_size\nC = patches.shape[-1] // patch_size**2\n"
        "x = patches.reshape(B, rows, columns, C, p, p)\nx = x.permute(0, 3, 1, ...)\nreturn x.reshape(...)",
    ),
)


@joining.recipe
def unpatchify_in_steps(
    patches,
    patch_size,
    grid_size,
    *,
    grid=lambda n, grid_size: grid_size,
    lay_out=lambda x, y, x_: rearrange(x, "b (y x) d -> b y x d", y=y, x=x_),
    read=lambda x, p: rearrange(x, "b y x (c p q) -> b c y x p q", p=p, q=p),
    turn=lambda x: x,
    join=lambda x: rearrange(x, "b c y x p q -> b c (y p) (x q)"),
):
    x = lay_out(patches, *grid(patches.shape[1], grid_size))
    return join(turn(read(x, patch_size)))


joining.mistake(
    "a plain reshape",
    "reshape lays the numbers down in the order in which they come: the whole first patch becomes the beginning of "
    "the first row of pixels. Where in the image does the second row of that patch belong?",
    lambda patches, p, grid_size: patches.reshape(len(patches), -1, grid_size[0] * p, grid_size[1] * p),
)
joining.mistake(
    "a square grid is assumed",
    "You take the root of N for the number of rows. An image may be wider than it is high: what is grid_size for?",
    grid=lambda n, grid_size: (int(n**0.5), int(n**0.5)),
)
joining.mistake(
    "rows and columns are mixed up",
    "Your image has as many columns of patches as it should have rows. grid_size is (rows, columns): which of them "
    "belongs to H?",
    grid=lambda n, grid_size: grid_size[::-1],
)
joining.mistake(
    "column by column",
    "Every patch is right, but they lie in the wrong places: you lay them down in columns. In which order did "
    "patchify take them?",
    lay_out=lambda x, rows, columns: rearrange(x, "b (x y) d -> b y x d", y=rows, x=columns),
)
joining.mistake(
    "patches are read channels last",
    "You read a patch as (p, p, C), as MAE's targets lie. These patches come from patchify: which axis of them moves "
    "slowest?",
    read=lambda x, p: rearrange(x, "b y x (p q c) -> b c y x p q", p=p, q=p),
)
joining.mistake(
    "patches are read with the channels in the middle",
    "You read a patch as (p, C, p). patchify flattened it as (C, p, p): in what order does your first reshape split "
    "the last axis?",
    read=lambda x, p: rearrange(x, "b y x (p c q) -> b c y x p q", p=p, q=p),
)
joining.mistake(
    "pixels are turned inside the patch",
    "Every patch lies in its place but is mirrored along its diagonal. Which of the two p axes belongs to the height?",
    turn=lambda x: x.transpose(-1, -2),
)
joining.mistake(
    "the axes are not interleaved",
    "Height is made of rows of patches and of rows inside a patch, in this order: (rows, p). You have (p, rows), so "
    "that neighbouring pixels fly apart. Which of the two must move faster?",
    join=lambda x: rearrange(x, "b c y x p q -> b c (p y) (q x)"),
)


joining.mistake(
    "the image lies on its side",
    "Rows of patches run along the width in yours. Which axis of (B, C, H, W) should the rows make?",
    join=lambda x: rearrange(x, "b c y x p q -> b c (x q) (y p)"),
)
joining.mistake(
    "the channels stand last",
    "The picture is right, as (B, H, W, C): the order of files and matplotlib. What is PyTorch's?",
    join=lambda x: rearrange(x, "b c y x p q -> b (y p) (x q) c"),
)
joining.mistake(
    "reshape without permute",
    "The shape is right because the number of elements is. Before (rows, p) can be joined to H the two axes must "
    "stand side by side: do they?",
    join=lambda x: x.reshape(*x.shape[:2], x.shape[2] * x.shape[4], -1),
)
joining.mistake(
    "the patches are stacked up",
    "You have built a tower, one patch wide. How many patches should stand side by side?",
    join=lambda x: rearrange(x, "b c y x p q -> b c (y x p) q"),
)


@joining.invariance("unpatchify undoes patchify")
def there_and_back(mine, draw):
    images = draw.normal(2, 3, 4, 6)
    return torch.equal(mine(layers.patchify(images, 2), 2, (2, 3)), images)
