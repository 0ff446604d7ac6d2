"""Probes: what a linear reader can find in the rows of one layer, and what that shows.

Estimators in scikit-learn's manner over layerscope's own, on numpy arrays, torch tensors and Arrow columns; splits by
group, control tasks, codes and permutation tests. Nothing here needs torch or scikit-learn. Fits run outside the
interpreter's lock, are deterministic, and neither batches nor threads change a bit of them. Rows `(n, d)` are read as
float32, as activations are.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> pair = np.repeat(np.arange(30), 4)
>>> y = np.tile([0, 0, 1, 1], 30)
>>> x = rng.normal(size=(120, 8)) + 2.0 * y[:, None] * np.eye(8)[0]
>>> train, validation, test = split(y, groups=pair)
>>> probe = LogisticRegression(l2=[1, 10, 100]).fit(x[train], y[train], groups=pair[train])
>>> found = probe.evaluate(x[test], y[test], groups=pair[test])
>>> found["accuracy"].estimate > 0.7, found["accuracy"].n_clusters
(True, 6)
"""

from .._probes import NotConverged, ProbeError
from ._base import NotFitted
from .baselines import BagOfTokens, SharedTexts, TypeMajority, majority, shared_texts
from .closed import LinearDiscriminantAnalysis, MassMean, NearestCentroid, Ridge, RidgeClassifier
from .codes import PENALTIES, CodeLength, online_code, shuffled_codes
from .controls import (
    ControlTask,
    Permutations,
    PermutationTest,
    Selectivity,
    max_p_values,
    p_value,
    permutation_test,
    selectivity,
    shuffled_labels,
)
from .law import Decay, Residual, cross_validated_residual, decay, prediction_residual
from .logistic import Convergence, LogisticRegression
from .pairs import CCS, CRC
from .splits import GroupFolds, Split, folds, split

__all__ = [
    "CCS",
    "CRC",
    "PENALTIES",
    "BagOfTokens",
    "CodeLength",
    "ControlTask",
    "Convergence",
    "Decay",
    "GroupFolds",
    "LinearDiscriminantAnalysis",
    "LogisticRegression",
    "MassMean",
    "NearestCentroid",
    "NotConverged",
    "NotFitted",
    "PermutationTest",
    "Permutations",
    "ProbeError",
    "Residual",
    "Ridge",
    "RidgeClassifier",
    "Selectivity",
    "SharedTexts",
    "Split",
    "TypeMajority",
    "cross_validated_residual",
    "decay",
    "folds",
    "majority",
    "max_p_values",
    "online_code",
    "p_value",
    "permutation_test",
    "prediction_residual",
    "selectivity",
    "shared_texts",
    "shuffled_codes",
    "shuffled_labels",
    "split",
]
