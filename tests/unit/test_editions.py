"""Editions: notebooks are what course/ makes, and no solution reaches a learner."""

import html
import json
import sys
from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from vit_edu import resources
from vit_edu.classroom import build, editions

ROOT = Path(__file__).resolve().parents[2]
LESSONS = build.sources(ROOT)
each_lesson = pytest.mark.parametrize("source", LESSONS, ids=lambda source: source.stem)

HEAD = """\
# ---
# jupyter:
#   vit_edu:
#     title: Tiny
#     minutes: 5
#     builds_on: ["06"]
#     builds: a small thing
# ---

# %% [markdown]
# # 07 · Tiny
#
# What you will be able to do.

"""
BODY = '''\
# %%
x = torch.randn(2, 3)

# %% tags=["nbval-check-output"]
tuple(x.shape)

# %%
class Double(torch.nn.Module):
    def forward(
        self,
        x,
    ):
        """Twice."""
        ### BEGIN SOLUTION
        y = x + x
        return y * 1.0
        ### END SOLUTION

# %%
x = torch.randn(2, 3)
'''


@pytest.fixture
def lesson(tmp_path):
    """Writes a lesson into a course of its own; its root is the parent of its folder."""
    (tmp_path / "course").mkdir()
    (tmp_path / "README.md").write_text(f"before\n{build.MARKS[0]}\nold\n{build.MARKS[1]}\nafter\n")

    def write(body=BODY, head=HEAD):
        path = tmp_path / "course" / "07_tiny.py"
        path.write_text(head + body)
        return path

    return write


# What is committed


def test_committed_is_what_the_course_makes():
    assert LESSONS
    assert build.stale(ROOT) == []


@each_lesson
def test_committed_notebook_is_valid_and_whole(source):
    notebook = build.committed(ROOT, source)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    outputs = [output for cell in code for output in cell.outputs]
    assert [output for output in outputs if output.output_type == "error"] == []
    assert not [output for output in outputs if editions.WIDGET_VIEW in output.get("data", {})]


def texts(value):
    """Every string in a JSON value; HTML as it reads."""
    if isinstance(value, str):
        yield html.unescape(value)
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts(part)


def solution_lines(text):
    """Lines of code of 8 characters or more that stand in solutions only."""
    inside, outside, solved = [], [], False
    for line in text.splitlines():
        stripped = line.strip()
        if stripped in (editions.BEGIN, editions.END):
            solved = stripped == editions.BEGIN
        else:
            (inside if solved else outside).append(stripped)
    rest = "\n".join(outside)
    return [line for line in inside if len(line) >= 8 and not line.startswith("#") and line not in rest]


def leaks(source, notebook):
    everything = "\n".join(texts(json.loads(nbformat.writes(notebook))))
    return [line for line in solution_lines(source.read_text(encoding="utf-8")) if line in everything]


@each_lesson
def test_no_solution_in_a_learners_notebook(source):
    assert leaks(source, build.committed(ROOT, source)) == []


def test_a_leak_would_be_noticed(lesson):
    source = lesson()
    assert leaks(source, editions.edition(source)) == []
    assert leaks(source, editions.edition(source, solved=True)) == ["y = x + x", "return y * 1.0"]
    notebook = editions.edition(source)
    notebook.cells[2].outputs = [nbformat.v4.new_output("display_data", data={"text/html": "<pre>y = x &#43; x</pre>"})]
    assert leaks(source, notebook) == ["y = x + x"]


# What authors get wrong


@pytest.mark.parametrize("inside", ["x = 1", "def f():\n    pass\nx = 1", "", "# nothing"])
def test_a_solution_that_would_break_the_unsolved_cell_is_refused(lesson, inside):
    source = lesson(f"# %%\nfirst = 1\n### BEGIN SOLUTION\n{inside}\n### END SOLUTION\n")
    with pytest.raises(editions.LessonError, match=r"07_tiny\.py.*'first = 1'.*inside a function"):
        editions.edition(source)


@pytest.mark.parametrize(
    ("body", "line", "says"),
    [
        ("# %%\ndef f():\n    ### BEGIN SOLUTION\n    return 1\n", 17, "without an"),
        ("# %%\ndef f():\n    return 1\n    ### END SOLUTION\n", 18, "without a '### BEGIN"),
        ("# %%\ndef f():\n    ### BEGIN SOLUTION\n    ### BEGIN SOLUTION\n    ### END SOLUTION\n", 18, "second"),
        ("# %%\ndef f():\n    ### BEGIN SOLUTION\n    return 1\n# %%\n    ### END SOLUTION\n", 17, "cell ends"),
        ("# %%\ndef f():\n    ## BEGIN SOLUTION\n    return 1\n    ### END SOLUTION\n", 17, "alone on its line"),
        ("# %%\ndef f():\n    ### begin_solution\n    return 1\n    ### END SOLUTION\n", 17, "alone on its line"),
        ("# %%\ndef f():\n    ### BEGIN SOLUTION now\n    return 1\n    ### END SOLUTION\n", 17, "alone on its line"),
    ],
)
def test_wrong_markers_name_file_and_line(lesson, body, line, says):
    with pytest.raises(editions.LessonError, match=rf"course/07_tiny\.py:{line}: .*{says}"):
        editions.edition(lesson(body))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("#     minutes: 5\n", "", "vit_edu.minutes is None"),
        ("minutes: 5", "minutes: soon", "wanted is int"),
        ("# # 07 · Tiny", "# # 07 · Other", "begins with '# 07 · Tiny'"),
        ("# %% [markdown]", "# %%", "begins with"),
    ],
)
def test_wrong_headers_are_told(lesson, old, new, says):
    with pytest.raises(editions.LessonError, match=says):
        editions.edition(lesson(head=HEAD.replace(old, new)))


# Cells


def test_the_same_source_gives_the_same_notebook(lesson):
    assert nbformat.writes(editions.edition(lesson())) == nbformat.writes(editions.edition(lesson()))


def ids(source, **options):
    """id -> first line of the cell"""
    return {cell.id: cell.source.split("\n")[0] for cell in editions.edition(source, **options).cells}


def test_ids_stay_when_cells_come_and_change(lesson):
    before = ids(lesson())
    assert ids(lesson(), solved=True) == before
    after = ids(lesson("# %%\nnew = 1\n\n" + BODY.replace('"""Twice."""', '"""Two times."""')))
    assert before.items() < after.items()
    assert len(after) == len(before) + 1
    assert len([name for name in before if name.endswith("-2")]) == 1  # x = torch.randn(2, 3) stands there twice


def test_learner_and_solved_edition(lesson):
    mine, solved = editions.edition(lesson()), editions.edition(lesson(), solved=True)
    assert [cell.cell_type for cell in mine.cells] == ["markdown"] + 5 * ["code"]
    assert mine.cells[1].metadata.tags == ["setup"]
    assert mine.cells[3].metadata == {"tags": ["nbval-check-output"]}
    assert "your turn: write Double.forward here" in mine.cells[4].source
    assert "y = x + x" in solved.cells[4].source and "SOLUTION" not in solved.cells[4].source
    assert mine.metadata.vit_edu == {"title": "Tiny", "minutes": 5, "builds_on": ["06"], "builds": "a small thing"}


def test_first_cell_links_to_colab_and_binder(lesson):
    text = editions.edition(lesson()).cells[0].source
    repository = resources.repository_url().split("github.com/")[1]
    assert f"colab.research.google.com/github/{repository}/blob/main/notebooks/07_tiny.ipynb" in text
    assert f"mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/work/07_tiny.ipynb" in text


def test_a_link_to_a_page_leads_there_from_any_folder(lesson):
    cells = editions.edition(lesson(BODY + "\n# %% [markdown]\n# [a project](../docs/capstone.md)\n")).cells
    assert cells[-1].source == f"[a project]({resources.repository_url()}/blob/main/docs/capstone.md)"


@pytest.mark.parametrize("colab", [False, True])
def test_the_set_up_cell_runs_twice(lesson, colab, monkeypatch):
    shell, installed = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}})), []
    shell.register_magic_function(installed.append, magic_name="pip")
    if colab:
        monkeypatch.setitem(sys.modules, "google.colab", object())
    for _ in range(2):
        assert shell.run_cell(editions.edition(lesson()).cells[1].source).success
    assert {"torch", "vit_edu"} <= shell.user_ns.keys()
    assert len(installed) == 2 * colab
    assert all(f"git+{resources.repository_url()}" in line for line in installed)


# Building


def test_build_runs_what_is_new_and_leaves_the_rest(lesson):
    source = lesson("# %%\nimport anywidget\nanywidget.AnyWidget()\n\n# %%\nprint(6 * 7)\n")
    root = source.parents[1]
    assert len(build.stale(root)) == 4  # the notebook, README, the solutions for the last hint, the glossary
    build.build(root)
    assert build.stale(root) == []
    assert "| 07 | [Tiny](notebooks/07_tiny.ipynb) | a small thing | 5 | 06 |" in (root / "README.md").read_text()
    assert (root / "README.md").read_text().startswith("before\n") and "old" not in (root / "README.md").read_text()

    path = root / "notebooks" / "07_tiny.ipynb"
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[3].outputs[0].text == "42\n"
    assert editions.WIDGET_VIEW not in notebook.cells[2].outputs[0].data
    assert notebook.metadata.keys() == {"kernelspec", "language_info", "vit_edu"}

    notebook.cells[3].outputs[0].text = "kept\n"
    nbformat.write(notebook, path)
    build.build(root)
    assert nbformat.read(path, as_version=4).cells[3].outputs[0].text == "kept\n"

    (root / "notebooks" / "09_gone.ipynb").write_text("{}")
    path.write_text("half a file")
    assert [sentence.split()[0] for sentence in build.stale(root)] == [
        "notebooks/07_tiny.ipynb",
        "notebooks/09_gone.ipynb",
    ]


def test_the_glossary_is_made_of_new_words(lesson):
    words = (
        "# %% [markdown]\n# ## New words\n#\n# - **zebra**: striped.\n# - **Ant**: it is small,\n#   and many.\n#\n"
        "# ## To read\n# - **no**: word.\n"
    )
    root = lesson(words).parents[1]
    lines = build.glossary(root).splitlines()[4:]
    here = "([07](../notebooks/07_tiny.ipynb))"
    assert lines == [f"- **Ant** {here}: it is small, and many.", f"- **zebra** {here}: striped."]
    again = lesson(words + words.replace("## New", "Again\n# ## New"))
    with pytest.raises(editions.LessonError, match="'zebra' is a new word of an earlier lesson too"):
        build.glossary(again.parents[1])


def test_a_lesson_that_fails_is_not_stored_and_the_network_is_off(lesson):
    source = lesson("# %%\nimport socket\nsocket.create_connection(('192.0.2.1', 80), timeout=1)\n")
    with pytest.raises(editions.LessonError, match=r"course/07_tiny\.py: (?s:.*)The network is off here"):
        build.build(source.parents[1])
    assert not (source.parents[1] / "notebooks").exists()


def test_lessons_are_named_in_any_way(lesson):
    source = lesson()
    for word in ("07", "07_tiny", "course/07_tiny.py", "notebooks/07_tiny.ipynb"):
        assert build.sources(source.parents[1], [word]) == [source]
    with pytest.raises(editions.LessonError, match="no lesson '08'; there are 07_tiny"):
        build.sources(source.parents[1], ["08"])


def test_check_says_what_is_stale(lesson, monkeypatch, capsys):
    root = lesson().parents[1]
    monkeypatch.setattr(build, "checkout", lambda: root)
    assert build.main([], check=True) == 1
    assert "notebooks/07_tiny.ipynb is not what course/07_tiny.py makes." in capsys.readouterr().out
    (root / "README.md").write_text("no marks")
    assert build.main([], check=True) == 1
    assert "marks of the map are missing" in capsys.readouterr().err
