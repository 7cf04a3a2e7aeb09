"""Bad input: one sentence with what was found, what is wanted, and what to do."""

import torch
from torch import Tensor, nn


def complaint(found: str, wanted: str, remedy: str, error: type[Exception] = ValueError) -> Exception:
    """The error to raise, in the one form that all layers use."""
    return error(f"{found} found, wanted {wanted}; {remedy}.")


def whole(x: object) -> bool:
    """An int, and not True or False."""
    return isinstance(x, int) and not isinstance(x, bool)


def plain(x):
    """Numbers of numpy and torch, one or several, as Python's own; all else as it is."""
    if isinstance(x, tuple | list):
        return tuple(map(plain, x))
    return x.tolist() if hasattr(x, "tolist") else x


def check_float(name: str, x: Tensor) -> None:
    """Any float dtype, else TypeError."""
    if not x.is_floating_point():
        raise complaint(f"{name} of {x.dtype}", "a float dtype", f"use {name}.float(), / 255 for pixels", TypeError)


def check_tokens(tokens: Tensor, dim: int) -> None:
    """Float (B, N, dim), else ValueError or TypeError."""
    if tokens.ndim != 3 or tokens.shape[-1] != dim:
        remedy = "add the batch with tokens[None], or build the layer with dim equal to the last size"
        raise complaint(f"tokens of shape {tuple(tokens.shape)}", f"(B, N, {dim})", remedy)
    check_float("tokens", tokens)


def check_width(x: Tensor, dim: int) -> None:
    """Float (B, ..., dim), else ValueError or TypeError."""
    if x.ndim < 3 or x.shape[-1] != dim:
        remedy = "add the batch with tokens[None], or build the layer with dim equal to the last size"
        raise complaint(f"tokens of shape {tuple(x.shape)}", f"(B, N, {dim}) or (B, H, W, {dim})", remedy)
    check_float("tokens", x)


def check_heads(dim: int, num_heads: int) -> None:
    """num_heads divides dim, else ValueError."""
    if not (whole(dim) and whole(num_heads)) or min(dim, num_heads) < 1 or dim % num_heads:
        found = f"dim={dim} with num_heads={num_heads}"
        raise complaint(found, "a whole num_heads that divides dim", "change one of the two")


def check_at_least(least: int, **counts: int) -> None:
    """Every count is whole and not below `least`, else ValueError."""
    for name, count in counts.items():
        if not whole(count) or count < least:
            raise complaint(f"{name}={count!r}", f"a whole number, {least} or more", f"change {name}")


def check_positive(**numbers: float) -> None:
    """Every number is above 0 and finite, else ValueError."""
    for name, number in numbers.items():
        if not isinstance(number, int | float) or not 0 < number < float("inf"):
            raise complaint(f"{name}={number!r}", "a number above 0", f"change {name}")


def check_free(model: str, taken: set[str], words: dict[str, object]) -> None:
    """None of the words is one that the model gives to its parent itself, else TypeError."""
    for word in taken & words.keys():
        raise complaint(f"{word}={words[word]!r}", f"a word of {model}", f"leave {word} out", TypeError)


def check_each(**counts: tuple[int, ...]) -> None:
    """Every tuple has whole numbers alone, 1 or more, and at least one of them, else ValueError."""
    for name, several in counts.items():
        if not isinstance(several, tuple | list) or not several:
            raise complaint(f"{name}={several!r}", "a tuple of whole numbers", f"change {name}, as in {name}=(2, 2)")
        check_at_least(1, **{f"{name}[{i}]": count for i, count in enumerate(several)})


def check_choice(name: str, value: str, choices: list[str]) -> None:
    """value is one of the choices, else ValueError."""
    if value not in choices:
        raise complaint(f"{name}={value!r}", " or ".join(map(repr, choices)), f"change {name}")


def check_packed(qkv: Tensor, num_heads: int) -> None:
    """(B, N, 3*C) with a num_heads that divides C, else ValueError."""
    if qkv.ndim != 3 or qkv.shape[-1] % 3:
        remedy = "make it with one linear layer of 3*C outputs, and one sequence a batch with qkv[None]"
        raise complaint(f"qkv of shape {tuple(qkv.shape)}", "(B, N, 3*C)", remedy)
    check_heads(int(qkv.shape[-1]) // 3, num_heads)  # a tensor while torch.jit.trace watches


def check_qkv(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> None:
    """q (..., N_q, d), k (..., N_k, d), v (..., N_k, d_v), one float dtype; mask bool. Else ValueError or TypeError."""
    fit = min(q.ndim, k.ndim, v.ndim) >= 2 and q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
    if not fit or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        found = f"q {tuple(q.shape)}, k {tuple(k.shape)} and v {tuple(v.shape)}"
        remedy = "give q and k one width, k and v one number of tokens, all three the same leading sizes"
        raise complaint(found, "(..., N_q, d), (..., N_k, d) and (..., N_k, d_v)", remedy)
    for name, x in (("q", q), ("k", k), ("v", v)):
        check_float(name, x)
    if not q.dtype == k.dtype == v.dtype:
        found = f"q of {q.dtype}, k of {k.dtype} and v of {v.dtype}"
        raise complaint(found, "one dtype", "use k.to(q.dtype) and v.to(q.dtype)", TypeError)
    if mask is not None and mask.dtype != torch.bool:
        remedy = "use mask.bool(), or mask == 0 for one that is added to the scores"
        raise complaint(f"a mask of {mask.dtype}", "torch.bool, True = may attend", remedy, TypeError)


def check_images(
    images: Tensor, in_chans: int, dtype: torch.dtype | None = None, img_size: tuple[int, int] | None = None
) -> None:
    """Float (B, in_chans, H, W), of the weights' `dtype` and of `img_size` where told, else ValueError or TypeError."""
    check_rank(images)
    if images.shape[1] != in_chans:
        remedy = f"put the channels second, or build the layer with in_chans={images.shape[1]}"
        raise complaint(f"images of shape {tuple(images.shape)}", f"(B, {in_chans}, H, W)", remedy)
    check_float("images", images)
    # autocast changes the dtype by itself, but not that of float64
    if dtype not in (None, images.dtype) and (
        images.dtype == torch.float64 or not torch.is_autocast_enabled(images.device.type)
    ):
        remedy = "use images.to(dtype), or model.to(images.dtype)"
        raise complaint(f"images of {images.dtype}", f"{dtype}, that of the weights", remedy, TypeError)
    if img_size not in (None, tuple(images.shape[-2:])):
        remedy = f"resize the images, or build the model with img_size={tuple(images.shape[-2:])}"
        raise complaint(f"images of (H, W) = {tuple(images.shape[-2:])}", f"{img_size}", remedy)


def check_some(images: Tensor) -> None:
    """At least one, since a loss is a mean over them, else ValueError."""
    if images.shape[0] == 0:
        raise complaint("0 images", "1 or more", "leave an empty batch out")


def check_rank(images: Tensor) -> None:
    """(B, C, H, W), else ValueError; TypeError for what is no tensor."""
    if not isinstance(images, Tensor):
        remedy = "make one with torch.as_tensor, of a picture with torchvision's pil_to_tensor"
        raise complaint(f"images of type {type(images).__name__}", "a tensor (B, C, H, W)", remedy, TypeError)
    if images.ndim != 4 or not all(images.shape[1:]):
        remedy = "make one image a batch with image[None]"
        raise complaint(f"images of shape {tuple(images.shape)}", "(B, C, H, W), of which B alone may be 0", remedy)


def check_sides(img_size: int | tuple[int, int]) -> tuple[int, int]:
    """One side or (H, W) -> (H, W), both 1 or more, else ValueError."""
    sides = img_size if isinstance(img_size, tuple | list) else (img_size, img_size)
    if len(sides) != 2 or any(not whole(side) or side < 1 for side in sides):
        raise complaint(f"img_size={img_size!r}", "one side or (H, W), whole and 1 or more", "change img_size")
    return tuple(sides)


def check_kernel(weight: Tensor) -> None:
    """(D, C, p, p), else ValueError."""
    if weight.ndim != 4 or weight.shape[2] != weight.shape[3]:
        remedy = "give a linear layer's weight (D, C*p*p) this shape with weight.view(D, C, p, p)"
        raise complaint(f"a weight of shape {tuple(weight.shape)}", "(D, C, p, p)", remedy)


def check_positions(tokens: Tensor, cls_token: Tensor, pos_embed: Tensor) -> None:
    """(B, N, C), (1, 1, C) and (1, 1+N, C), else ValueError."""
    N, C = tokens.shape[1:] if tokens.ndim == 3 else (-1, -1)  # which fits nothing
    if cls_token.shape != (1, 1, C) or pos_embed.shape != (1, 1 + N, C):
        found = f"tokens {tuple(tokens.shape)}, cls_token {tuple(cls_token.shape)}, pos_embed {tuple(pos_embed.shape)}"
        remedy = "give every token and the class token one position"
        raise complaint(found, "(B, N, C), (1, 1, C), (1, 1+N, C)", remedy)


def check_encoder(encoder: nn.Module) -> None:
    """A model that has features to read, as a VisionTransformer, else TypeError."""
    if not all(hasattr(encoder, name) for name in ("embed_dim", "forward_features", "pool")):
        remedy = "build one with create_model('vit_tiny_patch16_224')"
        raise complaint(f"an encoder of {type(encoder).__name__}", "a VisionTransformer", remedy, TypeError)


def check_builders(**builders: object) -> None:
    """Every one is a class or a function that builds a layer, not a layer that is built, else TypeError."""
    for name, builder in builders.items():
        if not callable(builder) or isinstance(builder, nn.Module):
            found = f"{name} of type {type(builder).__name__}"
            raise complaint(found, "a class or function that builds it", "give MyLayer, not MyLayer(...)", TypeError)


def check_map(x: Tensor, dim: int) -> None:
    """Float (B, H, W, dim), else ValueError or TypeError."""
    if x.ndim != 4 or x.shape[-1] != dim:
        remedy = "put the channels last, or build the layer with dim equal to the last size"
        raise complaint(f"a map of shape {tuple(x.shape)}", f"(B, H, W, {dim})", remedy)
    check_float("x", x)


def check_window(window_size: tuple[int, int], shift_size: tuple[int, int] = (0, 0)) -> None:
    """Two pairs of whole numbers, on both sides 0 <= shift < window, else ValueError."""
    pairs = all(isinstance(size, tuple | list) and len(size) == 2 for size in (window_size, shift_size))
    pairs = pairs and all(map(whole, (*window_size, *shift_size)))
    if not pairs or not all(0 <= shift < window for shift, window in zip(shift_size, window_size)):
        found, wanted = f"{window_size=} with {shift_size=}", "whole pairs (rows, columns) with 0 <= shift < window"
        raise complaint(found, wanted, "(7, 7) with (0, 0) or (3, 3) are the published ones")


def check_grid(grid_size: tuple[int, int], window_size: tuple[int, int]) -> None:
    """A window that divides both sides of a map, else ValueError."""
    check_window(window_size)
    if len(grid_size) != 2 or any(side % window for side, window in zip(grid_size, window_size)):
        found = f"a map of (H, W) = {tuple(grid_size)} with {window_size=}"
        raise complaint(found, "a window that divides both", "pad the map, or change window_size")
