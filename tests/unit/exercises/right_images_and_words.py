"""Right answers of lesson 10 written in other ways; each must pass."""

import numpy as np
import torch
import torch.nn.functional as F
from einops import einsum, rearrange


def by_cosine_similarity(image_features, text_features, logit_scale):
    return torch.exp(logit_scale) * F.cosine_similarity(image_features[:, None], text_features[None], dim=-1)


def norms_divided_afterwards(image_features, text_features, logit_scale):
    lengths = torch.outer(image_features.norm(dim=1), text_features.norm(dim=1))
    return image_features @ text_features.t() / lengths / torch.exp(-logit_scale)


def in_einops(image_features, text_features, logit_scale):
    x, y = (z / z.square().sum(-1, keepdim=True).sqrt() for z in (image_features, text_features))
    return einsum(x, y, "b d, t d -> b t") * np.e**logit_scale


def pair_by_pair(image_features, text_features, logit_scale):
    rows = []
    for x in image_features:
        rows.append(torch.stack([x.dot(y) / (torch.linalg.norm(x) * torch.linalg.norm(y)) for y in text_features]))
    return logit_scale.exp().clamp(max=100) * torch.stack(rows)


def scaled_pictures(image_features, text_features, logit_scale):
    """The openai way: the scale comes in with the pictures, under no_grad nothing."""
    image_features = image_features / image_features.norm(dim=1, keepdim=True)
    text_features = text_features / text_features.norm(dim=1, keepdim=True)
    return (logit_scale.exp() * image_features) @ text_features.t()


def by_distance(image_features, text_features, logit_scale):
    """Between vectors of length 1 the squared distance is 2 - 2 cos."""
    x, y = F.normalize(image_features), F.normalize(text_features)
    squared = (x[:, None] - y[None]).square().sum(-1)
    return logit_scale.exp() * (1 - squared / 2)


def loss_by_hand(image_features, text_features, logit_scale):
    table = scaled_pictures(image_features, text_features, logit_scale)
    right = table.diagonal()
    return ((table.logsumexp(1) - right).mean() + (table.logsumexp(0) - right).mean()) / 2


def loss_by_log_softmax(image_features, text_features, logit_scale):
    table = in_einops(image_features, text_features, logit_scale)
    both = table.log_softmax(dim=1) + table.log_softmax(dim=0)
    return -both.diag().sum() / (2 * len(table))


def loss_of_both_tables(image_features, text_features, logit_scale):
    tables = [
        scaled_pictures(image_features, text_features, logit_scale),
        scaled_pictures(text_features, image_features, logit_scale),
    ]
    target = torch.eye(len(image_features), dtype=image_features.dtype)
    return torch.stack([F.cross_entropy(table, target) for table in tables]).mean()


def loss_stacked(image_features, text_features, logit_scale):
    table = scaled_pictures(image_features, text_features, logit_scale)
    labels = torch.arange(len(table)).repeat(2)
    return F.cross_entropy(torch.cat([table, table.T]), labels)


def loss_row_by_row(image_features, text_features, logit_scale):
    """The softmax written out, the largest logit taken off first."""
    table, total = pair_by_pair(image_features, text_features, logit_scale), 0
    for i in range(len(table)):
        for line in (table[i], table[:, i]):
            line = line - line.max()
            total = total + line.exp().sum().log() - line[i]
    return total / len(table) / 2


def sums_for_means(image_features, prompts):
    """The second norm makes a sum as good as a mean."""
    weights = torch.stack([F.normalize(F.normalize(p).sum(0), dim=0) for p in prompts])
    return weights, torch.einsum("bd,kd->bk", F.normalize(image_features), weights).argmax(-1)


def classes_in_a_loop(image_features, prompts):
    weights = []
    for texts in prompts:
        texts = texts / texts.norm(dim=-1, keepdim=True)
        mean = texts.mean(dim=0)
        weights.append(mean / mean.norm())
    weights = torch.stack(weights, dim=1)  # (D, K), as in the published notebook
    logits = 100.0 * (image_features / image_features.norm(dim=-1, keepdim=True)) @ weights
    return weights.T, logits.softmax(dim=-1).topk(1).indices[:, 0]


def one_matrix(image_features, prompts):
    texts = F.normalize(torch.cat(prompts), dim=1)
    owner = torch.cat([torch.full((len(p),), i) for i, p in enumerate(prompts)])
    sums = texts.new_zeros(len(prompts), texts.shape[1]).index_add(0, owner, texts)
    weights = F.normalize(sums, dim=1)
    return weights, rearrange(weights @ image_features.T, "k b -> b k").max(dim=1).indices


def picture_by_picture(image_features, prompts):
    weights, _ = sums_for_means(image_features, prompts)
    best = [max(range(len(weights)), key=lambda k: float(x @ weights[k])) for x in image_features]
    return weights, torch.tensor(best)


def nearest_by_distance(image_features, prompts):
    weights, _ = classes_in_a_loop(image_features, prompts)
    return weights, torch.cdist(F.normalize(image_features, dim=-1), weights).argmin(dim=1)


def recall_by_rank(scores, wanted, k):
    right = scores.gather(1, wanted[:, None])
    return ((scores > right).sum(dim=1) < k).double().mean().item()


def recall_by_argsort(scores, wanted, k):
    order = scores.argsort(dim=-1, descending=True)
    return float((order[:, :k] == wanted.unsqueeze(-1)).sum() / len(wanted))


def recall_by_ranks(scores, wanted, k):
    ranks = (-scores).argsort(1).argsort(1)
    return (ranks[torch.arange(len(wanted)), wanted] < k).float().mean().item()


def recall_in_a_loop(scores, wanted, k):
    hits = 0
    for row, right in zip(scores.tolist(), wanted.tolist()):
        best = sorted(range(len(row)), key=row.__getitem__)[-k:]
        hits += right in best
    return hits / len(wanted)


def recall_in_numpy(scores, wanted, k):
    best = np.argpartition(-scores.numpy(), k - 1, axis=1)[:, :k]
    return np.mean([right in row for row, right in zip(best, wanted.numpy())])


RIGHT = {
    "similarity_logits": [
        *(by_cosine_similarity, norms_divided_afterwards, in_einops, pair_by_pair, scaled_pictures, by_distance)
    ],
    "clip_loss": [loss_by_hand, loss_by_log_softmax, loss_of_both_tables, loss_stacked, loss_row_by_row],
    "zero_shot": [sums_for_means, classes_in_a_loop, one_matrix, picture_by_picture, nearest_by_distance],
    "recall_at_k": [recall_by_rank, recall_by_argsort, recall_by_ranks, recall_in_a_loop, recall_in_numpy],
}
