"""What comes in: hostile values and shapes are named, foreign arrays are read, and no panic crosses."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from layerscope import _probes, probes
from layerscope.probes import ProbeError

X = np.array([[0.0, 1.0], [1.0, 0.0], [3.0, 1.0], [4.0, 0.5]], dtype=np.float32)
Y = np.array([0, 0, 1, 1])
ESTIMATORS = [
    probes.LogisticRegression,
    probes.Ridge,
    probes.RidgeClassifier,
    probes.LinearDiscriminantAnalysis,
    probes.MassMean,
    probes.NearestCentroid,
]


def with_value(value: float) -> Any:
    x = X.astype(np.float64)
    x[2, 1] = value
    return x


WRONG_ROWS: list[tuple[Any, str]] = [
    (with_value(np.nan), r"x\[2, 1\] is NaN"),
    (with_value(-np.inf), r"x\[2, 1\] is -inf"),
    (with_value(1e39), r"x\[2, 1\] is 1e\+39, beyond float32"),
    ([[10**400, 0]] * 4, "beyond float64"),
    (X[:0], r"0 sample"),
    (X[:, :0], r"0 feature"),
    (X[0], "Expected 2D array"),
    (X[None], r"shape \(1, 4, 2\)"),
    (np.float32(1.0), "Expected 2D array"),
    (X[:3], "3 rows but 4 labels"),
    (X + 1j, "Complex"),
    (X.astype(str), "strings"),
    (X.astype("datetime64[s]"), "datetime64"),
    (np.ma.masked_greater(X, 2), "masked"),
    (None, "x is None"),
]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(("x", "line"), WRONG_ROWS, ids=[line for _, line in WRONG_ROWS])
def test_wrong_rows_are_named(estimator: Any, x: Any, line: str) -> None:
    with pytest.raises(ProbeError, match=line):
        estimator().fit(x, Y)


WRONG_LABELS: list[tuple[Any, str]] = [
    ([1, 1, 1, 1], "1 class, expected at least 2"),
    ([0, 1, 0], "4 rows but 3 labels"),
    ([], "labels|0 classes|rows"),
    ([0, 1, np.nan, 1], r"y\[2\] is NaN"),
    ([0.5, 1, 0, 1], "continuous"),
    ([0, 1, None, 1], r"y\[2\] is None"),
    ([0, "a", 1, "b"], "labels|Unknown|classes|y"),
    ([[0, 1]] * 4, r"shape \(4, 2\)"),
    (None, "y is None"),
]


@pytest.mark.parametrize("estimator", [of for of in ESTIMATORS if of is not probes.Ridge])
@pytest.mark.parametrize(("y", "line"), WRONG_LABELS, ids=[str(y) for y, _ in WRONG_LABELS])
def test_wrong_labels_are_named(estimator: Any, y: Any, line: str) -> None:
    if y == [0, "a", 1, "b"]:  # numpy makes strings of these before anybody is asked: four classes
        y = np.array(y, dtype=object)
    with pytest.raises(ProbeError, match=line):
        estimator().fit(X, y)


def test_wrong_numbers_are_named() -> None:
    for y, line in [([0, 1, np.nan, 1], r"y\[2\] is NaN"), ([1, 2, 3], "4 rows but 3"), (None, "y is None")]:
        with pytest.raises(ProbeError, match=line):
            probes.Ridge().fit(X, y)
    assert np.isnan(probes.Ridge().fit(X, [1, 1, 1, 1]).score(X, [1, 1, 1, 1]))


def test_wrong_settings_are_the_librarys_own_line() -> None:
    fit: list[tuple[Any, str]] = [
        (probes.LogisticRegression(l2=0.0), "l2 is 0, expected a number above 0"),
        (probes.LogisticRegression(l2=[]), "no penalty to choose"),
        (probes.LogisticRegression(tolerance=-1.0), "tolerance is -1"),
        (probes.Ridge(l2=-1.0), "l2 is -1, expected a number not below 0"),
        (probes.LinearDiscriminantAnalysis(2.0), "shrinkage is 2, expected a number from 0 to 1"),
        (probes.LinearDiscriminantAnalysis("ledoit"), "shrinkage is 'ledoit'"),
    ]
    for estimator, line in fit:
        with pytest.raises(ProbeError, match=line):
            estimator.fit(X, Y)
    with pytest.raises(ProbeError, match="Only binary"):
        probes.MassMean().fit(X, [0, 1, 2, 2])
    noise = np.random.default_rng(0).normal(size=(60, 5))
    with pytest.raises(probes.NotConverged, match="not converged after 1 iteration"):
        probes.LogisticRegression(max_iterations=1).fit(noise, noise[:, 0] > 0)
    with pytest.raises(ProbeError, match="Invalid parameter 'C'"):
        probes.LogisticRegression().set_params(C=1)
    for wrong in (-1, 2**64, 0.5):
        with pytest.raises(ProbeError, match=r"max_iterations is .*, expected a whole number"):
            probes.LogisticRegression(max_iterations=wrong).fit(X, Y)  # type: ignore[arg-type]
        with pytest.raises(ProbeError, match=r"seed is .*, expected a whole number"):
            probes.split([0, 1], seed=wrong)  # type: ignore[arg-type]


def test_a_probe_reads_rows_of_its_own_width_and_labels_it_knows() -> None:
    probe = probes.LinearDiscriminantAnalysis().fit(X, ["cat", "cat", "dog", "dog"])
    with pytest.raises(ProbeError, match="X has 3 features, but LinearDiscriminantAnalysis is expecting 2"):
        probe.predict(np.ones((2, 3)))
    with pytest.raises(ProbeError, match=r"y\[0\] is .*'cow'.*none of the 2 classes"):
        probe.evaluate(X, ["cow"] * 4)
    with pytest.raises(ProbeError, match="not fitted"):
        probes.LinearDiscriminantAnalysis().scores(X)


def test_number_types() -> None:
    expected = probes.LogisticRegression().fit(X, Y)
    for kind in ("float16", "float64", "longdouble", ">f4", object):
        found = probes.LogisticRegression().fit(X.astype(kind), Y)
        np.testing.assert_array_equal(found.coef_, expected.coef_)
    counts = np.array([[0, 2], [1, 0], [3, 2], [4, 1]])
    expected = probes.LogisticRegression().fit(counts.astype(np.float32), Y)
    for kind in ("int8", "uint64", "int64", "bool"):
        found = probes.LogisticRegression().fit(counts.astype(kind), Y)
        if kind != "bool":
            np.testing.assert_array_equal(found.coef_, expected.coef_)
    huge = probes.LogisticRegression().fit(counts * 10**18, Y)
    assert np.isfinite(huge.coef_).all() and huge.score(counts * 10**18, Y) == 1.0


def test_labels_of_every_kind() -> None:
    kinds: list[tuple[Any, list[Any]]] = [
        (["b", "b", "a", "a"], ["a", "b"]),
        (np.array(["b", "b", "a", "a"], dtype=object), ["a", "b"]),
        ([True, True, False, False], [False, True]),
        ([-7, -7, 2**62, 2**62], [-7, 2**62]),
        (np.array([2**64 - 1, 2**64 - 1, 0, 0], dtype=np.uint64), [0, 2**64 - 1]),
        ([1.0, 1.0, 2.0, 2.0], [1.0, 2.0]),
    ]
    for y, classes in kinds:
        probe = probes.NearestCentroid().fit(X, y)
        assert probe.classes_.tolist() == classes
        assert probe.predict(X).tolist() == list(np.asarray(y).tolist())
        assert probe.score(X, y) == 1.0
        assert probe.evaluate(X, y)["accuracy"].estimate == 1.0


def test_groups_are_ids_or_are_numbered_as_they_come() -> None:
    y = np.tile([0, 0, 1, 1], 10)
    pair = np.arange(40) // 4
    by_number = probes.split(y, pair, seed=1)
    by_name = probes.split(y, [f"pair {chr(122 - group)}" for group in pair], seed=1)
    assert all((a == b).all() for a, b in zip(by_number, by_name, strict=True))
    with pytest.raises(ProbeError, match="40 rows but 3 groups"):
        probes.split(y, [1, 2, 3])
    with pytest.raises(ProbeError, match=r"class .1. is in 1 group, too few for 3 parts|class \"1\" is in"):
        probes.split(y, np.where(y == 1, 99, pair))
    with pytest.raises(ProbeError, match="10 groups cannot make 1000000000000 parts"):
        probes.folds(y, pair, 10**12)
    with pytest.raises(ProbeError, match="shares of train"):
        probes.split(y, pair, shares=(0.9, 0.9, 0.1))


def test_torch() -> None:
    torch = pytest.importorskip("torch")
    expected = probes.LogisticRegression().fit(X, Y)
    for x in (torch.tensor(X), torch.tensor(X, requires_grad=True), torch.tensor(X).bfloat16()):
        np.testing.assert_array_equal(probes.LogisticRegression().fit(x, torch.tensor(Y)).coef_, expected.coef_)
    assert probes.LogisticRegression().fit(torch.tensor(X).T.contiguous().T, Y).score(torch.tensor(X), Y) == 1.0


def test_arrow() -> None:
    pa = pytest.importorskip("pyarrow")
    expected = probes.LogisticRegression().fit(X, Y)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(X.reshape(-1)), 2)
    half = pa.chunked_array([lists.slice(0, 1), lists.slice(1)])
    for x in (lists, half, Capsule(lists)):
        np.testing.assert_array_equal(probes.LogisticRegression().fit(x, pa.array(Y)).coef_, expected.coef_)
    table = pa.table({"a": X[:, 0], "b": X[:, 1]})
    np.testing.assert_array_equal(probes.LogisticRegression().fit(table, Y).coef_, expected.coef_)
    with pytest.raises(ProbeError, match="1 nulls"):
        probes.LogisticRegression().fit(pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)), [0, 1])


class Capsule:
    """Arrow by its capsule alone."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        return self.array.__arrow_c_array__(requested_schema)


def test_dlpack_alone() -> None:
    class Packed:
        def __dlpack__(self, **how: Any) -> Any:
            return X.copy().__dlpack__(**how)

        def __dlpack_device__(self) -> Any:
            return X.__dlpack_device__()

    expected = probes.LogisticRegression().fit(X, Y)
    np.testing.assert_array_equal(probes.LogisticRegression().fit(Packed(), Y).coef_, expected.coef_)


def test_what_is_fitted_on_is_not_changed_and_may_be_read_only() -> None:
    x = X.copy()
    x.flags.writeable = False
    probes.LogisticRegression().fit(x, Y)
    np.testing.assert_array_equal(x, X)


def test_a_panic_is_an_exception(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="layerscope failed: on request"):
        _probes._panic()
    capfd.readouterr()


def test_the_native_functions_check_what_they_are_given() -> None:
    y, one = np.array([0, 1, 7, 1], dtype=np.uint32), np.zeros(1)
    with pytest.raises(ProbeError, match="row 2: class 7, but there are 2 classes"):
        _probes.lda(X, y, 2, None, True)
    with pytest.raises(ProbeError, match=r"link .probit"):
        _probes.scores(np.zeros((1, 2)), one, "probit", X)
    with pytest.raises(ProbeError, match="labels of width"):
        _probes.scores(np.zeros((2, 2)), one, "identity", X)
    with pytest.raises(ProbeError, match="1 sides"):
        _probes.pair_scores(np.zeros((1, 2)), one, X, X)
    with pytest.raises(ProbeError, match="more than"):
        _probes.Weightings(np.arange(10, dtype=np.uint64), "bootstrap", 0, 2**60, False)
    with pytest.raises(ProbeError, match="sparse matrix"):
        starts = np.array([0, -5], dtype=np.int64)
        _probes.logistic_counts(3, starts, y[:0], X[0, :0], y, 2, [1.0], False, 1e-6)
    wide: Any = X.astype(np.float64)
    with pytest.raises(TypeError):
        _probes.lda(wide, y, 2, None, True)
    with pytest.raises(OverflowError):
        _probes.control_labels(y[:2], 2, np.zeros(1, dtype=np.uint64), -1, 0)
    assert pickle.loads(pickle.dumps(ProbeError("line"))).args == ("line",)
