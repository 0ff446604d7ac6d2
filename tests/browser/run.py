"""Drives layerscope's page in headless Chromium.

    python3 tests/browser/run.py --prompts PAGE.html --report PAGE.html [--screenshots DIR]

`--prompts` is a page of `layerscope view` with two prompts, the second with `<script>` in it, through several lenses of
which one is called `future`; `--report` a page with runs. Exit code 1 when a check fails.
"""

import argparse
import inspect
import pathlib
import sys
import tempfile
import time
import traceback

import report_checks
import trajectory_checks
from browser import chromium, opened


def check(one, browser, file, folder):
    start = time.monotonic()
    wanted = {"browser": browser, "file": file, "folder": folder}
    try:
        one(**{name: wanted[name] for name in inspect.signature(one).parameters})
    except Exception:
        print(f"FAILED {one.__name__}\n{traceback.format_exc(limit=3)}", flush=True)
        return False
    print(f"ok     {one.__name__} ({time.monotonic() - start:.1f} s)", flush=True)
    return True


def screenshots(browser, file, folder):
    """Every section, light and dark, wide and narrow."""
    for theme in ["light", "dark"]:
        for width in [1240, 390]:
            with opened(browser, file, color_scheme=theme, viewport={"width": width, "height": 900}) as at:
                for section in at.page.locator("section").all():
                    section.scroll_into_view_if_needed()
                    at.page.wait_for_timeout(300)
                    name = f"{pathlib.Path(file).stem}-{section.get_attribute('id')}-{theme}-{width}.png"
                    section.screenshot(path=str(pathlib.Path(folder) / name))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--report")
    parser.add_argument("--chromium")
    parser.add_argument("--screenshots")
    asked = parser.parse_args()
    good = []
    with tempfile.TemporaryDirectory() as folder, chromium(asked.chromium) as browser:
        print(f"Chromium {browser.version}")
        for file, checks in [(asked.prompts, trajectory_checks.CHECKS), (asked.report, report_checks.CHECKS)]:
            if file is None:
                continue
            with opened(browser, file) as at:
                size = pathlib.Path(file).stat().st_size
                print(f"{file}: {size / 1e6:.2f} MB, drawn after {at.open()} ms")
            good += [check(one, browser, file, folder) for one in checks]
            if asked.screenshots:
                screenshots(browser, file, asked.screenshots)
    print(f"{sum(good)} of {len(good)} browser checks passed")
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
