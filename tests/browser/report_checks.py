"""Charts over metrics.parquet: hover, keyboard, tables, exports, themes, the address, narrow windows, print."""

import base64
import csv
import json
import pathlib
import struct
import xml.etree.ElementTree as ElementTree

from browser import opened


def figures_of(page):
    return page.locator("figure.figure").evaluate_all("figures => figures.map(f => f.id)")


def shown(page, figure):
    page.locator(f"#{figure}").scroll_into_view_if_needed()
    page.wait_for_selector(f"#{figure} .plot > *")
    return page.locator(f"#{figure}")


def inlined(page):
    """Every estimate in the page, decoded here; a test of the library holds these bytes against metrics.parquet."""
    runs = json.loads(page.locator("#data").text_content())["runs"]
    raw = [base64.b64decode(run["metrics"]["estimate"][1]) for run in runs]
    return {value for data in raw for (value,) in struct.iter_unpack("<d", data)}


def every_figure(browser, file):
    """Every figure draws, reads values under the pointer and from the keyboard, and has a table."""
    with opened(browser, file) as at:
        page = at.page
        names = figures_of(page)
        assert names, "no figures"
        for name in names:
            figure = shown(page, name)
            chart = figure.locator("svg.chart")
            box = chart.bounding_box()
            chart.hover(position={"x": box["width"] * 0.45, "y": box["height"] * 0.55})
            assert page.locator("#card").is_visible(), name
            page.mouse.move(2, 2)
            chart.focus()
            page.keyboard.press("ArrowRight")
            page.keyboard.press("ArrowUp")
            assert page.inner_text("#live"), name
            page.keyboard.press("Escape")
            figure.locator("select[data-key$='.as']").select_option("table")
            assert figure.locator("tbody tr").count() > 0, name
            figure.locator("select[data-key$='.as']").select_option("chart")


def selects(browser, file):
    """Every option of every control draws something without an error."""
    with opened(browser, file) as at:
        page = at.page
        for name in figures_of(page):
            figure = shown(page, name)
            for control in figure.locator("select:not([data-key$='.as'])").all():
                key = control.get_attribute("data-key")
                for option in control.locator("option").evaluate_all("options => options.map(o => o.value)"):
                    page.select_option(f"[data-key='{key}']", option)
                    assert figure.locator("svg.chart").count() == 1, (key, option)
                at.calm()


def exports(browser, file, folder):
    """SVG is a document of its own, PNG has pixels, CSV has the file's numbers with every digit."""
    with opened(browser, file) as at:
        page = at.page
        estimates = inlined(page)
        every = figures_of(page)
        for name in (every[0], every[1], every[3]):  # laid out in Rust, lines, a matrix; Chromium allows ten downloads
            figure = shown(page, name)
            got = {}
            for kind in ["SVG", "PNG", "CSV"]:
                with page.expect_download() as download:
                    figure.locator(f"[data-export={kind}]").click()
                got[kind] = pathlib.Path(folder) / download.value.suggested_filename
                download.value.save_as(got[kind])
            root = ElementTree.parse(got["SVG"]).getroot()
            assert root.tag.endswith("svg") and len(list(root)) > 5
            head = got["PNG"].read_bytes()[:24]
            assert head[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", head[16:])[0] > 200
            rows = list(csv.DictReader(got["CSV"].open(newline="", encoding="utf-8")))
            rows = [row for row in rows if row["layer"]]  # a tolerance is nobody's estimate
            assert rows and {float(row["estimate"]) for row in rows} <= estimates, rows[:1]


def themes(browser, file):
    """Dark as the system says, light by the switch, both kept in the address."""
    with opened(browser, file, color_scheme="dark") as at:
        page = at.page
        back = lambda: page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert back() == "rgb(22, 25, 29)", back()
        page.click("#theme")
        assert page.evaluate("location.hash").find("theme=light") >= 0 and back() == "rgb(255, 255, 255)"
        at.open("theme=dark")
        assert back() == "rgb(22, 25, 29)"


def address(browser, file):
    """A choice is in the address and comes back with it; a hidden line stays hidden; sections are links."""
    with opened(browser, file) as at:
        page = at.page
        name = next(name for name in figures_of(page) if name.startswith("lens-"))
        figure = shown(page, name)
        control = figure.locator("select").first
        last = control.locator("option").last.get_attribute("value")
        control.select_option(last)
        figure.locator("svg .entry").first.click()
        assert figure.locator("svg .entry[aria-pressed=false]").count() == 1
        at.open(page.evaluate("location.hash.slice(1)"))
        figure = shown(page, name)
        assert figure.locator("select").first.input_value() == last
        assert figure.locator("svg .entry[aria-pressed=false]").count() == 1
        page.locator("nav a").last.click()
        assert "at=" in page.evaluate("location.hash")


def narrow_and_print(browser, file):
    """No sideways scrolling on a telephone; on paper everything is drawn, in light."""
    with opened(browser, file, viewport={"width": 390, "height": 800}, color_scheme="dark") as at:
        page = at.page
        for name in figures_of(page):
            shown(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.pdf()[:5] == b"%PDF-"


def names(browser, file):
    """Everything that can be pressed or read has a name, and headings go down in order."""
    with opened(browser, file) as at:
        page = at.page
        nameless = page.evaluate("""() => [...document.querySelectorAll('button, select, a, svg.chart, [role=grid]')].filter(
            (node) => node.checkVisibility() && !(node.getAttribute('aria-label') || node.textContent.trim() || node.labels?.length)).map((node) => node.outerHTML.slice(0, 80))""")
        assert not nameless, nameless
        levels = page.locator("h1, h2, h3, h4").evaluate_all("nodes => nodes.map(n => Number(n.tagName[1]))")
        assert levels[0] == 1 and all(b - a <= 1 or b == 4 for a, b in zip(levels, levels[1:])), levels


CHECKS = [every_figure, selects, exports, themes, address, narrow_and_print, names]
