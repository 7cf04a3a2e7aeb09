# ---
# jupyter:
#   vit_edu:
#     title: Images as sequences
#     minutes: 50
#     builds_on: ["00"]
#     builds: everything between a photo and the first attention layer, in five functions
# ---

# %% [markdown]
# # 01 · Images as sequences
#
# **50 minutes. Builds on** [00 · Start here](00_start_here.ipynb).
#
# A transformer reads a sequence of vectors. A photo is a grid of pixels. This lesson builds the road from one to the
# other. You need Python, and PyTorch at the level of its first tutorial: tensors, shapes, matrix products. At the end
# you can
# - cut a batch of images into patches and put it together again, without a loop;
# - say when `reshape` is enough, and why it nearly never is;
# - turn patches into tokens (the vectors a model works with) by one matrix, and show that a convolution does the same;
# - add a class token and positions, and say what a model without positions cannot see.

# %% [markdown]
# ## Predict first
#
# Write down your guesses; the lesson answers all three.
#
# 1. A colour photo of 224 × 224 pixels is cut into patches of 16 × 16. How many tokens, and how many numbers in each?
# 2. Somebody shuffles the patches like cards. What of the photo is lost to a model that does not know where a patch
#    came from?
# 3. A random matrix turns the numbers of each patch into 768 others, or into 192. How much of the photo can you get
#    back in each case?

# %% [markdown]
# ## An image is a block of numbers

# %%
import torch
import vit_edu
from einops import rearrange
from torch import nn
from vit_edu import plots
from vit_edu.widgets import PatchExplorer

photos = vit_edu.load_dataset("photos")
plots.plot_images(photos.images, photos.names)

# %% [markdown]
# A block of numbers with a shape is a **tensor**. PyTorch stores an image as a tensor **(C, H, W)**: channels, height,
# width. Here are the shape, the type, and the red, green and blue of the pixel in the top left corner.

# %% tags=["nbval-check-output"]
cat = photos.images[photos.names.index("cat")]
print(tuple(cat.shape), cat.dtype)
print("top left pixel:", cat[:, 0, 0].tolist())

# %% [markdown]
# So the red of *all* pixels comes first, then all the green, then all the blue: three grey images, one after the
# other.

# %%
plots.plot_images(cat[:, None], titles=["cat[0], red", "cat[1], green", "cat[2], blue"])

# %% [markdown]
# Files, PIL and matplotlib keep (H, W, C), the three colours of a pixel side by side. `permute(2, 0, 1)` goes from
# there to here.
#
# The explorer shows the two ways of looking at one photo: as a grid and, when you press *Flatten*, as a sequence.
# Choose a patch and look at its vector, all its numbers in one line. Where in it does the green begin?

# %%
PatchExplorer(cat, patch_size=32)

# %% [markdown]
# ## reshape keeps the order, permute changes it
#
# Take an "image" so small that you can follow each number: 4 × 4 pixels, numbered as they lie in memory.

# %%
small = torch.arange(16).reshape(4, 4)
plots.plot_matrix(small, numbers=True, title="pixel numbers")

# %% [markdown]
# Cut it into patches of 2 × 2. The first one should be 0, 1, 4, 5. Four patches of 2 × 2: does `reshape(4, 2, 2)` do
# it?

# %% tags=["nbval-check-output"]
print("first 'patch':", small.reshape(4, 2, 2)[0].tolist())

# %% [markdown]
# No: that is the first *row* of pixels, folded. `reshape` counts through the numbers in memory and never moves one.
# It takes three steps.
#
# **Step 1, split each side.** Four rows of pixels are 2 rows of patches with 2 rows of pixels each; the same for
# columns. Nothing moves yet.

# %% tags=["nbval-check-output"]
split = small.reshape(2, 2, 2, 2)  # (row of patches, row inside, column of patches, column inside)
print(tuple(split.shape))
print("pixel", split[1, 0, 0, 1].item(), "is in patch row 1, at the top; patch column 0, at the right")

# %% [markdown]
# **Step 2, bring together what belongs together.** Both axes that say *which patch* go to the front, both that say
# *where inside* to the back.

# %% tags=["nbval-check-output"]
grouped = split.permute(0, 2, 1, 3)  # (row of patches, column of patches, row inside, column inside)
print(tuple(grouped.shape), "| first patch:", grouped[0, 0].tolist())

# %% [markdown]
# **Step 3, join the pairs.** Now a reshape is right, because what it joins stands side by side.

# %% tags=["nbval-check-output"]
flat = grouped.reshape(4, 4)  # (patches, numbers in a patch)
print(flat.tolist())

# %% [markdown]
# **einops** writes the three steps as one sentence: each axis has a name, brackets join or split. Many people read
# this more easily than `permute(0, 2, 1, 3)`, and it refuses shapes that do not fit.

# %% tags=["nbval-check-output"]
in_one_sentence = rearrange(small, "(rows p) (columns q) -> (rows columns) (p q)", p=2, q=2)
print("the same:", torch.equal(flat, in_one_sentence))

# %% [markdown]
# **Predict:** what do "patches" of the cat look like if you forget the permute, `cat.reshape(49, 3, 32, 32)`? The
# shape is right, so no error warns you.

# %%
plots.plot_sequence(cat.reshape(49, 3, 32, 32)[:14])

# %%
plots.plot_sequence(rearrange(cat, "c (rows p) (columns q) -> (rows columns) c p q", p=32, q=32)[:14])

# %% [markdown]
# Each of these false patches holds 3 · 32 · 32 = 3072 numbers of the red channel in a row: nearly 14 lines of the photo,
# `3072 / 224`, folded up. What looks like its colours are three strips of red; further on come patches of green
# only, and of blue. A network trained on them would learn *something*, and nothing would warn you.

# %% [markdown]
# ### Exercise · patchify
#
# Cut a batch of images into patches, row by row, and flatten each patch as **(C, p, p)**: all red numbers first, then
# green, then blue. Use reshape and permute, or einops, or a loop; the check does not mind.
#
# The letters in shapes: **B** images in the *batch* (images of one size, stacked), **N** patches or tokens in the
# sequence, **C** channels, **H** and **W** height and width, **p** side of a patch.


# %%
def patchify(images, patch_size):
    """images (B, C, H, W) -> patches (B, N, C*p*p), N = H/p * W/p"""
    ### BEGIN SOLUTION
    B, C, H, W = images.shape
    p = patch_size
    x = images.reshape(B, C, H // p, p, W // p, p)  # (B, C, rows, p, columns, p)
    x = x.permute(0, 2, 4, 1, 3, 5)  # (B, rows, columns, C, p, p)
    return x.reshape(B, (H // p) * (W // p), C * p * p)
    ### END SOLUTION


# %%
patchify = vit_edu.check("patchify", patchify)

# %% [markdown]
# The first guess can be settled:

# %% tags=["nbval-check-output"]
image = cat[None] / 255  # [None] puts an axis in front, a batch of one; numbers from 0 to 1
patches = patchify(image, 16)
print(tuple(patches.shape), "|", 224 // 16, "x", 224 // 16, "tokens of", 3 * 16 * 16, "numbers")

# %% [markdown]
# ### Exercise · unpatchify
#
# The way back. `grid_size` is `(rows, columns)`; the number of channels is what is left over.


# %%
def unpatchify(patches, patch_size, grid_size):
    """patches (B, N, C*p*p), grid_size (rows, columns) -> images (B, C, rows*p, columns*p)"""
    ### BEGIN SOLUTION
    (rows, columns), p = grid_size, patch_size
    x = patches.reshape(len(patches), rows, columns, -1, p, p)  # (B, rows, columns, C, p, p)
    x = x.permute(0, 3, 1, 4, 2, 5)  # (B, C, rows, p, columns, p)
    return x.reshape(len(patches), -1, rows * p, columns * p)
    ### END SOLUTION


# %%
unpatchify = vit_edu.check("unpatchify", unpatchify)

# %% [markdown]
# There and back again must change nothing. This one line finds most mistakes in code that you meet elsewhere.

# %% tags=["nbval-check-output"]
print("unpatchify undoes patchify:", torch.equal(unpatchify(patches, 16, (14, 14)), image))

# %% [markdown]
# **Predict:** read the sequence backwards, `patches.flip(1)`, and put it together. Is that the cat upside down?

# %%
backwards = unpatchify(patches.flip(1), 16, (14, 14))
plots.plot_images([image[0], backwards[0]], titles=["the cat", "the sequence backwards"])

# %% [markdown]
# Not quite: the *patches* stand in reverse order, but each of them is still upright.

# %% [markdown]
# ## From patch to token: one matrix
#
# Until here "token" was another word for a patch in its place. 768 raw numbers are an awkward token: its width is tied
# to the patch size, and its numbers are bare colours. So each patch is multiplied by a learned matrix **E**, the *patch
# embedding*; from now on the product is the token. Its width **D** is ours to choose; ViT-Tiny, a small published
# model, has D = 192.
#
# `nn.Linear(768, 192)` holds such a matrix and a *bias*, 192 numbers that are added to each product. Both start at
# random; training changes them.

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
linear = nn.Linear(3 * 16 * 16, 192)
print("tokens:", tuple(linear(patches).shape))
print("parameters:", sum(p.numel() for p in linear.parameters()), "=", 768, "x", 192, "+", 192)

# %% [markdown]
# Published code writes this as a **convolution** whose kernels (small blocks of weights) are as large as a patch, and
# whose step (*stride*) is as long as its kernels. Lay a kernel on a patch, multiply number by number, add up: that is
# one row of the matrix times the patch. Then move on by a whole patch.

# %% tags=["nbval-check-output"]
conv = nn.Conv2d(in_channels=3, out_channels=192, kernel_size=16, stride=16)
print("weight:", tuple(conv.weight.shape), " bias:", tuple(conv.bias.shape))
print("result:", tuple(conv(image).shape), "= (B, D, rows, columns), still a grid")

# %% [markdown]
# ### Exercise · embed_patches
#
# Do what that convolution does, from its weight and bias, with one matrix product: cut, flatten the weight, multiply.
# The result is a sequence, (B, N, D). Your `patchify` may help.


# %%
def embed_patches(images, weight, bias):
    """images (B, C, H, W), weight (D, C, p, p), bias (D,) -> tokens (B, N, D)"""
    ### BEGIN SOLUTION
    patches = patchify(images, weight.shape[-1])  # (B, N, C*p*p)
    return patches @ weight.flatten(1).T + bias  # (B, N, C*p*p) @ (C*p*p, D) -> (B, N, D)
    ### END SOLUTION


# %%
embed_patches = vit_edu.check("embed_patches", embed_patches)

# %% tags=["nbval-check-output"]
tokens = embed_patches(image, conv.weight, conv.bias)  # (1, 196, 192)
from_conv = conv(image).flatten(2).transpose(1, 2)  # (1, 192, 14, 14) -> (1, 192, 196) -> (1, 196, 192)
print(tuple(tokens.shape), "| equal to the convolution:", torch.allclose(tokens, from_conv, atol=1e-5))

# %% [markdown]
# This is nearly the only place where a ViT treats its input as an image; the paper names one more, the resizing of the
# positions for photos of another size. From here on it sees 196 vectors.

# %% [markdown]
# ## What a pile of tokens does not know
#
# Now the second guess. Shuffle the patches of the cat and embed both photos. (The explorer at the top can do it too:
# *Shuffled*.)

# %%
order = torch.randperm(196)
puzzle = unpatchify(patches[:, order], 16, (14, 14))
plots.plot_images([image[0], puzzle[0]], titles=["the cat", "the same patches, shuffled"])

# %% tags=["nbval-check-output"]
puzzle_tokens = embed_patches(puzzle, conv.weight, conv.bias)
print("same tokens, other order:", torch.allclose(puzzle_tokens, tokens[:, order], atol=1e-5))
print("same sum:", torch.allclose(puzzle_tokens.sum(1), tokens.sum(1), atol=1e-3))

# %% [markdown]
# Every token has its exact twin. Whatever treats all tokens alike (their sum, their mean, and attention too, as
# lesson 02 shows) gets the same out of both. So without positions *all* of the arrangement is lost: to such a model,
# the cat and the puzzle are one photo.
#
# The remedy is simple: give each **place** a vector of its own, and add it to the token that sits there.

# %% [markdown]
# ## The class token, and positions that are learned
#
# ViT adds two things to the sequence.
#
# - A **class token** in front: one learned vector, the same for every image. It has no pixels of its own. It is an
#   empty seat at the table, where what the patches have to say is collected for the answer: the *class*, the name of
#   what is in the photo.
# - **Positions**: a table of learned vectors, one for each place, *and one for the class token*. Place n's vector is
#   added to whatever sits there.
#
# `nn.Parameter` marks a tensor as learned: training may change it.

# %% tags=["nbval-check-output"]
cls_token = nn.Parameter(0.02 * torch.randn(1, 1, 192))
pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + 196, 192))
print("learned numbers:", cls_token.numel(), "and", pos_embed.numel(), "=", 197, "x", 192)

# %% [markdown]
# ### Exercise · embed_positions
#
# Put the class token in front of every image's tokens, then add the positions. This is equation 1 of the ViT paper.


# %%
def embed_positions(tokens, cls_token, pos_embed):
    """tokens (B, N, D), cls_token (1, 1, D), pos_embed (1, 1+N, D) -> (B, 1+N, D)"""
    ### BEGIN SOLUTION
    first = cls_token.expand(len(tokens), -1, -1)  # (B, 1, D)
    return torch.cat([first, tokens], dim=1) + pos_embed  # (B, 1+N, D)
    ### END SOLUTION


# %%
embed_positions = vit_edu.check("embed_positions", embed_positions)

# %% tags=["nbval-check-output"]
sequence = embed_positions(tokens, cls_token, pos_embed)
puzzle_sequence = embed_positions(puzzle_tokens, cls_token, pos_embed)
print(tuple(sequence.shape))
shuffled = sequence[:, 1:][:, order]  # without the class token, in the order of the puzzle
print("still the same tokens:", torch.allclose(puzzle_sequence[:, 1:], shuffled, atol=1e-5))

# %% [markdown]
# Cat and puzzle are different photos again.

# %% [markdown]
# ## Positions that are computed
#
# Learned positions start as noise: no two places look more alike than any others, and the model has to find out from
# data which are neighbours. One can also *compute* a table in which neighbours are alike. The old trick is to write a
# number as waves: a slow wave says roughly where you are, a fast one exactly.

# %%
place = torch.arange(14)
waves = {f"frequency {f:g}": torch.sin(place * f) for f in (1, 0.316, 0.1, 0.0316)}
plots.plot_curves(place, waves, xlabel="column x", ylabel="sin(frequency · x)")

# %% [markdown]
# The code of **MAE** does this in two dimensions (*masked autoencoder*: a ViT that learns from photos without names,
# by guessing hidden patches; lesson 09). A patch in column x and row y gets a vector of length `dim`:
#
# $$[\;\sin(x\,\omega_k)\;|\;\cos(x\,\omega_k)\;|\;\sin(y\,\omega_k)\;|\;\cos(y\,\omega_k)\;]$$
#
# with the frequencies
#
# $$\omega_k = 10000^{-k/(dim/4)},\qquad k = 0, 1, \dots, dim/4 - 1$$
#
# Four blocks, each `dim/4` long: **x first**, all sines before all cosines.

# %% [markdown]
# ### Exercise · sincos_position
#
# Compute this table. The places go row by row, as the patches do. The class token is not part of it (MAE gives it a
# row of zeros later).


# %%
def sincos_position(grid_size, dim):
    """grid_size (rows, columns), dim a multiple of 4 -> table (rows*columns, dim)"""
    ### BEGIN SOLUTION
    rows, columns = grid_size
    omega = 10000 ** -(torch.arange(dim // 4) / (dim // 4))  # (dim/4,)
    x = torch.arange(columns).repeat(rows)  # 0 1 2 0 1 2
    y = torch.arange(rows).repeat_interleave(columns)  # 0 0 0 1 1 1
    x, y = torch.outer(x, omega), torch.outer(y, omega)  # (rows*columns, dim/4) each
    return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1)
    ### END SOLUTION


# %%
sincos_position = vit_edu.check("sincos_position", sincos_position)

# %% [markdown]
# How alike are two places? Each small map below belongs to one place of a 7 × 7 grid and shows its *cosine similarity*
# to all the others: 1 if two vectors point the same way, 0 if they have nothing in common, −1 if they are opposed.
# **Predict** the pattern before you run a cell. First the learned table, before any learning:

# %%
plots.plot_positions(0.02 * torch.randn(49, 192), (7, 7))

# %% [markdown]
# Now the places numbered in one line, 0 to 48, as for words in a sentence. Who are the neighbours of place 24, in the
# middle?

# %%
in_a_line = sincos_position((1, 49), 192)
plots.plot_positions(in_a_line, (7, 7))

# %% [markdown]
# And in two dimensions:

# %%
in_a_grid = sincos_position((7, 7), 192)
plots.plot_positions(in_a_grid, (7, 7))

# %% tags=["nbval-check-output"]
for name, table in {"in a line": in_a_line, "in a grid": in_a_grid}.items():
    right, below = (torch.cosine_similarity(table[24], table[24 + step], dim=0) for step in (1, 7))
    print(f"{name}: place 24 and the one on its right {right:.2f}, the one below {below:.2f}")

# %% [markdown]
# In a line, the patch on the right is nearer than the patch below, though both touch. In a grid both are equally near.
# A learned table starts like the first picture. After training neighbours are alike in it, and places of one row or one
# column too: that is the middle of Figure 7 in the ViT paper.

# %% [markdown]
# ## Smaller pictures, a batch of them
#
# Nothing above knew about photos. Here are eight emoji, 32 pixels wide, through the functions above, with patches of 4.

# %%
emoji = vit_edu.load_dataset("emoji", split="train")
few = emoji.images[torch.linspace(0, len(emoji) - 1, 8).long()]
plots.plot_images(few)

# %% tags=["nbval-check-output"]
batch = few / 255
embed = nn.Conv2d(3, 64, kernel_size=4, stride=4)
x = embed_patches(batch, embed.weight, embed.bias)
table = torch.cat([torch.zeros(1, 64), sincos_position((8, 8), 64)])[None]
x = embed_positions(x, torch.zeros(1, 1, 64), table)
print(tuple(batch.shape), "->", tuple(x.shape))

# %% [markdown]
# ## A surprise: what is in a token?
#
# The third guess. We embed the cat with *random* matrices, throw the photo away, and try to compute it back from the
# tokens: multiply them by the *pseudo-inverse* of the matrix, which undoes it as well as any matrix can. First with D =
# 768, as many numbers as a patch has.

# %%
X = patches[0].double()  # (196, 768)
mean = X.mean()


def there_and_back(matrix):
    """Embed the patches with a matrix (768, D); recover them from tokens and mean, one number."""
    tokens = (X - mean) @ matrix  # (196, D)
    return tokens @ torch.linalg.pinv(matrix) + mean


def lost(recovered):
    """Which share of the photo's variance is gone."""
    return (((X - recovered) ** 2).sum() / ((X - mean) ** 2).sum()).item()


torch.manual_seed(1)
random_768, random_192 = (there_and_back(torch.randn(768, D).double()) for D in (768, 192))

# %% tags=["nbval-check-output"]
print(f"D = 768, random matrix: {lost(random_768):.1%} lost")
print(f"D = 192, random matrix: {lost(random_192):.0%} lost")

# %% [markdown]
# With 768 numbers nothing is lost, however random the matrix: all that it did was to turn the patch into other
# numbers. With 192 about three quarters are gone. You keep a quarter of the directions (192 / 768), so you keep about
# a quarter of the photo. Is D = 192 hopeless, then?
#
# No: a patch of a photo is no random vector. Neighbouring pixels are alike. Let us choose the 192 directions in which
# patches of the *other three photos* vary most (their principal components); the cat has no say in it.

# %%
others = [image for name, image in zip(photos.names, photos.images, strict=True) if name != "cat"]
windows = nn.functional.unfold(torch.stack(others) / 255, kernel_size=16, stride=4)  # (3, 768, windows)
samples = windows.transpose(1, 2).reshape(-1, 768).double()
variance, directions = torch.linalg.eigh(torch.cov(samples.T))  # in rising order
directions = directions.flip(1)  # (768, 768), the strongest first
chosen = {D: there_and_back(directions[:, :D]) for D in (192, 48, 12, 3, 1)}

# %% tags=["nbval-check-output"]
for D, recovered in chosen.items():
    print(f"D = {D:3}, directions of the other photos: {lost(recovered):.1%} lost")

# %%
results = {"the cat": X, "random, D = 768": random_768, "random, D = 192": random_192}
results |= {f"chosen, D = {D}": recovered for D, recovered in chosen.items()}
pictures = unpatchify(torch.stack(list(results.values())), 16, (14, 14))
eye = pictures[:, :, 32:144, 16:128].clamp(0, 1)  # a closer look
plots.plot_images(eye, titles=list(results), columns=4)

# %% [markdown]
# The same number of numbers, other directions: at D = 192 you need a magnifying glass to see a difference. A token of
# ViT-Tiny is four times smaller than its patch, and yet it can hold nearly all of it. These are the first 28
# directions:

# %%
first = directions[:, :28].T.reshape(28, 3, 16, 16)
first = 0.5 + 0.5 * first / first.abs().amax((1, 2, 3), keepdim=True)  # from -1..1 to 0..1
words = "28 pictures of 16 by 16 pixels: even colours, slow waves, faster ones."
plots.plot_images(first, columns=14, alt=words)

# %% [markdown]
# First even colours, then slow waves in all directions, then faster ones. Now open the ViT paper at Figure 7, left:
# the principal components of the embedding that ViT-L/32, a large model with patches of 32, has *learned*. It has found
# the same kind of waves by itself.

# %% [markdown]
# ## What the papers say
#
# **Dosovitskiy et al. 2021** ("An image is worth 16×16 words"), section 3.1, equation 1:
#
# $$z_0 = [x_{class};\; x_p^1 E;\; x_p^2 E;\; \dots;\; x_p^N E] + E_{pos}$$
#
# with $E$ of shape $(P^2 C) \times D$ and $E_{pos}$ of shape $(N+1) \times D$.
#
# | in the equation | in this lesson |
# | --- | --- |
# | $x_p^n$, the patches | `patchify` |
# | $E$ | `weight.flatten(1).T` in `embed_patches`, and `bias` |
# | $[x_{class}; \dots] + E_{pos}$ | `embed_positions` |
#
# Its appendix D.4 compares kinds of positions (Table 8). Positions matter: a model without any is clearly less
# accurate. It does not fail, for a bag of patches already tells much: fur, wheels, sky. Their kind hardly matters:
# places in one line, rows and columns, or relative positions do about equally well. The authors suppose that among so
# few places, 14 × 14, it is equally easy in every kind to learn who is whose neighbour.
#
# **He et al. 2022** (MAE) predicts the pixels of hidden patches. The paper asks for sine-cosine positions and does
# not say of what form; two dimensions, and x first, are what its code does. In its code, too, the targets are
# flattened as **(p, p, C)**, while the embedding is a convolution and so has **(C, p, p)**. Both orders live in
# one program.

# %% [markdown]
# ## What went wrong for other people
#
# **The right shape, the wrong pixels.** A set of practice problems accepted `x.view(B, num_patches, -1)` as the
# cutting of patches: [its tests did not notice](https://github.com/duoan/TorchCode/issues/21). You saw the strips
# that it makes. Remedy: `unpatchify(patchify(x)) == x`, and look at a patch.
#
# **Two orders in one program.** [minRF](https://github.com/cloneofsimo/minRF/issues/6) cut patches in one order and
# joined them in the other. It trained all the same: a linear layer can learn any order, as long as it is always the
# same one. But *published weights*, the numbers of a model that others have trained, know one order only. Let our
# convolution play their part:

# %% tags=["nbval-check-output"]
mae_order = rearrange(image, "b c (y p) (x q) -> b (y x) (p q c)", p=16, q=16)  # as MAE's targets
wrong = mae_order @ conv.weight.flatten(1).T + conv.bias
print("same shape:", wrong.shape == tokens.shape)
print("same numbers:", torch.allclose(wrong, tokens, atol=1e-2))

# %% [markdown]
# **A class token without a position.** A widely read annotated implementation added the positions first and put the
# class token in front afterwards ([labml, pull request
# 221](https://github.com/labmlai/annotated_deep_learning_paper_implementations/pull/221)). Nothing fails, but
# published weights give other answers: `E_pos` has N + 1 rows.
#
# **Squares everywhere.** MAE's function takes one number for the grid. A text recogniser with images of 32 × 128 and
# patches of 4, a grid of 8 × 32, was [trained with positions for 16 ×
# 16](https://github.com/Mountchicken/Union14M/issues/12): as many places either way, so no error. Always test with rows ≠
# columns.
#
# **x or y?** In MAE's code the variable called `emb_h` holds the columns; [its author
# agreed](https://github.com/facebookresearch/mae/issues/18) that only the names are wrong, and that swapping the
# two would break the published weights.
#
# **A bug that is none.** Somebody [reported](https://github.com/FrancescoSaverioZuppichini/ViT/issues/7) that a class
# token copied with `repeat` gets no proper gradient, and that it must be `expand`. Do not believe it, do not
# disbelieve it: measure.

# %% tags=["nbval-check-output"]
gradients = []
for copy in (lambda t: t.repeat(4, 1, 1), lambda t: t.expand(4, 1, 192)):
    loss = (copy(cls_token) * torch.arange(4.0)[:, None, None]).sum()
    gradients += torch.autograd.grad(loss, cls_token)
print("the same gradient:", torch.equal(*gradients))

# %% [markdown]
# (`expand` is still the better habit: it copies nothing.)

# %% [markdown]
# ## In five lines
#
# 1. `reshape` keeps the order of the numbers in memory; `permute` changes it. Cutting patches needs both.
# 2. A token is a patch times a matrix; a convolution with stride = kernel size is the same thing.
# 3. Tokens without positions are a pile of cards: the cat and the shuffled cat are one.
# 4. The class token goes in front and has a position of its own; then E_pos is added to all.
# 5. The order inside a patch, of x and y, of sine and cosine is a convention, and published weights know only theirs.
#
# ## New words
#
# - **patch**: a small square of the image; an image is cut into a grid of them.
# - **token**: one vector of the sequence that a transformer works on; here one for each patch, and one for the class.
# - **patch embedding**: the linear layer that turns the numbers of a patch into a token.
# - **position embedding**: a vector added to a token that says where its patch was.
# - **class token**: a learned token in front of the patches that gathers what is needed for the answer.
#
# ## To read
#
# - Dosovitskiy et al. 2021, [An image is worth 16×16 words](https://arxiv.org/abs/2010.11929): section 3.1, and
#   Figure 7.
# - [einops' tutorial](https://einops.rocks/1-einops-basics/): twenty minutes that pay off for years.
# - He et al. 2022, [Masked autoencoders are scalable vision learners](https://arxiv.org/abs/2111.06377): how much of
#   a photo can be told from a quarter of its patches.
#
# ## A harder problem, without a check
#
# Solve the puzzle. You get `patches[:, order]` and not `order`. Two patches fit side by side when the last column of
# one is nearly the first column of the other. Write `solve(shuffled, patch_size, grid_size)` that returns the patches
# in a better order. Start with `patch_size=56`, then go down to 16. Which photo is the hardest, and why?
#
# **Next:** [02 · Self-attention from scratch](02_self_attention.ipynb)
