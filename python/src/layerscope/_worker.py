"""A process of the program that keeps a model in memory and takes jobs as lines of JSON (`layerscope work --stdin`)."""

from __future__ import annotations

import itertools
import json
import os
import queue
import subprocess
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import IO, Any

from . import _program
from ._progress import Reporter
from .errors import Failed, Fault, of_code

__all__ = ["Worker"]

_PATIENCE = 2.0
"""Seconds that a worker has to end once it was told to."""


class _Process:
    """One process, what it says as a queue of events, and the last lines of its stderr."""

    def __init__(self) -> None:
        words, environment = _program.command()
        # A session of its own: Ctrl-C in a terminal reaches Python alone, which passes it on as a `cancel`.
        self.child = subprocess.Popen(
            [*words, "work", "--stdin"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.child.stdin and self.child.stdout and self.child.stderr
        self.jobs: IO[bytes] = self.child.stdin
        self.events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.last_words: deque[str] = deque(maxlen=20)
        self._said = threading.Thread(target=_listen, args=(self.child.stdout, self.events), daemon=True)
        self._erred = threading.Thread(target=_keep, args=(self.child.stderr, self.last_words), daemon=True)
        self._said.start()
        self._erred.start()

    def say(self, line: dict[str, Any]) -> None:
        self.jobs.write(json.dumps(line).encode() + b"\n")
        self.jobs.flush()

    def why_gone(self) -> Failed | Fault:
        """What became of a process that ended in the middle of a job."""
        code = self.child.wait()
        self._erred.join(_PATIENCE)
        last = self.last_words[-1].removeprefix("error: ") if self.last_words else "it said nothing"
        if code == Fault.code:
            return Fault(last)
        if code < 0:
            hint = " (the system may have run out of memory)" if code == -9 else ""
            return Failed(f"the worker was ended by signal {-code}{hint}; the next call starts another")
        return Failed(f"the worker ended with code {code}: {last}")


def _listen(stream: IO[bytes], events: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    with stream:
        for line in stream:
            try:
                events.put(json.loads(line))
            except ValueError:
                break
    events.put(None)


def _keep(stream: IO[bytes], lines: deque[str]) -> None:
    with stream:
        for line in stream:
            lines.append(line.decode(errors="replace").strip())


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends a process that has no job: it goes when its jobs do."""
    try:
        if child.stdin:
            child.stdin.close()
    except OSError:
        pass
    try:
        child.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


class Worker:
    """Starts a process when the first job comes, again when it died, and ends it with this object or with Python."""

    def __init__(self, progress: bool | Callable[[dict[str, Any]], object] = True) -> None:
        self.progress = progress
        self._process: _Process | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        process = self._process
        return None if process is None or process.child.poll() is not None else process.child.pid

    def _alive(self) -> _Process:
        if self._process is None or self._process.child.poll() is not None:
            self.close()
            process = _Process()
            self._process = process
            self._finalizer = weakref.finalize(self, _end, process.child)
            ready = process.events.get()
            if ready is None:
                self._process = None
                raise process.why_gone()
        return self._process

    def run(self, command: str, job: dict[str, Any]) -> dict[str, Any]:
        """Runs a job; its `done` event.

        Raises the exception of its exit code. Ctrl-C stops the job at the next place from which it can go on,
        then raises `KeyboardInterrupt`; a second one ends the process at once.
        """
        with self._lock:
            process, number, reporter = self._alive(), next(self._numbers), Reporter(self.progress)
            try:
                process.say({"id": number, "command": command, "job": job, "folder": os.getcwd()})
                return self._until_over(process, number, reporter)
            except BrokenPipeError:
                raise process.why_gone() from None
            except KeyboardInterrupt:
                raise KeyboardInterrupt(self._cancel(process, number, reporter)) from None
            finally:
                reporter.close()

    def _until_over(self, process: _Process, number: int, reporter: Reporter) -> dict[str, Any]:
        while True:
            event = process.events.get()
            if event is None:
                raise process.why_gone()
            if event["id"] != number:
                continue  # the rest of a job that a second Ctrl-C left
            if event["event"] == "done":
                return event
            if event["event"] == "error":
                raise of_code(event["code"], event["error"])
            reporter.take(event)

    def _cancel(self, process: _Process, number: int, reporter: Reporter) -> str:
        """Stops the job as the program's own Ctrl-C does; what it said to that."""
        try:
            process.say({"cancel": number})
            self._until_over(process, number, reporter)
        except KeyboardInterrupt:
            process.child.kill()
            return "the worker was ended; the next call starts another"
        except Exception as error:
            return str(error)
        return "it was done already"

    def close(self) -> None:
        """Ends the process and frees its memory. The next job starts another."""
        if self._finalizer is not None:
            self._finalizer()
        self._process = self._finalizer = None


_SHARED: Worker | None = None


def shared() -> Worker:
    """The worker of jobs that need no model, such as `report`."""
    global _SHARED
    if _SHARED is None:
        _SHARED = Worker(progress=False)
    return _SHARED
