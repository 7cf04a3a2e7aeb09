"""DeiT: Touvron et al. 2021, "Training data-efficient image transformers & distillation through attention"."""

from torch import Tensor, nn

from vit_edu.layers import init_linear
from vit_edu.layers.checks import check_choice, check_free

from .vit import VisionTransformer


class DistilledVisionTransformer(VisionTransformer):
    """A ViT with a second token that learns from a teacher, read by a head of its own: section 4 and figure 2.

    The distillation token is a register with a head. Takes VisionTransformer's other words, class token
    pooling only. Images (B, in_chans, H, W) -> the mean of both heads' logits (B, num_classes), as in the authors' code
    (the paper adds their softmaxes). Among the intermediates are seen["head"] and seen["head_dist"] (B, num_classes),
    which the distillation loss needs. Raises as VisionTransformer does.
    """

    def __init__(self, *args, **words):
        check_free("DistilledVisionTransformer", {"class_token", "reg_tokens"}, words)
        super().__init__(*args, reg_tokens=1, **words)
        check_choice("global_pool", self.global_pool, ["token"])
        self.head_dist = nn.Linear(self.embed_dim, self.num_classes) if self.num_classes else nn.Identity()
        self.head_dist.apply(init_linear)

    def forward(self, images: Tensor, return_intermediates: bool = False) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        seen = {} if return_intermediates else None
        x = self.forward_features(images, seen)  # (B, 2+N, C)
        own, distilled = self.head(x[:, 0]), self.head_dist(x[:, 1])  # (B, num_classes) each
        if seen is not None:
            seen |= {"head": own, "head_dist": distilled}
        logits = (own + distilled) / 2
        return (logits, seen) if return_intermediates else logits


MODELS = {
    "deit_tiny_distilled_patch16_224": {"embed_dim": 192, "num_heads": 3},
    "deit_small_distilled_patch16_224": {"embed_dim": 384, "num_heads": 6},
    "deit_base_distilled_patch16_224": {"embed_dim": 768, "num_heads": 12},
}
