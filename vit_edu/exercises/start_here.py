"""The exercise of lesson 00: how many patches are in a photo."""

from vit_edu.exercises.core import Exercise


def count_patches(height: int, width: int, patch_size: int) -> int:
    """How many whole patches of patch_size x patch_size lie side by side in height x width pixels."""
    return (height // patch_size) * (width // patch_size)


def sizes(draw):
    yield 4, 6, 2
    yield 6, 4, 2
    yield 4, 7, 2
    yield 5, 8, 3  # a rest at both edges
    yield 3, 8, 4  # smaller than a patch
    yield 5, 7, 1
    yield 224, 224, 16
    for _ in range(12):
        patch_size = draw.integer(2, 16)
        yield draw.integer(2, 9) * patch_size, draw.integer(10, 20) * patch_size + draw.integer(0, 1), patch_size


counting = Exercise(
    "count_patches",
    lesson="00",
    points=1,
    reference=count_patches,
    cases=sizes,
    returns="number of patches",
    hints=(
        "Draw an image of 4 × 6 pixels on paper and cut it into squares of 2 × 2. How many squares stand in a row? "
        "How many rows are there?",
        "height, width and patch_size are whole numbers, and so is the result. An image of 5 × 8 pixels with patches "
        "of 3 has 1 row of 2 patches; the pixels left over at the edges belong to no patch.",
        "rows = height // patch_size\ncolumns = ...\nreturn ...",
    ),
)


@counting.recipe
def count_patches_in_steps(
    height,
    width,
    patch_size,
    *,
    along=lambda length, patch_size: length // patch_size,
    total=lambda rows, columns: rows * columns,
):
    return total(along(height, patch_size), along(width, patch_size))


counting.mistake(
    "a square is assumed",
    "Your count is right for square images only. How many patches stand side by side when the image is wider than it "
    "is high?",
    total=lambda rows, columns: rows**2,
)
counting.mistake(
    "a square is assumed, from the width",
    "Your count is right for square images only. How many rows are there when the image is higher than it is wide?",
    total=lambda rows, columns: columns**2,
)
counting.mistake(
    "the columns are forgotten",
    "You have counted the rows. How many patches are there in each of them?",
    total=lambda rows, columns: rows,
)
counting.mistake(
    "the rows are forgotten",
    "You have counted the patches of one row. How many rows are there?",
    total=lambda rows, columns: columns,
)
counting.mistake(
    "rows and columns are added",
    "3 rows of 4 patches: lay them out and count. Are there 7?",
    total=lambda rows, columns: rows + columns,
)
counting.mistake(
    "every colour is counted",
    "Three times too many. A patch is cut out of all three colours at once: how many tokens does it give?",
    total=lambda rows, columns: 3 * rows * columns,
)
counting.mistake(
    "the class token is counted",
    "One too many. A model may add a token of its own to the sequence, but is it a patch of the image?",
    total=lambda rows, columns: rows * columns + 1,
)
counting.mistake(
    "a part of a patch is counted",
    "Can there be half a patch, or 49.0 of them? Python has two signs for division; which of them gives whole numbers?",
    along=lambda length, patch_size: length / patch_size,
)
counting.mistake(
    "the rest at the edge is counted",
    "You round up, so a strip of pixels that is too narrow becomes a patch. Does it hold patch_size × patch_size "
    "pixels?",
    along=lambda length, patch_size: -(-length // patch_size),
)
counting.mistake(
    "rounded to the nearest",
    "You round, and sometimes that is up: 5 / 3 becomes 2. Do two patches of 3 fit into 5 pixels?",
    along=lambda length, patch_size: round(length / patch_size),
)
counting.mistake(
    "one too many on each side",
    "You add one to the rows and to the columns. Two cuts make three pieces, but what have you counted with //: cuts "
    "or pieces?",
    along=lambda length, patch_size: length // patch_size + 1,
)
counting.mistake(
    "patches overlap",
    "You slide the patch on by one pixel at a time. How far is it from one patch to its neighbour when no pixel is "
    "used twice?",
    along=lambda length, patch_size: length - patch_size + 1,
)


def area_by_side(height, width, patch_size):
    return height * width // patch_size


counting.mistake(
    "a patch is taken for a line of pixels",
    "You divide the number of pixels by patch_size. How many pixels does one patch hold, when it is patch_size wide "
    "and as high?",
    area_by_side,
)


def area_by_area(height, width, patch_size):
    return height * width // patch_size**2


counting.mistake(
    "the rests are glued together",
    "You divide the number of all pixels by the number in a patch. Image 5 × 8, patch 3: where would the fourth "
    "patch lie?",
    area_by_area,
)


def no_division(height, width, patch_size):
    return height * width


counting.mistake(
    "brackets are missing",
    "Python reads height // patch_size * width // patch_size from left to right, so that the last division takes the "
    "whole product. Where do brackets belong?",
    lambda height, width, patch_size: height // patch_size * width // patch_size,
)
counting.mistake(
    "the number of one photo",
    "49 is right for one size of photo and one of patches. The check asks for others too: which three numbers does "
    "your answer not look at?",
    lambda height, width, patch_size: 49,
)
counting.mistake(
    "pixels are counted", "height × width is the number of pixels. How many patches fit along each side?", no_division
)


@counting.invariance("an image turned on its side has as many patches")
def turned(mine, draw):
    height, width, patch_size = draw.integer(20, 90), draw.integer(20, 90), draw.integer(2, 9)
    return mine(height, width, patch_size) == mine(width, height, patch_size)
