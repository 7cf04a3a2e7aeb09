# ---
# jupyter:
#   vit_edu:
#     title: Images and words
#     minutes: 60
#     builds_on: ["04", "07"]
#     builds: CLIP's table, its loss and zero-shot classes, a miniature trained live, and a laboratory of what breaks it
# ---

# %% [markdown]
# # 10 · Images and words
#
# **60 minutes. Builds on** [04 · ViT](04_vision_transformer.ipynb) and [07 · Hybrids](07_hybrids.ipynb).
#
# A classifier knows its classes and nothing else. But pictures on the web come with words, and words name everything.
# CLIP (Radford et al. 2021) learns from such pairs, and can then be asked for classes that nobody has trained it on.
# The idea fits on a page, and half a dozen small things on that page can go wrong in silence. At the end you can
# - compare any picture with any text, and say why both are brought to length 1 and what the temperature is for;
# - write CLIP's loss, and read from its value whether a model has learned anything;
# - make a classifier out of words, with one prompt a class or with many, and search pictures by words;
# - train a miniature in seconds, and say what its errors tell of it;
# - name what breaks such a training: one-sided loss, no norm, a wrong temperature, twins in a batch.

# %% [markdown]
# ## Predict first
#
# Write down your guesses; the lesson answers all five.
#
# 1. A model sees food drawn in five styles, with its names. Then it is shown drawings in a sixth style, and has
#    fifty-six names to choose from. How often is it right: as often as a guess, now and then, nearly always?
# 2. A cosine lies between -1 and 1. A softmax over a hundred cosines: how sure can it be of the best text?
# 3. In CLIP's loss each picture picks its text, *and* each text its picture. Is the second half needed? If every
#    picture has found its text, has every text not found its picture?
# 4. A batch holds the same dog in two styles, each with the text "dog". What does the loss want of them?
# 5. Take both transformers away: one matrix for the pixels, one for the letters. How much worse does it get?

# %% [markdown]
# ## Pictures and their names
#
# Emoji are pictures with names, and there are sets of them in six styles. Five are there to learn from;
# the sixth, `new_style`, is held out. For what we train here we take food with one-word names: few enough for seconds.

# %%
import math
import zlib

import torch
import torch.nn.functional as F
import vit_edu
from torch import nn
from vit_edu import models, plots

train, new = (vit_edu.load_dataset("emoji", split=split) for split in ("train", "new_style"))


def of_food(data):
    """The dataset's food, as far as its name is one word"""
    food = data.classes.index("Food & Drink")
    return data.take(
        torch.tensor([i for i, name in enumerate(data.names) if data.labels[i] == food and " " not in name])
    )


food, new_food = of_food(train), of_food(new)
plots.plot_images([*food.images[:5], new_food.images[0]], titles=[*food.styles[:5], new_food.styles[0]], columns=6)

# %% tags=["nbval-check-output"]
print("all: ", len(train), "pictures of", len(set(train.names)), "names")
print("food:", len(food), "pictures of", len(set(food.names)), "names; new:", len(new_food), "pictures")
print(", ".join(new_food.names[:8]), "...")

# %% [markdown]
# A name is not a class label. It is a text: "watermelon" has "melon" in it, and a model that reads can know that. And
# the list of texts is never closed: tomorrow you may ask for "pie".

# %% [markdown]
# ## Two towers
#
# Two encoders that know nothing of each other. One reads pictures: the ViT of lesson 04. The other reads texts: the
# same blocks again, with letters in the place of patches. Letters are cut into **tokens** first; the kit takes the
# simplest way, the bytes themselves, between a start and an end.

# %% tags=["nbval-check-output"]
print(models.tokenize(["lemon", "fig"], context_length=12))

# %% [markdown]
# Two things are new in the text tower. Its attention is **causal**: a letter looks only at itself and what is before
# it. So the end token is the only one that has seen the whole text, and the text's vector is read *there*, as a ViT's
# is read at the class token. What stands behind the end is never looked at:

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
text = models.TextTransformer(context_length=12, embed_dim=48, depth=1, num_heads=2)
short, long = (models.tokenize(["lemon", "fig"], length) for length in (8, 12))
print("tokens", tuple(long.shape), "-> one vector for each text", tuple(text(long).shape))
print("more zeros behind the end change nothing:", torch.allclose(text(short), text(long), atol=1e-6))

# %% [markdown]
# The towers may have any widths. Two matrices without a bias, the **projections**, bring both into one space, of 32
# numbers here. That is all there is to it; the kit's `CLIP` holds the four parts, and one number more.

# %% tags=["nbval-check-output"]
small = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 1, "num_heads": 2, "num_classes": 0}
clip = models.CLIP(vit_edu.create_model("vit_tiny_patch16_224", **small), text, embed_dim=32)
for name, part in clip.named_children():
    print(f"{name:12} {sum(p.numel() for p in part.parameters()):7,} parameters")
print("logit_scale  ", clip.logit_scale.numel(), "parameter")

# %% [markdown]
# ## All pictures with all texts
#
# How well do a picture and a text fit? By the **cosine** of their vectors: bring both to length 1, multiply, add up.
# The length of a vector then counts for nothing, only where it points. For B pictures and T texts it is one matrix
# product.
#
# ### Exercise · similarity_logits
#
# Return the table of all cosines, times a factor. The factor is learned, and so that it stays positive the model holds
# its logarithm: `logit_scale`. We come to what it is for.


# %%
def similarity_logits(image_features, text_features, logit_scale):
    """image_features (B, D), text_features (T, D), logit_scale () -> logits (B, T)"""
    ### BEGIN SOLUTION
    images = F.normalize(image_features, dim=-1)
    texts = F.normalize(text_features, dim=-1)
    return logit_scale.exp() * images @ texts.T  # (B, D) @ (D, T) -> (B, T)
    ### END SOLUTION


# %%
similarity_logits = vit_edu.check("similarity_logits", similarity_logits)

# %% [markdown]
# Here are eight new drawings and their names, before any training. Each row is a picture, each column a text.

# %%
from vit_edu.training import plain

words = ["watermelon", "lemon", "banana", "tomato", "carrot", "bread", "pizza", "doughnut"]
shown = [new_food.names.index(word) for word in words]


def cosines(model, images, texts):
    """float images (B, C, H, W), texts [str, ...] -> (B, T)"""
    with torch.inference_mode():
        tokens = models.tokenize(texts, model.text.pos_embed.shape[1])
        return similarity_logits(model.encode_image(images), model.encode_text(tokens), torch.zeros(()))


asked = plain(new_food)  # float (56, 3, 32, 32), from -1 to 1
plots.plot_matrix(cosines(clip, asked[shown], words), rows=words, columns=words, title="not trained: cosines")

# %% [markdown]
# The rows look much alike: to a tower that has learned nothing, one picture is like another. Training must make the
# diagonal bright and the rest dark.

# %% [markdown]
# ## What the temperature is for
#
# A row is to become probabilities: which of these texts? Your second guess. The most that a softmax over cosines can
# give: the right text has cosine 1, all others -1.

# %% tags=["nbval-check-output"]
best = torch.full((100,), -1.0)
best[0] = 1.0
for scale in (1.0, 1 / 0.07, 100.0):
    print(f"cosines times {scale:5.1f}: the right one of 100 gets {(scale * best).softmax(dim=0)[0]:.1%} at most")

# %% [markdown]
# A perfect model could not be surer than in the first line, and its loss could not get near nought. So cosines are
# multiplied by a factor; its inverse is called **temperature**. CLIP begins at 1/0.07 and *learns* it (Radford et al.
# 2021, section 2.5), as `logit_scale`, the logarithm of the factor, and clips it, so that the factor never exceeds 100.

# %% tags=["nbval-check-output"]
print(f"logit_scale at its start: {clip.logit_scale.item():.4f}, the factor {clip.logit_scale.exp().item():.2f}")
print(f"largest logit_scale: log(100) = {math.log(100):.4f}")

# %% [markdown]
# ## The loss
#
# A batch is B pictures with their B texts. In the table the pairs stand on the diagonal. Read row i as a classification
# with B classes: which text belongs to picture i? Text i. Read column i in the same way: which picture belongs to text
# i? Nobody has to say what is *wrong*: all others in the batch serve as that.
#
# ### Exercise · clip_loss
#
# The mean of both cross entropies. Take your `similarity_logits`. (The factor may reach 100, and exp(100) is more than
# float32 can hold. `F.cross_entropy` knows how to get around that; whoever writes the softmax out must know it as well.)


# %%
def clip_loss(image_features, text_features, logit_scale):
    """image_features (B, D), text_features (B, D), logit_scale () -> loss ()"""
    ### BEGIN SOLUTION
    logits = similarity_logits(image_features, text_features, logit_scale)  # (B, B)
    labels = torch.arange(len(logits))  # picture i belongs to text i
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    ### END SOLUTION


# %%
clip_loss = vit_edu.check("clip_loss", clip_loss)

# %% [markdown]
# What is the loss of one who guesses? All B texts get the same share, so log B. Keep that number in mind. [Somebody
# trained for fifteen epochs](https://github.com/mlfoundations/open_clip/issues/17) with batches of 128, on pairs of
# their own, and asked why the loss stays at 4.8:

# %% tags=["nbval-check-output"]
nought = torch.zeros((), dtype=torch.float64)
for batch in (2, 32, 128):
    alike = torch.ones(batch, 4, dtype=torch.float64)  # every vector the same
    loss = clip_loss(alike, alike, nought)
    print(f"batch of {batch:5}: log B = {math.log(batch):5.2f}, clip_loss of vectors that are all alike {loss:.2f}")
print(f"batch of 32768: log B = {math.log(32768):5.2f}, the paper's batch")

# %% [markdown]
# The model has learned nothing, and the loss says so to the digit.
#
# ## The other half
#
# Your third guess. Four directions in a plane: two texts, two pictures. Look who is nearest to whom.

# %% tags=["nbval-check-output"]
degrees = {"text 0": 0, "text 1": 30, "picture 0": 10, "picture 1": 60}
directions = torch.tensor([[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in degrees.values()])
table = similarity_logits(directions[2:], directions[:2], torch.tensor(100.0).log())
print(
    "picture 0 and 1 pick texts   ", table.argmax(dim=1).tolist(), f"loss {F.cross_entropy(table, torch.arange(2)):.2f}"
)
print(
    "text 0 and 1 pick pictures   ",
    table.argmax(dim=0).tolist(),
    f"loss {F.cross_entropy(table.T, torch.arange(2)):.2f}",
)

# %% [markdown]
# Every picture has found its text, and the first half of the loss is content: nothing to learn any more. Yet both texts
# pick picture 0. Whoever searches pictures by words wants the other half too.

# %% [markdown]
# ## A miniature, trained live
#
# Everything is there. A module that gives the loss, a function that makes a batch, and the kit's training loop (AdamW,
# warm-up, a cosine down: `vit_edu/training/loop.py`). The loss inside is yours.


# %%
from vit_edu.training import Plan, fit


class Learner(nn.Module):
    """images (B, C, H, W), tokens (B, L) -> loss ()"""

    def __init__(self, clip):
        super().__init__()
        self.clip = clip

    def forward(self, images, tokens):
        with torch.no_grad():
            self.clip.logit_scale.clamp_(max=math.log(100))
        return clip_loss(self.clip.encode_image(images), self.clip.encode_text(tokens), self.clip.logit_scale)


pictures, tokens = plain(food), models.tokenize(food.names, 12)
plan = Plan(epochs=45, batch_size=32, lr=2e-3, warmup=0.1)
history = fit(Learner(clip), len(food), lambda indices, draws: (pictures[indices], tokens[indices]), plan)

# %%
clip.eval()
steps, losses = [row["step"] for row in history.rows], [row["loss"] for row in history.rows]
curves = {"clip_loss": losses, "a guess: log 32": [math.log(32)] * len(steps)}
plots.plot_curves(steps, curves, xlabel="step", ylabel="loss")

# %% [markdown]
# And now the drawings in the sixth style, which it has never seen. Rows are pictures, columns are texts.
#
# **Try:** click on a cell that is wrong: what do the two have in common? Then choose *which text for this picture* (a softmax over each
# row) and turn the temperature from its own to 1, and down to 0.01.

# %%
from vit_edu.widgets import SimilarityExplorer

SimilarityExplorer(clip, new_food.images[shown], words)

# %% [markdown]
# Did training choose a good temperature? Hold the towers, vary the factor, and ask for the loss on the new drawings:
# each picture picks among all names.

# %%
names = new_food.names  # 56, one picture each
own = torch.arange(len(names))
new_table = cosines(clip, asked, names)  # (56, 56)
factors = [1, 2, 4, 6, 8, clip.logit_scale.exp().item(), 20, 30]
by_factor = [F.cross_entropy(factor * new_table, own).item() for factor in factors]
labels = {"xlabel": "factor", "ylabel": "loss on new drawings"}
plots.plot_curves([round(factor, 1) for factor in factors], {"the miniature": by_factor}, log=True, **labels)

# %% [markdown]
# Too small a factor, and it cannot say what it knows. Too large, and it is certain where it is wrong. The factor that
# training found suits the pictures of training, where the model errs less; new ones are often better off with a smaller
# one. The *order* of the texts is the same for all factors: only how sure it is changes.

# %% [markdown]
# ## Search by words
#
# The table can be read in either direction. Type words, see the nearest of the new drawings:


# %%
def nearest(query, count=6):
    """The pictures nearest to a text, with their cosines"""
    found = cosines(clip, asked, [query])[:, 0].topk(count)
    titles = [f"{names[i]} {value:.2f}" for value, i in zip(found.values, found.indices.tolist())]
    return plots.plot_images(new_food.images[found.indices], titles=titles, columns=count)


nearest("banana")  # yours: "melon", "berry", "red", …

# %% [markdown]
# How good is it? Not by one lucky word: over many queries, how often is what is wanted among the k nearest?
#
# ### Exercise · recall_at_k
#
# Row i of `scores` is query i, with a score for each thing. `wanted[i]` is the one that is right. Return the share of
# queries that have it among their k best.


# %%
def recall_at_k(scores, wanted, k):
    """scores (Q, N), wanted (Q,) int64, k int -> float from 0 to 1"""
    ### BEGIN SOLUTION
    best = scores.topk(k, dim=1).indices  # (Q, k)
    return (best == wanted[:, None]).any(dim=1).double().mean().item()
    ### END SOLUTION


# %%
recall_at_k = vit_edu.check("recall_at_k", recall_at_k)

# %% [markdown]
# In both directions, on the style that it has never seen. Your first guess:

# %%
known = plain(food)
of_known = torch.tensor([names.index(name) for name in food.names])
print(f"a guess:                           1 of {len(names)} = {1 / len(names):.1%}, {5 / len(names):.1%} in five")
for title, scores, wanted in (
    ("new pictures pick names", new_table, own),
    ("names pick new pictures", new_table.T, own),
    ("pictures of training pick names", cosines(clip, known, names), of_known),
):
    print(f"{title:33} {recall_at_k(scores, wanted, 1):6.1%}, {recall_at_k(scores, wanted, 5):6.1%} in five")

# %% [markdown]
# Many times better than a guess, after seconds, from three to five pictures of a thing; and far from good. The last
# line says why: the drawings that it saw it knows far better, some of them by heart.

# %% [markdown]
# ## Zero-shot: a classifier made of words
#
# What you have just done has a name. Nobody trained a classifier for the sixth style; the *texts* were the classifier.
# Each class is a vector, and the nearest wins: exactly a linear layer without bias, whose weights are written in words.
#
# Now to the kit's own CLIP: all emoji, both towers larger, trained by `vit-edu train clip`. What it is, and what its
# record says:

# %%
from vit_edu.training import records
from vit_edu.weights import checkpoint

kit = checkpoint("clip")
print(f"{sum(p.numel() for p in kit.parameters()):,} parameters, factor {kit.logit_scale.exp().item():.1f}")
seeds = len(records.read("clip"))
for figure in ("zero-shot", "zero-shot in 5", "zero-shot by chance"):
    values = records.values("clip", f"emoji/new_style/{figure}")
    print(f"new style, {figure:20}: {records.spread(values)} %, {seeds} seed{'s' * (seeds > 1)}")
(first, began), (last, ended) = (records.read("clip")[0]["loss"][i] for i in (0, -1))
print(f"its loss: {began:.2f} at step {first}, {ended:.2f} at step {last}; a guess has log 128 = {math.log(128):.2f}")

# %% [markdown]
# An honest small model, and a weak one. Of all the names it finds the right one many times more often than a guess
# would, and nearly always it is still wrong; its loss has come down from that of a guess by a part only. CLIP was
# trained on four hundred million pairs (Radford et al. 2021, section 2.2); here are a few thousand, and a tower that
# has to learn to *spell* from them. Keep it in mind when you look at what follows: it shows how the thing works.
#
# First the proof that your parts are the real ones. Put your functions into the kit's CLIP, with its weights:


# %%
class MyCLIP(models.CLIP):
    def forward(self, images, tokens):
        features = self.encode_image(images), self.encode_text(tokens)
        return clip_loss(*features, self.logit_scale), *features


# %% tags=["nbval-check-output"]
mine = checkpoint("clip").double()
mine.__class__ = MyCLIP  # the same parameters, your forward
some = torch.arange(0, len(new), 150)
images, tokens = plain(new)[some].double(), models.tokenize([new.names[i] for i in some], 48)
with torch.inference_mode():
    one, other = mine(images, tokens)[0], checkpoint("clip").double()(images, tokens)[0]
print(len(some), "pairs; equal to the kit's CLIP:", torch.allclose(one, other, atol=1e-10))

# %%
with torch.inference_mode():
    image_features = torch.cat([kit.encode_image(part) for part in plain(new).split(256)])  # (1286, 64)
    tokens = models.tokenize(new.names, 48)  # each name once
    text_features = torch.cat([kit.encode_text(part) for part in tokens.split(256)])  # (1286, 64)
    table = similarity_logits(image_features, text_features, kit.logit_scale)  # (1286, 1286)
right = torch.arange(len(new))
for k, figure in ((1, "zero-shot"), (5, "zero-shot in 5")):
    recorded = records.values("clip", f"emoji/new_style/{figure}")[0]
    print(f"{figure:15} by your functions {recall_at_k(table, right, k):.4f}, in the record {recorded:.4f}")

# %% [markdown]
# ## Prompts
#
# Emoji come in eight groups, such as "Animals & Nature". CLIP has never been told of them. To ask for a group it needs
# a text for it, a **prompt**: its name, or a sentence with the name in it. Or several, and the mean of what they say:
# an **ensemble**.
#
# ### Exercise · zero_shot
#
# For each class bring the vector of each prompt to length 1, take their mean, bring that to length 1 again. A picture
# goes to the class of the largest product. Return the classes' vectors, and what was predicted.


# %%
def zero_shot(image_features, prompts):
    """image_features (B, D), prompts [(P, D), ...] one a class, P may differ -> weights (K, D), predicted (B,) int64"""
    ### BEGIN SOLUTION
    means = [F.normalize(texts, dim=-1).mean(dim=0) for texts in prompts]  # K times (D,)
    weights = F.normalize(torch.stack(means), dim=-1)  # (K, D)
    return weights, (image_features @ weights.T).argmax(dim=1)
    ### END SOLUTION


# %%
zero_shot = vit_edu.check("zero_shot", zero_shot)

# %% [markdown]
# Three kinds of prompts for the same eight classes. The group's name alone; the paper's sentence around it, "A photo of
# a …" (Radford et al. 2021, section 3.1.4), with several more; and the *names of what is in the group*, as far as
# training had them. **Predict** their order.


# %%
def encoded(texts):
    with torch.inference_mode():
        return kit.encode_text(models.tokenize(texts, 48))


groups = [group.lower() for group in new.classes]
templates = ("a photo of {}.", "a picture of {}.", "an emoji of {}.", "a drawing of {}.")
members = [sorted({name for name, label in zip(train.names, train.labels) if label == k}) for k in range(8)]
prompts = {
    "the group's name": [encoded([group]) for group in groups],
    "four sentences with the name": [encoded([template.format(group) for template in templates]) for group in groups],
    "names of things in the group": [encoded(names_of_group) for names_of_group in members],
}
print(f"always the largest group:     {new.labels.bincount().max() / len(new):.1%}")
for kind, of_classes in prompts.items():
    weights, predicted = zero_shot(image_features, of_classes)
    print(f"{kind:29} {(predicted == new.labels).double().mean():.1%}")

# %% [markdown]
# *The name of a class is a bad prompt.* "Objects" was never the name of a picture, nor was any sentence: all its texts
# were the names of things. CLIP's were captions from the web, mostly sentences, and so "A photo of a" helps it. The
# rule is the same: **ask in the words that it has read.** An ensemble of eighty prompts and their wording gave the real
# CLIP almost 5 points on ImageNet (Radford et al. 2021, section 3.1.4).
#
# Why normalise twice? Look at lengths: of single prompts before, and of the means after the first norm. And count how
# many pictures choose each group, with the second norm and without.

# %%
some_group = prompts["names of things in the group"]
lengths = torch.cat([texts.norm(dim=1) for texts in some_group])
print(f"prompts: the longest is {lengths.max() / lengths.min():.1f} times as long as the shortest")
means = torch.stack([F.normalize(texts, dim=1).mean(dim=0) for texts in some_group])  # (8, 64), not yet of length 1
without = (image_features @ means.T).argmax(dim=1)
print("                    length of the mean   pictures   choose it   without the second norm")
for k, group in enumerate(new.classes):
    counts = [(labels == k).sum().item() for labels in (new.labels, predicted, without)]
    print(f"{group:18} {means[k].norm():19.2f} {counts[0]:10} {counts[1]:11} {counts[2]:25}")
shares = [(labels == new.labels).double().mean().item() for labels in (predicted, without)]
print(f"right                                                {shares[0]:9.1%} {shares[1]:25.1%}")

# %% [markdown]
# Without the first norm a long prompt would speak louder for its group than a short one. Without the second, a group whose things have little in common has a short vector, and loses: the
# shortest three are chosen less often, *Travel & Places* hardly any more. The share of right answers does not show it,
# since others win what these lose. Count what is chosen, too.

# %% [markdown]
# ## What went wrong for other people: a laboratory of two matrices
#
# To see what breaks a training it must run many times, so it must be cheap. Take both transformers away. A picture is
# its pixels, at eight a side, in a row. A text is a count of its letters by threes: "<le", "lem", "emo", "mon", "on>".
# One matrix for each, and the loss: all emoji, a second or two.


# %%
def by_threes(texts, width=1024):
    """texts [str, ...] -> counts (T, width); crc32 says which column three letters belong to"""
    counts = torch.zeros(len(texts), width)
    for row, text in zip(counts, texts):
        for word in text.lower().split():
            word = f"<{word}>"
            for i in range(len(word) - 2):
                row[zlib.crc32(word[i : i + 3].encode()) % width] += 1
    return counts


def in_a_row(data):
    return F.avg_pool2d(plain(data), 4).flatten(1)  # (N, 192): 8 × 8 pixels of three colours


pixels, letters, new_pixels, new_letters = in_a_row(train), by_threes(train.names), in_a_row(new), by_threes(new.names)


def shuffled():
    return torch.randperm(len(train))[:256]


def train_two_matrices(loss=clip_loss, draw=shuffled, steps=120):
    """Returns a function: pixels (N, 192), letters (T, 1024) -> cosines (N, T)."""
    torch.manual_seed(0)
    image_proj, text_proj = nn.Linear(192, 64, bias=False), nn.Linear(1024, 64, bias=False)
    scale, bias = (nn.Parameter(torch.tensor(x)) for x in (math.log(1 / 0.07), -10.0))  # the bias is for SigLIP alone
    matrices = {"params": [image_proj.weight, text_proj.weight], "weight_decay": 1.0}
    optimizer = torch.optim.AdamW([matrices, {"params": [scale, bias], "weight_decay": 0.0}], lr=5e-3)
    falling = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    for _ in range(steps):
        batch = draw()
        extra = (bias,) if loss is siglip_loss else ()
        found = loss(image_proj(pixels[batch]), text_proj(letters[batch]), scale, *extra)
        optimizer.zero_grad()
        found.backward()
        optimizer.step(), falling.step()
    return torch.no_grad()(lambda x, y: similarity_logits(image_proj(x), text_proj(y), torch.zeros(())))


# %% [markdown]
# And here is what people do instead, each in its own line. `cross_entropy` over rows is one half of the loss, over
# columns the other.


# %%
def half(logits):
    return F.cross_entropy(logits, torch.arange(len(logits)))


def only_pictures_choose(x, y, s):
    return half(similarity_logits(x, y, s))


def only_texts_choose(x, y, s):
    return half(similarity_logits(x, y, s).T)


def no_norm(x, y, s):
    logits = s.exp() * x @ y.T
    return (half(logits) + half(logits.T)) / 2


def factor_1(x, y, s):
    return clip_loss(x, y, torch.zeros(()))  # the logarithm of 1


def factor_100(x, y, s):
    return clip_loss(x, y, torch.tensor(100.0).log())


def siglip_loss(x, y, s, bias):
    """Zhai et al. 2023, algorithm 1: every cell of the table by itself, a pair or not?"""
    pair = 2 * torch.eye(len(x)) - 1  # 1 on the diagonal, -1 elsewhere
    return -F.logsigmoid(pair * (similarity_logits(x, y, s) + bias)).sum() / len(x)


def side_by_side():
    return (torch.randperm(len(train) // 8)[:32, None] * 8 + torch.arange(8)).flatten()  # (256,): 32 runs of eight


runs = {
    "clip_loss": {},
    "only pictures choose": {"loss": only_pictures_choose},
    "only texts choose": {"loss": only_texts_choose},
    "no L2 norm": {"loss": no_norm},
    "factor 1": {"loss": factor_1},
    "factor 100": {"loss": factor_100},
    "not shuffled": {"draw": side_by_side},
    "SigLIP": {"loss": siglip_loss},
}
print("                      pictures pick names   names pick pictures   names that anyone picks")
for name, changed in list(runs.items()):
    matrices = train_two_matrices(**changed)
    scores = matrices(new_pixels, new_letters)  # (1286, 1286)
    both = [recall_at_k(way, right, 1) for way in (scores, scores.T)]
    print(f"{name:22}{both[0]:19.1%}{both[1]:22.1%}{len(scores.argmax(dim=1).unique()):26,}")
    runs[name] |= {"matrices": matrices, "recall": both}

# %% [markdown]
# - **One half of the loss.** If only pictures choose, both directions get worse, their own too. If only texts choose,
#   names find pictures as well as with both halves, or better. But pictures find fewer of their names, and fewer names
#   are ever picked: some are *hubs*, nearest to too many pictures, and no row has ever complained.
# - **No L2 norm.** It learns, and worse. [A tutorial that many have
#   copied](https://github.com/moein-shariatnia/OpenAI-CLIP/pull/28) had none for years.
# - **The factor.** Fixed at 1 the softmax cannot be sure; fixed at 100 it is sure before it knows anything. In long runs
#   a learned one [rises as training goes on](https://github.com/mlfoundations/open_clip/issues/214), up to the clip;
#   where little is learned, as in the kit's CLIP, it stays near its start.
# - **Not shuffled.** The dataset holds all drawings of a thing side by side. Eight neighbours in a batch are mostly
#   twins.

# %% [markdown]
# ## Twins in a batch
#
# Your fourth guess: two drawings, both named "dog". On the diagonal the loss says "this picture goes with *this*
# 'dog', and not with that one", which is the same text. Whatever the model does, half of it is punished: a **false
# negative**. How low can the loss get? Give a *perfect* model such a batch: one direction for each name, factor 100.

# %%
torch.manual_seed(0)
for title, draw in {"shuffled": shuffled, "side by side": side_by_side}.items():
    batch_names = [train.names[i] for i in draw().tolist()]
    index = torch.tensor([batch_names.index(name) for name in batch_names])  # the first of the same name
    perfect = F.one_hot(index, len(index)).double()
    twins = (index[:, None] == index).sum(dim=1)  # how often each name is there
    loss = clip_loss(perfect, perfect, torch.tensor(100.0).double().log())
    print(f"{title:13} {len(index.unique()):3} names for {len(index)} pictures: a perfect model has loss {loss:.2f}")
    print(f"{'':13} mean of log(how often its name is there): {twins.double().log().mean():.2f}")

# %% [markdown]
# So a loss that stops above nought need not be the model's fault. With millions of texts twins are rare; in small sets
# of your own, with five captions a picture or one text a class, they are [the rule, and people
# ask](https://github.com/moein-shariatnia/OpenAI-CLIP/issues/11). Ways out: draw batches in which each text occurs
# once; or share the label among all twins, which makes the targets of the cross entropy a row of shares (Khosla et al.
# 2020 do so for labels).
#
# **SigLIP**, the last line of the laboratory, asks no softmax at all: each cell is a yes or a no, with a learned factor
# and a learned bias (Zhai et al. 2023). No row has to be seen whole, which saves talk between GPUs. Its authors find it
# better with small batches (abstract); a run of seconds cannot show that. Its bias starts at -10, since nearly all
# cells are a no.

# %% [markdown]
# ## A surprise: two matrices
#
# Your fifth guess. The same question for the transformers of the kit and for two matrices: pictures of the new style
# pick one of all names. Both have learned from the same pictures.

# %%
with_matrices, with_transformers = runs["clip_loss"]["recall"][0], recall_at_k(table, right, 1)
trained = records.read("clip")[0]["seconds_training"]
print(f"two matrices, seconds of training:             {with_matrices:.1%}")
print(f"two transformers, {trained / 60:.0f} minutes of training:     {with_transformers:.1%}")
print(f"parameters: {(192 + 1024) * 64:,} and {sum(p.numel() for p in kit.parameters()):,}")

# %% [markdown]
# It is not close. The matrices get colours, rough shapes and syllables as a gift: "melon" *is* part of "watermelon"
# before anything is learned. The transformers begin with bytes and patches, and a few thousand pairs are not enough to
# learn to read *and* to see. This is lesson 07 once more: what a model takes for granted it need not learn, and what it
# must learn costs data.
#
# So why does CLIP win in the world? Move every picture to the right by some pixels, and ask the matrices again. A strip
# at the edge is lost then; so in the second column nothing moves, and only that strip is covered with white.

# %%
matrices = runs["clip_loss"]["matrices"]
print("pixels   moved   covered")
for strip in (0, 2, 4, 8):
    moved = F.pad(plain(new), (strip, 0), value=1.0)[..., :32]  # white comes in from the left
    covered = F.pad(plain(new)[..., : 32 - strip], (0, strip), value=1.0)
    found = [recall_at_k(matrices(F.avg_pool2d(x, 4).flatten(1), new_letters), right, 1) for x in (moved, covered)]
    print(f"{strip:6} {found[0]:7.1%} {found[1]:9.1%}")

# %% [markdown]
# What is covered costs something, what is moved nearly all. A matrix knows each pixel by its place, and all emoji stand
# in the middle. In photos nothing stands still: there it has nothing to go by, and no amount of data helps it. A
# transformer can learn to look anywhere, if it gets the data. And on things whose names nobody has trained on?

# %%
held_out = vit_edu.load_dataset("emoji", split="new_concepts")
things = list(dict.fromkeys(held_out.names))
wanted = torch.tensor([things.index(name) for name in held_out.names])
values = records.values("clip", "emoji/new_concepts/zero-shot")
print(f"{len(things)} new names, a guess:           {1 / len(things):.1%}")
print(f"two matrices:                   {recall_at_k(matrices(in_a_row(held_out), by_threes(things)), wanted, 1):.1%}")
print(f"two transformers, the record:   {records.spread(values)} %")

# %% [markdown]
# ## What the papers say
#
# | here | paper | where |
# | --- | --- | --- |
# | `similarity_logits`, `clip_loss` | Radford et al. 2021 | figure 3, pseudocode of a dozen lines |
# | text tower, read at its end | Radford et al. 2021 | section 2.4 |
# | temperature, its start and its clip | Radford et al. 2021 | section 2.5 |
# | `zero_shot`, prompts, ensembles | Radford et al. 2021 | sections 3.1.2 and 3.1.4 |
# | `siglip_loss` | Zhai et al. 2023 | algorithm 1 |
#
# Figure 3 has neither the clip of the factor nor a word on twins. The loss is older than CLIP: van den Oord et al. 2018
# call it InfoNCE, and Zhang et al. 2020 (*ConVIRT*) used it for X-rays and their reports.

# %% [markdown]
# ## In five lines
#
# 1. Two towers, two projections, one space; a pair fits by its cosine, times a learned factor.
# 2. The loss is two classifications: rows (which text?) and columns (which picture?), averaged; a guess has log B.
# 3. A text's vector is a class's weights: words make a classifier, and the best words are those it was trained on.
# 4. Without norm, half of the loss, factor or shuffling nothing crashes; the numbers are only worse.
# 5. Twins in a batch put a floor under the loss; transformers need far more pairs than matrices to be worth it.
#
# ## New words
#
# - **contrastive loss**: pulls pairs that belong together, and pushes apart all others in the batch.
# - **projection**: the last matrix of a tower, which brings its vector into the space of both.
# - **cosine similarity**: the dot product of two vectors of length 1; from -1 to 1.
# - **zero-shot**: to classify without a single labelled picture of the task; the classes are given in words.
# - **prompt**: the text that stands for a class; several, averaged, are an ensemble.
# - **recall at k**: the share of queries that have the right answer among their k best.
# - **false negative**: a pair that belongs together and is treated as if it did not.
#
# ## To read
#
# - Radford et al. 2021, [Learning transferable visual models from natural language
#   supervision](https://arxiv.org/abs/2103.00020): sections 2 and 3.1, and section 6 on what it cannot do.
# - Zhai et al. 2023, [Sigmoid loss for language image pre-training](https://arxiv.org/abs/2303.15343).
# - Zhai et al. 2022, [LiT](https://arxiv.org/abs/2111.07991): lock a picture tower that is good already, and train the
#   words alone.
#
# ## Harder, without a check
#
# Write a loss in which twins share the label: for a row whose name occurs three times in the batch, the target is a
# third on each of the three. Show that a perfect model still has a loss above nought, and say which number you would
# subtract to make it nought. Then train the two matrices with it on batches that are not shuffled: how much of the loss
# in recall comes back?
#
# **Next:** [11 · Faster, larger](11_faster_larger.ipynb).
