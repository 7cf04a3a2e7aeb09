"""Exercises of lesson 01: patches to tokens, and a sequence of them. Source: Dosovitskiy et al. 2021, equation 1."""

import torch
import torch.nn.functional as F
from einops import rearrange

from vit_edu import layers
from vit_edu.exercises.core import Exercise


def images_and_kernels(draw):
    yield draw.small(1, 1, 2, 6), draw.small(2, 1, 2, 2), draw.small(2)
    yield draw.small(1, 1, 4, 4), draw.small(1, 1, 2, 2), draw.small(1)
    yield draw.small(1, 2, 2, 4), draw.small(1, 2, 2, 2), draw.small(1)
    yield draw.normal(2, 3, 6, 9), draw.normal(5, 3, 3, 3), draw.normal(5)
    yield draw.normal(3, 2, 8, 4), draw.normal(6, 2, 2, 2), draw.normal(6)
    yield draw.normal(2, 5, 4, 6), draw.normal(7, 5, 2, 2), draw.normal(7)
    yield draw.normal(2, 3, 4, 8), draw.normal(48, 3, 4, 4), draw.normal(48)


embedding = Exercise(
    "embed_patches",
    lesson="01",
    points=3,
    reference=layers.embed_patches,
    cases=images_and_kernels,
    returns="tokens",
    hints=(
        "A convolution whose step is as long as its kernel never sees a pixel twice. What does it compute from one "
        "patch and one of its D kernels? You have already written the function that lays the patches out.",
        "patches (B, N, C·p·p), the weight (D, C, p, p) as a matrix of D rows, bias (D,) -> tokens (B, N, D). "
        "Both C·p·p must be in the same order.",
        "patches = patchify(images, weight.shape[-1])\nmatrix = weight.flatten(1)    # (D, C*p*p)\n"
        "return patches @ ...",
    ),
    ready_made=(layers.PatchEmbed,),
)


@embedding.recipe
def embed_patches_in_steps(
    images,
    weight,
    bias,
    *,
    cut=lambda images, p: rearrange(images, "b c (y p) (x q) -> b (y x) c p q", p=p, q=p),
    flatten=lambda patches: patches.flatten(2),
    turn=lambda weight: weight,
    matrix=lambda weight: weight.flatten(1).T,
    add=lambda tokens, bias: tokens + bias,
    arrange=lambda tokens: tokens,
):
    patches = flatten(cut(images, weight.shape[-1]))
    return arrange(add(patches @ matrix(turn(weight)), bias))


embedding.mistake(
    "a plain reshape",
    "You cut the image with a reshape, so your patches are strips of pixel rows and not squares. What did patchify "
    "do beside reshaping?",
    cut=lambda images, p: images.reshape(len(images), -1, images.shape[1], p, p),
)
embedding.mistake(
    "column by column",
    "Your tokens are right, their order is not: they go down the image first. Which patch is the second one?",
    cut=lambda images, p: rearrange(images, "b c (y p) (x q) -> b (x y) c p q", p=p, q=p),
)
embedding.mistake(
    "patches flattened channels last",
    "Your patch begins with the three colours of its first pixel, the weight's row with the first colour of all "
    "pixels. In which order do the C·p·p numbers of each stand?",
    flatten=lambda patches: rearrange(patches, "b n c p q -> b n (p q c)"),
)
embedding.mistake(
    "the weight is flattened channels last",
    "The patches lie as (C, p, p), your weight's rows as (p, p, C), so numbers meet that do not belong together. "
    "What is the order of the axes in weight.shape?",
    matrix=lambda weight: rearrange(weight, "d c p q -> (p q c) d"),
)
embedding.mistake(
    "the weight is reshaped where it should be transposed",
    "You wanted a matrix of (C·p·p, D) and reshaped the weight to it. What does a reshape do to the first row of the "
    "weight: does it become a column?",
    matrix=lambda weight: weight.reshape(-1, len(weight)),
)
embedding.mistake(
    "the weight is not transposed",
    "The weight has a row for each of the D outputs, so D rows of C·p·p. Which side of a matrix product must be "
    "C·p·p long? Where D happens to be C·p·p no error stops you.",
    matrix=lambda weight: weight.flatten(1),
)
embedding.mistake(
    "the kernel is flipped",
    "You turned the kernel round, as the convolution of mathematics does. What deep learning calls convolution lays "
    "the kernel on the patch as it is. Which number of it meets the first pixel?",
    turn=lambda weight: weight.flip(2, 3),
)
embedding.mistake(
    "rows and columns of the kernel are swapped",
    "Kernel and patch meet with one of them mirrored along its diagonal. In which order do the two pixel axes stand "
    "in each?",
    turn=lambda weight: weight.mT,
)
embedding.mistake(
    "the bias is missing",
    "Your tokens are all off by the same vector. What does an image that is all zeros give, and what should it give?",
    add=lambda tokens, bias: tokens,
)
embedding.mistake(
    "the bias is subtracted",
    "Your tokens are off by twice the bias. With which sign does it enter?",
    add=lambda tokens, bias: tokens - bias,
)
embedding.mistake(
    "an activation follows",
    "Your tokens have no negative numbers. A patch embedding is a matrix and a bias: what else have you put behind it?",
    add=lambda tokens, bias: (tokens + bias).relu(),
)
embedding.mistake(
    "tokens and channels are swapped",
    "Your result is (B, D, N), the order in which a convolution leaves it. Which axis is the sequence?",
    arrange=lambda tokens: tokens.mT,
)
embedding.mistake(
    "the right shape from the wrong axis",
    "You have (B, D, …) and reshape it to (B, N, D): the shape fits, and every token is a mixture of many. Which "
    "method changes the order of axes?",
    arrange=lambda tokens: tokens.mT.reshape(tokens.shape),
)
embedding.mistake(
    "the mean is taken for the sum",
    "You average over the numbers of a patch. What does a dot product do with its products?",
    lambda images, weight, bias: (
        layers.patchify(images, weight.shape[-1]) @ weight.flatten(1).T / weight[0].numel() + bias
    ),
)
embedding.mistake(
    "the bias is added to the weight",
    "You add the bias to the matrix, and then multiply: it counts once for every number of the patch, times that "
    "number. Where do the brackets belong?",
    lambda images, weight, bias: layers.patchify(images, weight.shape[-1]) @ (weight.flatten(1).T + bias),
)
embedding.mistake(
    "the kernel slides by one pixel",
    "You get a token for every place of the kernel, so that patches overlap. How long is the step (stride) when no "
    "pixel is seen twice?",
    lambda images, weight, bias: F.conv2d(images, weight, bias).flatten(2).mT,
)
embedding.mistake(
    "the grid is kept",
    "Your tokens still lie on a grid, (B, D, rows, columns). A sequence has one axis for all places: which of your "
    "axes are to be joined?",
    lambda images, weight, bias: F.conv2d(images, weight, bias, stride=weight.shape[-1]),
)
embedding.mistake(
    "the grid is kept, channels last",
    "Your tokens still lie on a grid, (B, rows, columns, D). A sequence has one axis for all places: which of your "
    "axes are to be joined?",
    lambda images, weight, bias: F.conv2d(images, weight, bias, stride=weight.shape[-1]).permute(0, 2, 3, 1),
)


@embedding.invariance("what happens in one patch changes one token only")
def one_token_a_patch(mine, draw):
    images, weight, bias = draw.normal(1, 3, 4, 6), draw.normal(5, 3, 2, 2), draw.normal(5)
    changed = images.clone()
    changed[..., 2:, 4:] += 1
    differs = (mine(images, weight, bias) != mine(changed, weight, bias)).any(-1)
    return differs.nonzero().tolist() == [[0, 5]]


def tokens_and_places(draw):
    yield draw.small(1, 2, 2), draw.small(1, 1, 2), draw.small(1, 3, 2)
    yield draw.small(2, 2, 1), draw.small(1, 1, 1), draw.small(1, 3, 1)
    yield draw.normal(2, 6, 4), draw.normal(1, 1, 4), draw.normal(1, 7, 4)
    yield draw.normal(3, 5, 6), draw.normal(1, 1, 6), draw.normal(1, 6, 6)
    yield draw.normal(4, 17, 10), draw.normal(1, 1, 10), draw.normal(1, 18, 10)


placing = Exercise(
    "embed_positions",
    lesson="01",
    points=2,
    reference=layers.embed_positions,
    cases=tokens_and_places,
    returns="sequence",
    hints=(
        "pos_embed has one row more than there are patches. Whose row is it, and where in the sequence does its "
        "owner sit?",
        "cls_token (1, 1, D) -> (B, 1, D), the same for every image; joined with tokens (B, N, D) along the sequence "
        "-> (B, 1+N, D); pos_embed (1, 1+N, D) fits onto that.",
        "first = cls_token.expand(len(tokens), -1, -1)    # (B, 1, D)\nx = torch.cat([..., ...], dim=...)\nreturn ...",
    ),
)


@placing.recipe
def embed_positions_in_steps(
    tokens,
    cls_token,
    pos_embed,
    *,
    join=lambda tokens, cls_token: torch.cat([cls_token.expand(len(tokens), 1, -1), tokens], dim=1),
    add=lambda x, pos_embed: x + pos_embed,
):
    return add(join(tokens, cls_token), pos_embed)


placing.mistake(
    "the class token stands last",
    "The sequence has all its members, but the class token is at the end of it. Equation 1 writes [x_class; x_1; …; "
    "x_N]: whose position does the first patch get in yours?",
    join=lambda tokens, cls_token: torch.cat([tokens, cls_token.expand(len(tokens), 1, -1)], dim=1),
)
placing.mistake(
    "class token without its position",
    "Your patches have their positions, your class token has none. pos_embed has N + 1 rows: whose is the first? "
    "Published code has had this bug.",
    add=lambda x, pos_embed: torch.cat([x[:, :1], x[:, 1:] + pos_embed[:, 1:]], dim=1),
)
placing.mistake(
    "positions first, class token after",
    "Patch 0 has got the class token's row, and the class token none: you add the positions first and put the class "
    "token in front afterwards. What changes when you join first and add after?",
    add=lambda x, pos_embed: torch.cat([x[:, :1], x[:, 1:] + pos_embed[:, :-1]], dim=1),
)
placing.mistake(
    "the class token has the last position",
    "The class token stands in front, but has got the last row of pos_embed, and each patch the row of its "
    "neighbour. In which order are the rows of equation 1?",
    add=lambda x, pos_embed: x + pos_embed.roll(1, dims=1),
)
placing.mistake(
    "only the class token gets a position",
    "The first token has its position, the patches have none. How many rows of pos_embed do you use?",
    add=lambda x, pos_embed: torch.cat([x[:, :1] + pos_embed[:, :1], x[:, 1:]], dim=1),
)
placing.mistake(
    "every token gets the same position",
    "You add one row of pos_embed to all tokens. What is a position good for that everybody shares?",
    add=lambda x, pos_embed: x + pos_embed[:, :1],
)
placing.mistake(
    "only the first image gets positions",
    "The first image of the batch is right, the others have no positions. pos_embed is (1, 1+N, D): what does "
    "broadcasting do with the 1?",
    add=lambda x, pos_embed: torch.cat([x[:1] + pos_embed, x[1:]], dim=0),
)
placing.mistake(
    "the positions are missing",
    "No token knows where it comes from. Shuffle the patches: would anything in your result tell?",
    add=lambda x, pos_embed: x,
)
placing.mistake(
    "positions are added twice",
    "Every token is off by its own position. In how many places of your code is pos_embed added?",
    add=lambda x, pos_embed: x + 2 * pos_embed,
)
placing.mistake(
    "positions are multiplied",
    "You multiply by the positions. What is left of a token whose position is near zero, as all are when training "
    "starts?",
    add=lambda x, pos_embed: x * pos_embed,
)
placing.mistake(
    "positions are appended to the channels",
    "Your tokens are twice as wide: you have put the positions beside them. Equation 1 has a plus sign; what shape "
    "does it keep?",
    add=lambda x, pos_embed: torch.cat([x, pos_embed.expand(len(x), -1, -1)], dim=-1),
)
placing.mistake(
    "the class token takes the place of a patch",
    "Your sequence has a class token and one patch too few. Do you add a token, or write over one?",
    lambda tokens, cls_token, pos_embed: (
        torch.cat([cls_token.expand(len(tokens), 1, -1), tokens[:, 1:]], dim=1) + pos_embed[:, :-1]
    ),
)
placing.mistake(
    "the class token is empty",
    "There is a place for the class token, but zeros on it. Where do the numbers of cls_token enter your result?",
    join=lambda tokens, cls_token: F.pad(tokens, (0, 0, 1, 0)),
)
placing.mistake(
    "class token behind the others, without its position",
    "Your patches are right; then the class token is put behind them, as it is. Equation 1 has it in front, and adds "
    "a position to it as well: what changes when you join first and add after?",
    lambda tokens, cls_token, pos_embed: torch.cat(
        [tokens + pos_embed[:, 1:], cls_token.expand(len(tokens), 1, -1)], dim=1
    ),
)
placing.mistake(
    "the class token is added to every patch",
    "Your sequence is N long and every token carries the class token's numbers. Should it be mixed into the others, "
    "or sit beside them?",
    lambda tokens, cls_token, pos_embed: tokens + cls_token + pos_embed[:, 1:],
)
placing.mistake(
    "the class token is missing",
    "Your sequence is N long. Who is to collect what the patches say, and how many rows has pos_embed?",
    lambda tokens, cls_token, pos_embed: tokens + pos_embed[:, 1:],
)


@placing.invariance("without positions, shuffled patches give the same tokens in another order")
def shuffled_patches(mine, draw):
    tokens, cls_token, order = draw.normal(2, 5, 4), draw.normal(1, 1, 4), torch.tensor([3, 0, 4, 1, 2])
    nowhere = torch.zeros(1, 6, 4, dtype=torch.float64)
    shuffled = mine(tokens[:, order], cls_token, nowhere)
    return torch.allclose(shuffled[:, 1:], mine(tokens, cls_token, nowhere)[:, 1:][:, order])
