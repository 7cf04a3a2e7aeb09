"""ViT and distilled DeiT against timm and torchvision: names, outputs, gradients, attention, how weights start."""

from functools import partial

import pytest
import timm
import torch
from timm.layers import QuickGELU
from timm.models import deit, vision_transformer
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import vision_transformer as torchvision_vit

from tests.reference.compare import assert_equal, gradients, normal, randomise
from tests.reference.twins import counted
from tests.unit.test_layers import MultiHeadAttention
from vit_edu import layers, models
from vit_edu.layers import PatchEmbed, patchify, sincos_position, unpatchify
from vit_edu.models import DistilledVisionTransformer, VisionTransformer

SMALL = {"img_size": 32, "patch_size": 8, "num_classes": 7, "embed_dim": 24, "depth": 3, "num_heads": 3}
DEEP = 1e-10  # rounding grows with depth

VARIANTS = {  # our words, which are timm's where it has them
    "class token": {},
    "average": {"global_pool": "avg"},
    "no class token": {"global_pool": "avg", "class_token": False},
    "a register": {"reg_tokens": 1},
    "registers": {"reg_tokens": 4},
    "registers, average": {"reg_tokens": 4, "global_pool": "avg"},
    "registers, no class token": {"reg_tokens": 4, "global_pool": "avg", "class_token": False},
    "clip": {"pre_norm": True, "norm_eps": 1e-5, "act_layer": layers.QuickGELU},
    "no positions": {"pos_embed": "none"},
    "no qkv bias": {"qkv_bias": False},
    "features": {"num_classes": 0},
    "features, average": {"num_classes": 0, "global_pool": "avg"},
    "one channel": {"in_chans": 1},
    "wide": {"img_size": (16, 48)},
    "tall": {"img_size": (40, 24), "class_token": False, "global_pool": "avg"},
    "patch 4": {"patch_size": 4, "img_size": (12, 20)},
    "patch 16": {"patch_size": 16, "img_size": (96, 160)},
    "patch 32, one token": {"patch_size": 32},
    "a thin MLP": {"mlp_ratio": 1.3},
    "one head, one block": {"num_heads": 1, "depth": 1},
    "many heads": {"num_heads": 12, "embed_dim": 48, "depth": 5},
}


def timms(words, model=vision_transformer.VisionTransformer):
    """timm's model built of our words, with random weights in every parameter."""
    words = dict(words)
    if "norm_eps" in words:
        words["norm_layer"] = partial(nn.LayerNorm, eps=words.pop("norm_eps"))
    if "act_layer" in words:
        words["act_layer"] = QuickGELU
    return randomise(model(**words))


def ours_name(name):
    return name.replace("dist_token", "reg_token")


def load(ours, theirs):
    """Ours with timm's weights."""
    ours.load_state_dict({ours_name(name): value for name, value in theirs.state_dict().items()})
    return ours


def ours_of(theirs, words, model=VisionTransformer):
    return load(model(**words).double(), theirs)


def assert_same(ours, theirs, images, tolerance=DEEP):
    """Outputs, tokens, and gradients for the images and every parameter."""
    mine, reference = ours(images), theirs(images)
    assert_equal(mine, reference, tolerance=tolerance)
    assert_equal(ours.forward_features(images), theirs.forward_features(images), "tokens", tolerance)
    theirs_by_name = {ours_name(name): p for name, p in theirs.named_parameters()}
    names = [name for name, parameter in ours.named_parameters() if parameter.requires_grad]
    my_gradients = gradients(mine, [images, *map(ours.get_parameter, names)])
    their_gradients = gradients(reference, [images, *(theirs_by_name[name] for name in names)])
    assert_equal(my_gradients, their_gradients, "gradients", tolerance)


def images_for(model, batch=2):
    return normal(batch, model.patch_embed.proj.in_channels, *model.patch_embed.img_size)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("what", VARIANTS)
def test_timms_weights_give_timms_answer(what, mode, batch):
    words = SMALL | VARIANTS[what]
    theirs = timms(words)
    ours = ours_of(theirs, words)
    ours.train(mode == "train"), theirs.train(mode == "train")
    assert_same(ours, theirs, images_for(ours, batch))


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("words", [{}, {"img_size": (16, 40)}, {"num_classes": 0}], ids=str)
def test_timms_distilled_weights_give_timms_answer(words, mode):
    words = SMALL | words
    theirs = timms(words, deit.VisionTransformerDistilled)
    ours = ours_of(theirs, words, DistilledVisionTransformer)
    ours.train(mode == "train"), theirs.train(mode == "train")
    assert_same(ours, theirs, images_for(ours, 3))
    theirs.set_distilled_training()
    _, seen = ours(images_for(ours, 3), return_intermediates=True)
    both = theirs.train()(images_for(ours, 3))  # what the distillation loss needs
    assert_equal((seen["head"], seen["head_dist"]), both, "heads", DEEP)


@pytest.mark.parametrize("size", [(32, 32), (48, 64), (16, 24), (8, 64), (32, 8)], ids=str)
@pytest.mark.parametrize("words", [{}, {"reg_tokens": 4}, {"class_token": False, "global_pool": "avg"}], ids=str)
def test_positions_are_resized_as_timm_does(words, size):
    words = SMALL | words | {"dynamic_img_size": True, "img_size": (32, 48)}
    theirs = timms(words)
    assert_same(ours_of(theirs, words), theirs, normal(2, 3, *size))


def test_sincos_is_a_fixed_table_behind_the_class_token():
    words = SMALL | {"img_size": (24, 40)}
    theirs = timms(words)
    ours = VisionTransformer(**words, pos_embed="sincos")
    table = torch.cat([torch.zeros(1, 24), sincos_position((3, 5), 24)])[None]
    assert torch.equal(ours.pos_embed, table) and not ours.pos_embed.requires_grad
    ours = ours.double()
    ours.load_state_dict(theirs.state_dict() | {"pos_embed": ours.pos_embed})
    theirs.load_state_dict(ours.state_dict())
    assert_same(ours, theirs, images_for(ours, 3))


NAMES = {  # torchvision's -> ours, first match first
    "class_token": "cls_token",
    "conv_proj": "patch_embed.proj",
    "encoder.pos_embedding": "pos_embed",
    "encoder.layers.encoder_layer_": "blocks.",
    "ln_1": "norm1",
    "ln_2": "norm2",
    "self_attention.in_proj_": "attn.qkv.",
    "self_attention.out_proj": "attn.proj",
    "mlp.0": "mlp.fc1",
    "mlp.3": "mlp.fc2",
    "encoder.ln": "norm",
    "heads.head": "head",
}


def renamed(name):
    for there, here in NAMES.items():
        name = name.replace(there, here)
    return name


@pytest.mark.parametrize("batch, mode", [(1, "eval"), (3, "train")])
@pytest.mark.parametrize("size, patch_size, dim, num_heads", [(32, 8, 24, 3), (48, 16, 16, 8)])
def test_torchvisions_weights_give_torchvisions_answer(size, patch_size, dim, num_heads, batch, mode):
    theirs = torchvision_vit.VisionTransformer(size, patch_size, 3, num_heads, dim, 40, num_classes=7)
    randomise(theirs).train(mode == "train")
    ours = VisionTransformer(size, patch_size, 3, 7, dim, 3, num_heads, mlp_ratio=40 / dim).double()
    ours.load_state_dict({renamed(name): value for name, value in theirs.state_dict().items()})
    images = normal(batch, 3, size, size)
    mine, reference = ours.train(mode == "train")(images), theirs(images)
    assert_equal(mine, reference, tolerance=DEEP)
    parameters = dict(theirs.named_parameters())
    my_gradients = gradients(mine, [images, *(ours.get_parameter(renamed(name)) for name in parameters)])
    assert_equal(my_gradients, gradients(reference, [images, *parameters.values()]), "gradients", DEEP)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, DEEP), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_a_published_size(name, dtype, tolerance):
    theirs = timm.create_model(name).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += 0.05 * normal(*parameter.shape, grad=False).float()
    ours = load(models.create_model(name).eval(), theirs)
    images = normal(1, 3, 224, 224, grad=False).to(dtype)
    with torch.inference_mode():
        assert_equal(ours.to(dtype)(images), theirs.to(dtype)(images), tolerance=tolerance)


PUBLISHED = {
    "vit_tiny_patch16_224": 5_717_416,
    "vit_small_patch16_224": 22_050_664,
    "vit_base_patch16_224": 86_567_656,
    "vit_base_patch32_224": 88_224_232,
}


@pytest.mark.parametrize("name", [*models.vit.MODELS, *models.deit.MODELS])
def test_every_published_name_has_timms_parameters(name):
    with torch.device("meta"):
        ours, theirs = models.create_model(name), timm.create_model(name)
    shapes = {name: tuple(value.shape) for name, value in ours.state_dict().items()}
    assert shapes == {ours_name(k): tuple(v.shape) for k, v in theirs.state_dict().items()}
    count = sum(parameter.numel() for parameter in ours.parameters())
    assert count == sum(parameter.numel() for parameter in theirs.parameters()) == PUBLISHED.get(name, count)
    for mine, reference in zip(ours.modules(), [m for m in theirs.modules() if type(m) is nn.LayerNorm]):
        assert getattr(mine, "eps", reference.eps) == reference.eps
    assert ours.blocks[0].attn.num_heads == theirs.blocks[0].attn.num_heads


def test_drop_path_rates_and_draws_are_timms():
    words = SMALL | {"depth": 4, "drop_path_rate": 0.3}
    theirs = timms(words).train()
    ours = ours_of(theirs, words).train()
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in theirs.blocks]
    assert rates == [block.drop_path1.rate for block in ours.blocks] == [block.drop_path2.rate for block in ours.blocks]
    assert rates[0] == 0 and rates[-1] == pytest.approx(0.3)
    images = images_for(ours, 16)
    torch.manual_seed(3)
    reference = theirs(images)
    torch.manual_seed(3)
    assert_equal(ours(images), reference, tolerance=DEEP)
    assert (ours.eval()(images) - reference).abs().max() > 0.01


@pytest.mark.parametrize("what", ["class token", "registers", "no class token", "clip", "wide", "many heads"])
def test_intermediates_are_timms(what):
    words = SMALL | VARIANTS[what]
    theirs = timms(words).eval()
    ours = ours_of(theirs, words).eval()
    images, normed = images_for(ours, 3), {}
    for i, block in enumerate(theirs.blocks):
        block.attn.register_forward_hook(lambda module, inputs, output, i=i: normed.update({i: inputs[0]}))
    reference, blocks = theirs.forward_intermediates(images, return_prefix_tokens=True, output_fmt="NLC")
    logits, seen = ours(images, return_intermediates=True)
    assert_equal(logits, theirs(images), "logits", DEEP)
    assert_equal(logits, ours(images), "the fused path", DEEP)
    assert_equal(seen["norm"], reference, "norm", DEEP)
    assert_equal(seen["patch_embed"], theirs.patch_embed(images), "patch_embed")
    depth, h, N = words["depth"], words["num_heads"], reference.shape[1]
    in_order = [name for i in range(depth) for name in (f"blocks.{i}.attn", f"blocks.{i}")]
    assert list(seen) == ["patch_embed", *in_order, "norm"]
    for i, tokens in enumerate(blocks):  # timm parts them into (patches, prefix) where there is a prefix
        tokens = torch.cat(tokens[::-1], dim=1) if isinstance(tokens, tuple) else tokens
        assert_equal(seen[f"blocks.{i}"], tokens, f"blocks.{i}", DEEP)
        q, k, _ = theirs.blocks[i].attn.qkv(normed[i]).reshape(3, N, 3, h, -1).permute(2, 0, 3, 1, 4)
        by_hand = torch.softmax(torch.einsum("bhqd,bhkd->bhqk", q, k) / q.shape[-1] ** 0.5, dim=-1)
        weights = seen[f"blocks.{i}.attn"]
        assert_equal(weights, by_hand, f"blocks.{i}.attn", DEEP)
        assert_equal(weights.sum(-1), torch.ones(3, h, N).double(), "rows")


class Shapes(TorchDispatchMode):
    """The shapes of all that is computed."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.shapes += [tuple(x.shape) for x in torch.utils._pytree.tree_leaves(result) if isinstance(x, torch.Tensor)]
        return result


@pytest.mark.parametrize("wanted", [True, False])
def test_fused_where_weights_are_not_wanted(wanted, monkeypatch):
    name = "scaled_dot_product_attention"
    counts = counted(monkeypatch, fused=(nn.functional, name), explicit=(layers.attention, name))
    model = VisionTransformer(**SMALL).eval()
    with Shapes() as computed:
        model(torch.rand(2, 3, 32, 32), return_intermediates=wanted)
    assert counts == ({"fused": 0, "explicit": 3} if wanted else {"fused": 3, "explicit": 0})
    assert ((2, 3, 17, 17) in computed.shapes) == wanted  # an N x N matrix


def test_without_positions_the_order_of_patches_is_unknown():
    model = randomise(VisionTransformer(**SMALL, pos_embed="none"))
    images, order = images_for(model), torch.randperm(16, generator=torch.Generator().manual_seed(0))
    shuffled = unpatchify(patchify(images, 8)[:, order], 8, (4, 4))
    tokens, moved = model.forward_features(images), model.forward_features(shuffled)
    assert_equal(moved[:, 1:], tokens[:, 1:][:, order], "patches", DEEP)
    assert_equal(moved[:, 0], tokens[:, 0], "class token", DEEP)
    assert (moved[:, 1:] - tokens[:, 1:]).abs().max() > 0.1
    placed = randomise(VisionTransformer(**SMALL))
    assert (placed(images) - placed(shuffled)).abs().max() > 0.01


class MyBlock(nn.Module):
    """As a learner writes it: equations 2 and 3, and no options."""

    def __init__(self, dim, num_heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn = MultiHeadAttention(dim, num_heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, 4 * dim), "fc2": nn.Linear(4 * dim, dim)})

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(x))))


class MyPatchEmbed(PatchEmbed):
    """Unfold and a matrix product in the convolution's place."""

    def forward(self, images):
        p = self.patch_size
        patches = nn.functional.unfold(images, p, stride=p).transpose(1, 2)  # (B, C*p*p, N) -> (B, N, C*p*p)
        return patches @ self.proj.weight.flatten(1).T + self.proj.bias


PARTS = [
    {"attention": MultiHeadAttention},
    {"block": MyBlock},
    {"embed_layer": MyPatchEmbed},
    {"attention": MultiHeadAttention, "embed_layer": MyPatchEmbed},
]


@pytest.mark.parametrize("parts", PARTS, ids=str)
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_a_learners_parts_run_published_weights(name, parts):
    words = SMALL | {"img_size": (32, 16)}
    theirs = randomise(timm.create_model(name, **words)).eval()
    ours = load(models.create_model(name, **words, **parts).double().eval(), theirs)
    assert isinstance(ours.blocks[0], parts.get("block", layers.Block))
    assert_same(ours, theirs, normal(2, 3, 32, 16))


@pytest.mark.parametrize("model", [VisionTransformer, DistilledVisionTransformer])
def test_weights_start_as_timms_do(model):
    torch.manual_seed(0)
    theirs = {VisionTransformer: vision_transformer.VisionTransformer}.get(model, deit.VisionTransformerDistilled)
    words = {"img_size": 64, "embed_dim": 192, "depth": 1, "num_heads": 3, "num_classes": 100}
    state = {ours_name(k): v for k, v in theirs(**words).state_dict().items()}
    for name, value in model(**words).state_dict().items():
        if name.endswith("bias") and "patch_embed" not in name:
            assert value.eq(0).all() and state[name].eq(0).all(), name
        elif name not in ("cls_token", "reg_token"):  # near zero or 0.02: both work, see DeiT's repository
            assert value.std().item() == pytest.approx(state[name].std().item(), rel=0.1, abs=1e-6), name
            assert value.mean().item() == pytest.approx(state[name].mean().item(), abs=2e-3), name
        if value.ndim == 2:
            assert value.std().item() == pytest.approx(0.02, rel=0.05), name
