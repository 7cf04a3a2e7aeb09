# ---
# jupyter:
#   vit_edu:
#     title: The encoder block
#     minutes: 60
#     builds_on: ["02"]
#     builds: an encoder block inside which a trained encoder gives its own answer
# ---

# %% [markdown]
# # 03 · The encoder block
#
# **60 minutes. Builds on** [02 · Self-attention from scratch](02_self_attention.ipynb).
#
# A vision transformer is one block, repeated. The block is two lines long:
#
# `x = x + attention(norm1(x))` and then `x = x + mlp(norm2(x))`.
#
# Nearly every word in them can be written in the wrong place, and it still runs. At the end you can
# - write LayerNorm, the MLP and the block, so that a trained encoder gives the same answer with your code inside;
# - say what the addition is for, and why the norm stands before the branch and not behind it;
# - drop whole branches while training, and correct for what is missing;
# - give a model positions in three ways, and test whether it uses them.

# %% [markdown]
# ## Predict first
#
# Write down your guesses; the lesson answers all five.
#
# 1. In a trained block, how large is what attention adds, compared with what was there before?
# 2. All numbers of a token are doubled. What does LayerNorm give?
# 3. Which part of a block has more weights, attention or MLP?
# 4. Somebody shuffles the patches of a picture. How many pictures does a trained encoder still recognise?
# 5. We cut a whole block out of a trained encoder. What is left of its work? And if we leave the block in, and cut only
#    the `x +` around it?

# %% [markdown]
# ## The stream
#
# Here is an **encoder**, a row of blocks, to look into: four of them, trained on emoji without labels (lesson 09 trains
# it). It comes with the kit. One picture goes in: 8 × 8 patches and a class token, 96 numbers each.

# %%
import copy

import torch
import torch.nn.functional as F
import vit_edu
from torch import nn
from vit_edu import layers, plots
from vit_edu.weights import checkpoint

encoder = checkpoint("dino").requires_grad_(False)
emoji = vit_edu.load_dataset("emoji", "new_style", img_size=64)
face = emoji.images[emoji.names.index("smiling face with hearts")][None].float() / 127.5 - 1  # from -1 to 1

# %% [markdown]
# Follow it by hand, block after block. A block never *replaces* its tokens. Twice it reads them, computes something on
# a side **branch**, and adds that to what was there.

# %% tags=["nbval-check-output"]
x = encoder.embed(face)  # (1, 65, 96)
stream, additions = [x], []
for block in encoder.blocks:
    heard = block.attn(block.norm1(x))  # the first branch: what the other tokens have to say
    middle = x + heard
    thought = block.mlp(block.norm2(middle))  # the second branch: each token for itself
    additions.append((x, heard, thought))
    x = middle + thought
    stream.append(x)
own = encoder.forward_features(face)
print(tuple(x.shape), "| the encoder's own result:", torch.allclose(encoder.norm(x), own, atol=1e-5))

# %% [markdown]
# From the first token to the last there runs one sum: the embedding, plus eight additions. People call it the
# **residual stream**. How large are the additions? The length of a vector is its `norm()`; here are means over all
# tokens, and the cosine similarity of a token before a block with itself behind it.

# %%
for i, (before, heard, thought) in enumerate(additions):
    size, a, m = (part.norm(dim=-1).mean().item() for part in (before, heard, thought))
    alike = torch.cosine_similarity(before, before + heard + thought, dim=-1).mean()
    print(f"block {i}: {size:.1f} long, attention adds {a:.1f}, the MLP {m:.1f}; like before: {alike:.2f}")

# %% [markdown]
# Your first guess: each branch is a good deal smaller than the stream, and the last ones only touch it up. A token that
# comes out is still much like the one that went in.
#
# Now look. One patch asks: who is like me? Brightness is the cosine similarity of its token to each other one, first in
# the embedding, then after each block.


# %%
def who_is_like(patch):
    shown = (face[0] + 1) / 2
    row, column = patch // 8 * 8, patch % 8 * 8
    framed = shown.clone()
    framed[:, row : row + 8, column : column + 8] = torch.tensor([0.0, 0.0, 1.0])[:, None, None]
    framed[:, row + 1 : row + 7, column + 1 : column + 7] = shown[:, row + 1 : row + 7, column + 1 : column + 7]
    pictures = [framed]
    for x in stream:
        tokens = F.normalize(x[0, 1:], dim=-1)  # (64, 96), without the class token
        light = (tokens @ tokens[patch]).clamp(0, 1).view(8, 8)
        light = light.repeat_interleave(8, dim=0).repeat_interleave(8, dim=1)  # (64, 64)
        pictures.append(shown * (0.1 + 0.9 * light))
    return pictures


titles = ["asks", "embedded", *(f"after block {i}" for i in range(4))]
plots.plot_images(who_is_like(49) + who_is_like(0), titles=titles * 2, columns=6)

# %% [markdown]
# The heart finds the hearts at once: colour is enough. Block by block the face falls back. The white corner goes the
# other way. At first it is like the rim and nothing else; in the last blocks it grows a little like the face. It has no
# pixel of one: that it can only have heard.

# %% [markdown]
# ## Why add?
#
# Could a block not simply hand on what attention gives? Try: 24 attention layers with random weights, yours from
# lesson 02 if you built it in this folder. Once each layer's output *replaces* the tokens, once it is *added* to them.

# %%
MultiHeadAttention = vit_edu.mine("multi_head_attention")


# %%
def likeness(x):
    """The mean cosine similarity of two different tokens: x (N, C) -> float."""
    unit = F.normalize(x, dim=-1)
    return ((unit @ unit.T).sum() - len(x)).item() / (len(x) * (len(x) - 1))


curves = {}
for name in ("replaced", "added"):
    torch.manual_seed(0)
    tokens = torch.randn(1, 64, 96)
    curves[name] = [likeness(tokens[0])]
    for _ in range(24):
        with torch.no_grad():
            heard = MultiHeadAttention(dim=96, num_heads=4)(F.layer_norm(tokens, (96,)))
        tokens = tokens + heard if name == "added" else heard
        curves[name].append(likeness(tokens[0]))
plots.plot_curves(range(25), curves, xlabel="attention layers", ylabel="likeness of two tokens")

# %% [markdown]
# Attention takes means, and means of means are all the same: after very few layers every token is every other token,
# and the picture is gone. (Dong et al. 2021, *Attention is not all you need*, prove how fast.) With the addition each
# token keeps much of itself.
#
# The addition has a second gift. The derivative of `x + branch(x)` is 1 plus something: however deep the stack, the
# gradient has a straight way back to the first block.

# %% [markdown]
# ## LayerNorm: every token brought to one size
#
# The stream has no fixed size: each addition may make it larger. A branch that is to work in any depth needs its input
# in one size. **LayerNorm** does that: of each token by itself, take away the mean of its channels, divide by their
# spread. Step by step, on two tokens of four channels,
# one ten times as large as the other:

# %% tags=["nbval-check-output"]
x = torch.tensor([[1.0, 3.0, 5.0, 7.0], [10.0, 30.0, 50.0, 70.0]])  # (N, C)
mean = x.mean(dim=-1, keepdim=True)  # (N, 1)
variance = ((x - mean) ** 2).mean(dim=-1, keepdim=True)  # (N, 1)
normed = (x - mean) / variance.sqrt()  # (N, C)
print("means", mean[:, 0].tolist(), "variances", variance[:, 0].tolist())
print("both tokens now:", [[round(number, 2) for number in token] for token in normed.tolist()])

# %% [markdown]
# Three things are missing. A token whose channels are all alike has variance 0, so a small **eps** is added to the
# variance, *inside* the root. Then each channel gets a learned **weight** and **bias**, which let training undo the
# norm where it hurts.
#
# ### Exercise · layer_norm
#
# The variance is the plain mean of squares, divided by C. (`torch.var` divides by C − 1 unless you tell it not to.)
# As in lesson 02 the dots mean any axes in front.
#
# $$\operatorname{LN}(x)=\frac{x-\mu}{\sqrt{\sigma^2+\epsilon}}\odot w+b$$


# %%
def layer_norm(x, weight, bias, eps=1e-6):
    """x (..., C), weight (C,), bias (C,) -> (..., C)"""
    ### BEGIN SOLUTION
    mean = x.mean(dim=-1, keepdim=True)  # (..., 1)
    variance = ((x - mean) ** 2).mean(dim=-1, keepdim=True)  # (..., 1)
    return (x - mean) / (variance + eps).sqrt() * weight + bias
    ### END SOLUTION


# %%
layer_norm = vit_edu.check("layer_norm", layer_norm)

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
x = torch.randn(3, 65, 96, dtype=torch.float64)  # (B, N, C)
weight, bias = torch.randn(2, 96, dtype=torch.float64)
normed = layer_norm(x, weight, bias)
print("equal to torch:", torch.allclose(normed, F.layer_norm(x, (96,), weight, bias, eps=1e-6), atol=1e-12))
twice = layer_norm(2 * x, weight, bias)
print("a token twice as large gives the same:", torch.allclose(twice, normed, atol=1e-4))

# %% [markdown]
# Your second guess: nothing changes (but for eps). LayerNorm looks at the *direction* of a token.
#
# The older **BatchNorm** norms each *channel* over all tokens of all pictures of the batch. Then a picture's answer
# depends on who sits beside it:

# %% tags=["nbval-check-output"]
batch_norm = nn.BatchNorm1d(96).double()  # in training mode
together, alone = batch_norm(x.transpose(1, 2)), batch_norm(x[:1].transpose(1, 2))  # it wants (B, C, N)
print("BatchNorm: the first picture alone is as in the batch:", torch.allclose(together[:1], alone))
together, alone = layer_norm(x, weight, bias), layer_norm(x[:1], weight, bias)
print("LayerNorm: the first picture alone is as in the batch:", torch.allclose(together[:1], alone))

# %% [markdown]
# And eps? It matters where a token is small. Here is the spread *after* the norm for tokens of different spread before.

# %% tags=["nbval-check-output"]
print("spread before   after, eps 1e-6   eps 1e-5   eps 1e-12")
token = F.layer_norm(torch.randn(96, dtype=torch.float64), (96,), eps=0)  # mean 0, spread 1
one, zero = torch.ones(96).double(), torch.zeros(96).double()
for size in (1, 0.01, 0.001, 0.0001):
    after = [layer_norm(size * token, one, zero, eps).std(correction=0).item() for eps in (1e-6, 1e-5, 1e-12)]
    print(f"{size:13} {after[0]:15.3f} {after[1]:10.3f} {after[2]:11.3f}")

# %% [markdown]
# A module keeps weight and bias. From here on your function is inside it:


# %%
class LayerNorm(nn.Module):
    """x (..., dim) -> (..., dim)"""

    def __init__(self, dim, eps=1e-6):
        super().__init__()
        self.weight, self.bias, self.eps = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim)), eps

    def forward(self, x):
        return layer_norm(x, self.weight, self.bias, self.eps)


# %% [markdown]
# ## The MLP: each token thinks for itself
#
# Attention moves things *between* tokens, and for given weights it is linear. Something has to work *on* a token, and
# bend. That is the **MLP**: out to four times the width, a bend (the *activation function*), and back.
#
# The bend is **GELU**, x · Φ(x), where Φ(x) is the probability that a normal number is below x. It is a soft ReLU.
# Two approximations of GELU are common; drawn here they would lie on its line.

# %%
z = torch.linspace(-3, 3, 61)
plots.plot_curves(z, {"ReLU": F.relu(z), "GELU": F.gelu(z)}, xlabel="z", ylabel="bend(z)")

# %%
bends = {"GELU by tanh": F.gelu(z, approximate="tanh")}
bends["QuickGELU, z σ(1.702 z)"] = z * torch.sigmoid(1.702 * z)
for name, y in {**bends, "ReLU": F.relu(z)}.items():
    print(f"{name:23}: at most {(y - F.gelu(z)).abs().max():.4f} from the exact one")

# %% [markdown]
# ### Exercise · mlp
#
# `fc1`, GELU (the exact one), `fc2`: these names, as in timm's checkpoints. You write both functions this time.


# %%
class Mlp(nn.Module):
    """x (..., dim) -> (..., dim), hidden_dim wide in between"""

    def __init__(self, dim, hidden_dim):
        super().__init__()
        ### BEGIN SOLUTION
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)
        ### END SOLUTION

    def forward(self, x):
        ### BEGIN SOLUTION
        return self.fc2(F.gelu(self.fc1(x)))  # (..., dim) -> (..., hidden_dim) -> (..., dim)
        ### END SOLUTION


# %%
Mlp = vit_edu.check("mlp", Mlp)

# %% tags=["nbval-check-output"]
mlp, attention = Mlp(192, 4 * 192), MultiHeadAttention(192, 3)
x = torch.randn(1, 197, 192)
order = torch.randperm(197)
print("shuffled in, shuffled out:", torch.allclose(mlp(x[:, order]), mlp(x)[:, order], atol=1e-5))
print("one token alone:          ", torch.allclose(mlp(x[:, 7]), mlp(x)[:, 7], atol=1e-5))
for name, part in {"attention": attention, "MLP": mlp}.items():
    print(f"{name:9}: {sum(p.numel() for p in part.parameters()):7,} weights and biases")

# %% [markdown]
# Your third guess: two thirds of a block are MLP. A token never sees another one in there.

# %% [markdown]
# ## The block
#
# Now put it together, equations 2 and 3 of Dosovitskiy et al. 2021, the ViT paper:
#
# $$z' = \operatorname{MSA}(\operatorname{LN}(z)) + z,\qquad z'' = \operatorname{MLP}(\operatorname{LN}(z')) + z'$$
#
# ### Exercise · encoder_block
#
# Names: `norm1`, `attn`, `norm2`, `mlp`. You have all you need: `LayerNorm` (for both norms), `MultiHeadAttention`,
# `Mlp`. The MLP is `int(dim * mlp_ratio)` wide inside. This is the exercise in which a right-looking line most often
# stands in the wrong place.


# %%
class EncoderBlock(nn.Module):
    """x (B, N, dim) -> (B, N, dim)"""

    def __init__(self, dim, num_heads, mlp_ratio=4.0):
        super().__init__()
        ### BEGIN SOLUTION
        self.norm1 = LayerNorm(dim)
        self.attn = MultiHeadAttention(dim, num_heads)
        self.norm2 = LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        ### END SOLUTION

    def forward(self, x):
        ### BEGIN SOLUTION
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))
        ### END SOLUTION


# %%
EncoderBlock = vit_edu.check("encoder_block", EncoderBlock)

# %% [markdown]
# The proof. First one block: the weights of the trained encoder's `blocks.0` into yours. Then all of them: `create_model`
# builds a whole ViT around any block it is given, and the weights find their places by name.

# %% tags=["nbval-check-output"]
theirs = copy.deepcopy(encoder).double()
x = theirs.embed(face.double())
mine = EncoderBlock(dim=96, num_heads=4).double()
mine.load_state_dict(theirs.blocks[0].state_dict())
print("one block, same numbers:", torch.allclose(mine(x), theirs.blocks[0](x), atol=1e-10))

words = {"img_size": 64, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 4, "num_classes": 0}
my_encoder = vit_edu.create_model("vit_tiny_patch16_224", block=EncoderBlock, **words).double()
vit_edu.load_weights(my_encoder, theirs.state_dict(), source="vit_edu")
answer = my_encoder(face.double())
print("whole encoder, same answer:", torch.allclose(answer, theirs(face.double()), atol=1e-10))

# %% [markdown]
# So what does a small mistake cost? Take the trained encoder, change one thing, and look how far its answers to 200
# pictures move, as a share of their length; and whether each is still nearest to the right one of the 200 old answers.

# %%
images = emoji.images[torch.linspace(0, len(emoji) - 1, 200).long()].float() / 127.5 - 1  # (200, 3, 64, 64)
answers = encoder(images)  # (200, 96)


def recognised(found):
    """The share of answers (200, 96) that are nearest to the encoder's own answer to the same picture."""
    near = F.normalize(found, dim=1) @ F.normalize(answers, dim=1).T  # (200, 200)
    return (near.argmax(dim=1) == torch.arange(len(near))).float().mean().item()


def with_eps(eps):
    changed = copy.deepcopy(encoder)
    for part in changed.modules():
        if isinstance(part, nn.LayerNorm):
            part.eps = eps
    return changed


def with_bend(bend):
    changed = copy.deepcopy(encoder)
    for block in changed.blocks:
        block.mlp.act = bend
    return changed


changes = {"eps 1e-5 for 1e-6": with_eps(1e-5), "GELU by tanh": with_bend(nn.GELU("tanh"))}
changes |= {"QuickGELU": with_bend(layers.QuickGELU()), "ReLU": with_bend(nn.ReLU())}
for name, changed in changes.items():
    found = changed(images)
    off = (found - answers).norm() / answers.norm()
    print(f"{name:17}: off by {off:.4%}, recognised {recognised(found):.0%}")

# %% [markdown]
# The first three change no verdict here, and still two programs that should agree do not. Use the order and the
# constants that the weights were trained with.

# %% [markdown]
# ## Before the branch, or behind the addition?
#
# The first transformer had the norm elsewhere: `x = norm(x + branch(x))`, **post-norm**. ViT has **pre-norm**,
# `x = x + branch(norm(x))`. One word changes its place:
#
# ```text
# pre-norm    x ─┬────────────────(+)─┬───────────────(+)─→
#                └─ norm1 ── attn ─┘  └─ norm2 ── mlp ─┘
#
# post-norm   x ─┬──────(+)─ norm1 ─┬─────(+)─ norm2 ─→
#                └─ attn ┘          └─ mlp ┘
# ```
#
# Above, the stream runs straight through; below, it passes every norm. Run both, untrained, 32 blocks deep:


# %%
class PostNorm(nn.Module):
    """The block of Vaswani et al. 2017, with GELU, from the kit's parts."""

    def __init__(self, dim, num_heads):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim, eps=1e-6), layers.Attention(dim, num_heads)
        self.norm2, self.mlp = nn.LayerNorm(dim, eps=1e-6), layers.Mlp(dim, 4 * dim)

    def forward(self, x):
        x = self.norm1(x + self.attn(x))
        return self.norm2(x + self.mlp(x))


# %%
kinds = {"pre-norm": EncoderBlock, "post-norm": PostNorm}
curves = {}
for name, kind in kinds.items():
    torch.manual_seed(0)
    x, curves[name] = torch.randn(2, 16, 64), [1.0]
    with torch.no_grad():
        for _ in range(32):
            x = kind(64, 4)(x)
            curves[name].append(x.std().item())
plots.plot_curves(range(33), curves, xlabel="block", ylabel="spread of the stream")

# %% [markdown]
# With pre-norm the stream grows, since nobody norms it on the way; that is why a ViT ends in one more `norm`. With
# post-norm it is brought back to 1 after every addition, so nothing of the input flows past unchanged.
#
# And the way back? Here is the gradient at the *last* block's `mlp.fc2`, for stacks of different depth.

# %%
depths, curves = [1, 2, 4, 8, 16, 32], {name: [] for name in kinds}
for name, kind in kinds.items():
    for depth in depths:
        sizes = []
        for seed in range(3):
            torch.manual_seed(seed)
            blocks, head = nn.Sequential(*(kind(64, 4) for _ in range(depth))), nn.Linear(64, 10)
            x = blocks(torch.randn(16, 16, 64))
            x = F.layer_norm(x, (64,)) if name == "pre-norm" else x
            loss = F.cross_entropy(head(x[:, 0]), torch.arange(16) % 10)
            weight = dict(blocks[-1].named_parameters())["mlp.fc2.weight"]
            sizes.append(torch.autograd.grad(loss, weight)[0].norm().item())
        curves[name].append(sizes)
plots.plot_curves(depths, curves, xlabel="depth", ylabel="gradient at the last block", log=True)

# %% [markdown]
# In a deep pre-norm stack each block is one voice among many, and its gradient is small; with post-norm the last block
# is told to change as much as if it were alone. (Xiong et al. 2020, theorem 1, bound the gradient of this matrix: for L
# layers by the order of 1/√L with pre-norm, and without such a factor with post-norm.) Large first steps at a random
# model do harm, so post-norm wants a **warm-up**: small steps first.
#
# A small race shows it: 12 blocks, narrow, on Fashion-MNIST (grey pictures of clothes, in ten classes), once without
# warm-up for both, once with it for post-norm. (With the kit's parts, which are quick whatever way you wrote yours.)

# %%
fashion = vit_edu.load_dataset("fashion")
clothes = fashion.images.float() / 127.5 - 1  # (9000, 1, 28, 28)


def race(kind, warmup, steps=42):
    torch.manual_seed(0)
    embed, head = nn.Conv2d(1, 32, 7, 7), nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 10))
    positions = nn.Parameter(0.02 * torch.randn(1, 16, 32))
    blocks = nn.Sequential(*(kind(32, 2) for _ in range(12)))
    learned = [*embed.parameters(), positions, *blocks.parameters(), *head.parameters()]
    optimizer, losses = torch.optim.Adam(learned, fused=True), []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (step + 1) / warmup)
        few = torch.randint(len(clothes), (32,))
        x = blocks(embed(clothes[few]).flatten(2).transpose(1, 2) + positions)
        loss = F.cross_entropy(head(x.mean(dim=1)), fashion.labels[few])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses).view(-1, 6).mean(dim=1)  # means of 6 steps


# %%
curves = {
    "pre-norm, no warm-up": race(layers.Block, warmup=1),
    "post-norm, no warm-up": race(PostNorm, warmup=1),
    "post-norm, warm-up": race(PostNorm, warmup=20),
}
plots.plot_curves(range(3, 45, 6), curves, xlabel="step", ylabel="loss")

# %% [markdown]
# Post-norm is not wrong: warmed up, it keeps pace. It is only easier to hurt. (One run of one tiny model proves little:
# change the seed in `race` and look again. Xiong et al. 2020 have the long runs.)

# %% [markdown]
# ## Positions: none, learned, computed, relative
#
# Nothing in the block knows where a token is. Lesson 01 added a position to each token, learned or computed. A third
# kind is younger: leave the tokens alone, and add a number to each *score* that depends on how far query and key lie
# apart. Liu et al. 2021 (Swin, equation 4) write
#
# $$\operatorname{softmax}\!\left(\frac{QK^{\top}}{\sqrt{d}}+B\right)V$$
#
# For tokens in one line there are 2N − 1 distances, from −(N − 1) to N − 1, and a learned table has one row for each
# and one column for each head. (Lesson 06 does it on a grid.)
#
# ### Exercise · relative_bias
#
# Spread the table out: query i and key j get the row of their distance i − j, the smallest distance the first row.


# %%
def relative_bias(table, num_tokens):
    """table (2*N - 1, h) -> bias (h, N, N)"""
    ### BEGIN SOLUTION
    place = torch.arange(num_tokens)
    distance = place[:, None] - place[None, :]  # (N, N), query minus key
    return table[distance + num_tokens - 1].permute(2, 0, 1)  # (N, N, h) -> (h, N, N)
    ### END SOLUTION


# %%
relative_bias = vit_edu.check("relative_bias", relative_bias)

# %% [markdown]
# Two heads of ten tokens, with tables made by hand: one likes what is near, one likes what stands just before it.

# %%
distance = torch.arange(-9, 10)
table = torch.stack([-0.3 * distance.abs(), 1.0 * (distance == 1)], dim=1)  # (19, 2)
likes = relative_bias(table, 10).softmax(dim=-1)  # (2, 10, 10): the weights, if all scores are 0
plots.plot_matrix(
    torch.cat([likes[0], torch.full((10, 1), float("nan")), likes[1]], dim=1),
    rows=range(10),
    columns=[*range(10), "", *range(10)],
    title="rows ask; left one head, right the other",
    alt="Two matrices of 10 by 10 weights. Left they are largest on the diagonal and fall off to both sides; "
    "right they are alike everywhere but one place before the diagonal, where they are larger.",
)

# %% [markdown]
# In the bias, before the softmax, every diagonal holds one number: it can say *near* and *before*, never *third from the
# left*.
#
# Now shuffle the patches, as in lesson 01. Every vector is still there. Only its place in the sequence has changed.

# %%
torch.manual_seed(3)
order = torch.randperm(64)
puzzle = layers.unpatchify(layers.patchify(face, 8)[:, order], 8, (8, 8))  # one for the next cells
plots.plot_images([(face[0] + 1) / 2, (puzzle[0] + 1) / 2], ["the face", "a puzzle"])

# %% [markdown]
# Two of your blocks, untrained, and the mean of all tokens as the answer. Does it change when the patches are shuffled?


# %%
class BiasedAttention(nn.Module):
    """Attention with a relative bias, for 64 tokens: x (B, N, C) -> (B, N, C)"""

    def __init__(self, dim, num_heads):
        super().__init__()
        self.num_heads, self.qkv, self.proj = num_heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.table = nn.Parameter(torch.randn(2 * 64 - 1, num_heads))

    def forward(self, x):
        q, k, v = layers.split_heads(self.qkv(x), self.num_heads)  # (B, h, N, d) each
        scores = q @ k.mT / q.shape[-1] ** 0.5 + relative_bias(self.table, x.shape[1])  # (B, h, N, N)
        return self.proj(layers.merge_heads(scores.softmax(dim=-1) @ v))


# %% tags=["nbval-check-output"]
torch.manual_seed(0)
blocks = nn.Sequential(EncoderBlock(96, 4), EncoderBlock(96, 4)).double()
relative = nn.Sequential(*(layers.Block(96, 4, attention=BiasedAttention) for _ in range(2))).double()
tokens, shuffled = (theirs.patch_embed(one.double()) for one in (face, puzzle))  # (1, 64, 96) each
learned = theirs.pos_embed[:, 1:]  # of the trained encoder
computed = layers.sincos_position((8, 8), 96).double()
for name, model, positions in (
    ("none", blocks, 0),
    ("learned", blocks, learned),
    ("computed", blocks, computed),
    ("relative", relative, 0),
):
    same = torch.allclose(model(tokens + positions).mean(dim=1), model(shuffled + positions).mean(dim=1))
    print(f"{name:9}: face and puzzle get the same answer: {same}")

# %% [markdown]
# And the trained encoder? All 200 pictures are shuffled, each in its own way. How many puzzles are recognised, so that
# their answer is nearest to that of their own whole picture?

# %%
orders = torch.rand(len(images), 64).argsort(dim=1)  # (200, 64), one order for each picture
patches = layers.patchify(images, 8).take_along_dim(orders[:, :, None], dim=1)  # (200, 64, 192)
puzzles = layers.unpatchify(patches, 8, (8, 8))
print(f"whole pictures {recognised(answers):.0%}, puzzles {recognised(encoder(puzzles)):.0%}")

# %% [markdown]
# Your fourth guess. This encoder takes many a puzzle for the picture: colours and strokes tell it most of what it
# needs. What has it learned about places, then? As in lesson 01: each small map is one place, and shows its similarity
# to all others.

# %%
plots.plot_positions(encoder.pos_embed[:, 1:], (8, 8))

# %% [markdown]
# Rim or middle, and hardly more. Emoji stand in the middle of their picture, and *is this the background?* was the one
# question about places that paid. A model learns the positions that its data ask for; compare this with the middle of
# Figure 7 of the ViT paper, by Dosovitskiy et al. 2021, whose photos ask for more.

# %% [markdown]
# ## DropPath: train many depths at once
#
# A branch only adds, so it can be left out. **DropPath** (or *stochastic depth*) does so at random while training: for
# each picture, each branch is dropped with a certain rate. The rates rise with depth, from 0 in the first block to the
# full rate in the last one: late blocks must get used to being missed, early ones are needed by all.

# %%
torch.manual_seed(0)
rates = torch.linspace(0, 0.5, 12)  # Swin-B goes up to 0.5 (Liu et al. 2021, appendix A2.1), DeiT to 0.1
kept = (torch.rand(12, 24) >= rates[:, None]).float()
title = "12 blocks, 24 pictures: bright is kept"
plots.plot_matrix(kept, rows=[f"block {i}" for i in range(12)], title=title)

# %% [markdown]
# ### Exercise · drop_path
#
# `x` is what a branch would add. Random numbers are hard to check, so they are given: `noise` holds one number a
# picture, uniform from 0 to 1. Picture b is dropped where `noise[b] < rate`. What is kept is divided by the **keep
# rate**, `1 - rate`, so that the mean over many draws is x, and nothing needs changing when training is over.


# %%
def drop_path(x, rate, noise):
    """x (B, ...), rate a float below 1, noise (B,) -> (B, ...)"""
    ### BEGIN SOLUTION
    keep = (noise >= rate).to(x.dtype)  # (B,)
    keep = keep.view(-1, *[1] * (x.ndim - 1))  # (B, 1, ..., 1)
    return x * keep / (1 - rate)
    ### END SOLUTION


# %%
drop_path = vit_edu.check("drop_path", drop_path)

# %% [markdown]
# What attention added in the trained block 0, through your DropPath, for 2,000 copies of one picture. Each copy gets the
# whole branch, too large, or nothing. Their mean is the branch.

# %%
torch.manual_seed(0)
_, heard, _ = additions[0]  # (1, 65, 96), what attention added in the first block
for rate in (0.1, 0.5, 0.9):
    dropped = drop_path(heard[:, :8].expand(2000, 8, 96), rate, torch.rand(2000))
    share = (dropped.flatten(1).norm(dim=1) > 0).float().mean()
    error = (dropped.mean(dim=0) - heard[0, :8]).norm() / heard[0, :8].norm()
    print(f"rate {rate}: {share:.0%} kept, the mean is off by {error:.1%} of the branch")

# %% [markdown]
# In a block the branches go through it one by one, each with a draw of its own, and in training mode only:
#
# `x = x + drop_path(attn(norm1(x)), rate, torch.rand(len(x)))`

# %% [markdown]
# ## A surprise: cut out a block
#
# A model trained with DropPath should stand the loss of a block. Let us cut blocks out of one that was trained without
# DropPath: an **MAE**, also of this kit, which sees a quarter of a picture's patches and paints the rest (lesson 09).
# Its encoder has four blocks. Its loss is the error of what it paints.
#
# For each block, two operations. *Cut the block*: the stream flows past as if it were not there. *Cut the stream*: the
# block works as ever, but only what it adds goes on. **Predict** which one hurts.

# %%
from vit_edu.models import mae_loss, mae_target, reconstruct

mae = checkpoint("mae").requires_grad_(False)
small = vit_edu.load_dataset("emoji", "new_style", img_size=32)
small = small.images[torch.linspace(0, len(small) - 1, 100).long()].float() / 127.5 - 1  # (100, 3, 32, 32)
noise = torch.rand(len(small), 64, generator=torch.Generator().manual_seed(0))  # which patches are hidden


class OnlyWhatItAdds(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        return self.block(x) - x


def operated(i, replacement):
    changed = copy.deepcopy(mae)
    changed.encoder.blocks[i] = replacement
    return changed


def painted(model, few):
    _, prediction, mask = model(small[few], noise[few])
    pictures = reconstruct(small[few], prediction, mask, patch_size=4, norm_pix_loss=True)[1]
    return ((pictures + 1) / 2).clamp(0, 1)


# %%
loss, prediction, mask = mae(small, noise)
target = mae_target(small, patch_size=4, norm_pix_loss=True)
plain = mae_loss(0 * prediction, target, mask)
print(f"untouched: loss {loss:.2f}; each patch in its mean colour: {plain:.2f}")
for i, block in enumerate(mae.encoder.blocks):
    without_block, without_stream = operated(i, nn.Identity()), operated(i, OnlyWhatItAdds(block))
    losses = [model(small, noise)[0] for model in (without_block, without_stream)]
    print(f"block {i}: loss without the block {losses[0]:.2f}, without the stream around it {losses[1]:.2f}")

# %%
few = [24, 40, 56, 72, 80, 88, 96]
rows = {
    "picture": (small[few] + 1) / 2,
    "painted": painted(mae, few),
    "block 2 cut": painted(operated(2, nn.Identity()), few),
    "stream cut": painted(operated(2, OnlyWhatItAdds(mae.encoder.blocks[2])), few),
}
titles = [name for name in rows for _ in few]
plots.plot_images(torch.cat(list(rows.values())), titles=titles, columns=len(few))

# %% [markdown]
# Your fifth guess. A whole block of a trained encoder is gone, and you have to look twice. Its `x +` is gone, and the
# pictures are ruined, no better than if each patch were painted in its mean colour: later blocks know how to read the
# *stream*, and have never seen an addition alone.
#
# Block 0 is the exception, the other way round: cut it, and the loss is bad; cut the stream around it, and little
# happens. Nearly all that later blocks read was written there. So a trained transformer is less a chain of steps than a
# notebook that is passed round: most who write in it can be missed, and the notebook cannot. Veit et al. 2016 found
# the same in residual convolutional networks, Bhojanapalli et al. 2021 in large ViTs.

# %% [markdown]
# ## What the papers say
#
# | here | where |
# | --- | --- |
# | `layer_norm` | Ba et al. 2016, equation 3: mean and spread over the units of a layer |
# | `Mlp`, GELU | Vaswani et al. 2017, equation 2, with ReLU; Hendrycks and Gimpel 2016, section 2; Dosovitskiy et al. 2021, section 3.1 |
# | `EncoderBlock` | Dosovitskiy et al. 2021 (ViT), equations 2 and 3; the norm at the end is equation 4 |
# | post-norm | Vaswani et al. 2017, section 3.1: LayerNorm(x + Sublayer(x)) |
# | pre-norm or post-norm | Xiong et al. 2020, theorem 1 |
# | `relative_bias` | Shaw et al. 2018; Liu et al. 2021 (Swin), equation 4; Dosovitskiy et al. 2021, appendix D.4, table 8 |
# | `drop_path` | Huang et al. 2016: rates that rise with depth in equation 4 |
#
# Huang et al. 2016 drop a block for a whole *mini-batch*, and shrink the branches when training is over (equation 5).
# Today's code draws for each picture, and divides while training. Both agree on average.

# %% [markdown]
# ## What went wrong for other people
#
# - **The residual from the normed stream.** `x = norm(x)`, then `x = x + mlp(x)`: one name for two things. It came into
#   the published code of CCT [by a bad merge](https://github.com/SHI-Labs/Compact-Transformers/issues/25), and since
#   its weights were trained so, every program that loads them must do the same, the kit's too. Another project [found
#   the same line in its attention](https://github.com/Howuhh/faster-trajectory-transformer/issues/3): a fix would have
#   broken all its checkpoints.
# - **The paper says post, the code says pre.** Readers of *The Annotated Transformer* have [asked for
#   years](https://github.com/harvardnlp/annotated-transformer/issues/13). The authors of the original [had changed
#   their program](https://github.com/harvardnlp/annotated-transformer/issues/92), and not their paper.
# - **eps and the width of the MLP.** A ViT could not read published weights until its MLP was four times wide and its
#   [eps that of the authors](https://github.com/kornia/kornia/pull/2786).
# - **One drop rate for all blocks.** A widely used Swin had [the same rate at every
#   depth](https://github.com/huggingface/transformers/pull/34291). No output shows it in evaluation: DropPath is off.
# - **A drop for each batch or each picture?** People [ask](https://github.com/huggingface/pytorch-image-models/issues/2118),
#   since the paper and the code differ. And a mask of shape (B,) meets the *last* axis:

# %% tags=["nbval-check-output"]
branch, keep = torch.ones(4, 4), torch.tensor([1.0, 0.0, 1.0, 1.0])  # 4 pictures of 4 channels, one to drop
print("keep * branch:         ", (keep * branch).tolist()[0], "for every picture: a channel is gone")
print("keep[:, None] * branch:", (keep[:, None] * branch).sum(dim=1).tolist(), "left of the pictures")

# %% [markdown]
# And how bad is the residual from the normed stream in an encoder that was not trained so?


# %%
class BadMerge(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        x = x + self.block.attn(self.block.norm1(x))
        x = self.block.norm2(x)  # the line that should have made a new name
        return x + self.block.mlp(x)


merged = copy.deepcopy(encoder)
for i, block in enumerate(merged.blocks):
    merged.blocks[i] = BadMerge(block)
print(f"recognised: {recognised(merged(images)):.0%}")

# %% [markdown]
# ## In five lines
#
# 1. One stream runs through the whole encoder; every block only adds to it, once from attention, once from the MLP.
# 2. LayerNorm brings each token by itself to mean 0 and variance 1, over its channels, eps inside the root.
# 3. Pre-norm leaves the stream alone and trains easily; post-norm norms the stream and wants a warm-up.
# 4. Positions are added to the tokens or to the scores; without them a picture and its puzzle are one.
# 5. A branch can be dropped while training, picture by picture; a trained block can often be missed, the stream never.
#
# ## New words
#
# - **encoder**: the row of blocks that the tokens go through.
# - **residual stream**: the tokens as they flow past all blocks, each of which only adds to them.
# - **branch**: what is computed from the stream on the side, attention or MLP, and then added to it.
# - **LayerNorm**: each token is shifted and scaled to mean 0 and variance 1 over its own channels, then stretched by
#   learned weights.
# - **pre-norm, post-norm**: whether the norm stands before the branch, or behind the addition.
# - **MLP**: two linear layers with a bend between them, on each token by itself.
# - **GELU**: the bend of ViT, x times the probability that a normal number is below x.
# - **relative position bias**: a learned number for each distance between query and key, added to their score.
# - **DropPath**: while training, a branch is left out at random for single pictures; also called stochastic depth.
# - **warm-up**: the first steps of training are small ones.
#
# **To read:** Xiong et al. 2020, [*On Layer Normalization in the Transformer
# Architecture*](https://arxiv.org/abs/2002.04745) · Veit et al. 2016, [*Residual Networks Behave Like Ensembles of
# Relatively Shallow Networks*](https://arxiv.org/abs/1605.06431) · Raghu et al. 2021, [*Do Vision Transformers See
# Like Convolutional Neural Networks?*](https://arxiv.org/abs/2108.08810)
#
# **Harder, without a check:** a block can also run its branches side by side, `x + attn(norm(x)) + mlp(norm(x))`, with
# one norm for both: fewer steps in a row, so it is faster. Write it, train it in `race`, and find out whether the first
# linear layers of the two branches can be one matrix.
#
# **Next:** [04 · ViT](04_vision_transformer.ipynb).
