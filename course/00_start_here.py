# ---
# jupyter:
#   vit_edu:
#     title: Start here
#     minutes: 10
#     builds_on: []
#     builds: a photo cut into patches, and a first exercise solved
# ---

# %% [markdown]
# # 00 · Start here
#
# **Ten minutes.** You need Python here, and from lesson 01 on PyTorch at the level of its first tutorial: tensors,
# shapes, matrix products. You need no network and no graphics card.
#
# A **vision transformer**, ViT for short, names what is in a photo. In its *training* it sees many photos with their
# names, the *classes*, and adjusts its numbers until its answers agree; then it answers for photos that it never saw.
#
# At the end you will
# - have seen how a vision transformer reads a photo: as a row of small squares, like the words of a sentence;
# - know how exercises work in this course: you write, a check tells you at once what is wrong, hints come one by one;
# - know what lies ahead, and where to get help.
#
# Run a cell with **Shift + Enter**. Run the cells from top to bottom.

# %% [markdown]
# ## A photo
#
# **Predict first.** These photos are 224 pixels high and 224 wide. Cut one into squares of 32 × 32 pixels: how many
# do you get? Keep your number in mind.

# %%
import vit_edu
from vit_edu import layers, plots
from vit_edu.widgets import PatchExplorer

photos = vit_edu.load_dataset("photos")
plots.plot_images(photos.images, photos.names)

# %% [markdown]
# ## Its patches
#
# Below is the cat, cut into squares. They are called **patches**. Click one, or go to the picture with Tab and move
# with the arrow keys. Watch three things: the pixels of the patch, its numbers in one long line, and its place in the
# row of all patches. We call a patch a **token** as soon as it stands in this row; lesson 01 turns it into a vector of
# the model's own width.
#
# Then make the patches smaller. How does the number of patches grow when you halve their side?
#
# (If you see *model not found* in a notebook that you have reopened, run the cell.)

# %%
cat = photos.images[photos.names.index("cat")]
PatchExplorer(cat, patch_size=32)

# %% [markdown]
# This is all a vision transformer gets to see: a row of patches. It starts with no idea that patch 7 lies below patch
# 0, and has to be told or to find out. How is the story of lesson 01.
#
# In code, `cat` is a **tensor**, a block of numbers with a shape: (3, 224, 224). `cat[None]` makes it a batch of one
# photo, (1, 3, 224, 224), because `patchify` cuts many photos at once.

# %%
patches = layers.patchify(cat[None], patch_size=32)[0].reshape(-1, 3, 32, 32)
plots.plot_sequence(patches)

# %% tags=["nbval-check-output"]
print(f"{len(patches)} patches, each of {patches[0].numel()} numbers: 3 colours × 32 × 32 pixels")

# %% [markdown]
# ## How exercises work
#
# Every lesson asks you to write small functions. A **check** then runs yours on fresh random inputs and compares. It
# does not only say *wrong*: it knows the classic mistakes and tells you which one you have made.
#
# Try it with this function. It should count the patches of any image, and it is **wrong on purpose**. Can you see for
# which images?


# %%
def count_patches(height, width, patch_size):
    return (height // patch_size) ** 2


tried = vit_edu.check("count_patches", count_patches)

# %% [markdown]
# Read the report from top to bottom:
#
# - the **ladder**: does it run? is the shape right? are the values? does it keep what must stay true? (From lesson 01
#   on also: are the gradients right?) This one falls off at the values;
# - the **mistake** by its name, with a question that leads out of it;
# - the **smallest input** on which it fails, with your answer beside the right one.
#
# Stuck? Ask for a hint. Each call gives one more: a nudge, the shapes, a part of the code, at last the solution. (Each
# *run* of this cell is a call, *Run All Cells* too. After a restart of the kernel the hints begin again.)

# %%
vit_edu.hint("count_patches")

# %% [markdown]
# ### Exercise · Count the patches
#
# Return how many whole patches of `patch_size` × `patch_size` pixels lie side by side in an image of `height` ×
# `width` pixels. Pixels left over at the right and bottom edges belong to no patch.


# %%
def count_patches(height, width, patch_size):
    """height, width, patch_size: int -> int"""
    ### BEGIN SOLUTION
    rows = height // patch_size
    columns = width // patch_size
    return rows * columns
    ### END SOLUTION


# %%
count_patches = vit_edu.check("count_patches", count_patches)

# %% [markdown]
# Two things to know about that last line:
#
# - **You can always go on.** Until your function passes, `count_patches` is the kit's own answer, so nothing below
#   breaks. Once it passes, the lesson goes on with *yours*.
# - **Another way is fine.** The check compares what your function does, not how it is written.
#
# From here on `count_patches` does the counting:

# %% tags=["nbval-check-output"]
for patch_size in (112, 56, 32, 16, 8):
    print(f"patches of {patch_size:3}: {count_patches(224, 224, patch_size):4} tokens")

# %% [markdown]
# Half the side of a patch, four times the patches. A model looks at every *pair* of them, so the pairs grow
# sixteenfold, 4 × 4; lesson 02 measures what that costs.

# %% [markdown]
# ## The map
#
# | lesson | what you build |
# | --- | --- |
# | 00 Start here | a count of patches: you are here |
# | [01 Images as sequences](01_images_as_sequences.ipynb) | patches, tokens, positions |
# | [02 Self-attention from scratch](02_self_attention.ipynb) | how tokens look at each other |
# | [03 The encoder block](03_encoder_block.ipynb) | attention, MLP, norms and residuals in one block |
# | [04 ViT](04_vision_transformer.ipynb) | a whole vision transformer that loads published weights |
# | [05 Seeing attention](05_seeing_attention.ipynb) | maps of where a model looks, and what they do not explain |
# | [06 Swin](06_swin.ipynb) | attention in windows that shift |
# | [07 Hybrids](07_hybrids.ipynb) | convolution and attention together; "why is my ViT so poor?" |
# | [08 Transfer](08_transfer.ipynb) | a trained model made to do your task |
# | [09 Learning without labels](09_without_labels.ipynb) | MAE and DINO |
# | [10 Images and words](10_images_and_words.ipynb) | CLIP |
# | [11 Faster, larger](11_faster_larger.ipynb) | what makes training quick, measured |
#
# *Published weights* are the numbers of a model that others have trained and given to everybody. Swin, MAE, DINO and
# CLIP are relatives of the ViT; each lesson introduces its own.

# %% [markdown]
# ## Help, and what a machine needs
#
# - **A cell fails, a picture is missing?** Open a terminal in JupyterLab (File → New → Terminal) and run
#   `vit-edu doctor`; outside JupyterLab: `make doctor` in the kit's folder. It looks at versions, memory, data and
#   widgets, and says what to do about each problem.
# - **Lost in your own changes?** Your file is yours, the kit never overwrites it. To start a lesson afresh, rename or
#   delete your file and start the kit again (`make lab` or `vit-edu lab`).
# - **What does this function do?** Put a question mark behind its name in a cell: `plots.plot_images?`
# - **The machine**: two processor cores and 2 GB of memory are enough for one lesson at a time: shut down its kernel
#   (Kernel → Shut Down Kernel) before you open the next. Everything the lessons need came with the kit.
#
# ## In five lines
#
# 1. A vision transformer reads an image as a row of patches.
# 2. A patch of side p in three colours is 3 · p · p numbers.
# 3. Half the side of a patch means four times the patches.
# 4. `vit_edu.check` names your mistake; `vit_edu.hint` helps, a little more each time.
# 5. An unsolved exercise never stops a lesson.
#
# **Next:** [01 · Images as sequences](01_images_as_sequences.ipynb)
