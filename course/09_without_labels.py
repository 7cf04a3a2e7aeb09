# ---
# jupyter:
#   vit_edu:
#     title: Learning without labels
#     minutes: 60
#     builds_on: ["04", "05"]
#     builds: the loss of a masked autoencoder and one step of DINO, a collapse on purpose, and a test of what was learned
# ---

# %% [markdown]
# # 09 · Learning without labels
#
# **60 minutes. Builds on** [04 · ViT](04_vision_transformer.ipynb) and [05 · Seeing attention](05_seeing_attention.ipynb).
#
# Labels are dear, pictures are free. Two ways to learn from pictures alone have lasted: *paint what is hidden* (MAE, He et
# al. 2022) and *say the same of two views* (DINO, Caron et al. 2021). At the end you can
# - hide patches, bring them back into order, and write the loss that trains a masked autoencoder;
# - write DINO's loss, its centre and its teacher, and say what each of them prevents;
# - see a collapse, and name it from two numbers;
# - test what a model has learned without labels, and against which baselines.

# %% [markdown]
# ## Predict first
#
# Write down your guesses; the lesson answers all five.
#
# 1. Three quarters of a small picture are taken away. What can be painted again: nothing, the colours, the shape?
# 2. A model was only ever asked about hidden patches. How well does it paint those that it *sees*?
# 3. The encoder gets a quarter of the tokens. How much cheaper is it?
# 4. Student and teacher are to give the same answer to two views of a picture. What is the laziest way to agree?
# 5. Three models look for the same groups, and one of them has by far the lowest loss. Is it the best?

# %% [markdown]
# # I · Paint what is hidden
#
# ## The game
#
# The kit has a small MAE with it, trained on emoji of five styles. The style of these is new to it. The three pictures:
# what there is, what the model sees, what it paints.
#
# **Try:** at 75 % choose another draw of the noise, a few times. Which parts come back, and which never? Then 90 %.

# %%
import copy
import math

import torch
import torch.nn.functional as F
import vit_edu
from torch import nn
from vit_edu import explain, layers, models, plots
from vit_edu.training import Draws, accuracy, crops, features, knn, plain, records
from vit_edu.weights import checkpoint
from vit_edu.widgets import AttentionExplorer, MaskExplorer

mae = checkpoint("mae")
emoji = vit_edu.load_dataset("emoji", "new_style")  # uint8 (B, 3, 32, 32)
names = ["rooster", "balloon", "fish", "sailboat", "ring", "grapes"]
chosen = [emoji.names.index(name) for name in names]
MaskExplorer(mae, emoji.images[chosen], names)

# %% [markdown]
# Your first guess. Colours and outlines come back, small things that nothing hints at do not. To continue an outline one
# has to know how things go on. That is the whole idea: the hidden part is the label, and every picture brings its own.

# %% [markdown]
# ## Hide: a shuffle and its inverse
#
# Which patches go? The published way: draw a number for each patch, sort, keep the smallest. Sorting is a shuffle, and it
# must be undone later. So you need three things: who is kept, the way back, and the **mask**, 1 where a patch is gone.

# %% tags=["nbval-check-output"]
noise = torch.tensor([[0.6, 0.1, 0.9, 0.3]])  # four patches
ids_shuffle = noise.argsort(dim=1)
print("in the order of the noise stand patches", ids_shuffle.tolist())
shuffled = "".join("ABCD"[i] for i in ids_shuffle[0])
print("ABCD shuffled:", shuffled)
print("shuffled once more, that is not ABCD:", "".join(shuffled[i] for i in ids_shuffle[0]))

# %% [markdown]
# The last line is the classic trap. `ids_shuffle` says who stands at place k. The way back needs the opposite: at which
# place stands patch n?
#
# ### Exercise · random_masking
#
# Keep the `int(N * (1 - mask_ratio))` patches of smallest noise. All stand in the order of their noise, the removed too.


# %%
def random_masking(noise, mask_ratio):
    """noise (B, N) -> ids_keep (B, K), ids_restore (B, N), mask (B, N) with 1 = removed
    Kept patches and behind them the removed, taken along ids_restore, are in the picture's order again."""
    ### BEGIN SOLUTION
    num_keep = int(noise.shape[1] * (1 - mask_ratio))
    ids_shuffle = noise.argsort(dim=1)  # (B, N): patch ids_shuffle[k] goes to place k
    ids_restore = ids_shuffle.argsort(dim=1)  # (B, N): patch n went to place ids_restore[n]
    mask = (ids_restore >= num_keep).float()  # (B, N)
    return ids_shuffle[:, :num_keep], ids_restore, mask
    ### END SOLUTION


# %%
random_masking = vit_edu.check("random_masking", random_masking)

# %% tags=["nbval-check-output"]
images = plain(emoji)[chosen]  # float (6, 3, 32, 32) in -1..1
patchify, p = layers.patchify, 4  # lesson 01; patches of 4 x 4 pixels
torch.manual_seed(0)
noise = torch.rand(6, 64)
ids_keep, ids_restore, mask = random_masking(noise, 0.75)
print("keep", tuple(ids_keep.shape), "restore", tuple(ids_restore.shape), "mask", tuple(mask.shape))
print("removed in each picture:", mask.sum(dim=1).int().tolist(), "of 64")

# %% [markdown]
# ## The encoder sees the rest only
#
# Here MAE differs from older models with holes: there is nothing in the encoder where a patch is gone, not even a
# placeholder. Attention works on sets (lesson 02), so tokens may simply be missing. But first each gets its position: a
# token that travels must carry its address.

# %% tags=["nbval-check-output"]
encoder = mae.encoder


def encode(images, ids_keep):
    """(B, 3, 32, 32), (B, K) -> (B, 1+K, C): the class token and the patches that are kept"""
    x = encoder.embed(images)  # (B, 1+N, C), positions added
    kept = x[:, 1:].take_along_dim(ids_keep[:, :, None], dim=1)  # (B, K, C)
    x = torch.cat([x[:, :1], kept], dim=1)  # (B, 1+K, C)
    for block in encoder.blocks:
        x = block(x)
    return encoder.fc_norm(encoder.norm(x))


with torch.no_grad():
    latent = encode(images, ids_keep)
print("all tokens (6, 65, 96), these", tuple(latent.shape))

# %% [markdown]
# What does it save? Count with your `attention_cost` of lesson 02, at the size of the paper's ViT-L: 197 tokens, 1,024
# channels, 16 heads. The MLP of a block has 8 · N · C² multiply-adds.

# %%
attention_cost = vit_edu.mine("attention_cost")

# %% tags=["nbval-check-output"]
for name, N in {"all": 197, "a quarter": 50}.items():
    block, pairs = attention_cost(N, 1024, 16) + 8 * N * 1024**2, 2 * N**2 * 1024
    print(
        f"{name:10} {N:4} tokens: {block / 1e6:6,.0f} million multiply-adds a block, {pairs / 1e6:3.0f} for pairs of tokens"
    )
whole, quarter = (attention_cost(N, 1024, 16) + 8 * N * 1024**2 for N in (197, 50))
print(f"the whole is {whole / quarter:.1f} times a quarter, its pairs {(197 / 50) ** 2:.1f} times")

# %% [markdown]
# Your third guess: four times; pairs of tokens nearly sixteen times, but at this size they are a small part. And it is not
# only cheap. With mask tokens in the encoder, a linear probe falls from 73.5 % to 59.6 % (He et al. 2022, table 1c): the
# encoder gets used to placeholders, and no real picture has any.

# %% [markdown]
# ## Mask tokens, and the way back
#
# The decoder must say something of *every* place. Where a patch is gone it gets the **mask token**: one learned vector,
# the same everywhere. Then all go home, and positions are added: without them all mask tokens would be the same question.
#
# ### Exercise · insert_mask_tokens
#
# The class token stays in front, out of the shuffle.


# %%
def insert_mask_tokens(x, mask_token, ids_restore):
    """x (B, 1+K, D), mask_token (1, 1, D), ids_restore (B, N) -> (B, 1+N, D), patches in the picture's order"""
    ### BEGIN SOLUTION
    kept, N = x[:, 1:], ids_restore.shape[1]
    masks = mask_token.expand(len(x), N - kept.shape[1], -1)  # (B, N-K, D)
    row = torch.cat([kept, masks], dim=1)  # (B, N, D), the kept ones first
    row = row.take_along_dim(ids_restore[:, :, None], dim=1)  # (B, N, D), in the picture's order
    return torch.cat([x[:, :1], row], dim=1)  # (B, 1+N, D)
    ### END SOLUTION


# %%
insert_mask_tokens = vit_edu.check("insert_mask_tokens", insert_mask_tokens)

# %% tags=["nbval-check-output"]


def decode(x, ids_restore):
    """(B, 1+K, C), (B, N) -> what the model paints in each patch, (B, N, p*p*3)"""
    x = mae.decoder_embed(x)  # (B, 1+K, D)
    x = insert_mask_tokens(x, mae.mask_token, ids_restore) + mae.decoder_pos_embed  # (B, 1+N, D)
    for block in mae.decoder_blocks:
        x = block(x)
    return mae.decoder_pred(mae.decoder_norm(x))[:, 1:]  # (B, N, p*p*3)


with torch.no_grad():
    prediction = decode(latent, ids_restore)
print("painted:", tuple(prediction.shape), "= 64 patches of 4 x 4 pixels in 3 colours")

# %% [markdown]
# ## What is asked
#
# The question is not the pixels themselves. Each patch is first brought to mean 0 and variance 1 by itself. Look at what
# that does to a picture: white and grey areas vanish, and what is faint is as loud as what is strong. The rooster's body
# has a tint of blue that you hardly saw.

# %%
grid = (8, 8)
patches = patchify(images, p)  # (6, 64, 48)
loud = (patches - patches.mean(dim=-1, keepdim=True)) / (patches.var(dim=-1, keepdim=True) + 1e-6) ** 0.5
shown = [(x + 1) / 2 for x in images[:4]] + [(x / 3 + 1).clamp(0, 2) / 2 for x in layers.unpatchify(loud, p, grid)[:4]]
plots.plot_images(shown, names[:4] + ["what is asked"] * 4, columns=4)

# %% [markdown]
# How much of what plain pixels have to say is just the brightness of each patch, which its neighbours give away?

# %%
means = patches.mean(dim=-1, keepdim=True).expand_as(patches)  # (6, 64, 48)
print(f"of the variance of pixels lies between patches, not within them: {means.var() / patches.var():.0%}")

# %% [markdown]
# Normalised, detail counts.
#
# ### Exercise · mae_loss
#
# Normalise each patch (variance as `var` gives it, divided by one less than the number of pixels; `1e-6` added to it),
# take each patch's mean squared error, and average over the *removed* patches.


# %%
def mae_loss(prediction, patches, mask):
    """prediction (B, N, D), patches (B, N, D) as they are in the picture -> ()
    mask (B, N): 1 = removed, as many in each picture"""
    ### BEGIN SOLUTION
    mean, var = patches.mean(dim=-1, keepdim=True), patches.var(dim=-1, keepdim=True)  # (B, N, 1) each
    target = (patches - mean) / (var + 1e-6) ** 0.5
    error = ((prediction - target) ** 2).mean(dim=-1)  # (B, N)
    return (error * mask).sum() / mask.sum()
    ### END SOLUTION


# %%
mae_loss = vit_edu.check("mae_loss", mae_loss)

# %% [markdown]
# One more trap before the proof: `patchify` of lesson 01 lays a patch out as (colour, row, column), and MAE's authors as
# (row, column, colour). A loss does not mind, but trained weights do. `models.mae_target` has their order.
#
# Now all of it together: your masking, your mask tokens, your loss, the trained weights.

# %% tags=["nbval-check-output"]
mae = mae.double()
encoder, images, noise = mae.encoder, images.double(), noise.double()
with torch.no_grad():
    ids_keep, ids_restore, mask = random_masking(noise, 0.75)
    prediction = decode(encode(images, ids_keep), ids_restore)
    loss = mae_loss(prediction, models.mae_target(images, p), mask.double())
    their_loss, their_prediction, their_mask = mae(images, noise)
print("the same patches removed:", torch.equal(mask, their_mask))
print("the same painted:", torch.allclose(prediction, their_prediction, atol=1e-9))
print("the same loss:", torch.allclose(loss, their_loss, atol=1e-9))

# %%
seen, filled = models.reconstruct(images, prediction, mask, p, norm_pix_loss=True)
shown = [((x + 1) / 2).clamp(0, 1).float() for row in (seen, filled, images) for x in row]
plots.plot_images(shown, ["seen"] * 6 + ["painted"] * 6 + ["true"] * 6, columns=6)

# %% [markdown]
# (What is painted is detail only; for the picture each patch is given its true mean and deviation. So trust the shapes, not
# the colours.)

# %% [markdown]
# ## How much to hide?
#
# If little is hidden, each gap has neighbours that give it away. If all is hidden, nothing can be known. Below is the
# loss on every eighth picture by **mask ratio**. Grey, "I don't know", has a price too: it is where knowing begins.

# %%
ratios, mae = [0.1, 0.25, 0.5, 0.75, 0.9, 0.95], mae.float()
encoder, some = mae.encoder, plain(emoji)[::8]
target = models.mae_target(some, p)
torch.manual_seed(0)
noise, curves = torch.rand(len(some), 64), {"hidden": [], "seen": [], "grey": []}
with torch.no_grad():
    for ratio in ratios:
        ids_keep, ids_restore, mask = random_masking(noise, ratio)
        mask = mask.float()
        prediction = decode(encode(some, ids_keep), ids_restore)
        curves["hidden"].append(mae_loss(prediction, target, mask).item())
        curves["seen"].append(mae_loss(prediction, target, 1 - mask).item())
        curves["grey"].append(mae_loss(0 * prediction, target, mask).item())
plots.plot_curves(ratios, curves, xlabel="mask ratio (the model was trained at 0.75)", ylabel="loss")

# %%
for name, losses in curves.items():
    print(f"{name:7}", " ".join(f"{ratio:.0%}: {loss:.2f} " for ratio, loss in zip(ratios, losses)))

# %% [markdown]
# Two things to see. The loss on hidden patches rises slowly up to three quarters: so much of a picture follows from the
# rest. He et al. 2022 (figure 5) find 75 % best for what is learned, where models of text hide 15 %: words are dense,
# pixels repeat.
#
# And your second guess: at patches that it *sees* the model is worse than grey. Nobody ever asked. The loss is all that a
# model is told, and copying is not free unless it is rewarded.

# %% [markdown]
# The encoder keeps what it learned; decoder and mask token are thrown away. This is how the loss of the bundled model
# fell in training:

# %%
steps, losses = zip(*records.read("mae")[0]["loss"])
plots.plot_curves(steps, {"loss": losses}, xlabel="step", ylabel="loss on hidden patches")

# %% [markdown]
# # II · Say the same of two views
#
# ## Views
#
# DINO paints nothing. It takes several **crops** of one picture, two large (*global*) and some small (*local*), in other
# colours and here on another background, and wants the same said of all of them. What the crops of a picture share is
# what it shows; what they do not share does not matter. Whoever chooses the changes, chooses what is learned.

# %%
large = vit_edu.load_dataset("emoji", "new_style", img_size=64)
make_crops = crops(large, local=4, local_size=32)
indices = torch.tensor([large.names.index("rooster"), large.names.index("sailboat")])
views = make_crops(indices, Draws(seed=3, step=0, batch_size=2, rows=slice(0, 2)))
shown = [(view[i] + 1) / 2 for i in range(2) for view in views]
plots.plot_images(shown, titles=["global", "global", "local", "local", "local", "local"] * 2, columns=6)

# %% [markdown]
# ## Said in which words?
#
# There are no classes. So a network gets K outputs that mean nothing yet, and softmax turns them into shares. The
# **student** must give the shares that a **teacher** gives to another crop. The teacher is no other model: it is a mean of
# earlier students. It gets no gradient.
#
# Your fourth guess: both could give the *same* answer to every picture, and agree for ever. Two small things prevent it.
#
# - **Sharpening**: logits are divided by a **temperature** before the softmax, and the teacher's is lower, 0.04 against
#   0.1, so its shares are nearer to all-or-nothing. It pushes away from "everything alike".
# - **Centring**: the mean of the teacher's logits over many pictures is taken off. It pushes away from "always this one".

# %%
logits = torch.tensor([0.30, 0.34, 0.28, 0.05])  # of one picture
center = torch.tensor([0.10, 0.33, 0.10, 0.10])  # output 1 is high on all pictures
rows = {
    "as a student, 0.1": (logits / 0.1).softmax(dim=0),
    "sharpened, 0.04": (logits / 0.04).softmax(dim=0),
    "centred, 0.04": ((logits - center) / 0.04).softmax(dim=0),
}
plots.plot_matrix(torch.stack(list(rows.values())), rows=list(rows), columns=list("0123"), numbers=True, title="shares")

# %% [markdown]
# Sharpening alone makes output 1 the winner, which wins on every picture and so says nothing of this one. Centred, the
# outputs that are *unusual* here win.
#
# ## The loss
#
# Of every crop the student predicts what the teacher says of every *other* one. The teacher sees the two global crops
# only. With four local ones these pairs are compared:

# %%
table = torch.tensor([[float(i != j) for j in range(6)] for i in range(2)])
plots.plot_matrix(
    table,
    rows=["teacher 0", "teacher 1"],
    columns=["global 0", "global 1", "local 2", "local 3", "local 4", "local 5"],
    title="who is compared with whom",
    numbers=True,
    alt="Teacher's crop 0 with the student's crops 1 to 5, teacher's crop 1 with 0 and 2 to 5: ten pairs.",
)

# %% [markdown]
# $$\min_{\theta_s}\ \sum_{i\in\{0,1\}}\ \sum_{j\ne i} H\big(P_t(x_i),\,P_s(x_j)\big),\qquad H(a,b)=-a\log b$$
#
# ### Exercise · dino_loss
#
# Equation 3, as a mean over the pairs and over the batch. Mind three things: centre and sharpen the teacher, let no
# gradient into it, skip pairs of one and the same crop. A list comprehension with two `for` does the pairs.


# %%
def dino_loss(student_logits, teacher_logits, center, student_temp=0.1, teacher_temp=0.04):
    """student_logits V times (B, K), teacher_logits 2 times (B, K), center (K,) -> ()
    Crop i is the same for both."""
    ### BEGIN SOLUTION
    targets = [((t.detach() - center) / teacher_temp).softmax(dim=-1) for t in teacher_logits]  # (B, K) each
    logs = [(s / student_temp).log_softmax(dim=-1) for s in student_logits]  # (B, K) each
    losses = [-(q * log).sum(dim=-1).mean() for i, q in enumerate(targets) for j, log in enumerate(logs) if i != j]
    return sum(losses) / len(losses)
    ### END SOLUTION


# %%
dino_loss = vit_edu.check("dino_loss", dino_loss)

# %% [markdown]
# ### Exercise · dino_step
#
# Who looks at what, and whose answers make the centre? The student looks at all crops, the teacher at the first two. The
# loss takes the centre as it is; after it, the centre moves by a tenth: nine tenths of the old one and a tenth of the
# teacher's mean over both crops and all pictures. No graph may hang on the new centre.


# %%
def dino_step(student, teacher, crops, center):
    """student, teacher: a crop (B, 3, H, W) -> logits (B, K); crops: a list, the two global ones first; center (K,)
    -> loss (), the next center (K,)"""
    ### BEGIN SOLUTION
    student_logits = [student(crop) for crop in crops]
    with torch.no_grad():
        teacher_logits = [teacher(crop) for crop in crops[:2]]
    loss = dino_loss(student_logits, teacher_logits, center)
    mean = torch.cat(teacher_logits).mean(dim=0)  # (2*B, K) -> (K,)
    return loss, 0.9 * center + 0.1 * mean
    ### END SOLUTION


# %%
dino_step = vit_edu.check("dino_step", dino_step)

# %% [markdown]
# ### Exercise · update_teacher
#
# After each step of the optimiser the teacher moves a little to the student: θₜ ← m θₜ + (1 − m) θₛ, for every weight, in
# place. Step after step this is a mean of all students so far in which older ones count less, an **exponential moving
# average** (EMA). `parameters()` of both come in the same order.


# %%
def update_teacher(teacher, student, momentum):
    """Two networks of one kind; changes the teacher's weights, returns nothing"""
    ### BEGIN SOLUTION
    with torch.no_grad():
        for mine, theirs in zip(teacher.parameters(), student.parameters()):
            mine.mul_(momentum).add_((1 - momentum) * theirs)
    ### END SOLUTION


# %%
update_teacher = vit_edu.check("update_teacher", update_teacher)

# %% [markdown]
# The proof again: put the bundled, trained encoder into the kit's DINO, with a head of 128 outputs, and let a student go
# a step ahead. Yours and the kit's must say the same of the crops above.

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
dino = checkpoint("dino")
kit = models.DINO(copy.deepcopy(dino), out_dim=128, hidden_dim=64, bottleneck_dim=32).double()
student, teacher = (
    nn.Sequential(network["backbone"], network["head"]) for network in (kit.student, copy.deepcopy(kit.teacher))
)
views = [view.double() for view in views]
with torch.no_grad():
    for weight in kit.student.parameters():
        weight += 0.02 * torch.randn_like(weight)  # where a step might have led
for module in (student, teacher):
    module.eval()
kit.train()
kit.student.eval()  # no drop path, so that the two can be compared
center = kit.center.clone()
for _ in range(2):
    loss, center = dino_step(student, teacher, views, center)
    theirs = kit(views)
    print("the same loss:", torch.allclose(loss, theirs), "the same centre:", torch.allclose(center, kit.center))
    update_teacher(teacher, student, 0.9), kit.update_teacher(0.9)
same = [torch.allclose(a, b) for a, b in zip(teacher.parameters(), kit.teacher.parameters())]
print("the same teacher:", all(same))

# %% [markdown]
# ## A miniature, and two ways to ruin it
#
# Real training is too long for a lesson. Here is all of it in seconds: the "pictures" are points in a plane that come in
# five heaps (nobody tells the model), a "view" is the point, moved a little at random. The head has 16 outputs. What
# does each output come to stand for?


# %%
def heaps(n, generator):
    """n points around five places: (n, 2), and the heap of each (n,), which training never sees"""
    heap = torch.randint(0, 5, (n,), generator=generator)
    angle = heap * 2 * math.pi / 5
    middle = torch.stack([angle.cos(), angle.sin()], dim=1)
    return middle + 0.18 * torch.randn(n, 2, generator=generator), heap


def entropy(shares):
    """(..., K) -> (...): 0 where one output has all, log K where all have the same"""
    return torch.special.entr(shares).sum(dim=-1)


def learn(centring=True, teacher_temp=0.04, steps=200):
    """-> what the teacher says (n, 2) -> (n, 16), and what was written down at each step (steps, 3)"""
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(2, 64), nn.GELU(), models.DINOHead(64, 16, hidden_dim=64, bottleneck_dim=16))
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3, weight_decay=0.01)
    generator, center, written = torch.Generator().manual_seed(0), torch.zeros(16), []

    def told(view):
        return teacher(view) * 0.04 / teacher_temp  # dino_loss divides by 0.04, so now by teacher_temp

    def shares_of(points):
        return ((told(points) - center) / 0.04).softmax(dim=-1)  # (n, 16)

    for _ in range(steps):
        points, _ = heaps(128, generator)
        views = [points + 0.25 * torch.randn(128, 2, generator=generator) for _ in range(2)]
        loss, moved = dino_step(student, told, views, center)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        update_teacher(teacher, student, 0.95)
        center = moved if centring else center
        shares = shares_of(points)
        written.append((loss.item(), entropy(shares).mean().item(), entropy(shares.mean(dim=0)).item()))
    return shares_of, torch.tensor(written)


runs = {"both": learn(), "no centring": learn(centring=False), "no sharpening": learn(teacher_temp=0.1)}

# %%
side, colours = 96, torch.rand(16, 3, generator=torch.Generator().manual_seed(5))
y, x = torch.meshgrid(torch.linspace(1.6, -1.6, side), torch.linspace(-1.6, 1.6, side), indexing="ij")
plane = torch.stack([x, y], dim=-1).view(-1, 2)  # (side * side, 2)
points, heap = heaps(400, torch.Generator().manual_seed(9))
column, row = (
    ((points * torch.tensor([1, -1]) + 1.6) / 3.2 * (side - 1)).round().long().clamp(0, side - 1).unbind(dim=1)
)
shown = []
for shares_of, _ in runs.values():
    picture = (shares_of(plane) @ colours).T.reshape(3, side, side).contiguous()
    picture[:, row, column] = 0
    shown.append(picture)
alt = "The plane in the colours of the outputs that win, with the points in black, after three ways of training."
plots.plot_images(shown, titles=list(runs), columns=3, alt=alt)

# %% [markdown]
# A colour is an output, black dots are points. On the left each heap has an output of its own, and nobody said that there
# are five. In the middle a few outputs have taken everything. On the right every place has the same mud of all colours.
#
# Two numbers tell which it is: the **entropy** of the teacher's answer to *each* point, and of the mean answer to all
# points *together*. Low for each and high together is what we want: sure of each, and not always the same. (Which output
# wins does not show it: without sharpening one wins too, by a hair.)

# %%
for name, (shares_of, written) in runs.items():
    winner = shares_of(points).argmax(dim=1)
    right = sum(torch.bincount(heap[winner == k]).max().item() for k in winner.unique()) / len(heap)
    loss, each, together = written[-20:].mean(dim=0).tolist()
    print(f"{name:14} loss {loss:.2f}, entropy of each {each:.2f}, together {together:.2f};", end=" ")
    print(f"outputs in use {len(winner.unique())}, points told apart {right:.0%}")
print(f"log 16 = {math.log(16):.2f} (all 16 outputs alike), log 5 = {math.log(5):.2f} (five outputs alike)")

# %%
losses = {name: written[:, 0].view(-1, 8).mean(dim=1) for name, (_, written) in runs.items()}
plots.plot_curves(range(0, 200, 8), losses, xlabel="step", ylabel="loss")

# %% [markdown]
# Your fifth guess. Without centring the loss falls at once and stays lowest: it is easy to agree when there is little to
# say. Without sharpening it stands still near log 16. The run that learns has a loss that goes up and down on its way, since
# its teacher learns too. **The loss of DINO does not say whether DINO works.** Write down the two entropies.
#
# (Caron et al. 2021, section 5.3, see the same at full size: entropy falls to 0 without centring and rises to log K without
# sharpening.)

# %% [markdown]
# ### How long does a teacher remember?
#
# With momentum m the student of n steps ago still counts mⁿ of what it did. What is left of the *random* start?

# %% tags=["nbval-check-output"]
for momentum in (0.95, 0.99, 0.996):
    left = [f"{steps}: {momentum**steps:.0%}" for steps in (100, 200, 1000)]
    print(f"momentum {momentum}: of the start is left after so many steps", *left)

# %% [markdown]
# The paper's 0.996 is for runs of many thousands of steps. In a run of a few hundred much of the teacher would still be
# noise: that is why the miniature takes 0.95.

# %% [markdown]
# # III · What was learned?
#
# ## Where is the thing?
#
# Lesson 05 saw DINO's class token look at the thing. Here is a harder question: the thing is half as wide and lies
# anywhere, so that *looking at the middle* is no answer. The ground is a plain colour, or a piece of a photo. In training
# all grounds were plain.

# %%
photos = vit_edu.load_dataset("photos").images  # (4, 3, 224, 224)
generator = torch.Generator().manual_seed(2)
few = torch.arange(0, len(emoji), 12)
few = few[emoji.alpha[few].float().mean(dim=(1, 2, 3)) > 60]  # lines thinner than a patch have no say
alpha = emoji.alpha[few].float() / 255  # (n, 1, 32, 32)
things = emoji.images[few].float() - 255 * (1 - alpha)  # over black, so that a ground can be added


def any_place(largest):
    return torch.randint(0, largest + 1, (len(few), 2), generator=generator).tolist()


colour = torch.randint(0, 256, (len(few), 3, 1, 1), generator=generator).expand(-1, 3, 64, 64)
photo = torch.stack([photos[i % 4][:, y : y + 64, x : x + 64] for i, (y, x) in enumerate(any_place(160))])
scenes, thing = {"colour": colour.float().clone(), "photo": photo.float()}, torch.zeros(len(few), 1, 64, 64)
for i, (y, x) in enumerate(any_place(32)):
    place = (i, slice(None), slice(y, y + 32), slice(x, x + 32))
    thing[place] = alpha[i]
    for scene in scenes.values():
        scene[place] = scene[place] * (1 - alpha[i]) + things[i]
scenes = {name: scene.round().clamp(0, 255).to(torch.uint8) for name, scene in scenes.items()}
plots.plot_images([*scenes["colour"][6:11], *scenes["photo"][6:11]], columns=5)

# %% [markdown]
# **Try:** let the class token ask, and show the mean of the heads of the last layer; then the same for layer 0.

# %%
explorer = AttentionExplorer(dino, scenes["colour"][7])
explorer.query, explorer.shown = -1, "mean"
explorer

# %% [markdown]
# Now measure it, without choosing. Take a patch of the thing and a patch of the ground: how often does the thing's get more
# of the class token's attention? Chance is a half. A blob in the middle of the picture, which knows nothing, is the mark to
# pass.

# %%
class_attention_map = vit_edu.mine("class_attention_map")

# %%
labels = checkpoint("supervised")
torch.manual_seed(0)
words = {"img_size": 64, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 4, "num_classes": 0}
untrained = vit_edu.create_model("vit_tiny_patch16_224", **words)
on_thing = (F.avg_pool2d(thing, 8) > 0.4).flatten(1)  # (n, 64)


def shares(model, pictures):
    """uint8 (n, 3, 64, 64) -> where the class token looks in the last layer, (n, h, 64)"""
    images = pictures.float() / 127.5 - 1
    images = images if model.patch_embed.img_size == (64, 64) else F.avg_pool2d(images, 2)  # trained at 32 pixels
    return class_attention_map(explain.attention_maps(model, images)[-1].weights, (8, 8)).flatten(2)


def how_often(share):
    """(n, h, 64) -> (n, h): of all pairs of a patch of the thing and one of the ground, where the thing has more"""
    more = (share[:, :, :, None] > share[:, :, None, :]).float()  # (n, h, 64, 64)
    pairs = (on_thing[:, None, :, None] & ~on_thing[:, None, None, :]).float()  # (n, 1, 64, 64)
    return (more * pairs).sum(dim=(-2, -1)) / pairs.sum(dim=(-2, -1))


y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
blob = how_often(-((y - 3.45) ** 2 + (x - 3.55) ** 2).flatten().expand(len(few), 1, 64)).mean().item()
best = {}
print(f"{'':22} on colours   on photos")
for name, model in {"DINO": dino, "labels": labels, "MAE": encoder, "untrained": untrained}.items():
    both = {ground: shares(model, scene) for ground, scene in scenes.items()}
    mean = [how_often(share.mean(dim=1, keepdim=True)).mean().item() for share in both.values()]
    best[name] = how_often(both["colour"]).amax(dim=1).mean().item()
    print(f"{name:22} {mean[0]:10.0%} {mean[1]:11.0%}")
print(f"{'a blob in the middle':22} {blob:10.0%} {blob:11.0%}")

# %% [markdown]
# On plain grounds DINO, which never heard of things, points at them most surely, and is the only one to pass the mark. On
# photos its lead is gone, and nobody passes it. DINO learned to pass over what *changes* between crops, and in its crops
# that was the colour of the ground: it found what it was made to find. That is no magic of attention; the choice of crops
# is where the knowledge went in.
#
# Many pictures of such maps show "the best head". Choose the best of the heads for *each* picture, and look at the model
# that nobody trained:

# %%
for name, share in best.items():
    print(f"{name:10} best head of each picture, on colours: {share:.0%}")

# %% [markdown]
# Whoever may choose afterwards always wins. Caron et al. 2021 (figure 4) show best heads too, and print a line for random
# weights beside them. Do the same.

# %% [markdown]
# ## Who is like whom?
#
# A model that has learned well puts like things near each other. Take the features of every fourth emoji, and for some of
# them the three **nearest** others by cosine: of the plain pixels, of MAE, of DINO.

# %%
gallery = torch.arange(0, len(emoji), 4)
names_of = [emoji.names[n] for n in gallery.tolist()]
asked = [names_of.index(name) for name in ("dolphin", "red apple", "two o’clock", "cat face")]
small, wide = plain(emoji.take(gallery)), plain(large.take(gallery))
known = {"pixels": small.flatten(1), "MAE": features(encoder, small), "DINO": features(dino, wide)}
shown, titles = [], []
for n in asked:
    shown.append(emoji.images[gallery[n]])
    for vectors in known.values():
        near = F.cosine_similarity(vectors, vectors[n : n + 1]).argsort(descending=True)[1:4]  # the first is itself
        shown += list(emoji.images[gallery[near]])
    titles += ["asked", "pixels", "", "", "MAE", "", "", "DINO", "", ""]
plots.plot_images(shown, titles=titles, columns=10)

# %% [markdown]
# To all three a dolphin is like something blue, an apple like something red, a cat like something yellow. Only the clocks
# find their own kind. Colour and outline come first, and what a thing *is* only as far as these tell it.

# %% [markdown]
# ## k-NN: no head, no training
#
# How far do they tell it? Let the 20 nearest pictures whose label is known vote; `knn` is the kit's. These are the records
# of the bundled recipes: models of one size that saw the same emoji, the first with labels, the others without. Of three
# runs you see the middle one, and in brackets the worst and the best. The question is the group of an emoji in a new style,
# a new concept, or both; and clothing, which none of them has seen. The last line has learned nothing at all: it compares
# pixels.

# %%
columns = ["emoji/new_style", "emoji/new_concepts", "emoji/new_both", "fashion/test"]
print(f"{'k-NN, % right':14}", *(f"{column:>19}" for column in columns))
for name in ("supervised", "mae", "dino"):
    print(f"{name:14}", *(f"{records.spread(records.values(name, column + '/knn')):>19}" for column in columns))
right = []
for task in ("emoji", "fashion"):
    train = vit_edu.load_dataset(task)
    x = plain(train).flatten(1)  # (N, pixels)
    for split in (column.split("/")[1] for column in columns if task in column):
        test = vit_edu.load_dataset(task, split)
        votes = knn(x, train.labels, plain(test).flatten(1), k=20, classes=len(train.classes))
        right.append(accuracy(votes, test.labels))
print(f"{'pixels':14}", *(f"{100 * share:19.1f}" for share in right))

# %% [markdown]
# ## A surprise
#
# Read the last line first. On a new style, and even more on clothing, comparing pixels is better than anything frozen. The
# same emoji lies in the same place in all styles, and so does a shirt: pixels are a strong baseline here, and many a table
# leaves them out. Then compare labels with MAE. On emoji they are a point or two apart at most, though nobody told MAE a
# single group. On clothing MAE is far ahead: whoever learns the labels of emoji may forget all that they do not ask for.
#
# What then is pre-training good for? Frozen features are a place to *begin*. All weights fine-tuned, with all labels:

# %%
print(f"{'fine-tuned, %':14}", *(f"{column:>19}" for column in columns))
for name, record, how in (("from scratch", "supervised", "scratch"), ("from MAE", "mae", "fine-tuned")):
    print(f"{name:14}", *(f"{records.spread(records.values(record, f'{column}/{how}/1')):>19}" for column in columns))

# %% [markdown]
# The same model, the same steps, the same labels, another beginning. Pixels with their neighbours still hold the first and
# the last column: small pictures with one thing in the middle are where they are at home. (Lesson 08 has the rest of this
# table. Small models after less than an hour on one core show how a method works, not how far it goes.)

# %% [markdown]
# ## What the papers say
#
# | here | paper |
# | --- | --- |
# | `random_masking`, `insert_mask_tokens` | He et al. 2022 (*MAE*), section 3 and figure 1 |
# | no mask tokens in the encoder | table 1c; what is asked, normalised or not: table 1d |
# | how much to hide | figure 5 |
# | loss on removed patches only | section 3, a footnote: "purely result-driven" |
# | `dino_loss`, `dino_step` | Caron et al. 2021 (*DINO*), section 3.1, equation 3, algorithm 1 |
# | centre | equation 4 |
# | collapse | section 5.3 |
# | k-NN | Wu et al. 2018; weighted votes as in DINO |

# %% [markdown]
# ## What went wrong for other people
#
# - **The way back, not inverted.** No error: every patch is painted, in the wrong place. Below, from the trained model.
# - **Pixels in another order.** A patch read as (colour, row, column) from weights that say (row, column, colour).
# - **Mask tokens without positions.** All holes get the same question, and so the same answer.
# - **A teacher on the graph.** Memory grows step by step; or the teacher learns, and both agree at once.
# - **Hope in a loss.** DINO's falls when it collapses, MAE's depends on the mask ratio and on the normalisation: two losses
#   can be compared only if both are the same.

# %%
images = plain(emoji)[chosen[:2]]
torch.manual_seed(0)
ids_keep, ids_restore, mask = random_masking(torch.rand(2, 64), 0.75)
with torch.no_grad():
    latent = encode(images, ids_keep)
    said = {"right": decode(latent, ids_restore), "not inverted": decode(latent, ids_restore.argsort(dim=1))}
    said["other order"] = said["right"].unflatten(-1, (3, p, p)).permute(0, 1, 3, 4, 2).flatten(2)
    bare, mae.decoder_pos_embed.data = mae.decoder_pos_embed.data, torch.zeros_like(mae.decoder_pos_embed)
    said["no positions"] = decode(latent, ids_restore)
    mae.decoder_pos_embed.data = bare
for name, prediction in said.items():
    print(f"{name:13} loss {mae_loss(prediction, models.mae_target(images, p), mask).item():.2f}")
shown = [
    models.reconstruct(images, prediction, mask, p, norm_pix_loss=True)[1][i]
    for i in range(2)
    for prediction in said.values()
]
plots.plot_images([((x + 1) / 2).clamp(0, 1) for x in shown], titles=list(said) * 2, columns=4)

# %% [markdown]
# ## In five lines
#
# 1. MAE: hide three quarters, encode the rest only, put mask tokens and positions where the holes are, paint what is missing.
# 2. Its loss counts removed patches, each brought to mean 0 and variance 1; what is not asked is not learned.
# 3. DINO: a student says of every crop what its teacher, the mean of earlier students, says of another one.
# 4. Centring and sharpening push opposite ways; if one is missing all answers become alike, and the loss does not tell.
# 5. What crops change is what a model learns to ignore; test it with baselines that know nothing: pixels, a blob, random
#    weights.
#
# ## New words
#
# - **self-supervised learning**: learning in which the pictures themselves say what is right.
# - **mask ratio**: the share of patches that are removed.
# - **mask token**: one learned vector that stands in the decoder wherever a patch is missing.
# - **global and local crops**: large and small random parts of one picture.
# - **teacher, student**: two networks of one kind, of which the student learns to answer as the teacher does.
# - **EMA (exponential moving average)**: a mean in which what lies further back counts less and less.
# - **centring**: taking the mean answer off every answer, so that no output wins on all pictures.
# - **temperature**: what logits are divided by before a softmax; small makes it sharp.
# - **sharpening**: dividing logits by a small temperature, so that the largest takes nearly all.
# - **collapse**: the same answer to every picture, which satisfies the loss and says nothing.
#
# **To read:** He et al. 2022, [Masked Autoencoders Are Scalable Vision Learners](https://arxiv.org/abs/2111.06377) · Caron et
# al. 2021, [Emerging Properties in Self-Supervised Vision Transformers](https://arxiv.org/abs/2104.14294) · Oquab et al. 2024,
# [DINOv2](https://arxiv.org/abs/2304.07193), which uses both ideas at once.
#
# **Harder, without a check:** in the miniature let the views be the point *turned* by any angle about the middle. How many
# outputs will come into use, and what will they stand for? Predict first. Then let the student be its own teacher: in
# `learn`, `told` asks the student. Once as it is, once with gradients on both sides, without `detach` and `no_grad`. Does
# the centre save it? Look at the two entropies.
#
# **Next:** [10 · Images and words](10_images_and_words.ipynb): labels that people have written for other people.
