"""The libtorch that the program runs on: that of an installed torch of the right version, else one fetched once.

The program is a process of its own, so the torch that is imported here may be any other version.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from .errors import MissingLibtorch

__all__ = ["VERSION", "cached", "installed", "required", "setup"]

VERSION = "2.11.0"
"""The version of libtorch that the program is linked against."""


def _holds_libtorch(lib: Path) -> bool:
    return any((lib / f"libtorch_cpu.{suffix}").is_file() for suffix in ("so", "dylib"))


def installed() -> tuple[str, Path] | None:
    """Version and `lib` folder of the torch package of this Python, which is not imported for that."""
    try:
        torch = importlib.metadata.distribution("torch")
    except importlib.metadata.PackageNotFoundError:
        return None
    lib = Path(str(torch.locate_file("torch/lib")))
    return (torch.version, lib) if _holds_libtorch(lib) else None


def _cache() -> Path:
    named = os.environ.get("LAYERSCOPE_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "layerscope"


def cached() -> Path | None:
    """The `lib` folder of the libtorch that `layerscope setup` fetched; none before that."""
    lib = _cache() / "libtorch" / VERSION / "lib"
    return lib if _holds_libtorch(lib) else None


def required() -> Path:
    """The `lib` folder that the program of this package runs on.

    Raises `MissingLibtorch` where there is none, with what can be done about it.
    """
    torch = installed()
    if torch is not None and torch[0].split("+")[0] == VERSION:
        return torch[1]
    found = cached()
    if found is not None:
        return found
    here = "no torch is installed" if torch is None else f"the installed torch is {torch[0]}"
    raise MissingLibtorch(
        f"the program needs libtorch {VERSION}, {here}: run `layerscope setup` once, which fetches it"
        " (about 0.5 GB) and leaves your torch alone, or `pip install 'layerscope[torch]'`"
    )


def _bootstrap() -> ModuleType:
    """The script that fetches libtorch for those who build the program; the wheel has a copy."""
    here = Path(__file__).resolve()
    places = [here.with_name("_bootstrap.py"), *(here.parents[3:4] and [here.parents[3] / "scripts" / "bootstrap.py"])]
    place = next((place for place in places if place.is_file()), None)
    spec = None if place is None else importlib.util.spec_from_file_location("layerscope._bootstrap", place)
    if spec is None or spec.loader is None:
        raise MissingLibtorch("this installation has lost its bootstrap script; install layerscope again")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its named tuples look themselves up there
    spec.loader.exec_module(module)
    return module


def setup() -> Path:
    """Fetches libtorch once, with progress on stderr and every file's SHA-256 checked; its `lib` folder.

    Nothing is fetched where an installed torch has the right version or it was fetched before. One process
    fetches, others wait.
    """
    try:
        return required()
    except MissingLibtorch:
        pass
    root = _cache() / "libtorch" / VERSION
    root.parent.mkdir(parents=True, exist_ok=True)
    script = _bootstrap()
    with open(root.parent / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            script.fetch(root)
    return required()
