"""Settings: from Python's values to those of a job."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .lens import Lens, LogitLens

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["as_path", "job", "listed", "model_name", "plain", "whole"]


def model_name(model: str | PathLike[str]) -> str:
    """A folder as an absolute path, so that it stays the same one wherever Python goes; else the id as it is."""
    path = Path(model)
    return str(path.absolute()) if path.exists() else str(model)


def job(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a job has them; those that are None keep their default.

    >>> job({"layers": range(3), "lens": "logit", "tokens": None, "out": Path("a")})
    {'layers': '0,1,2', 'lens': ['logit'], 'out': 'a'}
    """
    job = {name: value for name, value in settings.items() if value is not None}
    layers = job.get("layers")
    if layers is not None and not isinstance(layers, str):
        job["layers"] = ",".join(str(layer) for layer in (layers if hasattr(layers, "__iter__") else [layers]))
    if "lens" in job:
        job["lens"] = [as_path(lens) for lens in listed(job["lens"])]
    return {name: plain(value) for name, value in job.items()}


def listed(value: Any) -> list[Any]:
    """One or several as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def whole(tokens: float | None) -> int | None:
    """A number of tokens: `2e6` is one."""
    return None if tokens is None else int(tokens)


def as_path(lens: str | Path | LogitLens) -> str:
    """A lens as the program's settings name it: `logit`, or its folder."""
    if isinstance(lens, Lens):
        return str(lens.path)
    if isinstance(lens, LogitLens):
        return "logit"
    return str(lens)


def plain(value: Any) -> Any:
    """A setting as JSON has it: paths and objects with a folder as text, tuples, ranges and sets as lists.

    >>> plain({"data": (Path("a"), "b"), "seed": 1})
    {'data': ['a', 'b'], 'seed': 1}
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return [plain(item) for item in sorted(value)]
    path = getattr(value, "path", value)
    if isinstance(path, Path) or hasattr(path, "__fspath__"):
        return os.fspath(path)
    if hasattr(value, "item"):
        return value.item()  # a number of numpy
    raise TypeError(f"{value!r} is no setting: a number, text, path, or list of these")
