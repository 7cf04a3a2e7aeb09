"""Right answers of lesson 09 written in other ways; each must pass."""

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import nn


def as_the_authors_mask(noise, mask_ratio):
    N, L = noise.shape
    len_keep = int(L * (1 - mask_ratio))
    ids_shuffle = torch.argsort(noise, dim=1)
    ids_restore = torch.argsort(ids_shuffle, dim=1)
    mask = torch.ones([N, L], device=noise.device)
    mask[:, :len_keep] = 0
    return ids_shuffle[:, :len_keep], ids_restore, torch.gather(mask, dim=1, index=ids_restore)


def masked_by_scatter(noise, mask_ratio):
    B, N = noise.shape
    order = noise.sort(dim=-1).indices
    keep = order[:, : int(N - N * mask_ratio)]
    restore = torch.empty_like(order).scatter_(1, order, torch.arange(N).expand(B, N))
    return keep, restore, torch.ones_like(noise).scatter(1, keep, 0.0)


def masked_by_ranks(noise, mask_ratio):
    """The place of a patch is the number of patches with less noise."""
    K = math.floor(noise.shape[1] * (1 - mask_ratio))
    restore = (noise[:, None, :] < noise[:, :, None]).sum(dim=-1)
    keep = noise.topk(K, dim=1, largest=False).indices
    return [keep, restore, restore >= K]


def masked_in_numpy(noise, mask_ratio):
    order = np.argsort(noise.numpy(), axis=1)
    restore, K = np.argsort(order, axis=1), int((1 - mask_ratio) * order.shape[1])
    return torch.from_numpy(order[:, :K].copy()), torch.from_numpy(restore), torch.from_numpy(restore >= K)


def masked_in_loops(noise, mask_ratio):
    keep, restore, mask = [], [], []
    for row in noise.tolist():
        order = sorted(range(len(row)), key=row.__getitem__)
        kept = order[: int(len(row) * (1 - mask_ratio))]
        keep.append(kept)
        restore.append([order.index(n) for n in range(len(row))])
        mask.append([0.0 if n in kept else 1.0 for n in range(len(row))])
    return torch.tensor(keep), torch.tensor(restore), torch.tensor(mask)


def as_the_authors_unshuffle(x, mask_token, ids_restore):
    mask_tokens = mask_token.repeat(x.shape[0], ids_restore.shape[1] + 1 - x.shape[1], 1)
    x_ = torch.cat([x[:, 1:, :], mask_tokens], dim=1)
    x_ = torch.gather(x_, dim=1, index=ids_restore.unsqueeze(-1).repeat(1, 1, x.shape[2]))
    return torch.cat([x[:, :1, :], x_], dim=1)


def one_mask_token_a_picture(x, mask_token, ids_restore):
    """Everything that is removed reads the same last row."""
    row = torch.cat([x, mask_token.expand(len(x), 1, -1)], dim=1)  # (B, 1+K+1, D)
    place = (ids_restore + 1).clamp(max=x.shape[1])
    place = F.pad(place, (1, 0))
    return row[torch.arange(len(x))[:, None], place]


def placed_by_scatter(x, mask_token, ids_restore):
    B, N = ids_restore.shape
    D, K = x.shape[-1], x.shape[1] - 1
    out = mask_token.repeat(B, N, 1)
    home = ids_restore.argsort(dim=1)[:, :K]
    out = out.scatter(1, repeat(home, "b k -> b k d", d=D), x[:, 1:])
    return torch.cat((x[:, 0, None], out), 1)


def token_by_token(x, mask_token, ids_restore):
    rows = []
    for picture, restore in zip(x, ids_restore.tolist()):
        first, *kept = picture
        rows.append(torch.stack([first, *(kept[k] if k < len(kept) else mask_token[0, 0] for k in restore)]))
    return torch.stack(rows)


def chosen_by_where(x, mask_token, ids_restore):
    K = x.shape[1] - 1
    seen = x[:, 1:].take_along_dim(ids_restore.clamp(max=K - 1).unsqueeze(-1), dim=1)
    return torch.hstack([x[:, :1], torch.where((ids_restore < K)[..., None], seen, mask_token)])


def as_the_authors_loss(pred, target, mask):
    mean = target.mean(dim=-1, keepdim=True)
    var = target.var(dim=-1, keepdim=True)
    target = (target - mean) / (var + 1.0e-6) ** 0.5
    loss = (pred - target) ** 2
    loss = loss.mean(dim=-1)
    return (loss * mask).sum() / mask.sum()


def removed_picked_out(prediction, patches, mask):
    gone = mask.bool()
    prediction, patches = prediction[gone], patches[gone]  # (R, D)
    centred = patches - patches.mean(1, keepdim=True)
    var = centred.square().sum(1, keepdim=True) / (patches.shape[1] - 1)
    return F.mse_loss(prediction, centred * torch.rsqrt(var + 1e-6))


def by_layer_norm(prediction, patches, mask):
    """layer_norm divides by D; a little more eps and a factor make it D - 1."""
    D = patches.shape[-1]
    target = F.layer_norm(patches, (D,), eps=1e-6 * (D - 1) / D) * ((D - 1) / D) ** 0.5
    each = F.mse_loss(prediction, target, reduction="none").mean(-1)
    return torch.sum(each.masked_fill(mask == 0, 0)) / torch.count_nonzero(mask)


def picture_by_picture(prediction, patches, mask):
    total = count = 0
    for said, picture, gone in zip(prediction, patches, mask):
        for answer, patch, one in zip(said, picture, gone):
            if one == 1:
                target = (patch - patch.mean()) / torch.sqrt(torch.var(patch, unbiased=True) + 1e-6)
                total, count = total + ((answer - target) ** 2).mean(), count + 1
    return total / count


def by_weights(prediction, patches, mask):
    var, mean = torch.var_mean(patches, dim=2, keepdim=True)
    wrong = (prediction - (patches - mean) / (var + 1e-6).sqrt()).pow(2)
    weights = mask / mask.sum()
    return torch.einsum("bnd,bn->", wrong, weights) / patches.size(2)


def as_the_authors_dino(student, teacher, center, student_temp=0.1, teacher_temp=0.04):
    student_out = [s / student_temp for s in student]
    teacher_out = [F.softmax((t - center) / teacher_temp, dim=-1).detach() for t in teacher]
    total_loss, n_loss_terms = 0, 0
    for iq, q in enumerate(teacher_out):
        for v in range(len(student_out)):
            if v == iq:
                continue
            loss = torch.sum(-q * F.log_softmax(student_out[v], dim=-1), dim=-1)
            total_loss += loss.mean()
            n_loss_terms += 1
    return total_loss / n_loss_terms


def all_pairs_at_once(student, teacher, center, student_temp=0.1, teacher_temp=0.04):
    with torch.no_grad():
        p = ((torch.stack(teacher) - center) / teacher_temp).softmax(-1)  # (T, B, K)
    log_q = (torch.stack(student) / student_temp).log_softmax(-1)  # (V, B, K)
    table = -torch.einsum("tbk,vbk->tv", p, log_q) / p.shape[1]
    others = ~torch.eye(*table.shape, dtype=torch.bool)
    return table[others].mean()


def by_cross_entropy(student, teacher, center, student_temp=0.1, teacher_temp=0.04):
    total = torch.zeros((), dtype=center.dtype)
    for i, told in enumerate(teacher):
        target = torch.softmax((told.data - center) / teacher_temp, 1)
        for said in student[:i] + student[i + 1 :]:
            total = total + F.cross_entropy(said / student_temp, target)
    return total / (len(teacher) * (len(student) - 1))


def by_logsumexp(student_logits, teacher_logits, center, student_temp=0.1, teacher_temp=0.04):
    losses = []
    for i in range(len(teacher_logits)):
        sharp = (teacher_logits[i].detach() - center) / teacher_temp
        p = (sharp - sharp.logsumexp(1, keepdim=True)).exp()
        for j in range(len(student_logits)):
            if i != j:
                s = student_logits[j] / student_temp
                losses.append((s.logsumexp(1) - (p * s).sum(1)).mean())  # p sums to 1
    return torch.stack(losses).mean()


def dino_step_short(student, teacher, crops, center):
    said = list(map(student, crops))
    with torch.no_grad():
        told = list(map(teacher, crops[:2]))
        new = center * 0.9 + torch.cat(told).mean(0) * 0.1
    return as_the_authors_dino(said, told, center), new


def dino_step_with_stack(student, teacher, crops, center):
    large = crops[0], crops[1]
    told = torch.stack([teacher(x).detach() for x in large])  # (2, B, K)
    loss = by_cross_entropy([student(x) for x in crops], list(told), center)
    return loss, torch.lerp(center, rearrange(told, "v b k -> (v b) k").mean(dim=0), 0.1)


def dino_step_by_size(student, teacher, crops, center):
    """As the authors: crops of one size go through the network together."""
    B = len(crops[0])
    said = student(torch.cat(crops[:2])).chunk(2)
    if len(crops) > 2:
        said = (*said, *student(torch.cat(crops[2:])).split(B))
    told = teacher(torch.cat(crops[:2])).detach()
    batch_center = torch.sum(told, dim=0, keepdim=True) / len(told)
    return all_pairs_at_once(said, told.chunk(2), center), (center * 0.9 + batch_center * (1 - 0.9)).squeeze(0)


def ema_of_data(teacher, student, momentum):
    for t, s in zip(teacher.parameters(), student.parameters()):
        t.data = t.data * momentum + s.data * (1 - momentum)


def ema_of_states(teacher, student, momentum):
    theirs = student.state_dict()
    teacher.load_state_dict(
        {name: momentum * x + (1 - momentum) * theirs[name] for name, x in teacher.state_dict().items()}
    )


@torch.no_grad()
def ema_by_lerp(teacher, student, momentum):
    for name, parameter in student.named_parameters():
        teacher.get_parameter(name).lerp_(parameter, 1 - momentum)


def ema_by_copy(teacher, student, momentum):
    for old, new in zip(teacher.parameters(), student.parameters()):
        old.copy_(momentum * old + (1 - momentum) * new.detach())


def ema_as_one_vector(teacher, student, momentum):
    with torch.no_grad():
        old, new = (nn.utils.parameters_to_vector(network.parameters()) for network in (teacher, student))
        nn.utils.vector_to_parameters(momentum * old + (1 - momentum) * new, teacher.parameters())


def ema_all_at_once(teacher, student, momentum):
    with torch.no_grad():
        torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - momentum)


def ema_through_a_copy(teacher, student, momentum):
    before = copy.deepcopy(teacher)
    teacher.load_state_dict(student.state_dict())
    with torch.no_grad():
        for t, old in zip(teacher.parameters(), before.parameters()):
            t -= momentum * (t - old)
    return teacher


RIGHT = {
    "random_masking": [as_the_authors_mask, masked_by_scatter, masked_by_ranks, masked_in_numpy, masked_in_loops],
    "insert_mask_tokens": [
        as_the_authors_unshuffle,
        one_mask_token_a_picture,
        placed_by_scatter,
        token_by_token,
        chosen_by_where,
    ],
    "mae_loss": [as_the_authors_loss, removed_picked_out, by_layer_norm, picture_by_picture, by_weights],
    "dino_loss": [as_the_authors_dino, all_pairs_at_once, by_cross_entropy, by_logsumexp],
    "dino_step": [dino_step_short, dino_step_with_stack, dino_step_by_size],
    "update_teacher": [
        ema_of_data,
        ema_of_states,
        ema_by_lerp,
        ema_by_copy,
        ema_as_one_vector,
        ema_all_at_once,
        ema_through_a_copy,
    ],
}
