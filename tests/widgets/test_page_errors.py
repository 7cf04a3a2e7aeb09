"""Which errors on the page fail the explorers' tests: their own, not JupyterLab's."""


def test_the_explorers_own_errors_count_and_jupyterlabs_are_a_warning(notebook):
    before = len(notebook.strange)
    notebook.errors.clear()
    notebook.page.evaluate("() => { setTimeout(() => { throw new Error('theirs') }) }")
    notebook.page.evaluate(
        """() => {
            const code = "export const late = () => setTimeout(() => { throw new Error('ours') })";
            const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
            return import(address).then((module) => void module.late());
        }"""
    )
    notebook.page.evaluate("() => new Promise((done) => setTimeout(done, 50))")
    assert [error.split("(")[0] for error in notebook.errors] == ["ours "]
    assert "theirs" in notebook.strange.pop() and len(notebook.strange) == before
