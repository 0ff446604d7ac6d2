"""Splits by group: a document, a pair or a template is wholly on one side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import _probes
from . import _arrays
from ._arrays import I64, U32, AnyArray


class Split(NamedTuple):
    """Rows of the three parts, ascending."""

    train: I64
    validation: I64
    test: I64


def split(y: Any, groups: Any = None, *, shares: tuple[float, float, float] = (0.6, 0.2, 0.2), seed: int = 0) -> Split:
    """Splits rows by their group `(n,)`, with every class in each part as near to its share as whole groups allow.

    The split is drawn from (seed, group): the order of the rows does not matter. `y` None is a split without classes,
    for numbers.

    >>> split(["a", "b"] * 10, groups=[i // 2 for i in range(20)]).test.tolist()
    [12, 13, 16, 17]
    """
    number, names = _labels(y, groups)
    group = _arrays.ids(groups, len(number))
    return Split(*_probes.split(number, names, group, shares, _arrays.count(seed, "seed")))


def folds(y: Any, groups: Any = None, n_folds: int = 5, *, seed: int = 0) -> list[tuple[I64, I64]]:
    """`(train, test)` rows of `n_folds` folds of whole groups, alike in size and classes; every row is tested once."""
    number, names = _labels(y, groups)
    group = _arrays.ids(groups, len(number))
    n_folds, seed = _arrays.count(n_folds, "n_folds"), _arrays.count(seed, "seed")
    return _probes.folds(number, names, group, n_folds, seed)


def _labels(y: Any, groups: Any) -> tuple[U32, list[str]]:
    if y is None:
        if groups is None:
            raise _probes.ProbeError("y or groups: one of them says how many rows there are")
        return np.zeros(len(groups), dtype=np.uint32), ["all"]
    number, kinds = _arrays.classes(y)
    return number, [str(kind) for kind in kinds.tolist()]


class GroupFolds:
    """`folds` as a cross-validator of scikit-learn: `cross_val_score(probe, x, y, groups=g, cv=GroupFolds(5))`.

    >>> [len(test) for _, test in GroupFolds(2).split([[0.0]] * 4, [0, 1, 0, 1], groups=[0, 0, 1, 1])]
    [2, 2]
    """

    def __init__(self, n_folds: int = 5, *, seed: int = 0) -> None:
        self.n_folds = n_folds
        self.seed = seed

    def split(self, x: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[AnyArray, AnyArray]]:
        """Yields `(train, test)` rows. Labels with fractions are split as numbers."""
        if y is not None and np.asarray(y).dtype.kind == "f" and (np.asarray(y) % 1 != 0).any():
            y = None
        groups = np.arange(len(x)) if groups is None else groups
        yield from folds(y, groups, self.n_folds, seed=self.seed)

    def get_n_splits(self, x: Any = None, y: Any = None, groups: Any = None) -> int:
        """How many folds."""
        return self.n_folds

    def __repr__(self) -> str:
        return f"GroupFolds({self.n_folds}, seed={self.seed})"
