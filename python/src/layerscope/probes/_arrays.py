"""Arguments as the native module takes them: numpy, torch, Arrow and data frames in, checked arrays out."""

from __future__ import annotations

import operator
import sys
import warnings
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from .._probes import ProbeError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
AnyArray = NDArray[Any]


def rows(x: Any, name: str = "x") -> F32:
    """Rows `(n, d)` as float32 in row order, without a copy where they are that already.

    Takes numpy arrays of any number type and layout, torch tensors (on any device, bfloat16 too), whatever has
    `__array__`, `__dlpack__` or Arrow's `__arrow_c_array__` (fixed-size lists), and sequences.

    >>> rows([[1, 2], [3, 4]])
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    >>> rows([[1.0, float("nan")]])
    Traceback (most recent call last):
        ...
    layerscope._probes.ProbeError: x[0, 1] is NaN
    """
    array = _numeric(_array(x, name), name)
    if array.ndim == 1 or array.ndim == 0:
        raise ProbeError(
            f"Expected 2D array, got {array.ndim}D array instead: {name} has shape {array.shape}, rows are (n, d). "
            "Reshape your data with x.reshape(-1, 1) for one feature or x.reshape(1, -1) for one row"
        )
    if array.ndim != 2:
        raise ProbeError(
            f"{name} has shape {array.shape}, expected rows (n, d): Found array with dim {array.ndim}, "
            f"reshape it with x.reshape(-1, {array.shape[-1]})"
        )
    if array.shape[0] == 0:
        raise ProbeError(f"Found array with 0 sample(s): {name} has shape {array.shape}, no rows")
    if array.shape[1] == 0:
        raise ProbeError(f"0 feature(s) (shape={array.shape}) while a minimum of 1 is required: {name}")
    with np.errstate(over="ignore"):
        narrow = np.ascontiguousarray(array, dtype=np.float32)
        total = float(narrow.sum(dtype=np.float64))
    if not np.isfinite(total):
        _name_the_first(array, narrow, name)
    return narrow


def numbers(y: Any, name: str = "y") -> F64:
    """Numbers to be regressed, `(n,)` or `(n, k)`, as float64."""
    if y is None:
        raise ProbeError(f"requires {name} to be passed, but the target {name} is None")
    array = _numeric(_array(y, name), name)
    if array.ndim not in (1, 2):
        raise ProbeError(f"{name} has shape {array.shape}, expected (n,) or (n, k)")
    wide = np.ascontiguousarray(array, dtype=np.float64)
    if not np.isfinite(wide).all():
        _name_the_first(array, wide, name)
    return wide


def vector(values: Any, name: str) -> F64:
    """Numbers `(n,)` as float64; NaN may be among them."""
    array = np.asarray(_numeric(_array(values, name), name), dtype=np.float64)
    if array.ndim != 1:
        raise ProbeError(f"{name} has shape {array.shape}, expected (n,)")
    return np.ascontiguousarray(array)


def labels(y: Any, name: str = "y") -> AnyArray:
    """Labels of classes `(n,)`: whole numbers, booleans or strings."""
    if y is None:
        raise ProbeError(f"requires {name} to be passed, but the target {name} is None")
    array = _array(y, name)
    if array.ndim == 2 and array.shape[1] == 1:
        warnings.warn(_conversion(f"A column-vector {name} was passed when a 1d array was expected"), stacklevel=4)
        array = array[:, 0]
    if array.ndim != 1:
        raise ProbeError(f"{name} has shape {array.shape}, expected (n,)")
    if array.dtype.kind == "O":
        array = _settled(array, name)
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            _name_the_first(array, array, name)
        if (array != np.trunc(array)).any():
            raise ProbeError(f"Unknown label type: continuous. {name} has fractions, which are no classes")
    elif array.dtype.kind not in "biuUS":
        raise ProbeError(f"Unknown label type: {name} is {array.dtype}, expected whole numbers, booleans or strings")
    return array


def classes(y: Any, name: str = "y") -> tuple[U32, AnyArray]:
    """Labels numbered from 0 in ascending order `(n,)`, and what each number means `(k,)`.

    >>> classes(["b", "a", "b"])
    (array([1, 0, 1], dtype=uint32), array(['a', 'b'], dtype='<U1'))
    """
    kinds, number = np.unique(labels(y, name), return_inverse=True)
    return np.ascontiguousarray(number.reshape(-1), dtype=np.uint32), kinds


def known(y: Any, kinds: AnyArray, name: str = "y") -> U32:
    """Labels by their number among `kinds`, which a probe was fitted on."""
    array = labels(y, name)
    try:
        place = np.minimum(np.searchsorted(kinds, array), len(kinds) - 1)
        wrong = kinds[place] != array
    except TypeError as error:
        raise ProbeError(f"{name} is {array.dtype}, but the probe was fitted on labels of {kinds.dtype}") from error
    if np.any(wrong):
        row = int(np.argmax(wrong))
        raise ProbeError(f"{name}[{row}] is {array[row]!r}, which is none of the {len(kinds)} classes of the fit")
    return np.ascontiguousarray(place, dtype=np.uint32)


def ids(groups: Any, n: int, name: str = "groups") -> U64:
    """A number for the group of every row `(n,)`.

    Whole numbers that are not negative stand for themselves, as document ids do; any other labels are numbered in the
    order in which they first occur. Without groups every row is its own.

    >>> ids(["b", "a", "b"], 3)
    array([0, 1, 0], dtype=uint64)
    """
    if groups is None:
        return np.arange(n, dtype=np.uint64)
    array = _array(groups, name)
    if array.ndim != 1:
        raise ProbeError(f"{name} has shape {array.shape}, expected (n,)")
    if array.shape[0] != n:
        raise ProbeError(f"{n} rows but {array.shape[0]} {name}")
    if array.dtype.kind == "u" or (array.dtype.kind in "ib" and (n == 0 or array.min() >= 0)):
        return np.ascontiguousarray(array, dtype=np.uint64)
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ProbeError(f"{name}[{int(np.argmax(np.isnan(array)))}] is NaN")
    first: dict[Any, int] = {}
    return np.array([first.setdefault(group, len(first)) for group in array.tolist()], dtype=np.uint64)


def same_length(n: int, y: AnyArray) -> None:
    """Refuses labels of another number than rows."""
    if len(y) != n:
        raise ProbeError(f"{n} rows but {len(y)} labels: inconsistent numbers of samples")


def count(value: Any, name: str) -> int:
    """A whole number not below 0 that the native module can hold.

    >>> count(-1, "seed")
    Traceback (most recent call last):
        ...
    layerscope._probes.ProbeError: seed is -1, expected a whole number from 0 to 2^64 - 1
    """
    try:
        whole = operator.index(value)
    except TypeError:
        whole = -1
    if not 0 <= whole < 2**64:
        raise ProbeError(f"{name} is {value!r}, expected a whole number from 0 to 2^64 - 1")
    return whole


def penalties(l2: Any) -> list[float]:
    """One penalty or several."""
    values = [float(value) for value in np.atleast_1d(np.asarray(l2, dtype=np.float64)).tolist()]
    if not values:
        raise ProbeError("l2: there is no penalty to choose")
    return values


def _array(x: Any, name: str) -> AnyArray:
    if x is None:
        raise ProbeError(f"{name} is None")
    if hasattr(x, "tocsr") and hasattr(x, "nnz"):
        raise TypeError(f"{name} is a sparse matrix: states are dense, pass {name}.toarray()")
    if isinstance(x, np.ma.MaskedArray) and np.ma.getmaskarray(x).any():
        raise ProbeError(f"{name} has masked values")
    if not isinstance(x, np.ndarray):
        x = _foreign(x, name)
    array: AnyArray = np.asarray(x)
    return array


def _foreign(x: Any, name: str) -> Any:
    """What is no numpy array, as something that numpy takes."""
    if hasattr(x, "detach") and hasattr(x, "cpu"):  # torch: also on a device, with a gradient, or in bfloat16
        x = x.detach().cpu()
        return x.float() if str(x.dtype) == "torch.bfloat16" else x
    if hasattr(x, "__arrow_c_array__") or hasattr(x, "__arrow_c_stream__"):
        lists = _arrow(x, name)
        if lists is not None:
            return lists
    if not hasattr(x, "__array__") and hasattr(x, "__dlpack__"):
        return np.from_dlpack(x)
    return x


def _arrow(x: Any, name: str) -> AnyArray | None:
    """Lists of one length as rows, other numbers as they are; of tables nothing, which numpy reads as well."""
    try:
        import pyarrow as pa
    except ImportError:
        if hasattr(x, "__array__"):
            return None
        raise ProbeError(f"{name} is Arrow data: reading it needs pyarrow") from None
    if isinstance(x, (pa.Table, pa.RecordBatch)):
        return None
    stream = hasattr(x, "__arrow_c_stream__")
    column = x if isinstance(x, (pa.Array, pa.ChunkedArray)) else pa.chunked_array(x) if stream else pa.array(x)
    if pa.types.is_struct(column.type):
        return None
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if column.null_count:
        raise ProbeError(f"{name} has {column.null_count} nulls")
    if not pa.types.is_fixed_size_list(column.type):
        return cast(AnyArray, column.to_numpy(zero_copy_only=False))
    values = column.flatten()
    if values.null_count:
        raise ProbeError(f"{name} has {values.null_count} nulls")
    return cast(AnyArray, values.to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size))


def _numeric(array: AnyArray, name: str) -> AnyArray:
    kind = array.dtype.kind
    if kind == "c":
        raise ProbeError(f"Complex data not supported: {name}")
    if kind == "O":
        try:
            return array.astype(np.float64)
        except OverflowError as error:
            raise ProbeError(f"{name} has a number beyond float64: {error}") from error
    if kind in "US":
        raise ProbeError(f"{name} is {array.dtype}: strings, expected numbers")
    if kind not in "biuf":
        if array.dtype.name == "bfloat16" or array.dtype.name.startswith("float8"):
            return array.astype(np.float32)
        raise ProbeError(f"{name} is {array.dtype}, expected numbers")
    return array


def _settled(array: AnyArray, name: str) -> AnyArray:
    """Labels of objects as strings, whole numbers or booleans."""
    values = array.tolist()
    if None in values:
        raise ProbeError(f"{name}[{values.index(None)}] is None")
    kinds = {type(value) for value in values}
    if kinds <= {str}:
        return array.astype(str)
    if kinds <= {bool}:
        return array.astype(bool)
    try:
        return array.astype(np.int64 if kinds <= {int, bool} else np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ProbeError(f"Unknown label type: {name} is of {names}, expected whole numbers or strings") from error


def _name_the_first(array: AnyArray, narrow: AnyArray, name: str) -> None:
    """Raises for the first value that is not finite; returns when there is none (a sum may overflow)."""
    wrong = ~np.isfinite(narrow)
    if not wrong.any():
        return
    place = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    value = array[place]
    at = ", ".join(str(int(i)) for i in place)
    if np.isnan(value):
        raise ProbeError(f"{name}[{at}] is NaN")
    if np.isinf(value):
        raise ProbeError(f"{name}[{at}] is {value}, Input contains infinity")
    raise ProbeError(f"{name}[{at}] is {value}, beyond float32")


def _conversion(text: str) -> Warning:
    """A warning of scikit-learn's kind where scikit-learn is in use."""
    exceptions = sys.modules.get("sklearn.exceptions")
    return cast(Warning, exceptions.DataConversionWarning(text)) if exceptions else UserWarning(text)
