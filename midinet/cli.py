"""What the four scripts share: running one function and turning trouble into one line."""

from __future__ import annotations

import sys
from collections.abc import Callable

from midinet.errors import MidinetError

EXIT_TROUBLE = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count it


def run(action: Callable[[], object]) -> int:
    """Runs a script's action and returns the exit status.

    Trouble a user can act on (a MidinetError, the operating system's word on a file, a package
    that is not installed) becomes one line on stderr; a fault of midinet itself keeps its
    traceback.
    """
    try:
        action()
    except MidinetError as error:
        return _fail(str(error))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "midinet":
            raise
        return _fail(
            f"the package {error.name!r} is not installed: pip install -r requirements.txt"
        )
    except MemoryError:
        return _fail("out of memory: try a smaller batch_size, sequence_length or --num")
    except OSError as error:
        name = f"{error.filename}: " if error.filename is not None else ""
        return _fail(f"{name}{error.strerror or error}")
    except KeyboardInterrupt:
        _fail("interrupted")
        return EXIT_INTERRUPTED
    return 0


def _fail(message: str) -> int:
    print(f"midinet: {' '.join(message.split())}", file=sys.stderr)
    return EXIT_TROUBLE
