"""The law of next-token prediction (He and Su 2024): the residual of a linear regression of the next token's id, by
layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _probes
from . import _arrays
from ._arrays import F64


@dataclass(frozen=True)
class Residual:
    """Mean squared error over the variance of the target, `1 - R²`, a value for each target `(k,)`."""

    in_sample: F64
    """On the rows of the fit; of noise it falls with the width alone."""
    adjusted: F64
    """`(RSS / (n - rank - 1)) / (TSS / (n - 1))`; NaN with too few rows."""
    held_out: F64
    """On the other rows; it may be above 1."""
    rank: int
    """Directions that the fit used."""


def prediction_residual(x: Any, y: Any, held_x: Any, held_y: Any) -> Residual:
    """Least squares of the numbers `y` `(n,)` or `(n, k)` on the rows `x` `(n, d)`, scored on them and on held-out
    ones."""
    return Residual(*_probes.residual(_arrays.rows(x), _table(y), _arrays.rows(held_x), _table(held_y)))


def cross_validated_residual(x: Any, y: Any, folds: Any) -> F64:
    """The residual `(k,)` where every row is predicted from the rows of the other folds; `folds` `(n,)` numbers each
    row's fold."""
    x, table, fold = _arrays.rows(x), _table(y), np.asarray(folds)
    _arrays.same_length(len(x), table)
    _arrays.same_length(len(x), fold)
    return _probes.cross_validated_residual([(x[fold == one], table[fold == one]) for one in np.unique(fold)])


@dataclass(frozen=True)
class Decay:
    """The line `log10 residual = intercept + slope · layer`."""

    slope: float
    intercept: float
    r2: float
    """Part of the variance of the logarithm that the line explains."""
    pearson: float
    """Correlation of layer and logarithm; NaN when the residual does not vary."""
    ratio: float
    """The residual of the last layer over that of the first."""
    rho: float
    """The decay a layer."""


def decay(layers: Any, residuals: Any) -> Decay:
    """Fits the line to the residuals `(layers,)` at `layers` `(layers,)`, which rise.

    >>> decay([1, 2, 3], [0.8, 0.4, 0.2]).rho
    0.5
    """
    return Decay(*_probes.decay(_arrays.vector(layers, "layers"), _arrays.vector(residuals, "residuals")))


def _table(y: Any) -> F64:
    numbers = _arrays.numbers(y)
    return numbers.reshape(len(numbers), -1)
