# ---
# jupyter:
#   vit_edu:
#     title: Transfer
#     minutes: 60
#     builds_on: ["04"]
#     builds: everything that turns somebody's published weights into your model, from the new head to LoRA
# ---

# %% [markdown]
# # 08 · Transfer
#
# **60 minutes. Builds on** [04 · ViT](04_vision_transformer.ipynb).
#
# Hardly anyone trains a ViT from scratch. You take weights that others have paid for and teach them your own pictures.
# That is a handful of lines, and each of them has a way of going wrong in silence. At the end you can
# - take over a published body, give it a new head, and fit its positions to another picture size;
# - freeze a part, so that it really stays as it was;
# - let each layer learn at its own rate, and keep weight decay away from what it harms;
# - put LoRA into any model, and take it out again;
# - choose between k-NN, a linear probe, a part, all, or LoRA, by what each costs and gives.

# %% [markdown]
# ## Predict first
#
# Write down your guesses; the lesson answers all five.
#
# 1. A model has learned from *drawings* alone, without a label. Now it gets 900 labelled grey *photos of clothes* and
#    thirty steps. Does it do better than the same model from scratch?
# 2. Its positions are for 8 × 8 patches, you need 7 × 7. May you take the first forty-nine?
# 3. Every parameter of a network is frozen. Can its answers still change?
# 4. The best linear head for the frozen body is found. Now all weights may learn on for thirty steps. Better or worse?
# 5. LoRA teaches a model with one or two in a hundred of its parameters. How much slower does the model run afterwards?

# %% [markdown]
# ## What there is, and what is wanted
#
# The kit brings an encoder that has painted emoji again from a quarter of their patches (an MAE, lesson 09). It has
# never seen a photo, a piece of clothing, or a label. These are its pictures, and below them ours:

# %%
import copy

import torch
import torch.nn.functional as F
import vit_edu
from torch import nn
from vit_edu import plots, weights
from vit_edu.training import accuracy, add_lora, features, knn, linear_probe, parameter_groups
from vit_edu.training import plain, records, schedule
from vit_edu.training.recipes import judge

emoji = vit_edu.load_dataset("emoji")
fashion, fashion_test = vit_edu.load_dataset("fashion"), vit_edu.load_dataset("fashion", split="test")
clothes = judge.share_of(fashion, 0.1, seed=0)  # of each class as many
some = [clothes.images[90 * i].expand(3, 28, 28) for i in range(10)]
plots.plot_images([*emoji.images[::600][:10], *some], columns=10)

# %% tags=["nbval-check-output"]
mae = weights.checkpoint("mae")
published = mae.state_dict()
for part in ("encoder", "decoder"):
    mine = {name: x for name, x in published.items() if name.startswith(part)}
    numbers = sum(x.numel() for x in mine.values())
    print(f"{part}: {len(mine)} tensors, {numbers:,} numbers, such as {[*mine][-1]}")
print("positions:", tuple(published["encoder.pos_embed"].shape), "for 8 x 8 patches of 4 pixels and a class token")
print("clothes:  ", tuple(clothes.images.shape), "in", len(clothes.classes), "classes")

# %% [markdown]
# Three things do not fit: the names (they begin with `encoder.`), the missing head for ten classes, and the number of
# positions (clothes have 28 pixels: 7 × 7 patches). We want this model:

# %%
words = {"img_size": 28, "patch_size": 4, "embed_dim": 96, "depth": 4, "num_heads": 3}
words |= {"global_pool": "avg", "pos_embed": "sincos", "num_classes": 10}


def new_model(seed=0):
    torch.manual_seed(seed)
    return vit_edu.create_model("vit_tiny_patch16_224", **words)


# %% [markdown]
# ## The head and the body
#
# First a trap. PyTorch refuses weights whose names differ, and many silence it with `strict=False`:

# %% tags=["nbval-check-output"]
model = new_model()
before = model.blocks[0].attn.qkv.weight.clone()
found = model.load_state_dict(published, strict=False)
print("no error; tensors that were not found:", len(found.missing_keys), "of", len(model.state_dict()))
print("anything loaded:", not torch.equal(before, model.blocks[0].attn.qkv.weight))

# %% [markdown]
# Not one name fitted, nothing was loaded, and training begins from scratch with a good conscience. So do it by name, and
# let what is missing be an error.
#
# ### Exercise · take_over
#
# For every name of `own`, the new model's state dict, give a tensor: the published one under `prefix + name`; but what
# begins with `head.` keeps its own, *even where the shapes agree*. What else the file holds is left out.


# %%
def take_over(published, own, prefix):
    """published {name: tensor}, own {name: tensor} -> {name: tensor} with the names of own"""
    ### BEGIN SOLUTION
    taken = {}
    for name, value in own.items():
        taken[name] = value if name.startswith("head.") else published[prefix + name]  # KeyError where one is missing
    return taken
    ### END SOLUTION


# %%
take_over = vit_edu.check("take_over", take_over)

# %% [markdown]
# Why not the old head, where ten classes meet ten? Its row number three answers an old question. It costs nothing to
# learn ten rows; to unlearn them takes longer.

# %% [markdown]
# ## Positions for another size
#
# Every position belongs to a place. Look at the 8 × 8 of them as a picture with 96 channels: to make it 7 × 7, resize it,
# as you would resize a photo (Dosovitskiy et al. 2021, section 3.2). The class token lies nowhere in it.
#
# ### Exercise · resize_positions
#
# Interpolate bicubically with antialias, as timm does; grids are (rows, columns). The class token's position comes first
# and stays as it is.


# %%
def resize_positions(pos_embed, grid_size, new_grid_size):
    """pos_embed (1, 1+N, C), N = rows*columns -> (1, 1+N', C)"""
    ### BEGIN SOLUTION
    cls, patches = pos_embed[:, :1], pos_embed[:, 1:]  # (1, 1, C), (1, N, C)
    image = patches.transpose(1, 2).unflatten(2, grid_size)  # (1, C, N) -> (1, C, rows, columns)
    image = F.interpolate(image, new_grid_size, mode="bicubic", antialias=True)
    patches = image.flatten(2).transpose(1, 2)  # (1, C, N') -> (1, N', C)
    return torch.cat([cls, patches], dim=1)
    ### END SOLUTION


# %%
resize_positions = vit_edu.check("resize_positions", resize_positions)

# %% [markdown]
# Your second guess. Each little map below belongs to one place: how alike is its position to all others? First resized,
# then with the first forty-nine rows taken as they stand:

# %%
old = published["encoder.pos_embed"]  # (1, 65, 96)
resized = resize_positions(old, (8, 8), (7, 7))  # (1, 50, 96)
plots.plot_positions(resized[:, 1:], (7, 7))

# %%
plots.plot_positions(old[:, 1:50], (7, 7))

# %% [markdown]
# Resized, each place is most like itself and its neighbours. Cut, the light spots drift sideways from row to row: the
# eighth of the old first row has become the first of the second. No shape is wrong, no error is raised.
#
# Now all of it, and beside it the kit's one line, `load_weights`:

# %% tags=["nbval-check-output"]


def body():
    """The new model with the published body."""
    model = new_model()
    fitting = published | {"encoder.pos_embed": resized}
    model.load_state_dict(take_over(fitting, model.state_dict(), "encoder."))  # strict
    return model


kit = weights.load_weights(
    new_model(), mae.encoder.state_dict(), source="vit_edu", new_head=True, resize_positions=True
)
pairs = zip(body().state_dict().values(), kit.state_dict().values())
same = [torch.allclose(x, y, atol=1e-6) for x, y in pairs]
print("tensors:", len(same), "| equal to the kit's:", all(same))

# %% [markdown]
# ## The task: yours, or a large one
#
# From here on all cells work on what this one chooses. With a GPU it takes ImageNet's weights and photos of
# flowers (both are downloaded once); else, or where there is no network, our encoder and 900 clothes.

# %%
large = torch.cuda.is_available()
if large:
    try:
        weights.published("vit_base_patch16_224")
    except OSError as error:
        print(error)
        large = False
device = torch.device("cuda" if large else "cpu")
if large:  # or "pets"
    train, test = vit_edu.load_dataset("flowers102"), vit_edu.load_dataset("flowers102", split="test")
    test = test.take(torch.arange(0, len(test), 6))

    def body():
        return vit_edu.pretrained("vit_base_patch16_224", num_classes=len(train.classes))

    def new_model():
        return vit_edu.create_model("vit_base_patch16_224", num_classes=len(train.classes))

    images, asked = weights.normalise(train.images), weights.normalise(test.images)
    STEPS, BATCH, LR, HEAD_LR, LORA_LR = 300, 64, 1e-3, 0.1, 2e-3
else:
    train, test = clothes, fashion_test.take(torch.arange(500))
    images, asked = (plain(data).expand(-1, 3, -1, -1) for data in (train, test))  # grey, on three channels
    STEPS, BATCH, LR, HEAD_LR, LORA_LR = 30, 32, 6e-3, 0.1, 2e-2
labels, answers = train.labels.to(device), test.labels.to(device)
images, asked, classes = images.to(device), asked.to(device), len(train.classes)
print(f"{len(images):,} pictures to learn from, {len(asked):,} new ones to be asked,", end=" ")
print(f"{classes} classes, on {device}")

# %% [markdown]
# ## Frozen: nothing learns but the answer
#
# The cheapest way leaves the body as it is. It runs once over every picture; what the head would read is kept, one row
# a picture. On these **features** two classifiers cost next to nothing: **k-NN** lets the nearest pictures vote, and a
# **linear probe** is the best linear head there is.

# %%
frozen = body().to(device)
known, unknown = features(frozen, images), features(frozen, asked)  # (pictures, C) each, in eval mode
probe = linear_probe(known, labels, classes)
results = {
    "k-NN": accuracy(knn(known, labels, unknown, classes=classes), answers),
    "linear probe": accuracy(probe(unknown), answers),
}
print("features:", tuple(known.shape))
for name, value in results.items():
    print(f"{name:13} {value:.1%} of the new pictures right")

# %% [markdown]
# Drawings of cats and clocks have taught this body something about shirts.
#
# Usually the head is trained as everything else is, step by step. Then the body must be *kept* frozen, and that has
# more than one switch.
#
# ### Exercise · head_step
#
# One step of plain SGD with rate `lr` for `model.head` alone. The body must be afterwards what it was, its batch norms'
# averages too; only the head's parameters ask for a gradient; gradients from before do not count.


# %%
def head_step(model, images, labels, lr):
    """model with .body and .head (or a ViT), images (B, ...), labels (B,) -> None; the head has learned"""
    ### BEGIN SOLUTION
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    model.eval()  # a batch norm in train mode counts on, frozen or not
    optimizer = torch.optim.SGD(model.head.parameters(), lr=lr)
    optimizer.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    optimizer.step()
    ### END SOLUTION


# %%
head_step = vit_edu.check("head_step", head_step)

# %%


def right(model):
    """The share of the new pictures that the model gets right."""
    model.eval()
    with torch.inference_mode():
        return accuracy(torch.cat([model(part) for part in asked.split(250)]), answers)


weight = frozen.blocks[0].attn.qkv.weight.clone()
generator = torch.Generator().manual_seed(0)
for _ in range(STEPS):
    chosen = torch.randint(len(images), (BATCH,), generator=generator).to(device)
    head_step(frozen, images[chosen], labels[chosen], HEAD_LR)
results["head by your steps"] = right(frozen)
print("the body is where it was:", torch.equal(weight, frozen.blocks[0].attn.qkv.weight))
print(f"{results['head by your steps']:.1%} right, against {results['linear probe']:.1%} for the best head")

# %% [markdown]
# Your third guess, and the trap that costs people days: *frozen* and *in eval mode* are two things. Here is a CNN with
# batch norm whose parameters are frozen, every one. It looks at one batch in train mode:

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
cnn = vit_edu.create_model("resnet20", depths=(1, 1, 1), width=8, img_size=32, num_classes=10)
cnn.requires_grad_(False)
photo = torch.randn(4, 3, 32, 32)
with torch.no_grad():
    first = cnn.eval()(photo)
    cnn.train()(3 * photo + 1)  # just looking
    second = cnn.eval()(photo)
print("parameters that may learn:", sum(p.requires_grad for p in cnn.parameters()))
print("the same answers as before:", torch.allclose(first, second))

# %% [markdown]
# A ViT has no batch norm; drop path and dropout wake up in train mode all the same. And there is a second leak: an
# optimizer moves whatever it holds that has a gradient, even one that was left over *before* you froze it.

# %% tags=["nbval-check-output"]
layer = nn.Linear(2, 2)
optimizer = torch.optim.AdamW(layer.parameters())
layer(torch.ones(1, 2)).sum().backward()  # some step of before; nobody called zero_grad
layer.requires_grad_(False)  # frozen
before = layer.weight.clone()
optimizer.step()
print("frozen, and where it was:", torch.equal(before, layer.weight))

# %% [markdown]
# ## All of it, each layer at its own rate
#
# The head is new and knows nothing. The first layers see edges and colours, which are the same everywhere. So let the
# top learn fast and the bottom slowly: multiply the rate by `layer_decay` for every layer downwards (Bao et al. 2022,
# *BEiT*; language models had it before).
#
# Weight decay has a rule of its own. It draws weights to nought, which suits matrices. But a norm's weight belongs
# near one, a bias may be what it likes, and a position is no matrix.
#
# ### Exercise · layer_rate
#
# For one parameter of a ViT, by its name: the factor of its rate, and its weight decay. Layer 0 makes the tokens
# (`patch_embed.…`, `cls_token`, `pos_embed`), block I is layer I + 1, and what stands behind the blocks (`norm`,
# `fc_norm`, `head`) is layer depth + 1, with factor 1. What decays has more than one axis and is neither `cls_token` nor
# `pos_embed`.


# %%
def layer_rate(name, shape, depth, layer_decay, weight_decay):
    """name "blocks.3.norm1.weight", shape (96,) -> factor of the rate, weight decay: two numbers"""
    ### BEGIN SOLUTION
    if name.startswith("blocks."):
        layer = int(name.split(".")[1]) + 1
    elif name in ("cls_token", "pos_embed") or name.startswith("patch_embed."):
        layer = 0
    else:
        layer = depth + 1
    decays = len(shape) > 1 and name not in ("cls_token", "pos_embed")
    return layer_decay ** (depth + 1 - layer), weight_decay if decays else 0.0
    ### END SOLUTION


# %%
layer_rate = vit_edu.check("layer_rate", layer_rate)


# %% tags=["nbval-check-output"]
def groups_of(model, layer_decay=0.7, weight_decay=0.05):
    """What an optimizer wants: a group for every parameter that learns."""
    groups = []
    for name, x in model.named_parameters():
        if x.requires_grad:
            factor, decay = layer_rate(name, tuple(x.shape), len(model.blocks), layer_decay, weight_decay)
            groups.append({"params": [x], "lr_scale": factor, "weight_decay": decay})
    return groups


def by_parameter(groups):
    return {id(x): (round(g["lr_scale"], 9), g["weight_decay"]) for g in groups for x in g["params"]}


small = vit_edu.create_model("vit_tiny_patch16_224", **words)
for name in ("patch_embed.proj.weight", "blocks.0.mlp.fc1.weight", "blocks.3.norm1.bias", "head.weight"):
    x = small.get_parameter(name)
    print(f"{name:24} factor {layer_rate(name, x.shape, 4, 0.7, 0.05)[0]:.3f}", end=", ")
    print("decay", layer_rate(name, x.shape, 4, 0.7, 0.05)[1])
kits = parameter_groups(small, weight_decay=0.05, layer_decay=0.7)
print("equal to the kit's groups:", by_parameter(groups_of(small)) == by_parameter(kits))

# %% [markdown]
# ## Thirty steps each
#
# Now the contest. Everybody gets the same batches, the same number of steps, the rate up a little and then down to
# nought.


# %%
def learn(model, groups, lr):
    """Teach the model in place; the loss of each step comes back."""
    optimizer, losses = torch.optim.AdamW(groups, lr=lr), []
    generator = torch.Generator().manual_seed(0)
    model.train()
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"] * schedule((step + 0.5) / STEPS, warmup=0.1)
        chosen = torch.randint(len(images), (BATCH,), generator=generator).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=large):
            loss = F.cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([x for group in groups for x in group["params"]], 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def contest(name, model, lr=LR, layer_decay=0.7):
    groups = groups_of(model.to(device), layer_decay)
    losses = learn(model, groups, lr)
    results[name] = right(model)
    count = sum(x.numel() for group in groups for x in group["params"])
    print(f"{name}: {count:,} parameters learn, {results[name]:.1%} right")
    return losses


curves = {"from scratch": contest("from scratch", new_model(), layer_decay=1.0)}
tuned = body()
curves["all, layer by layer"] = contest("all, layer by layer", tuned)

# %%
part = body().requires_grad_(False)
for module in (part.blocks[-1], part.norm, part.fc_norm, part.head):
    module.requires_grad_(True)
curves["the last block"] = contest("the last block", part)
curves["rates the wrong way round"] = contest("rates the wrong way round", body(), layer_decay=1 / 0.7)

# %%
plots.plot_curves(range(1, STEPS + 1), curves, xlabel="step", ylabel="loss")

# %% [markdown]
# Your first guess: from scratch the loss has hardly begun to fall, and from the drawings it is far below. The first
# model spends its steps finding out what an edge is.
#
# The last curve is the classic slip of a sign: the body's first layers learn fastest, the head slowest. It throws away
# nearly all that was taken over.
#
# What does the fine-tuned model look at? **Try:** the last layer, head after head, with the query on the sole, then in
# the empty corner.

# %%
from vit_edu.widgets import AttentionExplorer

shoe = 9 if not large else 0
AttentionExplorer(tuned, test.images[shoe].expand(3, -1, -1), inputs=asked[shoe].cpu())

# %% [markdown]
# ## LoRA: a detour beside a frozen layer
#
# To store a whole fine-tuned model for every task is dear. **Hu et al. 2022** leave each matrix W as it is and learn a
# thin detour: down to a few numbers (the **rank**), and up again.
#
# $$h = W x + b + \tfrac{\alpha}{r}\, B A x,\qquad A: r \times \text{in},\quad B: \text{out} \times r$$
#
# A, here `down`, begins at random, B, here `up`, at nought: at the first step the model does exactly what it did. α / r
# keeps the detour's size when you change the rank.
#
# ### Exercise · lora
#
# Wrap a linear layer. `down` is (rank, in_features), `up` (out_features, rank); the layer itself is frozen. `merged()`
# gives one plain `nn.Linear` that does the same.


# %%
class LoRA(nn.Module):
    """x (..., in_features) -> (..., out_features)"""

    def __init__(self, linear, rank, alpha):
        super().__init__()
        ### BEGIN SOLUTION
        self.linear, self.scale = linear.requires_grad_(False), alpha / rank
        self.down = nn.Parameter(torch.randn(rank, linear.in_features) / linear.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))
        ### END SOLUTION

    def forward(self, x):
        ### BEGIN SOLUTION
        return self.linear(x) + self.scale * F.linear(F.linear(x, self.down), self.up)
        ### END SOLUTION

    def merged(self):
        ### BEGIN SOLUTION
        merged = copy.deepcopy(self.linear)
        with torch.no_grad():
            merged.weight += self.scale * self.up @ self.down
        return merged
        ### END SOLUTION


# %%
LoRA = vit_edu.check("lora", LoRA)


# %%
def with_lora(model, rank=4, alpha=8.0):
    """LoRA in the qkv of every block; besides it only the head learns."""
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    for block in model.blocks:
        block.attn.qkv = LoRA(block.attn.qkv, rank, alpha)
    return model


# %% tags=["nbval-check-output"]
plain_vit = vit_edu.create_model("vit_tiny_patch16_224", **words).eval()
lora_vit = with_lora(copy.deepcopy(plain_vit)).eval()
x = torch.randn(2, 3, 28, 28)
print("before the first step, the same answers:", torch.allclose(plain_vit(x), lora_vit(x), atol=1e-6))
count = sum(p.numel() for p in lora_vit.parameters() if p.requires_grad)
all_of_it = sum(p.numel() for p in lora_vit.parameters())
print(f"{count:,} of {all_of_it:,} parameters learn: {count / all_of_it:.1%}")
kit = add_lora(copy.deepcopy(plain_vit), rank=4, alpha=8.0)
print("as many as in the kit's:", count == sum(p.numel() for p in kit.parameters() if p.requires_grad))

# %% [markdown]
# ## A good head first?
#
# Your fourth guess. Two models begin with the linear probe as their head, so they are *good* from the first step on. One
# lets all weights learn, with the rates from above, the other its LoRA.

# %%
print(f"the probe, where both begin: {results['linear probe']:.1%} right")
both = body()
both.head = copy.deepcopy(probe)
_ = contest("probe, then all", both)
light = body()
light.head = copy.deepcopy(probe)
_ = contest("probe, then LoRA", with_lora(light.to(device)).to(device), lr=LORA_LR / 4, layer_decay=1.0)

# %% [markdown]
# To let *everything* learn from a good head on can make it worse: at a rate that suits a random head, thirty
# steps tear features and head apart faster than they put them together. Kumar et al. 2022, *Fine-tuning can distort
# pretrained features*, describe this, and recommend the probe first, so that features need to move less. With steps as
# large as ours that alone does not save them. LoRA has less to break.
#
# And your fifth guess:

# %%
before = right(light)
for block in light.blocks:
    block.attn.qkv = block.attn.qkv.merged()
layers = [type(block.attn.qkv).__name__ for block in light.blocks]
print("now plain layers again:", set(layers), "| as good as before:", abs(right(light) - before) < 0.005)

# %% [markdown]
# No slower at all: a sum of two matrices is a matrix. Everything so far, in order:

# %%
for name, value in sorted(results.items(), key=lambda pair: pair[1]):
    print(f"{name:26} {value:.1%}")

# %% [markdown]
# ## How many labels is pre-training worth?
#
# Thirty steps are seconds, and in seconds the cheapest ways lead: the probe goes over all pictures until nothing gets
# better, while those who train every weight have hardly begun. The kit's recipes have more patience: they have fine-tuned
# each of its checkpoints on a hundredth, a tenth and all of the clothes, with the probe as the first head, with more
# steps and with augmentation. Their records:

# %%
shares = {"0.01": 90, "0.1": 900, "1": 9000}
sources = {"from scratch": "supervised", "labels": "supervised", "names (CLIP)": "clip", "MAE": "mae"}
efficiency = {}
for name, recipe in sources.items():
    kind = "scratch" if name == "from scratch" else "fine-tuned"
    runs = [records.values(recipe, f"fashion/test/{kind}/{share}") for share in shares]  # (shares, seeds)
    efficiency[name] = 100 * (1 - torch.tensor(runs))  # % wrong
    spreads = [f"{n:5,} labels: {records.spread(of_n)}" for n, of_n in zip(shares.values(), runs)]
    print(f"{name:12}", " | ".join(spreads))
print("MAE's linear probe, all labels:", records.spread(records.values("mae", "fashion/test/probe")))
words_of_axes = {"xlabel": "labelled clothes", "ylabel": "% wrong of the new ones"}
plots.plot_curves([*shares.values()], efficiency, log=True, **words_of_axes)

# %% [markdown]
# Each line is a model's percentages *right*: the median of the seeds, and from lowest to highest; so are the points and
# bars of the plot. Read it sideways: MAE with 90 labels is about where a model from scratch is with 9,000. About a
# hundredfold: that is what pre-training is worth here, where all have the same few steps, in a currency that everybody
# who has ever labelled understands.
#
# Compare the last two lines as well: with many labels and many steps, fine-tuning comes as far as the probe of the frozen
# body, which thirty steps did not. It is no further either.
#
# Labels, names and MAE saw the same emoji. Which was the best teacher for clothes, and why might that be? Lesson 09
# asks.

# %% [markdown]
# ## Two targets, for your own recipe
#
# No check of numbers now: your function gets a model, batches and the number of classes, and the machine says how good
# it became. With a GPU it is ImageNet's ViT on flowers, against the clock; else our encoder, some batches. Neither
# counts for marks.
#
# ### Target · fine_tune
#
# All of the model may learn. The head that comes with it is an old one, of a thousand classes. Each batch says how much
# of the time is over, and is for one step.


# %%
def fine_tune(model, batches, classes):
    """batches: (progress from 0 to 1, images (B, 3, H, W), labels (B,)) -> the model, ready for new pictures"""
    ### BEGIN SOLUTION
    model.head = nn.Linear(model.head.in_features, classes).to(model.head.weight)
    lr = 6e-3 if model.embed_dim < 192 else 1e-3
    optimizer = torch.optim.AdamW(groups_of(model, layer_decay=0.7), lr=lr)
    model.train()
    for progress, images, labels in batches:
        for group in optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"] * schedule(progress, warmup=0.1)
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()
    ### END SOLUTION


# %%
fine_tune = vit_edu.target("fine_tune", fine_tune)

# %% [markdown]
# ### Target · adapt
#
# The same, but the body stays where it is, and only so many parameters may learn as the task says.


# %%
def adapt(model, batches, classes):
    """As fine_tune, with few learning parameters; nothing is merged into the body"""
    ### BEGIN SOLUTION
    model.head = nn.Linear(model.head.in_features, classes).to(model.head.weight)
    with_lora(model).to(model.head.weight.device)
    lr = 2e-2 if model.embed_dim < 192 else 2e-3
    optimizer = torch.optim.AdamW(groups_of(model, layer_decay=1.0), lr=lr)
    model.train()
    for progress, images, labels in batches:
        for group in optimizer.param_groups:
            group["lr"] = lr * schedule(progress, warmup=0.1)
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model.eval()
    ### END SOLUTION


# %%
adapt = vit_edu.target("adapt", adapt)

# %% [markdown]
# ## What the papers say
#
# | here | paper | where |
# | --- | --- | --- |
# | new head, resized positions | Dosovitskiy et al. 2021 | section 3.2; they begin the head at nought |
# | linear probe against fine-tuning of an MAE | He et al. 2022 | section 4.3, "Partial Fine-tuning" |
# | `layer_rate` | Bao et al. 2022, *BEiT* | layer-wise learning rate decay |
# | probe first, then all | Kumar et al. 2022 | they call it LP-FT |
# | `LoRA` | Hu et al. 2022 | section 4.1 |
#
# He et al. 2022 say it plainly: an MAE's features are no champions under a linear probe, and excellent as a beginning
# for fine-tuning. To judge a pre-training by the probe alone is to judge it by its cheapest use.

# %% [markdown]
# ## What went wrong for other people
#
# You have seen most of it run above: `strict=False` that loads nothing, positions cut instead of resized, batch norm
# that counts while frozen, an optimizer with old gradients, rates upside down. Two more are about preparation:
#
# - **Other eyes.** Weights know pixels as they were shown to them. The kit's want −1 to 1, ImageNet's the mean and
#   deviation of `weights.normalise`. Show ours pixels from 0 to 255 and see what its probe becomes:

# %%
if not large:
    raw = (asked + 1) * 127.5
    print(f"the probe on pixels from -1 to 1:  {results['linear probe']:.1%}")
    print(f"the probe on pixels from 0 to 255: {accuracy(probe(features(body(), raw)), answers):.1%}")

# %% [markdown]
# - **A rate from another world.** What suits training from scratch is too high for weights that are nearly right, and
#   the loss does not always tell: it falls, since the head learns, while the body forgets.

# %% [markdown]
# ## A surprise: the yardstick
#
# All this was about a model of half a million parameters. Now take no model at all: raw pixels of the same clothes as
# features, the same k-NN, the same linear probe. **Predict** how they do.

# %%
seen, new = plain(clothes), plain(fashion_test)[:500]  # (900, 1, 28, 28), (500, 1, 28, 28)
truth, by_pixels = fashion_test.labels[:500], linear_probe(seen.flatten(1), clothes.labels, 10)
votes = knn(seen.flatten(1), clothes.labels, new.flatten(1), classes=10)
of_probe = accuracy(by_pixels(new.flatten(1)), truth)
print(f"pixels: k-NN {accuracy(votes, truth):.1%}, linear probe {of_probe:.1%}")
if not large:
    print(f"the best of all above: {max(results.values()):.1%}")

# %% [markdown]
# The pixels win, or come very close. Clothes of this set lie all in the middle, at one size, so that a sleeve is always at
# the same pixels. Against *scratch* pre-training looked like a triumph; against this yardstick it is none yet. Ask for the
# yardstick first.
#
# But what kind of knowledge is that? Move the new pictures to the right by a few pixels. To you nothing has changed:

# %%
if not large:
    for shift in (0, 2, 4):
        moved = F.pad(new, (shift, 0), value=-1.0)[..., :28]  # black comes in from the left
        votes = knn(seen.flatten(1), clothes.labels, moved.flatten(1), classes=10)
        seen_by_body = features(body(), moved.expand(-1, 3, -1, -1))
        of_body = knn(known, labels, seen_by_body, classes=10)
        print(f"moved by {shift}, pixels: k-NN {accuracy(votes, truth):4.0%}", end=", ")
        print(f"probe {accuracy(by_pixels(moved.flatten(1)), truth):4.0%}", end=" | ")
        print(f"features: k-NN {accuracy(of_body, truth):4.0%}", end=", ")
        print(f"probe {accuracy(probe(seen_by_body), truth):4.0%}")

# %% [markdown]
# One patch to the side, and the pixels fall behind what was learned from drawings. The features suffer too: this body is
# small, and positions are a large part of what it knows. A yardstick tells you how hard the *test* is, not how much a
# model has understood.

# %% [markdown]
# ## In five lines
#
# 1. Take over by name and strictly; the head is new, even where the old one fits.
# 2. Positions are a picture: resize the patches' part, leave the class token alone.
# 3. Frozen has three switches: `requires_grad`, the optimizer's list, eval mode.
# 4. Rates fall from the head downwards; norms, biases, tokens and positions do not decay.
# 5. LoRA begins by doing nothing, learns a detour of low rank, and can be merged away.
#
# ## New words
#
# - **transfer**: to use what was learned on one task as the beginning of another.
# - **body and head**: all that turns a picture into features, and the last layer, which turns them into answers.
# - **linear probe**: the best linear head on frozen features; a measure of what they already hold.
# - **fine-tuning**: training on from weights that were learned elsewhere, in part or whole.
# - **layer-wise rate decay**: every layer learns more slowly than the one above it, by the same factor.
# - **LoRA**: a frozen layer with a learned detour of low rank beside it.
# - **label efficiency**: how good a model becomes with how few labels.
#
# ## To read
#
# - Hu et al. 2022, [LoRA](https://arxiv.org/abs/2106.09685).
# - Kumar et al. 2022, [Fine-tuning can distort pretrained features](https://arxiv.org/abs/2202.10054).
# - Steiner et al. 2022, [How to train your ViT?](https://arxiv.org/abs/2106.10270): which published checkpoint to take.
#
# ## Harder, without a check
#
# Find a way past the pixels with 900 labels. Augment, take more steps (a thousand is some minutes), begin with the probe and
# small rates, or join pixels and features in one probe. Keep the 500 new pictures out of your choices: cut a part of the
# 900 off for them.
#
# **Next:** [09 · Learning without labels](09_without_labels.ipynb), where such a body comes from. Or a project of your own: the
# [capstone](../docs/capstone.md).
