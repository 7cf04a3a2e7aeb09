"""The encoder block, pre-norm: Dosovitskiy et al. 2021, equations 2 and 3."""

import inspect
from collections.abc import Callable

from torch import Tensor, nn

from .attention import Attention
from .checks import check_positive, check_width, complaint
from .drop_path import DropPath
from .mlp import Mlp


class Block(nn.Module):
    """Attention, then MLP, each on a normed copy and added to the stream: x (B, N, C) -> (B, N, C).

    With `return_weights=True` also the attention weights (B, h, N, N). The place of `Attention` can be taken by any
    class that is built as attention(dim, num_heads) and keeps the shape of x; it is given qkv_bias only where that is
    False, and return_weights only where weights are asked for, which is a TypeError if it does not know the word. What
    it takes, the block takes: Swin's is (B, H, W, C).
    Raises ValueError where num_heads does not divide dim, for a drop_path_rate outside [0, 1) and for tokens of another
    shape, TypeError for tokens that are not float.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        norm_eps: float = 1e-6,
        act_layer: type[nn.Module] = nn.GELU,
        attention: Callable[..., nn.Module] = Attention,
    ):
        super().__init__()
        check_positive(mlp_ratio=mlp_ratio, norm_eps=norm_eps)
        self.dim = dim
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = attention(dim, num_heads) if qkv_bias else attention(dim, num_heads, qkv_bias=False)
        self.gives_weights = "return_weights" in inspect.signature(self.attn.forward).parameters
        self.drop_path1 = DropPath(drop_path_rate)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), act_layer)
        self.drop_path2 = DropPath(drop_path_rate)

    def attend(self, x: Tensor, return_weights: bool) -> tuple[Tensor, Tensor | None]:
        """Attention on the normed x, and its weights, None where they are not asked for."""
        if return_weights:
            if not self.gives_weights:
                found, wanted = f"{type(self.attn).__name__}.forward", "forward(x, return_weights=False)"
                raise complaint(found, wanted, "add that word, or leave return_intermediates out", TypeError)
            return self.attn(self.norm1(x), return_weights=True)
        return self.attn(self.norm1(x)), None

    def forward(self, x: Tensor, return_weights: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        check_width(x, self.dim)
        attended, weights = self.attend(x, return_weights)
        x = x + self.drop_path1(attended)  # equation 2
        x = x + self.drop_path2(self.mlp(self.norm2(x)))  # equation 3
        return (x, weights) if return_weights else x


def run_block(block: nn.Module, x: Tensor, name: str, seen: dict[str, Tensor] | None) -> Tensor:
    """block(x); where there is a dictionary `seen`, its attention weights go to seen[name + ".attn"], its output to
    seen[name]. Without one nothing is kept, and the fused kernel runs."""
    if seen is None:
        return block(x)
    x, seen[f"{name}.attn"] = block(x, return_weights=True)
    seen[name] = x
    return x
