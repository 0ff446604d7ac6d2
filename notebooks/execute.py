"""Runs the notebooks from a clean environment and leaves pages to look at in out/notebooks/.

usage: execute.py [--check] [NOTEBOOK…]     --check: only look whether what is committed is free of outputs; exit 1 when anything fails

The environment holds requirements.txt and nothing else. It is made once, in LAYERSCOPE_CACHE where that is set, else in .venv/.
"""

import json
import os
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


def unclean(notebook: Path) -> list[str]:
    """What a notebook holds beside its text and code."""
    found = json.loads(notebook.read_text(encoding="utf-8"))
    wrong = [] if found["metadata"] == METADATA else ["metadata beside the kernel's name"]
    for i, cell in enumerate(found["cells"]):
        if cell.get("outputs"):
            wrong.append(f"cell {i} has outputs")
        if cell.get("execution_count") is not None:
            wrong.append(f"cell {i} has an execution count")
        if cell["metadata"] or cell.get("attachments"):
            wrong.append(f"cell {i} has metadata or attachments")
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


def execute(python: Path, notebook: Path) -> bool:
    """Runs one notebook to an HTML page; cells that fail are printed by nbconvert."""
    # Nothing of the person's own Python or Jupyter takes part, and the page asks the network for nothing.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JUPYTER", "IPYTHON", "MPL"))}
    clean |= {"PYTHONNOUSERSITE": "1", "JUPYTER_NO_CONFIG": "1", "IPYTHONDIR": str(PAGES / "runs/.ipython")}
    command = [str(python), "-m", "nbconvert", "--execute", "--to", "html", "--log-level", "ERROR", "--output-dir", str(PAGES), str(notebook)]
    options = ["ExecutePreprocessor.startup_timeout=300", "HTMLExporter.require_js_url=", "HTMLExporter.mathjax_url="]
    start = time.monotonic()
    shutil.rmtree(PAGES / "runs" / notebook.stem, ignore_errors=True)  # from nothing, or it would only read earlier results
    done = subprocess.run([*command, *(f"--{option}" for option in options)], env=clean, check=False)
    print(f"notebooks: {notebook.name}: {'ok' if done.returncode == 0 else 'FAILED'} ({time.monotonic() - start:.0f} s)", flush=True)
    return done.returncode == 0


def main(words: list[str]) -> int:
    notebooks = [Path(word).resolve() for word in words if word != "--check"] or sorted(HERE.glob("*.ipynb"))
    problems = [f"{notebook.name}: {what}" for notebook in notebooks for what in unclean(notebook)]
    if problems:
        print(*problems, "clear all outputs and save: notebooks are committed without them", sep="\n", file=sys.stderr)
        return 1
    if "--check" in words:
        return 0
    python = environment()
    (PAGES / "runs/.ipython").mkdir(parents=True, exist_ok=True)
    failed = [notebook.name for notebook in notebooks if not execute(python, notebook)]
    print(f"notebooks: {', '.join(failed)} failed" if failed else f"notebooks: pages are in {PAGES}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
