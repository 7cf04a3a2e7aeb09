"""What an image is, for every plot and explorer: one check, one sentence for what is none."""

from os import PathLike

import torch


def image_bytes(image: torch.Tensor, largest_side: int | None = None) -> torch.Tensor:
    """An image as uint8 (C, H, W) on the CPU, C = 1 or 3.

    image: uint8, or float in 0..1; (3, H, W), (1, H, W) or (H, W). Raises TypeError for what is no such tensor,
    ValueError for a shape or values that are no picture, for more than `largest_side` pixels a side, and for a tensor
    that is sparse or on the meta device.
    """
    if not isinstance(image, torch.Tensor):
        raise TypeError(f"The image is a {_kind(image)}; wanted a torch tensor (3, H, W){_remedy(image)}.")
    check_stored("The image", image)
    shape = tuple(image.shape)
    wanted = f"The image has the shape {shape}; wanted (3, H, W), (1, H, W) or (H, W)"
    if image.ndim == 4:
        raise ValueError(f"{wanted}. This is a batch: pass one picture of it, images[0].")
    if image.ndim == 3 and shape[0] not in (1, 3):
        if shape[-1] in (1, 3):
            raise ValueError(f"{wanted}. The channels come first: image.permute(2, 0, 1).")
        if shape[0] == 4:
            raise ValueError(f"{wanted}. A fourth channel is transparency: image[:3] leaves it out.")
    if image.ndim not in (2, 3) or (image.ndim == 3 and shape[0] not in (1, 3)):
        raise ValueError(f"{wanted}.")
    if 0 in shape:
        raise ValueError(f"{wanted}, with pixels. This has none: look for a slice that is empty.")
    if largest_side and max(shape[-2:]) > largest_side:
        raise ValueError(
            f"The image has {shape[-2]} × {shape[-1]} pixels; wanted at most {largest_side} a side. "
            "Make it smaller first: torchvision.transforms.functional.resize(image, 224)."
        )
    image = image.detach().cpu()
    if image.is_floating_point():
        image = image.float()
        if not image.isfinite().all():
            remedy = "Look for a division by 0 where it was made."
            raise ValueError(f"The image holds NaN or infinity; a float image wants 0 to 1. {remedy}")
        low, high = image.min().item(), image.max().item()
        if not (low > -0.001 and high < 1.001):  # room for rounding
            raise ValueError(
                f"The image's values go from {low:.4g} to {high:.4g}; a float image wants 0 to 1. "
                "Divide by 255, undo the normalisation (image * std + mean), or cut off the rest: image.clamp(0, 1)."
            )
        image = (image * 255).round().to(torch.uint8)
    if image.dtype != torch.uint8:
        remedy = "image.float()" if image.dtype is torch.bool else "image.to(torch.uint8), of values from 0 to 255"
        raise TypeError(f"The image's dtype is {image.dtype}; wanted torch.uint8, or a float in 0 to 1: {remedy}.")
    return image.reshape(-1, *shape[-2:]).contiguous()


def check_stored(name: str, x: torch.Tensor) -> None:
    """A tensor with a number in memory for each place, else ValueError."""
    if x.is_meta:
        raise ValueError(f"{name} is on the meta device; wanted numbers: make it on another one, device='cpu'.")
    if x.is_nested or x.layout is not torch.strided:
        kind = "nested" if x.is_nested else str(x.layout).removeprefix("torch.")
        remedy = "take one of its parts, x[0]" if x.is_nested else "x.to_dense() makes one"
        raise ValueError(f"{name} is {kind}; wanted a dense tensor: {remedy}.")


def _kind(thing: object) -> str:
    kind = type(thing)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _remedy(thing: object) -> str:
    """How to make a tensor of it; nothing for what is no picture."""
    if isinstance(thing, str | PathLike):
        return ": torchvision.io.decode_image(path) reads a file"
    if type(thing).__module__.startswith("PIL."):
        return ": torchvision.transforms.functional.pil_to_tensor(image.convert('RGB')) makes one"
    if type(thing).__module__ == "numpy":
        return ": of an (H, W, 3) array torch.from_numpy(array).permute(2, 0, 1) makes one"
    return ""


def batch_bytes(images: torch.Tensor | list[torch.Tensor], shape: tuple[int, int, int], most: int) -> torch.Tensor:
    """One picture or several, all of a model's `shape` (C, H, W), as uint8 (N, C, H, W). Else TypeError, ValueError."""
    if isinstance(images, torch.Tensor):
        check_stored("The tensor of pictures", images)
    several = isinstance(images, list | tuple) or (isinstance(images, torch.Tensor) and images.ndim == 4)
    if several and not 1 <= len(images) <= most:
        raise ValueError(f"{len(images)} pictures; wanted 1 to {most}: pass some of them, as in images[:{most}].")
    images = [image_bytes(image) for image in (images if several else [images])]
    for image in images:
        if tuple(image.shape) != tuple(shape):
            wanted = f"wanted {tuple(shape)} (C, H, W), as the model was built for"
            if image.shape[0] == shape[0]:
                remedy = f"torchvision.transforms.functional.resize(images, {list(shape[1:])}) makes it fit."
            else:
                remedy = "image.expand(3, -1, -1) makes three channels of one, image.float().mean(0) one of three."
            raise ValueError(f"A picture has the shape {tuple(image.shape)}; {wanted}: {remedy}")
    return torch.stack(images)
