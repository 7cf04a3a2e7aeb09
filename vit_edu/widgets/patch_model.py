"""What PatchExplorer asks a model: how like its positions are, and what it sees when patches are moved."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit_edu.explain import evaluating
from vit_edu.images import batch_bytes
from vit_edu.layers import PatchEmbed, patchify, unpatchify
from vit_edu.models import VisionTransformer

SHARES = (0, 25, 50, 100)  # per cent of the patches that are moved
MOST_PATCHES = 4096  # more would be drawn smaller than a pixel
DRAWN = torch.randperm(MOST_PATCHES, generator=torch.Generator().manual_seed(0))  # one order, the same for every image


def drawn(N: int) -> Tensor:
    """The order, int64 (N,), in which N patches are drawn to be moved."""
    return DRAWN[DRAWN < N]


def shuffle(N: int, share: int) -> Tensor:
    """Which of N patches stands at each place, int64 (N,), when `share` % of them, drawn in turn, change their places:
    each goes to the place of the next, so that none stays."""
    moved, order = drawn(N)[: N * share // 100], torch.arange(N)
    order[moved] = moved.roll(1)
    return order


def cosines(model: VisionTransformer) -> Tensor | None:
    """The cosine of each place's position embedding with each place's, (N, N), class token and registers left out."""
    if model.pos_embed is None:
        return None
    places = F.normalize(model.pos_embed.detach()[0, model.num_prefix_tokens :].float(), dim=1)  # (N, C)
    return places @ places.T


@torch.no_grad()
def ask(model: VisionTransformer, image: Tensor) -> Tensor:
    """What the model says to the image, uint8 (C, H, W), with each of SHARES moved: (2, shares, classes).

    First the patches of the picture are moved, under positions that stay; then the tokens, with the positions that they
    have by then. Probabilities; of a model without a head (num_classes=0) the cosine of its feature with that of the
    unmoved picture, as (2, shares, 1). The model's modes stay.
    """
    embed, P = model.patch_embed, model.num_prefix_tokens
    patches = patchify(image[None].to(embed.proj.weight) / 127.5 - 1, embed.patch_size)[0]  # (N, C*p*p)
    orders = torch.stack([shuffle(len(patches), share) for share in SHARES]).to(patches.device)  # (shares, N)

    def move(_, inputs):
        x = inputs[0]  # (shares, P+N, D)
        at = orders[..., None].expand(-1, -1, x.shape[-1])
        return torch.cat([x[:, :P], x[:, P:].gather(1, at)], dim=1), *inputs[1:]

    with evaluating(model):
        moved = unpatchify(patches[orders], embed.patch_size, embed.grid_size)  # (shares, C, H, W)
        under = model(moved)
        hook = model.blocks[0].register_forward_pre_hook(move)
        try:
            along = model(moved[:1].expand_as(moved))
        finally:
            hook.remove()
    said = torch.stack([under, along]).float().cpu()  # (2, shares, classes)
    if not said.isfinite().all():
        raise ValueError("What the model says holds NaN or infinity; wanted numbers: load its weights anew.")
    return said.softmax(dim=-1) if model.num_classes else F.cosine_similarity(said, said[:1, :1], dim=-1)[..., None]


def check(model: nn.Module, image: Tensor, patch_size: int | None, classes: list[str] | None) -> list[str]:
    """The names of what the model says, none where it has no head. TypeError or ValueError for what does not fit."""
    if not isinstance(model, VisionTransformer):
        wanted = "wanted a VisionTransformer, such as vit_edu.create_model('vit_tiny_patch16_224')"
        raise TypeError(f"The model is a {type(model).__name__}; {wanted}.")
    embed, named = model.patch_embed, model.num_classes
    if not isinstance(embed, PatchEmbed):
        remedy = "build one with create_model('vit_tiny_patch16_224')"
        raise TypeError(
            f"The model's tokens come from a {type(embed).__name__}; wanted patches of the image: {remedy}."
        )
    batch_bytes(image, (embed.proj.in_channels, *embed.img_size), 1)
    if patch_size not in (None, embed.patch_size):
        remedy = "leave patch_size out"
        raise ValueError(f"patch_size is {patch_size}; wanted the model's own, {embed.patch_size}: {remedy}.")
    if classes is None:
        return [f"class {i}" for i in range(named)]
    if not isinstance(classes, list | tuple) or not all(isinstance(name, str) for name in classes):
        raise TypeError("classes is no list of str; wanted names, as in ['a dog', 'a cat'].")
    if len(classes) != named:
        remedy = "give one name for each logit, or leave classes out"
        raise ValueError(f"{len(classes)} classes for a model with num_classes={named}; wanted {named}: {remedy}.")
    return list(classes)
