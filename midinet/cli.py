"""What the four scripts share: parsing, running one function, turning trouble into one line."""

import sys

# Here, because the scripts import this first: anything else would be a puzzle, and so is what pip
# says. An older Python must be able to read down to this line.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        f"midinet: needs Python 3.11 or newer, and this is Python {sys.version.split()[0]}: make "
        "the virtual environment with a newer one, as in python3.11 -m venv .venv"
    )

EXIT_TROUBLE = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count it

try:
    import argparse
    import io
    import re
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from midinet.errors import MidinetError
    from midinet.interrupts import ctrl_c_noted
except KeyboardInterrupt:  # these take most of a script's start
    print("midinet: interrupted", file=sys.stderr)
    sys.exit(EXIT_INTERRUPTED)


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

    def parse_args(  # type: ignore[override]  # none of the scripts brings a namespace
        self, args: Sequence[str] | None = None
    ) -> argparse.Namespace:
        arguments = sys.argv[1:] if args is None else list(args)
        self._check_names(arguments)
        options = super().parse_args(arguments)
        for action in self._actions:
            # What a shell makes of a variable that is not set. As a path it means "here".
            if getattr(options, action.dest, None) == "":
                self.error(str(argparse.ArgumentError(action, "its value is empty")))
        return options

    def _check_names(self, arguments: list[str]) -> None:
        """Names a misspelt option itself, where argparse would miss the one that was meant."""
        import difflib  # here: the sooner a script has started, the sooner Ctrl-C is understood

        known = [name for name in self._option_string_actions if name.startswith("--")]
        for argument in arguments:
            if argument == "--":
                return
            name = argument.split("=")[0]
            if f"-{name}" in known:
                self.error(f"{name}: it is written -{name}, with two dashes")
            if re.fullmatch(r"--[A-Za-z][\w-]*", name) and name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                close = close or [option for option in known if option.startswith(name)][:1]
                hint = f": did you mean {close[0]}?" if close else ""
                self.error(f"there is no option {name}{hint}")

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


def start(main: Callable[[], int]) -> NoReturn:
    """Runs a script's main function and exits with its status; Ctrl-C may come at any moment."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before or after run
        sys.exit(_interrupted())


def run(action: Callable[[], object]) -> int:
    """Runs a script's action and returns the exit status.

    Trouble a user can act on (a MidinetError, the operating system's word on a file, a package
    that is not installed) becomes one line on stderr; a fault of midinet itself keeps its
    traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name may hold letters that the terminal, or the file written to, can't.
        sys.stdout.reconfigure(errors="backslashreplace")
    with ctrl_c_noted() as interrupts:
        try:
            action()
        except MidinetError as error:
            return _fail(str(error))
        except ImportError as error:
            if interrupts:  # what native modules make of it
                return _interrupted()
            package = (error.name or "").split(".")[0]
            if package == "midinet":
                raise
            return _fail(_import_trouble(error, package))
        except MemoryError:
            return _fail("out of memory: try a smaller batch_size, sequence_length or --num")
        except OSError as error:
            name = f"{error.filename}: " if error.filename is not None else ""
            return _fail(f"{name}{error.strerror or error}")
        except KeyboardInterrupt:
            return _interrupted()
    return 0


def _import_trouble(error: ImportError, package: str) -> str:
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
    return EXIT_TROUBLE
