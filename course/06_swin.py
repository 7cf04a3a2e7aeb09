# ---
# jupyter:
#   vit_edu:
#     title: "Swin: attention in windows that move"
#     minutes: 60
#     builds_on: ["04"]
#     builds: a Swin from five functions of yours, equal to torchvision's at its published size
# ---

# %% [markdown]
# # 06 · Swin: attention in windows that move
#
# **60 minutes. Builds on** [04 · ViT](04_vision_transformer.ipynb).
#
# In a ViT every patch looks at every other. That is what it is good at, and what makes large images dear. Swin looks at
# a small window at a time, and moves the windows from block to block. At the end you can
# - count what windows save, and measure it;
# - cut a map into windows, shift it, and say who may attend to whom afterwards;
# - give attention a sense of place with a table that fits every image size;
# - build a whole Swin that takes published weights and gives the published answer;
# - prove, in two lines each, what a stage of Swin cannot see without its shift, and without its mask.

# %% [markdown]
# ## Predict first
#
# Write down your guesses; the lesson answers all four.
#
# 1. A photo gets twice as high and twice as wide. How much more work is attention in windows of a fixed size?
# 2. Eight blocks of attention, all in the same windows. You change one pixel. How much of the output can change?
# 3. The map is shifted by half a window, and what leaves at the top left comes in at the bottom right. In the window of
#    that corner lie 4 × 4 tokens. How many of them come from the same corner of the photo?
# 4. You leave out the mask that keeps the others apart, and roll the photo sideways by one window. What happens to the
#    answer?

# %% [markdown]
# ## Why windows?
#
# You counted it in lesson 02: with N tokens of width C, attention takes 4·N·C² multiply-adds for its projections and
# 2·N²·C for its pairs. ViT's patches of 16 pixels keep N small. For small things in an image one wants smaller
# patches. Swin begins with 4 pixels: sixteen times as many tokens, sixteen times sixteen as many pairs.

# %%
import time
from functools import partial

import torch
import vit_edu
from torch import nn
from vit_edu import layers, models, plots
from vit_edu.widgets import ReceptiveFieldExplorer, WindowShiftExplorer

torch.set_num_threads(1)  # what is as small as here is quicker on one core, and easier to time
attention_cost = vit_edu.mine("attention_cost")

# %% [markdown]
# So let a token attend to its window only. A window of 7 × 7 tokens, wherever it lies, costs as much as any other 49
# tokens, and the whole costs that as many times as there are windows.


# %% tags=["nbval-check-output"]
def window_cost(H, W, C, h, M):
    """H x W tokens of width C, h heads, windows of M x M -> multiply-adds"""
    return (H // M) * (W // M) * attention_cost(M * M, C, h)


print("image  tokens   million multiply-adds: global     windows    ratio")
for side in (224, 448, 896, 1792):
    n = side // 4  # tokens a side
    everywhere, inside = attention_cost(n * n, 96, 3), window_cost(n, n, 96, 3, 7)
    print(f"{side:5} {n * n:7,} {everywhere / 1e6:30,.0f} {inside / 1e6:11,.0f} {everywhere / inside:8.0f}")

# %% [markdown]
# Your first guess: twice the side is four times the tokens, and four times the work, not sixteen. These two columns are
# equations 1 and 2 of the Swin paper. Does a clock agree? (Both run torch's fused kernel here.)

# %%
everywhere, inside = layers.Attention(96, 3), layers.WindowAttention(96, 3, window_size=(7, 7))


@torch.no_grad()
def milliseconds(layer, x):
    """The best of three: others may be busy on this machine"""
    found = []
    for _ in range(3):
        start = time.perf_counter()
        layer(x)
        found.append(1000 * (time.perf_counter() - start))
    return min(found)


for n in (14, 28, 56, 84):
    x = torch.randn(1, n, n, 96)
    a, b = milliseconds(everywhere, x.flatten(1, 2)), milliseconds(inside, x)
    counted = attention_cost(n * n, 96, 3) / window_cost(n, n, 96, 3, 7)
    print(f"{n} x {n} tokens: global {a:6.1f} ms, windows {b:5.1f} ms, ratio {a / b:4.1f} (counted {counted:4.1f})")

# %% [markdown]
# The ratio grows as counted, but need not reach it: to cut and move windows is work too, and it is not in the count.

# %% [markdown]
# ## Cut the map into windows
#
# From here on tokens keep their places: a **map** (B, H, W, C), channels last. A window is a block of it, Wh rows high
# and Ww columns wide. Here are the windows of a photo, in the order in which we want them.

# %%
photos = vit_edu.load_dataset("photos")
cat = photos.images[photos.names.index("cat")].float() / 255  # (3, 224, 224)
plots.plot_patch_grid(cat, patch_size=56)

# %% [markdown]
# ### Exercise · window_partition
#
# In the shapes nW is the number of windows, n = Wh · Ww the tokens of one. You wrote nearly this in lesson 01.


# %%
def window_partition(x, window_size):
    """x (B, H, W, C), window_size (Wh, Ww), which divide H and W -> windows (B, nW, n, C), row by row"""
    ### BEGIN SOLUTION
    B, H, W, C = x.shape
    Wh, Ww = window_size
    x = x.reshape(B, H // Wh, Wh, W // Ww, Ww, C)
    x = x.permute(0, 1, 3, 2, 4, 5)  # (B, H/Wh, W/Ww, Wh, Ww, C)
    return x.reshape(B, -1, Wh * Ww, C)
    ### END SOLUTION


# %%
window_partition = vit_edu.check("window_partition", window_partition)

# %% [markdown]
# The way back is the kit's `layers.window_reverse`. There and back again must change nothing:

# %% tags=["nbval-check-output"]
x = torch.randn(2, 8, 12, 5)
windows = window_partition(x, (4, 6))
print(tuple(x.shape), "->", tuple(windows.shape))
print("there and back:", torch.equal(layers.window_reverse(windows, (4, 6), (8, 12)), x))

# %% [markdown]
# Attention with axes in front needs no new code: nW stands there beside B and the heads. Every window is a small set of
# its own.

# %% [markdown]
# ## Who stands where: a bias for each pair
#
# A set has no order: so far a window is a bag of 49 tokens. ViT added a position to each token. Swin adds a number to
# each *score* instead, which depends only on where the key stands as seen from the query: equation 4,
#
# $$\operatorname{Attention}(Q,K,V)=\operatorname{softmax}\!\left(\frac{QK^{\top}}{\sqrt{d}}+B\right)V.$$
#
# The numbers come from a learned table with one row for each (dy, dx). In a window of 2 × 3, dy goes from −1 to 1, dx from
# −2 to 2: 3 × 5 rows. Here is which pair of tokens uses which row; "1,2" is the token in row 1 and column 2.

# %%
names = ["0,0", "0,1", "0,2", "1,0", "1,1", "1,2"]
plots.plot_matrix(
    layers.relative_position_index((2, 3)),
    rows=names,
    columns=names,
    numbers=True,
    title="row of the table for query (down) and key (across)",
)

# %% [markdown]
# Every diagonal of a block is one number: the same step, the same bias. The row for staying where you are is 7, the
# middle of 0 to 14.
#
# ### Exercise · relative_position_index
#
# dy = row of the query − row of the key, dx likewise with columns. Number the pairs (dy, dx) as you would number the
# places of a table: one row for each dy, and in it all dx, both from the smallest to the largest, from 0 on.


# %%
def relative_position_index(window_size):
    """window_size (Wh, Ww) -> (n, n) whole numbers, query by key: the row of the table for each pair"""
    ### BEGIN SOLUTION
    Wh, Ww = window_size
    y = torch.arange(Wh).repeat_interleave(Ww)  # (n,): 0 0 0 1 1 1
    x = torch.arange(Ww).repeat(Wh)  # (n,): 0 1 2 0 1 2
    dy, dx = y[:, None] - y[None, :], x[:, None] - x[None, :]  # (n, n)
    return (dy + Wh - 1) * (2 * Ww - 1) + (dx + Ww - 1)
    ### END SOLUTION


# %%
relative_position_index = vit_edu.check("relative_position_index", relative_position_index)

# %% [markdown]
# What can such a table say? Make two by hand: *near is better*, and *look to the left*. With empty tokens the weights are
# the softmax of the bias alone. Three tokens of a 7 × 7 window ask: the corner, the middle, the right edge.

# %%
dy, dx = torch.meshgrid(torch.arange(-6.0, 7), torch.arange(-6.0, 7), indexing="ij")  # query minus key
near, left = -(dy**2 + dx**2).sqrt(), 0.8 * dx - dy.abs()
index = relative_position_index((7, 7))  # (49, 49)
maps, titles = [], []
for name, table in {"near": near, "left": left}.items():
    weights = table.flatten()[index].softmax(dim=-1)  # (49, 49)
    for where, query in {"corner": 0, "middle": 24, "right edge": 27}.items():
        maps.append((weights[query] / weights[query].max()).view(1, 7, 7))
        titles.append(f"{name}: {where}")
plots.plot_images(maps, titles=titles, columns=6)

# %% [markdown]
# One small table serves every query, every window and every image size: a Swin has no grid of positions to resize.

# %% [markdown]
# ## Windows that never talk
#
# Your second guess. Take eight blocks with random weights, all in the same windows. Spoil one pixel of the cat (the red
# spot), and light up every token whose output changes.


# %%
def build(attention, depth=8):
    torch.manual_seed(0)
    words = {"patch_size": 8, "embed_dim": 24, "depths": (depth,), "num_heads": (3,), "window_size": 7}
    model = models.SwinTransformer(224, num_classes=0, attention=attention, **words)
    for part in model.modules():
        if isinstance(part, nn.Linear):
            part.reset_parameters()  # larger numbers than a Swin begins with: small ones get lost in rounding
    return model.double().eval()


def without_shift(dim, num_heads, window_size, shift_size):
    return layers.WindowAttention(dim, num_heads, window_size)


@torch.no_grad()
def touched(model, image, pixel):
    """Which tokens change at all when that pixel does: (H, W) of 0 and 1"""
    image = image.double()
    spoilt = image.clone()
    spoilt[:, pixel[0], pixel[1]] = 1 - spoilt[:, pixel[0], pixel[1]]
    before, after = (model.forward_features(2 * each[None] - 1)[0] for each in (image, spoilt))
    return ((before - after).abs().amax(dim=-1) > 0).float()


def lit(image, tokens):
    picture = image * (0.25 + 0.75 * tokens.repeat_interleave(8, 0).repeat_interleave(8, 1))
    top, left = pixel[0] - 3, pixel[1] - 3
    picture[:, top : top + 7, left : left + 7] = torch.tensor([1.0, 0.2, 0.2])[:, None, None]  # the pixel, enlarged
    return picture


# %%
pixel = (100, 60)
alone = touched(build(without_shift), cat, pixel)
print(f"{int(alone.sum())} of {alone.numel()} tokens change")
plots.plot_images([lit(cat, alone)], titles=["eight blocks, one window"])

# %% [markdown]
# One window of sixteen, however many blocks follow. Sixteen small networks run side by side and do not know of each
# other. This is the price of windows, and the idea of Swin is how to pay it: **move the windows by half of one in
# every second block.** Then the old borders lie inside the new windows.

# %% [markdown]
# ## The shift
#
# Moved windows stick out at the edges, and there would be more of them, of many sizes. Swin moves the *map* instead, up
# and to the left, and lets what leaves come in at the other side: a **cyclic shift**. The number of windows stays.
#
# Step through it: choose *Shift*, then *Masked attention*, and look at a token of the last window. Whom are the crosses for?
# Then switch the mask off.

# %%
WindowShiftExplorer(cat, grid_size=(8, 8), window_size=4)

# %% [markdown]
# The shift is one call, and one more call takes it back.

# %% tags=["nbval-check-output"]
numbers = torch.arange(64).view(1, 8, 8, 1)
shifted = numbers.roll((-2, -2), dims=(1, 2))
print("first row after the shift:", shifted[0, 0, :, 0].tolist())
print("last row after the shift: ", shifted[0, -1, :, 0].tolist())
print("taken back:", torch.equal(shifted.roll((2, 2), dims=(1, 2)), numbers))

# %% [markdown]
# ## The mask
#
# In the last window all four corners of the photo meet, 4 tokens of each. That is your third guess: a token there has 4
# of 16 as true neighbours, itself among them. In the other windows at the end it is 8 of 16.
#
# So number the **regions**, the parts of the map that came through the shift in one piece. The published code counts
# nine, since it also draws a line before the last windows.

# %%
bands = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])  # 8 tokens a side, windows of 4, shifted by 2
plots.plot_matrix(3 * bands[:, None] + bands, numbers=True, title="regions after the shift, windows of 4 × 4")

# %% [markdown]
# Two tokens of a window may attend to each other if they are of one region. For all others something is added to the
# score that leaves nothing of them: the published models add −100, and exp(−100) is as good as zero.
#
# ### Exercise · shift_mask
#
# One mask (n, n) for each window of the shifted map: 0 where query and key are of one region, −100 where not. A shift
# may be 0 along one side or along both; then nothing comes in at the other end, and no pair is masked for it.


# %%
def shift_mask(grid_size, window_size, shift_size):
    """grid_size (H, W), window_size (Wh, Ww), shift_size (rows, columns), smaller than the window
    -> (nW, n, n), 0 or -100"""
    ### BEGIN SOLUTION
    (H, W), (Wh, Ww), (down, right) = grid_size, window_size, shift_size
    row = (torch.arange(H) >= H - Wh).long() + (torch.arange(H) >= H - down)  # 0 … 0 1 1 2 2
    column = (torch.arange(W) >= W - Ww).long() + (torch.arange(W) >= W - right)
    regions = 3.0 * row[:, None] + column  # (H, W)
    regions = window_partition(regions[None, :, :, None], window_size)[0, :, :, 0]  # (nW, n)
    strangers = regions[:, :, None] != regions[:, None, :]  # (nW, n, n)
    return -100.0 * strangers
    ### END SOLUTION


# %%
shift_mask = vit_edu.check("shift_mask", shift_mask)

# %% [markdown]
# An answer that needs no regions: walk through all pairs. Two tokens of a window are neighbours if the step from one to
# the other is the same in the photo as in the shifted map. Does your mask say the same?

# %% tags=["nbval-check-output"]
mask = shift_mask((8, 8), (4, 4), (2, 2))
old = window_partition(shifted.float(), (4, 4))[0, :, :, 0]  # (4, 16): the number of each token in the photo
agree = True
for window in range(4):
    for i in range(16):
        for j in range(16):
            a, b = divmod(old[window, i].item(), 8), divmod(old[window, j].item(), 8)  # rows and columns in the photo
            photo_step = (a[0] - b[0], a[1] - b[1])
            window_step = (i // 4 - j // 4, i % 4 - j % 4)
            agree = agree and (mask[window, i, j].item() == 0) == (photo_step == window_step)
print("mask", tuple(mask.shape), "| as the walk through all", mask.numel(), "pairs says:", agree)
print("tokens that a token may see, by window:", [int((mask[w] == 0).sum(-1).float().mean()) for w in range(4)])

# %%
plots.plot_images(
    0.85 * (mask == 0).float()[:, None], titles=[f"window {w}" for w in range(4)], alt="Four masks of 16 by 16, light where "
    "attention may go: all of window 0; in windows 1 and 2 half; in window 3 a quarter, each region by itself."
)  # fmt: skip

# %% [markdown]
# ## Attention in windows
#
# All parts are there. Shift, cut, attend with bias and mask, put together, shift back.
#
# ### Exercise · window_attention
#
# The table is (number of rows, h): each head has its own column. `index` tells which row a pair uses, so that
# `table[index]` is (n, n, h). The line that makes `shift` is a rule of the published models: where one window covers a
# whole side, nothing is shifted along it.

# %%
split_heads = vit_edu.mine("split_heads")


# %%
class WindowAttention(nn.Module):
    """x (B, H, W, C) -> (B, H, W, C); Wh divides H and Ww divides W"""

    def __init__(self, dim, num_heads, window_size=(7, 7), shift_size=(0, 0)):
        super().__init__()
        self.num_heads, self.window_size, self.shift_size = num_heads, window_size, shift_size
        rows = (2 * window_size[0] - 1) * (2 * window_size[1] - 1)
        self.relative_position_bias_table = nn.Parameter(0.02 * torch.randn(rows, num_heads))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        grid = tuple(x.shape[1:3])
        shift = [s if side > window else 0 for s, side, window in zip(self.shift_size, grid, self.window_size)]
        ### BEGIN SOLUTION
        x = x.roll((-shift[0], -shift[1]), dims=(1, 2))
        x = window_partition(x, self.window_size)  # (B, nW, n, C)
        parts = split_heads(self.qkv(x).flatten(0, 1), self.num_heads)  # 3 times (B*nW, h, n, d)
        q, k, v = (part.unflatten(0, x.shape[:2]) for part in parts)  # (B, nW, h, n, d) each
        index = relative_position_index(self.window_size)
        bias = self.relative_position_bias_table[index].permute(2, 0, 1)  # (n, n, h) -> (h, n, n)
        mask = shift_mask(grid, self.window_size, shift).to(x)  # (nW, n, n)
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5 + bias + mask[:, None]  # (B, nW, h, n, n)
        mixed = (scores.softmax(dim=-1) @ v).transpose(2, 3).flatten(3)  # (B, nW, n, C)
        x = layers.window_reverse(self.proj(mixed), self.window_size, grid)  # (B, H, W, C)
        return x.roll(shift, dims=(1, 2))
        ### END SOLUTION


# %%
WindowAttention = vit_edu.check("window_attention", WindowAttention)

# %% [markdown]
# ## Fewer tokens, wider tokens
#
# A ViT keeps its grid from the first block to the last. Swin makes it coarser on the way, as convolutional networks
# do: four neighbours are laid side by side, 4·C numbers, and a linear layer makes 2·C of them. The norm comes before that
# layer, over all 4·C at once.
#
# ### Exercise · patch_merging
#
# The order of the four is a matter of taste, and published weights know one only: upper left, lower left, upper right,
# lower right. An odd side first gets a row of zeros at the bottom, or a column at the right.


# %%
class PatchMerging(nn.Module):
    """x (B, H, W, C) -> (B, H/2, W/2, 2*C), rounded up"""

    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x):
        ### BEGIN SOLUTION
        B, H, W, C = x.shape
        x = nn.functional.pad(x, (0, 0, 0, W % 2, 0, H % 2))  # counted from the last axis: C, W, H
        parts = [x[:, p::2, q::2] for q in (0, 1) for p in (0, 1)]  # 4 times (B, H/2, W/2, C)
        return self.reduction(self.norm(torch.cat(parts, dim=-1)))
        ### END SOLUTION


# %%
PatchMerging = vit_edu.check("patch_merging", PatchMerging)

# %% [markdown]
# ## The whole Swin
#
# A block is ViT's, with attention in windows: norm, attention, add, norm, MLP, add (equation 3). Every second one is
# shifted by half a window. A **stage** is a patch merging and a few blocks. The names are the published ones.


# %%
class Stage(nn.Module):
    """(B, H, W, C) -> (B, H/2, W/2, 2*C), the first stage (B, H, W, C) -> (B, H, W, C)"""

    def __init__(self, dim, depth, num_heads, window_size, first, attention):
        super().__init__()
        self.downsample = nn.Identity() if first else PatchMerging(dim // 2)
        self.blocks = nn.Sequential()
        for i in range(depth):
            shift_size = (window_size // 2, window_size // 2) if i % 2 else (0, 0)
            windows = partial(attention, window_size=(window_size, window_size), shift_size=shift_size)
            self.blocks.append(layers.Block(dim, num_heads, norm_eps=1e-5, attention=windows))

    def forward(self, x):
        return self.blocks(self.downsample(x))


class Swin(nn.Module):
    """images (B, in_chans, H, W) -> (B, num_classes)"""

    def __init__(
        self,
        patch_size=4,
        in_chans=3,
        num_classes=1000,
        embed_dim=96,
        depths=(2, 2, 6, 2),
        num_heads=(3, 6, 12, 24),
        window_size=7,
        attention=WindowAttention,
    ):
        super().__init__()
        self.patch_embed = models.swin.PatchMap(patch_size, in_chans, embed_dim)  # a convolution and a norm
        self.layers = nn.Sequential(
            *(
                Stage(embed_dim * 2**i, depth, heads, window_size, i == 0, attention)
                for i, (depth, heads) in enumerate(zip(depths, num_heads))
            )
        )
        width = embed_dim * 2 ** (len(depths) - 1)
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.head = nn.Linear(width, num_classes)

    def features(self, images):
        return self.norm(self.layers(self.patch_embed(images)))  # (B, H, W, C) of the last stage

    def forward(self, images):
        return self.head(self.features(images).mean(dim=(1, 2)))


# %% [markdown]
# The proof, small first, in float64. torchvision's Swin with random numbers in every parameter (a bias that begins at
# zero would hide mistakes); the kit's, which knows torchvision's names; and yours.

# %% tags=["nbval-check-output"]
import torchvision

words = {"patch_size": 2, "embed_dim": 12, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4, "num_classes": 10}
pairs = {"patch_size": [2, 2], "window_size": [4, 4], "depths": [2, 2], "num_heads": [2, 4]}
torch.manual_seed(0)
theirs = torchvision.models.SwinTransformer(**words | pairs, stochastic_depth_prob=0.0).double().eval()
with torch.no_grad():
    for name, parameter in theirs.named_parameters():
        parameter += (1.0 if "bias_table" in name else 0.2) * torch.randn_like(parameter)

kits = models.create_model("swin_tiny_patch4_window7_224", img_size=(48, 64), **words).double().eval()
vit_edu.load_weights(kits, theirs.state_dict(), source="torchvision")
swin = Swin(**words).double().eval()
swin.load_state_dict(kits.state_dict())

images = torch.randn(2, 3, 48, 64, dtype=torch.float64)  # 24 x 32 tokens, then 12 x 16
with torch.no_grad():
    answer = theirs(images)
    print("the kit's equals torchvision's:", torch.allclose(kits(images), answer, atol=1e-10))
    print("yours equals torchvision's:    ", torch.allclose(swin(images), answer, atol=1e-10))

# %% [markdown]
# And at the published size. **Swin-T** has four stages; on the way the map gets smaller and the tokens wider.

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
theirs_t = torchvision.models.swin_t().eval()
with torch.no_grad():
    for parameter in theirs_t.parameters():
        parameter += 0.02 * torch.randn_like(parameter)

kits_t = models.create_model("swin_tiny_patch4_window7_224")
vit_edu.load_weights(kits_t, theirs_t.state_dict(), source="torchvision")
swin_t = Swin().eval()
swin_t.load_state_dict(kits_t.state_dict())
print("parameters of yours:", f"{sum(p.numel() for p in swin_t.parameters()):,}")

x = 2 * cat[None] - 1
with torch.no_grad():
    answer = theirs_t(x)
    difference = (swin_t(x) - answer).abs().max() / answer.abs().max()
    x = swin_t.patch_embed(x)
    for i, stage in enumerate(swin_t.layers):
        x = stage(x)
        print(f"after stage {i}: {tuple(x.shape)}")
print("equal to torchvision's swin_t to 1e-5 of its largest logit:", bool(difference < 1e-5))
del theirs_t, kits_t, swin_t

# %% [markdown]
# ## With the shift: how far does a pixel reach?
#
# The experiment of before, now with yours in the place of the kit's. How fast does the news of a pixel travel?

# %%
pictures = {f"{d} block{'s' * (d > 1)}": touched(build(WindowAttention, d), cat, pixel) for d in (1, 2, 3, 6)}
for name, tokens in pictures.items():
    print(f"{name:8}: {int(tokens.sum()):3} of {tokens.numel()} tokens change")
plots.plot_images([lit(cat, tokens) for tokens in pictures.values()], titles=list(pictures))

# %% [markdown]
# One window; then the four shifted windows that it touches; then all windows that these touch. A ViT reaches everything
# in its first block. Swin's stages help: after a merging the same 7 × 7 tokens cover twice the side.
#
# The same from the other end: which *pixels* reach one output? In the third model the mask is missing, and light falls
# on the far edge. Move the output away from the edge, and change the depth: when do the three agree?


# %%
class WithoutMask(layers.WindowAttention):
    """Shifted outside of the layer, which knows nothing of it and masks nobody."""

    def __init__(self, dim, num_heads, window_size, shift_size):
        super().__init__(dim, num_heads, window_size)
        self.by = shift_size

    def forward(self, x, return_weights=False):
        x = layers.cyclic_shift(x, self.by)
        x, weights = super().forward(x, return_weights=True)
        x = layers.cyclic_shift(x, (-self.by[0], -self.by[1]))
        return (x, weights) if return_weights else x


three = {"no shift": without_shift, "Swin": layers.WindowAttention, "no mask": WithoutMask}
tiny = {"patch_size": 2, "embed_dim": 12, "depths": (3,), "num_heads": (2,), "window_size": 4, "num_classes": 0}
fields = {}
for name, attention in three.items():
    torch.manual_seed(0)
    fields[name] = models.SwinTransformer(32, attention=attention, **tiny)
small = nn.functional.interpolate(cat[None], (32, 32), mode="bilinear", antialias=True)[0]
explorer = ReceptiveFieldExplorer(fields, small)
explorer.depth, explorer.selected = 2, 32  # after two blocks, an output at the left edge
explorer

# %% [markdown]
# ## A surprise: a world without edges, and a world of cards
#
# Your fourth guess. Roll the photo sideways by one window, so that its right part comes in at the left, and ask the
# three for their answer, the mean of all features. Then, another game: cut the photo along the windows and shuffle the
# windows like cards.


# %% tags=["nbval-check-output"]
def answer_of(model, image):
    with torch.no_grad():
        return model.double().eval().forward_features(image).mean(dim=(1, 2))


image = 2 * small[None].double() - 1  # 16 x 16 tokens, windows of 4: a window is 8 pixels wide
rolled = image.roll(8, dims=3)
cards = layers.window_partition(image.permute(0, 2, 3, 1), (8, 8))
torch.manual_seed(0)
shuffled = layers.window_reverse(cards[:, torch.randperm(16)], (8, 8), (32, 32)).permute(0, 3, 1, 2)
for name, model in fields.items():
    before = answer_of(model, image)
    for game, after in {"rolled by a window": rolled, "windows shuffled": shuffled}.items():
        print(f"{name:8} {game:18}: the same answer {torch.allclose(answer_of(model, after), before, atol=1e-12)}")

# %%
plots.plot_images([small, (rolled[0] + 1) / 2, (shuffled[0] + 1) / 2], titles=["the cat", "rolled", "shuffled"])

# %% [markdown]
# Not *nearly* the same: equal to rounding, with any weights, trained or not. Without the mask the map is a world without
# edges, like a ring, and the model cannot know where a photo begins. Without the shift it does not even know which
# window lies beside which. (These models have one stage. A merging joins windows, so that later stages see more.)
#
# What cannot be seen cannot be learned. Here is a task that shows it. A picture has 8 × 8 pixels, and two of them, in
# the same row, are bright. Do they lie side by side, in the middle, or as far apart as can be? Every picture comes
# twice, the second time rolled by a window.


# %%
def spots(n, generator):
    """n pairs -> images (2n, 1, 8, 8), and 1 where the spots lie side by side"""
    images = 0.3 * torch.rand(n, 1, 8, 8, generator=generator) - 1
    rows = torch.randint(0, 8, (n,), generator=generator)
    images[torch.arange(n), 0, rows, 3] = 1
    images[torch.arange(n), 0, rows, 4] = 1
    return torch.cat([images, images.roll(4, dims=3)]), torch.arange(2).flip(0).repeat_interleave(n)


examples, _ = spots(3, torch.Generator().manual_seed(1))
plots.plot_images(0.2 + 0.3 * (examples + 1), titles=["side by side"] * 3 + ["far apart"] * 3)

# %% [markdown]
# Two blocks, a window of 4, some seconds of training each. The answer is read from the largest features instead of
# their mean: one token that has seen both is enough.


# %%
def without_shift_mine(dim, num_heads, window_size, shift_size):
    return WindowAttention(dim, num_heads, window_size)


def train(attention, steps=120):
    torch.manual_seed(0)
    net = Swin(1, 1, 2, embed_dim=16, depths=(2,), num_heads=(2,), window_size=4, attention=attention)
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    generator, losses = torch.Generator().manual_seed(0), []
    for _ in range(steps):
        images, labels = spots(16, generator)
        logits = net.head(net.features(images).amax(dim=(1, 2)))
        loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    images, labels = spots(500, generator)  # pictures that it has not seen
    with torch.no_grad():
        right = net.head(net.features(images).amax(dim=(1, 2))).argmax(dim=-1) == labels
    return losses, right.float().mean().item()


curves = {}
for name, attention in {"no shift": without_shift_mine, "no mask": WithoutMask, "Swin": WindowAttention}.items():
    losses, right = train(attention)
    curves[name] = torch.tensor(losses).view(-1, 5).mean(dim=1)  # of 5 steps each
    print(f"{name:8}: {right:.0%} right")

# %%
plots.plot_curves(range(5, 121, 5), curves, xlabel="step", ylabel="loss")

# %% [markdown]
# Guessing gives half of them right. Of course this task was made to show it. How much do real photos mind? In Liu et al.
# 2021, table 4, Swin-T on ImageNet is right in 81.3 % with shifted windows, and in 80.2 % with windows that stay. A Swin
# without the mask is not in that table. But count how much there is to hide:

# %% tags=["nbval-check-output"]
for stage, n in enumerate((56, 28, 14)):
    mask = shift_mask((n, n), (7, 7), (3, 3))
    some = (mask < 0).flatten(1).any(dim=1).float().mean()
    print(
        f"stage {stage}: {n} x {n} tokens, {some:.0%} of the windows have a mask, {(mask < 0).float().mean():.0%} of pairs"
    )

# %% [markdown]
# Where maps are large, the edges are far and the mask is rare. But half of Swin-T's blocks stand in stage 2, every second
# of them is shifted, and there most windows have a mask.

# %% [markdown]
# ## What the paper says
#
# | here | Liu et al. 2021, *Swin Transformer* |
# | --- | --- |
# | `attention_cost`, `window_cost` | equations 1 and 2, section 3.2 |
# | two blocks, the second one shifted | equation 3 and figure 3 (b) |
# | bias for each pair, `relative_position_index` | equation 4 |
# | cyclic shift and `shift_mask` | figure 4, "efficient batch computation" |
# | `PatchMerging`, the stages | section 3.1 and figure 3 (a) |
# | with and without the shift, with and without the bias | table 4 |
#
# The paper writes M for the side of a window, hw for the number of tokens, and calls attention in windows W-MSA, in
# shifted ones SW-MSA. Where one window covers all, its code shifts nothing.

# %% [markdown]
# ## What went wrong for other people
#
# All of these run without an error. Here is what each does to the small Swin of before, whose weights are torchvision's:
# to each token of the last map, and to the answer. (Where a mistake only exchanges numbers, exchanging weights does the
# same.)


# %%
def edited(**edits):
    """The weights, every one whose name ends with a word changed by that word's function"""
    found = {}
    for name, value in kits.state_dict().items():
        edit = [function for word, function in edits.items() if name.replace(".", "_").endswith(word)]
        found[name] = edit[0](value) if edit else value
    return found


def across_first(x):
    return torch.cat([x.chunk(4, dim=-1)[i] for i in (0, 2, 1, 3)], dim=-1)


def turned(table):
    return table.unflatten(0, (7, 7)).transpose(0, 1).flatten(0, 1)  # (49, h): 7 values of dy, 7 of dx


merged = {
    "downsample_norm_weight": across_first,
    "downsample_norm_bias": across_first,
    "reduction_weight": across_first,
}
wrong = {
    "four neighbours across before down": (edited(**merged), WindowAttention),
    "query and key exchanged in the bias": (edited(bias_table=lambda table: table.flip(0)), WindowAttention),
    "dy and dx exchanged": (edited(bias_table=turned), WindowAttention),
    "no mask": (edited(), WithoutMask),
    "no shift": (edited(), without_shift_mine),
}
images = nn.functional.interpolate(photos.images.double() / 127.5 - 1, (48, 64), mode="bilinear", antialias=True)
with torch.no_grad():
    tokens, answer = swin.features(images), swin(images)
    for name, (weights, attention) in wrong.items():
        spoilt = Swin(**words, attention=attention).double().eval()
        spoilt.load_state_dict(weights)
        of_tokens = (spoilt.features(images) - tokens).norm() / tokens.norm()
        print(
            f"{name:36}: tokens off by {of_tokens:4.0%}, answer by {(spoilt(images) - answer).norm() / answer.norm():.1%}"
        )

# %% [markdown]
# The mean over all tokens makes a mistake look small. Compare maps, not answers, when you look for one.
#
# - **2·Wh − 1 for 2·Ww − 1.** Right for every square window, and the published ones are square. The check uses others.
#   With three axes a wrong length gives two pairs one row even in a cube: nnFormer was told so in a [pull request](https://github.com/282857341/nnFormer/pull/88).
# - **Regions numbered by the wrong end.** Cut the last window after `shift` tokens, not before the last `shift`: right
#   where the shift is half of the window, wrong for a window of 7.
# - **Sizes that windows do not divide.** torchvision pads the map first and shifts then; timm shifts first. From the
#   same weights come different answers. The kit does as torchvision.
# - **A window larger than the map.** In the last stage of a smaller image. torchvision pads the map, timm makes the
#   window and its table smaller, and then published tables do not fit.

# %% [markdown]
# ## In five lines
#
# 1. Attention in windows of fixed size costs as much more as there are more tokens: four times for twice the side.
# 2. Every second block shifts the map by half a window, so that neighbours across a border meet.
# 3. The shift is cyclic; a mask of −100 parts those whom it has brought together by accident.
# 4. A bias for each (dy, dx) and head tells a window's tokens where they stand, at any image size.
# 5. Between stages four neighbours become one token, twice as wide.
#
# ## New words
#
# - **window**: a block of neighbouring tokens that attend to each other and to nobody else.
# - **W-MSA, SW-MSA**: multi-head self-attention in windows, and in shifted windows.
# - **cyclic shift**: moving a map so that what leaves at one side comes in at the other.
# - **shift mask**: what is added to the scores so that tokens brought together by the cyclic shift do not attend.
# - **patch merging**: laying four neighbouring tokens side by side and projecting them to one of twice the width.
# - **stage**: blocks that work on a map of one size.
#
# **To read:** Liu et al. 2021, *Swin Transformer*, section 3 · Liu et al. 2022, *Swin Transformer V2* · Liu et al. 2022,
# *A ConvNet for the 2020s*, which gives a convolutional network Swin's plan.
#
# **Harder, without a check:** let `WindowAttention` take maps that its windows do not divide: pad with zeros at the
# bottom and right, then shift, and cut the padding off at the end. Compare with `layers.WindowAttention`. Do the padded
# tokens need a mask?
#
# **Next:** [07 · Hybrids](07_hybrids.ipynb), where convolutions and attention share the work.
