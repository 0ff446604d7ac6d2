"""Logistic regression with an L2 penalty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _probes
from . import _arrays
from ._arrays import F32, U32, U64, AnyArray
from ._base import ProbabilityClassifier
from .splits import folds


@dataclass(frozen=True)
class Convergence:
    """How a fit ended."""

    iterations: int
    """Steps taken."""
    evaluations: int
    """Passes over the rows."""
    objective: float
    """`Σ s loss + ½ l2 ‖W‖²` at the end, in nats."""
    gradient: float
    """Euclidean norm of its gradient there, in the coordinates of the optimiser."""
    gap: float
    """Estimated distance to the minimum, relative to the objective."""
    converged: bool
    """Whether `gap` is within the tolerance."""


class LogisticRegression(ProbabilityClassifier):
    """The least `Σ s loss(x W + b, y) + ½ l2 ‖W‖²`, with a bias that is not penalised.

    `l2` is the penalty on a sum over rows: `1 / C` of scikit-learn's class of this name. Two classes have one
    direction and the logistic loss, more have one each and the softmax cross-entropy.

    Parameters
    ----------
    l2 : float or sequence of float
        The penalty, above 0. Of several, `fit` takes the one whose held-out log-loss over `n_folds` folds of whole
        groups is least (of equal ones the largest), and refits with it on all rows. standardise : bool Whether the
        penalty is on the weights of z-scores. `coef_` is of raw rows in either case. balanced : bool Whether every
        class has the same weight, `n / (k n_class)` a row. tolerance : float Largest `convergence_.gap`; not to reach
        it raises `NotConverged`. max_iterations : int Most steps for each penalty. n_folds, seed : int Of the folds
        by which a penalty is chosen.

    Attributes
    ----------
    coef_ : (1, d) for two classes, else (k, d)
    intercept_ : (1,) or (k,)
    classes_ : (k,)
    l2_ : float, the penalty of the fit
    convergence_ : Convergence
    n_iter_ : (1,), steps taken

    >>> import numpy as np
    >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [3.0, 1.0], [4.0, 0.0]])
    >>> probe = LogisticRegression(l2=0.1).fit(x, ["low", "low", "high", "high"])
    >>> probe.predict([[0.5, 0.5], [3.5, 0.5]]).tolist(), probe.coef_.shape
    (['low', 'high'], (1, 2))
    """

    def __init__(
        self,
        l2: float | Sequence[float] = 1.0,
        *,
        standardise: bool = True,
        balanced: bool = False,
        tolerance: float = 1e-12,
        max_iterations: int = 1000,
        n_folds: int = 5,
        seed: int = 0,
    ) -> None:
        self.l2 = l2
        self.standardise = standardise
        self.balanced = balanced
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.n_folds = n_folds
        self.seed = seed

    def fit(self, x: Any, y: Any, groups: Any = None) -> LogisticRegression:
        """Fits to the rows `x` `(n, d)` and the labels `y` `(n,)`. `groups` `(n,)` keeps rows of one document or pair
        in one fold while a penalty is chosen; with one penalty it changes nothing."""
        x = _arrays.rows(x)
        number, kinds = _arrays.classes(y)
        _arrays.same_length(len(x), number)
        group = _arrays.ids(groups, len(x))
        l2 = _arrays.penalties(self.l2)
        if len(l2) > 1:
            l2 = [self._choose(x, number, kinds, group, l2)]
        return self._take(self._path(x, number, len(kinds), l2, True)[0], kinds, l2[0], x.shape[1])

    def path(self, x: Any, y: Any, l2: Sequence[float]) -> list[LogisticRegression]:
        """A probe for each penalty, in their order. Each starts where the next larger one ended, on one decomposition
        of the rows, so that ten cost little more than one. Look at `convergence_.converged`: here it raises
        nothing."""
        x = _arrays.rows(x)
        number, kinds = _arrays.classes(y)
        _arrays.same_length(len(x), number)
        l2 = _arrays.penalties(l2)
        found = self._path(x, number, len(kinds), l2, False)
        make = [type(self)(**{**self.get_params(), "l2": one}) for one in l2]
        return [probe._take(one, kinds, at, x.shape[1]) for probe, one, at in zip(make, found, l2, strict=True)]

    def _path(self, x: F32, y: U32, k: int, l2: list[float], must_converge: bool) -> list[Any]:
        most = _arrays.count(self.max_iterations, "max_iterations")
        return _probes.logistic_path(x, y, k, l2, self.standardise, self.balanced, self.tolerance, most, must_converge)

    def _take(self, found: Any, kinds: AnyArray, l2: float, width: int) -> LogisticRegression:
        (self.coef_, self.intercept_), ending = found
        self.classes_ = kinds
        self.l2_ = l2
        self.convergence_ = Convergence(*ending)
        self.n_iter_ = np.array([self.convergence_.iterations])
        self.n_features_in_ = width
        return self

    @property
    def _link(self) -> str:  # type: ignore[override]
        return "sigmoid" if len(self.intercept_) == 1 else "softmax"

    def _choose(self, x: F32, y: U32, kinds: AnyArray, groups: U64, l2: list[float]) -> float:
        """The penalty of the least held-out log-loss."""
        l2 = sorted(l2, reverse=True)
        loss = np.zeros(len(l2))
        for train, test in folds(kinds[y], groups, self.n_folds, seed=self.seed):
            for place, ((weights, bias), _) in enumerate(self._path(x[train], y[train], len(kinds), l2, False)):
                link = "sigmoid" if len(bias) == 1 else "softmax"
                log_p = _probes.scores(weights, bias, link, x[test])
                loss[place] -= log_p[np.arange(len(test)), y[test]].sum()
        return l2[int(np.argmin(loss))]
