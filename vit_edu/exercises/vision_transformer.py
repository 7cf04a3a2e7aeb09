"""Exercise of lesson 04: the whole model. Source: Dosovitskiy et al. 2021, equations 1 to 4."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange

from vit_edu import layers, models
from vit_edu.exercises.core import Draw, Exercise, call_module


def shapes_of(img_size, patch_size, in_chans, num_classes, embed_dim, depth, num_heads) -> dict[str, tuple[int, ...]]:
    """timm's names, and the shapes of a model of these words."""
    D, N = embed_dim, (img_size // patch_size) ** 2
    matrices = {"attn.qkv": (3 * D, D), "attn.proj": (D, D), "mlp.fc1": (4 * D, D), "mlp.fc2": (D, 4 * D)}
    block = {"norm1": (D,), "norm2": (D,)} | matrices
    parts = {"patch_embed.proj": (D, in_chans, patch_size, patch_size)}
    parts |= {f"blocks.{i}.{name}": shape for i in range(depth) for name, shape in block.items()}
    parts |= {"norm": (D,), "head": (num_classes, D)}
    shapes = {"cls_token": (1, 1, D), "pos_embed": (1, 1 + N, D)}
    for name, shape in parts.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


def weights_of(draw: Draw, config: dict, quiet: float = 1.0) -> dict[str, torch.Tensor]:
    """Random weights in all parameters, so large that every softmax has a say; `quiet` makes the tokens small."""
    state = {}
    for name, shape in shapes_of(**config).items():
        fan_in = math.prod(shape[1:])
        scale = {"cls_token": 1.0, "pos_embed": 1.0}.get(name, fan_in**-0.5 if len(shape) > 1 else 0.3)
        x = scale * draw.normal(*shape)
        x = 1 + x if "norm" in name and name.endswith("weight") else x
        written = name in ("cls_token", "pos_embed") or name.startswith("patch_embed") or ".proj." in name
        state[name] = quiet * x if written or ".fc2." in name else x  # what is written into the stream of tokens
    return state


def models_and_images(draw: Draw):
    words = ("img_size", "patch_size", "in_chans", "num_classes", "embed_dim", "depth", "num_heads")
    heads = draw.integer(3, 5)
    sizes = [
        (1, (4, 2, 1, 3, 4, 1, 2), 0.003),  # small tokens: here the eps of a norm is seen
        (3, (6, 2, 2, 5, 3 * heads, 3, heads), 1.0),
    ]
    for batch, numbers, quiet in sizes:
        config = dict(zip(words, numbers, strict=True))
        side = config["img_size"]
        yield config, weights_of(draw, config, quiet), draw.normal(batch, config["in_chans"], side, side)


vit = Exercise(
    "vision_transformer",
    lesson="04",
    points=5,
    reference=models.VisionTransformer,
    cases=models_and_images,
    returns="logits",
    call=call_module,
    hints=(
        "Read the list of names as a shopping list: whatever stands there without a dot is an attribute of your "
        "class, and blocks.0, blocks.1, … is what an nn.ModuleList calls its members. Then follow a picture through "
        "equations 1 to 4.",
        "images (B, C, H, W) -> patches (B, N, D) -> with class token and positions (B, 1+N, D), which every block "
        "keeps -> normed (B, 1+N, D) -> the class token's row (B, D) -> logits (B, num_classes).\n"
        "cls_token (1, 1, D), pos_embed (1, 1+N, D), N = (img_size / patch_size)².",
        "self.blocks = nn.ModuleList(... for _ in range(depth))\nself.norm = nn.LayerNorm(embed_dim, eps=...)\n\n"
        "x = embed_positions(self.patch_embed(images), ..., ...)\nfor block in self.blocks:\n    x = ...\n"
        "return self.head(self.norm(x)[...])",
    ),
)


def run_block(x, state, i, heads):
    """Equations 2 and 3, from parameters by name."""

    def linear(name, x):
        return F.linear(x, state[f"blocks.{i}.{name}.weight"], state[f"blocks.{i}.{name}.bias"])

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], state[f"blocks.{i}.{name}.weight"], state[f"blocks.{i}.{name}.bias"], 1e-6)

    q, k, v = linear("attn.qkv", norm("norm1", x)).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    x = x + linear("attn.proj", F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
    return x + linear("mlp.fc2", F.gelu(linear("mlp.fc1", norm("norm2", x))))


def one_after_another(x, blocks):
    for block in blocks:
        x = block(x)
    return x


@vit.recipe
def vision_transformer_in_steps(
    config,
    state,
    images,
    *,
    order=lambda tokens, side: tokens,
    join=lambda cls_token, tokens: torch.cat([cls_token.expand(len(tokens), -1, -1), tokens], dim=1),
    place=lambda x, pos_embed: x + pos_embed,
    through=one_after_another,
    eps=lambda: 1e-6,
    finish=lambda x, norm: norm(x)[:, 0],
    last=lambda logits: logits,
):
    tokens = layers.embed_patches(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"])
    tokens = order(tokens, images.shape[-1] // config["patch_size"])
    x = place(join(state["cls_token"], tokens), state["pos_embed"])
    x = through(x, [partial(run_block, state=state, i=i, heads=config["num_heads"]) for i in range(config["depth"])])
    norm = partial(F.layer_norm, weight=state["norm.weight"], bias=state["norm.bias"], eps=eps())
    pooled = finish(x, lambda x: norm(x, x.shape[-1:]))
    return last(F.linear(pooled, state["head.weight"], state["head.bias"]))


vit.mistake(
    "patches column by column",
    "Your patches go down the picture first, so each sits on another one's position. Which is the second patch?",
    order=lambda tokens, side: rearrange(tokens, "B (y x) D -> B (x y) D", y=side),
)
vit.mistake(
    "the class token stands last",
    "Your class token is at the end of the sequence, and row 0 of the positions is a patch's. Equation 1 writes "
    "[x_class; x_1; …; x_N].",
    join=lambda cls_token, tokens: torch.cat([tokens, cls_token.expand(len(tokens), -1, -1)], dim=1),
)
vit.mistake(
    "class token without its position",
    "Your patches have their positions, your class token has none. pos_embed has N + 1 rows: whose is the first?",
    alone=True,
    place=lambda x, pos_embed: torch.cat([x[:, :1], x[:, 1:] + pos_embed[:, 1:]], dim=1),
)
vit.mistake(
    "positions first, class token after",
    "Patch 0 has got the class token's row, and the class token none: you add positions first and put the class token "
    "in front afterwards. What changes when you join first and add after?",
    place=lambda x, pos_embed: torch.cat([x[:, :1], x[:, 1:] + pos_embed[:, :-1]], dim=1),
)
vit.mistake(
    "the class token has the last position",
    "Every token has the position of its neighbour, the class token the last one. Which row of E_pos is its own?",
    alone=True,
    place=lambda x, pos_embed: x + pos_embed.roll(1, dims=1),
)
vit.mistake(
    "the positions are missing",
    "No token knows where it comes from. Which of the four parameters of equation 1 has no effect in your code?",
    place=lambda x, pos_embed: x,
)
vit.mistake(
    "the blocks' work is thrown away",
    "Your logits do not depend on the blocks. Does the line in your loop give its result a name that is used again?",
    through=lambda x, blocks: x,
)
vit.mistake(
    "only the last block counts",
    "Your logits depend on the last block alone. Do the others run, and does each read what the one before it made, or "
    "all of them the embedding?",
    alone=True,
    through=lambda x, blocks: blocks[-1](x),
)
vit.mistake(
    "the blocks run backwards",
    "Your last block is the first to run. Published weights were trained in the order 0, 1, 2.",
    alone=True,
    through=lambda x, blocks: one_after_another(x, blocks[::-1]),
)
vit.mistake(
    "one block again and again",
    "You run the same block every time. How does each turn of the loop get another one?",
    alone=True,
    through=lambda x, blocks: one_after_another(x, blocks[:1] * len(blocks)),
)
vit.mistake(
    "the last block is missing",
    "One block too few runs. Where does your loop end, and where does range(depth - 1)?",
    alone=True,
    through=lambda x, blocks: one_after_another(x, blocks[:-1]),
)
vit.mistake(
    "a skip connection around each block",
    "You add x to what a block returns. A block has its skip connections inside: what is counted twice?",
    alone=True,
    through=lambda x, blocks: one_after_another(x, [lambda x, block=block: x + block(x) for block in blocks]),
)
vit.mistake(
    "the eps of PyTorch's LayerNorm",
    "Right where tokens are large, a little off where they are small: nn.LayerNorm adds 1e-5 to the variance, the "
    "published ViTs add another number. It stands in the text above the exercise.",
    eps=lambda: 1e-5,
)
vit.mistake(
    "no norm at the end",
    "Your head reads the stream of tokens as the last block leaves it. What does equation 4 do first?",
    finish=lambda x, norm: x[:, 0],
)
vit.mistake(
    "every token goes through the head",
    "Your result has one row of logits for each token, (B, 1+N, num_classes). Who speaks for the whole picture?",
    alone=True,
    finish=lambda x, norm: norm(x),
)
vit.mistake(
    "mean over all tokens",
    "You average over the sequence, class token and all. Some models do average, but over patches only; equation 4 "
    "reads one row. Which?",
    alone=True,
    finish=lambda x, norm: norm(x).mean(dim=1),
)
vit.mistake(
    "mean over the patches",
    "You average over the patches. Later models do so and drop the class token; equation 4 reads z_L^0. What does "
    "the 0 count?",
    finish=lambda x, norm: norm(x)[:, 1:].mean(dim=1),
)
vit.mistake(
    "mean first, norm after",
    "You average over the patches, then norm. That is what timm does for global_pool='avg', and other weights are made "
    "for it. Which single row does equation 4 read?",
    alone=True,
    finish=lambda x, norm: norm(x[:, 1:].mean(dim=1)),
)
vit.mistake(
    "mean over all tokens first, norm after",
    "You average over the whole sequence, then norm. Equation 4 reads one row, and norms that. Which?",
    alone=True,
    finish=lambda x, norm: norm(x.mean(dim=1)),
)
vit.mistake(
    "the last token is read",
    "Your head reads the last patch. In a text model the last word has seen all others; here everybody has. Which "
    "token was put there to be read?",
    finish=lambda x, norm: norm(x)[:, -1],
)
vit.mistake(
    "the first patch is read",
    "Your head reads token 1, the top left patch. Where did embed_positions put the class token?",
    alone=True,
    finish=lambda x, norm: norm(x)[:, 1],
)
vit.mistake(
    "the norm comes before the blocks",
    "You norm the embedding and not what the blocks make of it. CLIP norms in both places, ViT in one: where does "
    "equation 4 stand?",
    lambda config, state, images: vision_transformer_in_steps(
        config,
        state,
        images,
        through=lambda x, blocks: one_after_another(
            F.layer_norm(x, x.shape[-1:], state["norm.weight"], state["norm.bias"], 1e-6), blocks
        ),
        finish=lambda x, norm: x[:, 0],
    ),
)
vit.mistake(
    "softmax at the end",
    "Your rows sum to 1: you return probabilities. Cross entropy takes logits and does its own softmax; what would two "
    "in a row do to the gradient?",
    last=lambda logits: logits.softmax(dim=-1),
)


@vit.invariance("one picture of the batch does not see another")
def pictures_apart(mine, draw):
    config, state, images = list(models_and_images(draw))[1]
    return torch.allclose(mine(config, state, images)[:1], mine(config, state, images[:1]))


@vit.invariance("without positions, shuffled patches give the same logits")
def any_order_of_patches(mine, draw):
    config, state, images = list(models_and_images(draw))[1]
    state = state | {"pos_embed": torch.zeros_like(state["pos_embed"])}
    patches = layers.patchify(images, config["patch_size"])
    order = torch.randperm(patches.shape[1], generator=draw.generator)
    shuffled = layers.unpatchify(patches[:, order], config["patch_size"], (3, 3))
    return torch.allclose(mine(config, state, images), mine(config, state, shuffled))
