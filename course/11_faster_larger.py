# ---
# jupyter:
#   vit_edu:
#     title: Faster, larger
#     minutes: 60
#     builds_on: ["02", "04"]
#     builds: predictions of time and memory from FLOPs and bytes, and the five levers that make room for larger models
# ---

# %% [markdown]
# # 11 · Faster, larger
#
# **60 minutes. Builds on** [02 · Self-attention](02_self_attention.ipynb) and [04 · ViT](04_vision_transformer.ipynb).
#
# "It is too slow" and "out of memory" are the two messages that end most experiments. Both can be foreseen with a pencil.
# At the end you can
# - say from FLOPs and bytes how long a step will take at least, and what it will keep in memory;
# - find out in a minute whether a layer waits for arithmetic or for memory;
# - use fused attention, sixteen bits, micro-batches, recomputing and several processes, and know what each of them buys;
# - prove that the numbers have stayed the same, which is what goes wrong most often.
#
# Two open targets stand at the end. They are not in the 60 minutes.

# %% [markdown]
# ## Predict first
#
# Write down your guesses; the lesson answers all six.
#
# 1. One training step, forward and back: how many times the FLOPs of the way forward?
# 2. Softmax, GELU, norms and sums have next to no FLOPs. Which part of the time do they take?
# 3. The same layer gets 256 rows in place of one. How many times as long does it take?
# 4. A block gives one tensor of N × D. How many such tensors must it keep for the way back?
# 5. A batch of ten goes through in parts of four, four and two, and the three mean losses are averaged. Is that the
#    gradient of the batch?
# 6. All weights are kept in sixteen bits, and the model is fine-tuned with a learning rate of 0.00001. What is lost?

# %% [markdown]
# ## Where does the time go?
#
# One cell chooses the machine and the size. On a GPU everything below runs a ViT-B/16, else a small one. Attention is that
# of lesson 02, all its weights written down; we shall see what that costs.

# %%
import copy
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import vit_edu
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode
from vit_edu import layers, plots
from vit_edu.exercises.memory_targets import peak_bytes
from vit_edu.exercises.speed_targets import PlainAttention

os.environ["KINETO_LOG_LEVEL"] = "9"  # the profiler talks much otherwise
gpu = torch.cuda.is_available()
device = torch.device("cuda" if gpu else "cpu")
name, batch, depth, D, h = ("vit_base_patch16_224", 64, 12, 768, 12) if gpu else ("vit_tiny_patch16_224", 2, 4, 192, 3)
torch.manual_seed(0)
plain = vit_edu.create_model(name, depth=depth, attention=PlainAttention).to(device)
fused = vit_edu.create_model(name, depth=depth).to(device)  # the kit's own attention
fused.load_state_dict(plain.state_dict())
images = torch.randn(batch, 3, 224, 224, device=device)
labels = torch.randint(1000, (batch,), device=device)
print(f"{device.type}: {name}, {depth} blocks, {batch} pictures of 224 pixels; CPU threads: {torch.get_num_threads()}")

# %% [markdown]
# `torch.profiler` notes every operation and its time. Beside each kind we put its share of the FLOPs, as PyTorch counts
# them: matrix products, and nothing else.

# %%
KINDS = {
    "linear layers": ("addmm", "aten::mm", "convolution", "aten::linear"),
    "products of attention": ("bmm", "scaled_dot_product"),
    "softmax": ("softmax",),
    "GELU": ("gelu",),
    "norms": ("layer_norm",),
    "sums, copies, the rest": ("",),
}


def kind_of(operation):
    return next(kind for kind, words in KINDS.items() if any(word in operation for word in words))


def profile(model):
    """kind -> (share of the FLOPs, share of the time), each in per cent"""
    activities = [torch.profiler.ProfilerActivity.CPU] + [torch.profiler.ProfilerActivity.CUDA] * gpu
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images)  # the first call warms up
    with torch.no_grad(), torch.profiler.profile(activities=activities) as run:
        model(images)
    flops, times = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0.0)
    for operation, number in counter.get_flop_counts()["Global"].items():
        flops[kind_of(str(operation))] += number
    for event in run.key_averages():
        if event.key.startswith("aten::"):
            times[kind_of(event.key)] += event.self_device_time_total if gpu else event.self_cpu_time_total
    return {k: (100 * flops[k] / sum(flops.values()), 100 * times[k] / sum(times.values())) for k in KINDS}


shares = profile(plain)
table = torch.tensor(list(shares.values())).round()
plots.plot_matrix(table, list(shares), ["% of the FLOPs", "% of the time"], numbers=True)

# %% [markdown]
# Your second guess: look at the lower four rows. Work that nobody counts takes time that everybody waits for. So FLOPs
# alone do not foretell the clock. What else does?

# %% [markdown]
# ## What the machine can do
#
# Two figures describe a machine well enough to begin with: how many FLOPs it does in a second, and how many bytes it
# brings from memory in a second. Measure both: with a large matrix product, and with a large copy.


# %%
def clock(function, *inputs, repeats=3):
    """The best of a few calls, in seconds; a GPU is waited for, since it only takes orders and goes on"""
    best = math.inf
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function(*inputs)
        if gpu:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


n = 8192 if gpu else 1024
a, b = torch.randn(n, n, device=device), torch.randn(n, n, device=device)
peak = 2 * n**3 / clock(torch.matmul, a, b)  # FLOP/s
source = torch.randn(2**28 if gpu else 2**24, device=device)
target = torch.empty_like(source)
bandwidth = 2 * 4 * source.numel() / clock(target.copy_, source)  # read and written: bytes/s
print(f"matrix product: {peak / 1e9:,.0f} GFLOP/s")
print(f"memory:         {bandwidth / 1e9:,.0f} GB/s")
print(f"in the time of one byte the machine could do {peak / bandwidth:.0f} FLOPs")

# %% [markdown]
# That last figure decides. A layer that does fewer FLOPs with each byte than that waits for memory; one that does more
# waits for arithmetic. FLOPs per byte is called **arithmetic intensity**, and the whole picture is the **roofline**.
#
# ### Exercise · roofline
#
# x (rows, inputs) @ weight (inputs, outputs). Each number of x, of the weight and of the result crosses the memory once,
# `bytes_each` bytes. Return the intensity, and the FLOP/s that can be had: no more than `peak`, and no more than memory can
# feed.


# %%
def roofline(rows, inputs, outputs, bytes_each, peak, bandwidth):
    """whole numbers; peak in FLOP/s, bandwidth in bytes/s -> intensity in FLOP/byte, speed in FLOP/s"""
    ### BEGIN SOLUTION
    flops = 2 * rows * inputs * outputs
    moved = bytes_each * (rows * inputs + inputs * outputs + rows * outputs)
    intensity = flops / moved
    return intensity, min(peak, intensity * bandwidth)
    ### END SOLUTION


# %%
roofline = vit_edu.check("roofline", roofline)

# %% [markdown]
# Now predict, then measure: one matrix, larger than the cache of most processors, and more and
# more rows.

# %%
rows = [1, 4, 16, 64, 256] + [1024, 4096] * gpu
size = 8192 if gpu else 4096
weight = torch.randn(size, size, device=device)
intensities, foreseen, measured = [], [], []
for r in rows:
    x = torch.randn(r, size, device=device)
    intensity, speed = roofline(r, size, size, 4, peak, bandwidth)
    flops, seconds = 2 * r * size**2, clock(F.linear, x, weight, repeats=2)
    intensities.append(round(intensity, 1))
    foreseen.append(speed / 1e9)
    measured.append(flops / seconds / 1e9)
    print(f"{r:4} rows: {1000 * flops / speed:8.2f} ms foreseen, {1000 * seconds:8.2f} ms measured")
curves = {"the roof": foreseen, "measured": measured}
plots.plot_curves(intensities, curves, "FLOPs per byte", "GFLOP/s", log=True)

# %% [markdown]
# Your third guess: 256 times the work, and far from 256 times the time. With one row the machine carries the whole matrix
# in for it alone; further rows ride along. That is why batches pay. (Points above the roof had part of their
# matrix in the cache; points below it met something that we left out.)
#
# And it explains the profile. A GELU reads a number, does a handful of FLOPs and writes one: its intensity is about one.
# Such layers cost their *bytes*.

# %% tags=["nbval-check-output"]
N = 197
print("FLOPs per byte, float32, one picture of 197 tokens, 192 wide:")
print(f"  fc1, 192 -> 768       {roofline(N, 192, 768, 4, 1e30, 1.0)[0]:5.1f}")
print(f"  q kᵀ of a head of 64  {roofline(N, 64, N, 4, 1e30, 1.0)[0]:5.1f}")
print(f"  x + y                 {N * 192 / (3 * 4 * N * 192):5.2f}")

# %% [markdown]
# ## FLOPs of a training step
#
# Your count of lesson 04 gives the way forward. For the way back think of one layer, y = x W. Given the gradient g of y,
#
# $$\frac{\partial L}{\partial W} = x^\top g, \qquad \frac{\partial L}{\partial x} = g\,W^\top:$$
#
# two products of the size of the first. Only the first layer of all is spared one of them: nobody asks for the gradient of
# the pixels.
#
# ### Exercise · training_flops
#
# FLOPs of one training step. You get the multiply-adds of *one* picture's way forward: embedding, one block, head. With
# `recompute` every block runs forward once more before it goes back (why anybody should want that comes later).


# %%
def training_flops(embedding, block, head, depth, batch_size, recompute):
    """multiply-adds of three parts, three more settings -> FLOPs (int)"""
    ### BEGIN SOLUTION
    forward = 2 * batch_size * (embedding + depth * block + head)
    backward = 2 * forward - 2 * batch_size * embedding
    again = 2 * batch_size * depth * block if recompute else 0
    return forward + backward + again
    ### END SOLUTION


# %%
training_flops = vit_edu.check("training_flops", training_flops)

# %%
multiply_adds = vit_edu.mine("multiply_adds")

# %% tags=["nbval-check-output"]
sizes = {"vit_tiny_patch16_224": (192, 12), "vit_base_patch16_224": (768, 12)}
cost = {}
for each, (width, blocks) in sizes.items():
    embedding, head = 196 * 768 * width, width * 1000
    block = multiply_adds(224, 16, 3, width, 2, 4, 1000) - multiply_adds(224, 16, 3, width, 1, 4, 1000)
    cost[each] = embedding, block, head
    with torch.device("meta"), FlopCounterMode(display=False) as counter:  # shapes only: nothing is computed
        logits = vit_edu.create_model(each, attention=PlainAttention)(torch.empty(2, 3, 224, 224))
        forward = counter.get_total_flops()
        logits.sum().backward()
    mine = training_flops(*cost[each], blocks, 2, recompute=False)
    print(f"{each:22} {mine / 2e9:6.1f} GFLOP a picture, equal to torch's count: {mine == counter.get_total_flops()}")
    print(f"{'':22} {mine / forward:.2f} times the way forward")

# %% [markdown]
# Your first guess: three times, less a crumb. Now foretell the clock, as if all were one large matrix product.

# %%
parts = cost[name]
forward_flops = 2 * batch * (parts[0] + depth * parts[1] + parts[2])
step_flops = training_flops(*parts, depth, batch, recompute=False)


def step(model):
    model.zero_grad()
    F.cross_entropy(model(images), labels).backward()


@torch.inference_mode()
def forward_only(model):
    return model(images)


for what, flops, run in (("forward", forward_flops, forward_only), ("training", step_flops, step)):
    seconds = clock(run, plain)
    print(f"{what:8}: {1000 * flops / peak:8.1f} ms at least, {1000 * seconds:8.1f} ms measured,", end=" ")
    print(f"{flops / seconds / peak:.0%} of the ceiling")

# %% [markdown]
# The share of the ceiling is what you can still gain. (For models that train on many machines it is called *model FLOPs
# utilisation*.) Where it is low, the profile says why.

# %% [markdown]
# ## What must be kept
#
# A way back needs numbers of the way forward. $x^\top g$ needs x: so every linear layer keeps its input until the gradient
# comes.
#
# ### Exercise · kept_bytes
#
# The bytes that one encoder block keeps (lesson 03: norm1, qkv, attention, proj, sum, norm2, fc1, GELU, fc2, sum). Leave out
# the parameters, and what is one number for a token or for a head. *Fused* attention keeps q, k, v and its output, and works
# out the weights anew on the way back. Two layers that read the same tensor keep it once.


# %%
def kept_bytes(num_tokens, dim, num_heads, mlp_ratio, batch_size, bytes_each, fused):
    """whole numbers, fused: bool -> bytes (int)"""
    ### BEGIN SOLUTION
    narrow = 1 + 1 + 3 + 1 + 1 + 1  # read by norm1 and qkv; q, k, v; read by proj, norm2 and fc1
    wide = 1 + 1  # read by GELU and by fc2
    stream = (narrow + wide * mlp_ratio) * num_tokens * dim
    weights = 0 if fused else num_heads * num_tokens**2  # the result of softmax
    return batch_size * bytes_each * (stream + weights)
    ### END SOLUTION


# %%
kept_bytes = vit_edu.check("kept_bytes", kept_bytes)

# %% [markdown]
# PyTorch lets us look: a hook sees each tensor that is put aside. Views of one tensor share their memory, so count memory,
# not tensors.


# %%
def kept_by(model, run, *inputs):
    """The bytes that run(*inputs) puts aside for the way back, the model's parameters left out"""
    found = {}

    def pack(tensor):
        found.setdefault(tensor.untyped_storage().data_ptr(), tensor)  # held, so that no other gets its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run(*inputs)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    return sum(tensor.untyped_storage().nbytes() for place, tensor in found.items() if place not in weights)


# %% tags=["nbval-check-output"]
for attention in (PlainAttention, layers.Attention):
    block = layers.Block(192, 3, attention=attention)
    x = torch.randn(2, 197, 192, requires_grad=True)
    found, is_fused = kept_by(block, block, x), attention is layers.Attention
    mine = kept_bytes(197, 192, 3, 4, 2, 4, is_fused)
    print(f"{'fused' if is_fused else 'plain'}: {mine / 2**20:.2f} MiB by you;", end=" ")
    print(f"hooks find {(found - mine) / (4 * 2 * 197):g} numbers a token more")

# %% [markdown]
# The few that you left out: mean and spread of two norms, and in fused attention one number for each head. All else is
# there, to the byte. Your fourth guess: sixteen tensors of that size, for the one that comes out.
#
# Beside them stand the weights, their gradients and AdamW's two running means: four numbers for each parameter, whatever
# the batch.

# %% tags=["nbval-check-output"]
for batch_size in (1, 64):
    blocks = 12 * kept_bytes(197, 768, 12, 4, batch_size, 4, True) / 2**30
    print(
        f"ViT-B, {batch_size:2} pictures: {4 * 4 * 86_567_656 / 2**30:.1f} GiB for the parameters, {blocks:.1f} GiB kept"
    )

# %% [markdown]
# ## Lever 1: attention that writes nothing down
#
# Plain attention keeps N² numbers a head; fused attention none. Twice the side of a picture, or half the side of its
# patches, is four times the tokens and sixteen times the N²:

# %% tags=["nbval-check-output"]
print("ViT-B, one picture of 224 pixels, float32: MiB kept by one block")
for p in (32, 16, 8, 4):
    N = (224 // p) ** 2 + 1
    with_weights, without = (kept_bytes(N, 768, 12, 4, 1, 4, fused) / 2**20 for fused in (False, True))
    print(f"patches of {p:2}: {N:5} tokens, plain {with_weights:7.1f}, fused {without:6.1f}")

# %% [markdown]
# And time? The FLOPs are the same (going back even more: the weights are computed anew). The bytes are not. So for the
# plain way more and more of the time should go into writing and reading the weights. Measure forward and back:


# %%
def explicit(q, k, v):
    layers.scaled_dot_product_attention(q, k, v)[0].sum().backward()


def kernel(q, k, v):
    F.scaled_dot_product_attention(q, k, v).sum().backward()


for N in [256, 1024] + [4096] * gpu:
    qkv = [torch.randn(1, h, N, 64, device=device, requires_grad=True) for _ in range(3)]
    written = h * N * N * 4 / 2**20
    slow, quick = clock(explicit, *qkv), clock(kernel, *qkv)
    print(f"{N:5} tokens: {written:7.1f} MiB of weights; plain {1000 * slow:7.1f} ms,", end=" ")
    print(f"fused {1000 * quick:7.1f} ms, {slow / quick:.1f} times as fast")
with torch.no_grad():
    difference = (fused(images) - plain(images)).abs().max().item()
print(f"largest difference in the logits of the whole model: {difference:.0e}")

# %% [markdown]
# *More FLOPs in less time*: Dao et al. 2022 chose just that trade, because memory was the bottleneck. The results differ
# by rounding only.

# %% [markdown]
# ## Lever 2: sixteen bits
#
# Half the bytes for each number, and on hardware made for it several times the FLOP/s. `bfloat16` has the range of
# float32 and eight bits of precision; `float16` has more precision and a small range. What each can hold:

# %% tags=["nbval-check-output"]
for x in (1 + 1 / 128, 1 + 1 / 256, 70_000.0, 1e-8):
    row = [f"{torch.tensor(x).to(dtype).item():<12.7g}" for dtype in (torch.float32, torch.bfloat16, torch.float16)]
    print("float32, bfloat16, float16:", *row)

# %% [markdown]
# Gradients are often tiny; in float16 they become zero, unless the loss is scaled up before. That is why bfloat16 has
# become the habit.
#
# `torch.autocast` decides for each operation: products in sixteen bits, the delicate ones in float32.

# %%
block = fused.blocks[0]
with torch.autocast(device.type, torch.bfloat16), torch.no_grad():
    steps = {"the stream": fused.embed(images)}
    steps["norm1"] = block.norm1(steps["the stream"])
    steps["qkv"] = block.attn.qkv(steps["norm1"])
    steps["logits"] = fused(images)
    steps["cross entropy"] = F.cross_entropy(steps["logits"], labels)
for part, x in steps.items():
    print(f"{part:14} {str(x.dtype).removeprefix('torch.')}")
print("the weights stay", fused.head.weight.dtype)

# %% [markdown]
# Predict from the roof: products twice as fast at least where the machine has units for bfloat16, and everything that
# carries bytes twice as fast. A CPU without such units has to convert back and forth, and may be *slower*. Yours:


# %%
def step16(model):
    model.zero_grad()
    with torch.autocast(device.type, torch.bfloat16):
        loss = F.cross_entropy(model(images), labels)
    loss.backward()  # outside: the way back takes the types of the way forward


a16, b16 = a.bfloat16(), b.bfloat16()
product = clock(torch.matmul, a, b) / clock(torch.matmul, a16, b16, repeats=1)
print(f"one large product: {product:.2f} times as fast in bfloat16")
print(f"a training step:   {clock(step, fused) / clock(step16, fused, repeats=1):.2f} times as fast")
kept = [kept_by(fused, run, fused) / 2**20 for run in (step, step16)]
print(f"kept for the way back: {kept[0]:.1f} MiB in float32, {kept[1]:.1f} MiB under autocast")

# %% [markdown]
# Numbers below one mean slower: then stay with float32. Where the product gains much, the step gains less: not all of it is
# products. Memory is saved in any case, though not by half: some tensors stay in float32, and sixteen-bit copies of the
# weights come on top.

# %% [markdown]
# ## Lever 3: compile
#
# A sum, a GELU, a norm one after the other each carry the same tensor in and out. `torch.compile` writes one **kernel**, a
# program that runs in one go, for several of them. It cannot make the matrix products smaller; so the profile says what it can gain at most. It needs a
# C++ compiler and many seconds on a CPU, so it runs here only on a GPU, or when you say so.

# %%
COMPILE = gpu  # True: wait for it

now = profile(fused)
carried = sum(now[kind][1] for kind in ("GELU", "norms", "sums, copies, the rest"))
print(f"At the very most {100 / (100 - carried):.2f} times as fast, if all that is not a product cost nothing.")
if COMPILE:
    try:
        compiled = torch.compile(copy.deepcopy(fused))
        print(f"Measured {clock(forward_only, fused) / clock(forward_only, compiled):.2f} times as fast.")
    except Exception as error:
        print(f"This machine cannot compile: {type(error).__name__}. The lesson goes on without.")

# %% [markdown]
# ## Lever 4: a large batch in small parts
#
# A batch that does not fit goes through in **micro-batches**. `.backward()` *adds* to `.grad`; so after the last part the
# gradient of the whole batch is there, if each part's loss is its share of the whole mean.
#
# ### Exercise · accumulate
#
# Leave in the parameters the gradient of the mean cross entropy over all images, its norm clipped to `max_norm` with
# `nn.utils.clip_grad_norm_`. No more than `micro_batch` pictures may be waiting for their way back at a time; the last part
# may be smaller. In `.grad` are gradients of the step before.


# %%
def accumulate(model, images, labels, micro_batch, max_norm):
    """images (B, ...), labels (B,) -> nothing; p.grad of every parameter p is filled"""
    ### BEGIN SOLUTION
    model.zero_grad()
    for x, y in zip(images.split(micro_batch), labels.split(micro_batch)):
        loss = F.cross_entropy(model(x), y) * len(x) / len(images)  # its share of the mean over all
        loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    ### END SOLUTION


# %%
accumulate = vit_edu.check("accumulate", accumulate)

# %% [markdown]
# The proof, in float64, with ten pictures in parts of four, four and two. And your fifth guess beside it.


# %%
def gradient(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


torch.manual_seed(0)
words = {"img_size": 32, "patch_size": 4, "embed_dim": 48, "depth": 3, "num_heads": 4, "num_classes": 8}
small = vit_edu.create_model("vit_tiny_patch16_224", **words).double()
few, classes = torch.randn(10, 3, 32, 32).double(), torch.randint(8, (10,))
F.cross_entropy(small(few), classes).backward()
whole = gradient(small).clone()

# %% tags=["nbval-check-output"]
accumulate(small, few, classes, 4, 1e9)
print("equal to the whole batch:", torch.allclose(gradient(small), whole, rtol=0, atol=1e-12))
small.zero_grad()
for x, y in zip(few.split(4), classes.split(4)):
    (F.cross_entropy(small(x), y) / 3).backward()
print("the mean of three means: ", torch.allclose(gradient(small), whole, rtol=0, atol=1e-12))

# %% [markdown]
# The two pictures of the last part counted for twice as much as the others. No error is raised, and the loss falls all the
# same. (A well-known training library had [this very mistake](https://huggingface.co/blog/gradient_accumulation) with
# sentences of different lengths, until 2024.)
#
# What does it save? Predict: what a block keeps grows with the pictures that wait, so parts of a fifth keep a fifth.
# Weights and gradients stay. `peak_bytes` counts the tensors that are alive at one time.


# %%
def at_once():
    small.zero_grad()
    F.cross_entropy(small(few), classes).backward()


one, in_parts = peak_bytes(at_once), peak_bytes(accumulate, small, few, classes, 2, 1e9)
print(f"ten at once {one / 2**20:.1f} MiB, two at a time {in_parts / 2**20:.1f} MiB")
print(f"time: {clock(accumulate, small, few, classes, 2, 1e9) / clock(at_once):.2f} times that of the batch")

# %% [markdown]
# ## Lever 5: forget, and compute again
#
# Micro-batches stop at one picture. Then it is time to keep less of each: only what *enters* a block. When the way back
# comes to it, the block runs forward once more. Griewank and Walther 2000 call it **checkpointing**; Chen et al. 2016 brought
# it to deep networks. You know the price already: `training_flops(..., recompute=True)`.
#
# ### Exercise · recompute
#
# Write it yourself. An `autograd.Function` has a way forward, in which nothing is recorded, and a way back of your own.
# `ctx` carries things from one to the other. `backward` returns one thing for each argument of `forward` behind `ctx`: None
# for the function, a gradient for each tensor.


# %%
class Recompute(torch.autograd.Function):
    """Recompute.apply(function, *tensors) gives function(*tensors), and keeps only the tensors"""

    @staticmethod
    def forward(ctx, function, *tensors):
        ### BEGIN SOLUTION
        ctx.function = function
        ctx.save_for_backward(*tensors)
        return function(*tensors)
        ### END SOLUTION

    @staticmethod
    def backward(ctx, gradient):
        ### BEGIN SOLUTION
        tensors = [tensor.detach().requires_grad_() for tensor in ctx.saved_tensors]
        with torch.enable_grad():
            result = ctx.function(*tensors)
        return None, *torch.autograd.grad(result, tensors, gradient)
        ### END SOLUTION


# %%
Recompute = vit_edu.check("recompute", Recompute)

# %% [markdown]
# Put it round every block of a ViT: the block's parameters are handed over as tensors, so that they get gradients.


# %%
class Recomputed(nn.Module):
    """A block that keeps only what enters it"""

    def __init__(self, block):
        super().__init__()
        self.block, self.dim = block, block.dim

    def forward(self, x):
        names, tensors = zip(*self.block.named_parameters())

        def run(x, *given):
            return torch.func.functional_call(self.block, dict(zip(names, given)), (x,))

        return Recompute.apply(run, x, *tensors)


def recomputed(model):
    model = copy.deepcopy(model)
    model.blocks = nn.ModuleList(Recomputed(block) for block in model.blocks)
    return model


# %% tags=["nbval-check-output"]
again = recomputed(small)
F.cross_entropy(again(few), classes).backward()
print("the same gradient:", torch.allclose(gradient(again), whole, rtol=0, atol=1e-12))

# %% [markdown]
# The price and what it buys, on the model of this machine. A step was three ways forward, now it is nearly four.

# %%
for title, model in (("plain", plain), ("fused", fused), ("fused, recomputed", recomputed(fused))):
    model.zero_grad()
    memory = peak_bytes(step, model, device=device) / 2**20
    print(f"{title:18} {memory:8.1f} MiB at most, {1000 * clock(step, model, repeats=2):8.1f} ms a step")
print(f"foreseen: {training_flops(*parts, depth, batch, recompute=True) / step_flops:.2f} times the FLOPs")

# %% [markdown]
# The peak is larger than what is kept, since gradients of the weights and of the stream take room too. PyTorch has the
# same as `torch.utils.checkpoint`; it also puts random numbers back, so that dropout draws the same ones twice.

# %% [markdown]
# ## More than one: two processes
#
# **Data parallel**: each process has the whole model and its own part of the batch, and before the optimizer steps, all
# gradients are added up over the processes. That is *micro-batches side by side*; so what you proved for these must hold
# here as well. The script below is complete. Two copies of it run, and talk through *gloo*, PyTorch's postman for CPUs (on
# GPUs it is NCCL).

# %%
SCRIPT = """
import sys
import torch, torch.distributed as dist, torch.nn.functional as F
import vit_edu

folder, rank = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
job = torch.load(f"{folder}/job.pt")
model = vit_edu.create_model("vit_tiny_patch16_224", **job["words"]).double()
model.load_state_dict(job["weights"])
own = slice(0, 6) if rank == 0 else slice(6, 10)           # uneven parts
images, labels = job["images"][own], job["labels"][own]
loss = F.cross_entropy(model(images), labels) * len(images) / len(job["images"])
loss.backward()
for p in model.parameters():
    dist.all_reduce(p.grad)                                # the sum over all processes, in place
torch.save(torch.cat([p.grad.flatten() for p in model.parameters()]), f"{folder}/gradient{rank}.pt")
dist.destroy_process_group()
"""

with tempfile.TemporaryDirectory() as folder:
    Path(folder, "script.py").write_text(SCRIPT)
    job = {"words": words, "weights": small.state_dict(), "images": few, "labels": classes}
    torch.save(job, f"{folder}/job.pt")
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(vit_edu.__file__).parents[1]), *sys.path])}
    command = [sys.executable, f"{folder}/script.py", folder]
    started = [subprocess.Popen([*command, str(rank)], env=surroundings) for rank in (0, 1)]
    assert [process.wait(timeout=300) for process in started] == [0, 0], "a process has failed; its error is above"
    both = [torch.load(f"{folder}/gradient{rank}.pt") for rank in (0, 1)]
print("both have the same gradient:", torch.equal(*both))
print("equal to one process:       ", torch.allclose(both[0], whole, rtol=0, atol=1e-12))

# %% [markdown]
# Each process weighed its loss with its own pictures: six and four. PyTorch's `DistributedDataParallel` takes the plain mean
# over processes, which is right where all have equally many. Its trick is to begin sending while the way back still
# runs. (The `fit` of lesson 04 does all this on as many processes as `torchrun` starts.)

# %% [markdown]
# ## What the papers say
#
# | here | paper |
# | --- | --- |
# | `roofline` | Williams, Waterman and Patterson 2009, *Roofline* |
# | `kept_bytes` | Korthikanti et al. 2022, *Reducing Activation Recomputation in Large Transformer Models*, equation 1: 34 bytes for each number of the stream are your sixteen tensors in two bytes, and two masks of dropout |
# | fused attention | Dao et al. 2022, *FlashAttention*, algorithm 1; more FLOPs in less time: figure 2, left |
# | a float32 copy of the weights, scaled losses | Micikevicius et al. 2018, *Mixed Precision Training*, sections 3.1 and 3.2 |
# | `Recompute` | Chen et al. 2016, *Training Deep Nets with Sublinear Memory Cost*, section 4 |

# %% [markdown]
# ## What went wrong for other people
#
# - **Measured the first call.** It loads, allocates, chooses kernels. Warm up first, then take a median or the best.
# - **Did not wait.** A GPU takes orders and returns at once. Without `torch.cuda.synchronize()` everything looks quick.
# - **Dropout, run twice.** A block that is computed again draws *other* random numbers, unless somebody restores the state
#   of the generator. PyTorch's `checkpoint` does; the simple `Recompute` does not.
# - **The right line in the wrong place.** `optimizer.step()` inside the loop over micro-batches, gradients clipped before
#   they are complete, one `backward()` of the sum over all parts: each of them runs.

# %% [markdown]
# ## A surprise: the fine-tuning that did nothing
#
# If sixteen bits are good enough for the products, why not keep the *weights* in them? Half the memory once more. Take the
# kit's trained classifier, and fine-tune it gently on the new style of emoji, with AdamW and a learning rate of 0.00001.

# %%
emoji = vit_edu.load_dataset("emoji", "new_style")
pictures, groups = emoji.images[::8].float() / 127.5 - 1, emoji.labels[::8]


def finetune(dtype, steps=8):
    """The share of the weights that have moved"""
    torch.manual_seed(0)
    model = vit_edu.weights.checkpoint("supervised").to(dtype).train()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0)
    for number in range(steps):
        part = slice(8 * number, 8 * number + 8)
        optimizer.zero_grad()
        F.cross_entropy(model(pictures[part].to(dtype)).float(), groups[part]).backward()
        optimizer.step()
    moved = torch.cat([(p != old).flatten() for p, old in zip(model.parameters(), before)])
    return moved.float().mean().item()


for dtype in (torch.float32, torch.bfloat16):
    print(f"{dtype!s:15}: {finetune(dtype):6.1%} of the weights have moved after 8 steps")

# %% [markdown]
# The loss is computed, gradients flow, the optimizer steps, and most weights stay exactly where they were. Your sixth
# guess. A step of 0.00001 is far smaller than the gap between neighbouring numbers of bfloat16 at the size of most
# weights, so these round back to where they were, and the next step begins there again. (The gap shrinks with the
# number: weights near 0 do move.) Many small steps add up to nothing.
#
# ### Exercise · master_steps
#
# The cure: a **master copy** in float32 that takes the steps, and a rounded copy of it that the model works with.


# %%
def master_steps(weight, gradients, lr):
    """weight (n,) bfloat16, gradients: list of (n,) bfloat16, steps w <- w - lr g
    -> weight (n,) bfloat16 for the model, master (n,) float32"""
    ### BEGIN SOLUTION
    master = weight.float()
    for gradient in gradients:
        master = master - lr * gradient.float()
    return master.bfloat16(), master
    ### END SOLUTION


# %%
master_steps = vit_edu.check("master_steps", master_steps)

# %% [markdown]
# A hundred small steps along the real gradient of the trained model, in both ways:

# %%
model = vit_edu.weights.checkpoint("supervised")
F.cross_entropy(model(pictures[:64]), groups[:64]).backward()
slope = gradient(model).bfloat16()
slope = slope / slope.float().abs().mean()  # a step of 0.00001 on the average
start = torch.cat([p.detach().flatten() for p in model.parameters()]).bfloat16()
naive = start.clone()
for _ in range(100):
    naive = naive - 1e-5 * slope
rounded, master = master_steps(start, [slope] * 100, 1e-5)
way = (master - start.float()).norm()
for title, end in (("steps in bfloat16", naive), ("master, rounded", rounded)):
    print(
        f"{title:18} {(end != start).float().mean():6.1%} have moved; off by {(end.float() - master).norm() / way:.0%} of the way"
    )

# %% [markdown]
# The rounded copy is never further away than one rounding, and its master forgets nothing. That is what autocast does by
# leaving the weights in float32.

# %% [markdown]
# ## Two targets, for another day
#
# All levers are yours. Your code runs side by side with the plain model, and what counts is how much better it is,
# *with the same numbers*. On a GPU the tasks are of real size, and there sixteen bits and `torch.compile` are levers too.
#
# ### Target · faster
#
# You get a model fresh from `create_model`, with plain attention (`model.blocks[i].attn` has `qkv`, `proj` and `num_heads`).
# Return a function that gives its answers, as quickly as you can, and records no graph. They may be off by less than a
# thousandth of the logits' norm on a CPU, and by less than a twentieth on a GPU.


# %%
def faster(model):
    """model -> a function, images (B, 3, H, W) -> logits (B, classes) as those of model.eval()"""
    ### BEGIN SOLUTION
    model = copy.deepcopy(model).eval()
    for block in model.blocks:
        block.attn.__class__ = layers.Attention  # same parameters, fused way forward

    def run(images):
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=images.is_cuda):
            return model(images).float()

    return run
    ### END SOLUTION


# %%
faster = vit_edu.target("faster", faster)

# %% [markdown]
# ### Target · lean_step
#
# The gradient of the mean cross entropy, in float32, in the parameters' `.grad`, as `accumulate` leaves it, without
# clipping; off by less than a thousandth of its norm. As little memory as you can, in at most four times the time. No
# lever is enough by itself.


# %%
def lean_step(model, images, labels):
    """images (B, 3, H, W), labels (B,) -> nothing; p.grad of every parameter p is filled"""
    ### BEGIN SOLUTION
    for block in model.blocks:
        block.attn.__class__ = layers.Attention
    model.zero_grad()
    part = max(2, len(images) // 8)
    for x, y in zip(images.split(part), labels.split(part)):
        tokens = model.embed(x)
        for block in model.blocks:
            tokens = checkpoint(block, tokens, use_reentrant=False)
        logits = model.head(model.pool(model.norm(tokens)))
        (F.cross_entropy(logits, y) * len(x) / len(images)).backward()
    ### END SOLUTION


# %%
lean_step = vit_edu.target("lean_step", lean_step)

# %% [markdown]
# ## In five lines
#
# 1. Time is at least FLOPs over peak, and at least bytes over bandwidth; whichever is longer.
# 2. A training step is three ways forward in FLOPs, four with recomputing.
# 3. A block keeps sixteen tensors of N × D, and h tables of N × N unless attention is fused.
# 4. Micro-batches and processes give the gradient of the whole batch if each part weighs what its pictures weigh.
# 5. Sixteen bits for products, float32 for what adds up small things: sums, norms, losses, weights.
#
# ## New words
#
# - **arithmetic intensity**: FLOPs done for each byte that is carried between memory and processor.
# - **roofline**: the FLOP/s that a machine allows at each arithmetic intensity: memory's slope, then the flat peak.
# - **activations**: what layers compute on the way forward; those that the way back needs are kept.
# - **fused attention**: one kernel from q, k, v to the output, which never writes the table of weights down.
# - **mixed precision**: products in sixteen bits, delicate sums and the weights in thirty-two.
# - **bfloat16**: sixteen bits with float32's range and eight bits of precision.
# - **micro-batch**: the part of a batch that goes through the model at one time.
# - **gradient accumulation**: the gradient of a large batch as a sum over micro-batches.
# - **activation checkpointing**: keeping only what enters a block, and computing the rest again on the way back.
# - **data parallel**: each process has the whole model and a part of the batch; gradients are added up.
# - **master weights**: the float32 copy that takes the optimizer's small steps.
#
# **To read:** Dao et al. 2022, *FlashAttention* · Korthikanti et al. 2022, *Reducing Activation Recomputation in Large
# Transformer Models* · Micikevicius et al. 2018, *Mixed Precision Training*.
#
# **Harder, without a check:** make `Recompute` right for dropout: remember the state of the generator on the way forward, and
# put it back for the second one. Then recompute only every other block, and draw memory over FLOPs for all choices.
#
# **Next:** a project of your own, from the [capstone](../docs/capstone.md); or go back to
# [04 · ViT](04_vision_transformer.ipynb), set `FETCH`, and make ViT-B answer faster.
