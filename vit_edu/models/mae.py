"""MAE: He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners". Section 3 and figure 1."""

import torch
from einops import rearrange
from torch import Tensor, nn

from vit_edu.layers import Block, PatchEmbed, patchify, random_masking, run_block, sincos_position, unpatchify
from vit_edu.layers.checks import check_at_least, check_float, check_images, check_some, complaint

from .vit import VisionTransformer


def mae_target(images: Tensor, patch_size: int, norm_pix_loss: bool = False) -> Tensor:
    """What to predict: float images (B, C, H, W) -> patches (B, N, p*p*C), each flattened as (p, p, C).

    With norm_pix_loss every patch has mean 0 and (unbiased) variance 1. Raises as patchify, TypeError for other dtypes.
    """
    check_float("images", images)
    target = rearrange(patchify(images, patch_size), "B N (C pq) -> B N (pq C)", C=images.shape[1])
    if norm_pix_loss:
        mean, std = patch_statistics(target)
        target = (target - mean) / std
    return target


def patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Patches (B, N, p*p*C) -> mean and standard deviation of each (B, N, 1); 1e-6 keeps a plain patch finite."""
    return patches.mean(dim=-1, keepdim=True), (patches.var(dim=-1, keepdim=True) + 1e-6) ** 0.5


def mae_loss(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of the removed patches: prediction and target (B, N, p*p*C), mask (B, N), 1 = removed -> ().

    Raises ValueError where the shapes do not fit. With nothing removed there is nothing to average: NaN.
    """
    check_prediction(prediction, target, mask)
    error = ((prediction - target) ** 2).mean(dim=-1)  # (B, N, p*p*C) -> (B, N)
    return (error * mask).sum() / mask.sum()


def reconstruct(
    images: Tensor, prediction: Tensor, mask: Tensor, patch_size: int, norm_pix_loss: bool = False
) -> tuple[Tensor, Tensor]:
    """The pictures of figure 2: images (B, C, H, W), prediction (B, N, p*p*C), mask (B, N) -> two times (B, C, H, W).

    In the first the removed patches are 0, in the second predicted. What a model with norm_pix_loss predicts gets each
    true patch's mean and deviation back. Raises ValueError where the shapes do not fit.
    """
    target = mae_target(images, patch_size)  # (B, N, p*p*C)
    check_prediction(prediction, target, mask)
    if norm_pix_loss:
        mean, std = patch_statistics(target)
        prediction = prediction * std + mean
    removed = mask[:, :, None].bool()  # (B, N, 1)
    pictures = [target.masked_fill(removed, 0), torch.where(removed, prediction.to(target.dtype), target)]
    pictures = rearrange(pictures, "two B N (pq C) -> (two B) N (C pq)", C=images.shape[1])
    grid_size = (images.shape[2] // patch_size, images.shape[3] // patch_size)
    return unpatchify(pictures, patch_size, grid_size).chunk(2)  # (2*B, C, H, W) -> two times (B, C, H, W)


def init_mae(module: nn.Module) -> None:
    """For `model.apply(init_mae)`, as the authors start: linear layers and the patch embedding uniform after Glorot &
    Bengio 2010, biases zero (theirs leave the patch embedding's)."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))  # (D, C, p, p) as (D, C*p*p)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class MAE(nn.Module):
    """Images with most patches removed -> encoder -> decoder -> the pixels of the removed patches.

    `encoder` is a VisionTransformer, any but for embed_layer. It is trained in place, and an ordinary ViT afterwards;
    its weights start as they come (`init_mae` starts them anew), its head takes no part. The published models:
    MAE(create_model("vit_base_patch16_224", pos_embed="sincos", num_classes=0)), and with vit_large.

    Float images (B, C, H, W), noise (B, N), drawn where it is None -> loss (), prediction (B, N, p*p*C), mask (B, N);
    model(images, noise, return_intermediates=True) -> ((loss, prediction, mask), seen): seen["ids_keep"] (B, K),
    seen["encoder.patch_embed"] (B, N, C), seen["encoder.blocks.I"] and seen["encoder.norm"] (B, P+K, C),
    seen["decoder_blocks.I"] (B, P+N, decoder_embed_dim), and each block's seen[name + ".attn"].
    Raises TypeError for another encoder, ValueError for sizes that do not fit and where mask_ratio keeps or removes
    nothing, at construction; then as the encoder does, and ValueError for noise of another shape.
    """

    def __init__(
        self,
        encoder: VisionTransformer,
        decoder_embed_dim: int = 512,
        decoder_depth: int = 8,
        decoder_num_heads: int = 16,
        norm_pix_loss: bool = False,
        mask_ratio: float = 0.75,
    ):
        super().__init__()
        if not (isinstance(encoder, VisionTransformer) and isinstance(encoder.patch_embed, PatchEmbed)):
            remedy = "build one with create_model('vit_tiny_patch16_224')"
            raise complaint(f"an encoder of {type(encoder).__name__}", "a ViT on patches", remedy, TypeError)
        embed, P, N = encoder.patch_embed, encoder.num_prefix_tokens, encoder.patch_embed.num_patches
        check_at_least(1, decoder_depth=decoder_depth, decoder_embed_dim=decoder_embed_dim)
        possible = isinstance(mask_ratio, int | float) and 0 < mask_ratio < 1
        if not possible or not 1 <= int(N * (1 - mask_ratio)) < N:
            wanted = "at least one patch kept and one removed"
            raise complaint(f"mask_ratio={mask_ratio!r} for {N} patches", wanted, "0.75 removes three in four")
        self.encoder, self.norm_pix_loss, self.mask_ratio = encoder, norm_pix_loss, mask_ratio
        self.decoder_embed = nn.Linear(encoder.embed_dim, decoder_embed_dim)
        self.mask_token = nn.Parameter(torch.empty(1, 1, decoder_embed_dim).normal_(std=0.02))
        positions = torch.zeros(1, P + N, decoder_embed_dim)
        positions[0, P:] = sincos_position(embed.grid_size, decoder_embed_dim)
        self.decoder_pos_embed = nn.Parameter(positions, requires_grad=False)
        self.decoder_blocks = nn.ModuleList(Block(decoder_embed_dim, decoder_num_heads) for _ in range(decoder_depth))
        self.decoder_norm = nn.LayerNorm(decoder_embed_dim, eps=1e-6)
        self.decoder_pred = nn.Linear(decoder_embed_dim, embed.patch_size**2 * embed.proj.in_channels)
        for part in (self.decoder_embed, self.decoder_blocks, self.decoder_pred):
            part.apply(init_mae)

    def encode(self, images: Tensor, ids_keep: Tensor, seen: dict[str, Tensor] | None = None) -> Tensor:
        """The encoder on the kept patches only, each with its own position: -> tokens (B, P+K, C)."""
        encoder, P, embedded = self.encoder, self.encoder.num_prefix_tokens, None if seen is None else {}
        x = encoder.embed(images, embedded)  # (B, P+N, C)
        kept = x[:, P:].take_along_dim(ids_keep[:, :, None], dim=1)  # (B, N, C) -> (B, K, C)
        x = torch.cat([x[:, :P], kept], dim=1)  # (B, P+K, C)
        for i, block in enumerate(encoder.blocks):
            x = run_block(block, x, f"encoder.blocks.{i}", seen)
        x = encoder.fc_norm(encoder.norm(x))  # one is the norm, the other the identity
        if seen is not None:
            seen |= {"ids_keep": ids_keep, "encoder.patch_embed": embedded["patch_embed"], "encoder.norm": x}
        return x

    def decode(self, x: Tensor, ids_restore: Tensor, seen: dict[str, Tensor] | None = None) -> Tensor:
        """Mask tokens for the removed patches, then the decoder: tokens (B, P+K, C) -> prediction (B, N, p*p*C)."""
        P, N = self.encoder.num_prefix_tokens, ids_restore.shape[1]
        x = self.decoder_embed(x)  # (B, P+K, C) -> (B, P+K, D), D = decoder_embed_dim
        mask_tokens = self.mask_token.expand(x.shape[0], P + N - x.shape[1], -1)  # (1, 1, D) -> (B, N-K, D)
        patches = torch.cat([x[:, P:], mask_tokens], dim=1)  # (B, N, D), the kept ones first
        patches = patches.take_along_dim(ids_restore[:, :, None], dim=1)  # (B, N, D), in the image's order
        x = torch.cat([x[:, :P], patches], dim=1) + self.decoder_pos_embed  # (B, P+N, D)
        for i, block in enumerate(self.decoder_blocks):
            x = run_block(block, x, f"decoder_blocks.{i}", seen)
        return self.decoder_pred(self.decoder_norm(x))[:, P:]  # (B, P+N, D) -> (B, N, p*p*C)

    def forward(self, images: Tensor, noise: Tensor | None = None, return_intermediates: bool = False) -> tuple:
        seen, embed = {} if return_intermediates else None, self.encoder.patch_embed
        check_images(images, embed.proj.in_channels, embed.proj.weight.dtype, embed.img_size)
        check_some(images)
        shape = (images.shape[0], embed.num_patches)
        noise = torch.rand(shape, device=images.device) if noise is None else noise
        if not isinstance(noise, Tensor) or noise.shape != shape:
            found = f"noise of shape {tuple(noise.shape)}" if isinstance(noise, Tensor) else f"noise={repr(noise)[:30]}"
            raise complaint(found, f"a tensor (B, N) = {shape}", "draw one number a patch with torch.rand")
        ids_keep, ids_restore, mask = random_masking(noise, self.mask_ratio)
        prediction = self.decode(self.encode(images, ids_keep, seen), ids_restore, seen)
        loss = mae_loss(prediction, mae_target(images, embed.patch_size, self.norm_pix_loss), mask)
        return ((loss, prediction, mask), seen) if return_intermediates else (loss, prediction, mask)


def check_prediction(prediction: Tensor, target: Tensor, mask: Tensor) -> None:
    if prediction.shape != target.shape or mask.shape != target.shape[:2]:
        found = f"prediction {tuple(prediction.shape)}, target {tuple(target.shape)} and mask {tuple(mask.shape)}"
        raise complaint(found, "(B, N, p*p*C), the same, and (B, N)", "cut all of them into the same patches")
