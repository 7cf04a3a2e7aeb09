# ---
# jupyter:
#   vit_edu:
#     title: Seeing attention
#     minutes: 55
#     builds_on: ["04"]
#     builds: four ways of looking into a trained model, and the tests that say which of them to believe
# ---

# %% [markdown]
# # 05 · Seeing attention
#
# **55 minutes. Builds on** [04 · ViT](04_vision_transformer.ipynb).
#
# Attention leaves a trace. In every layer every token writes down how it shared out its attention, and these numbers
# can be painted over the photo. The pictures are beautiful, and they are easily believed. At the end you can
# - paint where the class token of each head looks;
# - say how far a head looks, and whether it follows places or things;
# - follow attention through all layers with a rollout;
# - test what a picture of attention is worth, by changing the weights and by taking patches away.

# %% [markdown]
# ## Predict first
#
# Write down your guesses; the lesson answers all five.
#
# 1. A model has learned from pictures alone, without a single label. Where does its class token look: at the thing, at
#    the background, or everywhere alike?
# 2. A convolution begins with near pixels. Does a trained ViT begin with near patches as well?
# 3. A picture is cut into patches and shuffled. Does a head look at the same *places* as before, or at the same
#    *things*?
# 4. In one layer all attention weights are replaced by equal ones. In which layer does that do most harm: the first or
#    the last?
# 5. The class token gives one patch the most attention. How often is it the patch that the answer hangs on?

# %% [markdown]
# ## A trained model shows its weights
#
# The kit has a small model with it, trained by *DINO* (lesson 09) on emoji, without labels. While it learned, the
# background was another colour every time. So give it colours here as well; the style of these drawings is new to it.

# %%
import copy

import torch
import torch.nn.functional as F
import vit_edu
from torch import nn
from vit_edu import explain, layers, plots
from vit_edu.weights import checkpoint
from vit_edu.widgets import AttentionExplorer

emoji = vit_edu.load_dataset("emoji", "new_style", img_size=64)
torch.manual_seed(0)
colours = torch.randint(0, 256, (len(emoji), 3, 1, 1))
pictures = emoji.over(colours)  # uint8 (B, 3, 64, 64)
names = ["rooster", "balloon", "fish", "lobster", "sailboat", "ring"]
chosen = [emoji.names.index(name) for name in names]
plots.plot_images(pictures[chosen], names)

# %% [markdown]
# `return_intermediates`, or `explain.attention_maps` for short, hands out the weights of each layer. (The model then
# takes the explicit softmax; the fused kernel of lesson 02 never has them all at once.)

# %% tags=["nbval-check-output"]
dino = checkpoint("dino")


def to_model(pictures):
    """uint8 0..255 -> float -1..1, as the kit's models want it"""
    return pictures.float() / 127.5 - 1


maps = explain.attention_maps(dino, to_model(pictures[chosen]))
for one in maps:
    print(one.name, tuple(one.weights.shape), "patches", one.grid_size, "tokens before them:", one.prefix)
print("every row sums to 1:", torch.allclose(maps[0].weights.sum(dim=-1), torch.ones(())))

# %% [markdown]
# Six pictures, four heads, 65 tokens that ask and 65 that are asked: the class token and 8 × 8 patches. `weights[b, h,
# i, j]` is what token i gives to token j.
#
# **Try:** let the *class token* ask, and go through the heads of the last layer. Then click on a patch of the fish and on
# one of the green. Do the two look at the same things? And in layer 0?

# %%
AttentionExplorer(dino, pictures[chosen[2]])

# %% [markdown]
# ## The class token's row
#
# What will become the answer is gathered by the class token. So its row is the picture that most papers show: for each
# head one number a patch, laid out on the grid.
#
# ### Exercise · class_attention_map
#
# Take the row of the class token (token 0), leave its own entry out, make the rest sum to 1, and lay it on the grid.


# %%
def class_attention_map(weights, grid_size):
    """weights (B, h, N, N) with N = 1 + rows*columns, grid_size (rows, columns)
    -> (B, h, rows, columns)"""
    ### BEGIN SOLUTION
    patches = weights[:, :, 0, 1:]  # (B, h, rows*columns): token 0 asks, the patches are asked
    patches = patches / patches.sum(dim=-1, keepdim=True)
    return patches.unflatten(-1, grid_size)  # (B, h, rows, columns)
    ### END SOLUTION


# %%
class_attention_map = vit_edu.check("class_attention_map", class_attention_map)

# %% [markdown]
# Paint it: the brightest patch keeps its light, the others get as much less as their share is smaller.


# %%
def lit(picture, share):
    """picture uint8 (3, H, W), share (rows, columns) -> float (3, H, W), lit where the share is large"""
    light = F.interpolate((share / share.max())[None, None], size=picture.shape[-2:])[0]  # (1, H, W)
    return picture / 255 * (0.15 + 0.85 * light)


heads = class_attention_map(maps[-1].weights, (8, 8))  # (6, 4, 8, 8)
shown = []
for picture, four in zip(pictures[chosen[:4]], heads):
    shown += [picture / 255, *(lit(picture, head) for head in four)]
plots.plot_images(shown, titles=["picture", "head 0", "head 1", "head 2", "head 3"] * 4, columns=5)

# %% [markdown]
# Heads have interests of their own: two take the body of the rooster, one its comb, one its feet. Caron et al. 2021
# (figure 1) made such pictures famous. The lobster is here for honesty: most heads look *around* it.
#
# Your numbers are those that the explorer paints (it keeps them in half precision):

# %% tags=["nbval-check-output"]
explorer = AttentionExplorer(dino, pictures[chosen[0]])
explorer.query = -1  # the class token asks
for head in range(4):
    explorer.head = head
    row = explorer.row()[1:]  # the patches
    same = torch.allclose(heads[0, head].flatten(), row / row.sum(), atol=1e-3)
    print(f"head {head}: equal to what the explorer paints: {same}")

# %% [markdown]
# ### Is that luck?
#
# Six chosen pictures prove nothing. Emoji have an alpha channel, which says where the thing is. So measure it: which part
# of its attention does the class token give to the thing? Something that looks at all patches alike would give as much
# as the thing's area.

# %%
some = torch.arange(0, len(emoji), 10)  # every tenth
thing = F.avg_pool2d(emoji.alpha[some].float() / 255, 8)  # (B, 1, 8, 8): how much of each patch is thing


def on_the_thing(model, pictures):
    """The part of the class token's attention in the last layer that falls on the thing: (h,)"""
    last = explain.attention_maps(model, to_model(pictures))[-1]
    shares = class_attention_map(last.weights, (8, 8))  # (B, h, 8, 8)
    return (shares * thing).sum(dim=(-2, -1)).mean(dim=0)


torch.manual_seed(0)
untrained = vit_edu.create_model(
    "vit_tiny_patch16_224", img_size=64, patch_size=8, embed_dim=96, depth=4, num_heads=4, num_classes=0
)
print(f"{len(some)} pictures; the thing's part of the area: {thing.mean():.2f}")
for name, model, shown in (
    ("untrained", untrained, pictures[some]),
    ("trained", dino, pictures[some]),
    ("trained, white background", dino, emoji.images[some]),
):
    parts = on_the_thing(model, shown).tolist()
    print(f"{name:26} last layer, head by head:", *(f"{part:.2f}" for part in parts))

# %% [markdown]
# The untrained model is as good as chance, to the last digit. The trained one looks at the thing, without ever having
# been told what a thing is: your first guess.
#
# But look at the last line. On plain white, which it hardly met while learning, most heads give the thing less than
# before, and one of them *less* than its area: it looks at the background. A habit that holds on the pictures of
# training need not hold on yours.

# %% [markdown]
# ## How far does a head look?
#
# A convolution of 3 × 3 sees its neighbours and nothing else. A head may look anywhere. Does it? Take the distance from
# the patch that asks to each patch that is asked, in pixels, and average it with the attention weights. That is the
# *attention distance* of Dosovitskiy et al. 2021 (figure 7 on the right, appendix D.7).
#
# ### Exercise · attention_distance
#
# Leave the class token out: it has no place. (What is left of each row must sum to 1 again.) Average over the patches
# that ask; keep pictures and heads apart.


# %%
def attention_distance(weights, grid_size, patch_size):
    """weights (B, h, N, N) with N = 1 + rows*columns, grid_size (rows, columns), patch_size in pixels
    -> (B, h) in pixels"""
    ### BEGIN SOLUTION
    rows, columns = grid_size
    place = torch.arange(rows * columns)
    y, x = place // columns * patch_size, place % columns * patch_size  # (rows*columns,) each
    distance = torch.hypot((y[:, None] - y).to(weights), (x[:, None] - x).to(weights))
    patches = weights[:, :, 1:, 1:]
    patches = patches / patches.sum(dim=-1, keepdim=True)
    return (patches * distance).sum(dim=-1).mean(dim=-1)
    ### END SOLUTION


# %%
attention_distance = vit_edu.check("attention_distance", attention_distance)

# %% tags=["nbval-check-output"]
weights = maps[1].weights.double()
mine = attention_distance(weights, (8, 8), 8)
theirs = explain.attention_distance(weights, (8, 8), 8, prefix=1)
print(tuple(mine.shape), "equal to vit_edu.explain:", torch.allclose(mine, theirs, atol=1e-9))

# %% [markdown]
# Now use it on three trained models. *Labels* learned the eight groups of the emoji, *DINO* learned without labels, *MAE*
# (lesson 09 too) learned to paint in patches that were hidden from it. Two heads that nobody trained go with them: one
# looks at all patches alike, the other at the 3 × 3 patches around, as a convolution does.

# %%
labels, mae = checkpoint("supervised"), checkpoint("mae").encoder
small = F.avg_pool2d(pictures[some].float(), 2).round().to(torch.uint8)  # the same pictures at 32 px
y, x = torch.arange(64) // 8, torch.arange(64) % 8  # of each patch
near = (((y[:, None] - y).abs() <= 1) & ((x[:, None] - x).abs() <= 1)).float()  # (64, 64)
alike, around = torch.full((1, 1, 65, 65), 1 / 65), torch.eye(65)[None, None]
around[:, :, 1:, 1:] = near / near.sum(dim=-1, keepdim=True)
equal, window = (attention_distance(weights, (8, 8), 1).item() for weights in (alike, around))


def distances(model, pictures):
    """(layers, h): the mean over the pictures, in patches"""
    found = explain.attention_maps(model, to_model(pictures))
    return torch.stack([attention_distance(one.weights, (8, 8), 1).mean(dim=0) for one in found])


far = {"labels": distances(labels, small), "DINO": distances(dino, pictures[some])}
far |= {"all alike": torch.full((4, 1), equal), "3 × 3": torch.full((4, 1), window)}
plots.plot_curves(range(4), far, xlabel="layer (bars: its heads)", ylabel="distance in patches")

# %% [markdown]
# Nothing near, from the first layer on. In the models of Dosovitskiy et al. 2021 low layers have heads that look near and
# heads that look far. Raghu et al. 2021 (section 4) found when that fails: with too few pictures to learn from, low layers
# do not learn to look near. Our models have a few thousand emoji.
#
# Is it only that? Here is the third model. It has seen the same emoji.

# %%
far = {"MAE": distances(mae, small)}
far |= {"all alike": torch.full((4, 1), equal), "3 × 3": torch.full((4, 1), window)}
plots.plot_curves(range(4), far, xlabel="layer (bars: its heads)", ylabel="distance in patches")

# %% [markdown]
# Same kind of model, same pictures, another question in training. Who has to paint a missing patch must ask its
# neighbours; who has to say what the whole shows needs no neighbours. (Park et al. 2023 found the same pair of habits in
# models of full size.) So your second guess: a ViT *may* look near, and what it was asked decides. And even this one does
# not *begin* with near patches: its last two layers look near, its first two hardly.

# %% [markdown]
# ## Places or things?
#
# A head that looks near must know where it is. To see what a head follows, shuffle the picture: cut it up, deal the
# patches out anew. If the head goes on looking at the same *places*, it follows positions. If its attention moves with
# the patches, it follows *things*.

# %%
patchify, unpatchify = vit_edu.mine("patchify"), vit_edu.mine("unpatchify")
order = torch.randperm(64)
puzzle = unpatchify(patchify(pictures.float()[some], 8)[:, order], 8, (8, 8))
small_puzzle = unpatchify(patchify(small.float(), 4)[:, order], 4, (8, 8))
plots.plot_images([pictures[some[60]], puzzle[60].to(torch.uint8)], titles=["picture", "shuffled"])


# %%
def likeness(a, b):
    """Correlation of the rows of a and b, (B, h, N, N) -> (h,)"""
    a, b = a - a.mean(dim=-1, keepdim=True), b - b.mean(dim=-1, keepdim=True)
    return F.cosine_similarity(a, b, dim=-1).mean(dim=(0, 2))


def follows(model, pictures, puzzles):
    """How alike the weights are before and after, by places and by things: (layers, h) each"""
    places, things = [], []
    both = (explain.attention_maps(model, to_model(images)) for images in (pictures, puzzles))
    for before, after in zip(*both):
        before, after = before.weights[:, :, 1:, 1:], after.weights[:, :, 1:, 1:]
        places.append(likeness(before, after))
        moved = before[:, :, order][:, :, :, order]  # patch n of the puzzle was order[n]
        things.append(likeness(moved, after))
    return torch.stack(places), torch.stack(things)


dino_places, dino_things = follows(dino, pictures[some], puzzle)
curves = {"same places": dino_places, "same things": dino_things}
plots.plot_curves(range(4), curves, "DINO: layer (bars: its heads)", "correlation after the shuffle")

# %%
mae_places, mae_things = follows(mae, small, small_puzzle)
curves = {"same places": mae_places, "same things": mae_things}
plots.plot_curves(range(4), curves, "MAE: layer (bars: its heads)", "correlation after the shuffle")

# %% [markdown]
# Your third guess: both, and again it depends on what was learned. Most heads of DINO follow things, and hardly mind that the
# picture is a puzzle. The deeper heads of MAE follow places; those of its first two layers follow both.
#
# Look at one head of each kind: the one that holds to places most, and the one that holds to things most. The framed
# patch asks.

# %%
layer, head = divmod(mae_places.argmax().item(), mae.blocks[0].attn.num_heads)
print(f"MAE, layer {layer}, head {head}")
weights = explain.attention_maps(mae, to_model(small[60:61]))[layer].weights[0, head, 1:, 1:]
plots.plot_attention(small[60], weights, grid_size=(8, 8), queries=[9, 27, 44, 62])

# %%
layer, head = divmod(dino_things.argmax().item(), 4)
print(f"DINO, layer {layer}, head {head}")
weights = explain.attention_maps(dino, to_model(pictures[some[60:61]]))[layer].weights[0, head, 1:, 1:]
plots.plot_attention(pictures[some[60]], weights, grid_size=(8, 8), queries=[9, 27, 44, 62])

# %% [markdown]
# The first is nearly a convolution. The second goes to the yellow shell, whoever asks: a patch of the shell or of the
# ground.
#
# **Entropy** is a third number people give for a head: how *widely* does it look, near or far? In bits, so that 2 to its
# power is a number of patches.

# %% tags=["nbval-check-output"]
share = maps[-1].weights.double()  # (6, 4, 65, 65)
entropy = -(share * share.log2()).sum(dim=-1).mean(dim=-1)  # (6, 4)
print("equal to vit_edu.explain:", torch.allclose(entropy, explain.attention_entropy(share), atol=1e-9))

# %%
for head, bits in enumerate(entropy.mean(dim=0).tolist()):
    print(f"DINO, last layer, head {head}: {bits:.1f} bits, as wide as {2**bits:.0f} of 65 tokens")

# %% [markdown]
# ## Through all layers: rollout
#
# In the last layer the class token looks at the *tokens* of some patches. But by then such a token is no longer its patch
# alone: the layers before have mixed others into it. To know which *patches* arrive, all layers must be followed.
#
# Abnar & Zuidema 2020 (section 3) do it with matrix products. One layer is a table A: row i says what output i is made
# of. Half of it is attention (the mean of the heads W), half is the token itself, since every block *adds* to its
# stream. Then the tables are chained, the last one at the left, since it asks first:
#
# $$A_l = \tfrac12 W_l + \tfrac12 I, \qquad \text{rollout} = A_L \cdots A_2 A_1$$
#
# ### Exercise · rollout


# %%
def rollout(weights):
    """weights: a list of (B, h, N, N), the first layer first -> (B, N, N), every row sums to 1"""
    ### BEGIN SOLUTION
    identity = torch.eye(weights[0].shape[-1]).to(weights[0])
    flow = identity
    for layer in weights:
        mixed = 0.5 * layer.mean(dim=1) + 0.5 * identity  # (B, N, N)
        flow = mixed @ flow  # a later layer comes from the left
    return flow
    ### END SOLUTION


# %%
rollout = vit_edu.check("rollout", rollout)

# %% tags=["nbval-check-output"]
weights = [one.weights.double() for one in maps]
flow = rollout(weights)
print(tuple(flow.shape), "sum of the first row:", round(flow[0, 0].sum().item(), 6))
print("equal to vit_edu.explain:", torch.allclose(flow, explain.rollout(weights), atol=1e-12))

# %% [markdown]
# What the class token is made of, after one layer, two, three and four:

# %%
weights, shown = [one.weights for one in maps], []
upto = [rollout(weights[:depth])[:, 0, 1:].view(-1, 8, 8) for depth in (1, 2, 3, 4)]
for n, i in enumerate(chosen[:3]):
    shown += [pictures[i] / 255, *(lit(pictures[i], share[n]) for share in upto)]
plots.plot_images(shown, titles=["picture", "layer 0", "0 to 1", "0 to 2", "0 to 3"] * 3, columns=5)

# %% [markdown]
# It changes less and less: means of means. Keep two things in mind that the formula leaves out. The MLPs are not in it. And
# "half" is a guess. How long is what attention adds, beside the stream that it is added to?

# %%
with torch.no_grad():
    _, seen = dino(to_model(pictures[chosen]), return_intermediates=True)
    stream = dino.embed(to_model(pictures[chosen]))  # (6, 65, 96), what enters block 0
    for number, block in enumerate(dino.blocks):
        added = block.attn(block.norm1(stream))
        part = (added.norm(dim=-1) / stream.norm(dim=-1)).mean()
        print(f"layer {number}: attention adds {part:.2f} of the stream's length")
        stream = seen[f"blocks.{number}"]

# %% [markdown]
# Far from half of the sum, in every layer: here rollout gives attention too large a share.
#
# ## What is handed over
#
# A weight says how much is *asked for*. What arrives is weight times value, sent through `proj`. A tiny example: token 0
# has nearly all of the attention and nothing to say.

# %% tags=["nbval-check-output"]
weights = torch.tensor([[0.9, 0.1]])
values = torch.tensor([[0.01, 0.0], [0.0, 3.0]])
print("handed over by token 0:", [round(x, 3) for x in (weights[0, 0] * values[0]).tolist()])
print("handed over by token 1:", [round(x, 3) for x in (weights[0, 1] * values[1]).tolist()])

# %% [markdown]
# Kobayashi et al. 2020 therefore measure the *length* of what is handed over. Through head h, token j gives to
# token i
#
# $$\| \alpha^h_{ij}\, v^h_j\, W^h_O \|$$
#
# where $W^h_O$ is made of the columns of `proj.weight` that belong to head h.
#
# ### Exercise · contributions


# %%
def contributions(weights, v, proj_weight):
    """weights (B, h, N, N), v (B, h, N, d), proj_weight (C, h*d)
    -> lengths (B, h, N, N) of what token j hands to token i"""
    ### BEGIN SOLUTION
    h, d = v.shape[1], v.shape[-1]
    parts = proj_weight.unflatten(1, (h, d))  # (C, h, d): the columns of each head
    handed = torch.einsum("bhnd,chd->bhnc", v, parts)  # (B, h, N, C): what each token would hand over
    return weights * handed.norm(dim=-1)[:, :, None, :]  # lengths belong to the tokens that are asked
    ### END SOLUTION


# %%
contributions = vit_edu.check("contributions", contributions)

# %% [markdown]
# Is that really all of it? The contributions as vectors, summed over heads and tokens, must be the output of the layer
# (but for the bias of `proj`). With the values of the real model:

# %%
split_heads = vit_edu.mine("split_heads")


@torch.no_grad()
def values_of(model, images):
    """The values of each layer, (B, h, N, d), and its weights (B, h, N, N)"""
    _, seen = model(images, return_intermediates=True)
    stream, found = model.embed(images), []
    for number, block in enumerate(model.blocks):
        _, _, v = split_heads(block.attn.qkv(block.norm1(stream)), block.attn.num_heads)
        found.append((v, seen[f"blocks.{number}.attn"]))
        stream = seen[f"blocks.{number}"]
    return found


# %% tags=["nbval-check-output"]
images = to_model(pictures[chosen[:2]]).double()
double = copy.deepcopy(dino).double()
found, attn = values_of(double, images), double.blocks[0].attn
with torch.no_grad():
    v, weights = found[0]
    vectors = torch.einsum("bhqk,bhkd,chd->bhqkc", weights, v, attn.proj.weight.unflatten(1, (4, 24)))
    output = attn(double.blocks[0].norm1(double.embed(images))) - attn.proj.bias
    lengths = contributions(weights, v, attn.proj.weight.detach())
print("vectors", tuple(vectors.shape), "-> lengths", tuple(lengths.shape))
print("your lengths are theirs:", torch.allclose(lengths, vectors.norm(dim=-1), atol=1e-12))
total = vectors.sum(dim=(1, 3))  # over heads and tokens: (2, 65, 96)
print("together they are the layer's output:", torch.allclose(total, output, atol=1e-12))

# %% [markdown]
# Now compare, over all pictures: in how many is the token with the class token's *largest weight* also the one that hands
# over *most*?

# %%
found = values_of(dino, to_model(pictures[some]))
projs = [block.attn.proj.weight.detach() for block in dino.blocks]
for number, ((v, weights), proj) in enumerate(zip(found, projs)):
    given = contributions(weights, v, proj)
    same = weights[:, :, 0].argmax(dim=-1) == given[:, :, 0].argmax(dim=-1)  # (B, h)
    parts = same.float().mean(dim=0).tolist()
    print(f"layer {number}, head by head:", *(f"{part:4.0%}" for part in parts))

# %% [markdown]
# In about half of the pictures or more, for nearly all heads. Where does it differ? Look at one head of layer 0:

# %%
(v, weights), proj = found[0], projs[0]
given = contributions(weights, v, proj)
itself = (weights[:, 2, 0].argmax(dim=-1) == 0).float().mean()
share = (given[:, 2, 0, 0] / given[:, 2, 0].sum(dim=-1)).mean()
print(f"layer 0, head 2: the class token looks most at itself in {itself:.0%} of the pictures.")
print(f"On average it gives itself {weights[:, 2, 0, 0].mean():.0%} of the weight;")
print(f"of all that is handed over to it, {share:.0%} comes from itself.")

# %% [markdown]
# Half of what its weight promises: its own value is short. This is how a head can *rest*: softmax must give its one
# attention to somebody, and to give it to a short value is a way to say little. Which brings up a famous finding.

# %% [markdown]
# ## Artefacts, and registers
#
# In large models a few patches of plain background get very long tokens, which attract attention from everywhere and spoil
# the maps. Darcet et al. 2024 find them in the larger ones of their models, in the middle layers. They are not noise: the
# model uses places where there is nothing to see as scratch paper. Does ours? Compare the longest patch token with the
# typical one, picture by picture.

# %%
three = {"DINO": (dino, pictures[some]), "labels": (labels, small), "MAE": (mae, small)}
print("longest / typical token, layer by layer: middle of all pictures (worst picture)")
for name, (model, shown) in three.items():
    with torch.no_grad():
        _, seen = model(to_model(shown), return_intermediates=True)
    told = []
    for n in range(len(model.blocks)):
        length = seen[f"blocks.{n}"][:, 1:].norm(dim=-1)  # (B, 64)
        ratio = length.amax(dim=1) / length.median(dim=1).values  # (B,)
        told.append(f"{ratio.median():.1f} ({ratio.max():.1f})")
    print(f"{name:7}", *told)

# %% [markdown]
# In most pictures nothing stands out. Where something does, in DINO and labels, it was there after the first layer, and
# with depth it shrinks or stays: these small models have no artefacts of that kind, and no use for a cure.
#
# The cure is simple enough to show all the same. A **register** is one more learned token behind the class token. It
# belongs to no patch and nobody reads it at the end. What does it do? Give a head of ours one, by hand: a key that every
# query likes, and a value of zero.

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
q, k, v = (torch.randn(5, 8).double() for _ in range(3))  # five tokens, one head of width 8
q[:, 0] = 4.0  # something that all queries have in common
register_key, register_value = torch.zeros(1, 8).double(), torch.zeros(1, 8).double()
register_key[0, 0] = 3.0
before, w = layers.scaled_dot_product_attention(q, k, v)
k, v = torch.cat([register_key, k]), torch.cat([register_value, v])
after, w_with = layers.scaled_dot_product_attention(q, k, v)
rest = 1 - w_with[:, :1]  # what the register leaves
print("the others are still in the same proportions:", torch.allclose(w_with[:, 1:] / rest, w))
print("the output is only shorter:", torch.allclose(after, rest * before))
print("some token now gives the register more than half:", bool((w_with[:, 0] > 0.5).any()))

# %% [markdown]
# A place to put attention when there is nothing to say. A learned value makes it a place to write notes as well. In the
# kit it is one word, `reg_tokens`. Mind the indices then: patches begin behind *all* of them.

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
words = {"img_size": 64, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 4, "num_classes": 8}
with_registers = vit_edu.create_model("vit_tiny_patch16_224", reg_tokens=4, **words).eval()
one = explain.attention_maps(with_registers, to_model(pictures[chosen[:1]]))[0]
patches = one.weights.shape[-1] - one.prefix
print("tokens:", one.weights.shape[-1], "= 1 class token + 4 registers +", patches, "patches")
print("taken for patches by weights[..., 1:]:", one.weights[:, :, 0, 1:].shape[-1])

# %% [markdown]
# ## A surprise: the layer that everybody paints
#
# Now for the question behind all these pictures: do they say *why* a model answers as it does? Jain & Wallace 2019 asked it of text
# models: change the weights, and see whether the answer changes. Take the model that learned from labels, and in one
# layer after another give every token equal weights, or shuffle each row: attention to the wrong tokens.


# %%
class Meddled(nn.Module):
    """A trained attention layer whose weights are changed before they are used"""

    def __init__(self, attn, change):
        super().__init__()
        self.attn, self.change = attn, change

    def forward(self, x):
        q, k, v = split_heads(self.attn.qkv(x), self.attn.num_heads)
        _, weights = layers.scaled_dot_product_attention(q, k, v)
        return self.attn.proj(layers.merge_heads(self.change(weights) @ v))


def meddled(model, which, change):
    """A copy of the model, changed in these layers"""
    model = copy.deepcopy(model)
    for number in which:
        model.blocks[number].attn = Meddled(model.blocks[number].attn, change)
    return model


# %% [markdown]
# First the rows of the patches in the *last* layer, 64 of 65. Predict: how much does the answer change?


# %% tags=["nbval-check-output"]
def patches_look_alike(weights):
    weights = weights.clone()
    weights[:, :, 1:] = 1 / weights.shape[-1]  # all but the class token's row
    return weights


images = to_model(small[:50])
with torch.no_grad():
    plain, changed = labels(images), meddled(labels, [3], patches_look_alike)(images)
print("the same logits:", torch.allclose(plain, changed, atol=1e-5))

# %% [markdown]
# Not at all: behind the last layer only the class token is read. Maps of patches there, however beautiful, are maps of
# nothing that the answer depends on. Now all rows:

# %%
labels_of = emoji.labels[some]
images, wrong = to_model(small), torch.randperm(65)
changes = {"equal weights": lambda w: torch.full_like(w, 1 / 65), "shuffled": lambda w: w[..., wrong]}
with torch.no_grad():
    plain = labels(images).argmax(dim=1)
    print(f"{'as trained':14}              right {(plain == labels_of).float().mean():.0%}")
    for name, change in changes.items():
        for which in ([0], [1], [2], [3], [0, 1, 2, 3]):
            answer = meddled(labels, which, change)(images).argmax(dim=1)
            right, same = (answer == labels_of).float().mean(), (answer == plain).float().mean()
            where = f"layer {which[0]}" if len(which) == 1 else "all layers"
            print(f"{name:14} {where:10}   right {right:.0%}, same answer as before {same:.0%}")

# %% [markdown]
# Your fourth guess. Without any attention worth the name the model falls to guessing, so attention is needed. But the last
# layer, the one whose class token everybody paints, can look at the *wrong* patches and lose a few points; four answers in
# five stay. By then each token knows of the whole picture, and the stream of the class token has most of the answer. The
# first layers are the ones that hurt, and hardly anybody paints them.

# %% [markdown]
# ### Take it away and see
#
# The most direct question is: what if the model had not seen this patch? Such a test is called **occlusion**. A
# transformer makes it easy. Tokens are a set, so just leave one out, and see how far the logit of its answer moves.
# (With a convolution one would have to paint something over the patch, and that is a picture too.)


# %%
def run_tokens(model, tokens):
    """Tokens (B, N, C) behind the embedding -> logits (B, classes)"""
    for block in model.blocks:
        tokens = block(tokens)
    return model.head(model.norm(tokens)[:, 0])


with torch.no_grad():
    sure = labels(images).softmax(dim=1).amax(dim=1)
    good = (plain == labels_of) & (sure > 0.5)  # right, and not by a whisker
    tried = images[good.nonzero()[:30, 0]]
    tokens = labels.embed(tried)  # (30, 65, 96)
    answer = labels(tried).argmax(dim=1, keepdim=True)  # (30, 1)
    whole = labels(tried).gather(1, answer)  # (30, 1)
    fall = []
    for patch in range(64):
        others = [j for j in range(65) if j != patch + 1]
        fall.append(whole - run_tokens(labels, tokens[:, others]).gather(1, answer))
fall = torch.cat(fall, dim=1)  # (30, 64): how far the logit of the answer falls without this patch
print(f"{len(tried)} pictures; taking one patch away moves the logit by {fall.abs().mean():.2f},")
print(f"taking away the one that matters most by {fall.abs().amax(dim=1).mean():.2f}")
print(f"patches without which the logit is higher: {(fall < 0).float().mean():.0%}")

# %% [markdown]
# About half of the patches speak *against* the answer. Attention has no sign: it cannot tell for from against. So be kind to
# it, and ask only how *much* a patch matters, either way. Compare the order of the patches by each map with their order by
# what really happens (rank correlation: 1 is the same order, 0 is chance; ± its standard error over the pictures).


# %%
def rank_correlation(a, b):
    """(B, N), (B, N) -> (B,)"""
    ranks = [x.argsort(dim=-1).argsort(dim=-1).float() for x in (a, b)]
    return F.cosine_similarity(*(rank - rank.mean(dim=-1, keepdim=True) for rank in ranks), dim=-1)


found = values_of(labels, tried)
projs = [block.attn.proj.weight.detach() for block in labels.blocks]
handed = [contributions(weights, v, proj) for (v, weights), proj in zip(found, projs)]
handed_shares = [lengths / lengths.sum(dim=-1, keepdim=True) for lengths in handed]
asks = tried.clone().requires_grad_()
labels(asks).gather(1, answer).sum().backward()
last = class_attention_map(found[-1][1], (8, 8))  # (30, 3, 8, 8)
candidates = {
    "last layer, mean of heads": last.mean(dim=1).flatten(1),
    "last layer, handed over": handed[-1][:, :, 0, 1:].sum(dim=1),
    "rollout": rollout([weights for _, weights in found])[:, 0, 1:],
    "rollout of what is handed over": rollout(handed_shares)[:, 0, 1:],
    "gradient at the pixels": F.avg_pool2d(asks.grad.abs().sum(dim=1), 4).flatten(1),
    "a blob in the middle": (-((y - 3.4) ** 2) - (x - 3.6) ** 2).expand(len(tried), -1),  # off it a bit: fewer ties
    "chance": torch.rand(len(tried), 64),
}
print(f"{'order of the patches by':34} rank correlation   its first one matters most")
for name, share in candidates.items():
    first = share.argmax(dim=1) == fall.abs().argmax(dim=1)
    rho = rank_correlation(share, fall.abs())
    error = rho.std() / len(rho) ** 0.5
    print(f"{name:34} {rho.mean():8.2f} ± {error:.2f}   {first.float().mean():10.0%}")

# %% [markdown]
# Read it from below. A blob in the middle knows neither the model nor the picture, and its order of the patches is at least
# as good as that of the last layer's attention. Your rollout does much better: it does not forget the early layers. To
# follow what is handed over helps a little. The plain gradient beats them all. And your fifth guess: look at the last
# column.
#
# Attention is where information *may* come from. It is not why the answer is what it is.

# %%
rows = []
for n in (0, 7, 14, 21):
    maps_of = [last[n].mean(dim=0), candidates["rollout"][n].view(8, 8), fall[n].abs().view(8, 8)]
    picture = ((tried[n] + 1) * 127.5).round().to(torch.uint8)
    rows += [picture / 255, *(lit(picture, share) for share in maps_of)]
plots.plot_images(rows, titles=["picture", "last layer", "rollout", "what matters"] * 4, columns=4)

# %% [markdown]
# ## What the papers say
#
# | here | paper |
# | --- | --- |
# | `class_attention_map` | Caron et al. 2021 (*DINO*), figure 1: heads of the last layer |
# | `attention_distance` | Dosovitskiy et al. 2021 (*ViT*), section 4.5, figure 7 and appendix D.7; by amount of data: Raghu et al. 2021, section 4; by what is asked in training: Park et al. 2023, *What Do Self-Supervised Vision Transformers Learn?* |
# | `rollout` | Abnar & Zuidema 2020, section 3; used in ViT, figure 6 and appendix D.8 |
# | `contributions` | Kobayashi et al. 2020, *Attention is Not Only a Weight* |
# | artefacts, registers | Darcet et al. 2024; without training: Jiang et al. 2025 |
# | change the weights | Jain & Wallace 2019; the reply: Wiegreffe & Pinter 2019, *Attention is not not Explanation* |
#
# The reply is worth its double negation: that *other* weights give the same answer does not make these weights a lie. It
# depends on what you want to be explained.

# %% [markdown]
# ## What went wrong for other people
#
# - **A hook without weights.** Many people hang a hook on the attention module and wait for weights. With the fused kernel
#   there are none; ask for the explicit path.
# - **Shifted by the registers.** `[1:]` on a model with registers paints tokens that are no patches, and every patch in the
#   wrong place.
# - **White paper.** The model had hardly seen it; its maps were about that, and not about the thing.
# - **Every map was brightened until it glowed.** Stretching from the smallest weight to the largest makes a bright spot of
#   anything. Say how large the largest is, and compare with a model of random weights (Adebayo et al. 2018).

# %% tags=["nbval-check-output"]
caught = []
hook = dino.blocks[0].attn.register_forward_hook(lambda module, inputs, output: caught.append(output))
with torch.no_grad():
    dino(to_model(pictures[:1]))
    dino(to_model(pictures[:1]), return_intermediates=True)
hook.remove()
print("as usual, the hook gets one tensor:", tuple(caught[0].shape))
print("asked for weights, it gets two:", [tuple(x.shape) for x in caught[1]])

# %% [markdown]
# And a map of the *untrained* model, stretched, above one of the trained model. Which would you have believed?

# %%
last = explain.attention_maps(untrained, to_model(pictures[chosen[:3]]))[-1]
flat = class_attention_map(last.weights, (8, 8))[:, 0]  # (3, 8, 8)
shown, titles = [], []
for i, share in zip(chosen, flat):
    shown.append(lit(pictures[i], (share - share.min()) / (share.max() - share.min())))
    titles.append(f"untrained: {share.max() / share.mean():.1f} × the mean")
for i, share in zip(chosen, heads[:3, 2]):
    shown.append(lit(pictures[i], share))
    titles.append(f"trained: {share.max() / share.mean():.1f} × the mean")
plots.plot_images(shown, titles=titles, columns=3)

# %% [markdown]
# ## In five lines
#
# 1. Row i of a layer's weights says where token i looks; the class token's row, without its own entry, is the usual map.
# 2. Heads differ in how far they look and whether they follow places or things; what they do depends on what was learned.
# 3. Rollout chains the layers: half attention, half stream, the last layer at the left.
# 4. What arrives is weight times value; a large weight on a short value is a way of resting, and registers are made for it.
# 5. A map of attention shows where a model may look, not why it answers; to know that, change something and look again.
#
# ## New words
#
# - **attention map**: a row of attention weights laid out on the picture.
# - **attention distance**: how far from the asking patch a head looks, averaged by its weights, in pixels.
# - **entropy of a head**: how widely it looks; zero bits for one token, the logarithm of their number for all alike.
# - **rollout**: the product of all layers' tables, which says what each output is made of.
# - **contribution**: the length of what one token hands to another through a head, weight times value.
# - **artefact**: a token of plain background that a large model uses as scratch paper, and that spoils its maps.
# - **register**: a learned token that belongs to no patch, for attention that has nowhere to go.
# - **occlusion**: leaving out or covering a part of the input to see how the answer changes.
#
# **To read:** Abnar & Zuidema 2020, *Quantifying Attention Flow in Transformers* · Raghu et al. 2021, *Do Vision
# Transformers See Like Convolutional Neural Networks?* · Darcet et al. 2024, *Vision Transformers Need Registers*.
#
# **Harder, without a check:** take patches away one after another, the one with the largest share first, and draw the logit
# of the answer over the number of patches that are gone; do it for attention, rollout, gradient and a random order. The
# curve that falls first knows most. Then take the *least* important ones first. Do both curves put the maps in the same
# order?
#
# **Next:** [06 · Swin](06_swin.ipynb), where a token looks at its window only.
