"""A page of layerscope in headless Chromium, watched: errors, console lines and requests fail the check."""

import contextlib
import pathlib
import shutil

from playwright.sync_api import sync_playwright

NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]


class Watched:
    """A browser page and what must not happen on it."""

    def __init__(self, page, file):
        self.page, self.file, self.trouble = page, pathlib.Path(file).resolve(), []
        page.on("console", lambda line: self.trouble.append(f"console: {line.text}"))
        page.on("pageerror", lambda error: self.trouble.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.trouble.append("a dialog"), dialog.dismiss()))
        page.on("request", self.request)

    def request(self, request):
        own = request.url.split("#")[0] == self.file.as_uri()
        if not own and not request.url.startswith(("blob:", "data:")):
            self.trouble.append(f"request: {request.url}")

    def open(self, address=""):
        """Loads the page anew, with `address` behind the `#`; returns milliseconds until it was drawn."""
        self.page.goto("about:blank")
        self.page.goto(self.file.as_uri() + (f"#{address}" if address else ""))
        self.page.wait_for_selector("html[data-ready]", timeout=30_000)
        return int(self.page.get_attribute("html", "data-ready"))

    def calm(self):
        """Fails when anything happened that must not."""
        assert not self.trouble, self.trouble


@contextlib.contextmanager
def chromium(executable=None):
    """The system's Chromium, without network."""
    executable = executable or next(filter(None, map(shutil.which, NAMES)), None)
    assert executable, f"none of {', '.join(NAMES)} is installed"
    with sync_playwright() as play:
        # The sandbox cannot be had as root in a container; the page is ours.
        browser = play.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(browser, file, **options):
    """A new window on `file`; afterwards nothing may have gone wrong in it."""
    context = browser.new_context(viewport=options.pop("viewport", {"width": 1240, "height": 900}), offline=True,
                                  accept_downloads=True, **options)
    watched = Watched(context.new_page(), file)
    watched.open()
    try:
        yield watched
        watched.calm()
    finally:
        context.close()
