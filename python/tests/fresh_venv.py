"""Builds the wheel, installs it into a fresh environment beside another torch, and runs the page's lines there.

    python python/tests/fresh_venv.py [--torch 2.13.0] [--packages VENV] [--wheel FILE] [--keep DIR]

`--packages` names an environment whose torch and transformers are used in place of fetching them (gigabytes). The lines are
those of `docs/python.md`; with LAYERSCOPE_SMOLLM2 set to a folder of SmolLM2-135M they run on that model too, else that is
skipped and said. Ends with `N passed, N failed, N skipped`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = "2.11.0"

CHECK = """
import os, sys, pathlib, warnings
import torch, layerscope as ls
from layerscope import _libtorch, _program
assert torch.__version__.split("+")[0] != _libtorch.VERSION, torch.__version__
assert pathlib.Path(ls.__file__).is_relative_to(sys.prefix), ls.__file__
assert _program.find().is_relative_to(sys.prefix), _program.find()
assert "LD_LIBRARY_PATH" not in os.environ
print("torch", torch.__version__, "beside libtorch", _libtorch.VERSION, "in", _libtorch.setup())
"""


def lines(model: str) -> str:
    """The page's Python, on this model; another model has other layers, and no fixture's reference."""
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return "\n".join(blocks).replace("fixtures/gpt2-alice-8l", model)


def run(python: Path, code: str, folder: Path) -> bool:
    """Runs code in the environment, in a folder with the fixtures; whether it ended well."""
    clean = {"PYTHONPATH", "LAYERSCOPE_BIN", "LD_LIBRARY_PATH", "LAYERSCOPE_LIBTORCH", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in clean}
    environment["HF_HUB_OFFLINE"] = "1"
    folder.mkdir()
    (folder / "fixtures").symlink_to(ROOT / "fixtures")
    return subprocess.run([python, "-c", code], cwd=folder, env=environment).returncode == 0


def main() -> int:
    """Builds, installs, runs."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--torch", default="2.13.0")
    options.add_argument("--packages", type=Path)
    options.add_argument("--wheel", type=Path)
    options.add_argument("--keep", type=Path)
    asked = options.parse_args()
    if asked.torch.split("+")[0] == OURS:
        options.error(f"--torch {OURS} is the program's own version; another is the point")
    with tempfile.TemporaryDirectory() as scratch:
        work = asked.keep or Path(scratch)
        work.mkdir(exist_ok=True)
        wheel = asked.wheel
        if wheel is None:
            build = [
                sys.executable,
                "-m",
                "pip",
                "wheel",
                "--quiet",
                "--no-deps",
                "-w",
                str(work / "dist"),
                str(ROOT / "python"),
            ]
            subprocess.run(build, check=True)
            (wheel,) = (work / "dist").glob("layerscope-*.whl")
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB", flush=True)
        venv.create(work / "venv", with_pip=True, clear=True)
        python = work / "venv" / "bin" / "python"
        install = [str(python), "-m", "pip", "install", "--quiet", str(wheel)]
        if asked.packages:
            (site,) = (work / "venv" / "lib").glob("python*/site-packages")
            (others,) = (asked.packages / "lib").glob("python*/site-packages")
            (site / "others.pth").write_text(f"{others}\n")
        else:
            install += [f"torch=={asked.torch}", "transformers", "polars", "pandas"]
        subprocess.run(install, check=True)
        smol = os.environ.get("LAYERSCOPE_SMOLLM2")
        results = {"beside another torch": run(python, CHECK, work / "check")}
        results["the bundled model"] = run(python, lines("fixtures/gpt2-alice-8l"), work / "bundled")
        if smol:
            results["SmolLM2-135M"] = run(python, lines(smol), work / "smollm2")
        else:
            print("skipped: SmolLM2-135M, LAYERSCOPE_SMOLLM2 names no folder")
        shell = [str(work / "venv" / "bin" / "layerscope"), "--version"]
        results["the program in a shell"] = subprocess.run(shell).returncode == 0
    for name, well in results.items():
        print(f"{'ok' if well else 'FAILED'}: {name}")
    failed = sum(not well for well in results.values())
    print(f"{len(results) - failed} passed, {failed} failed, {0 if smol else 1} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
