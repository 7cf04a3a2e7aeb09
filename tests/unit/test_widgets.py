"""The explorers without a browser: what they take and refuse, the picture they leave where JavaScript is off."""

import base64
import io
import re
import warnings

import nbformat
import pytest
import torch
import torch.nn.functional as F
import traitlets
from nbconvert import HTMLExporter
from PIL import Image

from vit_edu import create_model, layers
from vit_edu.widgets import PatchExplorer, patch_model
from vit_edu.widgets.look import fixed, viridis

PHOTO = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SENTENCE = (
    "An image of 64 × 96 pixels cut into 2 rows and 3 columns: 6 patches of 32 × 32 pixels. "
    "Patch 4 is chosen: row 1, column 1, as a vector 3 × 32 × 32 = 3,072 numbers."
)


@pytest.mark.parametrize(
    "image, shape",
    [
        (PHOTO, (3, 64, 96)),
        (PHOTO / 255, (3, 64, 96)),
        ((PHOTO / 255).double().requires_grad_(), (3, 64, 96)),
        (PHOTO / 255 * 1.0001, (3, 64, 96)),  # rounding, as where a normalisation was undone
        (PHOTO[:1], (1, 64, 96)),
        (PHOTO[0], (1, 64, 96)),
        (PHOTO.permute(1, 2, 0).contiguous().permute(2, 0, 1), (3, 64, 96)),
    ],
)
def test_the_pixels_go_over_as_bytes_in_torchs_order(image, shape):
    explorer = PatchExplorer(image)
    assert explorer.shape == shape
    assert explorer.pixels == PHOTO[: shape[0]].contiguous().numpy().tobytes()
    assert explorer.sizes == [4, 8, 16, 32]
    assert (explorer.patch_size, explorer.selected, explorer.flattened) == (32, 4, False)


@pytest.mark.parametrize(
    "image, error, words",
    [
        (PHOTO.permute(1, 2, 0), ValueError, r"shape \(64, 96, 3\); wanted \(3, H, W\).*image.permute\(2, 0, 1\)"),
        (PHOTO[None], ValueError, r"shape \(1, 3, 64, 96\).*images\[0\]"),
        (torch.cat([PHOTO, PHOTO[:1]]), ValueError, r"shape \(4, 64, 96\).*image\[:3\]"),
        (PHOTO[:2], ValueError, r"shape \(2, 64, 96\); wanted"),
        (PHOTO[:, :0], ValueError, r"shape \(3, 0, 96\); wanted .*, with pixels. This has none"),
        (PHOTO.float(), ValueError, r"go from 0 to 255; a float image wants 0 to 1\. Divide by 255"),
        (PHOTO / 255 - 1, ValueError, r"go from -1 to 0.*undo the normalisation"),
        (PHOTO / 0.0, ValueError, r"holds NaN or infinity; a float image wants 0 to 1. Look for"),
        (PHOTO / 0.0 + 1, ValueError, r"holds NaN or infinity"),
        (PHOTO.long(), TypeError, r"dtype is torch.int64; wanted torch.uint8.*image.to\(torch.uint8\)"),
        (PHOTO > 9, TypeError, r"dtype is torch.bool; wanted torch.uint8.*: image.float\(\)\."),
        (PHOTO.numpy(), TypeError, r"is a numpy.ndarray; wanted a torch tensor.*torch.from_numpy"),
        (
            Image.new("RGBA", (4, 4)),
            TypeError,
            r"is a PIL.Image.Image; wanted .*pil_to_tensor\(image.convert\('RGB'\)\)",
        ),
        ("cat.png", TypeError, r"is a str; wanted .*: torchvision.io.decode_image\(path\) reads a file"),
        (None, TypeError, r"is a NoneType; wanted a torch tensor \(3, H, W\)\.$"),
        ([], TypeError, r"is a list; wanted a torch tensor \(3, H, W\)\.$"),
        (torch.zeros(3, 2048, 64), ValueError, r"2048 × 64 pixels; wanted at most 1024.*resize"),
    ],
)
def test_an_image_it_cannot_show_gets_a_sentence(image, error, words):
    with pytest.raises(error, match=words):
        PatchExplorer(image)


@pytest.mark.parametrize(
    "patch_size, words",
    [
        (30, r"patch_size is 30, which does not divide the image's 64 × 96 pixels: choose one of 4, 8, 16, 32"),
        (64, r"patch_size is 64, which does not divide"),
        (0, r"patch_size is 0; wanted a whole number from 1"),
        (16.0, r"patch_size is 16.0; wanted a whole number"),
        (1, r"cuts the image into 6,144 patches; wanted at most 4,096"),
    ],
)
def test_a_patch_size_that_does_not_fit_gets_a_sentence(patch_size, words):
    with pytest.raises(ValueError, match=words):
        PatchExplorer(PHOTO, patch_size)


def test_every_offered_size_cuts_the_image_into_whole_patches():
    for height, width in [(224, 224), (32, 32), (28, 28), (96, 160), (223, 223), (300, 450), (1, 1)]:
        image = torch.zeros(3, height, width, dtype=torch.uint8)
        with pytest.raises(ValueError, match="choose one of") as refused:
            PatchExplorer(image, 10_000)
        sizes = [int(size) for size in re.search(r"one of ([\d, ]+), or", str(refused.value))[1].split(", ")]
        for size in sizes:
            assert PatchExplorer(image, size).sizes == sizes
            assert height % size == width % size == 0
    with pytest.raises(ValueError, match="no patch size cuts it into 4,096 patches or fewer: resize or crop the image"):
        PatchExplorer(torch.zeros(3, 300, 451), 1)
    assert PatchExplorer(torch.zeros(3, 224, 224), 4).sizes[:2] == [4, 7]  # one asked for is offered as well


@pytest.mark.parametrize(
    "size, patch_size", [((224, 224), 32), ((32, 32), 16), ((32, 48), 16), ((90, 150), 30), ((1, 1), 1)]
)
def test_any_image_that_can_be_cut_is_shown_without_a_patch_size(size, patch_size):
    assert PatchExplorer(torch.zeros(3, *size)).patch_size == patch_size


def test_what_python_sets_is_checked_and_kept_inside():
    explorer = PatchExplorer(PHOTO, 8)
    explorer.selected = 95
    with pytest.raises(traitlets.TraitError, match="selected is 96; wanted a token from 0 to 95"):
        explorer.selected = 96
    with pytest.raises(traitlets.TraitError, match="does not divide the image's 64 × 96 pixels"):
        explorer.patch_size = 7
    assert (explorer.patch_size, explorer.selected) == (8, 95)
    explorer.patch_size = 32
    assert explorer.grid_size == (2, 3) and explorer.selected == 5
    # What the page sends when the patch size was chosen there: both at once.
    explorer.set_state({"patch_size": 8, "selected": 60})
    assert (explorer.patch_size, explorer.selected) == (8, 60)


def test_the_chosen_token_is_the_row_of_patchify():
    explorer = PatchExplorer(PHOTO, 16)
    explorer.selected = 9
    tokens = layers.patchify(PHOTO[None].float(), explorer.patch_size)
    row, column = divmod(explorer.selected, explorer.grid_size[1])
    corner = PHOTO[:, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]
    assert torch.equal(tokens[0, explorer.selected], corner.reshape(-1).float())


def test_where_javascript_is_off_a_picture_and_a_sentence_stand():
    explorer = PatchExplorer(torch.full_like(PHOTO, 128))
    assert repr(explorer) == SENTENCE
    data, metadata = explorer._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id
    assert data["text/plain"] == metadata["image/png"]["alt"] == SENTENCE
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert picture.size == (336, 224)
    pixels = torch.tensor(list(picture.convert("RGB").tobytes())).view(224, 336, 3)
    y, x = (pixels[..., 2] - pixels[..., 0] > 100).nonzero(
        as_tuple=True
    )  # the blue ring around patch 4, 112 to 224 each way
    assert [y.min(), y.max(), x.min(), x.max()] == pytest.approx([112, 223, 112, 224], abs=3)


def test_a_grey_picture_and_a_tiny_one_are_drawn():
    assert PatchExplorer(PHOTO[:1], 8).picture().size == (336, 224)
    assert PatchExplorer(PHOTO[:, :1, :1], 1).picture().size == (336, 336)


def test_nbconvert_shows_the_picture_with_its_alt_text():
    data, metadata = PatchExplorer(PHOTO)._repr_mimebundle_()
    # The widget comes first where it lives, but a page without its state falls back to the picture.
    output = nbformat.v4.new_output("display_data", data, metadata=metadata)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("explorer", outputs=[output])])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of an output that cannot be shown
        page, _ = HTMLExporter(template_name="classic").from_notebook_node(notebook)
    assert f'alt="{SENTENCE}"' in page and data["image/png"] in page.replace("\n", "")


def test_numbers_are_rounded_as_on_the_page():
    said = [fixed(*each) for each in ((0.03125, 4), (6.25, 1), (12.5, 0), (6.25, 2), (0.0, 1), (2.675, 2), (99.96, 1))]
    assert said == ["0.0313", "6.3", "13", "6.25", "0.0", "2.67", "100.0"]  # toFixed's, by the browser


def test_nothing_is_fetched_from_elsewhere():
    for text in (PatchExplorer._esm, PatchExplorer._css):
        assert not re.search(r"https?:|//cdn|import\s*\(|\bimport\b.*from|@import|url\(", text)


def small_model(name="vit_tiny_patch16_224", **words):
    words = {"img_size": (64, 96), "embed_dim": 12, "num_heads": 2, "depth": 2, "num_classes": 5} | words
    torch.manual_seed(3)
    model = create_model(name, **words)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(std=1 if name == "pos_embed" else 0.4)
    return model


@pytest.mark.parametrize(
    "words, error, parts",
    [
        ({"model": "vit"}, TypeError, "The model is a str; wanted a VisionTransformer"),
        ({"model": torch.nn.Linear(2, 2)}, TypeError, "The model is a Linear; wanted a VisionTransformer"),
        ({"model": create_model("cct_7_3x1_32")}, TypeError, "tokens come from a ConvTokenizer; wanted patches of the"),
        ({"model": small_model(img_size=64)}, ValueError, r"shape \(3, 64, 96\); wanted \(3, 64, 64\).*resize"),
        ({"model": small_model(in_chans=1)}, ValueError, r"wanted \(1, 64, 96\).*float\(\).mean\(0\) one of three"),
        ({"model": small_model(), "patch_size": 32}, ValueError, "patch_size is 32; wanted the model's own, 16: leave"),
        (
            {"model": small_model(), "classes": ["a", "b"]},
            ValueError,
            "2 classes for a model with num_classes=5; wanted 5",
        ),
        ({"model": small_model(num_classes=0), "classes": ["a"]}, ValueError, "1 classes .* num_classes=0; wanted 0"),
        ({"model": small_model(), "classes": "abcde"}, TypeError, "classes is no list of str; wanted names"),
        ({"model": small_model(), "classes": [1, 2, 3, 4, 5]}, TypeError, "classes is no list of str"),
        ({"classes": ["a"]}, ValueError, "classes are given without a model; wanted both"),
    ],
)
def test_a_model_it_cannot_ask_gets_a_sentence(words, error, parts):
    with pytest.raises(error, match=parts) as caught:
        PatchExplorer(PHOTO, **words)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 260


def test_a_model_whose_answer_is_nan_gets_a_sentence():
    model = small_model()
    model.head.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="What the model says holds NaN or infinity; wanted numbers"):
        PatchExplorer(PHOTO, model=model)


@pytest.mark.parametrize("N", [1, 2, 7, 49, 196, 4096])
def test_a_share_of_the_patches_moves_and_more_of_them_with_a_larger_share(N):
    before = set()
    for share in patch_model.SHARES:
        order = patch_model.shuffle(N, share)
        assert order.sort().values.tolist() == list(range(N))
        moved = {place for place, patch in enumerate(order.tolist()) if patch != place}
        assert len(moved) == (N * share // 100 if N * share // 100 > 1 else 0) and before <= moved
        before = moved


@pytest.mark.parametrize(
    "model",
    [
        small_model(),
        small_model(num_classes=0, class_token=False, global_pool="avg"),
        small_model("deit_tiny_distilled_patch16_224", drop_path_rate=0.9),
        small_model(reg_tokens=3, pos_embed="none"),
        small_model("vit_base_patch16_clip_quickgelu_224"),
        small_model().double(),
    ],
)
def test_the_model_is_asked_with_patches_moved_under_positions_and_with_them(model):
    model.train()
    said = patch_model.ask(model, PHOTO)
    assert model.training and not model.blocks[0]._forward_pre_hooks
    model.eval()
    tokens = layers.patchify(PHOTO[None] / 127.5 - 1, 16).to(model.patch_embed.proj.weight)
    with torch.no_grad():
        own = model(layers.unpatchify(tokens, 16, (4, 6)))
        for i, share in enumerate(patch_model.SHARES):
            moved = model(layers.unpatchify(tokens[:, patch_model.shuffle(24, share)], 16, (4, 6)))
            for found, wanted in zip(said[:, i], (moved, own)):
                wanted = wanted.softmax(-1) if model.num_classes else F.cosine_similarity(wanted, own)[None]
                assert torch.allclose(found, wanted[0].float(), atol=1e-5)
    if model.pos_embed is None:
        assert torch.allclose(said, said[:1, :1], atol=1e-5)
    else:
        assert (said[0, 1:] - said[0, 0]).abs().amax() > 1e-3


def test_the_second_answer_moves_the_tokens_and_not_only_says_so():
    """A block that looks at where a token stands tells: what it says depends on the order."""

    class Ramp(layers.Block):
        def forward(self, x, return_weights=False):
            return super().forward(x * torch.linspace(0, 1, x.shape[1])[:, None], return_weights)

    said = patch_model.ask(small_model(block=Ramp), PHOTO)
    assert (said[1, 3] - said[1, 0]).abs().max() > 1e-3


def test_positions_are_compared_without_those_of_the_tokens_before_the_patches():
    for words in ({}, {"reg_tokens": 2}, {"class_token": False, "global_pool": "avg"}, {"pos_embed": "sincos"}):
        model = small_model(**words)
        explorer = PatchExplorer(PHOTO, model=model)
        explorer.selected = 7
        places = model.pos_embed[0, -24:].detach()
        wanted = F.cosine_similarity(places[7], places)
        assert (explorer.similarity() - wanted).abs().max() < 5e-4
    explorer = PatchExplorer(PHOTO, 8)
    explorer.overlap, explorer.selected = True, 300
    table = layers.sincos_position((15, 23), 768)
    assert (explorer.similarity() - F.cosine_similarity(table[300], table)).abs().max() < 1e-5


def test_overlap_and_moved_patches_exclude_each_other():
    explorer = PatchExplorer(PHOTO, 16)
    explorer.shuffled = 50
    explorer.overlap = True
    assert (explorer.shuffled, explorer.grid_size, explorer.stride) == (0, (7, 11), 8)
    explorer.selected = 76
    explorer.shuffled = 25
    assert (explorer.overlap, explorer.selected) == (False, 23)
    explorer.set_state({"shuffled": 0, "overlap": True, "selected": 70})  # what the page sends
    assert (explorer.overlap, explorer.selected) == (True, 70)
    with pytest.raises(traitlets.TraitError, match="shuffled"):
        explorer.shuffled = 30
    for image, p in ((PHOTO[:, :63, :63], 9), (PHOTO, 2)):  # an odd size, and more patches than can be drawn
        with pytest.raises(traitlets.TraitError, match=rf"overlap is True with patch_size {p}; wanted an even one"):
            PatchExplorer(image, p).overlap = True


def test_a_model_keeps_its_patches():
    explorer = PatchExplorer(PHOTO, model=small_model(pos_embed="none"))
    assert explorer.sizes == [16] and explorer.patch_size == 16
    for name, value, words in [
        ("patch_size", 32, "patch_size is 32; wanted the model's own, 16"),
        ("overlap", True, "overlap is True; wanted False: the model cuts its patches edge to edge"),
        ("positions", True, "positions is True; wanted False: the model has no position embeddings"),
    ]:
        with pytest.raises(traitlets.TraitError, match=words):
            setattr(explorer, name, value)
    with pytest.raises(ValueError, match="The model has no position embeddings; build it with pos_embed='learn'"):
        explorer.similarity()


def test_the_still_picture_and_its_words_follow():
    model, colours = small_model(num_classes=2), PHOTO[:, :4, :6]
    image = colours.repeat_interleave(16, 1).repeat_interleave(16, 2)
    explorer = PatchExplorer(image, model=model, classes=["cat", "dog"])
    explorer.shuffled = 100
    shown = torch.frombuffer(bytearray(explorer.picture().tobytes()), dtype=torch.uint8).view(224, 336, 3)
    moved = colours.flatten(1)[:, explorer.order].view(3, 4, 6)
    assert (shown[28::56, 28::56].permute(2, 0, 1).int() - moved.int()).abs().max() <= 2
    _, under, along = re.split(r"The model says |; with positions moved along ", explorer.sentence())
    said = patch_model.ask(model, image)[:, 3]
    for words, numbers in zip((under, along), said):
        name, share = words.rstrip(".").removesuffix(" %").split(", ")
        assert name == ["cat", "dog"][numbers.argmax()] and abs(float(share) - 100 * numbers.max()) < 0.06
    assert "24 of them stand in each other's places." in explorer.sentence()
    explorer.positions = True
    shown = torch.frombuffer(bytearray(explorer.picture().tobytes()), dtype=torch.uint8).view(224, 336, 3)
    near = explorer.similarity()
    for place in (0, 5, 8, 23):
        row, column = divmod(place, 6)
        share = (near[place] - near.min()) / (1 - near.min())
        assert torch.equal(shown[row * 56 + 20, column * 56 + 20], viridis()[(share * 256).long().clamp(0, 255)])
    assert "Its position embedding's cosine with each place's is painted, from −" in explorer.sentence()
    explorer = PatchExplorer(PHOTO, 32)
    explorer.overlap = True
    assert "into 3 rows and 5 columns: 15 patches of 32 × 32 pixels, one every 16 pixels." in explorer.sentence()
