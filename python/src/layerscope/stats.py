"""Numbers with 95 % intervals over documents: the statistics of every layerscope table, without torch.

Rows of one document, pair or prompt are alike, so groups are what an interval is over. `Weightings` holds the groups
of one test set; every number measured under it can be subtracted from every other (`Draws`), and says its interval
(`Estimate`).

>>> weightings = Weightings(groups=[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
>>> right = weightings.mean([1, 1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 1])
>>> print(right.estimate())
0.8333 [0.4633, 0.9666]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _probes
from ._probes import ProbeError

__all__ = [
    "Best",
    "Draws",
    "Estimate",
    "ProbeError",
    "Weightings",
    "best",
    "effective",
    "jackknife",
    "mean_of_parts",
    "over_draws",
    "percentile",
    "poisson_weights",
    "wilson",
]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval and what they rest on."""

    estimate: float
    """The value on the rows themselves."""
    lower: float | None
    """Lower end; None where there is no interval, and `reason` says why."""
    upper: float | None
    """Upper end."""
    reason: str | None
    """Why there is no interval; None where there is one."""
    n: int = 0
    """Rows."""
    n_clusters: int = 0
    """Groups."""
    n_eff: float = 0.0
    """Groups by their effect, `(Σ m)² / Σ m²` of their sizes m."""

    def __float__(self) -> float:
        return self.estimate

    def __str__(self) -> str:
        if self.lower is None or self.upper is None:
            return f"{self.estimate:.4f} (no interval: {self.reason})"
        return f"{self.estimate:.4f} [{self.lower:.4f}, {self.upper:.4f}]"

    @classmethod
    def _of(cls, found: tuple[float, tuple[float | None, float | None, str | None], int, int, float]) -> Estimate:
        value, (lower, upper, reason), n, n_clusters, n_eff = found
        return cls(value, lower, upper, reason, n, n_clusters, n_eff)


class Draws:
    """A number on the rows, and its values under each weighting of their groups. Made by `Weightings`."""

    __slots__ = ("_native",)

    def __init__(self, native: _probes.Draws) -> None:
        self._native = native

    @property
    def value(self) -> float:
        """On the rows themselves."""
        return self._native.value

    @property
    def values(self) -> NDArray[np.float64]:
        """Without each block of groups in turn, or in each resample; NaN where undefined."""
        return self._native.values

    def estimate(self) -> Estimate:
        """The value with its interval."""
        return Estimate._of(self._native.estimate())

    def map(self, function: Callable[[float], float]) -> Draws:
        """A function of the number, with an interval of its own: `code.map(lambda bits: log2_classes / bits)`."""
        return Draws(self._native.map(function))

    def __sub__(self, other: Draws) -> Draws:
        if not isinstance(other, Draws):
            return NotImplemented
        return Draws(self._native.minus(other._native))

    def __neg__(self) -> Draws:
        return Draws(self._native.negated())

    def __reduce__(self) -> Any:
        return self._native.__reduce__()

    def __repr__(self) -> str:
        return f"Draws({self.estimate()})"


class Weightings:
    """The groups of the rows of one test set, each left out in turn or resampled.

    Parameters
    ----------
    groups : (n,), or None for a group per row
        Whole numbers that are not negative are ids, by which resamples are drawn; other labels are numbered as they
        come. n : int Rows, where there are no groups. method : "jackknife" or "bootstrap" Delete one group at a time,
        with Student's t, and Wilson's interval for shares; or percentiles of a Poisson bootstrap. seed, replicates :
        int Of the bootstrap, and of what compares several numbers (`best`). serial : bool Whether groups are
        neighbours in one text, which widens a jackknife's intervals.
    """

    def __init__(
        self,
        groups: Any = None,
        *,
        n: int | None = None,
        method: str = "jackknife",
        seed: int = 0,
        replicates: int = 1000,
        serial: bool = False,
    ) -> None:
        from .probes import _arrays

        if groups is None and n is None:
            raise ProbeError("groups or n: one of them says how many rows there are")
        rows = len(groups) if n is None else n
        seed, replicates = _arrays.count(seed, "seed"), _arrays.count(replicates, "replicates")
        self._how = {"method": method, "seed": seed, "replicates": replicates, "serial": serial}
        self._groups = _arrays.ids(groups, rows)
        self._native = _probes.Weightings(self._groups, method, seed, replicates, serial)

    def __reduce__(self) -> Any:
        return _again, (self._groups, self._how)

    def __len__(self) -> int:
        return len(self._groups)

    def part(self, rows: Any) -> Weightings:
        """Of some of these rows (places or a mask), in the same blocks, so that numbers of several parts can be put
        together (`mean_of_parts`)."""
        part = object.__new__(Weightings)
        part._how = self._how
        part._groups = np.ascontiguousarray(self._groups[np.asarray(rows)])
        part._native = self._native.part(part._groups)
        return part

    def mean(self, outcomes: Any) -> Draws:
        """The mean of one outcome per row `(n,)`; of outcomes that are all 0 or 1 a share."""
        from .probes import _arrays

        return Draws(self._native.mean(_arrays.vector(outcomes, "outcomes")))

    def metrics(self, scores: Any, y: Any) -> dict[str, Draws]:
        """Every metric of scores `(n, k)` beside the true classes `(n,)`, whole numbers below k: accuracy, macro_f1,
        auroc, nll (nats), ece, ece_debiased, ece_calibrated, brier, brier_reliability, brier_resolution and
        brier_uncertainty. Softmax makes probabilities of the scores."""
        table = np.ascontiguousarray(scores, dtype=np.float64)
        number = np.asarray(y)
        if number.dtype.kind not in "biu" or (number.size and number.min() < 0):
            raise ProbeError("y: expected classes as whole numbers from 0")
        if number.size and number.max() > np.iinfo(np.uint32).max:
            raise ProbeError(f"y: class {number.max()}, but there are {table.shape[-1]} classes")
        found = self._native.metrics(table, np.ascontiguousarray(number, dtype=np.uint32))
        return {name: Draws(draws) for name, draws in found}

    def r2(self, predicted: Any, y: Any) -> Draws:
        """R² of predicted numbers `(n,)` or `(n, k)`, the mean over outputs; NaN where an output does not vary."""
        tables = [np.ascontiguousarray(of, dtype=np.float64) for of in (predicted, y)]
        of, truth = (table.reshape(len(table), -1) for table in tables)
        return Draws(self._native.r2(of, truth))

    def __repr__(self) -> str:
        return f"Weightings({len(self)} rows, {self._how['method']})"


def _again(groups: Any, how: dict[str, Any]) -> Weightings:
    return Weightings(groups, **how)


@dataclass(frozen=True)
class Best:
    """The best of several numbers measured on the same rows."""

    place: int
    """The place of the highest value."""
    tied: list[bool]
    """Which cannot be told from the best, at 95 %."""
    corrected: Estimate
    """The best one's value less the optimism of having chosen it here, with an interval that allows for the choice."""


def best(draws: Iterable[Draws]) -> Best:
    """The highest of several numbers of one `Weightings`, such as an accuracy at each layer; of losses give
    `-draws`."""
    place, tied, corrected = _probes.best([draw._native for draw in draws])
    return Best(place, tied, Estimate._of(corrected))


def over_draws(draws: Iterable[Draws]) -> Estimate:
    """The mean of one number over several draws of labels (control tasks, shuffles), with an interval that has both
    the sampling of rows and the draw in it."""
    return Estimate._of(_probes.over_draws([draw._native for draw in draws]))


def mean_of_parts(draws: Iterable[Draws], n_clusters: int) -> Draws:
    """The mean of numbers about parts of one set of rows (`Weightings.part`), of `n_clusters` different groups."""
    return Draws(_probes.mean_of_parts([draw._native for draw in draws], n_clusters))


def jackknife(estimate: float, left_out: Any, n_eff: float | None = None) -> Estimate:
    """The interval of an estimate by its values without each group in turn `(groups,)`; `n_eff` effective groups, by
    default all.

    >>> print(jackknife(2.0, [1.9, 2.0, 2.1, 2.05, 1.95, 2.0]))
    2.0000 [1.6290, 2.3710]
    """
    values = np.ascontiguousarray(left_out, dtype=np.float64)
    effect = float(len(values)) if n_eff is None else n_eff
    lower, upper, reason = _probes.jackknife(estimate, values, effect)
    return Estimate(estimate, lower, upper, reason, n_clusters=len(values), n_eff=effect)


def wilson(p: float, n: int, *, variance: float = 0.0, n_eff: float | None = None) -> Estimate:
    """Wilson's interval of a share `p` of `n` rows in `n_eff` effective groups (by default every row its own), with
    the jackknife's `variance` of p as the design effect; without one, `n_eff` rows are what it rests on.

    >>> print(wilson(1.0, 10))
    1.0000 [0.6615, 1.0000]
    """
    effect = float(n) if n_eff is None else n_eff
    lower, upper, reason = _probes.share(p, variance, effect, float(n))
    return Estimate(p, lower, upper, reason, n=n, n_eff=effect)


def percentile(estimate: float, values: Any, *, undefined: float = 0.01) -> Estimate:
    """The 2.5 % and 97.5 % quantiles of resampled values, of which at most the share `undefined` may be NaN."""
    lower, upper, reason = _probes.percentile(np.asarray(values, dtype=np.float64).reshape(-1), undefined)
    return Estimate(estimate, lower, upper, reason)


def effective(sizes: Sequence[float]) -> float:
    """`(Σ m)² / Σ m²`: as many equal groups would inform as well as these of sizes m.

    >>> effective([10, 10, 10]), effective([28, 1, 1])
    (3.0, 1.1450381679389312)
    """
    return _probes.effective(np.asarray(sizes, dtype=np.float64).reshape(-1))


def poisson_weights(doc_ids: Any, *, seed: int = 0, replicates: int = 1000) -> NDArray[np.uint8]:
    """How often each document is drawn in each replicate `(documents, replicates)`: a function of (seed, document id)
    alone."""
    from .probes import _arrays

    seed, replicates = _arrays.count(seed, "seed"), _arrays.count(replicates, "replicates")
    return _probes.poisson_weights(_arrays.ids(doc_ids, len(doc_ids), "doc_ids"), seed, replicates)
