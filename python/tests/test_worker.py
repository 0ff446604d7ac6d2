"""The worker: what it keeps, what it refuses, how it ends."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import layerscope as ls
from layerscope import _program


def test_a_second_view_reads_no_weights(folder: Path) -> None:
    events: list[dict[str, Any]] = []
    with ls.Model(folder, threads=1, progress=events.append) as model:
        loads = []
        for _ in range(2):
            events.clear()
            model.view("Alice was beginning", layers=[0, 8])
            loads.append("loading" in [event.get("what") for event in events])
    assert loads == [True, False]


@pytest.mark.parametrize(
    ("command", "settings", "error", "line"),
    [
        ("view", {"text": ["a"], "layers": [99]}, ls.UsageError, "layers: no layer 99"),
        ("view", {"text": ["a"], "layer": [1]}, ls.UsageError, 'no setting "layer"; did you mean "layers"?'),
        ("vieew", {}, ls.UsageError, "there are"),
        ("lens eval", {"data": ["nowhere.jsonl"], "lens": ["logit"], "out": "x"}, ls.UsageError, "nowhere.jsonl"),
    ],
)  # fmt: skip
def test_errors_are_exceptions_by_code(
    model: ls.Model, command: str, settings: dict[str, object], error: type[ls.LayerscopeError], line: str
) -> None:
    with pytest.raises(error) as caught:
        model.run(command, **settings)
    assert line in str(caught.value)
    assert "--" not in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again), again.code) == (type(caught.value), str(caught.value), error.code)


def test_a_check_that_does_not_hold_is_an_exception(model: ls.Model, folder: Path, tmp_path: Path) -> None:
    other = bytearray((folder / "reference.safetensors").read_bytes())
    other[-4096:] = bytes(4096)  # the end of an activation
    (tmp_path / "reference.safetensors").write_bytes(other)
    with pytest.raises(ls.CheckFailed, match="differ"):
        model.verify(tmp_path / "reference.safetensors")


def test_every_command_is_reachable(model: ls.Model) -> None:
    """The program names its commands in its answer to one that it does not have."""
    with pytest.raises(ls.UsageError) as caught:
        model.run("no such command")
    named = str(caught.value).split("there are ")[1].split(", ")
    assert {"info", "view", "lens fit", "probe sweep", "think space", "report"} <= set(named)
    for command in named:
        with pytest.raises(ls.UsageError, match="no setting"):
            model.run(command, no_such_setting=1)


def test_ctrl_c_leaves_a_checkpoint(folder: Path, stories: Path, tmp_path: Path) -> None:
    pressed: list[bool] = []

    def press(event: dict[str, Any]) -> None:
        if event.get("what") == "fitting" and not pressed:
            pressed.append(True)
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    with ls.Model(folder, threads=1, progress=press) as model:

        def fit() -> ls.Lens:
            return model.fit(stories, tokens=6000, step_tokens=256, layers=[6, 7], out=tmp_path / "tuned")

        pid = model.n_layers and model._worker.pid
        with pytest.raises(KeyboardInterrupt, match=r"repeat|go(es)? on"):
            fit()
        assert ls.open(tmp_path / "tuned").manifest["status"] == "running"
        assert model._worker.pid == pid, "the worker and its model stay"
        assert fit().layers == [6, 7]
        assert ls.open(tmp_path / "tuned").manifest["status"] == "complete"


def test_a_dead_worker_says_so_and_another_takes_its_place(folder: Path) -> None:
    with ls.Model(folder, threads=1, progress=False) as model:
        first = model.view("Alice", layers=[8])
        pid = model._worker.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        while model._worker.pid is not None:
            time.sleep(0.01)
        assert model.view("Alice", layers=[8]).answer == first.answer
        assert model._worker.pid not in (None, pid)


def test_a_worker_killed_in_the_middle_is_an_error(folder: Path, stories: Path, tmp_path: Path) -> None:
    with ls.Model(folder, threads=1, progress=False) as model:
        assert model.n_layers == 8
        pid = model._worker.pid
        assert pid is not None
        threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
        with pytest.raises(ls.Failed, match="signal 9"):
            model.fit(stories, kind="tuned", tokens=60_000, out=tmp_path / "never")


def test_the_worker_goes_with_python(folder: Path, tmp_path: Path) -> None:
    code = f"import layerscope as ls; m = ls.Model({str(folder)!r}); m.n_layers; print(m._worker.pid)"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_relative_paths_begin_where_python_is(model: ls.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert model.n_layers == 8
    (tmp_path / "text.txt").write_text("Alice was beginning to get very tired of sitting by her sister")
    monkeypatch.chdir(tmp_path)
    acts = model.export("text.txt", layers=[0], out="acts")
    assert acts.path == tmp_path / "acts"
    assert len(acts) > 5


def test_a_model_pickles(model: ls.Model) -> None:
    again = pickle.loads(pickle.dumps(model))
    assert again.settings == model.settings


def test_warnings_name_the_callers_line(model: ls.Model) -> None:
    with pytest.warns(ls.LayerscopeWarning) as caught:
        model.view("Alice", layers=[8], dtype="f16")
    assert caught[0].filename == __file__


def test_a_script_of_that_name_is_not_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "layerscope"
    script.write_text("#!/bin/sh\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setenv("LAYERSCOPE_BIN", str(script))
    with pytest.raises(ls.Failed, match="no program is there"):
        _program.find()
    monkeypatch.delenv("LAYERSCOPE_BIN")
    monkeypatch.setattr(_program, "_BUNDLED", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ls.Failed, match="make build"):
        _program.find()


def test_python_dash_m_is_the_program() -> None:
    words = [sys.executable, "-m", "layerscope"]
    done = subprocess.run([*words, "--version"], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == f"layerscope {ls.__version__}\n"
    refused = subprocess.run([*words, "view"], stderr=subprocess.PIPE, text=True)
    assert refused.returncode == 2
