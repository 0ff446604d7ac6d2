"""Builds the wheel: the program is built and put into the package, then maturin does the rest.

The program is `cargo build --release` of the toolkit above this folder (libtorch is found or fetched by
`scripts/bootstrap.py`), or the one that `LAYERSCOPE_PROGRAM` names. In the wheel it finds the libtorch of a torch that is
installed beside it (RUNPATH), and is stripped.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import maturin

_HERE = Path(__file__).resolve().parent
_TOOLKIT = _HERE.parent
_PACKAGE = _HERE / "src" / "layerscope"


def _build_program() -> Path:
    named = os.environ.get("LAYERSCOPE_PROGRAM")
    if named:
        return Path(named)
    bootstrap = [sys.executable, str(_TOOLKIT / "scripts" / "bootstrap.py")]
    libtorch = subprocess.run(bootstrap, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    environment = {**os.environ, "LIBTORCH": libtorch}
    environment.pop("LIBTORCH_USE_PYTORCH", None)
    subprocess.run(
        ["cargo", "build", "--release", "--locked", "--bin", "layerscope"], cwd=_TOOLKIT, env=environment, check=True
    )
    target = Path(environment.get("CARGO_TARGET_DIR") or _TOOLKIT / "target")
    return target / "release" / "layerscope"


@contextlib.contextmanager
def _staged() -> Iterator[None]:
    """The package with the program, and the script that fetches libtorch, in it; in a checkout neither would be kept up."""
    program, script = _PACKAGE / "bin" / "layerscope", _PACKAGE / "_bootstrap.py"
    try:
        program.parent.mkdir(exist_ok=True)
        shutil.copy2(_build_program(), program)
        shutil.copy2(_TOOLKIT / "scripts" / "bootstrap.py", script)
        _finish(program)
        yield
    finally:
        shutil.rmtree(program.parent)
        script.unlink(missing_ok=True)


def _finish(program: Path) -> None:
    """Strips the program and tells it where torch's libraries lie from there."""
    subprocess.run(["strip", str(program)], check=True)
    if platform.system() == "Linux":
        patchelf = shutil.which("patchelf") or "patchelf"
        subprocess.run([patchelf, "--set-rpath", "$ORIGIN/../../torch/lib", str(program)], check=True)
    else:
        subprocess.run(["install_name_tool", "-add_rpath", "@loader_path/../../torch/lib", str(program)], check=True)


def _compatibility() -> str:
    """The oldest glibc on which the program starts, as a platform tag: maturin looks at the native module alone."""
    if platform.system() != "Linux":
        return ""
    versions = re.findall(rb"GLIBC_2\.(\d+)", (_PACKAGE / "bin" / "layerscope").read_bytes())
    return f"manylinux_2_{max(28, *(int(version) for version in versions))}"


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """PEP 517."""
    with _staged():
        tag = _compatibility()
        if tag:
            os.environ["MATURIN_PEP517_ARGS"] = f"--compatibility {tag} --auditwheel skip"
        return str(maturin.build_wheel(wheel_directory, config_settings, metadata_directory))


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """PEP 660: the package where it lies, without the program; `LAYERSCOPE_BIN` names that of the checkout."""
    return str(maturin.build_editable(wheel_directory, config_settings, metadata_directory))


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """PEP 517."""
    return list(maturin.get_requires_for_build_wheel(config_settings))


get_requires_for_build_editable = get_requires_for_build_wheel


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Any = None) -> str:
    """PEP 517."""
    return str(maturin.prepare_metadata_for_build_wheel(metadata_directory, config_settings))


prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel
