"""The hybrid of Dosovitskiy et al. 2021, section 3.1: patches of a ResNet's feature map in place of the image's.

The ResNet is torchvision's; the paper's has group norm and standardised convolutions.
"""

from collections import OrderedDict
from functools import partial

from einops import rearrange
from torch import Tensor, nn

from vit_edu.layers.checks import check_choice, check_free, check_images, check_sides
from vit_edu.layers.patch_embed import grid_of

from .vit import VisionTransformer


def resnet_stages(name: str, stages: int, in_chans: int = 3) -> tuple[nn.Sequential, int]:
    """torchvision's ResNet up to a stage of 1 to 4, random weights, torchvision's names; and its map's channels."""
    from torchvision import models  # slow to import, so on use only

    check_choice("backbone", name, ["resnet18", "resnet34", "resnet50"])
    check_choice("stages", stages, [1, 2, 3, 4])
    resnet = getattr(models, name)(weights=None)
    if in_chans != 3:
        resnet.conv1 = nn.Conv2d(in_chans, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(resnet.conv1.weight, mode="fan_out", nonlinearity="relu")
    layers = list(resnet.named_children())[: 4 + stages]  # conv1, bn1, relu, maxpool, layer1, ...
    return nn.Sequential(OrderedDict(layers)), resnet.fc.in_features // 2 ** (4 - stages)


class HybridEmbed(nn.Module):
    """A ResNet, and the patch embedding of its map: float images (B, in_chans, H, W) -> tokens (B, N, embed_dim).

    The map is the image over 2^(stages+1), rounded up: with patch_size=1 every image size goes. Takes PatchEmbed's
    place and raises as it does, also for an unknown backbone or stage.
    """

    def __init__(self, img_size, patch_size, in_chans, embed_dim, backbone, stages, bias=True, dynamic_img_size=False):
        super().__init__()
        self.backbone, channels = resnet_stages(backbone, stages, in_chans)
        self.patch_size, self.stride, self.dynamic_img_size = patch_size, 2 ** (stages + 1), dynamic_img_size
        self.img_size = check_sides(img_size)
        self.grid_size = self.grid_of(self.img_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.proj = nn.Conv2d(channels, embed_dim, kernel_size=patch_size, stride=patch_size, bias=bias)

    def grid_of(self, img_size: tuple[int, int]) -> tuple[int, int]:
        """Images of (H, W) give (rows, columns) of tokens; ValueError where patch_size does not divide the map."""
        return grid_of([(side + self.stride - 1) // self.stride for side in img_size], self.patch_size)

    def forward(self, images: Tensor, seen: dict[str, Tensor] | None = None) -> Tensor:
        size = None if self.dynamic_img_size else self.img_size
        check_images(images, self.backbone.conv1.in_channels, self.proj.weight.dtype, size)
        x = images
        for name, layer in self.backbone.named_children():
            x = layer(x)
            if seen is not None and name.startswith("layer"):
                seen[name] = x  # (B, channels, H/stride, W/stride), rounded up
        return rearrange(self.proj(x), "B D rows columns -> B (rows columns) D")


class HybridViT(VisionTransformer):
    """A ViT behind a ResNet: VisionTransformer's words, `backbone` ("resnet18", "resnet34", "resnet50") and `stages`.

    `patch_size` counts pixels of the map. torchvision's published weights fit model.patch_embed.backbone by name.
    Intermediates as VisionTransformer's, and the maps seen["layer1"], ... of the ResNet's stages.
    """

    def __init__(self, img_size=224, patch_size=1, in_chans=3, *, backbone="resnet18", stages=3, **words):
        embed_layer = partial(HybridEmbed, backbone=backbone, stages=stages)
        check_free("HybridViT", {"embed_layer"}, words)
        super().__init__(img_size, patch_size, in_chans, embed_layer=embed_layer, **words)

    def tokens(self, images: Tensor, seen: dict[str, Tensor] | None = None) -> Tensor:
        return self.patch_embed(images, seen)


MODELS = {
    "vit_tiny_resnet18_224": {"embed_dim": 192, "num_heads": 3},
    "vit_small_resnet50_224": {"embed_dim": 384, "num_heads": 6, "backbone": "resnet50"},
}
