# ---
# jupyter:
#   vit_edu:
#     title: Hybrids, and "why is my ViT so poor?"
#     minutes: 60
#     builds_on: ["04", "06"]
#     builds: the convolutional parts of CCT and MobileViT, a laboratory of inductive bias, and a checklist for poor ViTs
# ---

# %% [markdown]
# # 07 · Hybrids, and "why is my ViT so poor?"
#
# **60 minutes. Builds on** [04 · ViT](04_vision_transformer.ipynb) and [06 · Swin](06_swin.ipynb).
#
# You train a ViT on your own few thousand pictures, and a plain CNN beats it. Is it a bug? Mostly it is not: a
# convolution *knows* something about pictures that attention has to learn from them. This lesson says what, builds the
# models that borrow it, and measures what it is worth. At the end you can
# - say which three things a convolution knows, and show each of them;
# - compute what one output of any stack of convolutions sees;
# - build the tokens and the pooling of CCT, and MobileViT's way of attending, inside the kit's models;
# - read the laboratory: size of data against inductive bias, for four models of equal size;
# - find out in a minute whether a poor ViT has a bug, a bad setting or too few pictures.

# %% [markdown]
# ## Predict first
#
# Write down your guesses; the lesson answers all five.
#
# 1. The camera moves by one pixel. How many of a ViT's tokens stay as they were? And if it moves by a whole patch?
# 2. Four convolutions of 3 × 3, each with a stride of 2, one behind the other. How many pixels a side reach one output?
# 3. A ViT, a Swin, a hybrid and a CNN, all of one size, learn clothes from three hundred pictures, then from nine
#    thousand. In which order do they come in?
# 4. Somebody's ViT for two classes reports a loss of forty-five. What is the loss of one who always says "fifty-fifty"?
# 5. The pixels of all pictures are shuffled, always in the same way, as in lesson 04, where the ViT did not mind. Does
#    the hybrid?

# %% [markdown]
# ## What a convolution knows
#
# Here is a convolution of one kernel, nine numbers, which looks for edges between left and right. Beside it the
# camera has moved by 40 pixels.

# %%
import math

import torch
import torch.nn.functional as F
import vit_edu
from torch import nn
from vit_edu import layers, models, plots

photos = vit_edu.load_dataset("photos")
photo = photos.images[photos.names.index("astronaut")].float() / 255  # (3, 224, 224)
kernel = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])[None, None]  # (1, 1, 3, 3)


def edges(image):
    """(3, H, W) -> (1, H, W): where left and right differ"""
    grey = image.mean(dim=0)[None, None]  # (1, 1, H, W)
    return F.conv2d(grey, kernel, padding=1)[0]


left, right = photo[:, :, :184], photo[:, :, 40:]  # two pictures of 224 × 184
shown = [left, edges(left).abs().clamp(0, 1), right, edges(right).abs().clamp(0, 1)]
plots.plot_images(shown, titles=["a photo", "its edges", "the camera moved", "its edges"], columns=4)

# %% tags=["nbval-check-output"]
there, here = edges(left)[..., 41:-1], edges(right)[..., 1:-41]  # the same piece of the world, without rims
print("the edges have moved along:", torch.allclose(there, here, atol=1e-6))

# %% [markdown]
# Moved in, moved out: this is **translation equivariance**. Nobody taught it; it follows from how a convolution is
# made. To see how, write it as what it is, a matrix: one row for each output pixel, one column for each input pixel of
# an image of 4 × 4.

# %%
pixels = torch.eye(16).view(16, 1, 4, 4)  # one lit pixel in each image
nine = torch.arange(1.0, 10).view(1, 1, 3, 3)
matrix = F.conv2d(pixels, nine, padding=1).view(16, 16).T  # (outputs, inputs)
plots.plot_matrix(
    matrix,
    title="a convolution as a matrix",
    alt="A matrix of 16 by 16: three bands of three lines each along the diagonal, nought everywhere else.",
)

# %% tags=["nbval-check-output"]
print("numbers in all:", matrix.numel())
print("not nought:    ", matrix.count_nonzero().item(), "<- locality: only neighbours count")
print("different ones:", len(matrix[matrix != 0].unique()), "<- shared weights: one rule everywhere")

# %% [markdown]
# Three things, then, and all three are ties that were cut or joined *before* any training: **locality** (what is far
# away has weight nought), **shared weights** (one rule for all places), and equivariance, which follows from sharing.
# They are called **inductive bias**: what a model takes for granted before it has seen a single picture.
#
# Attention takes nearly nothing for granted. Any token may look at any other, and what is near it has to find out.

# %% [markdown]
# ## What a ViT knows, and what it does not
#
# Nearly nothing is not nothing. The patch embedding is a convolution (lesson 01), and its stride is its kernel. So
# what happens when the camera moves? The first guess:

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
embed = nn.Conv2d(3, 192, kernel_size=16, stride=16)
tokens = embed(photo[:, :, 16:][None])[0]  # (192, 14, 13)
for pixels_moved in (1, 8, 16):
    moved = embed(photo[:, :, 16 - pixels_moved : 224 - pixels_moved][None])[0]
    same = (moved[:, :, 1:] - tokens[:, :, :-1]).abs().amax(dim=0) < 1e-4  # against the neighbour
    print(f"moved by {pixels_moved:2} pixels: {same.sum().item():3} of {same.numel()} tokens came along")

# %% [markdown]
# Equivariant, but only by whole patches: between them every token is new. (The positions, which are added next, break
# even that: a token in another place gets another vector.)
#
# Would a stack of small convolutions do better? Let us measure how alike the tokens stay, from 1 (the same) to 0, for a
# patch embedding, for four convolutions of stride 2, and for two of them. All weights are random.


# %%
def stack(*widths):
    """Convolutions of 3 × 3 with stride 2, batch norm and ReLU behind each."""
    parts, chans = [], 3
    for width in widths:
        conv = nn.Conv2d(chans, width, kernel_size=3, stride=2, padding=1, bias=False)
        parts += [conv, nn.BatchNorm2d(width), nn.ReLU()]
        chans = width
    return nn.Sequential(*parts)


def alike(network, step, pixels_moved):
    """Mean cosine similarity of the tokens before and after; the grid may move along by whole steps."""
    windows = (photo[:, 32:192, 32 - move : 192 - move] for move in (0, pixels_moved))
    before, after = (network(window[None])[0] for window in windows)  # (C, rows, columns)
    rim, places = 32 // step, round(pixels_moved / step)
    before = before[:, rim:-rim, rim : -rim - places or None]
    after = after[:, rim:-rim, rim + places : -rim]
    mean = before.mean(dim=(1, 2), keepdim=True)
    return F.cosine_similarity(before - mean, after - mean, dim=0).mean().item()


torch.manual_seed(0)
networks = {
    "patches of 16": (embed, 16),
    "4 convolutions": (stack(24, 48, 96, 192), 16),
    "2 convolutions": (stack(24, 48), 4),
}
moves = list(range(17))
curves = {}
with torch.no_grad():
    for name, (network, step) in networks.items():
        curves[name] = [alike(network, step, move) for move in moves]
plots.plot_curves(moves, curves, xlabel="pixels moved", ylabel="how alike the tokens stay")

# %% [markdown]
# *Four small convolutions are no better than one large one*: their curve lies even lower. Both put one token every 16
# pixels, and tokens come back only when the picture has moved by a whole step. What counts is the step, the product of
# the strides, and a CNN keeps it small for longer. Each stride costs some equivariance, in CNNs too (Zhang 2019,
# *Making convolutional networks shift-invariant again*).
#
# So what a hybrid gains by its convolutions must be something else: locality.

# %% [markdown]
# ## How far one output sees
#
# The pixels that can reach an output are its **receptive field**. A kernel of 3 sees 3 pixels a side. A second one
# behind it sees 3 neighbours, and the outer two of them each see one pixel more: 5. If the first has a stride of 2, those
# neighbours lie 2 pixels apart: 7.
#
# ### Exercise · receptive_field
#
# `layers` holds (kernel, stride) of each convolution or pooling, the one that touches the image first. How many pixels a
# side reach one output, from the first to the last?


# %%
def receptive_field(layers):
    """layers [(kernel, stride), ...], first to last -> pixels a side, int"""
    ### BEGIN SOLUTION
    side, step = 1, 1
    for kernel, stride in layers:
        side += (kernel - 1) * step  # the neighbours that this layer reads lie `step` pixels apart
        step *= stride
    return side
    ### END SOLUTION


# %%
receptive_field = vit_edu.check("receptive_field", receptive_field)

# %% [markdown]
# Does it agree with PyTorch? Ask the gradient: which pixels move one output of four convolutions in a row? That is
# your second guess.

# %% tags=["nbval-check-output"]
x = torch.zeros(1, 1, 64, 64, requires_grad=True)
y = x
for _ in range(4):
    y = F.conv2d(y, torch.ones(1, 1, 3, 3), stride=2, padding=1)
y[0, 0, 2, 2].backward()
print("pixels with a gradient, a side:", (x.grad[0, 0] != 0).any(dim=0).sum().item())
print("by your function:              ", receptive_field([(3, 2)] * 4))

# %% tags=["nbval-check-output"]
stems = {
    "ViT: patches of 16": [(16, 16)],
    "four convolutions, stride 2": [(3, 2)] * 4,
    "CCT 3x2: twice convolution, pooling": [(3, 1), (3, 2)] * 2,
    "ResNet-18 up to layer 3": [(7, 2), (3, 2)] + [(3, 1)] * 4 + 2 * ([(3, 2)] + [(3, 1)] * 3),
}
for name, convolutions in stems.items():
    step = math.prod(stride for _, stride in convolutions)
    print(f"{name:36} field {receptive_field(convolutions):3}, step {step:2}")

# %% [markdown]
# Look at the first row: field and step are equal, so tokens share no pixel, and a line that crosses a border is torn.
# In all others neighbours overlap.
#
# That is what *can* reach an output. What *does*, and how strongly, the explorer shows: it lights each pixel by its
# gradient. **Try:** the first step of each model, then the last; press *log*; choose a place at the border of a patch.

# %%
from vit_edu.widgets import ReceptiveFieldExplorer

torch.manual_seed(0)
words = {"img_size": 32, "num_classes": 10}
small = {"embed_dim": 48, "depth": 3, "num_heads": 3}
swin = {"patch_size": 2, "window_size": 4, "embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4)}
four = {
    "ViT": vit_edu.create_model("vit_tiny_patch16_224", patch_size=4, **small, **words),
    "Swin": vit_edu.create_model("swin_tiny_patch4_window7_224", **swin, **words),
    "ResNet + ViT": vit_edu.create_model("vit_tiny_resnet18_224", stages=1, **small, **words),
    "CNN": vit_edu.create_model("resnet20", depths=(1, 1, 1), width=8, **words),
}
emoji = vit_edu.load_dataset("emoji", split="new_style")
ReceptiveFieldExplorer(four, emoji.images[0])

# %% [markdown]
# The ViT sees everything from its first block on, and prefers nothing but itself. The CNN grows from the middle, Swin is
# cut off at the borders of its windows, the hybrid has a blot in the middle *and*, once it attends, the rest of the
# picture. (These are random weights. What heads learn to look at is lesson 05.)

# %% [markdown]
# ## Early convolutions
#
# The smallest hybrid changes one line. In place of the 16 × 16 convolution with stride 16, take the four convolutions
# of stride 2 from above and one of 1 × 1 to the right width: **Xiao et al. 2021**, *Early convolutions help transformers
# see better*. The kit's ViT takes any such layer as `embed_layer`.


# %%
class ConvStem(nn.Module):
    """images (B, 3, H, W) -> tokens (B, N, D), N = H/16 * W/16"""

    def __init__(self, img_size, patch_size, in_chans, embed_dim):
        super().__init__()
        self.convs = stack(24, 48, 96, 192)
        self.proj = nn.Conv2d(192, embed_dim, kernel_size=1)
        self.grid_size = self.grid_of((img_size, img_size))
        self.num_patches = math.prod(self.grid_size)

    def grid_of(self, img_size):
        return tuple(math.ceil(side / 16) for side in img_size)

    def forward(self, images):
        return self.proj(self.convs(images)).flatten(2).transpose(1, 2)  # (B, D, rows, columns) -> (B, N, D)


# %% tags=["nbval-check-output"]
from torch.utils.flop_counter import FlopCounterMode


def cost(part, x):
    """Million multiply-adds, and parameters."""
    with FlopCounterMode(display=False) as counter:
        part(x)
    return counter.get_total_flops() / 2e6, sum(p.numel() for p in part.parameters())


with torch.device("meta"):  # shapes alone, as in lesson 04: nothing is computed
    tiny = models.VisionTransformer(embed_dim=192, num_heads=3, depth=11, embed_layer=ConvStem)
    image, tokens = torch.empty(1, 3, 224, 224), torch.empty(1, 197, 192)
    parts = {
        "patch embedding": (layers.PatchEmbed(embed_dim=192), image),
        "four convolutions": (tiny.patch_embed, image),
        "one block of ViT-Tiny": (tiny.blocks[0], tokens),
    }
for name, (part, x) in parts.items():
    print("{:22} {:5.0f} million multiply-adds, {:7,} parameters".format(name, *cost(part, x)))
print("tokens:", tuple(tiny.patch_embed(image).shape), "| answer:", tuple(tiny(image).shape))

# %% [markdown]
# The convolutions cost about one block more than the patches do, so the paper drops one block (`depth=11`), and nothing
# else changes. What it buys, says the abstract of Xiao et al. 2021: one to two points on ImageNet-1k, and training that
# forgives much more: other learning rates, plain SGD, short schedules.

# %% [markdown]
# ## CCT: tokens and pooling
#
# **Hassani et al. 2021**, *Escaping the big data paradigm with compact transformers*, is the hybrid for small pictures.
# Its transformer is a ViT's. Two things are new: how tokens are made, and how the answer is read from them.
#
# ### Exercise · conv_tokenizer
#
# One round for each weight: convolution without bias, ReLU, max pooling (window 3, stride 2, padding 1). The
# convolution keeps (H, W): stride 1, and as much padding as half the kernel, rounded down. At the end the map becomes a
# sequence, row by row.


# %%
def conv_tokenizer(images, weights):
    """images (B, C, H, W), weights [(D, C, k, k), (E, D, k, k), ...] -> tokens (B, N, channels of the last)"""
    ### BEGIN SOLUTION
    x = images
    for weight in weights:
        x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)  # (B, D, H, W)
        x = F.max_pool2d(x.relu(), kernel_size=3, stride=2, padding=1)  # (B, D, H/2, W/2), rounded up
    return x.flatten(2).transpose(1, 2)  # (B, D, rows, columns) -> (B, N, D)
    ### END SOLUTION


# %%
conv_tokenizer = vit_edu.check("conv_tokenizer", conv_tokenizer)

# %% [markdown]
# Its convolutions and poolings pad the rim and round sizes up, so that no image size is wrong. Emoji of 32 pixels, and
# the sizes that a patch embedding of 4 refuses:

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
weights = [torch.randn(64, 3, 3, 3), torch.randn(128, 64, 3, 3)]
for height, width in ((32, 32), (30, 45), (7, 9)):
    few = F.interpolate(emoji.images[:2].float() / 255, (height, width))
    print((height, width), "->", tuple(conv_tokenizer(few, weights).shape))

# %% [markdown]
# ### Exercise · sequence_pooling
#
# CCT has no class token. It asks of each token how much it has to say: a linear layer gives each a score, softmax makes
# shares of the scores, and the answer is read from the mean of the tokens with these shares. Return the mean and the
# shares.


# %%
def sequence_pooling(x, weight, bias):
    """x (B, N, C), weight (1, C), bias (1,) -> pooled (B, C), weights (B, N)"""
    ### BEGIN SOLUTION
    scores = F.linear(x, weight, bias).squeeze(-1)  # (B, N, 1) -> (B, N)
    weights = scores.softmax(dim=1)
    return torch.einsum("bn,bnc->bc", weights, x), weights
    ### END SOLUTION


# %%
sequence_pooling = vit_edu.check("sequence_pooling", sequence_pooling)

# %% [markdown]
# **Predict:** the score has a bias. What does the answer do if the bias changes from nought to a hundred?

# %% tags=["nbval-check-output"]
x, weight = torch.randn(2, 9, 6, dtype=torch.float64), torch.randn(1, 6, dtype=torch.float64)
biases = torch.tensor([[0.0], [100.0]], dtype=torch.float64)
pooled = [sequence_pooling(x, weight, bias)[0] for bias in biases]
print("the same answer:", torch.allclose(*pooled))

# %% [markdown]
# Nothing, since softmax does not notice what is added to all scores. Every published CCT carries this one number, and
# it has never had a gradient.
#
# Now put both into the kit's CCT, which loads its authors' weights. Two methods are yours, all else stays:


# %%
class MyCCT(models.CCT):
    def tokens(self, images, seen=None):
        return conv_tokenizer(images, [conv.weight for conv in self.patch_embed.conv_layers])

    def pool(self, x):
        return sequence_pooling(x, self.attention_pool.weight, self.attention_pool.bias)[0]


# %% tags=["nbval-check-output"]
torch.manual_seed(0)
theirs = vit_edu.create_model("cct_2_3x2_32").double().eval()
# its shape, in words
shape = {"embed_dim": 128, "depth": 2, "num_heads": 2, "mlp_ratio": 1.0, "n_conv_layers": 2}
mine = MyCCT(**shape).double().eval()
for model in (theirs, mine):
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
with torch.no_grad():
    for parameter in theirs.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))  # nothing is nought, so that every part counts
mine.load_state_dict(theirs.state_dict())
few = emoji.images[:4].double() / 127.5 - 1
print("equal to the kit's CCT:", torch.allclose(mine(few), theirs(few), atol=1e-10))

# %% [markdown]
# **A trap in published code.** The block of lesson 03 adds to the stream x, and norms only what goes into attention and
# MLP. In CCT's published code the stream *itself* is normed after attention. Asked about it, [an author called it the
# leftover of a bad merge](https://github.com/SHI-Labs/Compact-Transformers/issues/25). But it is in the code that goes
# with their weights. Put in the textbook's block, and look:

# %%
textbook = models.CCT(**shape).double().eval()
for block in textbook.blocks:
    block.__class__ = layers.Block  # the same parameters, another forward
textbook.load_state_dict(theirs.state_dict())  # every name and shape fits
difference = (textbook(few) - theirs(few)).norm() / theirs(few).norm()
print(f"with the textbook's block the answers are off by {difference:.0%} of their size")

# %% [markdown]
# No error, no warning, every weight in its place. Where paper and code differ, published weights go with the code.

# %% [markdown]
# ## A ResNet, and a transformer on its map
#
# The ViT paper has a hybrid too (**Dosovitskiy et al. 2021**, section 3.1): a ResNet makes a map, and each of its pixels
# becomes a token, by the patch embedding of lesson 01 with patches of 1 × 1. Here with your `embed_patches`:

# %%
embed_patches = vit_edu.mine("embed_patches")
hybrid = vit_edu.create_model("vit_tiny_resnet18_224", img_size=(64, 96), depth=2, num_classes=10)
hybrid = hybrid.double().eval()
pictures = torch.randn(2, 3, 64, 96, dtype=torch.float64)

# %% tags=["nbval-check-output"]
with torch.no_grad():
    feature_map = hybrid.patch_embed.backbone(pictures)  # the ResNet up to its third stage
    projection = hybrid.patch_embed.proj
    tokens = embed_patches(feature_map, projection.weight, projection.bias)
    same = torch.allclose(tokens, hybrid.patch_embed(pictures), atol=1e-10)
print(tuple(pictures.shape), "-> map", tuple(feature_map.shape), "-> tokens", tuple(tokens.shape))
print("equal to the kit's hybrid:", same)
print("kernels of its patch embedding:", tuple(projection.weight.shape[2:]))

# %% [markdown]
# Does it pay? Figure 5 of Dosovitskiy et al. 2021 (section 4.4): with small budgets of computing hybrids are a little
# ahead of pure ViTs; for the largest models the difference is gone.

# %% [markdown]
# ## MobileViT: attention in step
#
# **Mehta & Rastegari 2022** go the other way: a CNN, in which some blocks attend. The map there is large, and all pixels
# with all would be dear. So they let a pixel attend only to those that stand **at the same place in their patches**: top
# left with top left, bottom right with bottom right. What stands *beside* it, a convolution has mixed in just before.
#
# ### Exercise · mobile_unfold
#
# Turn a map into p·p sequences, one for each place inside a patch, row by row; each holds the N pixels that stand
# there, one from each patch, again row by row.


# %%
def mobile_unfold(x, patch_size):
    """x (B, C, H, W) -> sequences (B, p*p, N, C), N = H/p * W/p"""
    ### BEGIN SOLUTION
    B, C, H, W = x.shape
    p = patch_size
    x = x.reshape(B, C, H // p, p, W // p, p)  # (B, C, rows, p, columns, p)
    x = x.permute(0, 3, 5, 2, 4, 1)  # where inside, then which patch: (B, p, p, rows, columns, C)
    return x.reshape(B, p * p, (H // p) * (W // p), C)
    ### END SOLUTION


# %%
mobile_unfold = vit_edu.check("mobile_unfold", mobile_unfold)

# %% [markdown]
# Which of the four sequences does each pixel of a small map belong to? And what is in a sequence, for patches of 2 on a
# photo?

# %%
places = torch.arange(36.0).view(1, 1, 6, 6)
sequence_of = torch.zeros(36)
for number, sequence in enumerate(mobile_unfold(places, 2)[0, :, :, 0].long()):
    sequence_of[sequence] = number
plots.plot_matrix(sequence_of.view(6, 6), numbers=True, title="the sequence of each pixel, patches of 2 × 2")

# %%
four_photos = mobile_unfold(photo[None], 2)[0].transpose(1, 2).reshape(4, 3, 112, 112)
plots.plot_images(four_photos, titles=[f"sequence {number}" for number in range(4)], columns=4)

# %% [markdown]
# Four photos of half the size: every sequence is a whole picture, and attends as one. (Swin cuts the other way: its
# window is a piece of the picture at full size.) It costs a quarter of the pairs:

# %% tags=["nbval-check-output"]
side = 32  # of the largest map on which MobileViT attends, for photos of 256
for p in (1, 2, 4):
    sequences, length = p * p, (side // p) ** 2
    print(f"patches of {p}: {sequences:2} sequences of {length:4} pixels, {sequences * length**2:9,} pairs")

# %% [markdown]
# The proof: take a block of the published model to pieces, and put your function between its convolutions and its
# transformer.

# %% tags=["nbval-check-output"]
from vit_edu.models.mobilevit import join_offsets

torch.manual_seed(0)
mobile = vit_edu.create_model("mobilevit_xxs", num_classes=10).double().eval()
block = mobile.stages[2][-1]  # convolutions, two transformer blocks, convolutions
x = torch.randn(2, 48, 8, 12, dtype=torch.float64)
with torch.no_grad():
    near = block.conv_1x1(block.conv_kxk(x))  # (2, 64, 8, 12): every pixel has met its neighbours
    sequences = mobile_unfold(near, 2).flatten(0, 1)  # (2, 4, 24, 64) -> (8, 24, 64)
    for layer in block.transformer:
        sequences = layer(sequences)
    far = join_offsets(block.norm(sequences), 2, rows=4)  # (2, 64, 8, 12), the way back
    result = block.conv_fusion(torch.cat([x, block.conv_proj(far)], dim=1))
    print(tuple(x.shape), "->", tuple(result.shape))
    print("equal to the kit's MobileViT block:", torch.allclose(result, block(x), atol=1e-10))

# %% [markdown]
# ## The laboratory
#
# What is all this worth? One recipe of the kit, `vit-edu train laboratory`, teaches the same clothes to four models of
# the same size. First what they are:

# %% tags=["nbval-check-output"]
from vit_edu.training.recipes import judge, laboratory

for name, (model_name, model_words) in laboratory.MODELS.items():
    model = vit_edu.create_model(model_name, **model_words, img_size=28, in_chans=1, num_classes=10)
    print(f"{name:4} {sum(p.numel() for p in model.parameters()):7,} parameters, made from {model_name}")

# %% [markdown]
# All of it takes long, so here is a miniature of your own: 300 pictures, 60 steps, two models of one width and depth
# with 16 tokens each. One cuts patches, the other is `MyCCT`, with your functions inside.

# %%
from vit_edu.training import accuracy, knn, plain, schedule

train, test = vit_edu.load_dataset("fashion"), vit_edu.load_dataset("fashion", split="test")
clothes = judge.share_of(train, 300 / 9000, seed=0)  # of each class as many
asked, answers = plain(test)[:1000], test.labels[:1000]  # (1000, 1, 28, 28), from -1 to 1


def learn(model, look=lambda pictures: pictures, steps=60, lr=3e-3, warmup=0.1):
    """Train on the 300 pictures. Returns the loss of each step, and the accuracy on 1,000 new pictures."""
    pictures, labels = look(plain(clothes)), clothes.labels
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    generator, losses = torch.Generator().manual_seed(0), []
    model.train()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * schedule((step + 0.5) / steps, warmup)  # up, then down
        chosen = torch.randint(len(clothes), (32,), generator=generator)
        loss = F.cross_entropy(model(pictures[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with torch.inference_mode():
        logits = torch.cat([model(part) for part in look(asked).split(250)])
    return losses, accuracy(logits, answers)


def new_vit(patch_size=7):
    torch.manual_seed(0)
    words = {"img_size": 28, "in_chans": 1, "num_classes": 10, "embed_dim": 64, "depth": 2, "num_heads": 2}
    return models.VisionTransformer(patch_size=patch_size, class_token=False, global_pool="avg", **words)


def new_cct():
    torch.manual_seed(0)
    words = {"img_size": 28, "in_chans": 1, "num_classes": 10, "embed_dim": 64, "depth": 2, "num_heads": 2}
    return MyCCT(n_conv_layers=3, stem_dim=16, mlp_ratio=4.0, **words)


# %%
vit_losses, vit_accuracy = learn(new_vit())
cct_losses, cct_accuracy = learn(new_cct())
nearest = knn(plain(clothes).flatten(1), clothes.labels, asked.flatten(1), classes=10)
print(f"ViT, 60 steps:            {vit_accuracy:.0%}")
print(f"MyCCT, 60 steps:          {cct_accuracy:.0%}")
print(f"nearest pictures, pixels: {accuracy(nearest, answers):.0%}, nothing trained")

# %%
plots.plot_curves(range(1, 61), {"ViT": vit_losses, "MyCCT": cct_losses}, xlabel="step", ylabel="loss")

# %% [markdown]
# Look at the last of the three lines first: a vote of the nearest of the 300 pictures, pixel by pixel, beats both. After
# a few seconds of training a transformer is not yet *anything*. Never judge one without such a yardstick, and never by
# one run: with another seed the two may well change places.
#
# So to the recorded runs: many more steps, augmentation, and several seeds. A point is their median, a bar goes from the
# lowest to the highest.

# %%
from vit_edu.training import records

numbers = (300, 1500, 9000)
lab = {name: [records.values("laboratory", f"{name}/{n}") for n in numbers] for name in laboratory.MODELS}
wrong = {name: 100 * (1 - torch.tensor(of_model)) for name, of_model in lab.items()}  # (sizes, seeds)
seeds, steps = len(lab["ViT"][0]), laboratory.SIZES["laptop"].steps
print(f"{steps:,} steps for each model and each number of pictures, {seeds} seed{'s' * (seeds > 1)}")
labels = {"xlabel": "pictures to learn from", "ylabel": "% wrong of 2,000 new ones"}
plots.plot_curves(numbers, wrong, log=True, **labels)

# %% [markdown]
# Your third guess: **read the plot before you go on.** Who leads at the left, who at the right? Does the gap close?
# What would a pure ViT need to be as good as the best model at the left end? The numbers, as median (lowest–highest),
# and the answers:

# %%
for name, of_model in lab.items():
    print(f"{name:4}", " ".join(f"{n:6,}: {records.spread(runs):17}" for n, runs in zip(numbers, of_model)))
middle = {name: [sorted(runs)[len(runs) // 2] for runs in of_model] for name, of_model in lab.items()}
for i, n in enumerate(numbers):
    order = sorted(middle, key=lambda name: -middle[name][i])
    behind = 100 * (middle[order[0]][i] - middle["ViT"][i])
    print(f"{n:5,} pictures: {' > '.join(order)}; the ViT is {behind:.1f} points behind the best")

# %%
vit, cnn = middle["ViT"], middle["CNN"]
enough = [n for n, value in zip(numbers, vit) if value >= cnn[0]]
print(f"The CNN has {cnn[0]:.1%} with 300 pictures.", end=" ")
print(f"The ViT gets there with {enough[0]:,}." if enough else "The ViT does not get there with 9,000.")

# %% [markdown]
# Two things are plain. Convolutions lead: the CNN, which is made of them, everywhere, and the hybrid once it has some
# pictures; the two that cut patches come last. And from the second size to the third hardly anything changes, for anyone:
# all have the same number of steps, so that more pictures only mean that each is seen less often. More data pay with more
# training; this grid could not afford it, and so it cannot say where the lines would meet.
#
# One thing is not as the story would have it. Swin's windows are locality too, but Swin is no better than the plain ViT,
# and worse where the pictures are many. So it matters *which* of the three things a model takes for granted, and where:
# Swin cuts patches first, as the ViT does.
#
# Dosovitskiy et al. 2021 ask the same question on another scale (section 4.3, figures 3 and 4). Taught by ImageNet
# alone, their large ViTs are behind ResNets; taught by three hundred million pictures, they are ahead. "Large scale
# training trumps inductive bias", says their introduction. Does your plot point that way?

# %% [markdown]
# ## What went wrong for other people: why is my ViT so poor?
#
# It is asked again and again, and the answers are nearly always the same. Here they are as a checklist,
# cheapest first.
#
# **1. What would a guess get?** [One report](https://github.com/lucidrains/vit-pytorch/issues/214) shows a ViT that tells
# horses from humans, and whose loss climbs to 45. Your fourth guess:

# %% tags=["nbval-check-output"]
print("the report, two classes:            loss 45")
print(f"fifty-fifty, two classes:           loss {math.log(2):.2f}")
print(f"ten classes, all alike:             loss {math.log(10):.2f}")
untrained = F.cross_entropy(new_vit()(plain(clothes)), clothes.labels)
print(f"our ViT, ten classes, not trained:  loss {untrained:.1f}")

# %% [markdown]
# A loss of 45 is no lack of data. Such a model is *certain*, and wrong, and steps that are too large are the first thing
# to suspect. A healthy run starts near the loss of a guess and goes down from there.
#
# **2. Can it learn one batch by heart?** Take 32 pictures and nothing else. A model that works brings their loss to
# nought; if it does not ([as here, with brain scans](https://github.com/Project-MONAI/tutorials/issues/464)), look for a
# fault in the code before you look for data. Let us plant one: a softmax at the end, before a loss that has its own.


# %%
def one_batch(ending=lambda logits: logits, steps=40):
    model, losses = new_vit(patch_size=14), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    pictures, labels = plain(clothes)[::10][:32], clothes.labels[::10][:32]  # some of each class
    for _ in range(steps):
        loss = F.cross_entropy(ending(model(pictures)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


by_heart = {"logits": one_batch(), "softmax twice": one_batch(lambda logits: logits.softmax(dim=-1))}
plots.plot_curves(range(1, 41), by_heart, xlabel="step, always the same 32 pictures", ylabel="loss")

# %% tags=["nbval-check-output"]
certain = torch.tensor([[1.0] + [0.0] * 9])  # the best that a softmax can hand over: all on the right class
print(f"softmax twice cannot get below {F.cross_entropy(certain, torch.tensor([0])):.2f}")

# %% [markdown]
# **3. The settings.** Four that people report, each alone: a [rate that is too
# high](https://github.com/lucidrains/vit-pytorch/issues/16), here without warm-up; one that is too low (what one takes
# to fine-tune); dropout of a half everywhere, from the same report; pixels from 0 to 255 without normalisation. And one
# piece of advice: the patches are too large ([patches of 16 on pictures of
# 32](https://github.com/lucidrains/vit-pytorch/issues/12)).


# %%
def with_dropout(model, rate=0.5):
    model.norm_pre = nn.Dropout(rate)  # of the tokens; an identity until now
    for block in model.blocks:
        block.drop_path1, block.drop_path2 = nn.Dropout(rate), nn.Dropout(rate)
    return model


tries = {
    "as above": (vit_losses, vit_accuracy),
    "rate 0.1, no warm-up": learn(new_vit(), lr=0.1, warmup=0.0),
    "rate 0.00003": learn(new_vit(), lr=3e-5),
    "dropout 0.5": learn(with_dropout(new_vit())),
    "pixels 0 to 255": learn(new_vit(), look=lambda pictures: (pictures + 1) * 127.5),
    "patches of 14": learn(new_vit(patch_size=14)),
}
for name, (losses, right) in tries.items():
    print(f"{name:21} largest loss {max(losses):4.1f}, last {sum(losses[-5:]) / 5:.2f}, right {right:.0%}")

# %% [markdown]
# The two rates nearly stop it; dropout and raw pixels cost something. But the larger patch *helps*! Four tokens, each a
# quarter of the picture, learn faster than 16 small ones, and 60 steps are all that they have. Which settings are best
# for seconds says little about which are best for a night: measure at the length that you mean.
#
# **4. Patience and data.** The [author of Keras' example](https://github.com/keras-team/keras-io/pull/347) reports from
# his tuning on CIFAR-100: after a hundred epochs the model was still getting better, and all figures of the paper came
# from pre-training on a far larger set. Steiner et al. 2022, *How to train your ViT?*, say in the abstract what
# augmentation and regularisation, with more computing, are worth: about as much as ten times the data.

# %% [markdown]
# **5. Batch norm in a transformer.** Put it in place of the layer norms, change *one* picture of a batch, and look at the
# answers to the others:


# %%
class BatchNorm(nn.BatchNorm1d):
    def forward(self, x):  # (B, N, C)
        return super().forward(x.flatten(0, 1)).view_as(x)


# %% tags=["nbval-check-output"]
batched = new_vit()
for block in batched.blocks:
    block.norm1, block.norm2 = BatchNorm(64), BatchNorm(64)
batch, other = plain(clothes)[:8], plain(clothes)[:8].clone()
other[0] = -other[0]  # the first picture turned into its negative
for name, model in {"layer norm": new_vit(), "batch norm": batched}.items():
    model.train()
    same = torch.allclose(model(batch)[1:], model(other)[1:], atol=1e-5)
    print(f"{name}: the seven others stay as they were:", same)

# %% [markdown]
# With layer norm a picture is alone; with batch norm its answer depends on its company, and in evaluation on averages
# that were collected on the way: one more thing that can be wrong. CNNs live with it (the stem of Xiao et al. too).

# %% [markdown]
# ## A surprise: shuffle the pixels
#
# Your fifth guess, and the game of lesson 04 with a second player. One fixed order, drawn at random; all pictures, in
# training and in the test, get their 784 pixels rearranged by it. No information is lost, and none is left for your
# eye:

# %%
mixed = torch.randperm(784, generator=torch.Generator().manual_seed(0))


def shuffled(pictures):
    """(B, 1, 28, 28) -> the same pixels in another order, the same for all"""
    return pictures.flatten(2)[:, :, mixed].view_as(pictures)


five = plain(clothes)[::60]
plots.plot_images(torch.cat([five, shuffled(five)]) / 2 + 0.5, columns=5)

# %%
_, vit_shuffled = learn(new_vit(), look=shuffled)
_, cct_shuffled = learn(new_cct(), look=shuffled)
nearest = knn(shuffled(plain(clothes)).flatten(1), clothes.labels, shuffled(asked).flatten(1), classes=10)
print(f"MyCCT:            {cct_accuracy:.0%} -> {cct_shuffled:.0%}")
print(f"ViT:              {vit_accuracy:.0%} -> {vit_shuffled:.0%}")
print(f"nearest pictures: {accuracy(nearest, answers):.0%}, as before: distances do not care for order")

# %% [markdown]
# The hybrid collapses: it took for granted that neighbours belong together, and now they do not. And the ViT? It gets
# *better*. A patch of shuffled pixels is a sample of the whole picture, so that every single token has an idea of the
# whole. With real patches the whole must be put together first, and 60 steps are few for that. (It would explain why
# patches of 14 did so well.)
#
# That the pixels of a patch are neighbours is no help to its linear layer, which knows each number by its place only.
# And which *patches* are neighbours it cannot know before it has learned its positions. This is exact:

# %% tags=["nbval-check-output"]
jigsaw = torch.randperm(16, generator=torch.Generator().manual_seed(1))
plain_vit, jigsaw_vit = new_vit().double(), new_vit().double()
jigsaw_vit.pos_embed.data = plain_vit.pos_embed.data[:, jigsaw]  # the same vectors, dealt anew
pictures, labels = plain(clothes)[:32].double(), clothes.labels[:32]
puzzles = layers.unpatchify(layers.patchify(pictures, 7)[:, jigsaw], 7, (4, 4))
one, other = (F.cross_entropy(m(x), labels) for m, x in ((plain_vit, pictures), (jigsaw_vit, puzzles)))
one.backward(), other.backward()
print("the same loss on pictures and on puzzles:", torch.allclose(one, other))
gradients = [m.blocks[0].mlp.fc1.weight.grad for m in (plain_vit, jigsaw_vit)]
print("the same gradient, so the same next step: ", torch.allclose(*gradients))

# %% [markdown]
# A ViT whose positions start at random learns from jigsaw puzzles, all dealt in the same order, exactly as well as from
# pictures. All that it will ever know of left, right and near it has from the data. That is what "little inductive
# bias" means, and why it wants so much data.

# %% [markdown]
# ## What the papers say
#
# | here | paper | where |
# | --- | --- | --- |
# | inductive bias of CNN and ViT; the hybrid | Dosovitskiy et al. 2021 | section 3.1; sections 4.3 and 4.4 measure it |
# | `ConvStem` | Xiao et al. 2021 | abstract; they call ours ViT_C |
# | `conv_tokenizer`, `sequence_pooling` | Hassani et al. 2021 | "convolutional tokenizer", "SeqPool" |
# | `mobile_unfold` | Mehta & Rastegari 2022 | section 3.1, figure 1: "unfold" |
# | fields that are smaller than they could be | Luo et al. 2016 | the effective receptive field |
#
# And the other way round: Cordonnier et al. 2020 prove that attention with relative positions and enough heads *can* do
# whatever a convolution does. It only has to learn it.

# %% [markdown]
# ## In five lines
#
# 1. A convolution is a matrix with most weights cut and the rest shared: locality, shared weights, equivariance by
#    whole strides.
# 2. What one output sees grows by (kernel − 1) times the product of the strides before it.
# 3. Hybrids put convolutions before attention (ConvStem, CCT, ResNet + ViT) or between (MobileViT).
# 4. What a model takes for granted it need not learn; a ViT takes so little that puzzles, all dealt alike, teach it as
#    much as pictures.
# 5. A poor ViT: loss of a guess, one batch by heart, rates, normalisation; then patience, augmentation, data or
#    pre-training (lesson 08).
#
# ## New words
#
# - **locality**: only what is near counts; all other weights are fixed at nought.
# - **translation equivariance**: if the input moves, the output moves along and is otherwise the same.
# - **receptive field**: the pixels that can reach one output.
# - **stem**: the first layers of a model, which turn pixels into the map or tokens that all others work on.
# - **sequence pooling**: the mean of all tokens, weighted by a score that is learned, in place of a class token.
# - **hybrid**: a model that has both convolutions and attention.
#
# ## To read
#
# - Xiao et al. 2021, [Early convolutions help transformers see better](https://arxiv.org/abs/2106.14881): how to compare
#   two models by how much they forgive.
# - Hassani et al. 2021, [Escaping the big data paradigm with compact transformers](https://arxiv.org/abs/2104.05704).
# - Steiner et al. 2022, [How to train your ViT?](https://arxiv.org/abs/2106.10270): data, augmentation, regularisation,
#   compared with patience.
#
# ## Harder, without a check
#
# The ViT learned more from shuffled pixels than from pictures, in 60 steps. Does it still after a thousand, and with all
# 9,000 pictures? Find the number of steps at which the two change places, if they do. Then shuffle *whole rows* of pixels:
# predict first who suffers, and say why.
#
# **Next:** [08 · Transfer](08_transfer.ipynb): borrow what others have learned.
