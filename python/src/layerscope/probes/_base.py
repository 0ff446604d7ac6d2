"""What every estimator has: parameters, states of being fitted, and scikit-learn's manner without needing
scikit-learn."""

from __future__ import annotations

import inspect
import sys
from typing import Any, TypeVar, cast

import numpy as np

from .. import _probes
from .._probes import ProbeError
from ..stats import Draws, Estimate, Weightings
from . import _arrays
from ._arrays import F32, F64, AnyArray

Self = TypeVar("Self", bound="Estimator")


class NotFitted(ProbeError, AttributeError):
    """An estimator was asked before it was fitted."""


def _not_fitted(estimator: Estimator) -> NotFitted:
    """Of scikit-learn's kind as well where scikit-learn is in use."""
    kinds: tuple[type, ...] = (NotFitted,)
    if "sklearn.exceptions" in sys.modules:
        kinds += (sys.modules["sklearn.exceptions"].NotFittedError,)
    kind = NotFitted if len(kinds) == 1 else type("NotFitted", kinds, {})
    return cast(NotFitted, kind(f"This {type(estimator).__name__} is not fitted yet: call fit first"))


class Estimator:
    """Parameters by name, as scikit-learn has them: what `__init__` takes is kept as it is, what `fit` finds ends in
    `_`."""

    _kind = "classifier"

    @classmethod
    def _names(cls) -> list[str]:
        parameters = inspect.signature(cls.__init__).parameters
        return sorted(name for name in parameters if name != "self")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Every parameter by name."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self: Self, **params: Any) -> Self:
        """Sets parameters by name; returns the estimator."""
        names = self._names()
        for name in params:
            if name not in names:
                raise ProbeError(f"Invalid parameter {name!r} for {type(self).__name__}: it has {', '.join(names)}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        given = {name: value for name, value in self.get_params().items() if value is not defaults[name].default}
        shown = [f"{name}={value!r}" for name, value in given.items() if value != defaults[name].default]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coef_")

    def __sklearn_clone__(self: Self) -> Self:
        return type(self)(**self.get_params())

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

        kind = self._kind
        return Tags(
            estimator_type=kind,
            target_tags=TargetTags(required=True, multi_output=kind == "regressor", single_output=True),
            classifier_tags=ClassifierTags(multi_class=True) if kind == "classifier" else None,
            regressor_tags=RegressorTags() if kind == "regressor" else None,
            input_tags=InputTags(two_d_array=True, sparse=False, allow_nan=False),
        )


class LinearProbe(Estimator):
    """Directions on raw rows: `coef_` `(k, d)` and `intercept_` `(k,)`, with any standardisation folded in."""

    coef_: F64
    intercept_: F64
    n_features_in_: int
    _link = "identity"

    @property
    def directions(self) -> F64:
        """The rows of `coef_` at length 1, `(k, d)`: what to project on, steer along or ablate. Zeros where the probe
        has none."""
        self._fitted()
        rows = np.atleast_2d(self.coef_)
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        return cast(F64, np.divide(rows, length, out=np.zeros_like(rows), where=length > 0))

    def _fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise _not_fitted(self)

    def _rows(self, x: Any) -> F32:
        """Rows as wide as those of the fit."""
        self._fitted()
        found = _arrays.rows(x)
        if found.shape[1] != self.n_features_in_:
            raise ProbeError(
                f"X has {found.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        return found

    def _parts(self) -> tuple[F64, F64]:
        weights = np.ascontiguousarray(np.atleast_2d(self.coef_), dtype=np.float64)
        return weights, np.ascontiguousarray(np.atleast_1d(self.intercept_), dtype=np.float64)

    def scores(self, x: Any) -> F64:
        """Scores of the rows `x` `(n, d)`: `(n, k)`. Of classes, higher is likelier, and log-probabilities (nats)
        where the probe has them; of numbers, the predicted values."""
        x = self._rows(x)
        return _probes.scores(*self._parts(), self._link, x)


class Classifier(LinearProbe):
    """A linear probe of classes."""

    classes_: AnyArray

    def predict(self, x: Any) -> AnyArray:
        """The class of the highest score of every row `(n,)`; of equal scores the first class."""
        place = np.argmax(self.scores(x), axis=1)
        return cast(AnyArray, self.classes_[place])

    def decision_function(self, x: Any) -> F64:
        """For two classes the score of the second less that of the first `(n,)`, else the scores `(n, k)`."""
        scores = self.scores(x)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def score(self, x: Any, y: Any) -> float:
        """Accuracy on the rows `x` `(n, d)` with the labels `y` `(n,)`, from 0 to 1."""
        predicted = self.predict(x)
        y = _arrays.labels(y)
        _arrays.same_length(len(predicted), y)
        return float(np.mean(predicted == y))

    def metrics(self, x: Any, y: Any, weightings: Weightings) -> dict[str, Draws]:
        """Every metric by name under the weightings of these rows: accuracy, macro_f1, auroc, nll (nats), ece, brier
        and their parts. Metrics of several probes under one `Weightings` are paired, and subtract."""
        return weightings.metrics(self.scores(x), _arrays.known(y, self.classes_))

    def evaluate(self, x: Any, y: Any, groups: Any = None, **how: Any) -> dict[str, Estimate]:
        """Every metric of the rows `x` `(n, d)` with the labels `y` `(n,)` and its 95 % interval over `groups`
        `(n,)`. Further arguments are those of `layerscope.stats.Weightings`."""
        x = self._rows(x)
        draws = self.metrics(x, y, Weightings(groups, n=len(x), **how))
        return {name: draw.estimate() for name, draw in draws.items()}


class ProbabilityClassifier(Classifier):
    """A classifier whose scores are log-probabilities."""

    def predict_log_proba(self, x: Any) -> F64:
        """Log-probabilities of every class in nats `(n, k)`."""
        return _probes.log_softmax(self.scores(x))

    def predict_proba(self, x: Any) -> F64:
        """Probabilities of every class `(n, k)`."""
        return cast(F64, np.exp(self.predict_log_proba(x)))
