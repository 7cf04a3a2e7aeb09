"""`load_weights` from every library it knows: random weights of theirs, in ours, give their outputs and gradients."""

import copy
import re
from functools import partial

import pytest
import timm
import torch
import torchvision
import transformers
from safetensors.torch import load_file

from tests.reference.compare import assert_equal, normal
from tests.reference.peers import (
    PAIRS,
    SWIN,
    TEXTS,
    hf,
    hf_clip,
    hf_mae,
    our_backbone,
    our_clip,
    our_clip_vision,
    our_mae,
    our_swin,
    ours,
    timms,
    twins,
)
from tests.reference.twins import randomised
from vit_edu import load_weights, models

DEEP = 1e-10


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
