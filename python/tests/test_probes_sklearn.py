"""In scikit-learn's company: its own checks, its numbers, its tools."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from layerscope import probes

ROOT = Path(__file__).resolve().parents[2]
ESTIMATORS = [
    probes.LogisticRegression(),
    probes.Ridge(),
    probes.RidgeClassifier(),
    probes.LinearDiscriminantAnalysis(),
    probes.MassMean(),
    probes.NearestCentroid(),
]

# CCS and CRC are fitted to pairs of rows without labels, TypeMajority and BagOfTokens to tokens: none takes (x, y), so that
# scikit-learn's checks do not apply. Of the others these are expected to fail:
EXPECTED: dict[str, str] = {}
# This one only runs with SCIPY_ARRAY_API set. Arrays of other libraries come in by __array__ or DLPack; numpy's come out.
SKIPPED = {"check_array_api_input"}


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda of: type(of).__name__)
def test_checks_of_estimators(estimator: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check_estimator(estimator, expected_failed_checks=EXPECTED, on_fail=None, on_skip=None)
    wrong = {check["check_name"]: check["exception"] for check in found if check["status"] == "failed"}
    assert not wrong
    assert sum(check["status"] == "passed" for check in found) > 40
    assert {check["check_name"] for check in found if check["status"] == "skipped"} <= SKIPPED


def largest(a: Any, b: Any) -> float:
    """The largest difference, relative to the largest number."""
    return float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(b).max())


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "fixtures/probes/golden.json").read_text())
    return found


def test_golden_logistic(golden: dict[str, Any]) -> None:
    # As probes/src/golden.rs: the objective is flat at its minimum, so that 1e-6 of it leaves 1e-3 of the weights.
    for case in golden["logistic"]:
        x = np.array(golden["x"][case["x"]])
        y = np.minimum(golden["classes"][case["x"]], 1 if case["binary"] else 9)
        probe = probes.LogisticRegression(l2=case["l2"], balanced=case["balanced"]).fit(x, y)
        assert probe.convergence_.converged
        assert abs(probe.convergence_.objective / case["objective"] - 1) < 1e-6
        scaler = StandardScaler().fit(x)
        assert largest(probe.coef_ * scaler.scale_, case["coef"]) < 1e-3
        assert largest(probe.intercept_ + probe.coef_ @ scaler.mean_, case["intercept"]) < 1e-3


def test_golden_closed_forms(golden: dict[str, Any]) -> None:
    for case in golden["ridge"]:
        x = np.array(golden["x"][case["x"]])
        y = np.stack([x[:, 0] * 3 + x[:, 1], (x[:, 2] / 10) ** 2], 1)
        probe = probes.Ridge(l2=case["l2"], standardise=False).fit(x, y)
        # Rows have three decimals and are rounded to f32, 6e-8.
        assert largest(probe.coef_, case["coef"]) < 1e-6
        assert largest(probe.intercept_, case["intercept"]) < 1e-6
    x, y = np.array(golden["x"]["many"]), np.array(golden["classes"]["many"])
    for shrinkage, name in ((0.1, "fixed"), ("oas", "oas")):
        lda = probes.LinearDiscriminantAnalysis(shrinkage, standardise=False).fit(x, y)
        assert largest(lda.predict_log_proba(x[:20]), golden["lda"][name]) < 1e-6
    assert probes.NearestCentroid().fit(x, y).predict(x).tolist() == golden["centroid"]


def data(n: int = 300, k: int = 3, seed: int = 0) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    x = rng.normal(size=(n, 6)) + 1.5 * np.eye(6)[y]
    return x.astype(np.float32), y, np.arange(n) // 4


def test_as_scikit_learn_on_other_rows() -> None:
    from sklearn.linear_model import LogisticRegression, Ridge

    for k in (2, 3):
        x, y, _ = data(k=k)
        ours = probes.LogisticRegression(l2=2.0, standardise=False).fit(x, y)
        theirs = LogisticRegression(C=0.5, tol=1e-10, max_iter=10_000).fit(x.astype(np.float64), y)
        assert np.abs(ours.predict_proba(x) - theirs.predict_proba(x)).max() < 1e-5
        assert np.mean(ours.predict(x) == theirs.predict(x)) > 0.99
    x, y, _ = data()
    line = probes.Ridge(l2=3.0, standardise=False).fit(x, y)
    theirs = Ridge(alpha=3.0).fit(x.astype(np.float64), y)
    assert np.abs(line.predict(x) - theirs.predict(x)).max() < 1e-6
    assert abs(line.score(x, y) - theirs.score(x, y)) < 1e-9


def test_in_its_tools() -> None:
    x, y, groups = data()
    probe = probes.LogisticRegression(tolerance=1e-8)
    assert is_classifier(probe) and is_regressor(probes.Ridge())
    scores = cross_val_score(probe, x, y, groups=groups, cv=probes.GroupFolds(4))
    assert len(scores) == 4 and scores.mean() > 0.6
    search = GridSearchCV(probe, {"l2": [1.0, 1000.0]}, cv=probes.GroupFolds(3)).fit(x, y, groups=groups)
    assert search.best_params_["l2"] in (1.0, 1000.0)
    assert make_pipeline(StandardScaler(), probe).fit(x, y).score(x, y) > 0.6
    with pytest.raises(NotFittedError):
        clone(probe.fit(x, y)).predict(x)
    assert clone(probe).get_params() == probe.get_params()


def test_pickles() -> None:
    x, y, _ = data(k=2)
    for estimator in ESTIMATORS:
        fitted = clone(estimator).fit(x, y)
        again = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(again.predict(x), fitted.predict(x))
        np.testing.assert_array_equal(again.directions, fitted.directions)
        assert np.allclose(np.linalg.norm(again.directions, axis=1), 1.0, atol=1e-12)
    pairs = probes.CCS(restarts=2, steps=20).fit(x, -x, y > 0)
    again = pickle.loads(pickle.dumps(pairs))
    np.testing.assert_array_equal(again.scores(x, -x), pairs.scores(x, -x))
    types = pickle.loads(pickle.dumps(probes.TypeMajority().fit([1, 2], ["a", "b"])))
    assert types.predict([2, 3]).tolist() == ["b", "a"] and types.seen([2, 3]) == 1
