"""`load_weights` from every library it knows: random weights of theirs, in ours, give their outputs and gradients."""

import copy
import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
import timm
import torch
import torchvision
import transformers
from safetensors.torch import load_file
from timm.layers import QuickGELU, resample_abs_pos_embed
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table_simple
from torch import nn
from torchvision.models.vision_transformer import interpolate_embeddings
from vit_pytorch.cct import CCT as TheirCCT

from tests.reference.compare import assert_equal, normal
from tests.reference.test_hybrid import timms as their_hybrid
from tests.reference.twins import randomised, settled
from vit_edu import layers, load_weights, models
from vit_edu.models import clip_logits

transformers.logging.set_verbosity_error()
DEEP = 1e-10

VIT = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 7}
SWIN = {"img_size": 32, "patch_size": 2, "embed_dim": 8, "depths": (2, 2, 2), "num_heads": (1, 2, 4)}
SWIN |= {"window_size": 4, "num_classes": 7}
HF_VIT = {"image_size": 16, "patch_size": 4, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
HF_VIT |= {"intermediate_size": 96, "num_labels": 7}
HF_SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [2, 2, 2], "num_heads": [1, 2, 4]}
HF_SWIN |= {"window_size": 4, "num_labels": 7}
TEXTS = torch.tensor([[3, 5, 18, 0, 0], [1, 2, 3, 4, 19]])


def timms(model=timm.models.VisionTransformer, norm_eps=1e-6, **words):
    return model(**VIT | words, norm_layer=partial(nn.LayerNorm, eps=norm_eps))


def ours(family=models.VisionTransformer, **words):
    return family(**VIT | words)


def our_swin(**words):
    return models.SwinTransformer(**SWIN | words)


def our_clip_vision(**words):
    return ours(pre_norm=True, act_layer=layers.QuickGELU, **{"norm_eps": 1e-5} | words)


def our_clip(context_length=6):
    text = models.TextTransformer(20, context_length, embed_dim=16, depth=2, num_heads=2)
    return models.CLIP(our_clip_vision(num_classes=0), text, embed_dim=10)


def our_mae(**words):
    encoder = ours(num_classes=0, pos_embed="sincos", **words)
    return models.MAE(encoder, decoder_embed_dim=16, decoder_depth=2, decoder_num_heads=2)


def our_backbone():
    return models.HybridViT(64, depth=1, embed_dim=24, num_heads=3, stages=2).patch_embed.backbone


HYBRID = {"img_size": 24, "embed_dim": 24, "depth": 1, "num_heads": 3, "num_classes": 7, "stages": 1}


def our_cct(**words):
    words = {"img_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 3, "mlp_ratio": 2.0, "num_classes": 7} | words
    return models.CCT(n_conv_layers=2, **words)


def hf(name, config="ViTConfig", **words):
    return getattr(transformers, name)(getattr(transformers, config)(**HF_VIT | words))


def hf_swin(name="SwinForImageClassification", **words):
    return getattr(transformers, name)(transformers.SwinConfig(**HF_SWIN | words))


def hf_mae(name="ViTMAEForPreTraining", **words):
    words |= {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 2, "decoder_num_attention_heads": 2}
    return hf(name, "ViTMAEConfig", decoder_intermediate_size=64, layer_norm_eps=1e-6, **words)


def hf_clip():
    text = {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "max_position_embeddings": 6, "eos_token_id": 2, "bos_token_id": 0}
    vision = {key: value for key, value in HF_VIT.items() if key != "num_labels"}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=10)
    return transformers.CLIPModel(config)


def torchvision_vit(**words):
    return torchvision.models.VisionTransformer(16, 4, 2, 3, 24, 96, num_classes=7, **words)


def torchvision_swin():
    return torchvision.models.SwinTransformer([2, 2], 8, [2, 2, 2], [1, 2, 4], [4, 4], num_classes=7)


def their_cct():
    words = {"num_layers": 2, "num_heads": 3, "num_classes": 7, "positional_embedding": "learnable", "mlp_ratio": 2.0}
    words |= {"kernel_size": 3, "stride": 1, "padding": 1, "attention_dropout": 0.0, "stochastic_depth_rate": 0.0}
    return TheirCCT(16, 24, n_conv_layers=2, **words)


def plain(model, x):
    return model(x)


def logits(model, x):
    return model(x).logits


def pooled(model, x):
    return model(x).pooler_output


def all_tokens(model, x):
    return model.forward_features(x) if isinstance(model, models.VisionTransformer) else model(x).last_hidden_state


def two_stages(model, x):
    return nn.Sequential(*list(model.children())[:6])(x)


def reconstruction(model, x):
    noise = torch.rand(1, 16, generator=torch.Generator().manual_seed(0)).expand(len(x), -1)
    answer = model(x, noise=noise)
    return answer[:2] if isinstance(answer, tuple) else (answer.loss, answer.logits)


def image_to_text(model, x):
    if isinstance(model, models.CLIP):
        return clip_logits(model.encode_image(x), model.encode_text(TEXTS), model.logit_scale)
    return model(pixel_values=x, input_ids=TEXTS).logits_per_image


class Pair(NamedTuple):
    source: str
    theirs: Callable[[], nn.Module]
    ours: Callable[[], nn.Module]
    their_answer: Callable = plain
    our_answer: Callable = plain
    img_size: tuple[int, int] = (16, 16)


PAIRS = {
    "timm vit": Pair("timm", timms, ours),
    "timm avg": Pair("timm", partial(timms, global_pool="avg"), partial(ours, global_pool="avg")),
    "timm no class token": Pair(
        "timm",
        partial(timms, global_pool="avg", class_token=False, img_size=(12, 20)),
        partial(ours, global_pool="avg", class_token=False, img_size=(12, 20)),
        img_size=(12, 20),
    ),
    "timm registers": Pair("timm", partial(timms, reg_tokens=4), partial(ours, reg_tokens=4)),
    "timm no_embed_class": Pair("timm", partial(timms, reg_tokens=4, no_embed_class=True), partial(ours, reg_tokens=4)),
    "timm clip": Pair("timm", partial(timms, pre_norm=True, norm_eps=1e-5, act_layer=QuickGELU), our_clip_vision),
    "timm no qkv bias": Pair("timm", partial(timms, qkv_bias=False), partial(ours, qkv_bias=False)),
    "timm features": Pair("timm", partial(timms, num_classes=0), partial(ours, num_classes=0)),
    "timm distilled": Pair(
        "timm",
        partial(timms, timm.models.deit.VisionTransformerDistilled),
        partial(ours, models.DistilledVisionTransformer),
    ),
    "timm swin": Pair("timm", partial(timm.models.SwinTransformer, **SWIN), our_swin, img_size=(32, 32)),
    "timm mobilevit": Pair(
        "timm",
        partial(timm.create_model, "mobilevit_xxs", num_classes=7),
        partial(models.create_model, "mobilevit_xxs", num_classes=7),
        img_size=(32, 32),
    ),
    "timm hybrid": Pair(
        "timm", partial(their_hybrid, **HYBRID), partial(models.HybridViT, **HYBRID), img_size=(24, 24)
    ),
    "torchvision vit": Pair("torchvision", torchvision_vit, ours),
    "torchvision swin": Pair("torchvision", torchvision_swin, our_swin, img_size=(36, 22)),
    "torchvision resnet": Pair("torchvision", torchvision.models.resnet18, our_backbone, two_stages, img_size=(24, 24)),
    "transformers vit": Pair(
        "transformers", partial(hf, "ViTForImageClassification"), partial(ours, norm_eps=1e-12), logits
    ),
    "transformers vit without biases": Pair(
        "transformers",
        partial(hf, "ViTForImageClassification", qkv_bias=False, image_size=(8, 20)),
        partial(ours, norm_eps=1e-12, qkv_bias=False, img_size=(8, 20)),
        logits,
        img_size=(8, 20),
    ),
    "transformers ViTModel": Pair(
        "transformers",
        partial(hf, "ViTModel"),
        partial(ours, norm_eps=1e-12, num_classes=0),
        all_tokens,
        all_tokens,
    ),
    "transformers deit": Pair(
        "transformers",
        partial(hf, "DeiTForImageClassification", "DeiTConfig"),
        partial(ours, norm_eps=1e-12, reg_tokens=1),
        logits,
    ),
    "transformers DeiTModel": Pair(
        "transformers",
        partial(hf, "DeiTModel", "DeiTConfig"),
        partial(ours, norm_eps=1e-12, reg_tokens=1, num_classes=0),
        all_tokens,
        all_tokens,
    ),
    "transformers deit with teacher": Pair(
        "transformers",
        partial(hf, "DeiTForImageClassificationWithTeacher", "DeiTConfig"),
        partial(ours, models.DistilledVisionTransformer, norm_eps=1e-12),
        logits,
    ),
    "transformers swin": Pair("transformers", hf_swin, our_swin, logits, img_size=(32, 32)),
    "transformers SwinModel": Pair(
        "transformers", partial(hf_swin, "SwinModel"), partial(our_swin, num_classes=0), pooled, img_size=(32, 32)
    ),
    "transformers mae": Pair("transformers", hf_mae, our_mae, reconstruction, reconstruction),
    "transformers ViTMAEModel": Pair(
        "transformers",
        partial(hf_mae, "ViTMAEModel", mask_ratio=0.0),
        partial(ours, num_classes=0, pos_embed="sincos"),
        lambda model, x: model(x).last_hidden_state[:, 0],
    ),
    "transformers clip": Pair("transformers", hf_clip, our_clip, image_to_text, image_to_text),
    "transformers CLIPVisionModel": Pair(
        "transformers",
        partial(hf, "CLIPVisionModel", "CLIPVisionConfig"),
        partial(our_clip_vision, num_classes=0),
        pooled,
    ),
    "transformers CLIPVisionModelWithProjection": Pair(
        "transformers",
        partial(hf, "CLIPVisionModelWithProjection", "CLIPVisionConfig", projection_dim=7),
        our_clip_vision,
        lambda model, x: model(x).image_embeds,
    ),
    "vit_pytorch cct": Pair("vit_pytorch", their_cct, our_cct),
}


def twins(what, batch=2):
    """Theirs with random weights and ours with others, in float64 and eval mode, and images."""
    pair = PAIRS[what]
    x, theirs = normal(batch, 3, *pair.img_size), pair.theirs()
    has_statistics = any(isinstance(module, nn.BatchNorm2d) for module in theirs.modules())
    theirs = settled(theirs, normal(2, 3, *pair.img_size, grad=False)) if has_statistics else randomised(theirs)
    return pair, theirs.eval(), randomised(pair.ours(), seed=5).eval(), x


def backward(model, answer, x):
    """The gradient of a random projection of the answer, for the images and by the names of the parameters."""
    outputs = answer(model, x)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    loss = sum((output * normal(*output.shape, seed=7, grad=False)).sum() for output in outputs)
    wanted = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    grads = torch.autograd.grad(loss, [x, *wanted.values()], allow_unused=True, materialize_grads=True)
    return outputs, grads[0], dict(zip(wanted, grads[1:]))


@pytest.mark.parametrize("what", PAIRS)
def test_weights_give_their_outputs_and_gradients(what):
    pair, theirs, model, x = twins(what)
    assert load_weights(model, theirs.state_dict(), source=pair.source) is model
    their_outputs, their_gradient, theirs_by_name = backward(theirs, pair.their_answer, x)
    our_outputs, our_gradient, ours_by_name = backward(model, pair.our_answer, x)
    assert_equal(our_outputs, their_outputs, tolerance=DEEP)
    assert_equal(our_gradient, their_gradient, "gradients of the images", DEEP)
    # Gradients have the names of weights, so that the same table says which is which.
    renamed = load_weights(copy.deepcopy(model), theirs.state_dict() | theirs_by_name, source=pair.source)
    for name, gradient in ours_by_name.items():
        their_one = renamed.get_parameter(name).detach()
        if what.endswith("no_embed_class") and name == "pos_embed":
            gradient, their_one = gradient[:, 5:], their_one[:, 5:]
        elif what.endswith("Projection") and name == "head.bias":
            continue  # theirs has none
        assert_equal(gradient, their_one, name, DEEP)


@pytest.mark.parametrize("what", PAIRS)
def test_in_float32_and_for_one_image(what):
    pair, theirs, model, x = twins(what, batch=1)
    load_weights(model.float(), theirs.state_dict(), source=pair.source)
    assert {x.dtype for x in model.state_dict().values() if x.is_floating_point()} == {torch.float32}
    with torch.no_grad():
        expected = pair.their_answer(theirs.float(), x.float())
        assert_equal(pair.our_answer(model, x.float()), expected, tolerance=1e-5)


@pytest.mark.parametrize("what", PAIRS)
def test_every_value_is_needed_and_has_its_place(what):
    pair, theirs, model, _ = twins(what)
    state = theirs.state_dict()
    load = partial(load_weights, model, source=pair.source)
    load(state)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    left_out = r"pooler|relative_position_index|num_batches_tracked|^fc\.|layer[34]"
    names = [name for name in state if not re.search(left_out, name)]
    for name in {*names[:: len(names) // 9], *names[-2:]}:
        tail = re.escape(name.partition(".")[2] or name)  # transformers' "vit." is left away
        with pytest.raises(ValueError, match=rf"1 missing \(.*{tail}\) found, wanted"):
            load({key: x for key, x in state.items() if key != name})
        with pytest.raises(ValueError, match=rf"1 unexpected \({re.escape(name)}x\) found, wanted"):
            load({**state, f"{name}x": state[name]})
        value = state[name]
        wrong = value[..., :-1] if value.ndim and value.shape[-1] > 1 else torch.cat([value[..., None]] * 2, dim=-1)
        with pytest.raises(ValueError, match=rf"1 of another shape \({re.escape(name)} \(.*, not \("):
            load({**state, name: wrong})
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def assert_same_answers(what, state_dict, **words):
    """The state dict of theirs, as some file has it, gives ours their answers."""
    pair, theirs, model, x = twins(what)
    load_weights(model, state_dict(theirs), **{"source": pair.source} | words)
    with torch.no_grad():
        assert_equal(pair.our_answer(model, x), pair.their_answer(theirs, x), tolerance=DEEP)


@pytest.mark.parametrize("what", [what for what in PAIRS if what.startswith("transformers")])
def test_the_names_of_published_transformers_files(what, tmp_path):
    def saved(theirs):
        theirs.save_pretrained(tmp_path)  # in the names of version 4
        state = load_file(tmp_path / "model.safetensors")
        changed = set(state) - set(theirs.state_dict())
        assert bool(changed) != ("clip" in what.lower()) and not any("q_proj" in name for name in changed)
        return tmp_path / "model.safetensors"

    assert_same_answers(what, saved)


def test_more_names_of_published_files():
    def mae(theirs):  # version 4; what 5.23 saves is a slip of its own
        replaced = {"vit.layers": "vit.encoder.layer", "attention.o_proj": "attention.output.dense"}
        replaced |= {f"attention.{x[0]}_proj": f"attention.attention.{x}" for x in ("query", "key", "value")}
        replaced |= {"mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense"}
        return {replace(name, replaced): x for name, x in theirs.state_dict().items()}

    def clip_vision(theirs):
        state = {f"vision_model.{name}": x for name, x in theirs.state_dict().items()}
        return state | {"vision_model.embeddings.position_ids": torch.arange(17)[None]}

    def clip(theirs):
        ids = {f"{part}_model.embeddings.position_ids": torch.arange(17)[None] for part in ("vision", "text")}
        return theirs.state_dict() | ids

    def swin(theirs):
        index = {f"swin.encoder.layers.{n}.blocks.0.attention.self.relative_position_index": TEXTS for n in range(3)}
        return theirs.state_dict() | index

    def torchvision_vit(theirs):
        replaced = {"mlp.0": "mlp.linear_1", "mlp.3": "mlp.linear_2"}
        return {replace(name, replaced): x for name, x in theirs.state_dict().items()}

    def timm_swin(theirs):
        buffers = {"layers.0.blocks.0.attn.relative_position_index": TEXTS, "layers.0.blocks.1.attn_mask": torch.eye(2)}
        return theirs.state_dict() | buffers

    def microsoft(theirs):  # a stage ends with its downsampling, the head is plain
        state = {name.replace("head.fc", "head"): x for name, x in theirs.state_dict().items()}
        for n in (1, 2):
            for name in [name for name in state if name.startswith(f"layers.{n}.downsample")]:
                state[name.replace(f"layers.{n}", f"layers.{n - 1}")] = state.pop(name)
        return state

    def resnet(theirs):
        return {name: x for name, x in theirs.state_dict().items() if "num_batches" not in name}

    assert_same_answers("transformers mae", mae)
    assert_same_answers("transformers CLIPVisionModel", clip_vision)
    assert_same_answers("transformers clip", clip)
    assert_same_answers("transformers swin", swin)
    assert_same_answers("torchvision vit", torchvision_vit)
    assert_same_answers("torchvision resnet", resnet)
    assert_same_answers("timm swin", timm_swin)
    assert_same_answers("timm swin", microsoft)


def test_another_resnet_is_not_cut_to_fit():
    weights = torchvision.models.resnet34().state_dict()  # more blocks in each layer, else the same
    with pytest.raises(ValueError, match=r"unexpected \(layer1\.2\.conv1\.weight"):
        load_weights(our_backbone(), weights, source="torchvision")


def replace(name, replaced):
    for there, here in replaced.items():
        name = name.replace(there, here)
    return name


def test_a_plain_vit_out_of_mae_and_out_of_clip():
    _, whole, _, x = twins("transformers mae")
    alone = load_weights(ours(num_classes=0, pos_embed="sincos").double(), whole.state_dict(), source="transformers")
    mae = load_weights(our_mae().double(), whole.state_dict(), source="transformers")
    assert_equal(alone(x), mae.encoder(x))

    _, whole, clip, x = twins("transformers clip")
    load_weights(clip, whole.state_dict(), source="transformers")
    tower = our_clip_vision(num_classes=10).double()
    load_weights(tower, whole.state_dict(), source="transformers")
    assert_equal(tower(x), clip.encode_image(x))


def test_mae_as_its_authors_published_it():
    model, again = our_mae(), our_mae()
    state = {name.removeprefix("encoder."): x for name, x in model.state_dict().items()}
    assert {"cls_token", "patch_embed.proj.weight", "decoder_blocks.1.attn.qkv.bias", "mask_token"} < set(state)
    load_weights(again, state)
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in model.state_dict().items())


PUBLISHED = {  # our name -> source, the model there
    **{name: ("timm", partial(timm.create_model, name)) for name in ("vit_tiny_patch16_224", "mobilevit_xxs")},
    "deit_tiny_distilled_patch16_224": ("timm", partial(timm.create_model, "deit_tiny_distilled_patch16_224")),
    "vit_base_patch32_clip_quickgelu_224": (
        "timm",
        partial(timm.create_model, "vit_base_patch32_clip_quickgelu_224", num_classes=512),
    ),
    "swin_tiny_patch4_window7_224": ("timm", partial(timm.create_model, "swin_tiny_patch4_window7_224")),
    "swin_small_patch4_window7_224": ("torchvision", torchvision.models.swin_s),
    "swin_base_patch4_window7_224": ("torchvision", torchvision.models.swin_b),
    "vit_base_patch16_224": ("torchvision", torchvision.models.vit_b_16),
    "vit_base_patch32_224": ("torchvision", torchvision.models.vit_b_32),
    "vit_large_patch16_224": ("torchvision", torchvision.models.vit_l_16),
    "vit_small_patch16_224": (
        "transformers",
        lambda: transformers.ViTForImageClassification(
            transformers.ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536, num_labels=1000)
        ),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_fit_whole(name):
    source, theirs = PUBLISHED[name]
    with torch.device("meta"):
        state, model = theirs().state_dict(), models.create_model(name)
    state = {key: torch.zeros((), dtype=x.dtype).expand(x.shape) for key, x in state.items()}
    with pytest.raises(ValueError, match="a model on the meta device"):  # all that is left to complain about
        load_weights(model, state, source=source)


@pytest.mark.parametrize("words", [{"img_size": 28}, {"img_size": (8, 20)}, {"img_size": 8, "reg_tokens": 4}, {}])
def test_positions_are_resized_as_timm_does_it(words):
    theirs = randomised(timms(**words | {"img_size": 20}))
    model = ours(**words).double()
    load_weights(model, theirs.state_dict(), resize_positions=True)
    P, grid = model.num_prefix_tokens, model.patch_embed.grid_size
    expected = resample_abs_pos_embed(theirs.pos_embed, grid, num_prefix_tokens=P)
    assert torch.equal(model.pos_embed, expected)


def test_positions_of_another_grid_than_a_square():
    theirs, model = randomised(timms(img_size=(24, 40))), ours(img_size=(16, 32)).double()
    load_weights(model, theirs.state_dict(), resize_positions=(6, 10))
    assert torch.equal(model.pos_embed, resample_abs_pos_embed(theirs.pos_embed, (4, 8), (6, 10)))


def test_as_many_positions_in_another_grid():
    theirs, model = randomised(timms()), ours(img_size=(8, 32)).double()
    load_weights(model, theirs.state_dict(), resize_positions=(4, 4))
    assert torch.equal(model.pos_embed, resample_abs_pos_embed(theirs.pos_embed, (2, 8)))
    theirs = randomised(timms(img_size=(8, 32)))
    load_weights(model, theirs.state_dict())
    assert torch.equal(model.pos_embed, theirs.pos_embed)


FITTING = {  # what -> (source, theirs, ours) of one grid, whose numbers could be taken for another
    "registers": (
        "timm",
        partial(timms, img_size=12, reg_tokens=4, no_embed_class=True),
        partial(ours, img_size=12, reg_tokens=4),
    ),
    "wide": ("timm", partial(timms, img_size=(8, 32)), partial(ours, img_size=(8, 32))),
    "a wide window": (
        "torchvision",
        partial(torchvision.models.SwinTransformer, [2, 2], 8, [2], [1], [2, 14], num_classes=7),
        partial(our_swin, depths=(2,), num_heads=(1,), window_size=(2, 14)),
    ),
}


@pytest.mark.parametrize("what", FITTING)
def test_what_fits_is_not_resized(what):
    source, their_build, our_build = FITTING[what]
    theirs = randomised(their_build())
    plain, asked = (
        load_weights(our_build(), theirs.state_dict(), source, resize_positions=resize) for resize in (False, True)
    )
    assert all(torch.equal(x, asked.state_dict()[name]) for name, x in plain.state_dict().items())


def test_tables_of_another_window_that_is_no_square():
    theirs = randomised(torchvision.models.SwinTransformer([2, 2], 8, [2], [1], [4, 8], num_classes=7))
    words = {"depths": (2,), "num_heads": (1,)}
    model = our_swin(**words, window_size=(8, 8)).double()
    load_weights(model, theirs.state_dict(), "torchvision", resize_positions=(4, 8))
    table = theirs.features[1][0].attn.relative_position_bias_table
    grid = table.T.reshape(1, 1, 7, 15).float()
    wanted = nn.functional.interpolate(grid, (15, 15), mode="bicubic").double().flatten()[:, None]
    assert_equal(model.layers[0].blocks[0].attn.relative_position_bias_table, wanted, "table", 1e-12)


def test_ccts_positions_are_resized_as_its_authors_do():
    theirs, model = randomised(their_cct()), our_cct(img_size=24).double()
    load_weights(model, theirs.state_dict(), "vit_pytorch", resize_positions=True)
    old = theirs.classifier.positional_emb.float().reshape(1, 4, 4, 24).permute(0, 3, 1, 2)
    wanted = nn.functional.interpolate(old, (6, 6), mode="bilinear").flatten(2).transpose(1, 2).double()
    assert_equal(model.pos_embed, wanted, "positions", 1e-12)


def test_half_precision_is_resized_in_full():
    state = randomised(timms()).half().state_dict()
    half, full = (
        load_weights(ours(img_size=24), {k: x.to(dtype) for k, x in state.items()}, resize_positions=True)
        for dtype in (torch.float16, torch.float32)
    )
    assert torch.equal(half.pos_embed, full.pos_embed)


def test_a_whole_mae_of_its_authors_fills_a_vit():
    mae, model = randomised(our_mae()), ours(num_classes=0).double()
    state = {name.removeprefix("encoder."): x for name, x in mae.state_dict().items()}
    load_weights(model, state)
    assert torch.equal(model.blocks[1].mlp.fc1.weight, mae.encoder.blocks[1].mlp.fc1.weight)


def test_a_tower_with_a_head_is_refused():
    text = models.TextTransformer(vocab_size=20, context_length=6, embed_dim=16, depth=2, num_heads=2)
    for encoder, build, theirs in (
        (our_clip_vision(), lambda tower: models.CLIP(tower, text, embed_dim=10), hf_clip),
        (ours(), lambda tower: models.MAE(tower, decoder_embed_dim=16, decoder_depth=2, decoder_num_heads=2), hf_mae),
    ):
        model, before = build(encoder), encoder.head.bias.clone()
        with pytest.raises(ValueError, match=r"2 missing \(.*num_classes=0"):
            load_weights(model, theirs().state_dict(), "transformers")
        assert torch.equal(encoder.head.bias, before)


REMEDIES = {  # what does not fit -> (source, theirs, ours, what helps)
    "no positions there": ("timm", partial(timms, pos_embed="none"), ours, "settings"),
    "none here": ("timm", timms, partial(ours, pos_embed="none"), "settings"),
    "positions of a text": ("transformers", hf_clip, partial(our_clip, 7), "settings"),
    "a window that timm made smaller": (
        "timm",
        partial(timm.models.SwinTransformer, **SWIN | {"img_size": 16}),
        our_swin,
        "larger img_size",
    ),
    "two heads in one": (
        "timm",
        partial(timms, timm.models.deit.VisionTransformerDistilled),
        ours,
        "DistilledVisionTransformer",
    ),
    "one head in two": (
        "transformers",
        partial(hf, "DeiTForImageClassification", "DeiTConfig"),
        partial(ours, models.DistilledVisionTransformer),
        "reg_tokens=1",
    ),
}


@pytest.mark.parametrize("what", REMEDIES)
def test_the_remedy_is_one_that_helps(what):
    source, their_build, our_build, remedy = REMEDIES[what]
    with pytest.raises(ValueError, match=remedy) as caught:
        load_weights(our_build(), their_build().state_dict(), source)
    assert "resize_positions" not in str(caught.value)


def test_positions_without_those_of_the_registers():
    theirs = randomised(timms(img_size=24, reg_tokens=4, no_embed_class=True))
    model = ours(reg_tokens=4).double()
    load_weights(model, theirs.state_dict(), resize_positions=True)
    assert torch.equal(model.pos_embed[:, 5:], resample_abs_pos_embed(theirs.pos_embed, (4, 4), num_prefix_tokens=0))
    assert model.pos_embed[:, :5].eq(0).all()


@pytest.mark.parametrize("what", ["vit", "deit with teacher", "CLIPVisionModel", "ViTMAEModel"])
@pytest.mark.parametrize("img_size", [24, 8, (12, 20)])
def test_positions_are_resized_as_transformers_does_it(what, img_size):
    pair, theirs, model, _ = twins(f"transformers {what}")
    words = {"img_size": img_size} | ({"norm_eps": 1e-12} if what in ("vit", "deit with teacher") else {})
    model = pair.ours.func(*pair.ours.args, **pair.ours.keywords | words)
    load_weights(model, theirs.state_dict(), source="transformers", resize_positions=True)
    embeddings = next(module for name, module in theirs.float().named_modules() if name.endswith("embeddings"))
    expected = embeddings.interpolate_pos_encoding(torch.zeros_like(model.pos_embed), *model.patch_embed.img_size)
    assert_equal(model.pos_embed, expected, tolerance=1e-6)


@pytest.mark.parametrize("img_size", [24, 12])
def test_positions_are_resized_as_torchvision_does_it(img_size):
    theirs, model = randomised(torchvision_vit()).float(), ours(img_size=img_size)
    load_weights(model, theirs.state_dict(), source="torchvision", resize_positions=True)
    expected = interpolate_embeddings(img_size, 4, theirs.state_dict())["encoder.pos_embedding"]
    assert torch.equal(model.pos_embed, expected)


def test_both_of_maes_positions_are_resized():
    theirs, model = randomised(hf_mae()), our_mae(img_size=24).double()
    load_weights(model, theirs.state_dict(), source="transformers", resize_positions=True)
    for ours_, theirs_ in [
        (model.encoder.pos_embed, theirs.vit.embeddings.position_embeddings),
        (model.decoder_pos_embed, theirs.decoder.decoder_pos_embed),
    ]:
        assert torch.equal(ours_, layers.resize_positions(theirs_, (4, 4), (6, 6), antialias=False))


@pytest.mark.parametrize("window_size", [(2, 2), (7, 7), (2, 8)])
def test_bias_tables_are_resized_for_another_window(window_size):
    theirs = randomised(torchvision_swin())
    model = our_swin(window_size=window_size).double()
    with pytest.raises(ValueError, match="resize_positions=True"):
        load_weights(model, theirs.state_dict(), source="torchvision")
    load_weights(model, theirs.state_dict(), source="torchvision", resize_positions=True)
    for n, m in [(0, 0), (1, 1), (2, 0)]:
        table = theirs.features[2 * n + 1][m].attn.relative_position_bias_table.detach().float()
        rows = (2 * window_size[0] - 1) * (2 * window_size[1] - 1)
        expected = resize_rel_pos_bias_table_simple(table, window_size, (rows, table.shape[1]))
        assert_equal(model.layers[n].blocks[m].attn.relative_position_bias_table.float(), expected, tolerance=1e-6)
