"""Work on many files by several processes, with results in order."""

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
from midinet.interrupts import ctrl_c_later

_FILES_A_TASK = 8  # enough to hide the cost of passing work to a process
_TASKS_A_WORKER = 4  # under way or done and not yet taken, so that memory stays small

Result = TypeVar("Result")


def map_in_order(
    work: Callable[[Path], Result], files: list[Path], workers: int
) -> Iterator[Result]:
    """Does the work on all files and yields the results in the order of the files.

    Only a few tasks are under way at a time, so memory does not grow with the number of files.

    Args:
        work: a function that a process can be sent by name.
        files: what to work on.
        workers: processes; 1 works in this one.

    Raises:
        CorpusError: a worker process was killed.
    """
    if min(workers, len(files)) == 1:
        yield from map(work, files)
        return
    # A process that runs TensorFlow has threads, and can't be forked safely.
    can_fork = "tensorflow" not in sys.modules and hasattr(os, "fork")
    context = multiprocessing.get_context("fork" if can_fork else "spawn")
    tasks = (files[first : first + _FILES_A_TASK] for first in range(0, len(files), _FILES_A_TASK))
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_start_worker)
    under_way: collections.deque[concurrent.futures.Future[list[Result]]] = collections.deque()
    try:
        for task in tasks:
            # In between it would be lost in a hook of the fork, leave processes behind that nobody
            # ends, or show the traceback of a worker that does not ignore it yet.
            with ctrl_c_later():
                under_way.append(pool.submit(_do_task, work, task))
            if len(under_way) >= _TASKS_A_WORKER * workers:
                yield from under_way.popleft().result()
        while under_way:
            yield from under_way.popleft().result()
    except concurrent.futures.process.BrokenProcessPool as error:
        raise CorpusError(
            "a worker process was killed, perhaps for want of memory: try fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _do_task(work: Callable[[Path], Result], files: list[Path]) -> list[Result]:
    return [work(file) for file in files]


def _start_worker() -> None:
    """Leaves Ctrl-C to the main process, and ends when that is gone, even by kill -9."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def leave_with_parent() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()
