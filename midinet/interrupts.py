"""Keeps Ctrl-C from being lost while native modules are imported and while processes start."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


@contextlib.contextmanager
def record_sigint() -> Iterator[list[int]]:
    """Leaves Ctrl-C its effect, and appends each signal number to the list that is yielded."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        handler(number, frame)

    handler = _handler()
    with _handled_by(note):
        yield seen


@contextlib.contextmanager
def ensure_keyboard_interrupt() -> Iterator[None]:
    """Makes sure that Ctrl-C in the block raises KeyboardInterrupt.

    While native modules are imported they turn it into an ImportError, and some Python code
    suppresses it.
    """
    with record_sigint() as seen:
        try:
            yield
        except Exception as error:
            if seen:
                raise KeyboardInterrupt from error
            raise
    if seen:
        raise KeyboardInterrupt


@contextlib.contextmanager
def defer_sigint() -> Iterator[None]:
    """Delays the effect of Ctrl-C until the end of the block."""
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
    """Sets the handler of SIGINT for the block, in the main thread and unless it is ignored."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
