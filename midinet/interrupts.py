"""Ctrl-C where it would be lost: while native modules are imported and while processes start."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


@contextlib.contextmanager
def ctrl_c_noted() -> Iterator[list[int]]:
    """Lets Ctrl-C do what it does, and notes it in the list that it gives."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        handler(number, frame)

    handler = _handler()
    with _handled_by(note):
        yield seen


@contextlib.contextmanager
def ctrl_c_certain() -> Iterator[None]:
    """Makes sure that Ctrl-C in the block ends in a KeyboardInterrupt.

    Native modules turn it into an ImportError while they are imported, and some Python code
    swallows it.
    """
    with ctrl_c_noted() as seen:
        try:
            yield
        except Exception as error:
            if seen:
                raise KeyboardInterrupt from error
            raise
    if seen:
        raise KeyboardInterrupt


@contextlib.contextmanager
def ctrl_c_later() -> Iterator[None]:
    """Holds Ctrl-C back until the end of the block."""
    held: list[tuple[int, FrameType | None]] = []
    handler = _handler()
    with _handled_by(lambda number, frame: held.append((number, frame))):
        yield
    if held:
        handler(*held[0])


def _handler() -> Callable[[int, FrameType | None], Any]:
    handler = signal.getsignal(signal.SIGINT)
    return handler if callable(handler) else signal.default_int_handler


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Sets the handler of Ctrl-C for the block, where that may be done and is not ignored."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
