"""What the four scripts share: parsing, running one function, turning trouble into one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from midinet.errors import MidinetError

EXIT_TROUBLE = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count it


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that say something: not that a switch is off or an option is not given."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or isinstance(action.default, bool):
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An argument parser that shows defaults in its help and ends in one line on a mistake."""

    def __init__(self, description: str | None, **options: Any) -> None:
        super().__init__(
            description=description,
            formatter_class=_Help,
            allow_abbrev=False,
            **options,
        )

    def error(self, message: str) -> NoReturn:
        self.exit(_fail(f"{message}; {self.prog} --help shows the options"))


def program_or_none(text: str) -> int | None:
    """Reads an option that is a program number or `none`."""
    if text.lower() in ("none", "null"):
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a program nor none") from None


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
