"""How fast MIDI files become a data set: python benchmarks/preprocess.py FOLDER [--copies N ...]

Reading plus encoding against `list(mido.MidiFile(path))` on the same files in one process, by
processor time, both in turn five times, the median; then the whole of preprocess.py with one and
two processes, and its memory over more and more files (copies with one note more, all different).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

import mido  # noqa: E402
import numpy as np  # noqa: E402

from midinet import encode, read_midi  # noqa: E402
from tests.midi.midi_bytes import chunk, event  # noqa: E402

ROUNDS = 5
SMALL_SET = 1000  # copies
LAKH = {"Lakh clean": (17_000, 900e6), "Lakh full": (178_561, 178_561 * 900e6 / 17_000)}

PREPROCESS = """
import json, resource, sys, time
import midinet
begin = time.perf_counter()
midinet.preprocess(sys.argv[1], sys.argv[2], workers=int(sys.argv[3]), quiet=True)
seconds = time.perf_counter() - begin
own, child = (resource.getrusage(who).ru_maxrss / 1024
              for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps({"s": seconds, "main_mb": own, "worker_mb": child}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure how fast MIDI files become a data set.")
    parser.add_argument("folder", type=Path, help="folder with MIDI files, read with subfolders")
    parser.add_argument("--files", type=int, default=40, help="files for mido (default: 40)")
    parser.add_argument(
        "--copies", type=int, nargs="*", default=[SMALL_SET], help="sizes of data sets to make"
    )
    args = parser.parse_args()
    paths = sorted(args.folder.rglob("*.mid"))
    if not paths:
        parser.error(f"{args.folder} holds no .mid files")
    against_mido(paths[:: max(1, len(paths) // args.files)])
    start_up()
    for copies in args.copies:
        whole(paths, copies)
    return 0


def cpu_seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def against_mido(paths: list[Path]) -> None:
    """Prints the times of mido, of the reader and of the encoder, per file, and their ratios."""
    works: dict[str, Callable[[Path], object]] = {
        "mido": lambda path: list(mido.MidiFile(path, clip=True)),
        "read": read_midi,
        "encode": lambda path: encode(songs[path]),
    }
    songs = {path: read_midi(path) for path in paths}  # so that every file is in memory
    rounds = [
        {name: [cpu_seconds(partial(work, path)) for path in paths] for name, work in works.items()}
        for _ in range(ROUNDS)
    ]
    median = {name: np.median([times[name] for times in rounds], axis=0) for name in works}
    size = sum(path.stat().st_size for path in paths) / len(paths)
    count = sum(len(song) for song in songs.values()) / len(paths)
    print(f"{len(paths)} files of {size / 1000:.0f} KB and {count:,.0f} notes on average")
    for name, seconds in median.items():
        print(f"{name:<28}{1000 * seconds.mean():>10.2f} ms a file")
    both = median["read"] + median["encode"]
    print(f"{'read + encode':<28}{1000 * both.mean():>10.2f} ms a file")
    print(f"{'times as fast as mido':<28}{median['mido'].sum() / both.sum():>10.1f} in all")
    least, middle, most = np.quantile(median["mido"] / both, (0, 0.5, 1))
    print(f"{'':<28}{middle:>10.1f} median of the files, {least:.1f} least, {most:.1f} most")


def start_up() -> None:
    """Prints how long the package and the script take to start."""
    for name, arguments in {
        "import midinet": ["-c", "import midinet"],
        "preprocess.py --help": ["preprocess.py", "--help"],
    }.items():
        times = []
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            subprocess.run(
                [sys.executable, *arguments], cwd=REPOSITORY, check=True, capture_output=True
            )
            times.append(time.perf_counter() - begin)
        print(f"{name:<28}{statistics.median(times):>10.2f} s")


def whole(paths: list[Path], copies: int) -> None:
    """Prints time and memory of preprocess over some number of files, and what Lakh would take."""
    with tempfile.TemporaryDirectory() as scratch:
        music, size = Path(scratch) / "music", 0
        music.mkdir()
        for number in range(copies):
            data = paths[number % len(paths)].read_bytes()
            # One note more, at another time for each copy: equal songs would be dropped.
            extra = event(number * 30, 0x90, number % 128, 64) + event(30, number % 128, 0)
            data += chunk(extra)
            (music / f"{number:06}.mid").write_bytes(data)
            size += len(data)
        seconds = {}
        for workers in (1, 2):
            output = str(Path(scratch) / f"data{workers}")
            command = [sys.executable, "-c", PREPROCESS, str(music), output, str(workers)]
            done = subprocess.run(
                command, cwd=REPOSITORY, check=True, capture_output=True, text=True
            )
            result = json.loads(done.stdout.splitlines()[-1])
            seconds[workers] = result["s"]
            print(
                f"preprocess, {copies:,} files, {workers} process{'es' if workers > 1 else '':<4}"
                f"{result['s']:>8.1f} s{copies / result['s']:>8.0f} files/s"
                f"{size / 1e6 / result['s']:>8.1f} MB/s"
                f"{result['main_mb']:>8.0f} MB main{result['worker_mb']:>6.0f} MB a worker"
            )
    print(f"two processes: {seconds[1] / seconds[2] / 2:.2f} of linear")
    for name, (_, bytes_) in LAKH.items():
        print(f"{name} ({bytes_ / 1e9:.1f} GB) at that: {bytes_ / size * seconds[2] / 60:.1f} min")


if __name__ == "__main__":
    sys.exit(main())
