"""What the tokens alone give: baselines that look at no activation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _probes
from . import _arrays
from ._arrays import F64, AnyArray
from .controls import _types


def majority(y: Any) -> Any:
    """The most frequent label of `y` `(n,)`; of equally frequent ones the first.

    >>> majority(["a", "b", "b"])
    'b'
    """
    number, kinds = _arrays.classes(y)
    return kinds[_probes.majority(number, len(kinds))].item()


class TypeMajority:
    """Gives every word type the label it has most often in training, and types it has not seen the most frequent
    label of all.

    >>> TypeMajority().fit([1, 1, 2, 3], ["N", "N", "V", "N"]).predict([1, 2, 9]).tolist()
    ['N', 'V', 'N']
    """

    def fit(self, types: Any, y: Any) -> TypeMajority:
        """From the word types `(n,)`, whole numbers, and the labels `(n,)` of the training rows."""
        number, self.classes_ = _arrays.classes(y)
        self._types = _types(types)
        self._y = number
        self._native()
        return self

    def _native(self) -> _probes.TypeMajority:
        return _probes.TypeMajority(self._types, self._y, len(self.classes_))

    def predict(self, types: Any) -> AnyArray:
        """The label of each type `(n,)`."""
        labels: AnyArray = self.classes_[self._native().predict(_types(types))]
        return labels

    def score(self, types: Any, y: Any) -> float:
        """Accuracy, from 0 to 1."""
        return float(np.mean(self.predict(types) == _arrays.labels(y)))

    def seen(self, types: Any) -> int:
        """How many of these rows are of a type seen in training."""
        return self._native().seen(_types(types))


class BagOfTokens:
    """Logistic regression on counts of the training texts' tokens: what a text says without its order.

    >>> probe = BagOfTokens(l2=0.1).fit([[1, 2], [1, 3], [4, 2], [4, 3]], [0, 0, 1, 1])
    >>> probe.predict([[1, 9], [4, 4]]).tolist()
    [0, 1]
    """

    def __init__(self, l2: float = 1.0, *, balanced: bool = False, tolerance: float = 1e-12) -> None:
        self.l2 = l2
        self.balanced = balanced
        self.tolerance = tolerance

    def fit(self, texts: Sequence[Sequence[int]], y: Any) -> BagOfTokens:
        """From the token ids of every text and the labels `(n,)`."""
        number, self.classes_ = _arrays.classes(y)
        _arrays.same_length(len(texts), number)
        known = [[int(token) for token in text] for text in texts]
        self.tokens_ = np.unique(np.array([token for text in known for token in text], dtype=np.uint32))
        starts, columns, values = _probes.count_tokens(known, known)
        probe, _ = _probes.logistic_counts(
            len(self.tokens_),
            starts,
            columns,
            values,
            number,
            len(self.classes_),
            [self.l2],
            self.balanced,
            self.tolerance,
        )[0]
        self.coef_, self.intercept_ = probe
        return self

    def decision_function(self, texts: Sequence[Sequence[int]]) -> F64:
        """Values of the texts `(n, k)`, or `(n, 1)` of two classes; tokens that training has not seen are left out."""
        known = [self.tokens_.tolist()]
        starts, columns, values = _probes.count_tokens(known, [[int(token) for token in text] for text in texts])
        out = np.tile(self.intercept_, (len(texts), 1))
        row = np.repeat(np.arange(len(texts)), np.diff(starts))
        np.add.at(out, row, self.coef_.T[columns] * values[:, None])
        return out

    def predict(self, texts: Sequence[Sequence[int]]) -> AnyArray:
        """The label of each text `(n,)`."""
        values = self.decision_function(texts)
        place = (values[:, 0] > 0).astype(int) if values.shape[1] == 1 else np.argmax(values, axis=1)
        labels: AnyArray = self.classes_[place]
        return labels

    def score(self, texts: Sequence[Sequence[int]], y: Any) -> float:
        """Accuracy, from 0 to 1."""
        return float(np.mean(self.predict(texts) == _arrays.labels(y)))


@dataclass(frozen=True)
class SharedTexts:
    """Texts on more than one side of a split."""

    same: int
    """Rows of later parts whose text is in an earlier part too."""
    near: int
    """Rows of later parts that are near one of an earlier part."""
    of: int
    """Rows of later parts."""
    example: tuple[int, int]
    """A row of an earlier part and its like in a later one."""
    warning: str
    """The same in words."""


def shared_texts(texts: Sequence[str], parts: Sequence[Any]) -> SharedTexts | None:
    """Compares the texts across the rows of each part (train, validation, test); None when nothing is worth a warning.

    >>> shared_texts(["A cat sat.", "a dog ran.", "a cat sat."], [[0, 1], [2]]).same
    1
    """
    found = _probes.shared_texts(list(texts), [[int(row) for row in part] for part in parts])
    return None if found is None else SharedTexts(*found)
