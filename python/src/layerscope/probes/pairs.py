"""Directions of truth from pairs of a statement and its negation, without labels."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import _probes
from . import _arrays
from ._arrays import F32, F64
from ._base import LinearProbe

Self = TypeVar("Self", bound="_Pairs")


class _Pairs(LinearProbe):
    """`coef_` `(2, d)` and `intercept_` `(2,)`: for statements and for negations, on raw rows. `loss_` is that of CCS
    on the pairs of the fit, `oriented_` whether labels have settled the sign."""

    _steps = 0
    _seed = 0

    def _restarts(self) -> int | None:
        raise NotImplementedError

    def fit(self: Self, positive: Any, negative: Any, truth: Any = None) -> Self:
        """Fits to the states of statements `(n, d)` and of their negations `(n, d)`, row by row. `truth` `(n,)`,
        where it is known, settles the sign alone, as `orient` does later."""
        positive, negative = self._sides(positive, negative)
        found = _probes.pair_direction(positive, negative, self._restarts(), self._steps, self._seed)
        self.coef_, self.intercept_, self.loss_ = found
        self.n_features_in_ = positive.shape[1]
        self.oriented_ = False
        if truth is not None:
            self.orient(positive, negative, truth)
        return self

    def orient(self, positive: Any, negative: Any, truth: Any) -> float:
        """Turns the direction so that true statements score above ½ on these pairs; returns the accuracy, which is
        then at least ½ and no estimate of anything."""
        self._fitted()
        positive, negative = self._sides(positive, negative)
        found = _probes.pair_orient(*self._parts(), positive, negative, _truth(truth, len(positive)))
        self.coef_, self.intercept_, accuracy = found
        self.oriented_ = True
        return accuracy

    def scores(self, positive: Any, negative: Any = None) -> F64:
        """`½ (p⁺ + 1 - p⁻)` `(n,)`: how likely each statement is to be true, once oriented."""
        self._fitted()
        positive, negative = self._sides(positive, negative)
        return _probes.pair_scores(*self._parts(), positive, negative)

    def predict(self, positive: Any, negative: Any) -> NDArray[np.bool_]:
        """Whether each statement is true `(n,)`."""
        self._fitted()
        if not self.oriented_:
            raise _probes.ProbeError("the sign of a direction means nothing before orient()")
        return self.scores(positive, negative) > 0.5

    def predict_proba(self, positive: Any, negative: Any) -> F64:
        """Probabilities of false and true `(n, 2)`, once oriented."""
        p = self.scores(positive, negative)
        return np.stack([1.0 - p, p], axis=1)

    def score(self, positive: Any, negative: Any, truth: Any) -> float:
        """Accuracy on labelled pairs, from 0 to 1."""
        found = self.predict(positive, negative)
        return float(np.mean(found == np.array(_truth(truth, len(found)))))

    def _sides(self, positive: Any, negative: Any) -> tuple[F32, F32]:
        if negative is None:
            raise _probes.ProbeError("requires the states of the negations as well")
        return _arrays.rows(positive, "positive"), _arrays.rows(negative, "negative")


def _truth(truth: Any, n: int) -> list[bool]:
    values = _arrays.labels(truth, "truth")
    _arrays.same_length(n, values)
    if values.dtype.kind in "US" or not np.isin(values, [0, 1]).all():
        raise _probes.ProbeError("truth: expected True and False, or 1 and 0")
    return [bool(value) for value in values]


class CCS(_Pairs):
    """Contrast-consistent search (Burns et al. 2022): the least `mean[(p⁺ - (1 - p⁻))² + min(p⁺, p⁻)²]`, by AdamW
    from `restarts` random starts at once, of which the best is kept. The defaults are those of the published code.

    >>> import numpy as np
    >>> truth = np.array([1, 0] * 20)
    >>> noise = np.random.default_rng(0).normal(size=(2, 40, 3))
    >>> positive, negative = noise + np.array([1, -1])[:, None, None] * (4 * truth[:, None] - 2) * [1, 0, 0]
    >>> CCS().fit(positive, negative, truth).score(positive, negative, truth)
    1.0
    """

    def __init__(self, restarts: int = 10, *, steps: int = 1000, seed: int = 0) -> None:
        self.restarts = restarts
        self.steps = steps
        self.seed = seed

    def _restarts(self) -> int | None:
        if not 1 <= self.restarts <= 100_000:
            raise _probes.ProbeError(f"restarts is {self.restarts}, expected 1 to 100000")
        self._steps, self._seed = _arrays.count(self.steps, "steps"), _arrays.count(self.seed, "seed")
        return self.restarts


class CRC(_Pairs):
    """The top principal component of `z⁺ - z⁻` (CRC-TPC of the same paper), in closed form."""

    def __init__(self) -> None:
        pass

    def _restarts(self) -> int | None:
        return None
