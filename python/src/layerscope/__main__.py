"""`python -m layerscope …`: the program, and `setup`, which fetches what it runs on."""

from __future__ import annotations

import os
import sys

from . import _libtorch, _program
from .errors import LayerscopeError

__all__ = ["main"]

_SETUP = "setup: fetches libtorch {version} once where no torch of that version is installed, and says where it is"


def main() -> None:
    """Runs the program in the place of this process."""
    words = sys.argv[1:]
    try:
        if words[:1] == ["setup"]:
            if words[1:]:
                print(_SETUP.format(version=_libtorch.VERSION), file=sys.stderr)
                sys.exit(0 if words[1:] in (["-h"], ["--help"]) else 2)
            print(_libtorch.setup())
            return
        program, environment = _program.command()
    except LayerscopeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.code)
    os.execve(program[0], [program[0], *words], environment)


if __name__ == "__main__":
    main()
