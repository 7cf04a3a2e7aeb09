"""MAE, DINO and CLIP: bad input is answered by one clear sentence."""

import pytest
import torch
from torch import nn

from tests.sentences import assert_sentence
from tests.unit.pretraining import HEAD, clip, crops, dino, images, mae, noise, text, tokens, vit
from vit_edu import layers, models
from vit_edu.models import CLIP, DINO, MAE, create_model

target, mask = models.mae_target(images, 4), layers.random_masking(noise)[2]
BAD_INPUT = {  # what -> (call, error, what the sentence must hold: found, wanted, remedy)
    "ratio 1": (lambda: layers.random_masking(noise, 1.0), ValueError, "mask_ratio=1.0 0·<=·mask_ratio·<·1 0.75"),
    "ratio below 0": (lambda: layers.random_masking(noise, -0.1), ValueError, "mask_ratio=-0.1"),
    "noise rank": (lambda: layers.random_masking(noise[0]), ValueError, "(16,) (B,·N) torch.rand"),
    "noise dtype": (lambda: layers.random_masking(noise.long()), TypeError, "int64 float"),
    "model's ratio": (lambda: mae(mask_ratio=1.0), ValueError, "mask_ratio=1.0 16·patches one·patch·kept 0.75"),
    "none removed": (lambda: mae(mask_ratio=0.0), ValueError, "mask_ratio=0.0 removed"),
    "none kept": (lambda: mae(mask_ratio=0.95), ValueError, "mask_ratio=0.95 16·patches kept"),
    "ratio as text": (lambda: mae(mask_ratio="0.75"), ValueError, "mask_ratio='0.75' 16·patches"),
    "no ratio": (lambda: mae(mask_ratio=float("nan")), ValueError, "mask_ratio=nan"),
    "decoder width below 0": (lambda: mae(decoder_embed_dim=-4), ValueError, "decoder_embed_dim=-4"),
    "noise as list": (lambda: mae()(images, [1, 2]), ValueError, "noise=[1,·2] torch.rand"),
    "mae of nothing": (lambda: mae()(images[:0]), ValueError, "0·images 1·or·more"),
    "dino of nothing": (lambda: dino()([images[:0]] * 2), ValueError, "0·images 1·or·more"),
    "clip of nothing": (
        lambda: models.clip_loss(images[:0, 0, 0], images[:0, 0, 0], torch.ones(())),
        ValueError,
        "0·images",
    ),
    "student's temperature": (lambda: DINO(vit(), **HEAD, student_temp=0), ValueError, "student_temp=0 above·0"),
    "teacher's temperature": (lambda: DINO(vit(), **HEAD, teacher_temp="a"), ValueError, "teacher_temp='a' above·0"),
    "numbers for crops": (lambda: dino()([1, 2]), TypeError, "int tensor"),
    "crops of other channels": (lambda: dino()([images, images[:, :1]]), ValueError, "(2,·3) (2,·1)"),
    "momentum as text": (lambda: dino().update_teacher("a"), ValueError, "momentum='a'"),
    "one crop's logits": (
        lambda: models.dino_loss([images[0, 0]], [images[0, 0]], images[0, 0, 0]),
        ValueError,
        "1·crops 2·or·more",
    ),
    "no width in common": (lambda: CLIP(vit(), text(), embed_dim=0), ValueError, "embed_dim=0"),
    "text for tokens": (lambda: text()("cat"), TypeError, "str tokenize(texts)"),
    "no texts": (lambda: models.tokenize(None), TypeError, "NoneType list·of·str"),
    "context as text": (lambda: models.tokenize("cat", "a"), ValueError, "context_length='a'"),
    "end token": (lambda: models.TextTransformer(20, 6, 8, 1, 2, end_token=99), ValueError, "end_token=99 0·to·19"),
    "noise shape": (lambda: mae()(images, noise[:1]), ValueError, "(1,·16) (2,·16) one·number"),
    "decoder heads": (lambda: mae(decoder_num_heads=3), ValueError, "dim=8 num_heads=3"),
    "decoder width": (lambda: mae(decoder_embed_dim=10), ValueError, "dim=10 multiple·of·4"),
    "decoder depth": (lambda: mae(decoder_depth=0), ValueError, "decoder_depth=0 1·or·more"),
    "mae of a class": (lambda: MAE(nn.Linear(2, 2)), TypeError, "Linear ViT create_model"),
    "mae of a cct": (lambda: MAE(create_model("cct_2_3x2_32")), TypeError, "CCT a·ViT·on·patches"),
    "mae size": (lambda: mae(dynamic_img_size=True)(images[:, :, :8]), ValueError, "(8,·16) (16,·16) img_size"),
    "mae uint8": (lambda: mae()((images * 255).byte()), TypeError, "uint8 float 255"),
    "mae channels": (lambda: mae(in_chans=1)(images), ValueError, "(2,·3,·16,·16) (B,·1,·H,·W)"),
    "mae rank": (lambda: mae()(images[0]), ValueError, "(3,·16,·16) image[None]"),
    "mae float64": (lambda: mae()(images.double()), TypeError, "float64 float32"),
    "target uint8": (lambda: models.mae_target(images.byte(), 4), TypeError, "uint8 float"),
    "target size": (lambda: models.mae_target(images, 5), ValueError, "(16,·16) patch_size=5"),
    "loss shape": (lambda: models.mae_loss(target[:, 1:], target, mask), ValueError, "(2,·15,·48) (2,·16,·48) same"),
    "loss mask": (lambda: models.mae_loss(target, target, mask[0]), ValueError, "mask·(16,) (B,·N)"),
    "picture": (lambda: models.reconstruct(images, target[:1], mask, 4), ValueError, "(1,·16,·48) same"),
    "dino of a class": (lambda: DINO(nn.Linear(2, 2)), TypeError, "Linear VisionTransformer create_model"),
    "no outputs": (lambda: DINO(vit(), out_dim=0), ValueError, "out_dim=0 1·or·more"),
    "crops as tensor": (lambda: dino()(images), TypeError, "Tensor list [crop,·crop]"),
    "one crop": (lambda: dino()([images]), ValueError, "1·crops two·global"),
    "no crop": (lambda: dino()([]), ValueError, "0·crops two·global"),
    "crops' batches": (lambda: dino()([images, images[:1]]), ValueError, "(2,·3) (1,·3) same crop·every"),
    "local crops": (lambda: dino(dynamic_img_size=False)(crops), ValueError, "(8,·8) (16,·16) dynamic_img_size=True"),
    "crop's patches": (lambda: dino()([*crops, images[:, :, :7, :7]]), ValueError, "(7,·7) patch_size=4"),
    "crops uint8": (lambda: dino()([images.byte(), images.byte()]), TypeError, "uint8 float"),
    "momentum": (lambda: dino().update_teacher(1.5), ValueError, "momentum=1.5 0·<=·momentum·<=·1"),
    "clip of a class": (lambda: CLIP(nn.Linear(2, 2), text()), TypeError, "Linear VisionTransformer"),
    "clip of a width": (lambda: CLIP(vit(), 512), TypeError, "int TextTransformer"),
    "clip of one": (lambda: CLIP(vit(), vit()), TypeError, "VisionTransformer TextTransformer()"),
    "text heads": (lambda: text(num_heads=3), ValueError, "dim=8 num_heads=3"),
    "text depth": (lambda: text(depth=0), ValueError, "depth=0"),
    "no context": (lambda: text(context_length=0), ValueError, "context_length=0"),
    "token dtype": (lambda: text()(tokens.float()), TypeError, "float32 int64 tokenize"),
    "token rank": (lambda: text()(tokens[0]), ValueError, "(9,) (B,·L) 9"),
    "long tokens": (lambda: text(context_length=8)(tokens), ValueError, "(2,·9) 1·to·8 context_length"),
    "no tokens": (lambda: text()(tokens[:, :0]), ValueError, "(2,·0) 1·to·9"),
    "vocabulary": (lambda: text(vocab_size=257)(tokens), ValueError, "0·to·257 0·to·256 vocab_size"),
    "below 0": (lambda: text()(tokens - 1), ValueError, "-1·to·256"),
    "long text": (lambda: models.tokenize("twenty bytes of text", 21), ValueError, "22·tokens at·most·21 shorten"),
    "long in bytes": (lambda: models.tokenize(["ok", "😀" * 40]), ValueError, "162·tokens 77 context_length"),
    "no text": (lambda: models.tokenize([b"cat"]), TypeError, "bytes str list"),
    "numbers": (lambda: models.tokenize([1]), TypeError, "int str list"),
    "pairs": (lambda: clip()(images, tokens[:1]), ValueError, "2·images·with·1·texts as·many clip_logits"),
    "feature width": (
        lambda: models.clip_logits(target[0], target[0, :, 1:], mask),
        ValueError,
        "(16,·48) (16,·47) width",
    ),
    "feature rank": (lambda: models.clip_loss(target, target, mask), ValueError, "(2,·16,·48) (B,·D)"),
    "clip uint8": (lambda: clip()(images.byte(), tokens), TypeError, "uint8 float"),
}


@pytest.mark.parametrize("what", BAD_INPUT)
def test_bad_input_is_one_clear_sentence(what):
    assert_sentence(*BAD_INPUT[what])
