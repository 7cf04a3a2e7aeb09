"""One explorer on the page, as every explorer's tests see it: status, canvases, and whether it can be read."""

import base64

import torch


def patches(image, p):
    """(N, C*p*p): the definition once more, without the kit."""
    _, height, width = image.shape
    corners = [(y, x) for y in range(0, height, p) for x in range(0, width, p)]
    return torch.stack([image[:, y : y + p, x : x + p].reshape(-1) for y, x in corners])


class View:
    """One shown explorer, in a notebook or on a static page."""

    def __init__(self, notebook, nth=0):
        self.notebook, self.page = notebook, notebook.page
        self.root = self.page.locator(".ve").nth(nth)

    @property
    def status(self):
        return self.root.get_by_role("status").inner_text()

    def until(self, words):
        self.root.get_by_role("status").filter(has_text=words).wait_for()

    def canvas(self, selector):
        """What is drawn: uint8 (H, W, 4)."""
        height, width, data = self.root.locator(selector).evaluate(
            """canvas => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => {
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                let text = "";
                for (let i = 0; i < data.length; i += 9000) text += String.fromCharCode(...data.subarray(i, i + 9000));
                done([canvas.height, canvas.width, btoa(text)]);
            })))"""
        )
        return torch.frombuffer(bytearray(base64.b64decode(data)), dtype=torch.uint8).view(height, width, 4)

    def contrast(self):
        """[(contrast of the text on its ground by WCAG, text)]; 4.5 and more is readable."""
        return self.root.evaluate(CONTRAST)

    def cut(self):
        """What sticks out of the explorer or of its own box."""
        return self.root.evaluate(CUT)

    def themes(self):
        """JupyterLab's dark theme, then its light one, each once the page has it: yields whether it is light."""
        try:
            for theme, light in (("JupyterLab Dark", False), ("JupyterLab Light", True)):
                self.notebook.command("apputils:change-theme", theme=theme)
                self.page.wait_for_function(
                    """light => {
                        const page = getComputedStyle(document.body).getPropertyValue("--jp-layout-color1").trim();
                        return document.body.dataset.jpThemeLight === String(light) && (page === "white") === light;
                    }""",
                    arg=light,
                )
                yield light
        finally:
            self.notebook.command("apputils:change-theme", theme="JupyterLab Light")


CONTRAST = """root => {
    const parse = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
    const over = ([r, g, b, a = 1], under) => [r, g, b].map((v, i) => v * a + under[i] * (1 - a));
    const light = (rgb) => rgb.map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const back = (node) => {
        const colour = parse(getComputedStyle(node).backgroundColor);
        if (colour.length === 3) return colour;
        const under = node.parentElement ? back(node.parentElement) : [255, 255, 255];
        return colour[3] ? over(colour, under) : under;
    };
    const nodes = [...root.querySelectorAll("p, legend, span, small, button")];
    return nodes.filter((node) => node.textContent.trim()).map((node) => {
        const ground = back(node);
        const [a, b] = [light(over(parse(getComputedStyle(node).color), ground)), light(ground)].sort((x, y) => y - x);
        return [(a + 0.05) / (b + 0.05), node.textContent];
    });
}"""

CUT = """root => {
    const limit = root.getBoundingClientRect().right + 1;
    const over = ({ tagName, clientWidth, scrollWidth }) =>
        tagName !== "CANVAS" && clientWidth && scrollWidth > clientWidth + 1;
    return [...root.querySelectorAll("*")]
        .filter((node) => node.getBoundingClientRect().right > limit || over(node))
        .map((node) => node.className || node.tagName);
}"""
