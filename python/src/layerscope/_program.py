"""Where the program is, and the environment that it needs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from . import _libtorch
from .errors import Failed

__all__ = ["command", "environment", "find"]

_BUNDLED = Path(__file__).resolve().parent / "bin" / "layerscope"
_MAGIC = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
"""The first bytes of programs on Linux and macOS: a script named `layerscope` would be this package again."""


def _is_program(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) in _MAGIC
    except OSError:
        return False


def find() -> Path:
    """The program: `LAYERSCOPE_BIN`, the one in this package, or one on the PATH.

    >>> find().name
    'layerscope'
    """
    named = os.environ.get("LAYERSCOPE_BIN")
    if named:
        if not _is_program(Path(named)):
            raise Failed(f"LAYERSCOPE_BIN={named}: no program is there")
        return Path(named).absolute()
    if _is_program(_BUNDLED):
        return _BUNDLED
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        found = shutil.which("layerscope", path=folder) if folder else None
        if found and _is_program(Path(found)):
            return Path(found).absolute()
    raise Failed(
        "the program `layerscope` is neither in this package nor on the PATH: install the wheel,"
        " or build it (`make build`) and set LAYERSCOPE_BIN to it"
    )


def environment(program: Path) -> dict[str, str]:
    """The environment of a process of the program.

    The program of the wheel is told where its libtorch is. One that somebody built knows.
    """
    variables = dict(os.environ)
    lib = variables.get("LAYERSCOPE_LIBTORCH")
    if not lib and program == _BUNDLED:
        lib = str(_libtorch.required())
    if lib:
        rest = variables.get("LD_LIBRARY_PATH")
        variables["LD_LIBRARY_PATH"] = lib if not rest else f"{lib}{os.pathsep}{rest}"
    # Threads that spin while they wait take time from the Python that waits for them.
    variables.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return variables


def command() -> tuple[list[str], dict[str, str]]:
    """The program's word and its environment, for `subprocess`."""
    program = find()
    return [str(program)], environment(program)
