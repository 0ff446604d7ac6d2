"""Probes in closed form: ridge regression, linear discriminants, mean differences, nearest means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from .. import _probes
from . import _arrays
from ._arrays import F32, F64, U64, AnyArray
from ._base import Classifier, LinearProbe, ProbabilityClassifier
from .splits import folds


class Ridge(LinearProbe):
    """The least `Σ ‖y - (x W + b)‖² + l2 ‖W‖²` for numbers, with a bias that is not penalised: scikit-learn's
    `Ridge(alpha=l2)`.

    Parameters
    ----------
    l2 : float or sequence of float
        The penalty, not below 0; 0 is least squares, of the smallest norm where the rows leave a choice. Of several,
        `fit` takes the one with the highest held-out R² over `n_folds` folds of whole groups (of equal ones the
        largest). standardise : bool Whether the penalty is on the weights of z-scores. `coef_` is of raw rows in
        either case. n_folds, seed : int Of the folds by which a penalty is chosen.

    Attributes
    ----------
    coef_ : (d,) for `y` `(n,)`, else (k, d)
    intercept_ : float or (k,)
    l2_ : float, the penalty of the fit

    >>> Ridge(l2=0.0).fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]).predict([[3.0]]).round(6).tolist()
    [7.0]
    """

    _kind = "regressor"

    def __init__(
        self, l2: float | Sequence[float] = 1.0, *, standardise: bool = True, n_folds: int = 5, seed: int = 0
    ) -> None:
        self.l2 = l2
        self.standardise = standardise
        self.n_folds = n_folds
        self.seed = seed

    def fit(self, x: Any, y: Any, groups: Any = None) -> Ridge:
        """Fits to the rows `x` `(n, d)` and the numbers `y` `(n,)` or `(n, k)`; `groups` as in
        `LogisticRegression.fit`."""
        x = _arrays.rows(x)
        y = _arrays.numbers(y)
        _arrays.same_length(len(x), y)
        group = _arrays.ids(groups, len(x))
        table = y.reshape(len(y), -1)
        l2 = _arrays.penalties(self.l2)
        self.l2_ = l2[0] if len(l2) == 1 else self._choose(x, table, group, l2)
        coef, intercept = _probes.ridge_path(x, table, [self.l2_], self.standardise)[0]
        self.coef_ = cast(F64, coef[0]) if y.ndim == 1 else coef
        self.intercept_ = cast(F64, intercept[0]) if y.ndim == 1 else intercept
        self.n_features_in_ = x.shape[1]
        return self

    def predict(self, x: Any) -> F64:
        """The number of every row `(n,)`, or `(n, k)`."""
        scores = self.scores(x)
        return scores[:, 0] if np.ndim(self.coef_) == 1 else scores

    def score(self, x: Any, y: Any) -> float:
        """R² on the rows `x` `(n, d)`, the mean over outputs; NaN where an output does not vary."""
        predicted = self.predict(x)
        y = _arrays.numbers(y)
        _arrays.same_length(len(predicted), y)
        return _r2(predicted.reshape(len(y), -1), y.reshape(len(y), -1))

    def _choose(self, x: F32, y: F64, groups: U64, l2: list[float]) -> float:
        l2 = sorted(l2, reverse=True)
        predicted = np.zeros((len(l2), *y.shape))
        for train, test in folds(None, groups, self.n_folds, seed=self.seed):
            found = _probes.ridge_path(x[train], y[train], l2, self.standardise)
            for place, (weights, bias) in enumerate(found):
                predicted[place, test] = _probes.values(weights, bias, x[test])
        r2 = [_r2(of_one, y) for of_one in predicted]
        return l2[int(np.nanargmax(r2))] if not np.isnan(r2).all() else l2[0]


def _r2(predicted: F64, y: F64) -> float:
    total = ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_output = 1.0 - ((y - predicted) ** 2).sum(axis=0) / np.where(total > 0, total, np.nan)
    return float(np.mean(of_output))


class _Closed(Classifier):
    """Fits in one call of the native module."""

    def fit(self, x: Any, y: Any, groups: Any = None) -> Any:
        """Fits to the rows `x` `(n, d)` and the labels `y` `(n,)`. `groups` is taken for the sake of one manner of
        calling and changes nothing: there is no penalty to choose."""
        x = _arrays.rows(x)
        number, kinds = _arrays.classes(y)
        _arrays.same_length(len(x), number)
        _arrays.ids(groups, len(x))
        self.coef_, self.intercept_ = self._solve(x, number, len(kinds))
        self.classes_: AnyArray = kinds
        self.n_features_in_ = x.shape[1]
        return self

    def _solve(self, x: F32, y: Any, k: int) -> tuple[F64, F64]:
        raise NotImplementedError


class RidgeClassifier(_Closed):
    """Ridge regression of classes as one-hot rows, whose predictions are the scores.

    `coef_` is `(k, d)` and `intercept_` `(k,)`, for two classes too. For the parameters see `Ridge`; there is one
    penalty.

    >>> RidgeClassifier().fit([[0.0], [1.0], [4.0], [5.0]], [0, 0, 1, 1]).predict([[0.2], [4.4]]).tolist()
    [0, 1]
    """

    def __init__(self, l2: float = 1.0, *, standardise: bool = True) -> None:
        self.l2 = l2
        self.standardise = standardise

    def _solve(self, x: F32, y: Any, k: int) -> tuple[F64, F64]:
        return _probes.ridge_path_classes(x, y, k, [float(self.l2)], self.standardise)[0]


class LinearDiscriminantAnalysis(_Closed, ProbabilityClassifier):
    """Classes as normal distributions with one covariance: the whitened mean difference, `Σ⁻¹ (μ₁ - μ₀)`.

    Scores are log-posteriors with the training frequencies as priors: scikit-learn's class of this name with
    `solver="lsqr"`.

    Parameters
    ----------
    shrinkage : float or "oas"
        γ of `(1 - γ) S + γ tr(S) / d`, from 0 to 1, or the oracle approximating shrinkage (Chen et al. 2010).
    standardise : bool
        Whether the covariance is shrunk in z-scores.

    `coef_` is `(k, d)` and `intercept_` `(k,)`, for two classes too.

    >>> probe = LinearDiscriminantAnalysis().fit([[0.0], [1.0], [4.0], [5.0]], [0, 0, 1, 1])
    >>> probe.predict_proba([[2.5]]).round(6).tolist()
    [[0.5, 0.5]]
    """

    _link = "softmax"

    def __init__(self, shrinkage: float | str = "oas", *, standardise: bool = True) -> None:
        self.shrinkage = shrinkage
        self.standardise = standardise

    def _solve(self, x: F32, y: Any, k: int) -> tuple[F64, F64]:
        if isinstance(self.shrinkage, str) and self.shrinkage != "oas":
            raise _probes.ProbeError(f'shrinkage is {self.shrinkage!r}, expected a number from 0 to 1 or "oas"')
        shrinkage = None if isinstance(self.shrinkage, str) else float(self.shrinkage)
        return _probes.lda(x, y, k, shrinkage, self.standardise)


class MassMean(_Closed, ProbabilityClassifier):
    """The direction `θ = μ₁ - μ₀` of two classes, with the value `θ · (x - (μ₀ + μ₁) / 2)` (Marks and Tegmark 2023).

    `coef_` `(1, d)` is θ in the units of the states. `predict_proba` is σ of the value, as published; it is not
    calibrated.

    >>> MassMean().fit([[0.0, 1.0], [2.0, 1.0]], [False, True]).coef_.tolist()
    [[2.0, 0.0]]
    """

    _link = "margin"

    def __init__(self, *, standardise: bool = False) -> None:
        self.standardise = standardise

    def _solve(self, x: F32, y: Any, k: int) -> tuple[F64, F64]:
        if k > 2:
            raise _probes.ProbeError(
                f"Only binary classification is supported. The type of the target is multiclass: {k} classes, expected 2"
            )
        return _probes.mean_difference(x, y, k, self.standardise)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


class NearestCentroid(_Closed):
    """The class whose mean is nearest. Scores `(n, k)` are `μ · x - ½ ‖μ‖²` about the mean of all rows.

    >>> NearestCentroid().fit([[0.0], [1.0], [9.0]], ["a", "a", "b"]).predict([[4.0], [6.0]]).tolist()
    ['a', 'b']
    """

    def __init__(self, *, standardise: bool = False) -> None:
        self.standardise = standardise

    def _solve(self, x: F32, y: Any, k: int) -> tuple[F64, F64]:
        return _probes.centroid(x, y, k, self.standardise)
