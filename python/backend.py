"""Builds the wheel: the program is built and put into the package, then maturin does the rest.

The program is `cargo build --release` of the toolkit above this folder (libtorch is found or fetched by
`scripts/bootstrap.py`), or the one that `LAYERSCOPE_PROGRAM` names. In the wheel it finds the libtorch of a torch that is
installed beside it (RUNPATH), and is stripped.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
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


def _stage() -> None:
    """Puts the program, and the script that fetches libtorch, into the package."""
    program = _PACKAGE / "bin" / "layerscope"
    program.parent.mkdir(exist_ok=True)
    program.unlink(missing_ok=True)
    shutil.copy2(_build_program(), program)
    shutil.copy2(_TOOLKIT / "scripts" / "bootstrap.py", _PACKAGE / "_bootstrap.py")
    subprocess.run(["strip", str(program)], check=True)
    if platform.system() == "Linux":
        patchelf = shutil.which("patchelf") or "patchelf"
        subprocess.run([patchelf, "--set-rpath", "$ORIGIN/../../torch/lib", str(program)], check=True)
    else:
        for place in ("@loader_path/../../torch/lib",):
            subprocess.run(["install_name_tool", "-add_rpath", place, str(program)], check=True)


def _compatibility() -> str:
    """The oldest glibc on which the program starts, as a platform tag: maturin looks at the native module alone."""
    if platform.system() != "Linux":
        return ""
    versions = re.findall(rb"GLIBC_2\.(\d+)", (_PACKAGE / "bin" / "layerscope").read_bytes())
    return f"manylinux_2_{max(28, *(int(version) for version in versions))}"


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """PEP 517."""
    _stage()
    tag = _compatibility()
    if tag:
        os.environ["MATURIN_PEP517_ARGS"] = f"--compatibility {tag} --auditwheel skip"
    return str(maturin.build_wheel(wheel_directory, config_settings, metadata_directory))


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """PEP 517."""
    return list(maturin.get_requires_for_build_wheel(config_settings))


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Any = None) -> str:
    """PEP 517."""
    return str(maturin.prepare_metadata_for_build_wheel(metadata_directory, config_settings))
