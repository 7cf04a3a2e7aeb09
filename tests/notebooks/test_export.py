"""vit-edu export without a browser: formulas, links, what goes wrong. tests/widgets/test_export.py opens the pages."""

import nbformat.v4 as v4
import pytest

from tests.unit.test_editions import HEAD
from vit_edu import cli
from vit_edu.classroom import build, editions, export
from vit_edu.widgets import static


@pytest.fixture
def course(tmp_path, monkeypatch):
    """Writes a lesson 07 into a course of its own, which the command then takes for the checkout's."""
    (tmp_path / "course").mkdir()
    monkeypatch.setattr(build, "checkout", lambda: tmp_path)

    def write(body):
        (tmp_path / "course" / "07_tiny.py").write_text(HEAD + body)
        return tmp_path

    return write


def test_an_unknown_lesson_is_one_sentence_and_exit_code_2(capsys, tmp_path):
    assert cli.main(["export", "77", "--out", str(tmp_path / "html")]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("There is no lesson '77'; there are 00_start_here, ") and told.err.count("\n") == 1
    assert not list(tmp_path.glob("html/*"))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("# %%\nx = 1\n\n# %%\ny = 0\nx / y\n", "in the cell that begins 'y = 0', ZeroDivisionError: division by zero"),
        ("# %%\nimport os\nos._exit(1)\n", "Kernel died"),
        ("# %%\nimport socket\nsocket.create_connection(('192.0.2.1', 80))\n", "The network is off here"),
    ],
)
def test_a_lesson_that_fails_is_one_sentence_and_exit_code_2(course, body, says, capsys):
    root = course(body)
    assert cli.main(["export"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("course/07_tiny.py fails: ") and says in told and told.count("\n") == 1
    assert not list((root / "work" / "html").glob("*"))


def test_a_cell_without_end_is_one_sentence_too_behind_one_that_raises_on_purpose(course, capsys, monkeypatch):
    monkeypatch.setattr(editions, "CELL_LIMIT", 2)
    course('# %% tags=["raises-exception"]\n1 / 0\n\n# %%\nwhile True:\n    pass\n')
    assert cli.main(["export"]) == 2
    told = capsys.readouterr().err
    assert "A cell timed out" in told and "ZeroDivisionError" not in told and told.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_one_sentence(course, tmp_path, capsys):
    course("")
    (tmp_path / "file").write_text("")
    assert cli.main(["export", "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.endswith("Choose another folder with --out.\n")


def test_a_lesson_alone_its_streams_and_widgets_of_others(course, capsys):
    body = "# %%\nimport time, ipywidgets\nfor i in range(3):\n    print(i, flush=True)\n    time.sleep(0.3)\n"
    root = course(body + "ipywidgets.IntSlider()\n")
    assert cli.main(["export", "07"]) == 0
    path = root / "work" / "html" / "07_tiny.html"
    assert f"{path}: 0.0 MB" in capsys.readouterr().out
    text = path.read_text()
    assert "0\n1\n2\n" in text and "IntSlider(value=0)" in text
    assert "<script" not in text and '<nav aria-label="Lessons"><span></span><strong>07 · Tiny</strong>' in text


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("Width $D_h$ of", "<msub><mi>D</mi><mi>h</mi></msub>"),
        (r"$$\operatorname{softmax}(x)$$", 'display="block"><mrow><mi>softmax</mi>'),
        ("| a |\n| --- |\n| $x_p^n$ |", "<msubsup>"),
        (r"\begin{matrix}a\\b\end{matrix}", "<mtable>"),
    ],
)
def test_formulas_are_mathml(text, has):
    found = export.markdown(text)
    assert "<math" in found and has in found and "$" not in found


@pytest.mark.parametrize("latex", [r"\unheardof{a}", "{", r"\left( a", r"\text{a <b> & c}"])
def test_what_is_no_formula_stays_as_it_was_written(latex):
    found = export.markdown(f"so ${latex}$.")
    assert found == f"<p>so <code>{export.escape(latex)}</code>.</p>\n"


def test_dollars_in_code_are_code():
    found = export.markdown("`a $x$ b` and\n\n```python\ncost = '$5 $6'\n```\n")
    assert "<math" not in found and found.count("$") == 4


def test_links_to_notebooks_are_links_to_pages():
    found = export.markdown("[a](01_x.ipynb) [b](01_x.ipynb#c) [d](https://e.org/01_x.ipynb) [f](other.txt)")
    assert [part.split('"')[0] for part in found.split('href="')[1:]] == [
        "01_x.html",
        "01_x.html#c",
        "https://e.org/01_x.ipynb",
        "other.txt",
    ]


def test_a_progress_bar_does_not_stay_and_a_warning_does():
    outputs = [v4.new_output("stream", name="stderr", text=text) for text in ("\rfields: 75%|###", "a warning\n")]
    widget = v4.new_output("display_data", {"text/plain": "fields:  50%|##    | 2/4"})
    cell = v4.new_code_cell("x", outputs=[widget, *outputs])
    editions.clear_progress_bars(v4.new_notebook(cells=[cell]))
    assert [output.text for output in cell.outputs] == ["a warning\n"]


def test_an_explorer_without_its_state_leaves_its_picture():
    data = {static.VIEW: {"model_id": "gone"}, "image/png": "AAAA", "text/plain": "A photo"}
    output = v4.new_output("display_data", data=data, metadata={"image/png": {"alt": 'a "cat"'}})
    notebook = v4.new_notebook(cells=[v4.new_code_cell("", outputs=[output])])
    assert export.enliven(notebook) == []
    [output] = notebook.cells[0].outputs
    assert output.data["text/html"] == '<img alt="a &quot;cat&quot;" src="data:image/png;base64,AAAA">'
    assert static.VIEW not in output.data
