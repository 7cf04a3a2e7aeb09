"""A model as it comes, compiled, in parallel, training, in another precision, grey: explorers show it, and it stays."""

import pytest
import torch
from torch import nn

from vit_edu import create_model
from vit_edu.explain import AttentionMap
from vit_edu.models import CLIP, MAE, TextTransformer
from vit_edu.widgets import (
    AttentionExplorer,
    MaskExplorer,
    PatchExplorer,
    ReceptiveFieldExplorer,
    SimilarityExplorer,
)

IMAGE = torch.randint(0, 256, (3, 16, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def vit(**words):
    torch.manual_seed(0)
    small = {"img_size": (16, 24), "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 2, "num_classes": 3}
    return create_model("vit_tiny_patch16_224", **(small | words))


EXPLORERS = {  # how the model is built, what shows it, what is computed from it
    "patch": (vit, lambda model: PatchExplorer(IMAGE, model=model), "answers"),
    "attention": (vit, lambda model: AttentionExplorer(model, IMAGE), "weights"),
    "field": (vit, lambda model: ReceptiveFieldExplorer({"ViT": model}, IMAGE), "fields"),
    "mask": (lambda: MAE(vit(num_classes=0), 8, 1, 2), lambda model: MaskExplorer(model, IMAGE), "painted"),
    "similarity": (
        lambda: CLIP(vit(num_classes=0), TextTransformer(258, 16, 12, 1, 2), 3),
        lambda model: SimilarityExplorer(model, IMAGE, ["cat", "dog"]),
        "cosines",
    ),
}
EACH = pytest.mark.parametrize("new, show, trait", EXPLORERS.values(), ids=EXPLORERS)


@pytest.fixture(scope="module")
def alone():
    """A group of this process only."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    "around",
    [
        lambda model: torch.compile(model, backend="eager"),
        nn.DataParallel,
        nn.parallel.DistributedDataParallel,
        lambda model: torch.compile(nn.parallel.DistributedDataParallel(model), backend="eager"),
    ],
    ids=["torch.compile", "DataParallel", "DistributedDataParallel", "both"],
)
@EACH
def test_what_stands_around_a_model_changes_nothing(alone, new, show, trait, around):
    assert getattr(show(around(new())), trait) == getattr(show(new()), trait)


@pytest.mark.parametrize("around", [lambda model: torch.compile(model, backend="eager"), nn.DataParallel])
def test_of_each_kind_the_encoder_is_found_behind_it(around):
    swin = create_model(
        "swin_tiny_patch4_window7_224", patch_size=2, window_size=4, embed_dim=8, depths=(2,), num_heads=(2,)
    )
    for model in (swin, EXPLORERS["mask"][0](), EXPLORERS["similarity"][0]()):
        assert AttentionExplorer(around(model), IMAGE).weights == AttentionExplorer(model, IMAGE).weights


@EACH
def test_modes_and_gradients_stay(new, show, trait):
    model = new().train()
    model.get_submodule("blocks" if hasattr(model, "blocks") else next(iter(model._modules))).eval()
    modes, learned = ([module.training for module in model.modules()], [x.requires_grad for x in model.parameters()])
    show(model)
    assert [module.training for module in model.modules()] == modes
    assert [x.requires_grad for x in model.parameters()] == learned
    assert all(x.grad is None for x in model.parameters())


@pytest.mark.parametrize("dtype, most", [(torch.float64, 0.01), (torch.bfloat16, 0.2)])
@EACH
def test_another_precision_is_the_same_up_to_rounding(new, show, trait, dtype, most):
    kind, top = {
        "weights": (torch.float16, 1),
        "answers": (torch.float32, 1),
        "cosines": (torch.float32, 1),
    }.get(trait, (torch.uint8, 255))
    one, other = (
        torch.frombuffer(bytearray(getattr(show(model), trait)), dtype=kind).float() / top
        for model in (new(), new().to(dtype))
    )
    assert (one - other).abs().max() < most


def test_a_grey_picture_goes_into_the_channels_that_the_model_takes():
    for model, same in ((vit(), IMAGE[:1].expand(3, -1, -1)), (vit(in_chans=1), None)):
        explorer, field = AttentionExplorer(model, IMAGE[0]), ReceptiveFieldExplorer({"ViT": model}, IMAGE[:1])
        assert explorer.shape == field.shape == (1, 16, 24)
        if same is not None:
            assert explorer.weights == AttentionExplorer(model, same).weights
            assert field.fields == ReceptiveFieldExplorer({"ViT": model}, same).fields


@EACH
def test_weights_or_pictures_without_numbers_get_a_sentence(new, show, trait):
    for around in (lambda model: model, nn.DataParallel):
        with pytest.raises(
            ValueError, match=r"^A \w+ has weights on the meta device; wanted numbers in them: build it"
        ):
            show(around(new().to("meta")))


@pytest.mark.parametrize(
    "stored, words",
    [
        (lambda x: x.to("meta"), "is on the meta device; wanted numbers: make it on another one"),
        (lambda x: x.to_sparse(), r"is sparse_coo; wanted a dense tensor: x.to_dense\(\) makes one"),
        (lambda x: torch.nested.nested_tensor([x], layout=torch.jagged), "is nested; wanted a dense tensor: take one"),
    ],
)
def test_a_tensor_that_is_stored_otherwise_gets_a_sentence(stored, words):
    image, inputs = stored(IMAGE), stored(IMAGE / 255)
    calls = {
        "The image": lambda: PatchExplorer(image),
        "The tensor of pictures": lambda: MaskExplorer(EXPLORERS["mask"][0](), image),
        "inputs": lambda: AttentionExplorer(vit(), IMAGE, inputs),
        "inputs ": lambda: ReceptiveFieldExplorer({"ViT": vit()}, IMAGE, inputs),
        "mine.weights": lambda: AttentionExplorer([AttentionMap("mine", inputs, (4, 6))], IMAGE),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"^{name.strip()} {words}"):
            call()


def test_every_float_is_a_picture():
    assert PatchExplorer((IMAGE / 255).to(torch.float8_e4m3fn)).shape == (3, 16, 24)


@pytest.mark.parametrize(
    "side, ratios", [(2, (0.5,)), (4, (0.25, 0.5, 0.75)), (6, (0.25, 0.5, 0.75)), (8, (0.25, 0.5, 0.75, 0.9))]
)
def test_a_small_grid_offers_the_ratios_that_keep_a_patch(side, ratios):
    mae = MAE(vit(num_classes=0, img_size=(8, 2 * side), patch_size=4 if side < 8 else 2), 8, 1, 2, mask_ratio=0.5)
    explorer = MaskExplorer(mae, torch.zeros(3, 8, 2 * side))
    assert tuple(explorer.ratios) == ratios and explorer.ratio == 0.5
