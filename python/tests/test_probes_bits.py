"""The Python package gives the numbers of the Rust library to the last bit, whatever the layout of the rows and the threads.

The library's own numbers come from `probes/examples/fitted_bits.rs`, run on this machine: bits differ between kinds of
processors.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerscope import probes, stats

ROOT = Path(__file__).resolve().parents[2]
Bits = dict[str, Any]


@pytest.fixture(scope="session")
def library() -> Bits:
    """What the library says of the golden rows."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    built = target / "release" / "examples" / "fitted_bits"
    run = [str(built)] if built.is_file() else ["cargo", "run", "--release", "-q", "-p", "layerscope-probes"]
    run = run if built.is_file() else [*run, "--example", "fitted_bits"]
    found: Bits = json.loads(subprocess.run(run, cwd=ROOT, check=True, capture_output=True).stdout)
    return found


@pytest.fixture(scope="session")
def golden() -> Bits:
    found: Bits = json.loads((ROOT / "fixtures/probes/golden.json").read_text())
    return found


class Rows:
    """Golden rows as the example has them."""

    def __init__(self, golden: Bits, name: str) -> None:
        self.x = np.array(golden["x"][name], dtype=np.float32)
        self.y = np.array(golden["classes"][name])
        self.two = np.minimum(self.y, 1)
        self.groups = np.arange(len(self.y)) // 3
        self.numbers = self.x[:, :2].astype(np.float64) ** 2


@pytest.fixture(params=["many", "few"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rows(golden: Bits, name: str) -> Rows:
    return Rows(golden, name)


def fits(of: Rows) -> Bits:
    """The same fits as in the example."""
    logistic = probes.LogisticRegression()
    lda = probes.LinearDiscriminantAnalysis
    return {
        "logistic": logistic.fit(of.x, of.y),
        "logistic two": probes.LogisticRegression(balanced=True).fit(of.x, of.two),
        "logistic path": probes.LogisticRegression().path(of.x, of.y, [0.1, 10.0]),
        "ridge": probes.Ridge().fit(of.x, of.numbers),
        "ridge classes": probes.RidgeClassifier(l2=10.0, standardise=False).fit(of.x, of.y),
        "lda": lda().fit(of.x, of.y),
        "lda fixed": lda(shrinkage=0.1, standardise=False).fit(of.x, of.y),
        "mean difference": probes.MassMean().fit(of.x, of.two),
        "centroid": probes.NearestCentroid(standardise=True).fit(of.x, of.y),
    }


def same(probe: Any, expected: Any, x: Any) -> None:
    if isinstance(expected, list):
        for one, other in zip(probe, expected, strict=True):
            same(one, other, x)
        return
    np.testing.assert_array_equal(probe.coef_, expected["coef"])
    np.testing.assert_array_equal(probe.intercept_, expected["intercept"])
    np.testing.assert_array_equal(probe.scores(x), expected["scores"])


def test_every_fit(library: Bits, rows: Rows, name: str) -> None:
    expected = library[name]["fits"]
    found = fits(rows)
    assert found.keys() == expected.keys()
    for kind, probe in found.items():
        same(probe, expected[kind], rows.x)


@pytest.mark.parametrize("layout", ["fortran", "strided", "backwards", "float64", "list"])
def test_layout_changes_no_bit(library: Bits, rows: Rows, name: str, layout: str) -> None:
    wide = np.repeat(rows.x, 2, axis=1)
    x: Any = {
        "fortran": np.asfortranarray(rows.x),
        "strided": wide[:, ::2],
        "backwards": rows.x[::-1].copy()[::-1],
        "float64": rows.x.astype(np.float64),
        "list": rows.x.tolist(),
    }[layout]
    expected = library[name]["fits"]
    same(probes.LogisticRegression().fit(x, rows.y), expected["logistic"], x)
    same(probes.LinearDiscriminantAnalysis().fit(x, rows.y), expected["lda"], x)


def test_threads_change_no_bit(library: Bits, rows: Rows, name: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: fits(rows), range(8)):
            for kind, probe in found.items():
                same(probe, library[name]["fits"][kind], rows.x)


def test_directions_of_pairs(library: Bits, rows: Rows, name: str) -> None:
    half = rows.x.shape[1] // 2
    positive, negative = rows.x[:, :half], rows.x[:, half:]
    kinds = [probes.CCS(restarts=3, steps=50, seed=1), probes.CRC()]
    for probe, expected in zip(kinds, library[name]["pairs"], strict=True):
        probe.fit(positive, negative)
        assert probe.loss_ == expected["loss"]
        assert probe.orient(positive, negative, rows.y > 0) == expected["accuracy"]
        np.testing.assert_array_equal(probe.scores(positive, negative), expected["scores"])
        np.testing.assert_array_equal(probe.coef_[:1], expected["weights"])


def test_splits_and_draws(library: Bits, rows: Rows, name: str) -> None:
    expected = library[name]["draws"]
    split = probes.split(rows.y, rows.groups, seed=3)
    for part, of in zip(split, expected["split"], strict=True):
        assert part.tolist() == of
    assert [test.tolist() for _, test in probes.folds(rows.y, rows.groups, 4, seed=5)] == expected["folds"]
    permutations = probes.Permutations(rows.y, rows.groups, seed=7)
    assert (permutations.rows(2).tolist(), permutations.exchange) == (expected["permuted"], expected["exchange"])
    control = probes.ControlTask(rows.y, seed=2, draw=1).labels(rows.groups)
    assert control.tolist() == expected["control"]
    assert probes.shuffled_labels(rows.y, rows.groups, seed=4, draw=1).tolist() == expected["shuffled"]
    assert stats.poisson_weights([11], seed=6, replicates=9)[0].tolist() == expected["resamples"]


def test_codes(library: Bits, rows: Rows, name: str) -> None:
    expected = library[name]["code"]
    how: dict[str, Any] = {"l2": [1.0, 100.0], "seed": 8}
    code = probes.online_code(rows.x, rows.y, rows.groups, order=1, **how)
    np.testing.assert_array_equal(code.bits, expected["bits"])
    assert code.uniform_rows == expected["uniform_rows"]
    shuffled = probes.shuffled_codes(rows.x, rows.y, rows.groups, orders=2, **how)
    np.testing.assert_array_equal([code.bits for code in shuffled], expected["shuffled"])


def statistics(of: Rows) -> Bits:
    probe = probes.LinearDiscriminantAnalysis().fit(of.x, of.y)
    found = {}
    for method in ("jackknife", "bootstrap"):
        weightings = stats.Weightings(of.groups, method=method, seed=9, replicates=200)
        draws = probe.metrics(of.x, of.y, weightings)
        accuracy, nll = draws["accuracy"], draws["nll"]
        best, over = stats.best([accuracy, -nll]), stats.over_draws([accuracy, nll])
        found[method] = {
            "metrics": {name: ends(of) for name, of in draws.items()},
            "difference": ends(accuracy - nll),
            "over": ends(over)[:3],
            "best": [best.place],
            "corrected": ends(best.corrected)[:3],
        }
    return found


def ends(of: Any) -> list[Any]:
    found = of.estimate() if isinstance(of, stats.Draws) else of
    return [found.estimate, found.lower, found.upper, found.n_eff]


def test_statistics(library: Bits, rows: Rows, name: str) -> None:
    assert json.loads(json.dumps(statistics(rows))) == library[name]["statistics"]


def test_the_law(library: Bits, rows: Rows, name: str) -> None:
    expected, half = library[name]["law"], len(rows.x) // 2
    x, y = rows.x, rows.numbers
    found = probes.prediction_residual(x[:half], y[:half], x[half:], y[half:])
    np.testing.assert_array_equal(found.in_sample, expected["in_sample"])
    np.testing.assert_array_equal(found.held_out, expected["held_out"])
    assert found.rank == expected["rank"]
    line = probes.decay([1, 2, 4], [0.9, 0.5, 0.2])
    assert list(vars(line).values()) == expected["decay"]


@pytest.mark.parametrize("threads", ["1", "3"])
def test_the_number_of_threads_changes_no_bit(library: Bits, threads: str) -> None:
    code = (
        "import json, sys; sys.path[:0] = [sys.argv[1]]; import test_probes_bits as t;"
        "golden = json.loads((t.ROOT / 'fixtures/probes/golden.json').read_text());"
        "print(json.dumps(t.statistics(t.Rows(golden, 'many'))))"
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONPATH": paths}
    run = [sys.executable, "-c", code, str(Path(__file__).parent)]
    out = subprocess.run(run, check=True, capture_output=True, env=environment).stdout
    assert json.loads(out) == library["many"]["statistics"]
