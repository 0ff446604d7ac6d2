"""Draws docs/view.svg: the coloured table of a real `layerscope view` run, as the terminal shows it.

    make build && python3 docs/make_picture.py

Reads the 24-bit colours of the output and nothing else of the terminal's language. The card has a background of its
own, so that it can be read on a light and on a dark page; every word is stretched to its columns, so that the table
lines up in any monospace font.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
TEXT = "The old man looked at her for a moment, and"
COMMAND = ["layerscope", "view", "--model", "fixtures/gpt2-alice-8l", "--text", TEXT]

COLUMN, ROW, MARGIN, FONT = 8.0, 19.0, 16.0, 13.2
CARD, INK, FAINT = "#16191d", "#d7dbe0", "#8b949e"
# `ESC [ parameters m`; every other escape sequence is an error.
ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")


def main() -> None:
    binary = ROOT / "target/release/layerscope"
    if len(sys.argv) > 1:
        binary = Path(sys.argv[1]).resolve()
    command = [str(binary), *COMMAND[1:], "--color", "always", "--quiet"]
    environment = os.environ | {"COLORTERM": "truecolor"}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    typed = " ".join(f'"{word}"' if " " in word else word for word in COMMAND)
    lines = [[(f"$ {typed}", FAINT, None)], *map(runs, done.stdout.rstrip("\n").split("\n"))]
    (ROOT / "docs/view.svg").write_text(svg(lines), encoding="utf-8")


def runs(line: str) -> list:
    """A line as (text, ink, ground or None)."""
    ink, ground, found, at = INK, None, [], 0
    for escape_code in ESCAPE.finditer(line):
        found.append((line[at : escape_code.start()], ink, ground))
        ink, ground = colours(escape_code[1])
        at = escape_code.end()
    found.append((line[at:], ink, ground))
    if "\x1b" in "".join(text for text, *_ in found):
        sys.exit(f"an escape sequence that is no colour: {line!r}")
    return [run for run in found if run[0]]


def colours(parameters: str) -> tuple:
    """Letters and ground of one colour sequence: `38;5;N` (16 black, 231 white), `48;2;R;G;B`, or the reset."""
    if parameters in ("", "0"):
        return INK, None
    found = re.fullmatch(r"38;5;(16|231);48;2;(\d+);(\d+);(\d+)", parameters)
    if not found:
        sys.exit(f"unknown colours {parameters!r}")
    ink = "#000000" if found[1] == "16" else "#ffffff"
    return ink, "#{:02x}{:02x}{:02x}".format(*map(int, found.groups()[1:]))


def svg(lines: list) -> str:
    width = 2 * MARGIN + COLUMN * max(sum(len(text) for text, *_ in line) for line in lines)
    height = 2 * MARGIN + ROW * len(lines)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}"'
        f' font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, \'DejaVu Sans Mono\', monospace"'
        f' font-size="{FONT:g}">',
        "<title>Logit lens of the bundled model: its likeliest next token at every layer and position</title>",
        f'<rect width="{width:g}" height="{height:g}" rx="8" fill="{CARD}"/>',
    ]
    for row, line in enumerate(lines):
        column = 0
        for text, ink, ground in line:
            out += drawn(text, MARGIN + column * COLUMN, MARGIN + row * ROW, ink, ground)
            column += len(text)
    return "\n".join([*out, "</svg>", ""])


def drawn(text: str, x: float, y: float, ink: str, ground: str | None):
    """A run's ground and its letters; spaces around the letters are only room."""
    if ground:
        # A little wider than its columns where it is blank, so that no seam shows in the legend.
        seam = 0.5 if not text.strip() else 0.0
        yield f'<rect x="{x:g}" y="{y:g}" width="{len(text) * COLUMN + seam:g}" height="{ROW - 1:g}" fill="{ground}"/>'
    for word in re.finditer(r"\S+", text):
        left, length = x + word.start() * COLUMN, len(word[0]) * COLUMN
        yield (
            f'<text x="{left:g}" y="{y + 14:g}" fill="{ink}" textLength="{length:g}"'
            f' lengthAdjust="spacingAndGlyphs">{escape(word[0])}</text>'
        )


if __name__ == "__main__":
    main()
