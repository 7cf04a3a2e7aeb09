"""The patch embedding three ways, and patches cut by slicing."""

import pytest
import torch
import torch.nn.functional as F

from tests.reference.compare import assert_equal, gradients, normal, randomise
from vit_edu.layers import PatchEmbed, embed_patches, patchify, unpatchify

SIZES = [((32, 32), 8, 3), ((24, 40), 8, 3), ((40, 24), 4, 1), ((6, 9), 3, 5), ((8, 8), 8, 3), ((2, 3), 1, 2)]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("img_size, patch_size, in_chans", SIZES)
def test_convolution_is_unfold_plus_linear(batch, img_size, patch_size, in_chans):
    embed = randomise(PatchEmbed(img_size, patch_size, in_chans, embed_dim=10))
    images, weight, bias = normal(batch, in_chans, *img_size), embed.proj.weight, embed.proj.bias
    tokens = embed(images)
    assert tokens.shape == (batch, embed.num_patches, 10)
    unfolded = F.unfold(images, patch_size, stride=patch_size).transpose(1, 2)  # (B, C*p*p, N) -> (B, N, C*p*p)
    ways = {"linear": embed_patches(images, weight, bias), "unfold": F.linear(unfolded, weight.flatten(1), bias)}
    tensors = [images, weight, bias]
    for name, way in ways.items():
        assert_equal(way, tokens, name)
        assert_equal(gradients(way, tensors), gradients(tokens, tensors), f"{name}: gradients")


@pytest.mark.parametrize("img_size, patch_size, in_chans", SIZES)
def test_patchify_cuts_row_by_row_and_unpatchify_undoes_it(img_size, patch_size, in_chans):
    p, (rows, columns) = patch_size, (img_size[0] // patch_size, img_size[1] // patch_size)
    images = torch.randint(256, (3, in_chans, *img_size), dtype=torch.uint8)
    patches = patchify(images, p)
    assert patches.shape == (3, rows * columns, in_chans * p * p) and patches.dtype == torch.uint8
    for row in range(rows):
        for column in range(columns):
            cut = images[:, :, row * p : (row + 1) * p, column * p : (column + 1) * p]
            assert torch.equal(patches[:, row * columns + column], cut.reshape(3, -1))
    assert torch.equal(unpatchify(patches, p, (rows, columns)), images)


def test_patchify_undoes_unpatchify():
    patches = torch.rand(2, 6, 3 * 4 * 4)
    assert torch.equal(patchify(unpatchify(patches, 4, (2, 3)), 4), patches)
    assert not torch.equal(unpatchify(patches, 4, (2, 3)).reshape(-1), unpatchify(patches, 4, (3, 2)).reshape(-1))


def test_sizes_are_known_before_an_image_comes():
    embed = PatchEmbed(img_size=(96, 160), patch_size=16)
    assert (embed.img_size, embed.grid_size, embed.num_patches) == ((96, 160), (6, 10), 60)
    assert PatchEmbed().grid_size == (14, 14)
