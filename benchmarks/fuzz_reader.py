"""Feeds the reader damaged files: python benchmarks/fuzz_reader.py FOLDER [--mutants 100000]

Prints, for each kind of damage, how many mutants were read and how many refused, the slowest,
and the largest memory peak as a multiple of the file's size (measured on every hundredth).
Anything but MidiError, and notes that make no sense, stop it with exit status 1.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from midinet.codec.encoding import encode
from midinet.errors import MidiError
from midinet.midi.reader import read_midi
from tests.midi.mutations import faults, mutants


def main() -> int:
    parser = argparse.ArgumentParser(description="Feed the reader damaged files.")
    parser.add_argument("folder", type=Path, help="folder with MIDI files, read with subfolders")
    parser.add_argument("--mutants", type=int, default=100_000, help="how many (default: 100000)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other mutants")
    args = parser.parse_args()
    files = [path.read_bytes() for path in sorted(args.folder.rglob("*.mid"))]
    if not files:
        parser.error(f"{args.folder} holds no .mid files")

    read, refused = defaultdict(int), defaultdict(int)
    slowest, memory = defaultdict(float), defaultdict(float)
    for number, (kind, data) in enumerate(mutants(files, args.mutants, args.seed)):
        measures_memory = number // 14 % 100 == 0  # every kind in turn
        if measures_memory:
            tracemalloc.start()
        begin = time.perf_counter()
        try:
            notes = read_midi(data)
            wrong = faults(notes)
            read[kind] += 1
        except MidiError:
            notes, wrong = None, []
            refused[kind] += 1
        except Exception as error:
            wrong = [repr(error)]
        if measures_memory:
            peak = tracemalloc.get_traced_memory()[1] / max(len(data), 1 << 16)
            memory[kind] = max(memory[kind], peak)
            tracemalloc.stop()
        else:
            slowest[kind] = max(slowest[kind], time.perf_counter() - begin)
        if wrong:
            Path("mutant.mid").write_bytes(data)
            print(f"mutant {number} ({kind}): {wrong}; kept as mutant.mid", file=sys.stderr)
            return 1
        if notes is not None:
            encode(notes)

    print(f"{'damage':<20}{'read':>8}{'refused':>9}{'slowest':>12}{'peak memory':>24}")
    for kind in read | refused:
        print(
            f"{kind:<20}{read[kind]:>8}{refused[kind]:>9}{1000 * slowest[kind]:>9.0f} ms"
            f"{memory[kind]:>10.0f} x max(size, 64 KB)"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
