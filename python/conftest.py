"""Tests run on the bundled model, with the program of the checkout where none is in the package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUILT = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "release" / "layerscope"

if BUILT.is_file():
    os.environ.setdefault("LAYERSCOPE_BIN", str(BUILT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "python/src"), os.environ.get("PYTHONPATH", "")])


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths of doctests begin at the checkout's root."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="session")
def folder() -> Path:
    """The bundled model."""
    return ROOT / "fixtures" / "gpt2-alice-8l"


@pytest.fixture(scope="session")
def stories() -> Path:
    """Texts of it."""
    return ROOT / "fixtures" / "stories.jsonl"


@pytest.fixture(scope="session")
def model(folder: Path) -> Iterator[object]:
    """The bundled model, loaded once."""
    import layerscope as ls

    with ls.Model(folder, threads=1, progress=False) as one:
        yield one
