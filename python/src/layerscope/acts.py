"""Activations on disk: what an export wrote, as arrays, frames and batches."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from ._files import safetensors
from .errors import UsageError
from .results import Run

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Activations", "Rows"]


class Rows(NDArrayOperatorsMixin):
    """Rows `[rows, width]` of one hook at one layer, mapped from the export's files in pieces.

    Behaves as a numpy array. Slices within a piece are views of the mapped file; what spans pieces (`numpy.asarray` of
    all rows, gathered rows) is copied once. `pieces` are the mapped arrays themselves.

    >>> rows = Rows([np.zeros((2, 3), np.float32), np.ones((4, 3), np.float32)])
    >>> rows.shape, rows[1:4].sum(), (rows @ np.ones(3)).tolist()
    ((6, 3), np.float32(6.0), [0.0, 0.0, 3.0, 3.0, 3.0, 3.0])
    """

    def __init__(self, pieces: list[npt.NDArray[Any]]) -> None:
        self.pieces = pieces
        self._ends = np.cumsum([len(piece) for piece in pieces])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, width."""
        return len(self), int(self.pieces[0].shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32, or float16 where the export was made so (bf16 is read as float32)."""
        return self.pieces[0].dtype

    @property
    def ndim(self) -> int:
        """2."""
        return 2

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __repr__(self) -> str:
        return f"Rows(shape={self.shape}, dtype={self.dtype}, pieces={len(self.pieces)})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if len(self.pieces) == 1:
            whole = self.pieces[0] if copy is not True else self.pieces[0].copy()
        elif copy is False:
            raise ValueError(f"these rows lie in {len(self.pieces)} pieces of files: one array of them is a copy")
        else:
            whole = np.concatenate(self.pieces)
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **settings: Any) -> Any:
        arrays = [np.asarray(one) if isinstance(one, Rows) else one for one in inputs]
        return getattr(ufunc, method)(*arrays, **settings)

    def __getitem__(self, key: Any) -> Any:
        rows, rest = (key[0], key[1:]) if isinstance(key, tuple) and key else (key, ())
        if isinstance(rows, slice) and rows.step in (None, 1):
            found = self._slice(*rows.indices(len(self))[:2])
        elif isinstance(rows, (int, np.integer)):
            at = int(rows) + (len(self) if rows < 0 else 0)
            if not 0 <= at < len(self):
                raise IndexError(f"row {rows} of {len(self)}")
            return self._slice(at, at + 1)[(0, *rest)]
        else:
            found = self.take(np.arange(len(self))[rows])
        return found[(slice(None), *rest)] if rest else found

    def _slice(self, begin: int, end: int) -> npt.NDArray[Any]:
        first = int(np.searchsorted(self._ends, begin, side="right"))
        if begin >= end:
            return self.pieces[0][:0]
        start = int(self._ends[first]) - len(self.pieces[first])
        if end <= self._ends[first]:
            return self.pieces[first][begin - start : end - start]
        parts = [self.pieces[first][begin - start :]]
        for piece, last in zip(self.pieces[first + 1 :], self._ends[first + 1 :], strict=True):
            parts.append(piece[: max(0, end - (int(last) - len(piece)))])
            if end <= last:
                break
        return np.concatenate(parts)

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[Any]:
        """The rows of these numbers, in this order, copied."""
        out = np.empty((len(rows), self.shape[1]), self.dtype)
        pieces = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(pieces):
            own, piece = pieces == number, self.pieces[number]
            out[own] = piece[rows[own] - (self._ends[number] - len(piece))]
        return out

    def torch(self) -> Any:
        """A torch tensor `[rows, width]`; of a single piece without a copy."""
        return importlib.import_module("torch").from_numpy(np.asarray(self))


class Activations(Run):
    """An export. `acts[3]` is the residual stream entering block 3, `acts["blocks.3.hook_mlp_out"]` any hook.

    Rows are tokens, ordered by document and position; every table has the same ones, and `tokens` says which they are.
    """

    @cached_property
    def _layout(self) -> dict[str, Any]:
        layout = self.manifest.get("layout") or (self.manifest.get("config") or {}).get("layout")
        if layout is None:
            raise UsageError(f"{self.path}: no export is here")
        return dict(layout)

    @property
    def columns(self) -> list[dict[str, Any]]:
        """What was exported: `hook` (short name), `point` (TransformerLens name), `layer`, `width`."""
        return list(self._layout["columns"])

    @property
    def format(self) -> str:
        """`arrow`, `parquet`, `npy` or `safetensors`."""
        return str(self._layout["format"])

    @property
    def act_dtype(self) -> str:
        """The number type of the files: `f32`, `f16` or `bf16`."""
        return str(self._layout["dtype"])

    def __len__(self) -> int:
        return int(self.manifest["counts"]["rows"])

    def _column(self, key: int | str | tuple[str, int]) -> dict[str, Any]:
        if isinstance(key, str):
            found = [column for column in self.columns if column["point"] == key]
        elif isinstance(key, tuple):
            found = [column for column in self.columns if (column["hook"], column["layer"]) == key]
        else:
            found = [column for column in self.columns if column["layer"] == key]
            stream = [column for column in found if column["hook"] == "resid_pre"]
            found = stream or found
        if len(found) != 1:
            points = ", ".join(column["point"] for column in (found or self.columns))
            raise KeyError(f"{key!r}: {'several hooks are' if found else 'not'} exported; choose of {points}")
        return found[0]

    def __getitem__(self, key: int | str | tuple[str, int]) -> Rows:
        return Rows([piece for path in self._files(self._column(key)) for piece in _pieces(path)])

    def _folder(self, column: dict[str, Any]) -> Path:
        return self.path / "acts" / f"hook={column['hook']}" / f"layer={column['layer']}"

    def _files(self, column: dict[str, Any]) -> list[Path]:
        files = list(self._folder(column).glob("shard=*.*"))
        if not files or self.manifest["status"] != "complete":
            raise UsageError(f"{self.path}: the export is not finished; make it again, which goes on where it stopped")
        return sorted(files, key=lambda file: int(file.stem.split("=")[1]))

    @cached_property
    def tokens(self) -> Any:
        """`row_id`, `doc_id`, `pos`, `token_id` and `token` of every row, as an Arrow table."""
        from pyarrow import concat_tables, parquet

        files = sorted((self.path / "tokens").glob("shard=*.parquet"), key=lambda file: int(file.stem.split("=")[1]))
        return concat_tables([parquet.read_table(file, partitioning=None) for file in files])

    def _dataset(self, key: int | str | tuple[str, int] | None) -> Any:
        from pyarrow import dataset

        if self.format not in ("arrow", "parquet"):
            raise UsageError(f"{self.path}: a frame can be had of an export as arrow or parquet, not {self.format}")
        folder = self.path / "acts" if key is None else self._folder(self._column(key))
        files = sorted((str(file) for file in folder.rglob("shard=*.*")), key=_place)
        return dataset.dataset(files, format=self.format, partitioning="hive" if key is None else None)

    def arrow(self, key: int | str | tuple[str, int] | None = None) -> Any:
        """An Arrow table: `row_id`, `doc_id`, `pos`, `token_id`, `act`; of all hooks `hook` and `layer` too."""
        if key is not None and self.format == "arrow":
            import pyarrow

            files = self._files(self._column(key))
            return pyarrow.concat_tables([pyarrow.ipc.open_file(pyarrow.memory_map(str(f))).read_all() for f in files])
        return self._dataset(key).to_table()

    def frame(self, key: int | str | tuple[str, int] | None = None) -> Any:
        """A polars `LazyFrame` over the files."""
        return importlib.import_module("polars").scan_pyarrow_dataset(self._dataset(key))

    def pandas(self, key: int | str | tuple[str, int] | None = None) -> Any:
        """A pandas frame."""
        return self.arrow(key).to_pandas()

    def hf(self, key: int | str | tuple[str, int] | None = None) -> Any:
        """A Hugging Face `Dataset`; of an Arrow export its columns stay mapped."""
        return importlib.import_module("datasets").Dataset(self.arrow(key))

    def loader(
        self, layer: int | str | tuple[str, int], batch: int = 4096, *, shuffle: int | None = None, torch: bool = False
    ) -> Iterator[tuple[Any, npt.NDArray[np.int64]]]:
        """Batches of rows and their numbers (the `row_id` of `tokens`): `[batch, width]` and `[batch]`.

        `shuffle` is a seed: rows then come in an order drawn from it, each once. Memory is that of a batch. With
        `torch` rows are tensors.
        """
        rows = self[layer]
        order = np.arange(len(rows)) if shuffle is None else np.random.default_rng(shuffle).permutation(len(rows))
        to = importlib.import_module("torch").from_numpy if torch else np.asarray
        for begin in range(0, len(rows), batch):
            own = order[begin : begin + batch]
            yield to(rows.take(own)), own


def _place(file: str) -> tuple[str, int]:
    folder, _, name = file.rpartition("/")
    return folder, int(name.split("=")[1].split(".")[0])


def _pieces(path: Path) -> list[npt.NDArray[Any]]:
    """The arrays `[rows, width]` of a file, mapped where the format allows it; never to be written through."""
    if path.suffix == ".npy":
        return [np.load(path, mmap_mode="c")]
    if path.suffix == ".safetensors":
        act = dict(safetensors(path))["act"]
        return [_widened(act) if act.dtype == np.uint16 else act]
    if path.suffix == ".arrow":
        return list(_mapped(path))
    from pyarrow import parquet

    act = parquet.read_table(path, columns=["act"], partitioning=None)["act"].combine_chunks()
    return [act.flatten().to_numpy().reshape(len(act), -1)]


def _widened(bits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """bf16, which numpy does not have, as float32: the same numbers, in memory."""
    wide: npt.NDArray[np.float32] = (bits.astype(np.uint32) << 16).view(np.float32)
    return wide


def _mapped(path: Path) -> Iterator[npt.NDArray[Any]]:
    """Every record batch of an Arrow file, mapped copy-on-write: torch takes no array that cannot be written."""
    import pyarrow

    whole = np.memmap(path, np.uint8, mode="c")
    reader = pyarrow.ipc.open_file(pyarrow.BufferReader(pyarrow.py_buffer(whole)))
    for number in range(reader.num_record_batches):
        act = reader.get_batch(number).column("act")
        values = act.flatten()
        dtype = np.dtype("<f2" if pyarrow.types.is_float16(values.type) else "<f4")
        offset = values.buffers()[1].address + values.offset * dtype.itemsize - whole.ctypes.data
        yield np.frombuffer(whole, dtype, len(values), offset).reshape(len(act), -1)
