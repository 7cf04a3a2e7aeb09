"""Exercises of lesson 04: what a ViT weighs and what it costs. See table 1 of Dosovitskiy et al. 2021."""

from vit_edu.exercises.core import Draw, Exercise


def count_parameters(
    img_size: int, patch_size: int, in_chans: int, embed_dim: int, depth: int, mlp_ratio: int, num_classes: int
) -> int:
    """All learned numbers of a ViT: matrices, biases, norms, class token, positions."""
    N, D = (img_size // patch_size) ** 2, embed_dim
    embedding = patch_size**2 * in_chans * D + D + D + (1 + N) * D  # proj, its bias, class token, positions
    attention = D * 3 * D + 3 * D + D * D + D  # qkv and proj
    mlp = D * mlp_ratio * D + mlp_ratio * D + mlp_ratio * D * D + D  # fc1 and fc2
    return embedding + depth * (attention + mlp + 4 * D) + 2 * D + D * num_classes + num_classes


def multiply_adds(
    img_size: int, patch_size: int, in_chans: int, embed_dim: int, depth: int, mlp_ratio: int, num_classes: int
) -> int:
    """Multiply-adds of one picture's way through a ViT: matrix products only."""
    N, D = (img_size // patch_size) ** 2, embed_dim
    T = N + 1
    block = 4 * T * D**2 + 2 * T**2 * D + 2 * T * D * mlp_ratio * D
    return N * patch_size**2 * in_chans * D + depth * block + D * num_classes


def sizes(draw: Draw):
    yield 2, 1, 1, 2, 1, 2, 3
    yield 6, 2, 3, 4, 2, 3, 5
    yield 224, 16, 3, 768, 12, 4, 1000
    for _ in range(4):
        p = draw.integer(2, 16)
        others = draw.integer(2, 9), draw.integer(5, 200), draw.integer(2, 12), draw.integer(2, 5), draw.integer(2, 99)
        yield draw.integer(3, 20) * p, p, *others


weight = Exercise(
    "count_parameters",
    lesson="04",
    points=3,
    reference=count_parameters,
    cases=sizes,
    returns="count",
    hints=(
        "Go through the list of names and shapes of a model, from top to bottom. A matrix (in, out) has in · out "
        "numbers and its bias out; a norm has a weight and a bias of D each.",
        "N = (img_size / patch_size)²\npatch embedding: p·p·C·D + D\nclass token: D, positions: (1+N)·D\n"
        "a block: qkv, proj, fc1, fc2 with biases, two norms\nthen one norm more, and the head",
        "embedding = patch_size**2 * in_chans * D + D + ...\nattention = D * 3 * D + 3 * D + ...\n"
        "mlp = D * mlp_ratio * D + ...\nreturn embedding + depth * (attention + mlp + ...) + ...",
    ),
)


@weight.recipe
def parameters_in_steps(
    img_size,
    patch_size,
    in_chans,
    embed_dim,
    depth,
    mlp_ratio,
    num_classes,
    *,
    patches=lambda size, p: (size // p) ** 2,
    matrix=lambda p, C, D: p * p * C * D,
    positions=lambda N, D: N * D,
    vectors=lambda D: 5 * D,  # bias of the patch embedding, class token, its position; weight and bias of the last norm
    qkv=lambda D: 3 * D * D + 3 * D,
    proj=lambda D: D * D + D,
    mlp=lambda D, wide: 2 * D * wide + wide + D,
    norms=lambda D: 4 * D,
    blocks=lambda depth: depth,
    head=lambda D, classes: D * classes + classes,
):
    N, D = patches(img_size, patch_size), embed_dim
    outside = matrix(patch_size, in_chans, D) + positions(N, D) + vectors(D) + head(D, num_classes)
    block = qkv(D) + proj(D) + mlp(D, mlp_ratio * D) + norms(D)
    return outside + blocks(depth) * block


weight.mistake(
    "one vector of D is missing",
    "You are D short, once in the whole model. Three vectors are easily forgotten: the class token, its position, the "
    "bias of the patch embedding. Which of them have you counted?",
    vectors=lambda D: 4 * D,
)
weight.mistake(
    "two vectors of D are missing",
    "You are 2·D short, once in the whole model. Have you counted the norm behind the last block, with its weight and "
    "its bias? If so: the class token, its position, the bias of the patch embedding?",
    vectors=lambda D: 3 * D,
)
weight.mistake(
    "no positions",
    "The table of positions is missing. It is learned, so it counts: how many rows has it?",
    positions=lambda N, D: 0,
    vectors=lambda D: 4 * D,
)
weight.mistake(
    "one side of the grid",
    "You count img_size / patch_size patches. That is one row of them: how many rows are there?",
    patches=lambda size, p: size // p,
)
weight.mistake(
    "pixels for patches",
    "Your table of positions has a row for each pixel. How many patches does a picture have?",
    patches=lambda size, p: size**2,
)
weight.mistake(
    "one number for a pixel",
    "Your patch embedding has p·p inputs. How many numbers has a pixel in colour?",
    matrix=lambda p, C, D: p * p * D,
)
weight.mistake(
    "an embedding matrix for every patch",
    "You count the patch embedding once for each patch. It is one matrix that all patches share.",
    lambda img_size, patch_size, in_chans, embed_dim, *more: (
        count_parameters(img_size, patch_size, in_chans, embed_dim, *more)
        + ((img_size // patch_size) ** 2 - 1) * patch_size**2 * in_chans * embed_dim
    ),
)
weight.mistake(
    "qkv without bias",
    "You are short in every block: q, k and v have biases in a ViT. How many numbers are they together?",
    qkv=lambda D: 3 * D * D,
)
weight.mistake(
    "qkv counted as one matrix",
    "q, k and v are one layer with how many outputs?",
    qkv=lambda D: D * D + D,
)
weight.mistake(
    "no output projection",
    "Behind the heads comes a layer that lets them talk to each other. What is it called in the list?",
    proj=lambda D: 0,
)
weight.mistake(
    "a bias of D is missing in every block",
    "You are short by D in every block. proj and fc2 have a bias of D each: have you counted both?",
    proj=lambda D: D * D,
)
weight.mistake(
    "one layer of the MLP",
    "You count fc1. What brings the wide vector back to D?",
    mlp=lambda D, wide: D * wide + wide,
)
weight.mistake(
    "the MLP has no biases",
    "You count the matrices of the MLP. How many outputs has fc1, how many fc2, and what is added to each?",
    mlp=lambda D, wide: 2 * D * wide,
)
weight.mistake(
    "fc1 has no bias",
    "You are short by mlp_ratio·D in every block. How wide is what fc1 gives, and what is added to it?",
    mlp=lambda D, wide: 2 * D * wide + D,
)
weight.mistake(
    "two biases of D in the MLP",
    "fc1 and fc2 both have a bias, but not of one length. How wide is what fc1 gives?",
    mlp=lambda D, wide: 2 * D * wide + 2 * D,
)
weight.mistake(
    "two wide biases in the MLP",
    "fc1 and fc2 both have a bias, but not of one length. How wide is what fc2 gives?",
    mlp=lambda D, wide: 2 * D * wide + 2 * wide,
)
weight.mistake(
    "no MLP",
    "Two thirds of every block are missing. What stands between norm2 and the next block?",
    mlp=lambda D, wide: 0,
)
weight.mistake(
    "one norm in a block",
    "You are short by 2·D in every block. It has two norms, each with a weight and a bias; and the bias of qkv is 3·D.",
    norms=lambda D: 2 * D,
)
weight.mistake(
    "norms have a weight only",
    "A norm has two vectors of D: it stretches, and what else does it do?",
    lambda img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, num_classes: (
        count_parameters(img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, num_classes)
        - (2 * depth + 1) * embed_dim
    ),
)
weight.mistake(
    "no norms in the blocks",
    "norm1 and norm2 are learned too. How many numbers has a norm?",
    norms=lambda D: 0,
)
weight.mistake(
    "one block",
    "You count a single block. How many has the model, each with weights of its own?",
    blocks=lambda depth: 1,
)
weight.mistake(
    "the head has no bias",
    "You are short by the number of classes. What is added to the logits?",
    head=lambda D, classes: D * classes,
)
weight.mistake(
    "no head",
    "You end with the class token's vector. What makes logits of it?",
    head=lambda D, classes: 0,
)

cost = Exercise(
    "multiply_adds",
    lesson="04",
    points=3,
    reference=multiply_adds,
    cases=sizes,
    returns="count",
    hints=(
        "Follow a picture through the model and stop at every matrix product: how many rows go in, how wide are they, "
        "how wide do they come out? One of the products is done for patches only, one for a single token.",
        "T = N + 1 tokens in the blocks\npatch embedding: N rows, p·p·C -> D\nattention: attention_cost of lesson 02 "
        "for T tokens\nMLP: T rows, D -> mlp_ratio·D -> D\nhead: 1 row, D -> num_classes",
        "T = N + 1\nblock = attention_cost(T, D, 1) + 2 * ... * mlp_ratio * D\n"
        "return N * patch_size**2 * ... + depth * block + ...",
    ),
)


@cost.recipe
def multiply_adds_in_steps(
    img_size,
    patch_size,
    in_chans,
    embed_dim,
    depth,
    mlp_ratio,
    num_classes,
    *,
    patches=lambda size, p: (size // p) ** 2,
    embed=lambda N, numbers, D: N * numbers * D,
    tokens=lambda N: N + 1,
    projections=lambda T, D: 4 * T * D * D,
    products=lambda T, D: 2 * T * T * D,
    mlp=lambda T, D, ratio: 2 * T * D * ratio * D,
    blocks=lambda depth: depth,
    head=lambda T, D, classes: D * classes,
):
    N, D = patches(img_size, patch_size), embed_dim
    T = tokens(N)
    block = projections(T, D) + products(T, D) + mlp(T, D, mlp_ratio)
    return embed(N, patch_size**2 * in_chans, D) + blocks(depth) * block + head(T, D, num_classes)


cost.mistake(
    "the class token is not counted",
    "You run N tokens through the blocks. Who else is in the sequence?",
    tokens=lambda N: N,
)
cost.mistake(
    "the class token is embedded too",
    "You count N + 1 patches in the patch embedding. From which pixels would the class token be made?",
    embed=lambda N, numbers, D: (N + 1) * numbers * D,
)
cost.mistake(
    "no patch embedding",
    "You begin with tokens. Which matrix product made them of pixels?",
    embed=lambda N, numbers, D: 0,
)
cost.mistake(
    "one patch embedded",
    "You count the patch embedding's numbers, that is, its work on one patch. How many patches go through it?",
    embed=lambda N, numbers, D: numbers * D,
)
cost.mistake(
    "one side of the grid",
    "You count img_size / patch_size patches. That is one row of them: how many rows are there?",
    patches=lambda size, p: size // p,
)
cost.mistake(
    "no output projection",
    "You count q, k and v. Which linear layer comes after the heads?",
    projections=lambda T, D: 3 * T * D * D,
)
cost.mistake(
    "one product of attention",
    "Scores are one product. What is done with the weights afterwards?",
    products=lambda T, D: T * T * D,
)
cost.mistake(
    "no products of attention",
    "You count what has parameters. Attention multiplies queries with keys, and weights with values, too.",
    products=lambda T, D: 0,
)
cost.mistake(
    "attention linear in the tokens",
    "Every token meets every token: how many pairs are there?",
    products=lambda T, D: 2 * T * D,
)
cost.mistake(
    "one layer of the MLP",
    "You count fc1. What brings the wide vectors back to D?",
    mlp=lambda T, D, ratio: T * D * ratio * D,
)
cost.mistake(
    "an MLP that stays narrow",
    "Your MLP goes from D to D. What is mlp_ratio for?",
    mlp=lambda T, D, ratio: 2 * T * D * D,
)
cost.mistake(
    "wide to wide in the MLP",
    "You have mlp_ratio squared. Does fc2 lead from the wide vector to a wide one?",
    mlp=lambda T, D, ratio: 2 * T * (ratio * D) ** 2,
)
cost.mistake(
    "no MLP",
    "The larger part of every block is missing. What comes after attention?",
    mlp=lambda T, D, ratio: 0,
)
cost.mistake(
    "one block",
    "You count a single block. How many are there?",
    blocks=lambda depth: 1,
)
cost.mistake(
    "no head",
    "You end with the class token's vector. What makes logits of it?",
    head=lambda T, D, classes: 0,
)
cost.mistake(
    "the head reads every token",
    "You run all tokens through the head. Which of them does equation 4 keep?",
    head=lambda T, D, classes: T * D * classes,
)
cost.mistake(
    "multiplications and additions counted apart",
    "You count two operations for each multiply-add (that is FLOPs). Asked for are multiply-adds.",
    lambda *sizes: 2 * multiply_adds(*sizes),
)
