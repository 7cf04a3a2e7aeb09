"""ViT: Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words". Equations 1 to 4, in that order."""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vit_edu.layers import (
    Attention,
    Block,
    PatchEmbed,
    QuickGELU,
    init_linear,
    resize_positions,
    run_block,
    sincos_position,
)
from vit_edu.layers.checks import check_at_least, check_builders, check_choice, check_heads, check_positive, complaint
from vit_edu.layers.drop_path import check_rate


def non_default(layer: type[nn.Module], **words) -> dict:
    """The words whose value differs from the layer's own default; what takes its place must know only these."""
    defaults = inspect.signature(layer).parameters
    return {word: value for word, value in words.items() if value != defaults[word].default}


class VisionTransformer(nn.Module):
    """Float images (B, in_chans, H, W) -> logits (B, num_classes), or features (B, embed_dim) where num_classes=0.

    `img_size` is one side or (H, W); with `dynamic_img_size` other sizes go as well, the positions are then resized as
    timm does (transformers smooths less).
    `global_pool`: "token" reads the class token, "avg" the mean of the patches, with the last norm behind it (timm).
    `pos_embed`: "learn", "sincos" (MAE's fixed table) or "none". `reg_tokens`: so many more learned tokens behind the
    class token (Darcet et al. 2024; DeiT's distillation token is one). `pre_norm`: a norm before the first block and no
    bias in the patch embedding (CLIP). `embed_layer`, `block` and `attention` take the place of PatchEmbed, Block and
    Attention: built as embed_layer(img_size, patch_size, in_chans, embed_dim), block(dim, num_heads) and
    attention(dim, num_heads), with those further words that differ from the kit's defaults. Of an embed_layer
    grid_size, num_patches and grid_of(img_size) are read, as PatchEmbed has them.

    model(images, return_intermediates=True) -> (logits, seen): seen["patch_embed"] (B, N, C), seen["blocks.I.attn"]
    (B, h, P+N, P+N) and seen["blocks.I"] (B, P+N, C) for every block I, seen["norm"] (B, P+N, C), not normed yet with
    "avg"; P tokens stand before the N patches.
    Raises ValueError for sizes that do not fit, at construction where they are known; TypeError for other dtypes.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        class_token: bool = True,
        global_pool: str = "token",
        pos_embed: str = "learn",
        reg_tokens: int = 0,
        dynamic_img_size: bool = False,
        pre_norm: bool = False,
        norm_eps: float = 1e-6,
        act_layer: type[nn.Module] = nn.GELU,
        attention: Callable[..., nn.Module] = Attention,
        block: Callable[..., nn.Module] = Block,
        embed_layer: Callable[..., nn.Module] = PatchEmbed,
    ):
        super().__init__()
        check_heads(embed_dim, num_heads)
        check_at_least(1, in_chans=in_chans, depth=depth)
        check_at_least(0, num_classes=num_classes, reg_tokens=reg_tokens)
        check_rate(drop_path_rate)
        check_positive(norm_eps=norm_eps)
        check_builders(act_layer=act_layer, attention=attention, block=block, embed_layer=embed_layer)
        check_choice("global_pool", global_pool, ["token", "avg"])
        check_choice("pos_embed", pos_embed, ["learn", "sincos", "none"])
        check_choice("class_token", class_token, [True, False])
        if global_pool == "token" and not class_token:
            raise complaint("global_pool='token' without class_token", "a token to read", "use global_pool='avg'")
        self.embed_dim, self.num_classes, self.global_pool = embed_dim, num_classes, global_pool
        words = non_default(PatchEmbed, bias=not pre_norm, dynamic_img_size=dynamic_img_size)
        self.patch_embed = embed_layer(img_size, patch_size, in_chans, embed_dim, **words)
        self.cls_token = nn.Parameter(torch.empty(1, 1, embed_dim).normal_(std=1e-6)) if class_token else None
        self.reg_token = nn.Parameter(torch.empty(1, reg_tokens, embed_dim).normal_(std=1e-6)) if reg_tokens else None
        self.num_prefix_tokens = int(class_token) + reg_tokens
        self.pos_embed = self._positions(pos_embed)
        self.norm_pre = nn.LayerNorm(embed_dim, eps=norm_eps) if pre_norm else nn.Identity()
        rates = torch.linspace(0, drop_path_rate, depth, device="cpu").tolist()  # rising; on "meta" too
        words = {"mlp_ratio": mlp_ratio, "qkv_bias": qkv_bias, "norm_eps": norm_eps}
        words |= {"act_layer": act_layer, "attention": attention}
        self.blocks = nn.ModuleList(
            block(embed_dim, num_heads, **non_default(Block, drop_path_rate=rate, **words)) for rate in rates
        )
        norm = nn.LayerNorm(embed_dim, eps=norm_eps)
        self.norm, self.fc_norm = (norm, nn.Identity()) if global_pool == "token" else (nn.Identity(), norm)
        self.head = nn.Linear(embed_dim, num_classes) if num_classes else nn.Identity()
        self.apply(init_linear)

    def _positions(self, kind: str) -> nn.Parameter | None:
        if kind == "none":
            return None
        positions = torch.zeros(1, self.num_prefix_tokens + self.patch_embed.num_patches, self.embed_dim)
        if kind == "learn":
            return nn.Parameter(nn.init.trunc_normal_(positions, std=0.02))
        positions[0, self.num_prefix_tokens :] = sincos_position(self.patch_embed.grid_size, self.embed_dim)
        return nn.Parameter(positions, requires_grad=False)

    def embed(self, images: Tensor, seen: dict[str, Tensor] | None = None) -> Tensor:
        """Equation 1: images (B, in_chans, H, W) -> tokens (B, P+N, C), the class token first."""
        x = self.tokens(images, seen)  # (B, N, C)
        if seen is not None:
            seen["patch_embed"] = x
        prefix = [token.expand(x.shape[0], -1, -1) for token in (self.cls_token, self.reg_token) if token is not None]
        x = torch.cat([*prefix, x], dim=1)  # (B, P+N, C)
        if self.pos_embed is not None:
            x = x + self.positions_for(images.shape[-2:])
        return self.norm_pre(x)

    def tokens(self, images: Tensor, seen: dict[str, Tensor] | None = None) -> Tensor:
        """x_p E of equation 1, (B, N, C); a model whose patch embedding has more to show puts it into `seen`."""
        return self.patch_embed(images)

    def positions_for(self, img_size: tuple[int, int]) -> Tensor:
        """E_pos of equation 1, (1, P+N, C), for images of (H, W); resized where that is not the model's own size."""
        own, grid_size = self.patch_embed.grid_size, self.patch_embed.grid_of(img_size)
        return self.pos_embed if grid_size == own else resize_positions(self.pos_embed, own, grid_size)

    def forward_features(self, images: Tensor, seen: dict[str, Tensor] | None = None) -> Tensor:
        """Equations 1 to 3, with "token" equation 4's norm as well: images (B, in_chans, H, W) -> (B, P+N, C)."""
        x = self.embed(images, seen)
        for i, block in enumerate(self.blocks):
            x = run_block(block, x, f"blocks.{i}", seen)
        x = self.norm(x)
        if seen is not None:
            seen["norm"] = x
        return x

    def pool(self, x: Tensor) -> Tensor:
        """Tokens (B, P+N, C) -> the image's vector y (B, C) of equation 4."""
        x = x[:, 0] if self.global_pool == "token" else x[:, self.num_prefix_tokens :].mean(dim=1)
        return self.fc_norm(x)

    def forward(self, images: Tensor, return_intermediates: bool = False) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        seen = {} if return_intermediates else None
        logits = self.head(self.pool(self.forward_features(images, seen)))
        return (logits, seen) if return_intermediates else logits


_TINY = {"embed_dim": 192, "num_heads": 3}
_SMALL = {"embed_dim": 384, "num_heads": 6}
_BASE = {"embed_dim": 768, "num_heads": 12}
_LARGE = {"embed_dim": 1024, "num_heads": 16, "depth": 24}
_CLIP = {**_BASE, "pre_norm": True, "norm_eps": 1e-5, "act_layer": QuickGELU, "num_classes": 512}

MODELS = {  # table 1 of the paper; tiny and small are DeiT's
    "vit_tiny_patch16_224": _TINY,
    "vit_small_patch16_224": _SMALL,
    "vit_small_patch32_224": _SMALL | {"patch_size": 32},
    "vit_base_patch16_224": _BASE,
    "vit_base_patch32_224": _BASE | {"patch_size": 32},
    "vit_large_patch16_224": _LARGE,
    "vit_base_patch16_clip_quickgelu_224": _CLIP,
    "vit_base_patch32_clip_quickgelu_224": _CLIP | {"patch_size": 32},
}
