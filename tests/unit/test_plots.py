"""Pictures show the numbers they are given, and say the same in words."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from vit_edu import layers, plots


@pytest.fixture
def image():
    return torch.randint(0, 256, (3, 8, 12), dtype=torch.uint8)


def drawn(picture, axes=0):
    """The array that one axes of the picture shows."""
    return np.asarray(picture.figure.axes[axes].images[0].get_array())


def as_pixels(image):
    return image.permute(1, 2, 0).numpy() / 255


def titles(picture):
    return [axes.get_title() for axes in picture.figure.axes]


def test_a_picture_is_a_small_png_with_its_words(image, tmp_path):
    picture = plots.plot_images(image, alt='"noise" < 1')
    data, metadata = picture._repr_mimebundle_()
    assert data["text/plain"] == repr(picture) == '"noise" < 1'
    alt, source = re.fullmatch(r'<img alt="(.*)" src="data:image/png;base64,(.*)">', data["text/html"]).groups()
    assert alt == "&quot;noise&quot; &lt; 1"
    assert source == data["image/png"]
    assert base64.b64decode(source) == picture.png
    assert metadata == {"image/png": {"alt": picture.alt}}
    assert picture.png.startswith(b"\x89PNG")
    picture.save(tmp_path / "noise.png")
    assert (tmp_path / "noise.png").read_bytes() == picture.png


def test_a_picture_that_compresses_badly_stays_below_the_limit():
    noise = torch.randint(0, 256, (8, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert len(plots.plot_images(noise[:3], columns=4).png) <= plots.picture.LARGEST


@pytest.mark.parametrize("scale", [1, 255.0])
def test_images_are_drawn_as_they_are(image, scale):
    images = torch.stack([image, image.flip(0)]) if scale == 1 else torch.stack([image, image.flip(0)]) / scale
    picture = plots.plot_images(images, titles=["one", "two"])
    np.testing.assert_allclose(drawn(picture, 0), as_pixels(image), atol=1e-6)
    np.testing.assert_allclose(drawn(picture, 1), as_pixels(image.flip(0)), atol=1e-6)
    assert titles(picture) == ["one", "two"]
    assert picture.alt == "2 pictures of 8 by 12 pixels: one, two."


def test_grey_images_and_lists_of_sizes(image):
    picture = plots.plot_images([image[:1], image[:, :4]])
    np.testing.assert_allclose(drawn(picture), as_pixels(image[:1].expand(3, -1, -1)), atol=1e-6)
    assert "4 by 12 and 8 by 12 pixels" in picture.alt


def test_the_patch_grid_lays_the_patches_apart_in_order(image):
    picture = plots.plot_patch_grid(image, patch_size=4)
    whole, apart = drawn(picture, 0), drawn(picture, 1)
    np.testing.assert_allclose(whole, as_pixels(image), atol=1e-6)
    patches = layers.patchify(image[None], 4)[0].reshape(6, 3, 4, 4)
    gap = (apart.shape[1] - 12) // 2
    for number, patch in enumerate(patches):
        y, x = (place * (4 + gap) for place in divmod(number, 3))
        np.testing.assert_allclose(apart[y : y + 4, x : x + 4], as_pixels(patch), atol=1e-6)
    assert [text.get_text() for text in picture.figure.axes[1].texts] == list("012345")
    assert "2 rows of 3 patches of 4 by 4 pixels: 6 patches" in picture.alt


def test_the_sequence_wraps_and_keeps_its_order(image):
    patches = layers.patchify(image[None], 4)[0].reshape(6, 3, 4, 4)
    picture = plots.plot_sequence(patches, columns=4)
    assert len(picture.figure.axes) == 2
    np.testing.assert_allclose(drawn(picture, 1)[:, :4], as_pixels(patches[4]), atol=1e-6)
    assert [text.get_text() for axes in picture.figure.axes for text in axes.texts] == list("012345")
    assert "6 patches of 4 by 4 pixels" in picture.alt


def test_the_matrix_its_names_and_its_extremes():
    matrix = torch.tensor([[1.0, 2.0, -7.5], [0.0, 9.0, 3.0]], requires_grad=True)
    picture = plots.plot_matrix(matrix, rows=["a", "b"], columns=["x", "y", "z"], title="scores", numbers=True)
    axes = picture.figure.axes[0]
    np.testing.assert_array_equal(drawn(picture), matrix.detach().numpy())
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["x", "y", "z"]
    assert [text.get_text() for text in axes.texts] == ["1", "2", "-7.5", "0", "9", "3"]
    assert len(picture.figure.axes) == 1  # the numbers are written: no colour bar
    assert len(plots.plot_matrix(matrix).figure.axes) == 2
    assert "2 rows and 3 columns" in picture.alt
    assert "smallest number is -7.5 (row 0, column 2)" in picture.alt
    assert "largest 9 (row 1, column 1)" in picture.alt


def test_attention_lights_the_patch_that_is_looked_at(image):
    weights = torch.full((6, 6), 0.1)
    weights[0, 4] = 0.5
    picture = plots.plot_attention(image, weights, grid_size=(2, 3), queries=[0, 5])
    lit, whole = drawn(picture), as_pixels(image)
    np.testing.assert_allclose(lit[4:8, 4:8], whole[4:8, 4:8], atol=1e-6)  # patch 4: row 1, column 1
    np.testing.assert_allclose(lit[:4, :4], whole[:4, :4] * (0.12 + 0.88 * 0.2), atol=1e-6)
    frame = picture.figure.axes[1].patches[0]  # of patch 5: row 1, column 2
    assert (frame.get_x(), frame.get_y(), frame.get_width(), frame.get_height()) == (7.5, 3.5, 4, 4)
    assert titles(picture) == ["asks: patch 0", "asks: patch 5"]
    assert "patch 0 looks most at patch 4 (weight 0.50)" in picture.alt


def test_the_frame_of_the_asking_patch_shows_on_any_colour():
    for colour in torch.tensor([[255, 255, 255], [0, 0, 0], [232, 89, 12], [128, 128, 128]], dtype=torch.uint8):
        flat = colour[:, None, None].expand(3, 9, 9)
        page = plots.plot_attention(flat, torch.ones(9, 9), (3, 3), queries=[4])
        shown = np.asarray(Image.open(io.BytesIO(page.png)).convert("RGB")).astype(int)
        middle = shown[shown.shape[0] // 3 : -shown.shape[0] // 4, shown.shape[1] // 4 : -shown.shape[1] // 4]
        brightness = middle.sum(axis=2)
        assert brightness.min() < 60
        assert brightness.max() > 700


def test_curves_are_the_numbers_and_the_words_their_ends():
    picture = plots.plot_curves([1, 2, 4], {"ours": [1, 4, 16], "theirs": torch.tensor([2, 4, 8])}, "N", "ms", log=True)
    axes = picture.figure.axes[0]
    assert [line.get_label() for line in axes.lines] == ["ours", "theirs"]
    np.testing.assert_array_equal(axes.lines[1].get_xydata(), [[1, 2], [2, 4], [4, 8]])
    assert (axes.get_xscale(), axes.get_yscale(), axes.get_ylim()[0]) == ("log", "linear", 0)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "4"]
    assert picture.alt == "ms over N from 1 to 4 (logarithmic): ours from 1 to 16; theirs from 2 to 8."


@pytest.mark.parametrize(("x", "marked"), [([0, 1, 2, 3], True), ([*range(20, 201, 20), 210], False)])
def test_whole_numbers_are_marked_one_by_one_where_they_stand_evenly(x, marked):
    axes = plots.plot_curves(x, {"loss": x}, "step", "loss").figure.axes[0]
    assert (axes.get_xticks().tolist() == x) == marked


def test_several_runs_become_medians_with_bars():
    runs = [[1, 9, 2], [3, 5, 4]]
    picture = plots.plot_curves([1, 2], {"ours": runs}, "N", "%")
    axes = picture.figure.axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[1, 2], [2, 4]])
    [bars] = axes.collections
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [[1, 9], [3, 5]]
    assert picture.alt == "% over N from 1 to 2, medians of 3 runs: ours from 2 to 4."
    with pytest.raises(ValueError, match=r"'ours' has shape \(2, 1, 3\)"):
        plots.plot_curves([1, 2], {"ours": np.zeros((2, 1, 3))}, "N", "%")


def test_curves_below_zero_stay_in_the_picture():
    for log in (False, True):
        axes = plots.plot_curves([1, 2], {"loss": [-3.0, 1.0]}, "N", "loss", log=log).figure.axes[0]
        assert axes.get_xscale() == ("log" if log else "linear")
        assert axes.get_ylim()[0] <= -3


@pytest.mark.parametrize("leading", [False, True])
def test_positions_are_cosine_similarities_on_the_grid(leading):
    table = torch.randn(6, 8, dtype=torch.float64)
    picture = plots.plot_positions(table[None] if leading else table, grid_size=(2, 3))
    canvas = drawn(picture)
    similarity = torch.cosine_similarity(table[4], table, dim=-1).reshape(2, 3)
    np.testing.assert_allclose(
        canvas[3:5, 4:7], similarity, atol=1e-9
    )  # place 4: row 1, column 1; maps of 2 x 3 and a gap
    assert "2 by 3 small maps" in picture.alt


def test_positions_that_are_all_zero_are_drawn():
    assert "0.00 with itself" in plots.plot_positions(torch.zeros(4, 8), (2, 2)).alt


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: plots.plot_images(torch.zeros(1, 8, 8, 3)), r"shape \(8, 8, 3\); .* The channels come first"),
        (lambda: plots.plot_images(torch.full((3, 8, 8), 255.0)), "go from 255 to 255; a float image wants 0 to 1"),
        (lambda: plots.plot_images([]), "no images to show; give at least one"),
        (lambda: plots.plot_images(torch.zeros(2, 3, 8, 8), titles=["one"]), "2 images and 1 titles"),
        (lambda: plots.plot_patch_grid(torch.zeros(3, 8, 12), 5), "Patches of 5 do not fill 8 x 12"),
        (lambda: plots.plot_sequence([torch.zeros(3, 4, 4), torch.zeros(3, 2, 2)]), "2 by 2 and 4 by 4 pixels"),
        (lambda: plots.plot_sequence([]), "no patches to show; give at least one"),
        (lambda: plots.plot_matrix(torch.zeros(2, 2, 2)), r"this has shape \(2, 2, 2\)"),
        (lambda: plots.plot_matrix(torch.zeros(2, 3), rows=["a"]), "2 rows and 1 names"),
        (
            lambda: plots.plot_attention(torch.zeros(3, 8, 8), torch.ones(5, 5), (2, 2), [0]),
            "Leave the class token's row",
        ),
        (lambda: plots.plot_attention(torch.zeros(3, 8, 8), torch.ones(4, 4), (2, 2), [4]), "0 to 3; the queries ask"),
        (lambda: plots.plot_attention(torch.zeros(3, 8, 8), torch.ones(4, 4), (2, 2), []), "There are no queries"),
        (
            lambda: plots.plot_attention(torch.zeros(3, 8, 8), torch.eye(4) * torch.arange(4), (2, 2), [0, 1]),
            r"weights of patches \[0\] are nowhere above 0; a row of attention weights sums to 1",
        ),
        (lambda: plots.plot_curves([1, 2], {"y": [1]}, "x", "y"), r"'y' has shape \(1,\) and x has 2 points"),
        (lambda: plots.plot_positions(torch.zeros(5, 8), (2, 2)), "leave the class token's row out"),
    ],
)
def test_wrong_shapes_get_one_clear_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
