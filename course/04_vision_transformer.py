# ---
# jupyter:
#   vit_edu:
#     title: ViT
#     minutes: 55
#     builds_on: ["03"]
#     builds: the whole vision transformer, which takes published weights and gives the published answers
# ---

# %% [markdown]
# # 04 · ViT
#
# **55 minutes. Builds on** [03 · The encoder block](03_encoder_block.ipynb).
#
# All parts are there: patches, tokens, positions, attention, the block. This lesson puts them together, in about ten
# lines. At the end you can
# - read a list of weights and write the class that they fit into, to the last digit of the answers;
# - say where the parameters of a ViT sit and what its work is, for any size, without running it;
# - train one from nothing, and say honestly how good it is and what it confuses;
# - tell the mistakes that you would notice from those that you would not.

# %% [markdown]
# ## Predict first
#
# Write down your guesses; the lesson answers all four.
#
# 1. Most learned numbers of a large ViT sit in one kind of layer. In which: patch embedding, attention, MLP or head?
# 2. Patches get half as wide and half as high. How many times the work is that? How many times the parameters?
# 3. You load published weights, and one thing in your code is wrong: the blocks run backwards, or the positions are
#    missing, or the last norm is. Which of the three costs the most right answers, and which the fewest?
# 4. In all pictures of a training set the pixels change places, in every picture in the same way. You could not tell a
#    shoe from a bag any more. How much worse is a ViT that is trained on them?

# %% [markdown]
# ## The real thing
#
# The kit brings a small ViT along. It has learned to tell eight groups of emoji apart, from drawings in five styles.
# Here it looks at a sixth style, which it has never seen.

# %%
import time

import torch
import torchvision
import vit_edu
from torch import nn
from vit_edu import layers, plots
from vit_edu.training import Plan, Supervised, accuracy, fit, linear_probe, plain
from vit_edu.widgets import AttentionExplorer

published = vit_edu.weights.checkpoint("supervised")  # 32 pixels, patches of 4
emoji = vit_edu.load_dataset("emoji", "new_style")
few = torch.linspace(0, len(emoji) - 1, 8).long()
images = plain(emoji.take(few))  # (8, 3, 32, 32), from -1 to 1 as this model wants them
with torch.no_grad():
    answers = published(images).argmax(dim=-1)  # (8, 8) -> (8,)
plots.plot_images(emoji.images[few], titles=[emoji.classes[i].split(" ")[0] for i in answers])

# %% [markdown]
# Above each stands the group that the model says. Not all are right; how many are, you will count.
#
# Where does it look? Here the *class token* asks. Go from the first layer to the last, and through the heads; then
# click a patch and let that one ask.

# %%
big = vit_edu.load_dataset("emoji", "new_style", img_size=64).images
explorer = AttentionExplorer(published, big[few[0]], inputs=images[0])
explorer.query = -1  # the class token
explorer

# %% [markdown]
# What a model has learned is a list of names and tensors, its **state dict**. Here is this one, all blocks but the
# first left out, since they are alike.

# %% tags=["nbval-check-output"]
weights = published.state_dict()
for name, value in weights.items():
    if not name.startswith(("blocks.1", "blocks.2", "blocks.3")):
        print(f"{name:26} {tuple(value.shape)}")

# %% [markdown]
# That is a list of parts. You know nearly all of them by name. If you write a class whose parameters have these names
# and shapes, the weights fit in. The names are those of the *timm* collection, so its weights would fit as well.

# %% [markdown]
# ## Your parts
#
# From lessons 01 to 03, where you have solved them in this folder; otherwise the kit's.

# %%
embed_patches = vit_edu.mine("embed_patches")
embed_positions = vit_edu.mine("embed_positions")
attention_cost = vit_edu.mine("attention_cost")
EncoderBlock = vit_edu.mine("encoder_block")

# %% [markdown]
# ## One picture's way through
#
# Follow eight pictures through the model, by hand, with the published weights.
#
# **Equation 1**, all of lesson 01: patches become tokens, the class token goes in front, positions are added. (In this
# lesson, as in the paper, D is the width of a token, C in lessons 02 and 03; and N counts the patches only.)
#
# $$z_0 = [x_{class};\; x_p^1 E;\; x_p^2 E;\; \dots;\; x_p^N E] + E_{pos}$$

# %% tags=["nbval-check-output"]
tokens = embed_patches(images, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"])  # (B, N, D)
z = embed_positions(tokens, weights["cls_token"], weights["pos_embed"])  # (B, 1+N, D)
print(tuple(images.shape), "->", tuple(tokens.shape), "->", tuple(z.shape))
print("the class token is the same for all pictures:", torch.equal(z[0, 0], z[7, 0]))

# %% [markdown]
# **Equations 2 and 3**, lesson 03: each block lets the tokens look at each other (MSA, multi-head self-attention), then
# think each for itself (MLP). Both work on a normed copy (LN) and *add* what they find.
#
# $$z'_\ell = \operatorname{MSA}(\operatorname{LN}(z_{\ell-1})) + z_{\ell-1} \qquad
# z_\ell = \operatorname{MLP}(\operatorname{LN}(z'_\ell)) + z'_\ell$$

# %% tags=["nbval-check-output"]
block = EncoderBlock(96, 3, mlp_ratio=4)
prefix = "blocks.0."
block.load_state_dict({name.removeprefix(prefix): x for name, x in weights.items() if name.startswith(prefix)})
with torch.no_grad():
    z = block(z)
print(tuple(z.shape))
print("the class token is the same for all pictures:", torch.equal(z[0, 0], z[7, 0]))

# %% [markdown]
# One block, and the class token has begun to know its picture. It has no pixels of its own: all that it knows, it has
# fetched by attention. So nobody need read the patches at the end: **equation 4** takes the class token alone, row 0,
# and norms it.
#
# $$y = \operatorname{LN}(z_L^0)$$
#
# A linear layer, the **head** (no kin of attention's heads), then makes one number for each class of it: the **logits**.

# %% [markdown]
# ### Exercise · vision_transformer
#
# Now the whole model. In `__init__` make the parts, with the names and shapes of the list above: `patch_embed` is
# given, five are missing. One thing the list does not tell: a norm of a published ViT is
# `nn.LayerNorm(embed_dim, eps=1e-6)`. One that it does: the MLP is four times as wide as a token (`mlp.fc1.weight`).
# Class token and positions may start as zeros or as small random numbers. (Not as `torch.empty`: that is whatever lay in
# memory, and further down you train from it.) Then write `forward`: equation 1, the blocks, equation 4, the head.


# %%
class PatchEmbed(nn.Module):
    """images (B, C, H, W) -> tokens (B, N, D); proj holds weight and bias, your function does the work"""

    def __init__(self, patch_size, in_chans, embed_dim):
        super().__init__()
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images):
        return embed_patches(images, self.proj.weight, self.proj.bias)


# %%
class VisionTransformer(nn.Module):
    """images (B, in_chans, img_size, img_size) -> logits (B, num_classes)"""

    def __init__(self, img_size, patch_size, in_chans, num_classes, embed_dim, depth, num_heads):
        super().__init__()
        self.patch_embed = PatchEmbed(patch_size, in_chans, embed_dim)
        ### BEGIN SOLUTION
        num_patches = (img_size // patch_size) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + num_patches, embed_dim))
        self.blocks = nn.ModuleList(EncoderBlock(embed_dim, num_heads, mlp_ratio=4) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.head = nn.Linear(embed_dim, num_classes)
        ### END SOLUTION

    def forward(self, images):
        ### BEGIN SOLUTION
        x = embed_positions(self.patch_embed(images), self.cls_token, self.pos_embed)  # (B, 1+N, D), equation 1
        for block in self.blocks:
            x = block(x)  # (B, 1+N, D), equations 2 and 3
        y = self.norm(x)[:, 0]  # (B, D), equation 4
        return self.head(y)  # (B, num_classes)
        ### END SOLUTION


# %%
VisionTransformer = vit_edu.check("vision_transformer", VisionTransformer)

# %% [markdown]
# The proof. The published weights go into your class, by name, every one. Then both models see the same pictures.

# %% tags=["nbval-check-output"]
words = {"img_size": 32, "patch_size": 4, "in_chans": 3, "num_classes": 8, "embed_dim": 96, "depth": 4, "num_heads": 3}
model = VisionTransformer(**words)
print(model.load_state_dict(weights))
with torch.no_grad():
    difference = (model.double()(images.double()) - published.double()(images.double())).abs().max()
print("logits equal to the published model's:", bool(difference < 1e-10))

# %% [markdown]
# And against code that none of us wrote: torchvision's ViT, with random weights. Its names differ, so `load_weights`
# translates them. (Its class token and head start at zero; why that is a trap, you will see.)

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
sizes = {"image_size": 32, "patch_size": 4, "num_layers": 4, "num_heads": 3, "hidden_dim": 96, "mlp_dim": 384}
theirs = torchvision.models.VisionTransformer(**sizes, num_classes=8).double().eval()
for parameter in (theirs.class_token, theirs.heads.head.weight):
    nn.init.normal_(parameter)
translated = vit_edu.create_model("vit_tiny_patch16_224", **words).double()
vit_edu.load_weights(translated, theirs.state_dict(), source="torchvision")
other = VisionTransformer(**words).double()
other.load_state_dict(translated.state_dict())
with torch.no_grad():
    print("equal to torchvision:", torch.allclose(other(images.double()), theirs(images.double()), atol=1e-10))

# %% [markdown]
# ## From logits to words
#
# ### Exercise · predict
#
# Logits are any numbers. Make them probabilities, and return the k most probable classes of each picture with their
# probabilities, the best first.


# %%
def predict(logits, k):
    """logits (B, classes) -> probabilities (B, k), classes (B, k)"""
    ### BEGIN SOLUTION
    best = logits.softmax(dim=-1).topk(k, dim=-1)
    return best.values, best.indices
    ### END SOLUTION


# %%
predict = vit_edu.check("predict", predict)

# %%
model = model.float().eval()
with torch.no_grad():
    probabilities, classes = predict(model(images), k=1)
titles = [f"{emoji.classes[c].split(' ')[0]} {p:.0%}" for p, c in zip(probabilities[:, 0], classes[:, 0])]
plots.plot_images(emoji.images[few], titles=titles, columns=8)

# %% [markdown]
# How often is it right? The mark to pass: always say the most frequent group.

# %%
sample = emoji.take(torch.arange(0, len(emoji), 4))  # every fourth
inputs = plain(sample)
with torch.no_grad():
    logits = model(inputs)
most = sample.labels.bincount().max() / len(sample)
print(f"{len(sample)} drawings of a new style: {accuracy(logits, sample.labels):.0%} right")
print(f"always the most frequent group:  {most:.0%} right")

# %% [markdown]
# Far from perfect: a model this small has seen at most five drawings of each thing, and is asked for another. Where does
# an answer come from? Put norm and head behind *every* block, as if the model ended there.


# %%
@torch.no_grad()
def after_each_block(images):
    """images (B, 3, 32, 32) -> logits after 0, 1, ... blocks, (5, B, 8)"""
    stages = [embed_positions(model.patch_embed(images), model.cls_token, model.pos_embed)]
    for block in model.blocks:
        stages.append(block(stages[-1]))
    return torch.stack([model.head(model.norm(z)[:, 0]) for z in stages])


for number, logits in enumerate(after_each_block(inputs)):
    print(f"read after {number} blocks: {accuracy(logits, sample.labels):.0%} right")
truth = after_each_block(images).softmax(dim=-1)[:, range(8), emoji.labels[few]]  # (5, 8): of the right group
names = [emoji.names[i] for i in few]
plots.plot_matrix((100 * truth.T).round(), names, range(5), "right group, % after so many blocks", numbers=True)

# %% [markdown]
# Before the first block all pictures get the same answer, for the class token has seen nothing. Each block brings it
# nearer to its own, or not.
#
# ### The large one, if you like
#
# The same class takes ViT-B/16, trained on the photos of ImageNet. The weights are fetched only if you set `FETCH` to
# True; they are then kept, and held to their checksum.

# %%
FETCH = False  # True: 330 MB over the network, once

if FETCH:
    try:
        large = vit_edu.pretrained("vit_base_patch16_224").eval()
        with torch.device("meta"):  # no memory yet: it takes over the tensors that are loaded
            base = VisionTransformer(224, 16, 3, 1000, 768, 12, 12).eval()
        base.load_state_dict(large.state_dict(), assign=True)
        photos = vit_edu.load_dataset("photos")
        with torch.no_grad():
            shares, found = predict(base(vit_edu.weights.normalise(photos.images)), k=3)
        names = torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1.meta["categories"]
        for photo, row, which in zip(photos.names, shares, found):
            print(f"{photo}:", ", ".join(f"{names[c]} {p:.0%}" for p, c in zip(row, which)))
    except vit_edu.downloads.DownloadError as error:
        print(error)
else:
    print("Nothing fetched. With FETCH = True you see what ViT-B/16 says to the four photos of lesson 01.")

# %% [markdown]
# ## How many numbers?
#
# ### Exercise · count_parameters
#
# Count what a ViT learns, without building one: matrices, biases, norms, class token, positions. The list at the
# beginning has everything that counts. An MLP of ratio 4 goes from D to 4·D and back.


# %%
def count_parameters(img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, num_classes):
    """seven whole numbers -> int"""
    ### BEGIN SOLUTION
    D, N, wide = embed_dim, (img_size // patch_size) ** 2, mlp_ratio * embed_dim
    embedding = patch_size**2 * in_chans * D + D  # a matrix and its bias
    positions = D + (1 + N) * D  # class token, and E_pos
    attention = D * 3 * D + 3 * D + D * D + D  # qkv, proj
    mlp = D * wide + wide + wide * D + D  # fc1, fc2
    norm = 2 * D
    head = D * num_classes + num_classes
    return embedding + positions + depth * (attention + mlp + 2 * norm) + norm + head
    ### END SOLUTION


# %%
count_parameters = vit_edu.check("count_parameters", count_parameters)

# %% [markdown]
# The sizes of the paper (Dosovitskiy et al. 2021, Table 1, gives 86M for Base and 307M for Large), beside models that
# are built on torch's *meta* device: shapes without numbers, so that even the large one takes no memory.

# %% tags=["nbval-check-output"]
paper = {"vit_base_patch16_224": (16, 768, 12), "vit_base_patch32_224": (32, 768, 12)}
paper |= {"vit_large_patch16_224": (16, 1024, 24)}
for name, (p, D, depth) in paper.items():
    with torch.device("meta"):
        built = sum(parameter.numel() for parameter in vit_edu.create_model(name).parameters())
    counted = count_parameters(224, p, 3, D, depth, 4, 1000)
    print(f"{name:22} {counted:11,} by your count, equal to the model: {counted == built}")

# %% [markdown]
# The table has one line for all patch sizes and does not say which it counts, nor whether with the head; yours are
# exact. And where do they sit? Your first guess, for the first of the three:

# %% tags=["nbval-check-output"]
with torch.device("meta"):
    large = vit_edu.create_model("vit_base_patch16_224")
share = {"patch_embed": 0, "pos_embed": 0, "attn": 0, "mlp": 0, "norm": 0, "head": 0, "cls_token": 0}
for name, parameter in large.named_parameters():
    share[next(part for part in share if part in name)] += parameter.numel()
for part, number in share.items():
    print(f"{part:12} {number / count_parameters(224, 16, 3, 768, 12, 4, 1000):6.1%}")

# %% [markdown]
# Two thirds are the MLPs, one third is attention. All that knows of images, the patch embedding and the positions, is
# less than a hundredth.

# %% [markdown]
# ## How much work?
#
# ### Exercise · multiply_adds
#
# Count the multiply-adds of one picture's way through: matrix products only, no biases, norms or softmax. Your
# `attention_cost(num_tokens, dim, num_heads)` of lesson 02 knows one part (for any number of heads). Mind who goes
# where: how many tokens are in a block, how many patches in the embedding, and how many vectors does the head read?


# %%
def multiply_adds(img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, num_classes):
    """seven whole numbers -> int"""
    ### BEGIN SOLUTION
    D, N = embed_dim, (img_size // patch_size) ** 2
    embedding = N * patch_size**2 * in_chans * D
    mlp = 2 * (N + 1) * D * mlp_ratio * D
    return embedding + depth * (attention_cost(N + 1, D, 1) + mlp) + D * num_classes
    ### END SOLUTION


# %%
multiply_adds = vit_edu.check("multiply_adds", multiply_adds)

# %% [markdown]
# PyTorch counts along while a model runs. (It counts a multiply-add as two; on the meta device, too, where nothing is
# computed.)

# %% tags=["nbval-check-output"]
from torch.utils.flop_counter import FlopCounterMode

for name, (p, D, depth) in paper.items():
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        vit_edu.create_model(name)(torch.empty(1, 3, 224, 224))
    counted = multiply_adds(224, p, 3, D, depth, 4, 1000)
    print(f"{name:22} {counted:15,}, twice that is torch's count: {2 * counted == counter.get_total_flops()}")

# %% [markdown]
# Now your second guess: smaller patches, for ViT-Tiny.

# %% tags=["nbval-check-output"]
print("patch  tokens  million parameters  million multiply-adds  of these for pairs of tokens")
for p in (32, 16, 8, 4):
    arguments = (224, p, 3, 192, 12, 4, 1000)
    total, T = multiply_adds(*arguments), (224 // p) ** 2 + 1
    pairs = 12 * 2 * T**2 * 192
    print(f"{p:5} {T:7} {count_parameters(*arguments) / 1e6:19.2f} {total / 1e6:22,.0f} {pairs / total:29.0%}")

# %% [markdown]
# Half the patch: four times the tokens, and *more* than four times the work, since pairs grow sixteenfold. The
# parameters hardly change: a ViT's knowledge does not grow with the picture, only the time it takes. Is that what your
# machine's clock says?

# %%
clock = {}
for p in (32, 16, 8):
    tiny = vit_edu.create_model("vit_tiny_patch16_224", patch_size=p, depth=3).eval()  # the quarter of one
    photo = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        tiny(photo)  # the first call warms up
        clock[p] = []
        for _ in range(p // 4):
            start = time.perf_counter()
            tiny(photo)
            clock[p].append(time.perf_counter() - start)
for p in (16, 8):
    work = multiply_adds(224, p, 3, 192, 3, 4, 1000) / multiply_adds(224, 2 * p, 3, 192, 3, 4, 1000)
    ratio = min(clock[p]) / min(clock[2 * p])
    print(f"patches of {p:2} for {2 * p:2}: {work:.1f} times the multiply-adds, {ratio:.1f} times the time")

# %% [markdown]
# For the first step the count itself is below four: the patch embedding, whose work is the same for every patch size,
# weighs more in a model of a quarter of the depth. And the clock has reasons of its own: small matrices do not keep a
# processor busy, and whatever else your machine does is timed too.

# %% [markdown]
# ## Training one from nothing
#
# Your class, random weights, nine thousand pictures of clothes, each in sixteen patches of 7 × 7 pixels. `fit` is the
# kit's training loop, `Supervised` the cross entropy loss; the learning rate rises first, then falls to zero. It goes
# through the pictures one and a half times, which takes some seconds. Give it more `epochs` if you like.

# %%
train, test = (vit_edu.load_dataset("fashion", split) for split in ("train", "test"))
x_train, x_test = plain(train), plain(test)  # (9000, 1, 28, 28) and (2000, 1, 28, 28), from -1 to 1


def new_model():
    torch.manual_seed(0)
    model = VisionTransformer(28, 7, 1, 10, embed_dim=64, depth=2, num_heads=4)
    return model.apply(layers.init_linear)  # small random matrices, zero biases


def batches(x):
    return lambda indices, draws: (x[indices], train.labels[indices])


@torch.no_grad()
def score(model, x):
    return accuracy(torch.cat([model.eval()(part) for part in x.split(500)]), test.labels)


plots.plot_images(x_train[:10] / 2 + 0.5, titles=train.classes, columns=10)

# %%
mine = new_model()
print(f"before training: {score(mine, x_test):.0%} of the test pictures right")
plan = Plan(epochs=1.5, batch_size=64, lr=4e-3, warmup=0.1)
history = fit(Supervised(mine), len(train), batches(x_train), plan, on_report=plots.live_curve())
print(f"after {history.steps} steps: {score(mine, x_test):.0%}")

# %% [markdown]
# A working classifier, from a few seconds. What does it get wrong? Rows are what a picture is, columns what the model
# says, in per cent of the row.

# %%
with torch.no_grad():
    said = torch.cat([mine(part) for part in x_test.split(500)]).argmax(dim=-1)
confusion = torch.zeros(10, 10)
confusion.index_put_((test.labels, said), torch.tensor(1.0), accumulate=True)
confusion = 100 * confusion / confusion.sum(dim=1, keepdim=True)
title = "what is (rows), said (columns)"
plots.plot_matrix(confusion.round(), train.classes, train.classes, title, numbers=True)

# %%
off = confusion.clone().fill_diagonal_(0)
is_, as_ = divmod(off.argmax().item(), 10)
print(f"most often: {train.classes[is_]} taken for {train.classes[as_]}, {off[is_, as_]:.0f} in 100")
wrong = ((test.labels == is_) & (said == as_)).nonzero()[:10, 0]
plots.plot_images(test.images[wrong], columns=10)

# %% [markdown]
# Would you have known? Now for honesty. How good is *one linear layer* on the bare pixels, the oldest thing there is?

# %%
layer = linear_probe(x_train.flatten(1), train.labels, classes=10, steps=20)
print(f"one linear layer: {accuracy(layer(x_test.flatten(1)), test.labels):.0%}, your ViT: {score(mine, x_test):.0%}")

# %% [markdown]
# The linear layer wins, in a fraction of the time. That is no bug. The pictures are small, upright, in the middle and
# on black, so that every pixel has a meaning of its own; and a ViT takes next to nothing for granted: it has little
# **inductive bias**. More epochs help (try it when you have minutes). But with little data it needs more than that:
# Dosovitskiy et al. 2021, section 4.3, and lessons 07 to 09 here.
#
# What has it learned about space? Positions start as noise. In the emoji model, which was trained for much longer,
# each small map shows how alike one place's vector is to all the others.

# %%
plots.plot_positions(published.pos_embed.float()[:, 1:], (8, 8))

# %% [markdown]
# Nobody told it that a picture is a grid. It has found the rim, the middle, and who is next to whom. And look for
# the twins: a place on the left is also like the same place on the right. It was trained on mirror images, too.

# %% [markdown]
# ## What the papers say
#
# | in the code | Dosovitskiy et al. 2021 |
# | --- | --- |
# | `VisionTransformer` | figure 1 |
# | `embed_positions(patch_embed(images), cls_token, pos_embed)` | equation 1 |
# | `attn`, `mlp`, with `norm1`, `norm2` and the two sums | equations 2 and 3 |
# | `norm(x)[:, 0]` | equation 4 |
# | `head` | section 3.1: an MLP while pre-training, one linear layer when fine-tuned |
# | sizes | table 1 |
#
# Is the class token needed? Dosovitskiy et al. 2021, appendix D.3, compare it with the mean of the patches: both work,
# with different learning rates. timm's `global_pool="avg"` is that mean, with the norm behind it; weights that were
# trained for one give wrong answers in the other.

# %% [markdown]
# ## What went wrong for other people
#
# - **The last norm, and the eps.** A well-known library's ViT lacked the norm of equation 4 and had PyTorch's own eps,
#   until somebody wanted to [load published weights](https://github.com/kornia/kornia/pull/2786).
# - **The same answer for every picture.** An official example's loss did not fall. A reader
#   [found](https://github.com/pytorch/examples/issues/1184) that the same tensor came out, whatever went in. One line
#   shows it: put in two pictures, and compare.
# - **"Is it a bug?"** [Half of two classes right](https://github.com/lucidrains/vit-pytorch/issues/214), and a loss that
#   jumps. Often there is no bug, only a large model, a few hundred pictures and no pre-training.
#
# How loud is a mistake? Here are some that the check knows, with the published weights in them. Your third guess:

# %%
exercise = vit_edu.exercises.ALL["vision_transformer"]
wrong = {mistake.name: exercise.wrong(mistake) for mistake in exercise.mistakes}
names = ["the eps of PyTorch's LayerNorm", "no norm at the end", "class token without its position"]
names += ["the positions are missing", "patches column by column", "the blocks run backwards"]
names += ["the last token is read"]
small, labels = inputs[::2], sample.labels[::2]
with torch.no_grad():
    good = model(small)
    print(f"{'no mistake':34} {accuracy(good, labels):4.0%} right")
    for name in names:
        bad = wrong[name](words, model.state_dict(), small)
        same = (bad.argmax(dim=-1) == good.argmax(dim=-1)).float().mean()
        print(f"{name:34} {accuracy(bad, labels):4.0%} right, {same:4.0%} of the answers as before")

# %% [markdown]
# None raises an error. The loud ones you would notice. The quiet ones are worse: a few per cent fewer or none at all,
# and you would blame the data. So compare *numbers* with a model that is known to be right, not accuracies.
#
# And compare with weights that say something. torchvision's ViT starts with a head of zeros:

# %% tags=["nbval-check-output"]
fresh = torchvision.models.VisionTransformer(**sizes, num_classes=8).double().eval()
vit_edu.load_weights(translated, fresh.state_dict(), source="torchvision")
with torch.no_grad():
    backwards = wrong["the blocks run backwards"]
    print("blocks backwards, equal to our model:  ", torch.allclose(backwards(words, model.state_dict(), small), good))
    nonsense = backwards(words, translated.state_dict(), images.double())
    print("blocks backwards, equal to torchvision:", torch.allclose(nonsense, fresh(images.double())))

# %% [markdown]
# All of torchvision's logits are zero, on both sides. Many a "test passed" was of this kind.

# %% [markdown]
# ## A surprise: scrambled pixels
#
# Your fourth guess. One random order of the pixels, the same for all pictures.

# %%
torch.manual_seed(0)
order = torch.randperm(28 * 28)


def scramble(x):
    """Every pixel to another place, the same one in all pictures."""
    return x.flatten(1)[:, order].view_as(x)


pairs = torch.cat([x_train[:10], scramble(x_train[:10])]) / 2 + 0.5
plots.plot_images(pairs, titles=[*train.classes, *train.classes], columns=10)

# %% [markdown]
# A new model of the same kind, the same plan, on scrambled pictures:

# %%
scrambled = new_model()
fit(Supervised(scrambled), len(train), batches(scramble(x_train)), plan)
print(f"trained and tested on pictures:           {score(mine, x_test):.1%}")
print(f"trained and tested on scrambled pictures: {score(scrambled, scramble(x_test)):.1%}")

# %% [markdown]
# It is not worse. In a run this short it is *better*. How can that be?
#
# A ViT never knew which pixels are neighbours. To the embedding matrix a patch is a list of numbers in any order. But the
# *choice* of who shares a token has changed: it was one corner of a shoe, now it is pixels from all over the shoe. Ask
# a linear layer to name the thing from one token only:

# %%
places = [0, 5, 10, 15]  # tokens along the diagonal
for name, change in {"patch": lambda x: x, "49 scattered pixels": scramble}.items():
    one, other = (layers.patchify(change(x), 7) for x in (x_train[:2000], x_test))  # (N, 16, 49)
    probes = [linear_probe(one[:, n], train.labels[:2000], classes=10, steps=30) for n in places]
    right = [accuracy(probe(other[:, n]), test.labels) for n, probe in zip(places, probes)]
    print(f"one {name}:", ", ".join(f"{share:.0%}" for share in right))

# %% [markdown]
# A scattered token has seen a little of everything, and knows by itself what a patch learns only from the others. What
# it cannot have is a texture, an edge, a seam: whatever lives among neighbours. For pictures as simple as these that
# hardly matters. Dosovitskiy et al. 2021 say it in section 3.1: at the start positions carry no information about the
# two dimensions, and all relations in space have to be learned.
#
# Shuffle whole *patches* instead, and nothing changes at all: move the rows of `pos_embed` along, and it is the same
# model.

# %% tags=["nbval-check-output"]
places = torch.randperm(16)
shuffled = layers.unpatchify(layers.patchify(x_test[:100], 7)[:, places], 7, (4, 4))
moved = new_model().eval()
moved.load_state_dict(mine.state_dict())
with torch.no_grad():
    moved.pos_embed[:, 1:] = mine.pos_embed[:, 1:][:, places]
    same = torch.allclose(moved(shuffled), mine(x_test[:100]), atol=1e-4)
print("shuffled patches, shuffled positions, same logits:", same)

# %% [markdown]
# ## In five lines
#
# 1. A ViT is equation 1, a row of equal blocks, a norm, and a linear layer that reads the class token.
# 2. Names and shapes are a contract: whoever keeps them can load anybody's weights.
# 3. Two thirds of its numbers are MLPs; patch embedding and positions are nearly nothing.
# 4. Half the patch: four times the tokens, more than four times the work of their blocks, nearly the same parameters.
# 5. It takes next to nothing about images for granted, so it must learn even neighbours: it wants much data, or help.

# %% [markdown]
# ## New words
#
# - **state dict**: the names of a model's tensors and their numbers; what a file of weights holds.
# - **logits**: one number for each class before the softmax; any numbers, the largest wins.
# - **classification head**: the last linear layer, which makes logits of one vector.
# - **FLOPs**: floating-point operations; a multiply-add is two of them.
# - **meta device**: torch's way to build a model of shapes without numbers.
# - **confusion matrix**: how often a thing of one class is taken for each other class.
# - **inductive bias**: what a model takes for granted before it has seen data, as that neighbours belong together.

# %% [markdown]
# **To read:** Dosovitskiy et al. 2021, [*An Image is Worth 16x16 Words*](https://arxiv.org/abs/2010.11929), sections 3 and
# 4.3 · Steiner et al. 2022, [*How to train your ViT?*](https://arxiv.org/abs/2106.10270) · Beyer, Zhai and Kolesnikov
# 2022, [*Better plain ViT baselines for ImageNet-1k*](https://arxiv.org/abs/2205.01580), a short note.
#
# **Harder, without a check:** give both models of the last section eight times the epochs. Does the scrambled one stay
# ahead? And which of the two still learns when each picture is shifted by a few random pixels *before* it is scrambled?
#
# **Next:** [05 · Seeing attention](05_seeing_attention.ipynb).
