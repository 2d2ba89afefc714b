"""Calls a function on many files in several processes; results come in the order of the files."""

from __future__ import annotations

import collections
import concurrent.futures
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from midinet.errors import CorpusError
from midinet.interrupts import defer_sigint

_FILES_PER_TASK = 8  # enough to make the cost of passing a task to a process negligible
_TASKS_PER_WORKER = 4  # pending at a time; a bound, so that unread results do not fill the memory

Result = TypeVar("Result")


def map_in_order(
    work: Callable[[Path], Result], files: list[Path], workers: int
) -> Iterator[Result]:
    """Yields `work(file)` for each file, in the order of the files.

    Only a few tasks are pending at a time, so memory does not grow with the number of files.

    Args:
        work: a picklable function.
        files: the arguments of its calls.
        workers: number of worker processes; with 1 the calls run in this process.

    Raises:
        CorpusError: a worker process was killed.
    """
    if min(workers, len(files)) == 1:
        yield from map(work, files)
        return
    # TensorFlow starts threads, and a process with threads can't be forked safely.
    can_fork = "tensorflow" not in sys.modules and hasattr(os, "fork")
    context = multiprocessing.get_context("fork" if can_fork else "spawn")
    tasks = (
        files[first : first + _FILES_PER_TASK] for first in range(0, len(files), _FILES_PER_TASK)
    )
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_start_worker)
    pending: collections.deque[concurrent.futures.Future[list[Result]]] = collections.deque()
    try:
        for task in tasks:
            # `submit` may start a process. Ctrl-C at that moment could be swallowed by a hook of
            # the fork, leave a process that nobody ends, or print the traceback of a worker that
            # does not ignore the signal yet.
            with defer_sigint():
                pending.append(pool.submit(_do_task, work, task))
            if len(pending) >= _TASKS_PER_WORKER * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    except concurrent.futures.process.BrokenProcessPool as error:
        raise CorpusError(
            "a worker process was killed, perhaps because memory ran out: try fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _do_task(work: Callable[[Path], Result], files: list[Path]) -> list[Result]:
    return [work(file) for file in files]


def _start_worker() -> None:
    """Ignores Ctrl-C, which the main process handles, and exits when that process has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def exit_with_parent() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()
