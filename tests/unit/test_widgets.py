"""The explorers without a browser: what they take and refuse, the picture they leave where JavaScript is off."""

import base64
import io
import re
import warnings

import nbformat
import pytest
import torch
import traitlets
from nbconvert import HTMLExporter
from PIL import Image

from vit_edu import layers
from vit_edu.widgets import PatchExplorer

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
        (PHOTO[:, :0], ValueError, r"shape \(3, 0, 96\); wanted"),
        (PHOTO.float(), ValueError, r"go from 0 to 255; a float image wants 0 to 1\. Divide by 255"),
        (PHOTO / 255 - 1, ValueError, r"go from -1 to 0.*undo the normalisation"),
        (PHOTO / 0.0, ValueError, r"go from nan to nan"),
        (PHOTO.long(), TypeError, r"dtype is torch.int64; wanted torch.uint8"),
        (PHOTO.numpy(), TypeError, r"is a numpy.ndarray; wanted a torch tensor.*torch.from_numpy"),
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


def test_nothing_is_fetched_from_elsewhere():
    for text in (PatchExplorer._esm, PatchExplorer._css):
        assert not re.search(r"https?:|//cdn|import\s*\(|\bimport\b.*from|@import|url\(", text)
