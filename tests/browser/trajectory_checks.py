"""The prompt's grid: cards, pins, switches, keyboard, comparison, hostile text, speed."""

from browser import opened

HOSTILE = "<script>alert(1)</script>"
CELL = "#grid-a .row.layer .cell"


def cards_and_pins(browser, file):
    """Pointing shows ten tokens with ids; a click pins a line and keeps the cell; the address brings both back."""
    with opened(browser, file) as at:
        page = at.page
        cell = page.locator("#grid-a-2-3")
        cell.hover()
        card = page.locator("#card")
        assert card.is_visible() and card.locator("tr").count() == 10, card.inner_text()
        assert "layer" in card.inner_text() and "#" in card.inner_text() and "%" in card.inner_text()
        cell.click()
        assert page.locator(".pins .chip").count() == 1
        chart = page.locator("#trajectory .plot svg.chart")
        assert chart.count() == 1 and chart.locator("path[fill=none]").count() >= 1
        page.locator(".picked .pin").nth(2).click()
        assert page.locator(".pins .chip").count() == 2
        address = page.evaluate("location.hash.slice(1)")
        assert "t.pins=" in address and "t.cell=2%2C3" in address, address
        at.open(address)
        assert page.locator(".pins .chip").count() == 2
        assert "focus" in page.get_attribute("#grid-a-2-3", "class")
        page.locator(".pins .chip").first.click()
        assert page.locator(".pins .chip").count() == 1
    with opened(browser, file) as at:  # a first click far to the right stays where it is
        at.page.evaluate("document.getElementById('grid-a').scrollLeft = 500")
        at.page.wait_for_timeout(200)
        at.page.locator("#grid-a-4-12").click()
        assert at.page.locator(".pins .chip").inner_text().find("after token 12") > 0


def switches(browser, file):
    """Every metric, lens, horizon, stride and palette redraws; what is chosen survives a reload."""
    with opened(browser, file) as at:
        page = at.page
        colours = lambda: page.locator(CELL).evaluate_all("cells => cells.slice(0, 200).map(c => c.style.backgroundColor).join()")
        texts = lambda: page.locator(CELL).evaluate_all("cells => cells.slice(0, 200).map(c => c.textContent).join()")
        seen = {colours()}
        for metric in ["entropy", "kl", "rank", "ce"]:
            page.select_option("[data-key='t.metric']", metric)
            seen.add(colours())
        assert len(seen) == 5, len(seen)
        page.select_option("[data-key=palette]", "cividis")
        assert colours() not in seen
        before = texts()
        lenses = page.locator("[data-key='t.lens'] option").evaluate_all("options => options.map(o => o.value)")
        page.select_option("[data-key='t.lens']", lenses[1])
        assert texts() != before
        rows = page.locator("#grid-a .row.layer").count()
        page.select_option("[data-key='t.stride']", "2")
        assert page.locator("#grid-a .row.layer").count() == (rows + 1) // 2
        assert page.locator("#grid-a .row.layer .name").first.inner_text() == "output"
        at.open(page.evaluate("location.hash.slice(1)"))
        chosen = {key: page.locator(f"[data-key='{key}']").input_value() for key in ["t.metric", "t.lens", "t.stride", "palette"]}
        assert chosen == {"t.metric": "ce", "t.lens": lenses[1], "t.stride": "2", "palette": "cividis"}, chosen


def future(browser, file):
    """A future lens shows the next tokens of every horizon in a cell, and each one's probabilities in the card."""
    with opened(browser, file) as at:
        page = at.page
        page.select_option("[data-key='t.lens']", "future")
        cell = page.locator("#grid-a-2-3")
        cell.hover()
        ahead = page.locator("#card .ahead").all_inner_texts()
        assert ahead[:2] == ["1 ahead", "2 ahead"] and len(ahead) >= 3, ahead
        assert cell.inner_text().count(" ") + 1 >= len(ahead) - 1
        page.select_option("[data-key='t.horizon']", "2")
        page.locator("#grid-a-2-3").hover()
        assert page.locator("#card .ahead").count() == 0 and page.locator("#card tr").count() == 10


def keyboard(browser, file):
    """Arrows move, Home and End too, Enter pins, Escape closes; a screen reader is told where it is."""
    with opened(browser, file) as at:
        page = at.page
        page.focus("#grid-a")
        active = lambda: page.get_attribute("#grid-a", "aria-activedescendant")
        assert active() == "grid-a-0-0"
        for key in ["ArrowUp", "ArrowUp", "ArrowRight"]:
            page.keyboard.press(key)
        assert active() == "grid-a-2-1", active()
        assert "layer 2" in page.inner_text("#live") and "after token 1" in page.inner_text("#live")
        page.keyboard.press("End")
        last = int(page.get_attribute("#grid-a", "aria-colcount")) - 2
        assert active() == f"grid-a-2-{last}" and page.locator(f"#grid-a-2-{last}").is_visible()
        page.keyboard.press("Enter")
        assert page.locator(".pins .chip").count() == 1
        page.keyboard.press("Home")
        assert active() == "grid-a-2-0"
        roles = page.locator("#grid-a [role]").evaluate_all("nodes => [...new Set(nodes.map(n => n.getAttribute('role')))].sort()")
        assert roles == ["columnheader", "gridcell", "presentation", "row", "rowheader"], roles


def compare(browser, file):
    """A second grid stands below, scrolls along, and its lines join the pins."""
    with opened(browser, file) as at:
        page = at.page
        other = page.locator("[data-key='t.with'] option").nth(1).get_attribute("value")
        page.select_option("[data-key='t.with']", other)
        assert page.locator("#grid-b").is_visible()
        page.locator("#grid-a-1-1").click()
        assert page.locator(".picked .cellcard").count() == 2
        assert page.locator("#trajectory .plot svg .entry").count() == 2
        page.evaluate("document.getElementById('grid-a').scrollLeft = 300")
        page.wait_for_timeout(200)
        assert page.evaluate("document.getElementById('grid-b').scrollLeft") == page.evaluate("document.getElementById('grid-a').scrollLeft")


def hostile(browser, file):
    """Tokens are text, control characters are spelled out, and right-to-left words stay in their cells."""
    with opened(browser, file) as at:
        page = at.page
        page.select_option("[data-key='t.prompt']", "1")
        assert page.evaluate("document.scripts.length") == 2 and page.evaluate("document.images.length") == 0
        text = page.locator("#grid-a .row.foot").inner_text()
        joined = "".join(text.split()).replace("·", "")
        assert "<script>" in joined or "script" in joined, joined
        assert HOSTILE[:8] in page.locator("[data-key='t.prompt'] option").nth(1).inner_text()
        boxes = page.locator("#grid-a .row.foot .cell").evaluate_all("cells => cells.map(c => c.getBoundingClientRect()).map(b => [b.left, b.right])")
        boxes.sort()
        assert all(a[1] <= b[0] + 0.5 for a, b in zip(boxes, boxes[1:])), "cells overlap"
        assert page.locator("#grid-a .row.foot .cell bdi").count() == len(boxes)


def speed(browser, file):
    """Scrolling from end to end: the columns in view alone exist, and frames stay short."""
    with opened(browser, file) as at:
        page = at.page
        times = page.evaluate("""async () => {
            const grid = document.getElementById('grid-a');
            const times = [];
            let last = performance.now();
            for (let i = 0; i < 60; i++) {
                grid.scrollLeft = (i / 59) * (grid.scrollWidth - grid.clientWidth);
                await new Promise(requestAnimationFrame);
                times.push(performance.now() - last);
                last = performance.now();
            }
            return times.sort((a, b) => a - b);
        }""")
        cells = int(page.get_attribute("#grid-a", "aria-colcount")) * page.locator("#grid-a .row.layer").count()
        made = page.locator(CELL).count()
        print(f"    {cells} cells, {made} in the document; frame median {times[30]:.1f} ms, longest {times[-1]:.1f} ms")
        assert times[30] < 100, times


CHECKS = [cards_and_pins, switches, future, keyboard, compare, hostile, speed]
