"""Bad input: one sentence with what was found, what is wanted, and what to do."""

import torch
from torch import Tensor


def wrong(found: str, wanted: str, remedy: str, error: type[Exception] = ValueError) -> Exception:
    return error(f"{found} found, wanted {wanted}; {remedy}.")


def check_float(name: str, x: Tensor) -> None:
    if not x.is_floating_point():
        raise wrong(f"{name} of {x.dtype}", "a float dtype", f"use {name}.float(), / 255 for pixels", TypeError)


def check_tokens(tokens: Tensor, dim: int) -> None:
    if tokens.ndim != 3 or tokens.shape[-1] != dim:
        remedy = "add the batch with tokens[None], or build the layer with dim equal to the last size"
        raise wrong(f"tokens of shape {tuple(tokens.shape)}", f"(B, N, {dim})", remedy)
    check_float("tokens", tokens)


def check_heads(dim: int, num_heads: int) -> None:
    if num_heads < 1 or dim < 1 or dim % num_heads:
        raise wrong(f"dim={dim} with num_heads={num_heads}", "a num_heads that divides dim", "change one of the two")


def check_qkv(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> None:
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        found = f"q {tuple(q.shape)}, k {tuple(k.shape)} and v {tuple(v.shape)}"
        remedy = "give q and k one width, k and v one number of tokens"
        raise wrong(found, "(..., N_q, d), (..., N_k, d) and (..., N_k, d_v)", remedy)
    for name, x in (("q", q), ("k", k), ("v", v)):
        check_float(name, x)
    if mask is not None and mask.dtype != torch.bool:
        remedy = "use mask.bool(), or mask == 0 for one that is added to the scores"
        raise wrong(f"a mask of {mask.dtype}", "torch.bool, True = may attend", remedy, TypeError)


def check_images(images: Tensor, in_chans: int) -> None:
    check_rank(images)
    if images.shape[1] != in_chans:
        remedy = f"put the channels second, or build the layer with in_chans={images.shape[1]}"
        raise wrong(f"images of shape {tuple(images.shape)}", f"(B, {in_chans}, H, W)", remedy)
    check_float("images", images)


def check_rank(images: Tensor) -> None:
    if images.ndim != 4:
        raise wrong(f"images of shape {tuple(images.shape)}", "(B, C, H, W)", "make one image a batch with image[None]")
