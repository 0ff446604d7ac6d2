"""Controls: what a probe finds in labels that mean nothing."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _probes
from ..stats import Draws, Estimate, Weightings, over_draws
from . import _arrays
from ._arrays import F64, I64, AnyArray
from .splits import folds


class ControlTask:
    """A random label for every word type, with the frequencies of the training labels `y` (Hewitt and Liang 2019).

    A function of (seed, draw, type): training and test rows of one type have one label. One draw is easier to learn
    than another, so take several and put them together with `stats.over_draws`. Types of sentence tasks are the
    groups.

    >>> ControlTask(["a", "a", "b"], seed=0).labels([5, 7, 5]).tolist()
    ['b', 'a', 'b']
    """

    def __init__(self, y: Any, *, seed: int = 0, draw: int = 0) -> None:
        self._y, self._kinds = _arrays.classes(y)
        self.seed = _arrays.count(seed, "seed")
        self.draw = _arrays.count(draw, "draw")

    def labels(self, types: Any) -> AnyArray:
        """The labels of rows of these types `(n,)`. Types must be whole numbers: words numbered once for training and
        test."""
        number = _types(types)
        drawn = _probes.control_labels(self._y, len(self._kinds), number, self.seed, self.draw)
        labels: AnyArray = self._kinds[drawn]
        return labels


def _types(types: Any) -> Any:
    array = np.asarray(types)
    if array.dtype.kind not in "biu" or (array.size and array.dtype.kind == "i" and array.min() < 0):
        raise _probes.ProbeError("types: expected whole numbers, the same for training and test")
    return _arrays.ids(array, len(array), "types")


def shuffled_labels(y: Any, groups: Any = None, *, seed: int = 0, draw: int = 0) -> AnyArray:
    """The labels `(n,)` shuffled, by whole groups where each has one label: what is found with them is chance."""
    number, kinds = _arrays.classes(y)
    seed, draw = _arrays.count(seed, "seed"), _arrays.count(draw, "draw")
    shuffled: AnyArray = kinds[_probes.shuffled_labels(number, _arrays.ids(groups, len(number)), seed, draw)]
    return shuffled


@dataclass(frozen=True)
class Selectivity:
    """Accuracy on a task, on its control tasks, and the difference."""

    task: Estimate
    control: Estimate
    selectivity: Estimate


def selectivity(
    probe: Any,
    train: tuple[Any, Any, Any],
    test: tuple[Any, Any, Any],
    groups: Any = None,
    *,
    draws: int = 5,
    seed: int = 0,
    **how: Any,
) -> Selectivity:
    """Fits `probe` to the task and to `draws` control tasks, and compares them on the test rows.

    `train` and `test` are `(x, y, types)`: rows `(n, d)`, labels `(n,)` and word types `(n,)`. Intervals are over the
    `groups` `(n,)` of the test rows; further arguments are those of `stats.Weightings`.
    """
    (x, y, types), (test_x, test_y, test_types) = train, test
    weightings = Weightings(groups, n=len(test_y), **how)

    def right(labels: Any, truth: Any) -> Draws:
        fitted = copy.copy(probe).fit(x, labels)
        return weightings.mean((fitted.predict(test_x) == np.asarray(truth)).astype(np.float64))

    task = right(y, test_y)
    tasks = [ControlTask(y, seed=seed, draw=draw) for draw in range(draws)]
    controls = [right(control.labels(types), control.labels(test_types)) for control in tasks]
    return Selectivity(task.estimate(), over_draws(controls), over_draws([task - control for control in controls]))


class Permutations:
    """Labels of grouped rows, permuted as the null hypothesis allows: whole groups exchange theirs where each has
    one, rows within their group where all groups have the same, else both.

    >>> Permutations([0, 0, 1, 1], groups=[0, 0, 1, 1]).exchange
    'whole groups exchange their labels'
    """

    def __init__(self, y: Any, groups: Any = None, *, seed: int = 0) -> None:
        of = np.asarray(y)
        self._y = of
        group, seed = _arrays.ids(groups, len(of)), _arrays.count(seed, "seed")
        if of.dtype.kind == "f" and (of.ndim > 1 or (of != np.trunc(of)).any()):
            table = _arrays.numbers(of).reshape(len(of), -1)
            self._native = _probes.Permutations.of_numbers(table, group, seed)
        else:
            number, kinds = _arrays.classes(of)
            self._native = _probes.Permutations.of_classes(number, len(kinds), group, seed)

    def rows(self, round: int) -> I64:
        """Permutation number `round`: for each row, the row whose label it gets `(n,)`."""
        return self._native.rows(_arrays.count(round, "round"))

    def labels(self, round: int) -> AnyArray:
        """The labels of permutation number `round` `(n,)`."""
        labels: AnyArray = self._y[self.rows(round)]
        return labels

    @property
    def exchange(self) -> str:
        """What is exchanged, in words."""
        return self._native.exchange

    @property
    def ways(self) -> float | None:
        """How many different ways there are where whole groups exchange labels: p cannot be below one in as many."""
        return self._native.ways


@dataclass(frozen=True)
class PermutationTest:
    """A held-out score and how often labels that mean nothing do as well."""

    score: float
    """Mean held-out accuracy, or R², over folds."""
    null: F64
    """The same of each permutation `(permutations,)`."""
    p: float
    """`(1 + as good or better) / (1 + permutations)`."""
    exchange: str
    """What was exchanged."""


def permutation_test(
    probe: Any, x: Any, y: Any, groups: Any = None, *, permutations: int = 100, n_folds: int = 5, seed: int = 0
) -> PermutationTest:
    """Refits `probe` to permuted labels, each time over folds of whole groups, and compares its mean held-out score."""
    x = _arrays.rows(x)
    y = np.asarray(y)
    _arrays.same_length(len(x), y)
    groups = _arrays.ids(groups, len(x))
    numbers = getattr(probe, "_kind", "classifier") == "regressor"
    parts = folds(None if numbers else y, groups, n_folds, seed=seed)

    def score(labels: AnyArray) -> float:
        of = [copy.copy(probe).fit(x[a], labels[a], groups=groups[a]).score(x[b], labels[b]) for a, b in parts]
        return float(np.mean(of))

    of = Permutations(y, groups, seed=seed)
    observed, null = score(y), np.array([score(of.labels(round)) for round in range(permutations)])
    return PermutationTest(observed, null, p_value(observed, null), of.exchange)


def p_value(observed: float, null: Any) -> float:
    """`(1 + values of null at or above observed) / (1 + values of null)` (Phipson and Smyth 2010).

    >>> p_value(0.9, [0.5, 0.6, 0.95])
    0.5
    """
    return _probes.p_value(observed, _arrays.vector(null, "null"))


def max_p_values(observed: Sequence[float] | F64, null: Any) -> F64:
    """p of each of several statistics, one per layer `(layers,)`, such that the chance of any false one is at most p:
    the step-down maximum of Westfall and Young. A row of `null` `(permutations, layers)` is one permutation of the
    labels."""
    table = np.ascontiguousarray(null, dtype=np.float64)
    if table.ndim != 2:
        raise _probes.ProbeError(f"null has shape {table.shape}, expected (permutations, layers)")
    return _probes.max_p_values(_arrays.vector(observed, "observed"), table)
