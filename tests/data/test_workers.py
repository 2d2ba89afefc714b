"""Work by several processes: in order, and without orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from midinet.data.workers import map_in_order
from midinet.errors import CorpusError

REPOSITORY = Path(__file__).parents[2]


def slower_first(file: Path) -> str:
    time.sleep(0.02 if int(file.stem) < 8 else 0)
    return file.stem


def die(file: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_the_files(workers):
    files = [Path(f"{number}.mid") for number in range(40)]
    assert list(map_in_order(slower_first, files, workers)) == [file.stem for file in files]


def test_a_killed_worker_is_said():
    with pytest.raises(CorpusError, match="a worker process was killed"):
        list(map_in_order(die, [Path("1"), Path("2")], 2))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")  # an orphan that nobody asked after stays as a zombie
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def test_workers_end_with_a_killed_main_process(tmp_path):
    code = """
import os, pathlib, sys, time
from midinet.data.workers import map_in_order
def work(file):
    (pathlib.Path(sys.argv[1]) / str(os.getpid())).touch()
    time.sleep(0.02)
list(map_in_order(work, [pathlib.Path(str(i)) for i in range(10_000)], 2))
"""
    main = subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=REPOSITORY)
    while len(list(tmp_path.iterdir())) < 2:
        time.sleep(0.02)
    main.kill()
    main.wait()
    workers = [int(path.name) for path in tmp_path.iterdir()]
    for _ in range(100):
        if not any(map(is_running, workers)):
            return
        time.sleep(0.1)
    pytest.fail("the workers went on without their main process")


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="only where processes are forked")
@pytest.mark.parametrize("moment", ["before", "after_in_parent"])
def test_ctrl_c_while_workers_start_is_heard(moment):
    code = f"""
import os, pathlib, signal
from midinet.data.workers import map_in_order
signal.signal(signal.SIGINT, signal.default_int_handler)
def work(file):
    return file.name
os.register_at_fork({moment}=lambda: os.kill(os.getpid(), signal.SIGINT))
try:
    list(map_in_order(work, [pathlib.Path(str(i)) for i in range(99)], 2))
    print("never heard")
except KeyboardInterrupt:
    print("interrupted")
"""
    main = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert (main.stdout, main.stderr, main.returncode) == ("interrupted\n", "", 0)
