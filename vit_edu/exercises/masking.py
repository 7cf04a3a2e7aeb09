"""Exercises of lesson 09: which patches an autoencoder sees, and the way back. Source: He et al. 2022, section 3."""

import math

import torch
from torch import Tensor

from vit_edu import layers
from vit_edu.exercises.core import Draw, Exercise


def uniform(draw: Draw, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=draw.generator, dtype=torch.float64)


def noise_cases(draw: Draw):
    """Several pictures, and numbers of patches that the ratio does not divide."""
    yield torch.tensor([[0.3, 0.9, 0.1, 0.6, 0.4]], dtype=torch.float64), 0.6
    yield uniform(draw, 1, 4), 0.5
    yield uniform(draw, 2, 7), 0.75
    yield uniform(draw, 3, 10), 0.75
    yield uniform(draw, 2, 9), 0.5
    yield uniform(draw, 4, 13), 0.25
    yield uniform(draw, 2, 16), 0.75


def call_masking(mine, noise, mask_ratio):
    """Noise is data, and zeros and ones are a mask whatever their dtype."""
    results = mine(noise.detach(), mask_ratio)
    if isinstance(results, tuple | list) and len(results) == 3 and isinstance(results[2], Tensor):
        results = *results[:2], results[2].float()
    return results


masking = Exercise(
    "random_masking",
    lesson="09",
    points=3,
    reference=layers.random_masking,
    cases=noise_cases,
    returns=("ids_keep", "ids_restore", "mask"),
    call=call_masking,
    hints=(
        "Sorting shuffles: the patch with the smallest noise goes to the front, and so on. You need the order itself "
        "(who stands at place k?) and its inverse (at which place stands patch n?). argsort gives the first. What does "
        "argsort of an argsort give?",
        "noise (B, N) → ids_shuffle (B, N), the first K = int(N · (1 − mask_ratio)) columns of which are ids_keep "
        "(B, K) → ids_restore (B, N). A patch is removed where its place in the shuffled row is K or more: mask (B, "
        "N).",
        "num_keep = int(...)\nids_shuffle = noise.argsort(dim=...)\nids_restore = ...argsort(dim=...)\n"
        "mask = (ids_restore >= ...).float()\nreturn ids_shuffle[:, :num_keep], ids_restore, mask",
    ),
)


@masking.recipe
def masking_in_steps(
    noise,
    mask_ratio,
    *,
    number=lambda N, ratio: int(N * (1 - ratio)),
    order=lambda noise: noise.argsort(dim=1),
    keep=lambda order, K: order[:, :K],
    invert=lambda order, K: order.argsort(dim=1),
    removed=lambda order, K: (order.argsort(dim=1) >= K).float(),
):
    K, ids = number(noise.shape[1], mask_ratio), order(noise)
    return keep(ids, K), invert(ids, K), removed(ids, K)


def in_shuffled_order(order, K):
    mask = torch.ones(order.shape)
    mask[:, :K] = 0
    return mask


masking.mistake(
    "restore is not inverted",
    "Your ids_restore is the shuffle itself: it says who stands at place k. To come back you must know where patch n "
    "has gone. Which order undoes an order?",
    invert=lambda order, K: order,
)
masking.mistake(
    "the mask stays shuffled",
    "Your mask has its zeros in front in every picture: it belongs to the shuffled row. Bring it back into the order "
    "of the picture. What have you just made for that?",
    removed=in_shuffled_order,
)
masking.mistake(
    "the mask is shuffled once more",
    "Your mask was moved by ids_shuffle; in the shuffled row it stood already. Which of the two orders leads back?",
    removed=lambda order, K: in_shuffled_order(order, K).gather(1, order),
)
masking.mistake(
    "mask 1 = kept",
    "Your mask is 1 where a patch is kept. Here 1 means removed, as in the published code, since the loss is summed "
    "where the mask is 1.",
    removed=lambda order, K: (order.argsort(dim=1) < K).float(),
)
masking.mistake(
    "the share that is kept, not removed",
    "You keep as many as are to be removed. With a mask_ratio of 0.75, what is left for the encoder?",
    number=lambda N, ratio: int(N * ratio),
)
masking.mistake(
    "rounded up",
    "You keep one more wherever the ratio does not divide the patches. Published models cut off: int().",
    number=lambda N, ratio: math.ceil(N * (1 - ratio)),
)
masking.mistake(
    "rounded to the nearest",
    "round() is sometimes one more than int(). Published models cut off.",
    number=lambda N, ratio: round(N * (1 - ratio)),
)
masking.mistake(
    "one order for all pictures",
    "In your batch all pictures lose the same patches. Each has a row of noise of its own.",
    order=lambda noise: noise[:1].argsort(dim=1).expand(len(noise), -1),
)
masking.mistake(
    "sorted over the pictures",
    "You sort along the batch. Which axis counts the patches of one picture?",
    order=lambda noise: noise.argsort(dim=0),
)
masking.mistake(
    "the largest noise is kept",
    "Just as random, but not the published choice: small noise stays. With the same noise you must remove the same "
    "patches.",
    order=lambda noise: noise.argsort(dim=1, descending=True),
)
masking.mistake(
    "sorted numbers in place of places",
    "Your orders hold noise. sort() gives the numbers, argsort() the places where they stood.",
    order=lambda noise: noise.sort(dim=1).values,
)
masking.mistake(
    "the removed are returned as kept",
    "Your ids_keep are the patches at the end of the shuffled row. Which end has the small noise?",
    keep=lambda order, K: order[:, K:],
)
masking.mistake(
    "the kept in the order of the picture",
    "You sort ids_keep. Attention would not mind, but ids_restore counts on the order of the noise: what it brings "
    "back would be in wrong places.",
    keep=lambda order, K: order[:, :K].sort(dim=1).values,
)
masking.mistake(
    "the way back for the kept only",
    "Your ids_restore has K columns. Mask tokens stand behind the kept ones and need a way back too.",
    invert=lambda order, K: order.argsort(dim=1)[:, :K],
)
masking.mistake(
    "the removed in another order",
    "What you keep is right and so is its way back, but the removed do not stand behind it in the order of their "
    "noise. The model would not mind, since mask tokens are alike; asked for is the way back of one shuffle for all.",
    invert=lambda order, K: torch.cat([order[:, :K], order[:, K:].sort(dim=1).values], dim=1).argsort(dim=1),
)
masking.mistake(
    "a coin for each patch",
    "You compare each patch's noise with the ratio, so that the number of removed patches is luck. Then pictures keep "
    "different numbers, and a batch of them is no tensor any more.",
    lambda noise, mask_ratio: (*layers.random_masking(noise, mask_ratio)[:2], (noise > 1 - mask_ratio).float()),
)


@masking.invariance("what ids_keep takes and ids_restore brings back stands where it stood, and mask says where")
def there_and_back(mine, draw):
    patches, noise = draw.normal(3, 11, 2), uniform(draw, 3, 11)
    keep, restore, mask = mine(noise, 0.6)
    kept = patches.take_along_dim(keep[:, :, None], dim=1)
    whole = torch.cat([kept, patches.new_zeros(3, 11 - keep.shape[1], 2)], dim=1)
    return torch.allclose(whole.take_along_dim(restore[:, :, None], dim=1), patches * (1 - mask[:, :, None]))


def insert_mask_tokens(x: Tensor, mask_token: Tensor, ids_restore: Tensor) -> Tensor:
    """What MAE's decoder gets: x (B, 1+K, D), mask_token (1, 1, D), ids_restore (B, N) -> (B, 1+N, D)."""
    kept, N = x[:, 1:], ids_restore.shape[1]
    masks = mask_token.expand(len(x), N - kept.shape[1], -1)  # (1, 1, D) -> (B, N-K, D)
    patches = torch.cat([kept, masks], dim=1).take_along_dim(ids_restore[:, :, None], dim=1)  # (B, N, D)
    return torch.cat([x[:, :1], patches], dim=1)  # (B, 1+N, D)


def encoded(draw: Draw):
    for B, N, K, D in ((1, 3, 1, 2), (1, 4, 2, 1), (2, 5, 2, 3), (3, 8, 2, 4), (2, 7, 5, 3)):
        restore = torch.stack([torch.randperm(N, generator=draw.generator) for _ in range(B)])
        if N == 3:
            restore = torch.tensor([[1, 2, 0]])  # its own inverse it is not
        yield draw.normal(B, 1 + K, D), draw.normal(1, 1, D), restore


inserting = Exercise(
    "insert_mask_tokens",
    lesson="09",
    points=2,
    reference=insert_mask_tokens,
    cases=encoded,
    returns="tokens",
    hints=(
        "The class token has no place in the picture: take it off first and put it back last. The rest is a row in "
        "shuffled order with its end missing. What is missing, and how many of them?",
        "x (B, 1+K, D) → kept (B, K, D). Mask tokens (B, N−K, D) behind them: (B, N, D) in shuffled order. Then "
        "ids_restore (B, N, 1), taken along axis 1, brings them home; with the class token (B, 1+N, D).",
        "kept = x[:, 1:]\nmasks = mask_token.expand(B, ..., -1)\nrow = torch.cat([..., ...], dim=1)\n"
        "row = row.take_along_dim(ids_restore[:, :, None], dim=...)\nreturn torch.cat([x[:, :1], row], dim=1)",
    ),
)


@inserting.recipe
def inserting_in_steps(
    x,
    mask_token,
    ids_restore,
    *,
    token=lambda mask_token: mask_token,
    join=lambda kept, masks: torch.cat([kept, masks], dim=1),
    home=lambda row, restore: row.take_along_dim(restore[:, :, None], dim=1),
    finish=lambda first, row: torch.cat([first, row], dim=1),
):
    masks = token(mask_token).expand(len(x), ids_restore.shape[1] - x.shape[1] + 1, -1)
    return finish(x[:, :1], home(join(x[:, 1:], masks), ids_restore))


inserting.mistake(
    "all mask tokens stay at the end",
    "Your patches are still in shuffled order. Each would get the position of another one. What brings them home?",
    home=lambda row, restore: row,
)
inserting.mistake(
    "shuffled once more, not brought back",
    "You move token k *to* ids_restore[k]. ids_restore[n] says where patch n is now: take it *from* there.",
    home=lambda row, restore: row.take_along_dim(restore.argsort(dim=1)[:, :, None], dim=1),
)
inserting.mistake(
    "the way back of the first picture for all",
    "You use one row of ids_restore for the whole batch. Every picture was shuffled by itself.",
    home=lambda row, restore: row[:, restore[0]],
)
inserting.mistake(
    "mask tokens in front of the kept ones",
    "ids_restore counts on the kept patches in front: they had the small noise.",
    join=lambda kept, masks: torch.cat([masks, kept], dim=1),
)
inserting.mistake(
    "nothing in place of the mask token",
    "Your removed patches are zero. The mask token is learned: what it should be, training finds out.",
    token=torch.zeros_like,
)
inserting.mistake(
    "the mask token gets no gradient",
    "The values are right, but the mask token can never learn: .detach(), .data or no_grad stands in its way.",
    token=lambda mask_token: mask_token.detach(),
)
inserting.mistake(
    "the class token is lost",
    "You return N tokens; wanted are 1 + N. Who has left?",
    finish=lambda first, row: row,
)
inserting.mistake(
    "the class token at the end",
    "Your class token is the last. The decoder's positions count on it in front.",
    finish=lambda first, row: torch.cat([row, first], dim=1),
)
inserting.mistake(
    "the class token taken for a patch",
    "You shuffle the class token with the patches: everyone is one place off. ids_restore knows patches only; take the "
    "class token off before.",
    lambda x, mask_token, ids_restore: torch.cat(
        [x, mask_token.expand(len(x), ids_restore.shape[1] + 1 - x.shape[1], -1)], dim=1
    ).take_along_dim(ids_restore[:, :, None], dim=1),
)
inserting.mistake(
    "the class token taken for a patch, and put in front as well",
    "You take the class token off for the end, but leave it in the row that is brought home. Where does x[:, 1:] "
    "belong?",
    lambda x, mask_token, ids_restore: torch.cat(
        [
            x[:, :1],
            torch.cat([x, mask_token.expand(len(x), ids_restore.shape[1], -1)], dim=1).take_along_dim(
                ids_restore[:, :, None], dim=1
            ),
        ],
        dim=1,
    ),
)


@inserting.invariance("with nothing removed, the tokens come back in the order that ids_restore says")
def nothing_removed(mine, draw):
    x, restore = draw.normal(2, 6, 3), torch.stack([torch.randperm(5, generator=draw.generator) for _ in range(2)])
    got = mine(x, draw.normal(1, 1, 3), restore)
    return torch.equal(got[:, 1:], x[:, 1:].take_along_dim(restore[:, :, None], dim=1))
