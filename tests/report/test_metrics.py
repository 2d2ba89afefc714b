import math

import numpy as np
import pytest

from midinet.midi.notes import Notes
from midinet.report import metrics
from midinet.report.metrics import METRICS, estimate_beat_s

DRUM = "drum"


def song(*notes):
    """Notes from (start s, length s, pitch, program or DRUM)."""
    notes = sorted(notes, key=lambda note: note[0])
    return Notes(
        np.array([1000.0 * n[0] for n in notes]),
        np.array([1000.0 * (n[0] + n[1]) for n in notes]),
        np.array([0 if n[3] == DRUM else n[3] for n in notes], np.uint8),
        np.array([n[2] for n in notes], np.uint8),
        np.full(len(notes), 100, np.uint8),
        np.array([n[3] == DRUM for n in notes], bool),
    )


def line(pitches, step_s=0.5, program=0):
    return [(i * step_s, step_s, pitch, program) for i, pitch in enumerate(pitches)]


def rhythm(*onsets_s):
    return song(*((onset, 0.1, 60, 0) for onset in onsets_s))


BEATS = [0.5 * i for i in range(64)]  # 16 bars at 120 beats a minute
HALF_BEATS_IN_ODD_BARS = [beat + 0.25 for beat in BEATS if beat % 4 >= 2]
C_MAJOR = [60, 62, 64, 65, 67, 69, 71]
TRIAD = [(0, 2, 60, 0), (0, 2, 64, 0), (0, 2, 67, 0)]
GAP = [0.0, 0.5, 1.0, 1.5, 4.0, 4.5, 5.0, 5.5]


@pytest.mark.parametrize(
    ("measure", "music", "value"),
    [
        (metrics.notes_per_second, song(*line([60] * 10, 0.5)), 2.0),
        (metrics.notes_per_second, song((100, 5, 60, 0), (100, 0.1, 38, DRUM)), 0.4),
        (metrics.polyphony, song(*TRIAD), 3.0),
        (metrics.polyphony, song(*line(C_MAJOR)), 1.0),
        (metrics.polyphony, song(*TRIAD, (5, 3, 60, 0)), (3 * 2 + 3) / 5),  # silence is left out
        (metrics.polyphony, song(*TRIAD, (0, 2, 38, DRUM)), 3.0),
        (metrics.polyphony, song(*TRIAD, (0, 2, 60, 40)), 3.0),  # two instruments, one pitch
        (metrics.num_instruments, song(*TRIAD), 1.0),
        (metrics.num_instruments, song(*TRIAD, (0, 1, 38, DRUM), (0, 1, 60, 40)), 3.0),
        (metrics.pitch_class_entropy, song(*line([48, 60, 72])), 0.0),
        (metrics.pitch_class_entropy, song(*line(range(60, 72))), math.log2(12)),
        (metrics.pitch_class_entropy, song(*line([60, 67]), (0, 1, 38, DRUM)), 1.0),
        (metrics.scale_consistency, song(*line(C_MAJOR)), 1.0),
        (metrics.scale_consistency, song(*line([p + 1 for p in C_MAJOR])), 1.0),
        (metrics.scale_consistency, song(*line([57, 59, 60, 62, 64, 65, 67])), 1.0),  # A minor
        (metrics.scale_consistency, song(*line(range(60, 72))), 7 / 12),
        (metrics.groove_consistency, rhythm(*BEATS), 1.0),
        # Every other bar has 4 more onsets at 16 positions.
        (metrics.groove_consistency, rhythm(*BEATS, *HALF_BEATS_IN_ODD_BARS), 1 - 4 / 16),
        (metrics.empty_beat_rate, song(*line([60] * 16)), 0.0),
        (metrics.empty_beat_rate, rhythm(*GAP), 4 / 12),  # 4 beats of 12 are silent
        (metrics.longest_silence_s, rhythm(*GAP), 2.4),
        (metrics.longest_silence_s, song((0, 9, 60, 0), (1, 1, 64, 0), (8, 2, 67, 0)), 0.0),
        (metrics.longest_silence_s, song((0, 60, 49, DRUM), (1, 1, 38, DRUM)), 0.9),
        (metrics.percussion_share, song(*TRIAD, (0, 1, 38, DRUM)), 0.25),
        (metrics.hanging_share, song(*TRIAD), 0.0),
        (metrics.hanging_share, song(*TRIAD, (0, 18, 40, 3)), 18 / 24),
        (metrics.hanging_share, song((0, 4, 60, 0), (0, 60, 49, DRUM)), 0.0),  # 4 s is not over 4 s
        (metrics.most_frequent_pitch_share, song(*TRIAD, (2, 1, 60, 9)), 0.5),
        (metrics.most_frequent_pitch_share, song((0, 1, 60, 0), *[(0, 1, 38, DRUM)] * 9), 1.0),
        (metrics.longest_loop_s, song(*line(range(30, 94))), 0.0),
        (metrics.longest_loop_s, song(*line([60, 64, 67, 72] * 6, 0.5)), 12.0),
        (metrics.longest_loop_s, song(*line([*range(30, 50), *[60, 64, 67, 72] * 6], 0.5)), 12.0),
        # Another instrument plays the same pitches: that is no repetition.
        (
            metrics.longest_loop_s,
            song(*line(C_MAJOR[:4]), *((t + 2, d, p, 9) for t, d, p, _ in line(C_MAJOR[:4]))),
            0.0,
        ),
        (metrics.longest_loop_s, song((0, 0.1, 38, DRUM), (30, 0.1, 38, DRUM)), 0.0),
    ],
)
def test_each_metric_is_what_its_definition_says(measure, music, value):
    assert measure(music) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("beats_a_minute", [60, 90, 97.3, 120, 140, 155.5])
def test_the_beat_is_found_from_onsets_to_a_tenth_of_a_percent(beats_a_minute):
    beat_s = 60 / beats_a_minute
    onsets = [beat_s * (i + part) for i in range(120) for part in ((0, 0.5) if i % 2 else (0,))]
    rounded = rhythm(*(round(onset, 2) for onset in onsets))
    ratio = estimate_beat_s(rounded) / beat_s
    assert min(abs(ratio - 1), abs(ratio - 0.5), abs(ratio - 2)) < 1e-3 * ratio


@pytest.mark.parametrize("notes", [song(), song((0, 0.1, 38, DRUM)), song((0, 0, 60, 0))])
def test_any_music_can_be_measured(notes):
    for metric in METRICS:
        value = metric.measure(notes)
        assert isinstance(value, float)
        assert not math.isinf(value)
        assert len(notes) or math.isnan(value)


def test_percussion_has_no_harmony():
    solo = song((0, 0.1, 38, DRUM), (1, 0.1, 36, DRUM))
    for measure in (metrics.polyphony, metrics.pitch_class_entropy, metrics.scale_consistency):
        assert math.isnan(measure(solo))


def test_neither_key_nor_silence_in_front_changes_any_metric():
    rng = np.random.default_rng(7)
    notes = [
        (float(t), 0.3, int(p), DRUM if d else 5)
        for t, p, d in zip(
            np.cumsum(rng.choice([0, 0.25, 0.5], 200)),
            rng.integers(40, 80, 200),
            rng.random(200) < 0.2,
            strict=True,
        )
    ]
    moved = [(t + 3, s, p if d == DRUM else p + 5, d) for t, s, p, d in notes]
    for metric in METRICS:
        assert metric.measure(song(*moved)) == pytest.approx(metric.measure(song(*notes)), abs=1e-9)
