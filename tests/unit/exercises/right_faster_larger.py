"""Right answers of lesson 11 written in other ways; each must pass."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def seconds_first(rows, inputs, outputs, bytes_each, peak, bandwidth):
    """From the time that each needs."""
    flops = 2.0 * rows * inputs * outputs
    numbers = sum(a * b for a, b in ((rows, inputs), (inputs, outputs), (outputs, rows)))
    computing, fetching = flops / peak, bytes_each * numbers / bandwidth
    return flops / (bytes_each * numbers), flops / max(computing, fetching)


def by_reciprocals(rows, inputs, outputs, bytes_each, peak, bandwidth):
    intensity = 2 / (bytes_each * (1 / outputs + 1 / rows + 1 / inputs))
    return [intensity, peak if intensity > peak / bandwidth else intensity * bandwidth]


def with_numpy(rows, inputs, outputs, bytes_each, peak, bandwidth):
    moved = np.dot([rows, inputs, outputs], [inputs, outputs, rows]) * bytes_each
    intensity = 2 * rows * inputs * outputs / moved
    return intensity, np.minimum(peak, intensity * bandwidth)


def six_for_each(embedding, block, head, depth, batch_size, recompute):
    return batch_size * (4 * embedding + (8 if recompute else 6) * depth * block + 6 * head)


def product_by_product(embedding, block, head, depth, batch_size, recompute):
    total = 0
    for number, part in enumerate([embedding, *[block] * depth, head]):
        forward = 2 * part * batch_size
        total += forward  # forward
        total += forward  # the gradient of the matrix
        total += forward if number else 0  # the gradient of the input
        total += forward if recompute and 0 < number <= depth else 0
    return total


def tensor_by_tensor(num_tokens, dim, num_heads, mlp_ratio, batch_size, bytes_each, fused):
    narrow, wide, table = (num_tokens, dim), (num_tokens, mlp_ratio * dim), (num_heads, num_tokens, num_tokens)
    kept = {"x": narrow, "norm1": narrow, "q": narrow, "k": narrow, "v": narrow, "merged": narrow, "x'": narrow}
    kept |= {"norm2": narrow, "fc1": wide, "gelu": wide}
    if not fused:
        kept["softmax"] = table
    return sum(torch.Size(shape).numel() for shape in kept.values()) * batch_size * bytes_each


def summed_up(num_tokens, dim, num_heads, mlp_ratio, batch_size, bytes_each, fused):
    per_token = dim * 8 + 2 * dim * mlp_ratio + (not fused) * num_heads * num_tokens
    return int(bytes_each * batch_size * num_tokens * per_token)


def by_index(model, images, labels, micro_batch, max_norm):
    for parameter in model.parameters():
        parameter.grad = None
    for start in range(0, len(images), micro_batch):
        part = slice(start, start + micro_batch)
        F.cross_entropy(model(images[part]), labels[part], reduction="sum").div(len(images)).backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    for parameter in model.parameters():
        parameter.grad.mul_(min(1.0, max_norm / (norm.item() + 1e-6)))


def summed_then_divided(model, images, labels, micro_batch, max_norm):
    """The mean only at the end, as DeepSpeed may do it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.zero_grad()
    criterion = nn.CrossEntropyLoss(reduction="sum")
    for x, y in zip(torch.split(images, micro_batch), torch.split(labels, micro_batch)):
        criterion(model(x), y).backward()
    for parameter in model.parameters():
        parameter.grad /= len(images)
    torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)


def with_autograd_grad(model, images, labels, micro_batch, max_norm):
    """.grad is never used on the way."""
    total, pictures = None, len(images)
    while len(images):
        loss = F.cross_entropy(model(images[:micro_batch]), labels[:micro_batch], reduction="none").sum()
        found = torch.autograd.grad(loss, list(model.parameters()))
        total = found if total is None else [a + b for a, b in zip(total, found)]
        images, labels = images[micro_batch:], labels[micro_batch:]
    for parameter, gradient in zip(model.parameters(), total):
        parameter.grad = gradient / pictures
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)


def mean_so_far(model, images, labels, micro_batch, max_norm):
    """What is there is weighed down before each part comes in; all go forward first, unrecorded."""
    with torch.no_grad():
        model(images)
    model.zero_grad()
    done = 0
    for x, y in reversed(list(zip(images.split(micro_batch), labels.split(micro_batch)))):
        for parameter in model.parameters():
            parameter.grad = None if parameter.grad is None else parameter.grad * done / (done + len(x))
        logits, done = model(x), done + len(x)
        logits.backward((logits.softmax(-1) - F.one_hot(y, logits.shape[-1])).detach() / done)
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)


def one_more_by_one(model, images, labels, micro_batch, max_norm):
    """Picture by picture: slow, and right."""
    model.zero_grad(set_to_none=False)
    for n in range(len(labels)):
        (F.cross_entropy(model(images[n : n + 1]), labels[n : n + 1]) / len(labels)).backward()
    nn.utils.clip_grad_norm_(list(model.parameters()), max_norm=max_norm)


class KeptOnTheSide(torch.autograd.Function):
    """Inputs on ctx itself, backward() for grad()."""

    @staticmethod
    def forward(ctx, function, x, W, V):
        ctx.function, ctx.inputs = function, (x, W, V)
        with torch.no_grad():
            return function(x, W, V)

    @staticmethod
    def backward(ctx, gradient):
        x, W, V = (tensor.detach().clone().requires_grad_() for tensor in ctx.inputs)
        with torch.enable_grad():
            ctx.function(x, W, V).backward(gradient)
        return None, x.grad, W.grad, V.grad


class WithVjp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, function, *tensors):
        ctx.run = function
        ctx.save_for_backward(*tensors)
        return function(*(tensor.detach() for tensor in tensors))

    @staticmethod
    def backward(ctx, gradient):
        with torch.enable_grad():
            found = torch.autograd.functional.vjp(ctx.run, ctx.saved_tensors, gradient)[1]
        return None, *found


class WithFuncVjp(torch.autograd.Function):
    """As torch.func has it, and forward without ctx."""

    @staticmethod
    def forward(function, *tensors):
        return function(*tensors)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.function, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, gradient):
        _, back = torch.func.vjp(ctx.function, *ctx.saved_tensors)
        return None, *back(gradient)


class DotWithTheGradient(torch.autograd.Function):
    """The gradient of (result · gradient), a number."""

    @staticmethod
    def forward(ctx, function, *tensors):
        ctx.save_for_backward(*tensors)
        ctx.function = function
        return function(*tensors)

    @staticmethod
    @torch.enable_grad()
    def backward(ctx, gradient):
        tensors = [tensor.detach().requires_grad_(True) for tensor in ctx.saved_tensors]
        (ctx.function(*tensors) * gradient).sum().backward()
        return (None, *[tensor.grad for tensor in tensors])


def in_place_master(weight, gradients, lr):
    master = weight.detach().clone().to(torch.float32)
    with torch.no_grad():
        for gradient in gradients:
            master.sub_(gradient.to(torch.float32), alpha=lr)
    return master.to(torch.bfloat16), master


def with_an_optimizer(weight, gradients, lr):
    master = torch.nn.Parameter(weight.detach().float())
    optimizer = torch.optim.SGD([master], lr=lr)
    for gradient in gradients:
        master.grad = gradient.detach().float()
        optimizer.step()
    return master.detach().bfloat16(), master.detach()


def all_steps_at_once(weight, gradients, lr):
    master = weight.to(torch.float32) - lr * torch.stack([g.float() for g in gradients]).sum(dim=0)
    return master.type(torch.bfloat16), master


RIGHT = {
    "roofline": [seconds_first, by_reciprocals, with_numpy],
    "training_flops": [six_for_each, product_by_product],
    "kept_bytes": [tensor_by_tensor, summed_up],
    "accumulate": [by_index, summed_then_divided, with_autograd_grad, mean_so_far, one_more_by_one],
    "recompute": [KeptOnTheSide, WithVjp, WithFuncVjp, DotWithTheGradient],
    "master_steps": [in_place_master, with_an_optimizer, all_steps_at_once],
}
