"""A real JupyterLab and a real Chromium, started once; nothing of the user's configuration is read or written."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from pathlib import Path

import nbformat
import pytest

from vit_edu.lab import write_settings
from vit_edu.widgets import static

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "explorers"
# In an error's words, address or stack: anywidget, and the module that it loads from a blob, hold the explorers' code.
OURS = re.compile(r"blob:|anywidget|displaying widget|widget model|\bve-|vit_edu|Explorer", re.IGNORECASE)
# anywidget's complaint two seconds after a model was made (AbortSignal.timeout in its Runtime) if the page was too busy
# to import the module by then; a test that waits for a model that never comes fails anyway.
SLOW = "[anywidget] Failed to initialize model."
# Nothing but the loopback can be reached: other names do not resolve.
LAUNCH = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
NO_BROWSER = "no browser for the widgets' tests: `apt install chromium`, or set CHROME=/path/to/chrome"


def find_chromium() -> str | None:
    """The browser's path: CHROME, or what is installed."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("CHROME") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="session")
def chrome():
    found = find_chromium()
    if not found:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(NO_BROWSER)
    return found


@pytest.fixture(scope="session")
def lab(chrome, tmp_path_factory):
    """The address of a running JupyterLab with one notebook of two empty cells."""
    home = tmp_path_factory.mktemp("home")
    notebooks = tmp_path_factory.mktemp("notebooks")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(), nbformat.v4.new_code_cell()]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), notebooks / "explorer.ipynb")
    write_settings(home / "settings")

    env = {key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "IPYTHON"))}
    env |= {"HOME": str(home), "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "PYTHONPATH": str(ROOT)}
    env |= {f"JUPYTER_{kind}_DIR": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    env |= {"JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"), "IPYTHONDIR": str(home / "ipython")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        "--no-browser",
        "--allow-root",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={notebooks}",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
    ]
    log = home / "lab.log"
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env=env, cwd=home, stdout=out, stderr=out
        )
    try:
        address, until = f"http://127.0.0.1:{port}", time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"{address}/api/status?token={TOKEN}", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                if server.poll() is not None or time.monotonic() > until:
                    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")
                time.sleep(0.1)
        yield address, notebooks
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


class Notebook:
    """The opened notebook: runs code in its cells and says what the page and the kernel know."""

    def __init__(self, page, folder):
        self.page, self.file = page, folder / "explorer.ipynb"
        self.elsewhere, self.errors, self.strange = [], [], []

    def heard(self, words, where):
        """An error on the page: the explorers' own count; JupyterLab's, which no explorer can mend, are a warning."""
        ours = OURS.search(f"{words} {where}") and SLOW not in str(words)
        (self.errors if ours else self.strange).append(f"{words} ({where})")

    def run(self, code, cell=0):
        """Runs `code` in that cell, as a learner does; returns the cell's outputs."""
        return self.page.evaluate(
            """async ([index, code]) => {
                const panel = jupyterapp.shell.currentWidget;
                const cell = panel.content.widgets[index].model;
                cell.sharedModel.setSource(code);
                panel.content.activeCellIndex = index;
                panel.content.deselectAll();
                await jupyterapp.commands.execute("notebook:run-cell");
                return cell.outputs.toJSON();
            }""",
            [cell, code],
        )

    def python(self, expression):
        """The value of an expression in the kernel, asked from the next cell."""
        outputs = self.run(f"import json; print(json.dumps({expression}))", cell=1)
        return json.loads("".join(output["text"] for output in outputs if output["output_type"] == "stream"))

    def wait_python(self, expression, wanted, seconds=20):
        """The browser tells the kernel a moment later; ask until it knows."""
        until = time.monotonic() + seconds
        while (found := self.python(expression)) != wanted and time.monotonic() < until:
            pass
        assert found == wanted

    @property
    def cells(self):
        return self.page.evaluate("jupyterapp.shell.currentWidget.content.model.cells.length")

    def command(self, name, **arguments):
        self.page.evaluate(
            "([name, args]) => jupyterapp.commands.execute(name, args).then(() => {})", [name, arguments]
        )

    def open(self, address):
        self.page.goto(f"{address}/lab/tree/{self.file.name}?token={TOKEN}&reset")
        self.page.wait_for_function(
            "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel", timeout=90_000
        )
        self.page.evaluate("""async () => {
            const panel = jupyterapp.shell.currentWidget;
            await panel.context.ready;
            await panel.sessionContext.ready;
            jupyterapp.shell.collapseLeft();
        }""")


@pytest.fixture(scope="session")
def browser(chrome):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chrome, args=LAUNCH)
        yield browser
        browser.close()


def watched(context, elsewhere, allowed):
    """A page of the context; requests other than to `allowed` addresses are recorded and aborted."""

    def abort(route):
        elsewhere.append(route.request.url)
        route.abort()

    context.route(re.compile(rf"^(?!({allowed}|data:|blob:))"), abort)
    page = context.new_page()
    page.set_default_timeout(30_000)
    return page


@pytest.fixture(scope="session")
def notebook(browser, lab):
    address, folder = lab
    context = browser.new_context(viewport={"width": 1280, "height": 900}, has_touch=True)
    elsewhere = []
    notebook = Notebook(watched(context, elsewhere, r"https?://127\.0\.0\.1[:/]"), folder)
    notebook.elsewhere, page = elsewhere, notebook.page
    page.on("websocket", lambda socket: "//127.0.0.1:" in socket.url or notebook.elsewhere.append(socket.url))
    page.on(
        "console", lambda message: message.type == "error" and notebook.heard(message.text, message.location["url"])
    )
    page.on("pageerror", lambda error: notebook.heard(error, error.stack))
    notebook.open(address)
    notebook.address = address
    yield notebook
    context.close()
    if notebook.strange:
        warnings.warn(f"JupyterLab's own errors on the page: {notebook.strange}", stacklevel=1)


@pytest.fixture
def clean_notebook(notebook):
    """The notebook without outputs; the test ends without an error on the page and without a request elsewhere."""
    notebook.errors.clear()
    notebook.elsewhere.clear()
    notebook.command("notebook:clear-all-cell-outputs")
    yield notebook
    assert notebook.errors == [] and notebook.elsewhere == []


class StaticPage:
    """Explorers on a page by themselves, opened as a file: no kernel, no server, no request."""

    def __init__(self, page, file, elsewhere):
        self.page, self.file, self.elsewhere, self.errors = page, file, elsewhere, []
        page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(f"{error} {error.stack}"))

    def show(self, *explorers):
        self.file.write_text(static.page(explorers, "explorers"), encoding="utf-8")
        self.page.goto(self.file.as_uri())


@pytest.fixture
def static_page(browser, tmp_path):
    """static_page.show(explorer): what a View looks at, as it does at a notebook; no error, no request allowed."""
    context, elsewhere = browser.new_context(viewport={"width": 1000, "height": 900}, has_touch=True), []
    file = tmp_path / "page.html"
    shown = StaticPage(watched(context, elsewhere, re.escape(file.as_uri())), file, elsewhere)
    yield shown
    context.close()
    assert shown.errors == [] and elsewhere == []
