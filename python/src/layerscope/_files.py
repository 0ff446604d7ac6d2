"""Small readers: safetensors, and tables as the data frame that is installed."""

from __future__ import annotations

import importlib
import importlib.util
import json
import mmap
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["read_json", "read_table", "safetensors", "scratch"]

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
}  # fmt: skip


def read_json(path: Path) -> Any:
    """The value of a JSON file, which is refused with its name where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None


def safetensors(path: Path) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Names and arrays of a safetensors file, mapped copy-on-write. bf16 comes as its 16 bits (`uint16`)."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    for name, about in header.items():
        if name == "__metadata__":
            continue
        if about["dtype"] not in _DTYPES:
            raise UsageError(f"{path}: {name} is {about['dtype']}, which is not read here")
        dtype = np.dtype(_DTYPES[about["dtype"]])
        begin, end = about["data_offsets"]
        flat = np.frombuffer(mapped, dtype, (end - begin) // dtype.itemsize, 8 + length + begin)
        yield name, flat.reshape(about["shape"])


def read_table(path: Path) -> Any:
    """A Parquet file as a polars frame, else a pandas frame, whichever is installed; else an Arrow table."""
    for module in ("polars", "pandas"):
        if importlib.util.find_spec(module) is not None:
            return importlib.import_module(module).read_parquet(path)
    return importlib.import_module("pyarrow.parquet").read_table(path, partitioning=None)


_SCRATCH: tempfile.TemporaryDirectory[str] | None = None


def scratch(name: str) -> Path:
    """A new folder for a run that nobody named one for. It goes when Python ends."""
    global _SCRATCH
    if _SCRATCH is None:
        _SCRATCH = tempfile.TemporaryDirectory(prefix="layerscope-")
    return Path(tempfile.mkdtemp(dir=_SCRATCH.name)) / name.replace(" ", "-")
