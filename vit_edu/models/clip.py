"""CLIP: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision". Figure 3."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit_edu.layers import Attention, Block, QuickGELU, init_linear, run_block
from vit_edu.layers.checks import check_at_least, check_builders, check_encoder, check_heads, check_some, complaint

START, END, VOCAB_SIZE = 256, 257, 258  # behind the 256 bytes; the end is the largest number, as in the published CLIP


def tokenize(texts: str | list[str], context_length: int = 77) -> Tensor:
    """Each text's bytes (UTF-8) between START and END, then zeros: T texts -> (T, context_length) int64.

    Any language goes and there is no vocabulary to learn, but most emoji cost 4 tokens or more. The zeros are never
    looked at, see TextTransformer. Raises TypeError for what is no text, ValueError for a text that is too long.
    """
    check_at_least(2, context_length=context_length)
    if not isinstance(texts, str | list | tuple):
        raise complaint(f"texts of type {type(texts).__name__}", "a list of str", "use [text, text]", TypeError)
    rows = []
    for text in [texts] if isinstance(texts, str) else texts:
        if not isinstance(text, str):
            raise complaint(f"a text of type {type(text).__name__}", "str", "use a list of strings", TypeError)
        row = [START, *text.encode("utf-8"), END]
        if len(row) > context_length:
            found = f"{text[:20]!r}... of {len(row)} tokens (its bytes, start and end)"
            raise complaint(found, f"at most {context_length}", "shorten the text, or raise context_length")
        rows.append(row + [0] * (context_length - len(row)))
    return torch.tensor(rows, dtype=torch.long).view(len(rows), context_length)


def clip_logits(image_features: Tensor, text_features: Tensor, logit_scale: Tensor) -> Tensor:
    """exp(logit_scale) times the cosine of every image with every text: (B, D), (T, D), () -> (B, T).

    In the dtype of logit_scale, under autocast too: times 100, half precision's rounding would show.
    Raises ValueError where the features do not fit.
    """
    if image_features.ndim != 2 or text_features.ndim != 2 or image_features.shape[1] != text_features.shape[1]:
        found = f"image features {tuple(image_features.shape)} and text features {tuple(text_features.shape)}"
        raise complaint(found, "(B, D) and (T, D)", "project both to one width D")
    with torch.autocast(image_features.device.type, enabled=False):
        images, texts = (F.normalize(x.to(logit_scale.dtype), dim=-1) for x in (image_features, text_features))
        return logit_scale.exp() * images @ texts.T  # (B, D) @ (D, T) -> (B, T)


def clip_loss(image_features: Tensor, text_features: Tensor, logit_scale: Tensor) -> Tensor:
    """Symmetric cross entropy, figure 3: each image picks its text, each text its image. Features (B, D) of both -> ().

    Raises ValueError where the features do not fit.
    """
    if len(image_features) != len(text_features):
        remedy = "give each image its text; clip_logits takes any number"
        raise complaint(f"{len(image_features)} images with {len(text_features)} texts", "as many", remedy)
    check_some(image_features)
    logits = clip_logits(image_features, text_features, logit_scale)  # (B, B)
    labels = torch.arange(logits.shape[0], device=logits.device)  # the diagonal
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


class TextTransformer(nn.Module):
    """Section 2.4: tokens (B, L) -> features (B, embed_dim), read where each text ends; L <= context_length.

    Attention is causal, so that the end has seen all of its text and nothing behind it. The end is the first token of
    the largest number, or the first `end_token` where that is given. Raises ValueError for a head count that does
    not divide, another rank, too many tokens, and on the CPU (a look would hold a GPU up) numbers outside the
    vocabulary; TypeError for tokens that are no integers.
    """

    def __init__(
        self,
        vocab_size: int = VOCAB_SIZE,
        context_length: int = 77,
        embed_dim: int = 512,
        depth: int = 12,
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        norm_eps: float = 1e-5,
        act_layer: type[nn.Module] = QuickGELU,
        end_token: int | None = None,
    ):
        super().__init__()
        check_heads(embed_dim, num_heads)
        check_at_least(1, vocab_size=vocab_size, context_length=context_length, depth=depth)
        check_builders(act_layer=act_layer)
        if end_token is not None and end_token not in range(vocab_size):
            raise complaint(f"{end_token=}", f"0 to {vocab_size - 1}, or None", "give the tokenizer's own")
        self.embed_dim, self.end_token = embed_dim, end_token
        self.token_embed = nn.Embedding(vocab_size, embed_dim)
        self.pos_embed = nn.Parameter(torch.empty(1, context_length, embed_dim).normal_(std=0.01))
        words = {"mlp_ratio": mlp_ratio, "norm_eps": norm_eps, "act_layer": act_layer}
        words["attention"] = partial(Attention, causal=True)
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, **words) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim, eps=norm_eps)
        self.apply(init_linear)
        nn.init.normal_(self.token_embed.weight, std=0.02)

    def forward(self, tokens: Tensor, seen: dict[str, Tensor] | None = None) -> Tensor:
        check_text(tokens, self.token_embed.num_embeddings, self.pos_embed.shape[1])
        x = self.token_embed(tokens) + self.pos_embed[:, : tokens.shape[1]]  # (B, L) -> (B, L, C)
        for i, block in enumerate(self.blocks):
            x = run_block(block, x, f"blocks.{i}", seen)
        x = self.norm(x)
        if seen is not None:
            seen["norm"] = x
        end = (tokens if self.end_token is None else (tokens == self.end_token).int()).argmax(dim=1)  # (B,)
        return x.take_along_dim(end[:, None, None], dim=1).squeeze(1)  # (B, L, C) -> (B, C)


class CLIP(nn.Module):
    """Images and texts -> features in one space of `embed_dim`, near each other where the two belong together.

    `visual` is a VisionTransformer, whose head takes no part, `text` a TextTransformer.
    Float images (B, C, H, W), tokens (B, L) -> loss (), features of the images and of the texts (B, embed_dim); images
    and any number of texts: clip_logits(model.encode_image(images), model.encode_text(tokens), model.logit_scale).
    model(images, tokens, return_intermediates=True) -> ((loss, ...), seen): seen["visual." + name] as the image encoder
    names it, seen["text.blocks.I.attn"] (B, h, L, L), seen["text.blocks.I"] and seen["text.norm"] (B, L, C).
    Raises TypeError for another encoder, ValueError for more images than texts or fewer; else as the two do.
    """

    def __init__(self, visual: nn.Module, text: TextTransformer, embed_dim: int = 512):
        super().__init__()
        check_encoder(visual)
        check_at_least(1, embed_dim=embed_dim)
        if not isinstance(text, TextTransformer):
            found, remedy = f"a text encoder of {type(text).__name__}", "use CLIP(create_model(...), TextTransformer())"
            raise complaint(found, "a TextTransformer", remedy, TypeError)
        self.visual, self.text = visual, text
        self.visual_proj = nn.Linear(visual.embed_dim, embed_dim, bias=False)
        self.text_proj = nn.Linear(text.embed_dim, embed_dim, bias=False)
        for proj in (self.visual_proj, self.text_proj):
            nn.init.normal_(proj.weight, std=proj.in_features**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_image(self, images: Tensor, seen: dict[str, Tensor] | None = None) -> Tensor:
        """Images (B, C, H, W) -> features (B, embed_dim), not yet normalised."""
        return self.visual_proj(self.visual.pool(self.visual.forward_features(images, seen)))

    def encode_text(self, tokens: Tensor, seen: dict[str, Tensor] | None = None) -> Tensor:
        """Tokens (B, L) -> features (B, embed_dim), not yet normalised."""
        return self.text_proj(self.text(tokens, seen))

    def forward(self, images: Tensor, tokens: Tensor, return_intermediates: bool = False) -> tuple:
        visual, text = ({}, {}) if return_intermediates else (None, None)  # what each of the two has to show
        if self.training:  # section 2.5; before the scale is used, so that no loop can forget it
            with torch.no_grad():
                self.logit_scale.clamp_(max=math.log(100))
        features = self.encode_image(images, visual), self.encode_text(tokens, text)
        output = clip_loss(*features, self.logit_scale), *features
        if not return_intermediates:
            return output
        return output, {f"visual.{k}": x for k, x in visual.items()} | {f"text.{k}": x for k, x in text.items()}


def check_text(tokens: Tensor, vocab_size: int, context_length: int) -> None:
    if not isinstance(tokens, Tensor) or tokens.dtype not in (torch.int64, torch.int32):
        found = f"tokens of {getattr(tokens, 'dtype', type(tokens).__name__)}"
        raise complaint(found, "torch.int64", "use tokenize(texts)", TypeError)
    if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= context_length:
        wanted = f"(B, L) with L from 1 to {context_length}"
        raise complaint(f"tokens of shape {tuple(tokens.shape)}", wanted, "use tokenize(texts, context_length)")
    if tokens.device.type == "cpu" and not torch.compiler.is_compiling() and tokens.numel():
        low, high = tokens.min().item(), tokens.max().item()
        if low < 0 or high >= vocab_size:
            found, wanted = f"tokens from {low} to {high}", f"0 to {vocab_size - 1}"
            raise complaint(found, wanted, "build the text encoder with the tokenizer's vocab_size")
