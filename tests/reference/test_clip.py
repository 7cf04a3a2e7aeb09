"""CLIP is transformers' CLIPModel: features, logits, loss and gradients; its published sizes; the loss in loops."""

import math

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from tests.reference.compare import assert_equal, gradients, normal, randomise
from vit_edu.models import CLIP, TextTransformer, clip_logits, clip_loss, create_model, tokenize

VOCAB, END = 32, 31
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": VOCAB,
}
TEXT |= {"max_position_embeddings": 9, "bos_token_id": 30, "eos_token_id": END, "pad_token_id": 0}
VISION = {"hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3, "patch_size": 4}


def renamed(name):
    """transformers' name -> ours; q, k and v come as "qkv.0" to "qkv.2"."""
    for there, here in {
        "vision_model.embeddings.class_embedding": "visual.cls_token",
        "vision_model.embeddings.patch_embedding": "visual.patch_embed.proj",
        "vision_model.embeddings.position_embedding.weight": "visual.pos_embed",
        "vision_model.pre_layrnorm": "visual.norm_pre",
        "vision_model.post_layernorm": "visual.norm",
        "vision_model.encoder.layers": "visual.blocks",
        "text_model.embeddings.token_embedding": "text.token_embed",
        "text_model.embeddings.position_embedding.weight": "text.pos_embed",
        "text_model.final_layer_norm": "text.norm",
        "text_model.encoder.layers": "text.blocks",
        "visual_projection": "visual_proj",
        "text_projection": "text_proj",
        "layer_norm": "norm",
        "self_attn.out_proj": "attn.proj",
        "self_attn.q_proj": "attn.qkv.0",
        "self_attn.k_proj": "attn.qkv.1",
        "self_attn.v_proj": "attn.qkv.2",
    }.items():
        name = name.replace(there, here)
    return name


def in_our_names(theirs, model):
    named = {renamed(name): x for name, x in theirs.items()}
    for name in [name for name in named if "qkv.0" in name]:
        packed = [named.pop(name.replace("qkv.0", f"qkv.{i}")) for i in range(3)]
        named[name.replace("qkv.0", "qkv")] = torch.cat(packed)
    shapes = {name: p.shape for name, p in model.named_parameters()}
    return {name: x.view(shapes[name]) if name.endswith(("_embed", "cls_token")) else x for name, x in named.items()}


def pair(img_size=(16, 16), act="quick_gelu", end_token=None, theirs_end=END, visual_depth=3):
    vision = VISION | {"image_size": img_size[0], "hidden_act": act, "num_hidden_layers": visual_depth}
    text = TEXT | {"hidden_act": act, "eos_token_id": theirs_end}
    theirs = randomise(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)))
    act_layer = {} if act == "quick_gelu" else {"act_layer": torch.nn.GELU}  # the published one is the default
    words = {"img_size": img_size, "patch_size": 4, "embed_dim": 24, "depth": visual_depth, "num_heads": 3}
    words |= {"num_classes": 0} | act_layer
    visual = create_model("vit_base_patch32_clip_quickgelu_224", **words)
    text = TextTransformer(VOCAB, 9, embed_dim=16, depth=2, num_heads=4, end_token=end_token, **act_layer)
    model = CLIP(visual, text, embed_dim=12).double()
    model.load_state_dict(in_our_names(theirs.state_dict(), model))
    return model, theirs


def texts(batch, length=9, seed=0):
    """Random tokens, the end somewhere behind the second, and after it any padding but the end."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, END, (batch, length), generator=generator)
    ends = torch.randint(2, length, (batch,), generator=generator)
    return tokens.scatter(1, ends[:, None], END)


CASES = {
    "native": ({}, 3, 9),
    "batch 1": ({}, 1, 9),
    "shorter texts": ({}, 2, 5),
    "gelu": ({"act": "gelu"}, 3, 9),
    "end by its number": ({"end_token": END}, 3, 9),
    "the old convention, argmax": ({"theirs_end": 2}, 3, 9),
    "another end token": ({"end_token": 7, "theirs_end": 7}, 3, 9),
    "one block": ({"visual_depth": 1}, 2, 9),
    "larger": ({"img_size": (24, 24)}, 2, 9),
}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("what", CASES)
def test_features_logits_loss_and_gradients_are_transformers(what, mode):
    words, batch, length = CASES[what]
    model, theirs = pair(**words)
    model.train(mode == "train"), theirs.train(mode == "train")
    images, tokens = normal(batch, 3, *words.get("img_size", (16, 16))), texts(batch, length)
    loss, image_features, text_features = model(images, tokens)
    reference = theirs(input_ids=tokens, pixel_values=images, return_loss=True)
    assert_equal(loss, reference.loss, "loss")
    assert_equal(clip_loss(image_features, text_features, model.logit_scale), reference.loss, "loss from the features")
    unit = (
        image_features / image_features.norm(dim=1, keepdim=True),
        text_features / text_features.norm(dim=1, keepdim=True),
    )
    assert_equal(unit, (reference.image_embeds, reference.text_embeds), "features")
    logits = clip_logits(image_features, text_features, model.logit_scale)
    assert_equal(logits, reference.logits_per_image, "logits")
    assert_equal(logits.T, reference.logits_per_text, "logits per text")

    names, parameters = zip(*model.named_parameters())
    their_names, their_parameters = zip(*theirs.named_parameters())
    mine = gradients((loss, logits), [images, *parameters])
    there = gradients((reference.loss, reference.logits_per_image), [images, *their_parameters])
    assert_equal(mine[0], there[0], "the images' gradient")
    there = in_our_names(dict(zip(their_names, there[1:])), model)
    assert there.keys() == set(names)
    assert_equal(mine[1:], [there[name] for name in names], "gradients", 1e-11)


def test_any_number_of_texts():
    model, theirs = pair()
    images, tokens = normal(2, 3, 16, 16), texts(5)
    logits = clip_logits(model.encode_image(images), model.encode_text(tokens), model.logit_scale)
    assert_equal(logits, theirs(input_ids=tokens, pixel_values=images).logits_per_image, "logits")


def test_non_square_images():
    model, theirs = pair()
    visual = create_model(
        "vit_base_patch32_clip_quickgelu_224",
        img_size=(8, 32),
        patch_size=4,
        embed_dim=24,
        depth=3,
        num_heads=3,
        num_classes=0,
    )
    visual.double().load_state_dict(model.visual.state_dict())
    model.visual = visual
    theirs.vision_model.embeddings.interpolate_pos_encoding = lambda *_: model.visual.pos_embed  # also 16 patches
    images, tokens = normal(2, 3, 8, 32), texts(2)
    reference = theirs(input_ids=tokens, pixel_values=images, interpolate_pos_encoding=True, return_loss=True)
    assert_equal(model(images, tokens)[0], reference.loss, "loss")


def test_float32():
    model, theirs = pair()
    images, tokens = normal(3, 3, 16, 16), texts(3)
    reference = theirs(input_ids=tokens, pixel_values=images)
    model.float()
    features = model.encode_image(images.float()), model.encode_text(tokens)
    assert_equal(clip_logits(*features, model.logit_scale).double(), reference.logits_per_image, "logits", 1e-5)


@pytest.mark.parametrize(("patch_size", "count"), [(32, 151_277_313), (16, 149_620_737)])
def test_published_sizes(patch_size, count):
    with torch.device("meta"):
        visual = create_model(f"vit_base_patch{patch_size}_clip_quickgelu_224", num_classes=0)
        model = CLIP(visual, TextTransformer(vocab_size=49408))
        theirs = CLIPModel(CLIPConfig(vision_config={"patch_size": patch_size}))
        state = in_our_names(dict(theirs.named_parameters()), model)
    assert {name: p.shape for name, p in model.named_parameters()} == {name: p.shape for name, p in state.items()}
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in theirs.parameters()) == count
    assert theirs.config.logit_scale_init_value == pytest.approx(math.log(1 / 0.07), abs=1e-4)


def test_loss_in_loops():
    images, texts, scale = (
        normal(4, 5, seed=1),
        normal(4, 5, seed=2),
        torch.tensor(1.3, dtype=torch.float64).requires_grad_(),
    )
    cosine = [[(a @ b) / ((a @ a) * (b @ b)).sqrt() for b in texts] for a in images]
    power = [[(scale.exp() * c).exp() for c in row] for row in cosine]
    loss = 0
    for i in range(4):
        loss = loss - (power[i][i] / sum(power[i])).log() / 8 - (power[i][i] / sum(row[i] for row in power)).log() / 8
    mine = clip_loss(images, texts, scale)
    assert_equal(mine, loss, "loss")
    assert_equal(gradients(mine, [images, texts, scale]), gradients(loss, [images, texts, scale]), "gradients")
    assert_equal(clip_loss(7 * images, texts / 3, scale), loss, "loss of features of another length")


def test_what_stands_behind_the_end_is_not_seen():
    model, _ = pair()
    tokens = texts(4)
    tokens[:, 4] = END
    tokens[:, :4] = tokens[:, :4].clamp(max=END - 1)
    other = tokens.clone()
    other[:, 5:] = torch.randint(0, END, (4, 4))
    assert_equal(model.encode_text(tokens), model.encode_text(other), "features")
    assert_equal(model.encode_text(tokens[:, :5]), model.encode_text(other), "features of texts cut behind the end")
    other[:, 3] = (tokens[:, 3] + 1) % END
    assert (model.encode_text(tokens) - model.encode_text(other)).abs().min(dim=1).values.max() > 1e-3


def test_bytes_between_start_and_end():
    tokens = tokenize(["ab", "é😀", ""], context_length=8)
    assert tokens.tolist() == [
        [256, 97, 98, 257, 0, 0, 0, 0],
        [256, 0xC3, 0xA9, 0xF0, 0x9F, 0x98, 0x80, 257],
        [256, 257, 0, 0, 0, 0, 0, 0],
    ]
    assert tokenize("ab").shape == (1, 77) and tokenize([]).shape == (0, 77) and tokens.dtype == torch.int64
    back = [bytes(row[1 : row.tolist().index(257)].tolist()).decode() for row in tokens]
    assert back == ["ab", "é😀", ""]
