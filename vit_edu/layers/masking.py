"""Which patches an autoencoder sees: He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners", section 3."""

from torch import Tensor

from .checks import check_float, complaint


def random_masking(noise: Tensor, mask_ratio: float = 0.75) -> tuple[Tensor, Tensor, Tensor]:
    """Of N patches keep the int(N * (1 - mask_ratio)) = K of smallest noise: noise (B, N), any float dtype, ->

    ids_keep (B, K): which are kept, as in tokens.take_along_dim(ids_keep[:, :, None], dim=1), (B, N, C) -> (B, K, C);
    ids_restore (B, N): taken along it, the kept and behind them the removed are back in the image's order;
    mask (B, N) float32: 1 = removed.
    Raises ValueError for another rank and unless 0 <= mask_ratio < 1, TypeError for noise that is not float.
    """
    if noise.ndim != 2 or not 0 <= mask_ratio < 1:
        found, wanted = f"noise {tuple(noise.shape)} with mask_ratio={mask_ratio}", "(B, N) and 0 <= mask_ratio < 1"
        raise complaint(found, wanted, "use torch.rand(B, N); 0.75 removes three patches in four")
    check_float("noise", noise)
    num_keep = int(noise.shape[1] * (1 - mask_ratio))
    ids_shuffle = noise.argsort(dim=1)  # (B, N): patch ids_shuffle[k] goes to place k
    ids_restore = ids_shuffle.argsort(dim=1)  # (B, N): patch n went to place ids_restore[n]
    return ids_shuffle[:, :num_keep], ids_restore, (ids_restore >= num_keep).float()
