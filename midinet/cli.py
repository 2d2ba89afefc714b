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
    import functools
    import io
    import re
    import shlex
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Any, NoReturn

    from midinet import __version__
    from midinet.errors import MidinetError, OptionError, ParametersError
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
    """An argument parser that shows defaults in its help and reports a mistake in one line.

    Args:
        description: what the script does.
        meant_by: for an option that users try but that the script lacks, what it has instead.
    """

    def __init__(
        self, description: str | None, meant_by: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        super().__init__(
            description=description,
            # Wide enough for a short option of a file beside its long name.
            formatter_class=functools.partial(_Help, max_help_position=31),
            allow_abbrev=False,
            **options,
        )
        self._meant_by = meant_by or {}
        self._arguments: list[str] = []
        self._required: list[argparse.Action] = []
        version = f"midinet {__version__}"
        self.add_argument("--version", action="version", version=version, help="show the version")

    def parse_args(  # type: ignore[override]  # none of the scripts brings a namespace
        self, args: Sequence[str] | None = None
    ) -> argparse.Namespace:
        self._arguments = sys.argv[1:] if args is None else list(args)
        self._check_names(self._arguments)
        # Checked here, because argparse would report a missing option before a word too many.
        self._required += [a for a in self._actions if a.option_strings and a.required]
        for action in self._required:
            action.required = False
        options, extra = self.parse_known_args(self._arguments)
        if extra:
            self.error(self._explain_extra(extra[0]))
        missing = [a for a in self._required if getattr(options, a.dest) is None]
        if missing:
            names = ", ".join("/".join(action.option_strings) for action in missing)
            self.error(f"the following arguments are required: {names}")
        for action in self._actions:
            # What a shell passes for an unset variable. As a path it would mean the current folder.
            if getattr(options, action.dest, None) == "":
                self.error(str(argparse.ArgumentError(action, "its value is empty")))
        return options

    def with_options_as_typed(self, message: str) -> str:
        """Writes the arguments that a message begins with as the options that the user typed.

        Example:
            >>> parser.parse_args(["-l", "0"])
            >>> parser.with_options_as_typed("length is 0: it must be at least 1 token")
            '-l is 0: it must be at least 1 token'
        """
        typed = {
            name.lstrip("-"): self._as_typed(action)
            for action in self._actions
            for name in (action.dest, *action.option_strings)
        }
        match = re.match(r"(\w+)(?: and (\w+))?(?=[ :])", message)
        if not match or match[1] not in typed:
            return message
        if match[2] in typed:
            return f"{typed[match[1]]} and {typed[match[2]]}{message[match.end() :]}"
        return typed[match[1]] + message[match.end(1) :]

    def _as_typed(self, action: argparse.Action) -> str:
        for argument in self._arguments:
            if argument.split("=")[0] in action.option_strings:
                return argument.split("=")[0]
        return action.option_strings[-1] if action.option_strings else action.dest

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

    def _explain_extra(self, word: str) -> str:
        """Says what was probably meant by an argument that argparse could not place."""
        if word in self._meant_by:
            return f"there is no option {word}: {self._meant_by[word]}"
        if word.startswith("-"):
            initial = f"-{word[:2]}"
            similar = [name for name in self._option_string_actions if name.startswith(initial)]
            hint = f": did you mean {' or '.join(similar)}?" if similar else ""
            return f"there is no option {word}{hint}"
        option = self._option_for(word)
        hint = f": did you mean {option} {shlex.quote(word)}?" if option else ""
        return f"{word} belongs to no option{hint}"

    def _option_for(self, word: str) -> str | None:
        """The option that a word is likely to be the value of, by what is found at that path."""
        from midinet.folders import Kind, is_midi_name, kind_of

        likely = {Kind.DATA_SET: "-d", Kind.MODEL: "-s", Kind.MIDI: "-i"}
        option = "--primer" if is_midi_name(word) else likely.get(kind_of(Path(word)))
        if option in self._option_string_actions:
            return option
        # A word is no number, such as the first option of train.py takes.
        return next((a.option_strings[0] for a in self._required if a.type is None), None)

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


def run(action: Callable[[], object], parser: Parser) -> int:
    """Runs the action of a script with this parser and returns the exit status.

    An error that a user can act on (a MidinetError, a file that the operating system refuses, a
    package that is not installed) becomes one line on stderr; a bug keeps its traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names may contain characters that the terminal's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    with record_sigint() as interrupts:
        try:
            action()
        except (OptionError, ParametersError) as error:
            return _fail(parser.with_options_as_typed(str(error)))
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
    tell_after_ctrl_c("interrupted")
    return EXIT_INTERRUPTED


def tell_after_ctrl_c(message: str) -> None:
    """Shows a message on a line of its own: a terminal shows ^C, perhaps behind a progress bar."""
    if sys.stderr.isatty():
        print(file=sys.stderr)
    _fail(message)


def _fail(message: str) -> int:
    print(f"midinet: {' '.join(message.split())}", file=sys.stderr)
    return EXIT_FAILURE
