"""Runs the notebooks from a clean environment, compares what they show with what is committed, and leaves pages in out/notebooks/.

usage: execute.py [--check | --write] [NOTEBOOK…]

--check   only look whether what is committed is as --write leaves it
--write   put the outputs of the fresh run into the notebooks, in place of comparing them
Exit 1 when a cell fails or shows something else. Numbers may differ as far as processors do (TOLERANCE), pictures at will.

The environment holds requirements.txt and nothing else. It is made once, in LAYERSCOPE_CACHE where that is set, else in .venv/.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import venv
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGES = HERE.parent / "out/notebooks"
METADATA = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}, "language_info": {"name": "python"}}

# What a fit comes to differs between AVX2 and AVX-512 in the third digit; a number printed with few digits, by one or two in the last.
TOLERANCE = 0.02
LAST_DIGITS = 2.001
NUMBER = re.compile(r"(?<![\w.])[-+−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.]*\w)")
# What an output may be: a picture and a table have their text beside them.
KINDS = {"text/plain", "text/markdown", "image/png"}


def unclean(notebook: Path) -> list[str]:
    """What a notebook holds that --write would not have left."""
    found = json.loads(notebook.read_text(encoding="utf-8"))
    wrong = [] if found["metadata"] == METADATA else ["metadata beside the kernel's name"]
    count = 0
    for i, cell in enumerate(found["cells"]):
        if cell["metadata"] or cell.get("attachments"):
            wrong.append(f"cell {i} has metadata or attachments")
        if cell["cell_type"] != "code":
            continue
        count += 1
        if cell.get("execution_count") != count:
            wrong.append(f"cell {i} was not run in its turn")
        for output in cell["outputs"]:
            if output["output_type"] == "error" or not KINDS.issuperset(output.get("data", {})) or output.get("metadata"):
                wrong.append(f"cell {i} has an output that is no text and no picture")
            if str(HERE.parent) in json.dumps(output):
                wrong.append(f"cell {i} shows a path of this machine")
    return wrong


def environment() -> Path:
    """The interpreter of a virtual environment with requirements.txt. pip of this Python fills it, so that it needs none itself."""
    wanted = (HERE / "requirements.txt").read_bytes() + sys.version.encode()
    cache = Path(os.environ.get("LAYERSCOPE_CACHE") or HERE.parent / ".venv")
    folder = cache / f"notebooks-{zlib.crc32(wanted):08x}"
    python = folder / "bin/python"
    if not (folder / ".done").exists():
        print(f"notebooks: making {folder}", flush=True)
        venv.create(folder, clear=True, symlinks=os.name != "nt")
        pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, "-r", str(HERE / "requirements.txt")], check=True)
        (folder / ".done").touch()
    return python


def execute(python: Path, notebook: Path) -> dict | None:
    """Runs one notebook, writes its page, and gives it with its outputs; none when a cell fails, which nbconvert prints."""
    # Nothing of the person's own Python or Jupyter takes part, and the page asks the network for nothing.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JUPYTER", "IPYTHON", "MPL"))}
    clean |= {"PYTHONNOUSERSITE": "1", "JUPYTER_NO_CONFIG": "1", "IPYTHONDIR": str(PAGES / "runs/.ipython")}
    convert = [str(python), "-m", "nbconvert", "--log-level", "ERROR", "--output-dir", str(PAGES)]
    run = ["--execute", "--to", "notebook", "--ExecutePreprocessor.startup_timeout=300", "--ExecutePreprocessor.record_timing=False"]
    page = ["--to", "html", "--HTMLExporter.require_js_url=", "--HTMLExporter.mathjax_url="]
    start = time.monotonic()
    shutil.rmtree(PAGES / "runs" / notebook.stem, ignore_errors=True)  # from nothing, or it would only read earlier results
    made = PAGES / notebook.name
    done = subprocess.run([*convert, *run, str(notebook)], env=clean, check=False)
    if done.returncode == 0:
        done = subprocess.run([*convert, *page, str(made)], env=clean, check=False)
    print(f"notebooks: {notebook.name}: {'ok' if done.returncode == 0 else 'FAILED'} ({time.monotonic() - start:.0f} s)", flush=True)
    return plain(json.loads(made.read_text(encoding="utf-8"))) if done.returncode == 0 else None


def plain(notebook: dict) -> dict:
    """Without what differs from run to run, and tables as text alone."""
    notebook["metadata"] = METADATA
    for cell in notebook["cells"]:
        cell["metadata"] = {}
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output["metadata"] = {}
            if "data" in output:
                output["data"] = {kind: output["data"][kind] for kind in sorted(KINDS) if kind in output["data"]}
    return notebook


def shown(cell: dict) -> list[str]:
    """The texts of a cell's outputs; of a picture that there is one."""
    texts: list[str] = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        text = output.get("text", data.get("text/markdown", data.get("text/plain", "")))
        text = "".join(text) + ("\n[picture]" if "image/png" in data else "")
        if texts and output["output_type"] == "stream":
            texts[-1] += text  # the kernel cuts streams where it likes
        else:
            texts.append(text)
    return texts


def alike(a: str, b: str) -> bool:
    """Whether two numbers are the same as far as processors agree. Whole ones count things, and are the same."""
    if a == b:
        return True
    x, y = (float(number.replace("−", "-")) for number in (a, b))
    if "." not in a + b and "e" not in a + b:
        return False
    digits = max(len(number.split("e")[0].partition(".")[2]) for number in (a, b)) if "e" not in a + b else 300
    return abs(x - y) <= max(TOLERANCE * max(abs(x), abs(y)), LAST_DIGITS * 10.0**-digits)


def differences(committed: dict, fresh: dict) -> list[str]:
    """What a fresh run shows otherwise."""
    wrong = []
    for i, (old, new) in enumerate(zip(committed["cells"], fresh["cells"])):
        if [len(one.get("outputs", [])) > 0 for one in (old, new)] == [False, True]:
            wrong.append(f"cell {i} shows something that is not committed")
        for a, b in zip(shown(old), shown(new)):
            # Columns of a table are as wide as their numbers.
            words = [re.sub(r"[\s─-╿]+", " ", NUMBER.sub("#", text)) for text in (a, b)]
            numbers = [NUMBER.findall(text) for text in (a, b)]
            if words[0] != words[1] or len(numbers[0]) != len(numbers[1]):
                wrong.append(f"cell {i} says\n{b}\nand committed is\n{a}")
            apart = [f"{x} and not {y}" for x, y in zip(*numbers) if not alike(x, y)]
            if apart:
                wrong.append(f"cell {i}: " + ", ".join(apart[:5]) + " of a fresh run")
        if len(shown(old)) != len(shown(new)):
            wrong.append(f"cell {i} has {len(shown(new))} outputs, not {len(shown(old))}")
    return wrong


def settle(notebook: Path, fresh: dict | None, write: bool) -> bool:
    """Compares a fresh run with what is committed, or puts it in its place; whether all is well."""
    if fresh is None:
        return False
    if write:
        notebook.write_text(json.dumps(fresh, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return True
    wrong = differences(json.loads(notebook.read_text(encoding="utf-8")), fresh)
    print(*(f"notebooks: {notebook.name}: {what}" for what in wrong), sep="\n", end="\n" if wrong else "", file=sys.stderr)
    return not wrong


def main(words: list[str]) -> int:
    notebooks = [Path(word).resolve() for word in words if not word.startswith("--")] or sorted(HERE.glob("*.ipynb"))
    write = "--write" in words
    problems = [] if write else [f"{notebook.name}: {what}" for notebook in notebooks for what in unclean(notebook)]
    if problems:
        print(*problems, "run execute.py --write: notebooks are committed as it leaves them", sep="\n", file=sys.stderr)
        return 1
    if "--check" in words:
        return 0
    python = environment()
    (PAGES / "runs/.ipython").mkdir(parents=True, exist_ok=True)
    failed = [notebook.name for notebook in notebooks if not settle(notebook, execute(python, notebook), write)]
    print(f"notebooks: {', '.join(failed)} failed" if failed else f"notebooks: pages are in {PAGES}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
