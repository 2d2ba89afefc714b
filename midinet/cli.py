"""What the four scripts share: option parsing, and errors that end in one clear line."""

import sys

# The scripts import this module first. Checked here, an old Python is named; otherwise the user
# would see a puzzling SyntaxError. So an old Python must be able to compile this whole file.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        f"midinet: needs Python 3.11 or newer, and this is Python {sys.version.split()[0]}: make "
        "the virtual environment with a newer one, as in python3.11 -m venv .venv"
    )

EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count it

try:
    import argparse
    import io
    import re
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, NoReturn

    from midinet.errors import MidinetError
    from midinet.interrupts import record_sigint
except KeyboardInterrupt:  # most of a script's start is spent here
    print("midinet: interrupted", file=sys.stderr)
    sys.exit(EXIT_INTERRUPTED)


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Leaves out defaults that tell nothing: switches that are off and options without a value."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or isinstance(action.default, bool):
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An argument parser that shows defaults in its help and reports a mistake in one line."""

    def __init__(self, description: str | None, **options: Any) -> None:
        super().__init__(
            description=description,
            formatter_class=_Help,
            allow_abbrev=False,
            **options,
        )

    def parse_args(  # type: ignore[override]  # none of the scripts brings a namespace
        self, args: Sequence[str] | None = None
    ) -> argparse.Namespace:
        arguments = sys.argv[1:] if args is None else list(args)
        self._check_names(arguments)
        options = super().parse_args(arguments)
        for action in self._actions:
            # What a shell passes for an unset variable. As a path it would mean the current folder.
            if getattr(options, action.dest, None) == "":
                self.error(str(argparse.ArgumentError(action, "its value is empty")))
        return options

    def _check_names(self, arguments: list[str]) -> None:
        """Reports a misspelt option and suggests the right one, which argparse does not."""
        known = [name for name in self._option_string_actions if name.startswith("--")]
        for argument in arguments:
            if argument == "--":
                return
            name = argument.split("=")[0]
            if f"-{name}" in known:
                self.error(f"{name}: it is written -{name}, with two dashes")
            if re.fullmatch(r"--[A-Za-z][\w-]*", name) and name not in known:
                longer = [option for option in known if option.startswith(name)]
                hint = did_you_mean(name, longer, cutoff=0) or did_you_mean(name, known)
                self.error(f"there is no option {name}{hint and ': ' + hint}")

    def error(self, message: str) -> NoReturn:
        self.exit(_fail(f"{message}; {self.prog} --help shows the options"))


def did_you_mean(wanted: str, known: Iterable[str], max_names: int = 1, cutoff: float = 0.6) -> str:
    """Asks for the known names most similar to a misspelt one, ignoring case; "" if there is none.

    Example:
        >>> did_you_mean("pian", ["Piano", "Flute"])
        'did you mean Piano?'
    """
    import difflib  # here: the sooner a script has started, the sooner it understands Ctrl-C

    by_lower_case = {name.lower(): name for name in known}
    close = difflib.get_close_matches(wanted.lower(), by_lower_case, max_names, cutoff)
    return f"did you mean {' or '.join(by_lower_case[name] for name in close)}?" if close else ""


def program_or_none(text: str) -> int | None:
    """Reads an option that is a program number or `none`."""
    if text.lower() in ("none", "null"):
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a program nor none") from None


def start(main: Callable[[], int]) -> NoReturn:
    """Runs a script's main function and exits with its status, also when Ctrl-C interrupts it."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # outside of run
        sys.exit(_interrupted())


def run(action: Callable[[], object]) -> int:
    """Runs a script's action and returns the exit status.

    An error that a user can act on (a MidinetError, a file that the operating system refuses, a
    package that is not installed) becomes one line on stderr; a bug keeps its traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names may contain characters that the terminal's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    with record_sigint() as interrupts:
        try:
            action()
        except MidinetError as error:
            return _fail(str(error))
        except ImportError as error:
            if interrupts:  # native modules turn Ctrl-C into an ImportError
                return _interrupted()
            package = (error.name or "").split(".")[0]
            if package == "midinet":
                raise
            return _fail(_import_failure(error, package))
        except MemoryError:
            return _fail("out of memory: try a smaller batch_size, sequence_length or --num")
        except OSError as error:
            name = f"{error.filename}: " if error.filename is not None else ""
            return _fail(f"{name}{error.strerror or error}")
        except KeyboardInterrupt:
            return _interrupted()
    return 0


def _import_failure(error: ImportError, package: str) -> str:
    if isinstance(error, ModuleNotFoundError) and package:
        return f"the package {package!r} is not installed: pip install -r requirements.txt"
    reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
    return (
        f"a package can't be loaded ({reason}): pip install --force-reinstall -r requirements.txt"
    )


def _interrupted() -> int:
    _fail("interrupted")
    return EXIT_INTERRUPTED


def _fail(message: str) -> int:
    print(f"midinet: {' '.join(message.split())}", file=sys.stderr)
    return EXIT_FAILURE
