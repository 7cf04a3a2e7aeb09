"""Exercises of lesson 11: the FLOPs of a training step and the bytes it keeps, counted before anything runs."""

from vit_edu.exercises.core import Draw, Exercise


def training_flops(embedding: int, block: int, head: int, depth: int, batch_size: int, recompute: bool) -> int:
    """FLOPs of one training step; the first three are multiply-adds of one picture's way forward."""
    forward = 2 * batch_size * (embedding + depth * block + head)
    backward = 2 * forward - 2 * batch_size * embedding  # nobody asks for the gradient of the pixels
    again = 2 * batch_size * depth * block if recompute else 0
    return forward + backward + again


def steps_of_training(draw: Draw):
    yield 1, 10, 100, 1, 1, False
    yield 1, 10, 100, 3, 1, True
    yield 115_605_504, 92_876_256, 192_000, 12, 8, False
    for recompute in (True, False, True, False):
        parts = draw.integer(2, 999), draw.integer(1000, 9999), draw.integer(10_000, 99_999)
        yield *parts, draw.integer(2, 24), draw.integer(2, 64), recompute


training = Exercise(
    "training_flops",
    lesson="11",
    points=3,
    reference=training_flops,
    cases=steps_of_training,
    returns="number of FLOPs",
    hints=(
        "y = x W. On the way back somebody asks for the gradient of x and for that of W. Each is a matrix product: of "
        "what size? And who asks for the gradient of the very first x?",
        "forward: 2 · multiply-adds · pictures. Backward: two products for each product forward, but one for the patch "
        "embedding. With recompute the blocks, and only they, run forward once more.",
        "forward = 2 * batch_size * (embedding + depth * block + head)\nbackward = 2 * forward - ...\n"
        "again = ... if recompute else 0\nreturn forward + backward + again",
    ),
)


@training.recipe
def training_flops_in_steps(
    embedding,
    block,
    head,
    depth,
    batch_size,
    recompute,
    *,
    operations=2,
    there=1,
    pictures=lambda batch_size: batch_size,
    blocks=lambda depth: depth,
    once=lambda embedding: embedding,  # of the embedding, going back
    back=2,
    again=lambda embedding, blocks, head: blocks,
):
    stack = blocks(depth) * block
    total = there * (embedding + stack + head) + back * (stack + head) + once(embedding)
    total += again(embedding, stack, head) if recompute else 0
    return operations * pictures(batch_size) * total


training.mistake(
    "multiply-adds for FLOPs",
    "The numbers you are given are multiply-adds. How many FLOPs is each?",
    operations=1,
)
training.mistake(
    "backward counted once",
    "You count one product on the way back for each on the way forward. Which two gradients does y = x W need?",
    back=1,
)
training.mistake(
    "forward only",
    "A training step also goes back. What does it cost to get the gradients of x and of W from y = x W?",
    back=0,
    once=lambda embedding: 0,
)
training.mistake(
    "the way forward is left out",
    "You count the way back only. A training step first goes forward.",
    there=0,
)
training.mistake(
    "the gradient of the pixels",
    "You count two products for every one, the patch embedding's too. One of its two gradients nobody asks for: which?",
    once=lambda embedding: 2 * embedding,
)
training.mistake(
    "the embedding does not learn",
    "Going back, nobody asks for the gradient of the pixels; but the matrix of the patch embedding learns.",
    once=lambda embedding: 0,
)
training.mistake(
    "one picture",
    "The numbers you are given are for one picture. How many are in the batch?",
    pictures=lambda batch_size: 1,
)
training.mistake(
    "one block",
    "You count a single block. How many has the model?",
    blocks=lambda depth: 1,
)
training.mistake(
    "recomputing costs nothing",
    "With recompute the blocks run forward a second time before they go back. Where is that in your sum?",
    again=lambda embedding, blocks, head: 0,
)
training.mistake(
    "everything is recomputed",
    "You run the embedding and the head again as well. Only the blocks threw away what they had.",
    again=lambda embedding, blocks, head: embedding + blocks + head,
)
training.mistake(
    "recomputed, and back once more",
    "What is done twice is the way forward. The way back through a block is gone once, as ever.",
    again=lambda embedding, blocks, head: 3 * blocks,
)


def kept_bytes(
    num_tokens: int, dim: int, num_heads: int, mlp_ratio: int, batch_size: int, bytes_each: int, fused: bool
) -> int:
    """Bytes that a block keeps for the way back, without what is one number for a token or less."""
    stream = (8 + 2 * mlp_ratio) * num_tokens * dim
    weights = 0 if fused else num_heads * num_tokens**2
    return batch_size * bytes_each * (stream + weights)


def blocks(draw: Draw):
    yield 1, 2, 1, 1, 1, 1, True
    yield 3, 2, 1, 4, 1, 4, True
    yield 3, 4, 2, 1, 5, 4, False
    yield 197, 768, 12, 4, 64, 2, False
    for fused in (True, False, True, False):
        sizes = draw.integer(5, 200), 8 * draw.integer(2, 12), draw.integer(2, 8), draw.integer(2, 5)
        yield *sizes, draw.integer(2, 64), 2 ** draw.integer(1, 3), fused


kept = Exercise(
    "kept_bytes",
    lesson="11",
    points=3,
    reference=kept_bytes,
    cases=blocks,
    returns="number of bytes",
    hints=(
        "A linear layer needs its input again for the gradient of its matrix; so does a norm, and so does GELU. A "
        "product of two tensors that both learn needs both. Softmax needs its own result. A sum needs nothing.",
        "of (N, D): inputs of norm1, qkv, proj, norm2, fc1, and q, k, v\nof (N, mlp_ratio·D): inputs of GELU and of "
        "fc2\nof (h, N, N): the result of softmax, unless attention is fused",
        "stream = (8 + ...) * num_tokens * dim\nweights = 0 if fused else ...\nreturn batch_size * bytes_each * "
        "(stream + weights)",
    ),
)


@kept.recipe
def kept_bytes_in_steps(
    num_tokens,
    dim,
    num_heads,
    mlp_ratio,
    batch_size,
    bytes_each,
    fused,
    *,
    narrow=8,  # inputs of two norms and three linear layers; q, k and v
    wide=2,
    heads=lambda h: h,
    table=lambda N: N * N,
    tables=lambda fused: 0 if fused else 1,
    pictures=lambda batch_size: batch_size,
    size=lambda bytes_each: bytes_each,
):
    stream = (narrow + wide * mlp_ratio) * num_tokens * dim
    weights = tables(fused) * heads(num_heads) * table(num_tokens)
    return pictures(batch_size) * size(bytes_each) * (stream + weights)


kept.mistake(
    "one tensor of (N, D) is missing",
    "You are one tensor of the stream's size short. Two norms and three linear layers each keep what they read, and no "
    "two of them read the same; attention keeps three.",
    narrow=7,
)
kept.mistake(
    "two tensors of (N, D) are missing",
    "You are two tensors of the stream's size short. Have you counted q, k and v as one, or left out the norms? A norm "
    "needs its input again, and what it reads is another tensor than what it gives.",
    narrow=6,
)
kept.mistake(
    "no q, k and v",
    "Two products of attention multiply tensors that both want gradients. Which three must they remember?",
    narrow=5,
)
kept.mistake(
    "linear layers only",
    "You count what qkv, proj, fc1 and fc2 read. Norms, the products of attention and GELU have inputs as well.",
    narrow=3,
    wide=1,
)
kept.mistake(
    "one tensor of (N, D) too many",
    "You are one tensor of the stream's size over. A sum needs nothing again, nor does the result of the block; what "
    "proj reads and what attention gives are the same numbers.",
    narrow=9,
)
kept.mistake(
    "the wide vectors once",
    "GELU needs what goes into it, fc2 needs what comes out of it. Are those one tensor?",
    wide=1,
)
kept.mistake(
    "no wide vectors",
    "The largest tensors of (N, ...) in a block are between fc1 and fc2. Who needs them again?",
    wide=0,
)
kept.mistake(
    "one head",
    "Every head has an N × N table of its own.",
    heads=lambda h: 1,
)
kept.mistake(
    "one row of the table",
    "Every token gives a weight to every token. How many weights are that?",
    table=lambda N: N,
)
kept.mistake(
    "half of the table",
    "You count each pair once. i looking at j is one weight, and j looking at i another.",
    table=lambda N: N * (N + 1) // 2,
)
kept.mistake(
    "fused attention keeps its weights",
    "You count the N × N weights in either case. What does fused attention never write down?",
    tables=lambda fused: 1,
)
kept.mistake(
    "attention weights forgotten",
    "Without fused attention softmax keeps its result for the way back, for every head. How large is it?",
    tables=lambda fused: 0,
)
kept.mistake(
    "scores and weights",
    "You keep the table before softmax and the one behind it. The way back through softmax needs only its result.",
    tables=lambda fused: 0 if fused else 2,
)
kept.mistake(
    "one picture",
    "You count one picture. All of the batch wait for the way back.",
    pictures=lambda batch_size: 1,
)
kept.mistake(
    "numbers for bytes",
    "You count numbers. How many bytes is each?",
    size=lambda bytes_each: 1,
)
