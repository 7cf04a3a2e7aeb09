"""What our parameters are called in other libraries: tables, and how one is read.

A table says what a part of ours is called there. "norm1": "ln_1" holds for norm1.weight and norm1.bias; what is not
listed has the same name there. {N} and {M} are the first and the second number in our name. {q,k,v} are three tensors
there that are one here, as q, k and v are; None is a tensor of zeros, which has no name there.
"""

import re

Table = dict[str, str | None]


def theirs(name: str, table: Table) -> list[str]:
    """What our parameter is called there: one name, three where q, k and v stand apart, none where it is zero."""
    numbers = [int(number) for number in re.findall(r"\.(\d+)(?=\.)", name)]
    key, rest = name, ""
    for letter, number in zip("NM", numbers):
        key = key.replace(f".{number}.", f".{{{letter}}}.", 1)  # blocks.0.norm1 -> blocks.{N}.norm1
    while key not in table:  # a.b.c, else what is said of a.b, else of a
        key, dot, last = key.rpartition(".")
        if not dot:
            return [name]
        rest = f".{last}{rest}"
    if table[key] is None:
        return []
    there, (n, m, *_) = table[key] + rest, [*numbers, 0, 0]
    for place, number in {"N": n, "M": m, "N-1": n - 1, "2N": 2 * n, "2N+1": 2 * n + 1}.items():
        there = there.replace(f"{{{place}}}", str(number))
    several = re.search(r"\{(.*)\}", there)
    return [there.replace(several[0], one) for one in several[1].split(",")] if several else [there]


def renamed(name: str, source: str) -> str:
    """A name from there as the tables have it; see RENAMED."""
    for pattern, now in RENAMED.get(source, {}).items():
        name = re.sub(pattern, now, name)
    return name


def under(ours: str, theirs: str, table: Table) -> Table:
    """The table of a part, as part of something larger."""
    return {ours + name: name_there and theirs + name_there for name, name_there in table.items()}


TORCHVISION_BLOCK = {
    "norm1": "ln_1",
    "attn.qkv.weight": "self_attention.in_proj_weight",
    "attn.qkv.bias": "self_attention.in_proj_bias",
    "attn.proj": "self_attention.out_proj",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.3",
}
TORCHVISION_VIT = {
    "cls_token": "class_token",
    "pos_embed": "encoder.pos_embedding",
    "patch_embed.proj": "conv_proj",
    **under("blocks.{N}.", "encoder.layers.encoder_layer_{N}.", TORCHVISION_BLOCK),
    "norm": "encoder.ln",
    "head": "heads.head",
}
TORCHVISION_SWIN = {
    "patch_embed.proj": "features.0.0",
    "patch_embed.norm": "features.0.2",
    "layers.{N}.downsample": "features.{2N}",
    "layers.{N}.blocks.{M}": "features.{2N+1}.{M}",
    "layers.{N}.blocks.{M}.mlp.fc1": "features.{2N+1}.{M}.mlp.0",
    "layers.{N}.blocks.{M}.mlp.fc2": "features.{2N+1}.{M}.mlp.3",
}

# transformers: the names of version 5, without the "vit." or "swin." in front of them.
HF_BLOCK = {
    "norm1": "layernorm_before",
    "attn.qkv": "attention.{q,k,v}_proj",
    "attn.proj": "attention.o_proj",
    "attn.relative_position_bias_table": "attention.relative_position_bias.relative_position_bias_table",
    "norm2": "layernorm_after",
    "mlp": "mlp",
}
HF_VIT = {
    "cls_token": "embeddings.cls_token",
    "reg_token": "embeddings.distillation_token",  # DeiT's
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    **under("blocks.{N}.", "layers.{N}.", HF_BLOCK),
    "norm": "layernorm",
    "head": "classifier",
}
HF_DISTILLED = HF_VIT | {"head": "cls_classifier", "head_dist": "distillation_classifier"}
HF_MAE = {
    **under("encoder.", "", HF_VIT),
    "decoder_embed": "decoder.decoder_embed",
    "mask_token": "decoder.mask_token",
    "decoder_pos_embed": "decoder.decoder_pos_embed",
    **under("decoder_blocks.{N}.", "decoder.decoder_layers.{N}.", HF_BLOCK),
    "decoder_norm": "decoder.decoder_norm",
    "decoder_pred": "decoder.decoder_pred",
}
HF_SWIN = {
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "patch_embed.norm": "embeddings.norm",
    **under("layers.{N}.blocks.{M}.", "encoder.layers.{N}.blocks.{M}.", HF_BLOCK),
    "layers.{N}.downsample": "encoder.layers.{N-1}.downsample",  # ours begins a stage with it, theirs ends one
    "norm": "layernorm",
    "head": "classifier",
}
HF_CLIP_BLOCK = {
    "norm1": "layer_norm1",
    "attn.qkv": "self_attn.{q,k,v}_proj",
    "attn.proj": "self_attn.out_proj",
    "norm2": "layer_norm2",
    "mlp": "mlp",
}
HF_CLIP_VISION = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding.weight",
    "patch_embed.proj": "embeddings.patch_embedding",
    "norm_pre": "pre_layrnorm",
    **under("blocks.{N}.", "encoder.layers.{N}.", HF_CLIP_BLOCK),
    "norm": "post_layernorm",
    "head.weight": "visual_projection.weight",
    "head.bias": None,
}
HF_CLIP_TEXT = {
    "token_embed": "embeddings.token_embedding",
    "pos_embed": "embeddings.position_embedding.weight",
    **under("blocks.{N}.", "encoder.layers.{N}.", HF_CLIP_BLOCK),
    "norm": "final_layer_norm",
}
HF_CLIP = {
    **under("visual.", "", {ours: there for ours, there in HF_CLIP_VISION.items() if not ours.startswith("head")}),
    "visual_proj": "visual_projection",
    **under("text.", "text_model.", HF_CLIP_TEXT),
    "text_proj": "text_projection",
}

# SHI-Labs wrote CCT; vit_pytorch has their names.
SHI_BLOCK = {
    "norm1": "pre_norm",
    "attn": "self_attn",
    "norm2": "norm1",
    "mlp.fc1": "linear1",
    "mlp.fc2": "linear2",
}
SHI_CCT = {
    "patch_embed.conv_layers.{N}": "tokenizer.conv_layers.{N}.0",
    "pos_embed": "classifier.positional_emb",
    **under("blocks.{N}.", "classifier.blocks.{N}.", SHI_BLOCK),
    "norm": "classifier.norm",
    "attention_pool": "classifier.attention_pool",
    "head": "classifier.fc",
}

# DeiT, Swin and MAE as their authors published them: timm's names nearly.
MICROSOFT_SWIN = {"layers.{N}.downsample": "layers.{N-1}.downsample"}
META_MAE = {f"encoder.{part}": part for part in ("cls_token", "pos_embed", "patch_embed", "blocks", "norm")}

# source -> class of ours -> its table there; of two the one that fits better.
TABLES: dict[str, dict[str, list[Table]]] = {
    "timm": {
        "VisionTransformer": [{}],
        "DistilledVisionTransformer": [{"reg_token": "dist_token"}],
        "HybridViT": [{}],
        "SwinTransformer": [{"head": "head.fc"}, MICROSOFT_SWIN],
        "MobileViT": [{}],
        "MAE": [META_MAE],
    },
    "torchvision": {
        "VisionTransformer": [TORCHVISION_VIT],
        "SwinTransformer": [TORCHVISION_SWIN],
        "ResNet": [{}],
        "Sequential": [{}],  # a hybrid's backbone
    },
    "transformers": {
        "VisionTransformer": [HF_VIT, HF_CLIP_VISION],
        "DistilledVisionTransformer": [HF_DISTILLED],
        "SwinTransformer": [HF_SWIN],
        "MAE": [HF_MAE],
        "CLIP": [HF_CLIP],
    },
    "vit_pytorch": {"CCT": [SHI_CCT]},
    "vit_edu": {"Module": [{}]},  # anything
}

NOT_THESE = {  # what is tried and cannot be; and what can
    ("vit_pytorch", "VisionTransformer"): "take another library's ViT, this has two more norms at its patch embedding",
    ("torchvision", "HybridViT"): "pass model.patch_embed.backbone for the weights of a ResNet",
}

# Published files have older names than the tables; pattern -> what it is now.
RENAMED = {
    "torchvision": {r"mlp\.linear_1\.": "mlp.0.", r"mlp\.linear_2\.": "mlp.3."},
    "transformers": {
        r"^(vit|deit|swin|vision_model)\.": "",
        r"encoder\.layer\.": "layers.",
        r"attention\.(attention|self)\.([qkv])(uery|ey|alue)\.": r"attention.\2_proj.",
        r"attention\.self\.relative_position_bias_table": HF_BLOCK["attn.relative_position_bias_table"],
        r"attention\.output\.dense\.": "attention.o_proj.",
        r"intermediate\.dense\.": "mlp.fc1.",
        r"output\.dense\.": "mlp.fc2.",
    },
}

# What is there and has no place here by design: buffers that are made anew, transformers' pooler, MAE's decoder and
# CLIP's text tower around a plain ViT, the layers that a hybrid has cut off its backbone. OWN are our model's parts.
LEFT_OUT = {
    ("timm", "VisionTransformer"): r"^(decoder_|mask_token$)",
    ("timm", "SwinTransformer"): r"\.(relative_position_index|attn_mask)$",
    ("torchvision", "SwinTransformer"): r"\.relative_position_index$",
    ("torchvision", "Sequential"): r"^(?!OWN)(layer\d|fc)\.",
    (
        "transformers",
        "VisionTransformer",
    ): r"^(pooler|decoder|text_model|text_projection)\.|^logit_scale$|position_ids$",
    ("transformers", "DistilledVisionTransformer"): r"^pooler\.",
    ("transformers", "SwinTransformer"): r"^pooler\.|\.relative_position_index$",
    ("transformers", "CLIP"): r"\.position_ids$",
}

HEADS = [f"{head}.{leaf}" for head in ("head", "head_dist", "head.fc", "fc") for leaf in ("weight", "bias")]  # ours
