"""What stands in a learner's notebook in place of a solution."""

import pytest

from vit_edu.classroom import editions


def stub(source):
    """The learner's cell, run; and its text."""
    text, names = editions.without_solutions(source), {}
    exec(text, names)
    return names, text


IN_A_FUNCTION = """
def f(
    x,
) -> int:
    '''
Doc.
    '''
    if x:
        ### BEGIN SOLUTION
        return x
        ### END SOLUTION
"""
MARKERS_WITHOUT_MARGIN = """
def f(x):
### BEGIN SOLUTION
    return x
### END SOLUTION
"""
IN_A_METHOD = """
class A:
    def go(self):
        ### BEGIN SOLUTION
        return 1
        ### END SOLUTION

    b = 2
"""
WHOLE_METHODS = """
class A:
    ### BEGIN SOLUTION
    def __init__(self):
        pass

    def go(self):
        pass
    ### END SOLUTION
"""
WHOLE_FUNCTION = """
### BEGIN SOLUTION
def f(x):
    return x
### END SOLUTION
"""
WHOLE_CLASS = """
### BEGIN SOLUTION
class A(dict):
    pass
### END SOLUTION
"""


@pytest.mark.parametrize(
    ("cell", "call", "named"),
    [
        (IN_A_FUNCTION, lambda names: names["f"](1), "f"),
        (MARKERS_WITHOUT_MARGIN, lambda names: names["f"](1), "f"),
        (IN_A_METHOD, lambda names: names["A"]().go(), "A.go"),
        (WHOLE_METHODS, lambda names: names["A"](), "A.__init__"),
        (WHOLE_FUNCTION, lambda names: names["f"](1), "f"),
        (WHOLE_CLASS, lambda names: names["A"](1), "A"),
    ],
)
def test_a_stub_says_whose_turn_it_is(cell, call, named):
    names, text = stub(cell)
    assert "SOLUTION" not in text
    with pytest.raises(NotImplementedError, match=f"^your turn: write {named} here$"):
        call(names)


@pytest.mark.parametrize(
    "cell",
    [
        "def f():\n    ### BEGIN SOLUTION\n    return 1\n\nx = 2\n### END SOLUTION",
        "### BEGIN SOLUTION\ndef f():\n    x = 1\n    ### END SOLUTION\n    return x",
        "class A:\n    ### BEGIN SOLUTION\n    def go(self):\n        pass\n\ndef f():\n    pass\n### END SOLUTION",
        "def f(x):\n    if x:\n        ### BEGIN SOLUTION\n        x = 1\n    return x\n    ### END SOLUTION",
    ],
)
def test_a_solution_that_leaves_its_block_is_refused(cell):
    with pytest.raises(editions.LessonError, match="begins and ends in the same block"):
        editions.without_solutions(cell)


def test_what_stands_around_a_solution_stays():
    names, text = stub(
        "a = 1\n\ndef f(x):\n    y = 2 * x\n    ### BEGIN SOLUTION\n    return y\n    ### END SOLUTION\n\nb = 3"
    )
    assert (names["a"], names["b"]) == (1, 3)
    assert text.splitlines()[2:5] == [
        "def f(x):",
        "    y = 2 * x",
        '    raise NotImplementedError("your turn: write f here")',
    ]
