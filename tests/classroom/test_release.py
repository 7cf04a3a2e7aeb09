"""`vit-edu release`: what learners get gives nothing away, and the real nbgrader gives the points that it should."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from bench import nbgrader_attacks
from tests.unit.test_editions import HEAD, leaks
from vit_edu import check, resources
from vit_edu.classroom import build, release
from vit_edu.classroom.editions import LessonError
from vit_edu.classroom.grading.mark import answers_of, grade
from vit_edu.classroom.grading.sandbox import Sandbox, walls
from vit_edu.exercises import ALL, TARGETS

ROOT = Path(__file__).resolve().parents[2]
LESSONS = build.sources(ROOT)
each_lesson = pytest.mark.parametrize("source", LESSONS, ids=lambda source: source.stem)
UNSCALED = "def attention(q, k, v):\n    weights = (q @ k.mT).softmax(-1)\n    return weights @ v, weights"


def roles(notebook, role):
    """grade_id -> cell, of the cells that have the role."""
    return {c.metadata.nbgrader.grade_id: c for c in notebook.cells if c.metadata.nbgrader[role]}


# What is written


@each_lesson
def test_every_exercise_has_its_points_and_every_other_cell_is_locked(source):
    notebook, exercises = release.source_edition(source), list(answers_of(source))
    nbformat.validate(notebook)
    tests, solutions = roles(notebook, "grade"), roles(notebook, "solution")
    assert {name: cell.metadata.nbgrader.points for name, cell in tests.items()} == {
        f"test_{name}": ALL[name].points for name in exercises
    }
    assert list(solutions) == [name for _, _, name in release.ASKED.findall(source.read_text(encoding="utf-8"))]
    targets = [name for name, target in TARGETS.items() if target.lesson == source.stem[:2]]
    assert [name for name in solutions if name not in targets] == exercises
    assert [name for name in solutions if name not in exercises] == targets
    assert len(roles(notebook, "locked")) + len(solutions) == len(notebook.cells)  # each with an id of its own
    assert all("### BEGIN SOLUTION" in cell.source and "def " in cell.source for cell in solutions.values())


@each_lesson
def test_the_release_gives_nothing_away(source):
    notebook = release.release_edition(release.source_edition(source))
    assert leaks(source, notebook) == []
    text = nbformat.writes(notebook)
    for trace in ("HIDDEN", "BEGIN SOLUTION", "END SOLUTION", "_submitted", "release import fault"):
        assert trace not in text
    for name, exercise in answers_of(source).items():
        cells = {c.metadata.nbgrader.grade_id: c.source for c in notebook.cells}
        assert cells[f"test_{name}"] == f'{exercise} = vit_edu.check("{name}", {exercise})'
        assert cells[name].count(f'raise NotImplementedError("{release.STUB}")') >= 1


def test_the_course_and_its_hub(tmp_path, capsys):
    assert release.main(["00", "02"], str(tmp_path)) == 0
    assert "02_self_attention: 11 points; attention 3," in capsys.readouterr().out
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    names = ("00_start_here", "02_self_attention")
    assert found == {f"{kind}/{name}/{name}.ipynb" for kind in ("source", "release") for name in names} | {
        "nbgrader_config.py",
        *(f"hub/{name}" for name in ("Dockerfile", "links.md", "tljh.sh", "z2jh-values.yaml")),
    }
    values = yaml.safe_load((tmp_path / "hub" / "z2jh-values.yaml").read_text())["singleuser"]["memory"]
    record = json.loads((ROOT / "data" / "records" / "lessons.json").read_text())["lessons"].values()
    peak = max(run["peak_mb"] for lesson in record for run in lesson.values()) / 1000
    assert peak < float(values["guarantee"][:-1]) < peak + 0.3 and float(values["limit"][:-1]) > 2 * peak
    script = tmp_path / "hub" / "tljh.sh"
    assert f"limits.memory {values['limit']}" in script.read_text()
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    links = (tmp_path / "hub" / "links.md").read_text()
    address = resources.repository_url().replace(":", "%3A").replace("/", "%2F")
    assert all(f"git-pull?repo={address}&branch=main&urlpath=" in links and source.stem in links for source in LESSONS)


def test_what_an_instructor_has_changed_stays(tmp_path, capsys):
    assert release.main(["00"], str(tmp_path)) == 0
    config = tmp_path / "nbgrader_config.py"
    config.write_text("mine")
    assert release.main(["02"], str(tmp_path)) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{config} is there") and said.count("\n") == 1
    assert config.read_text() == "mine" and not (tmp_path / "source" / "02_self_attention").exists()
    config.unlink()
    assert release.main(["00", "02"], str(tmp_path)) == 0  # what is the same is no obstacle


def test_what_cannot_be_done_is_said(tmp_path, capsys):
    assert release.main(["77"], str(tmp_path / "new")) == 2
    assert "There is no lesson '77'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    assert release.main(["00"], str(tmp_path / "file")) == 2
    assert "Choose another folder with --to." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("# %%\n### BEGIN SOLUTION\ndef f():\n    pass\n### END SOLUTION\n", "inside a function"),
        ("# %%\ndef f():\n    ### BEGIN SOLUTION\n    pass\n    ### END SOLUTION\n", "no check or target after it"),
        ('# %%\nf = vit_edu.check("attention", f)\n', "the check of attention has no solution"),
    ],
)
def test_a_lesson_that_nbgrader_cannot_have_is_refused(tmp_path, body, says):
    source = tmp_path / "07_tiny.py"
    source.write_text(HEAD + body)
    with pytest.raises(LessonError, match=rf"course/07_tiny\.py: .*{says}"):
        release.source_edition(source)


def test_a_target_is_no_part_of_the_grade(tmp_path):
    source = tmp_path / "07_tiny.py"
    stub = "# %%\ndef f():\n    ### BEGIN SOLUTION\n    pass\n    ### END SOLUTION\n\n"
    source.write_text(HEAD + stub + '# %%\nf = vit_edu.target("faster", f)\n')
    notebook = release.source_edition(source)
    assert list(roles(notebook, "solution")) == ["faster"] and not roles(notebook, "grade")
    assert notebook.cells[-1].metadata.nbgrader.locked


def test_the_page_has_ten_steps_and_the_measured_table():
    text = nbgrader_attacks.PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^(\d+)\. \*\*", text, re.MULTILINE) == [str(step) for step in range(1, 11)]
    assert text == nbgrader_attacks.page(json.loads(nbgrader_attacks.RESULTS.read_text(encoding="utf-8")))


# The hidden tests


def run_test(answer):
    """The graded cell of attention, as nbgrader runs it. Returns what the lesson goes on with."""
    [cell] = [c for c in release.source_edition(LESSONS[2]).cells if c.metadata.nbgrader.grade_id == "test_attention"]
    namespace = {"vit_edu": sys.modules["vit_edu"], "attention": answer}
    try:
        exec(cell.source, namespace)
    except AssertionError as error:
        return namespace["attention"], str(error)
    return namespace["attention"], ""


def test_a_wrong_answer_fails_by_its_name_and_the_lesson_goes_on():
    def unscaled(q, k, v):
        weights = (q @ k.mT).softmax(-1)
        return weights @ v, weights

    def right(q, k, v):
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        return weights @ v, weights

    def unsolved(q, k, v):
        raise NotImplementedError(release.STUB)

    reference = ALL["attention"].reference
    goes_on, said = run_test(unscaled)
    assert goes_on is reference and said.startswith("attention: no scaling. ")
    goes_on, said = run_test(unsolved)
    assert goes_on is reference and "nothing is written here yet" in said
    assert run_test(reference)[1]  # the kit's own is nobody's answer
    assert run_test(right) == (right, "")


@pytest.mark.parametrize("validating", [True, False])
def test_nbgraders_validate_button_is_told(validating, monkeypatch, capsys):
    monkeypatch.setenv("NBGRADER_EXECUTION", "validate" if validating else "")
    check("count_patches", lambda height, width, patch_size: 7)
    assert ("Not right yet" in capsys.readouterr().err) is validating
    check("count_patches", lambda height, width, patch_size: (height // patch_size) * (width // patch_size))
    assert capsys.readouterr().err == ""


# nbgrader itself


def nbgrader(folder, *words):
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # nbgrader calls alembic by name
    command = [sys.executable, "-m", "nbgrader", *words]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PATH": tools})
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A course through the real nbgrader: learner -> file, answers as they were submitted."""
    pytest.importorskip("nbgrader")
    folder = tmp_path_factory.mktemp("course")
    assert release.main(["00", "02"], str(folder)) == 0
    name = "02_self_attention/02_self_attention.ipynb"
    kept = folder / "source" / "02_self_attention" / ".vit_edu" / "attention.pickle"  # as after a run of source/
    kept.parent.mkdir()
    kept.write_text("a solution")
    ours = nbformat.read(folder / "release" / name, as_version=4)
    nbgrader(folder, "generate_assignment", "02_self_attention")
    theirs = nbformat.read(folder / "release" / name, as_version=4)

    solved = release.source_edition(LESSONS[2])
    answers = {ident: cell.source for ident, cell in roles(solved, "solution").items()}
    mixed = {**answers, "attention": UNSCALED, "split_heads": roles(theirs, "solution")["split_heads"].source}
    for learner, written in {"right": answers, "mixed": mixed, "unsolved": {}}.items():
        notebook = nbformat.from_dict(theirs)
        for ident, cell in roles(notebook, "solution").items():
            cell.source = written.get(ident, cell.source)
        path = folder / "submitted" / learner / name
        path.parent.mkdir(parents=True)
        nbformat.write(notebook, path)
    nbgrader(folder, "autograde", "02_self_attention")
    return folder, ours, theirs


def test_nbgrader_makes_the_same_release(graded):
    folder, ours, theirs = graded
    for mine, other in zip(ours.cells, theirs.cells, strict=True):
        assert mine.source == other.source and mine.id == other.id
        for added in ("checksum", "cell_type"):
            other.metadata.nbgrader.pop(added)
        assert mine.metadata == other.metadata
    assert not list((folder / "release").rglob(".vit_edu"))


def test_nbgraders_points_are_those_of_vit_edu_grade(graded):
    from nbgrader.api import Gradebook

    folder, lesson = graded[0], "02_self_attention"
    everything = {name: ALL[name].points for name in answers_of(LESSONS[2])}
    wanted = {
        "right": everything,
        "mixed": {**everything, "attention": 0, "split_heads": 0},
        "unsolved": dict.fromkeys(everything, 0),
    }
    sandbox = Sandbox(walls())
    for learner, points in wanted.items():
        with Gradebook(f"sqlite:///{folder}/gradebook.db") as book:
            grades = book.find_submission_notebook(lesson, lesson, learner).grades
            assert {g.name.removeprefix("test_"): g.auto_score for g in grades} == points, learner
        content = (folder / "submitted" / learner / lesson / f"{lesson}.ipynb").read_bytes()
        marks = grade(content, answers_of(LESSONS[2]), sandbox)["marks"]
        assert {mark["exercise"]: mark["points"] for mark in marks} == points, learner
    sandbox.stop()
    graded_notebook = nbformat.read(folder / "autograded" / "mixed" / lesson / f"{lesson}.ipynb", as_version=4)
    errors = [o.evalue for c in graded_notebook.cells for o in c.get("outputs", ()) if o.output_type == "error"]
    assert errors[0].startswith("attention: no scaling. ")
    assert len(errors) == 2  # the two that are not right, and no cell after them


def test_validate_tells_right_from_unsolved(graded):
    folder = graded[0]
    assert "Success!" in nbgrader(folder, "validate", "source/00_start_here/00_start_here.ipynb")
    said = nbgrader(folder, "validate", "release/00_start_here/00_start_here.ipynb")
    assert "VALIDATION FAILED ON 1 CELL(S)" in said and "nothing is written here yet" in said
