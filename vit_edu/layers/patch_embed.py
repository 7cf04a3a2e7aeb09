"""From pixels to tokens: Dosovitskiy et al. 2021, section 3.1, the x_p E of equation 1."""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .checks import check_at_least, check_images, check_kernel, check_rank, check_sides, complaint


def grid_of(img_size: tuple[int, int], patch_size: int) -> tuple[int, int]:
    """(H, W) -> (rows, columns) of patches. Raises ValueError where patch_size does not divide both."""
    check_at_least(1, patch_size=patch_size)
    if any(side < 1 or side % patch_size for side in img_size):
        found = f"a size (H, W) of {tuple(img_size)} with patch_size={patch_size}"
        raise complaint(found, "a patch_size that divides both", "resize or crop the image, or change patch_size")
    return img_size[0] // patch_size, img_size[1] // patch_size


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images (B, C, H, W) of any dtype into patches (B, N, C*p*p), row by row, N = H/p * W/p.

    A patch is flattened as (C, p, p), the order of a convolution's weight.
    Raises ValueError for another rank and where patch_size does not divide H and W.
    """
    check_rank(images)
    rows, columns = grid_of(images.shape[-2:], patch_size)
    return rearrange(images, "B C (rows p) (columns q) -> B (rows columns) (C p q)", rows=rows, columns=columns)


def unpatchify(patches: Tensor, patch_size: int, grid_size: tuple[int, int]) -> Tensor:
    """The inverse of patchify: patches (B, N, C*p*p), grid_size (rows, columns) -> images (B, C, rows*p, columns*p).

    Raises ValueError where N is not rows * columns, patch_size is below 1, or a patch's width no multiple of p*p.
    """
    (rows, columns), p = grid_size, patch_size
    if p < 1 or patches.ndim != 3 or patches.shape[1] != rows * columns or patches.shape[2] % p**2:
        wanted = f"(B, {rows}*{columns}, C*{p}*{p})"
        remedy = "leave the class token out, give the grid and patch size they were cut with"
        raise complaint(f"patches of shape {tuple(patches.shape)}", wanted, remedy)
    pattern = "B (rows columns) (C p q) -> B C (rows p) (columns q)"
    return rearrange(patches, pattern, rows=rows, columns=columns, p=p, q=p)


def embed_patches(images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Unfold plus linear: float images (B, C, H, W), a convolution's weight (D, C, p, p), bias (D,) -> (B, N, D).

    A convolution whose stride is its kernel size does the same, see PatchEmbed.
    Raises ValueError for other ranks, channel counts, a kernel that is no square, or a size that p does not divide,
    TypeError for other dtypes of the images.
    """
    check_kernel(weight)
    check_images(images, in_chans=weight.shape[1])
    patches = patchify(images, patch_size=weight.shape[-1])  # (B, C, H, W) -> (B, N, C*p*p)
    return F.linear(patches, weight.flatten(1), bias)  # (B, N, C*p*p) -> (B, N, D)


class PatchEmbed(nn.Module):
    """The patch embedding as one convolution: float images (B, in_chans, H, W) -> tokens (B, N, D), D = embed_dim.

    img_size is one side or (H, W); grid_size = (rows, columns), num_patches = N. With dynamic_img_size any size goes
    that patch_size divides. Raises ValueError where patch_size does not divide img_size, and for images of another
    rank, channel count or size; TypeError for other dtypes.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        bias: bool = True,
        dynamic_img_size: bool = False,
    ):
        super().__init__()
        self.img_size = check_sides(img_size)
        self.patch_size, self.dynamic_img_size = patch_size, dynamic_img_size
        self.grid_size = self.grid_of(self.img_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size, bias=bias)

    def grid_of(self, img_size: tuple[int, int]) -> tuple[int, int]:
        """Images of (H, W) give (rows, columns) of tokens. Raises ValueError where patch_size does not divide both."""
        return grid_of(img_size, self.patch_size)

    def forward(self, images: Tensor) -> Tensor:
        size = None if self.dynamic_img_size else self.img_size
        check_images(images, self.proj.in_channels, self.proj.weight.dtype, size)
        self.grid_of(images.shape[-2:])
        x = self.proj(images)  # (B, in_chans, H, W) -> (B, D, rows, columns)
        return rearrange(x, "B D rows columns -> B (rows columns) D")
