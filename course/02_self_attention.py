# ---
# jupyter:
#   vit_edu:
#     title: Self-attention from scratch
#     minutes: 50
#     builds_on: ["01"]
#     builds: multi-head self-attention, equal to PyTorch's own, and a count of what it costs
# ---

# %% [markdown]
# # 02 · Self-attention from scratch
#
# **50 minutes. Builds on** [01 · Images as sequences](01_images_as_sequences.ipynb).
#
# A photo is now a row of tokens, and no token knows of any other. Attention is how they look at each other. It is
# three lines of code, and each of them can go wrong in a way that raises no error. At the end you can
# - write scaled dot-product attention for any number of axes in front, and say why it is scaled;
# - split a token into heads and put the heads together again, in the order of published weights;
# - build multi-head self-attention that gives the numbers of `torch.nn.MultiheadAttention`;
# - say what attention cannot see, and what it costs as images grow.

# %% [markdown]
# ## Predict first
#
# Write down your guesses; the lesson answers all four.
#
# 1. Every key is multiplied by ten. What happens to the attention weights?
# 2. Keys and queries get 64 times wider, their numbers are as large as before. What happens to the weights?
# 3. The tokens are shuffled. What happens to the output?
# 4. A photo gets twice as high and twice as wide. How much more work is attention?

# %% [markdown]
# ## A token looks around
#
# N is the number of tokens, as in lesson 01; C is from here on the width of a token (D there).
#
# Here is a photo as 14 × 14 patches of 16 pixels. For a first try, let a token be nothing but the tint of its patch:
# its mean colour, less the mean of the whole photo, brought to length 1.

# %%
import math
import time

import torch
import torch.nn.functional as F
import vit_edu
from torch import nn
from vit_edu import layers, plots

photos = vit_edu.load_dataset("photos")
photo = photos.images[photos.names.index("astronaut")].float() / 255  # (3, 224, 224)
patches = layers.patchify(photo[None], patch_size=16)[0]  # (196, 768)
colours = patches.view(196, 3, 256).mean(dim=-1)  # (196, 3)
tokens = F.normalize(colours - colours.mean(dim=0), dim=-1)
plots.plot_patch_grid(photo, patch_size=16)

# %% [markdown]
# How well do two tokens fit? Multiply them number by number and add up: the **dot product**. It is large when both
# point the same way, zero when they have nothing in common, negative when they are opposed. All pairs at once are one
# matrix product.

# %% tags=["nbval-check-output"]
scores = tokens @ tokens.T  # (N, C) @ (C, N) -> (N, N)
print("tokens", tuple(tokens.shape), "-> scores", tuple(scores.shape))
print("score of patch 3 with patch 7 = score of 7 with 3:", torch.equal(scores[3, 7], scores[7, 3]))

# %% [markdown]
# Scores may be any numbers. A token has *one* attention to share out, so each **row** is turned into shares: positive
# numbers that sum to 1. That is what softmax does: take exp, divide by the sum of the row.

# %% tags=["nbval-check-output"]
sharpness = 8.0
weights = (sharpness * scores).softmax(dim=-1)  # (N, N)
print("every weight is positive:", bool((weights > 0).all()))
print("every row sums to 1:", torch.allclose(weights.sum(dim=-1), torch.ones(196)))

# %% [markdown]
# Look at four patches and where they look. The frame is the patch that asks; bright is where its attention goes.

# %%
queries = [15, 35, 90, 171]  # background, hair, chin, suit
plots.plot_attention(photo, weights, grid_size=(14, 14), queries=queries)

# %% [markdown]
# No training, no labels, and the suit finds the suit, wherever it lies. The hair finds the hair (and other brown
# things): one tint is all these tokens have to go by. A convolution would have needed many layers to bring two far
# corners together.
#
# Four rows of 196. Here are all of them: point at any patch, or walk with the arrow keys. Can you find a patch that looks
# at a few others only, and one that looks nearly everywhere? Beside the photo stands over how many tokens it is spread.
# (One layer with one head, here; a model has many of both, and each gets a small map.)

# %%
from vit_edu.explain import AttentionMap
from vit_edu.widgets import AttentionExplorer

one_head = AttentionMap("tints", weights[None, None], grid_size=(14, 14))  # (1, 1, N, N): one photo, one head
AttentionExplorer([one_head], photo)

# %% [markdown]
# The last step: each token fetches what it has found. Its output is the **weighted mean** of all tokens, with its own
# row of weights.

# %% tags=["nbval-check-output"]
output = weights @ tokens  # (N, N) @ (N, C) -> (N, C)
print("output", tuple(output.shape))

# %% [markdown]
# Let every patch fetch whole patches instead of mean colours, and put the photo together again. **Predict:** what does
# the sharpness do? (From 8 to 80 is your first guess: all scores ten times as large.)

# %%
pictures = [photo]
for sharpness in (0, 8, 80, 20_000):
    weights = (sharpness * scores).softmax(dim=-1)  # (196, 196)
    pictures.append(layers.unpatchify((weights @ patches)[None], 16, (14, 14))[0])
    print(f"sharpness {sharpness:6}: the largest weight of a row is {weights.amax(dim=-1).mean():.0%} on average")
plots.plot_images(pictures, titles=["the photo", "0", "8", "80", "20 000"], columns=5)

# %% [markdown]
# With 0 all scores are equal, and everybody fetches the same mean of everything. With 20 000 most patches hear hardly
# anybody but the one that fits them best, themselves. Useful attention lies between.
#
# Your first guess: keys ten times as long make all scores ten times as large, and attention sharper: fewer keys share it,
# at last one takes it all. How soon depends on how far apart the scores were; here many patches have nearly one tint.

# %% [markdown]
# ## Query, key, value
#
# So far one vector did three jobs. Attention gives each job its own vector.
#
# - The **query** q: what am I looking for?
# - The **key** k: what can I be found by?
# - The **value** v: what do I hand over when I am found?
#
# It is Python's dictionary, asked softly. `d[q]` finds the one key that equals q and returns its value; attention
# compares q with *all* keys and returns a mean of all values: the better a key fits, the more of its value.
#
# All three come from the token, each by a learned matrix of its own. That breaks the symmetry: a wheel may look for a
# car without the car looking for the wheel.

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
to_q, to_k, to_v = (nn.Linear(768, 64, bias=False) for _ in range(3))
q, k, v = to_q(patches), to_k(patches), to_v(patches)  # (196, 64) each
scores = q @ k.T  # (196, 196)
print("q, k, v", tuple(q.shape), tuple(k.shape), tuple(v.shape))
print("still symmetric:", torch.allclose(scores, scores.T))

# %% [markdown]
# ## Why divide by √d?
#
# Your second guess. Draw queries and keys at random, of width d, their numbers spread around 0 with standard deviation
# 1, and look at what comes out: how far do the scores spread, and how large is the largest of 16 weights?

# %%
widths = [4, 16, 64, 256, 1024]
torch.manual_seed(0)
spread, largest, largest_scaled = [], [], []
for d in widths:
    scores = (torch.randn(2000, 1, d) * torch.randn(2000, 16, d)).sum(dim=-1)  # 2,000 x 16 keys
    spread.append(scores.std().item())
    largest.append(scores.softmax(dim=-1).amax(dim=-1).mean().item())
    largest_scaled.append((scores / math.sqrt(d)).softmax(dim=-1).amax(dim=-1).mean().item())
    print(f"d = {d:4}: spread {spread[-1]:5.1f}, √d = {math.sqrt(d):4.1f}, largest {largest[-1]:.2f}")

# %%
curves = {"no scaling": largest, "divided by √d": largest_scaled}
plots.plot_curves(widths, curves, xlabel="width d of queries and keys", ylabel="largest of 16 weights", log=True)

# %% [markdown]
# A dot product adds up d random terms of variance 1. Variances add, so the sum has variance d and spreads like √d. The
# wider the keys, the more one of them takes everything, before a single step of training. And where softmax is all or
# nothing, its gradient is nearly nothing, and what has no gradient learns nothing:

# %%
for d in (16, 1024):
    for name, scale in {"no scaling": 1.0, "divided by √d": d**-0.5}.items():
        torch.manual_seed(0)
        q = torch.randn(500, 1, d, requires_grad=True)
        scores = (q * torch.randn(500, 16, d)).sum(dim=-1) * scale
        scores.retain_grad()
        (scores.softmax(dim=-1) * torch.randn(500, 16)).sum().backward()
        print(f"d = {d:4}, {name:14}: mean gradient at the scores {scores.grad.abs().mean():.4f}")

# %% [markdown]
# Divide by √d and the width does not matter any more. The **scaled** in *scaled dot-product attention* is this
# division, nothing else.

# %% [markdown]
# ### Exercise · attention
#
# Now write it. Return the output *and* the weights: every picture of attention needs them. The dots in the shapes mean
# "any axes in front": none, a batch, a batch and heads. So name your axes from the end, −1 and −2 (`.T` above turned
# *all* axes round, which is right for two of them only).
#
# $$\operatorname{Attention}(Q,K,V)=\operatorname{softmax}\!\left(\frac{QK^{\top}}{\sqrt{d}}\right)V$$


# %%
def attention(q, k, v):
    """q (..., N_q, d), k (..., N_k, d), v (..., N_k, d_v)
    -> output (..., N_q, d_v), weights (..., N_q, N_k)"""
    ### BEGIN SOLUTION
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5  # (..., N_q, N_k)
    weights = scores.softmax(dim=-1)
    return weights @ v, weights
    ### END SOLUTION


# %%
attention = vit_edu.check("attention", attention)

# %% [markdown]
# Try to fool it if you like: leave the scaling out, let softmax run over the wrong axis, do both. Then put it right
# again. (Loops pass too, but the last two sections run it on thousands of tokens: there only matrix products are quick.)
#
# `attention` is yours from here on (the kit's, if you go on without it). PyTorch has one too, and the two must agree:

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
q, k, v = (torch.randn(2, 3, 196, 64, dtype=torch.float64) for _ in range(3))  # (B, h, N, d)
output, weights = attention(q, k, v)
print(tuple(output.shape), tuple(weights.shape))
print("equal to torch:", torch.allclose(output, F.scaled_dot_product_attention(q, k, v), atol=1e-12))

# %% [markdown]
# ## Many heads
#
# One softmax gives one answer a token. But a patch of an eye may want to know *where is the other eye* and *what
# colour is the light* at once, and the mean of two answers is neither. So the channels are split into **heads**. Each
# head attends on its own, over its own d channels, and what they find is put side by side.
#
# Published models (such as those of *timm*, the best known collection) make all queries, keys and values with a single
# matrix, `qkv`, and its 3·C outputs lie in memory in this order: first q, k, v; within each the heads; within each head its d channels.

# %%
C, h = 12, 3
names = [f"{part}{head}" for part in "qkv" for head in range(h) for _ in range(C // h)]
owners = torch.tensor([[3 * "qkv".index(name[0]) + int(name[1]) for name in names]])
plots.plot_matrix(
    owners.repeat(2, 1),
    rows=["", ""],
    columns=names,
    title="who owns which of the 3·C numbers (C = 12, 3 heads)",
    alt="The 36 numbers of one token: 4 each for q of heads 0, 1, 2; then k alike, then v alike.",
)

# %% [markdown]
# Nothing stops you from reading this row in another order. The shapes fit, no error is raised, and every published
# weight is scrambled.
#
# ### Exercise · split_heads
#
# Cut the last axis into (3, heads, d) and bring the heads to the front.


# %%
def split_heads(qkv, num_heads):
    """qkv (B, N, 3*C) -> q, k, v, each (B, h, N, d) with d = C / h"""
    ### BEGIN SOLUTION
    B, N, width = qkv.shape
    parts = qkv.reshape(B, N, 3, num_heads, width // 3 // num_heads)  # (B, N, 3, h, d)
    return parts.permute(2, 0, 3, 1, 4).unbind(0)  # (3, B, h, N, d) -> three times (B, h, N, d)
    ### END SOLUTION


# %%
split_heads = vit_edu.check("split_heads", split_heads)

# %% [markdown]
# ### Exercise · multi_head_attention
#
# Put it all together: `qkv` → `split_heads` → `attention` → heads side by side → `proj`. The last linear layer lets the
# heads talk to each other. The names `qkv` and `proj` are those of timm's checkpoints; keep them, and published weights
# will fit into your class.


# %%
class MultiHeadAttention(nn.Module):
    """x (B, N, C) -> (B, N, C)"""

    def __init__(self, dim, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        ### BEGIN SOLUTION
        B, N, C = x.shape
        q, k, v = split_heads(self.qkv(x), self.num_heads)  # (B, h, N, d) each
        mixed, _ = attention(q, k, v)  # (B, h, N, d)
        mixed = mixed.transpose(1, 2).reshape(B, N, C)  # (B, N, h, d) -> (B, N, C)
        return self.proj(mixed)
        ### END SOLUTION


# %%
MultiHeadAttention = vit_edu.check("multi_head_attention", MultiHeadAttention)

# %% [markdown]
# The proof. Take PyTorch's module, move its weights into yours, give both the same tokens.

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
theirs = nn.MultiheadAttention(embed_dim=192, num_heads=3, batch_first=True).double()
mine = MultiHeadAttention(dim=192, num_heads=3).double()
mine.load_state_dict(
    {
        "qkv.weight": theirs.in_proj_weight,
        "qkv.bias": theirs.in_proj_bias,
        "proj.weight": theirs.out_proj.weight,
        "proj.bias": theirs.out_proj.bias,
    }
)
x = torch.randn(2, 197, 192, dtype=torch.float64)
print("equal to torch.nn.MultiheadAttention:", torch.allclose(mine(x), theirs(x, x, x)[0], atol=1e-12))
print("parameters:", sum(p.numel() for p in mine.parameters()), "= 4 x 192 x 192 + 4 x 192")

# %% [markdown]
# ## What attention cannot see
#
# Your third guess: shuffle the tokens.

# %% tags=["nbval-check-output"]
order = torch.randperm(197)
print("shuffled in, shuffled out:", torch.allclose(mine(x[:, order]), mine(x)[:, order]))
print("mean over the tokens unchanged:", torch.allclose(mine(x[:, order]).mean(1), mine(x).mean(1)))

# %% [markdown]
# Each token gets exactly what it got before; only its place in the row has changed. Attention has no idea of left,
# right or near. It is a machine for *sets*. That is why lesson 01 added a position to each token:

# %% tags=["nbval-check-output"]
positions = 0.5 * torch.randn(1, 197, 192, dtype=torch.float64)
plain, shuffled = mine(x + positions), mine(x[:, order] + positions)
print("with positions, shuffled in, shuffled out:", torch.allclose(shuffled, plain[:, order]))

# %% [markdown]
# ## What it costs
#
# ### Exercise · attention_cost
#
# Count the multiply-adds of one multi-head attention layer for N tokens of width C: one for each multiplication
# together with its addition. Leave biases and softmax out. Do more heads cost more?


# %%
def attention_cost(num_tokens, dim, num_heads):
    """num_tokens, dim, num_heads: int -> int"""
    ### BEGIN SOLUTION
    projections = 4 * num_tokens * dim**2  # q, k, v, proj
    products = 2 * num_tokens**2 * dim  # scores, and weights times values
    return projections + products
    ### END SOLUTION


# %%
attention_cost = vit_edu.check("attention_cost", attention_cost)

# %% [markdown]
# PyTorch can count too. It counts a multiplication and an addition as two.

# %% tags=["nbval-check-output"]
from torch.utils.flop_counter import FlopCounterMode

tiny = layers.Attention(dim=192, num_heads=3)
with FlopCounterMode(display=False) as counter, torch.no_grad():
    tiny(torch.randn(1, 197, 192), return_weights=True)
print("counted by torch:    ", counter.get_total_flops())
print("by you, times two:   ", 2 * attention_cost(197, 192, 3))

# %% tags=["nbval-check-output"]
print("image  tokens  million multiply-adds  of these for pairs of tokens")
for side in (112, 224, 448, 896, 1792):
    N = (side // 16) ** 2
    total = attention_cost(N, 192, 3)
    pairs = total - 4 * N * 192**2
    print(f"{side:5} {N:7} {total / 1e6:22,.0f} {pairs / total:17.0%}")

# %% [markdown]
# Your fourth guess. Twice the side of the image is four times the tokens. The projections grow fourfold with them, the
# pairs sixteenfold: look how the last column takes over. Lesson 06 (Swin) is about this table.
#
# Memory is the other half. All weights of all heads, in float32:

# %% tags=["nbval-check-output"]
for side in (224, 448, 896, 1792):
    N = (side // 16) ** 2
    print(f"{side:5} pixels: {N:6} tokens, weights of 3 heads {3 * N * N * 4 / 2**20:8,.1f} MiB")

# %% [markdown]
# But the output needs the weights only one row at a time. PyTorch's **fused** `scaled_dot_product_attention` never
# stores the N × N matrix: it walks over the keys in blocks and keeps a running softmax (*FlashAttention*). The result
# is the same; measure the time of both on your machine:

# %%
q, k, v = (torch.randn(1, 3, 1024, 64) for _ in range(3))


def milliseconds(function, repeats=5):
    function(q, k, v)  # the first call warms up
    start = time.perf_counter()
    for _ in range(repeats):
        function(q, k, v)
    return 1000 * (time.perf_counter() - start) / repeats


explicit, fused = milliseconds(attention), milliseconds(F.scaled_dot_product_attention)
print(f"explicit {explicit:.1f} ms, fused {fused:.1f} ms: {explicit / fused:.1f} times as fast")
same = torch.allclose(attention(q, k, v)[0], F.scaled_dot_product_attention(q, k, v), atol=1e-5)
print("same numbers:", same)

# %% [markdown]
# The kit's own layers do both: fused when nobody looks, explicit when you ask to see the weights.

# %% [markdown]
# ## A surprise: attention cleans a photo
#
# Spoil a piece of a photo with noise. Then let every *pixel* be a token. Its query and its key are the 3 × 3 pixels
# around it, its value is its own colour. Nothing is trained.
#
# Neighbourhoods a and b that differ little should fit well: let the score be minus the squared distance,
#
# $$-\|a-b\|^2 = 2\,a\cdot b - \|b\|^2 - \|a\|^2.$$
#
# The last term is the same for all keys of a query, and softmax does not notice what is added to a whole row: exp turns it
# into a factor, which the division takes out again. What is left is a dot product, with one number more in each vector:
# (2a, 1) · (b, −‖b‖²).

# %%
torch.manual_seed(0)
clean = photos.images[photos.names.index("rocket")].float()[:, 76:140, 80:144] / 255  # (3, 64, 64)
noisy = clean + 0.1 * torch.randn_like(clean)


def around(image):
    """(3, H, W) -> the 3 x 3 pixels around each pixel, (H*W, 27)"""
    return F.unfold(F.pad(image[None], (1, 1, 1, 1), mode="reflect"), kernel_size=3)[0].T


a = around(noisy)  # (4096, 27)
noise = 27 * 0.1**2  # what noise alone adds to a squared distance of 27 numbers, for each of the two
sharpness = 1 / (0.64 * noise)  # 0.64 was found by trying: change it
query = torch.cat([2 * a, torch.ones(len(a), 1)], dim=-1) * sharpness
query = query * math.sqrt(28)  # since attention divides by √28
key = torch.cat([a, -(a**2).sum(dim=-1, keepdim=True)], dim=-1)
value = noisy.flatten(1).T  # (4096, 3)

cleaned = attention(query, key, value)[0].T.view_as(clean)
blurred = around(noisy).view(-1, 3, 9).mean(dim=-1).T.view_as(clean)
for name, image in {"noisy": noisy, "mean of 3 x 3": blurred, "attention": cleaned}.items():
    print(f"{name:13}: {-10 * ((image - clean) ** 2).mean().log10():.1f} dB")

# %%
plots.plot_images(
    [image.clamp(0, 1) for image in (clean, noisy, blurred, cleaned)],
    titles=["clean", "noisy", "mean of 3 × 3", "attention, untrained"],
)

# %% [markdown]
# Decibels: higher is nearer to the clean photo, and ten more mean a tenth of the error. Averaging neighbours removes
# noise and edges alike. Attention averages pixels that *look alike*, wherever they are, so edges stay. Image processing
# has known it since 2005 as *non-local means*: attention whose queries, keys and values nobody had to learn.

# %% [markdown]
# ## What the papers say
#
# | here | Vaswani et al. 2017, *Attention Is All You Need* | Dosovitskiy et al. 2021, *ViT* |
# | --- | --- | --- |
# | `attention` | equation 1, section 3.2.1 | equations 6 and 7, appendix A |
# | why √d | footnote 4: q·k has mean 0 and variance d | |
# | `split_heads`, `MultiHeadAttention` | section 3.2.2 | equations 5 and 8, appendix A |
# | cost | table 1: n²·d for each layer, without the projections | |
#
# The ViT paper calls the token matrix **z**, the weights **A**, and the width of a head D_h. It chooses D_h = D / k for k
# heads, so that the number of heads changes neither cost nor parameters. You have just counted that it does not.

# %% [markdown]
# ## What went wrong for other people
#
# - **No scaling, and nobody noticed.** A check whose inputs are large makes softmax all or nothing, and then attention
#   without scaling passes, and even argmax does. The check here draws small inputs, large ones, and many shapes.
# - **Heads before q, k, v.** Read (heads, 3, d) for (3, heads, d), and a published ViT still runs, and answers wrongly.
# - **√C for √d.** Dividing by the root of the whole width, not of the head's. No error, and published weights give other
#   answers. The next cell shows how far off both are.
# - **softmax(dim=1).** Right in the test with two axes, wrong in the model with four.

# %%
right = mine(x)
q, k, v = layers.split_heads(mine.qkv(x), 3)  # (2, 3, 197, 64) each
whole = layers.merge_heads(attention(q / math.sqrt(3), k, v)[0])  # √192 for √64
print(f"√C for √d: off by {(mine.proj(whole) - right).norm() / right.norm():.0%} of the answer's size")
shuffled_rows = mine.qkv(x).view(2, 197, 3, 3, 64).transpose(2, 3).flatten(2)  # read (heads, 3, d)
q, k, v = layers.split_heads(shuffled_rows, 3)
wrong = mine.proj(layers.merge_heads(attention(q, k, v)[0]))
print(f"heads before q, k, v: off by {(wrong - right).norm() / right.norm():.0%}")

# %% [markdown]
# ## In five lines
#
# 1. Scores are dot products of queries and keys; softmax turns each row into shares; the output is a weighted mean of
#    values.
# 2. A dot product of width d spreads like √d, so it is divided by √d.
# 3. Heads attend side by side, each over d = C / h channels; `proj` joins what they found.
# 4. Attention treats tokens as a set: without positions it cannot tell a photo from a puzzle.
# 5. It costs 4·N·C² + 2·N²·C multiply-adds, whatever the number of heads; twice the side, four times the tokens.
#
# ## New words
#
# - **query, key, value**: what a token looks for, what it can be found by, what it hands over when it is found.
# - **attention weights**: the shares, one row for each query, that say how much of each value goes into the output.
# - **scaled dot-product attention**: softmax of the dot products of queries and keys, divided by √d, times the values.
# - **head**: one of several attentions side by side, each over its own part of the channels.
# - **multi-head self-attention**: heads whose queries, keys and values all come from the same tokens, joined by `proj`.
# - **permutation-equivariant**: shuffled in, shuffled out in the same order, and nothing else changes.
#
# **To read:** Vaswani et al. 2017, sections 3.2 and 4 · Dao et al. 2022, *FlashAttention* · Buades, Coll and Morel 2005,
# *A non-local algorithm for image denoising*.
#
# **Harder, without a check:** write `attention` so that it never holds more than one block of 64 keys at a time, and
# gives the same numbers. You need, for each query, the largest score so far, the sum of exps so far, and the output so
# far; and a way to correct all three when a larger score arrives.
#
# **Next:** [03 · The encoder block](03_encoder_block.ipynb).
