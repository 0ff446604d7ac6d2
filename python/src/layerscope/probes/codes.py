"""Minimum description length: how short a code a probe makes of the labels (Voita and Titov 2020), the online code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _probes
from ..stats import Estimate, Weightings
from . import _arrays
from ._arrays import F64

PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0)
"""The penalties that the program tries by default."""


@dataclass(frozen=True)
class CodeLength:
    """How many bits the labels cost, sent in one order."""

    bits: F64
    """Bits of each row `(n,)`."""
    uniform_rows: int
    """Rows that cost log2 k: those before the first fit."""
    log2_classes: float
    """log2 of the number of classes, in bits."""

    @property
    def compression(self) -> float:
        """The uniform code's length over this one's: 1 when nothing is known about the labels."""
        return float(len(self.bits) * self.log2_classes / self.bits.sum())

    def estimate(self, groups: Any = None, **how: Any) -> Estimate:
        """The compression with its 95 % interval over `groups` `(n,)`; further arguments are those of
        `stats.Weightings`."""
        weightings = Weightings(groups, n=len(self.bits), **how)
        return weightings.mean(self.bits).map(lambda bits: self.log2_classes / bits).estimate()


def _message(x: Any, y: Any, groups: Any, l2: Sequence[float]) -> tuple[Any, Any, int, Any, list[float]]:
    """Rows, numbers of classes, how many classes there are, groups and penalties, as the library takes them."""
    x = _arrays.rows(x)
    number, kinds = _arrays.classes(y)
    _arrays.same_length(len(x), number)
    return x, number, len(kinds), _arrays.ids(groups, len(x)), _arrays.penalties(l2)


def online_code(
    x: Any,
    y: Any,
    groups: Any = None,
    *,
    l2: Sequence[float] = PENALTIES,
    standardise: bool = True,
    balanced: bool = False,
    tolerance: float = 1e-6,
    seed: int = 0,
    order: int = 0,
) -> CodeLength:
    """The code length of the labels `y` `(n,)` given the rows `x` `(n, d)`, with logistic probes of every penalty
    mixed.

    Blocks of whole groups are sent in order number `order`, each coded with probes fitted to all blocks before it.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(400, 4))
    >>> bool(online_code(x, x[:, 0] > 0).compression > 2)
    True
    """
    message = _message(x, y, groups, l2)
    seed, order = _arrays.count(seed, "seed"), _arrays.count(order, "order")
    found = _probes.online_code(*message, standardise, balanced, tolerance, seed, order)
    return CodeLength(*found)


def shuffled_codes(
    x: Any,
    y: Any,
    groups: Any = None,
    *,
    l2: Sequence[float] = PENALTIES,
    standardise: bool = True,
    balanced: bool = False,
    tolerance: float = 1e-6,
    seed: int = 0,
    orders: int = 1,
) -> list[CodeLength]:
    """The code lengths of shuffled labels, another shuffle in each order below `orders`: what labels that mean
    nothing cost. There are fewer where shuffles keep losing a class."""
    message = _message(x, y, groups, l2)
    seed, orders = _arrays.count(seed, "seed"), _arrays.count(orders, "orders")
    found = _probes.shuffled_codes(*message, standardise, balanced, tolerance, seed, orders)
    return [CodeLength(np.asarray(bits), rows, log2) for bits, rows, log2 in found]
