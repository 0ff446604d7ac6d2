"""Intervals against numpy and hand arithmetic, and what goes around a probe: choosing, controls, permutations."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

from layerscope import probes, stats
from layerscope.probes import ProbeError


def planted(n: int = 240, d: int = 10, shift: float = 1.2, seed: int = 0) -> tuple[Any, Any, Any]:
    """Pairs of rows of both classes, told by one dimension, with a part that pairs share."""
    rng = np.random.default_rng(seed)
    pair = np.arange(n) // 2
    y = np.arange(n) % 2
    x = rng.normal(size=(n, d)) + np.repeat(rng.normal(size=(n // 2, d)), 2, axis=0)
    x[:, 0] += shift * y
    return x.astype(np.float32), y, pair


def test_the_jackknife_by_hand() -> None:
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 25, 200)
    outcomes = rng.normal(size=200)
    found = stats.Weightings(groups).mean(outcomes).estimate()
    ids = np.unique(groups)
    left_out = np.array([outcomes[groups != group].mean() for group in ids])
    sizes = np.array([(groups == group).sum() for group in ids])
    n_eff = sizes.sum() ** 2 / (sizes**2).sum()
    variance = (len(ids) - 1) / len(ids) * ((left_out - left_out.mean()) ** 2).sum()
    # scipy's quantile of Student's t with n_eff - 1 degrees of freedom.
    from scipy.stats import t

    half = t.ppf(0.975, n_eff - 1) * np.sqrt(variance)
    assert found.lower is not None and found.upper is not None
    assert (found.n, found.n_clusters) == (200, len(ids)) and abs(found.n_eff - n_eff) < 1e-9
    np.testing.assert_allclose(
        [found.estimate, found.lower, found.upper],
        [outcomes.mean(), outcomes.mean() - half, outcomes.mean() + half],
        rtol=1e-7,
    )
    by_hand = stats.jackknife(outcomes.mean(), left_out, n_eff)
    assert (by_hand.lower, by_hand.upper) == pytest.approx((found.lower, found.upper), rel=1e-12)


def test_wilson_by_hand() -> None:
    from scipy.stats import t

    n, p = 40, 0.3
    z = t.ppf(0.975, n - 1)
    middle, scale = p + z * z / (2 * n), 1 + z * z / n
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    found = stats.wilson(p, n)
    assert (found.lower, found.upper) == pytest.approx(((middle - half) / scale, (middle + half) / scale), rel=1e-9)
    assert stats.wilson(0.0, 10).lower == 0.0 and stats.wilson(2.0, 10).reason is not None


def test_the_bootstrap_by_hand() -> None:
    rng = np.random.default_rng(2)
    groups, outcomes = np.arange(60) // 3, rng.normal(size=60)
    found = stats.Weightings(groups, method="bootstrap", seed=4, replicates=500).mean(outcomes)
    weights = stats.poisson_weights(np.arange(20), seed=4, replicates=500)[groups].astype(float)
    resampled = (weights * outcomes[:, None]).sum(axis=0) / weights.sum(axis=0)
    np.testing.assert_allclose(found.values, resampled, rtol=1e-12)
    ends = np.quantile(resampled, [0.025, 0.975])
    assert (found.estimate().lower, found.estimate().upper) == pytest.approx(tuple(ends), rel=1e-12)
    assert stats.percentile(0.0, resampled).upper == pytest.approx(ends[1], rel=1e-12)


def test_metrics_as_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, f1_score, log_loss, r2_score, roc_auc_score

    x, y, pair = planted()
    probe = probes.LogisticRegression().fit(x[:160], y[:160])
    found = probe.evaluate(x[160:], y[160:], groups=pair[160:])
    test, p = y[160:], probe.predict_proba(x[160:])
    expected = {
        "accuracy": accuracy_score(test, p.argmax(1)),
        "macro_f1": f1_score(test, p.argmax(1), average="macro"),
        "auroc": roc_auc_score(test, p[:, 1]),
        "nll": log_loss(test, p),
    }
    for name, value in expected.items():
        assert found[name].estimate == pytest.approx(value, rel=1e-9), name
        assert found[name].lower < found[name].estimate < found[name].upper  # type: ignore[operator]
    assert {"ece", "ece_debiased", "ece_calibrated", "brier", "brier_reliability"} < found.keys()
    predicted = probes.Ridge().fit(x, x[:, :2] ** 2).predict(x)
    r2 = stats.Weightings(pair).r2(predicted, x[:, :2] ** 2)
    assert r2.value == pytest.approx(r2_score(x[:, :2] ** 2, predicted), rel=1e-6)


def test_differences_are_paired() -> None:
    x, y, pair = planted()
    weightings = stats.Weightings(pair)
    good = probes.LogisticRegression().fit(x, y).metrics(x, y, weightings)["accuracy"]
    poor = probes.MassMean().fit(x[:, 1:], y).metrics(x[:, 1:], y, weightings)["accuracy"]
    difference = (good - poor).estimate()
    assert difference.estimate == good.value - poor.value and difference.lower is not None
    best = stats.best([poor, good])
    assert best.place == 1 and best.tied[1] and best.corrected.estimate <= good.value
    with pytest.raises(ProbeError, match="different rows"):
        good - stats.Weightings(pair[:10]).mean(np.ones(10))
    with pytest.raises(ZeroDivisionError):
        good.map(lambda _: 1 / 0)
    parts = [weightings.part(pair < 60), weightings.part(pair >= 60)]
    mean = stats.mean_of_parts([part.mean(np.arange(len(part)) % 2) for part in parts], 120)
    assert mean.value == 0.5


def test_weightings_pickle_and_draws_say_that_they_do_not() -> None:
    weightings = stats.Weightings(["a", "b", "c", "a", "d", "e", "f"], method="bootstrap", replicates=50)
    again = pickle.loads(pickle.dumps(weightings))
    outcomes = [1, 0, 1, 1, 0, 1, 1]
    np.testing.assert_array_equal(again.mean(outcomes).values, weightings.mean(outcomes).values)
    estimate = weightings.mean(outcomes).estimate()
    assert pickle.loads(pickle.dumps(estimate)) == estimate and float(estimate) == estimate.estimate
    with pytest.raises(TypeError, match="pickle their estimate"):
        pickle.dumps(weightings.mean(outcomes))


def test_what_has_no_interval_says_why() -> None:
    few = stats.Weightings([0, 0, 1, 1]).mean([1, 0, 1, 1]).estimate()
    assert few.lower is None and few.reason == "2.0 effective clusters, fewer than 5"
    assert str(few) == "0.7500 (no interval: 2.0 effective clusters, fewer than 5)"
    with pytest.raises(ProbeError, match="no rows"):
        stats.Weightings([])
    with pytest.raises(ProbeError, match="row 1: a value is not finite"):
        stats.Weightings([0, 1]).mean([0.5, np.nan])
    with pytest.raises(ProbeError, match=r"method .normal"):
        stats.Weightings([0, 1], method="normal")
    with pytest.raises(ProbeError, match="y: "):
        stats.Weightings([0, 1]).metrics([[0.0, 1.0]] * 2, [0, -1])


def test_a_penalty_is_chosen_by_groups() -> None:
    rng = np.random.default_rng(3)
    # Every group has a dimension of its own and one label: only a strong penalty keeps from learning groups by heart.
    group = np.repeat(np.arange(20), 6)
    y = np.arange(20)[group] % 2
    x = np.concatenate([5 * np.eye(20)[group], rng.normal(size=(120, 3))], axis=1)
    penalties = [0.01, 100.0]
    by_group = probes.LogisticRegression(l2=penalties, tolerance=1e-8).fit(x, y, groups=group)
    by_row = probes.LogisticRegression(l2=penalties, tolerance=1e-8).fit(x, y)
    assert (by_group.l2_, by_row.l2_) == (100.0, 0.01)
    alone = probes.LogisticRegression(l2=100.0, tolerance=1e-8).fit(x, y)
    np.testing.assert_array_equal(by_group.coef_, alone.coef_)
    target = x[:, -1] + 0.1 * rng.normal(size=120)
    assert probes.Ridge(l2=[0.1, 1e5]).fit(x, target, groups=group).l2_ == 0.1


def test_permutations_find_what_is_there_and_nothing_else() -> None:
    x, y, pair = planted(shift=3.0)
    probe = probes.MassMean()
    found = probes.permutation_test(probe, x, y, groups=pair, permutations=30)
    assert found.p == 1 / 31 and found.score > 0.8 and len(found.null) == 30
    assert found.exchange == "rows exchange their labels within their group"
    nothing = probes.permutation_test(probe, x[:, 1:], y, groups=pair, permutations=30)
    assert nothing.p > 0.05
    assert probes.Permutations(y, pair).ways is None
    assert probes.Permutations([0, 0, 1, 1], [0, 0, 1, 1]).ways == 2.0
    np.testing.assert_allclose(probes.max_p_values([0.9, 0.4], [[0.5, 0.6], [0.95, 0.1]]), [2 / 3, 2 / 3])
    with pytest.raises(ProbeError, match="number 0 of those to be compared is not finite"):
        probes.p_value(np.nan, [0.1])


def test_selectivity_tells_a_property_from_a_lookup() -> None:
    rng = np.random.default_rng(5)
    types = rng.integers(0, 30, 900)
    embedding = rng.normal(size=(30, 20))
    y = rng.integers(0, 2, 900)
    x = embedding[types] + 3 * y[:, None] * np.eye(20)[0]
    train, test = slice(0, 600), slice(600, 900)
    of = probes.LogisticRegression(l2=10.0, tolerance=1e-8)
    found = probes.selectivity(of, (x[train], y[train], types[train]), (x[test], y[test], types[test]), draws=3)
    assert found.task.estimate > 0.85
    assert found.selectivity.estimate == pytest.approx(found.task.estimate - found.control.estimate, abs=1e-12)
    assert found.selectivity.lower is not None
    with pytest.raises(ProbeError, match="types: expected whole numbers"):
        probes.ControlTask([0, 1]).labels(["the", "a"])


def test_codes_are_short_where_labels_can_be_read() -> None:
    x, y, pair = planted(n=600, shift=4.0)
    code = probes.online_code(x, y, pair, l2=[1.0, 100.0])
    assert code.compression > 1.5 and code.bits.shape == (600,)
    estimate = code.estimate(pair)
    assert estimate.estimate == pytest.approx(code.compression) and estimate.lower is not None
    shuffled = probes.shuffled_codes(x, y, pair, l2=[1.0, 100.0], orders=2)
    assert len(shuffled) == 2 and all(of.compression < 1.1 for of in shuffled)
    constant = probes.online_code(np.ones((20, 3)), np.arange(20) % 2)
    np.testing.assert_allclose(constant.bits, 1.0, atol=1e-12)


def test_tokens_alone() -> None:
    texts = [[1, 2, 3], [1, 4, 4], [5, 2, 3], [5, 4, 3]] * 5
    y = ["a", "a", "b", "b"] * 5
    bag = probes.BagOfTokens(l2=0.01).fit(texts, y)
    assert bag.score(texts, y) == 1.0
    assert probes.BagOfTokens(l2=0.01).fit(texts, np.arange(20) % 3).coef_.shape == (3, 5)
    dense = np.array([[text.count(token) for token in bag.tokens_] for text in texts])
    same = probes.LogisticRegression(l2=0.01, standardise=False).fit(dense, y)
    np.testing.assert_allclose(bag.coef_, same.coef_, atol=1e-4)
    assert probes.majority([3, 3, 1]) == 3


def test_threads_run_side_by_side() -> None:
    """The interpreter goes on while a fit runs."""
    x, y, _ = planted(n=6000, d=300)
    ticks: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.002)

    clock = threading.Thread(target=tick)
    clock.start()
    start = time.perf_counter()
    probes.LogisticRegression(tolerance=1e-8).fit(x, y)
    spent = time.perf_counter() - start
    done.set()
    clock.join()
    inside = [at for at in ticks if start < at < start + spent]
    # Of a fit that held the lock there would be no tick; ten are far below what an idle core gives.
    assert spent < 0.05 or len(inside) > 10, (spent, len(inside))


def _mean(_: int) -> float:
    return float(stats.Weightings(np.arange(50), method="bootstrap").mean(np.arange(50.0)).values[0])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks by default")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_does_not_hang() -> None:
    expected = _mean(0)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(_mean, range(4)).get(timeout=60) == [expected] * 4
