"""Exercise of lesson 09: what MAE minimises. Source: He et al. 2022, section 3, "Reconstruction target"."""

import torch
from torch import Tensor

from vit_edu import models
from vit_edu.exercises.core import Draw, Exercise
from vit_edu.models.mae import patch_statistics


def mae_loss(prediction: Tensor, patches: Tensor, mask: Tensor) -> Tensor:
    """The removed patches' mean squared error: prediction and patches (B, N, D), mask (B, N), 1 = removed -> ().

    Each patch is first brought to mean 0 and (unbiased) variance 1.
    """
    mean, std = patch_statistics(patches)
    return models.mae_loss(prediction, (patches - mean) / std, mask)


def painted(draw: Draw):
    """Sharp patches, plain ones and nearly plain ones: only these tell where the small number stands."""
    for B, N, D, K in ((1, 2, 3, 1), (1, 3, 4, 2), (2, 5, 6, 2), (3, 8, 12, 2), (2, 7, 5, 4), (2, 6, 9, 1)):
        mask = torch.stack([torch.randperm(N, generator=draw.generator) >= K for _ in range(B)]).double()
        patches = 3 * draw.normal(B, N, D) + draw.normal(B, N, 1)
        if N in (5, 8):
            first = mask[0].argmax()  # a removed patch of the first picture
            patches[0, first] = 0.5 + (0.001 * patches[0, first] if N == 5 else 0)
        yield draw.normal(B, N, D), patches, mask


loss = Exercise(
    "mae_loss",
    lesson="09",
    points=3,
    reference=mae_loss,
    cases=painted,
    returns="loss",
    call=lambda mine, prediction, *given: mine(prediction, *(x.detach() for x in given)),  # these two are data
    ready_made=(models.mae_loss, patch_statistics),
    hints=(
        "Three things, one after the other: what is to be painted (every patch by itself brought to mean 0 and "
        "variance 1), how far off each patch is, and the mean over those patches that were removed.",
        "patches (B, N, D) → mean and variance of each patch (B, N, 1) → target (B, N, D). Squared error, mean over D: "
        "(B, N). Times mask (B, N), summed, over the number of removed patches: ().",
        "mean = patches.mean(dim=-1, keepdim=True)\nvar = patches.var(dim=-1, keepdim=True)\n"
        "target = (patches - mean) / (var + 1e-6) ** ...\nerror = ((prediction - target) ** 2).mean(dim=...)\n"
        "return (error * mask).sum() / ...",
    ),
)


def normed(patches, dim=-1, correction=1, inside=1e-6, outside=0.0, power=0.5, shift=1):
    mean, var = patches.mean(dim, keepdim=True), patches.var(dim, keepdim=True, correction=correction)
    return (patches - shift * mean) / ((var + inside) ** power + outside)


@loss.recipe
def mae_loss_in_steps(
    prediction,
    patches,
    mask,
    *,
    target=normed,
    said=lambda prediction: prediction,
    error=lambda difference: (difference**2).mean(dim=-1),
    over=lambda error, mask: (error * mask).sum() / mask.sum(),
):
    return over(error(said(prediction) - target(patches.detach())), mask.detach())


loss.mistake(
    "loss on the visible patches",
    "You ask about the patches that the encoder has seen. To copy what one sees, one need understand nothing. Where is "
    "the mask 1?",
    over=lambda error, mask: (error * (1 - mask)).sum() / (1 - mask).sum(),
)
loss.mistake(
    "loss on all patches",
    "You average over all patches; the mask is not used. Which ones are a question, and which a copy?",
    over=lambda error, mask: error.mean(),
)
loss.mistake(
    "divided by all patches",
    "You sum over the removed patches and divide by the number of all. With another mask_ratio the same errors would "
    "give another loss. How many were removed?",
    over=lambda error, mask: (error * mask).mean(),
)
loss.mistake(
    "a sum over the removed patches",
    "Your loss grows with the number of removed patches. What makes a mean of a sum?",
    over=lambda error, mask: (error * mask).sum(),
)
loss.mistake(
    "no per-patch normalisation",
    "You compare with the pixels as they are. Then bright and dark decide, and detail hardly counts. What is done to "
    "each patch first?",
    target=lambda patches: patches,
)
loss.mistake(
    "normalised over the whole picture",
    "You take one mean and one variance for all patches of a picture. Each patch has its own.",
    target=lambda patches: normed(patches, dim=(1, 2)),
)
loss.mistake(
    "normalised across the patches",
    "You take the mean of pixel j over all patches. Which axis holds the pixels of one patch?",
    target=lambda patches: normed(patches, dim=1),
)
loss.mistake(
    "biased variance",
    "You divide by the number of pixels; published models divide by one less, as var() does when nobody tells it "
    "otherwise. A small difference: check what your call does by default (numpy's does the other).",
    target=lambda patches: normed(patches, correction=0),
)
loss.mistake(
    "eps is forgotten",
    "A plain patch has variance 0, and 0 / 0 is NaN: one such patch and the whole loss is lost. What keeps the "
    "denominator away from 0?",
    target=lambda patches: normed(patches, inside=0.0),
)
loss.mistake(
    "eps beside the root, not inside",
    "You add the small number to the standard deviation; published models add it to the variance. For nearly plain "
    "patches that makes a difference.",
    target=lambda patches: normed(patches, inside=0.0, outside=1e-6),
)
loss.mistake(
    "divided by the variance",
    "You divide by the variance. Its unit is that of squared pixels: what brings it back to pixels?",
    target=lambda patches: normed(patches, power=1),
)
loss.mistake(
    "the mean is not taken off",
    "You divide by the deviation, but the patch's mean is still in. What should its mean be?",
    target=lambda patches: normed(patches, shift=0),
)
loss.mistake(
    "only the mean is taken off",
    "Your patches have mean 0, and still their own contrast: loud patches decide. What brings all to the same "
    "variance?",
    target=lambda patches: patches - patches.mean(dim=-1, keepdim=True),
)
loss.mistake(
    "the prediction is normalised as well",
    "You bring the model's answer to mean 0 and variance 1 too. Then it may say anything times anything: only the "
    "target is prepared, the answer is taken as it is.",
    said=normed,
)
loss.mistake(
    "a sum over the pixels",
    "Your loss grows with the size of a patch: D times too large. Mean over the pixels of a patch.",
    error=lambda difference: (difference**2).sum(dim=-1),
)
loss.mistake(
    "absolute error",
    "You take the absolute difference. This MAE is not the mean absolute error: the paper squares.",
    error=lambda difference: difference.abs().mean(dim=-1),
)
loss.mistake(
    "the root is taken",
    "You take the root of each patch's mean square. The mean of the squares is the loss.",
    error=lambda difference: (difference**2).mean(dim=-1).sqrt(),
)


@loss.invariance("what is said of visible patches does not count")
def visible_is_free(mine, draw):
    prediction, patches, mask = list(painted(draw))[3]
    other = prediction + draw.normal(*prediction.shape) * (1 - mask[..., None])
    return torch.allclose(mine(prediction, patches, mask), mine(other, patches, mask))


@loss.invariance("brighter light or more contrast in a patch is no other question")
def light_is_free(mine, draw):
    prediction, patches, mask = draw.normal(2, 5, 8), draw.normal(2, 5, 8), torch.ones(2, 5).double()
    mask[:, 0] = 0
    brighter = 2 * patches + draw.normal(2, 5, 1)
    return torch.allclose(mine(prediction, patches, mask), mine(prediction, brighter, mask), atol=1e-4)
