"""The weights that torchvision has published for ImageNet, fetched once; torchvision knows addresses and checksums."""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vit_edu import downloads, models, resources
from vit_edu.layers.checks import check_float, complaint

from .load import load_weights, read

PUBLISHED = {  # name -> torchvision's, IMAGENET1K_V1 of each; the ResNets are for a hybrid's backbone
    "vit_base_patch16_224": "ViT_B_16",  # 330 MB
    "vit_base_patch32_224": "ViT_B_32",  # 337 MB
    "vit_large_patch16_224": "ViT_L_16",  # 1.2 GB
    "swin_tiny_patch4_window7_224": "Swin_T",  # 108 MB
    "swin_small_patch4_window7_224": "Swin_S",  # 190 MB
    "swin_base_patch4_window7_224": "Swin_B",  # 335 MB
    "resnet18": "ResNet18",  # 45 MB
    "resnet34": "ResNet34",  # 83 MB
    "resnet50": "ResNet50",  # 98 MB
}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalise(images: Tensor) -> Tensor:
    """What the published weights want to see: images (..., 3, H, W), uint8 in 0..255 or float in 0..1 -> float.

    Minus ImageNet's mean, over its deviation. Raises ValueError for another number of channels, TypeError for other
    integers than uint8.
    """
    if images.ndim < 3 or images.shape[-3] != 3:
        remedy = "give grey ones three channels with images.expand(-1, 3, -1, -1)"
        raise complaint(f"images of shape {tuple(images.shape)}", "(B, 3, H, W)", remedy)
    images = images / 255 if images.dtype == torch.uint8 else images
    check_float("images", images)
    mean, std = (images.new_tensor(x).view(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std


def pretrained(name: str, **words) -> nn.Module:
    """create_model(name, **words) with the weights that torchvision has published, in PUBLISHED: ViT and Swin.

    With another num_classes than 1000 the classifier is a new one, with another img_size the positions are resized.
    The images are to be normalised: model(vit_edu.weights.normalise(ds.images)).
    The first call downloads, see `published`. Raises as create_model, published and load_weights do.
    """
    if str(name) in PUBLISHED.keys() - {*models.list_models()}:
        remedy = f"see published({name!r}), for a hybrid"
        raise complaint(f"the backbone {name!r}", "a ViT or a Swin of list_models()", remedy)
    model = models.create_model(name, **words)
    new_head, weights = words.get("num_classes", 1000) != 1000, published(name)
    positions = weights.get("encoder.pos_embedding")  # of a ViT, (1, 1+N, C): those of a square, and the class token's
    grid = True if positions is None else (math.isqrt(positions.shape[1]),) * 2
    return load_weights(model, weights, "torchvision", new_head=new_head, resize_positions=grid)


def published(name: str) -> Mapping[str, Tensor]:
    """torchvision's state dict for `name` in PUBLISHED, downloaded with a progress bar, resumed, verified and cached.

    For a hybrid: load_weights(model.patch_embed.backbone, published("resnet18"), source="torchvision").
    Raises ValueError for another name, DownloadError with what to do where the file cannot be had.
    """
    if name not in PUBLISHED:
        raise complaint(f"the published weights {name!r}", ", ".join(PUBLISHED), "take create_model for random ones")
    url = _address(name)
    filename = url.rsplit("/", 1)[1]
    checksum = re.search(r"-([0-9a-f]{8,})\.", filename)[1]
    try:
        return read(downloads.fetch([url], f"torchvision/{filename}", f"sha256:{checksum}"))
    except downloads.DownloadError as error:
        place = resources.cache_dir() / "torchvision"
        remedy = f"call it again with a network, to go on where it stopped, or copy the file from elsewhere to {place}"
        raise downloads.DownloadError(f"{error}; {remedy}.") from None


def _address(name: str) -> str:
    from torchvision.models import get_weight  # slow to import, so on use

    return get_weight(f"{PUBLISHED[name]}_Weights.IMAGENET1K_V1").url
