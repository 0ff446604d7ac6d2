"""What can go wrong: the program's exit codes as exceptions, with the program's own line."""

from __future__ import annotations

__all__ = [
    "CheckFailed",
    "Failed",
    "Fault",
    "Interrupted",
    "LayerscopeError",
    "LayerscopeWarning",
    "MissingLibtorch",
    "UsageError",
]


class LayerscopeWarning(UserWarning):
    """Something that a person must read, although the job goes on."""


class LayerscopeError(Exception):
    """A job did not end as it should. `code` is the exit code that the program would have ended with."""

    code: int = 1


class Failed(LayerscopeError):
    """Something went wrong on the way (exit code 1)."""


class UsageError(LayerscopeError, ValueError):
    """A setting or an input cannot be meant; nothing was done (exit code 2)."""

    code = 2


class CheckFailed(LayerscopeError):
    """What was checked does not hold: parity, another unembedding, leakage that shall be refused (exit code 3)."""

    code = 3


class Interrupted(LayerscopeError):
    """Stopped on the way; the same call goes on from there (exit code 4)."""

    code = 4


class Fault(LayerscopeError):
    """A fault of the program itself, which should be reported (exit code 70)."""

    code = 70


class MissingLibtorch(LayerscopeError):
    """The libtorch that the program runs on is not here yet; `layerscope setup` fetches it."""

    code = 2


_BY_CODE: dict[int, type[LayerscopeError]] = {
    error.code: error for error in (Failed, UsageError, CheckFailed, Interrupted, Fault)
}


def of_code(code: int, line: str) -> LayerscopeError:
    """The exception of an exit code.

    >>> of_code(2, "layers: no layer 99; this model's layers are 0 to 8")
    UsageError("layers: no layer 99; this model's layers are 0 to 8")
    """
    return _BY_CODE.get(code, Failed)(line)
