"""What passed in one notebook is the learner's own in the next, and only while it passes."""

import nbformat.v4 as v4
import pytest
from nbclient import NotebookClient

import vit_edu
from vit_edu import layers
from vit_edu.exercises import kept

WRITTEN = """
import torch, vit_edu
def softmax(x): return x.softmax(-1)
def attention(q, k, v):
    weights = softmax(q @ k.mT / q.shape[-1] ** 0.5)
    return weights @ v, weights
answer = vit_edu.check("attention", attention)
"""
FOUND = 'import vit_edu\nfound = vit_edu.mine("attention")\nprint(found.__module__, found.__name__)'


def run(folder, *cells):
    """What the last cell of a notebook in this folder printed."""
    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(folder)}}).execute()
    return "".join(output.get("text", "") for output in notebook.cells[-1].outputs)


def test_an_answer_that_passed_is_there_in_the_next_lesson(tmp_path):
    assert "the kit's (none of yours has passed here yet" in run(tmp_path, FOUND)
    run(tmp_path, WRITTEN)
    said = run(tmp_path, FOUND)
    assert "attention: yours, of lesson 02." in said
    assert "__main__ attention" in said
    run(tmp_path, WRITTEN.replace("** 0.5", "** 0.25"))  # wrong: the one that passed stays
    assert "yours, of lesson 02." in run(tmp_path, FOUND)


def test_a_kept_answer_that_is_wrong_or_broken_is_not_used(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = kept.path_of("attention")
    path.parent.mkdir()
    path.write_bytes(kept_bytes(lambda q, k, v: ((q @ k.mT).softmax(-1) @ v, (q @ k.mT).softmax(-1))))
    assert vit_edu.mine("attention") is layers.scaled_dot_product_attention
    assert "yours does not pass any more" in capsys.readouterr().out
    path.write_bytes(b"half a fi")
    assert vit_edu.mine("attention") is layers.scaled_dot_product_attention
    with pytest.raises(KeyError, match="do you mean 'attention'"):
        vit_edu.mine("atention")


def kept_bytes(function):
    import cloudpickle

    return cloudpickle.dumps(function)


def test_nothing_is_kept_outside_a_notebook(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vit_edu.check("split_heads", lambda qkv, h: layers.split_heads(qkv + 0, h))
    assert not list(tmp_path.iterdir())
