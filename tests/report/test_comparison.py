import subprocess
import sys

import mido
import numpy as np
import pytest

from midinet.data.corpus import open_corpus
from midinet.data.preprocess import preprocess
from midinet.errors import CorpusError, MidiError, OptionError
from midinet.report import drawing
from midinet.report.__main__ import main
from midinet.report.comparison import COPYING, REPETITION, distance, load_music, measure, report


def write_song(path, seed, tempo=500000, drums=True):
    """A MIDI file of 20 seconds at 120 beats a minute: a random melody and a steady drum."""
    rng = np.random.default_rng(seed)
    melody = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=tempo)])
    for pitch in rng.integers(48, 84, 80):
        melody.append(mido.Message("note_on", note=int(pitch), velocity=90, time=0))
        melody.append(mido.Message("note_off", note=int(pitch), time=240))
    beat = mido.MidiTrack()
    for _ in range(40 * drums):
        beat.append(mido.Message("note_on", channel=9, note=36, velocity=90, time=0))
        beat.append(mido.Message("note_off", channel=9, note=36, time=480))
    path.parent.mkdir(parents=True, exist_ok=True)
    mido.MidiFile(tracks=[melody, beat], ticks_per_beat=480).save(path)


@pytest.fixture
def real(tmp_path):
    for seed in range(4):
        write_song(tmp_path / "real" / "songs" / f"{seed}.mid", seed)
    return tmp_path / "real"


@pytest.fixture
def composed(tmp_path):
    """Three pieces without drums at half the speed, one of them the real song 2."""
    for seed in (10, 11):
        write_song(tmp_path / "composed" / f"{seed}.mid", seed, tempo=1000000, drums=False)
    write_song(tmp_path / "composed" / "copy.MID", 2)
    return tmp_path / "composed"


def row(text, title):
    """The figures of a line of the table."""
    line = next(line for line in text.splitlines() if line.startswith(title))
    return line[len(title) :].replace("±", "").split()


def closest(text, title):
    """Which sets of three a line of the table marks as closest to the first."""
    return [figure.endswith("*") for figure in row(text, title)[-2:]]


def test_two_folders_are_compared(real, composed):
    text = report(real, composed, training=real)
    assert f"A: {real} (4 pieces, 1:20)" in text
    assert f"B: {composed} (3 pieces, 1:40)" in text
    assert row(text, "notes per second")[:2] == ["6.000", "0.000"]
    assert row(text, "notes per second")[2] == f"{(2 + 2 + 6) / 3:.3f}"
    assert row(text, "percussion share")[:3] == ["0.333", "0.000", "0.111"]
    # A never varies in this, so there is no standard deviation to measure the distance in.
    assert row(text, "percussion share")[4] == "-"
    # Real songs are compared with each other; one of three composed pieces is a copy.
    assert row(text, COPYING)[:3] == ["0.000", "0.000", "0.333"]
    # Closeness to real music counts all but the copying.
    figures = [line.split()[-1] for line in text.splitlines() if "±" in line and "mean" not in line]
    distances = [float(figure) for figure in figures[:-1] if figure != "-"]
    assert len(distances) > 5
    median = float(text.split("median distance from A: B ")[1].split()[0])
    assert median == pytest.approx(np.median(distances), abs=0.01)
    assert "*" not in "".join(figures)


def test_music_equal_to_itself_has_no_distance(real):
    assert "median distance from A: B 0.00" in report(real, real)


def test_of_several_sets_it_is_said_which_is_closest(real, composed, tmp_path):
    for seed in (20, 21):
        write_song(tmp_path / "good" / f"{seed}.mid", seed)
    text = report(real, composed, tmp_path / "good", training=real)
    assert "C: " + str(tmp_path / "good") in text
    assert closest(text, "notes per second") == [False, True]
    assert closest(text, "percussion share") == [False, True]
    # Where both are as close, none is marked, nor where less is better.
    assert row(text, "polyphony")[-2:] == ["0.00", "0.00"]
    assert closest(text, COPYING) == [False, False]
    marks = [line.count("*") for line in text.splitlines() if "±" in line]
    assert f"B {sum(closest(text, t)[0] for t in measure(load_music(real)))}, C " in text
    assert max(marks) == 1
    with pytest.raises(OptionError, match="27 sets"):
        report(*[real] * 27)


def test_held_out_songs_are_compared_with_those_trained_on(real, tmp_path):
    for seed in range(4, 12):
        write_song(real / f"{seed}.mid", seed)
    preprocess(real, tmp_path / "set", workers=1, quiet=True)
    corpus = open_corpus(tmp_path / "set")
    training, validation = corpus.split()
    for side, indices in (("quoting", training[:1]), ("new", validation[:1])):
        (tmp_path / side).mkdir()
        for i in indices:
            (tmp_path / side / "song.mid").write_bytes((real / corpus.names[i]).read_bytes())
    text = report(tmp_path / "set", tmp_path / "quoting", tmp_path / "new", held_out=True)
    songs = f"{len(validation)} piece{'s' * (len(validation) > 1)}"
    assert f"A: {tmp_path / 'set'}, held-out songs ({songs}, " in text
    assert row(text, COPYING)[:6:2] == ["0.000", "1.000", "0.000"]
    with pytest.raises(OptionError, match="held_out"):
        report(tmp_path / "set", held_out=True, training=real)
    with pytest.raises(CorpusError, match="holds no data set"):
        report(real, held_out=True)


def test_only_the_beginnings_of_pieces_are_measured_when_asked(real):
    text = report(real, seconds=5.5)
    assert "(4 pieces, 0:22)" in text
    assert row(text, "notes per second")[0] == f"{(22 + 11) / 5.5:.3f}"
    with pytest.raises(OptionError, match="seconds is 0"):
        report(real, seconds=0)


def test_one_set_is_described_without_a_difference(real):
    text = report(real)
    assert "distance" not in text
    assert len(row(text, REPETITION)) == 2
    assert COPYING not in text


def test_a_data_set_measures_as_the_files_it_was_made_from(real, tmp_path):
    preprocess(real, tmp_path / "set", workers=1, quiet=True)
    of_files, of_set = measure(load_music(real)), measure(load_music(tmp_path / "set"))
    assert of_files.keys() == of_set.keys()
    for title in of_files:
        assert sorted(of_set[title]) == pytest.approx(sorted(of_files[title]), nan_ok=True)


def write_drone(path):
    """A minute of one pitch, struck every two seconds, below a note that never ends."""
    track = mido.MidiTrack([mido.Message("note_on", note=40, velocity=90)])
    for _ in range(30):
        track.append(mido.Message("note_on", note=60, velocity=90))
        track.append(mido.Message("note_off", note=60, time=1920))
    path.parent.mkdir()
    mido.MidiFile(tracks=[track], ticks_per_beat=480).save(path)


def test_faults_and_hanging_notes_are_counted(real, tmp_path):
    write_drone(tmp_path / "drones" / "drone.mid")
    text = report(real, tmp_path / "drones")
    assert row(text, "time in notes over 4 s")[:3:2] == ["0.000", "0.500"]
    for fault in ("a single instrument", "over half of the melody on one pitch", "one pattern for"):
        line = next(line for line in text.splitlines() if f"pieces with {fault}" in line)
        assert line.endswith("A 0 of 4, B 1 of 1")
    lengths = [line.split() for line in text.splitlines() if line.endswith(("%", "octaves from A"))]
    assert lengths[0][-4:] == ["10%", "50%", "90%", "99%"]
    assert lengths[1][:3] == ["B", "2.00", "2.00"]
    assert float(lengths[1][5]) > 2  # 3 octaves from quarters of a second to two seconds


def test_a_single_file_is_a_set_of_one(real):
    assert "(1 piece, 0:20)" in report(real / "songs" / "0.mid")


def test_the_png_shows_every_metric_of_both_sets(real, composed, tmp_path, monkeypatch):
    figures = []
    write_png = drawing.write_png
    monkeypatch.setattr(
        drawing,
        "write_png",
        lambda figure, path: figures.append(figure) or write_png(figure, path),
    )
    report(real, composed, training=real, png=tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    panels = [axes for axes in figures[0].axes if axes.get_title(loc="left")]
    *panels, lengths = panels
    assert len(panels) == len(measure(load_music(real))) + 1
    assert lengths.get_title(loc="left") == "lengths of melodic notes (s)"
    # The song copied from A has notes of a quarter of a second, the two others of half a second.
    of_real, of_composed = (line.get_xdata() for line in lengths.lines)
    assert of_real == pytest.approx(np.full(201, 0.25))
    assert of_composed[[0, -1]] == pytest.approx([0.25, 0.5])
    assert [len(dots.get_offsets()) for dots in panels[0].collections[::2]] == [4, 3]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1.0, 3.0], [2.0, 4.0], 1.0),
        ([1.0, 3.0], [0.0, 2.0], 1.0),
        ([1.0, 3.0], [2.0], 1.0),  # the same mean, but it scatters less
        ([1.0, 3.0], [3.0, 1.0, 3.0, 1.0], 0.0),
        ([1.0, 3.0, np.nan], [np.nan, 2.0, 4.0], 1.0),
        ([2.0], [3.0], 1.0),
        ([np.nan], [3.0], np.nan),
    ],
)
def test_a_distance_is_the_average_way_from_one_sets_values_to_the_others(first, second, expected):
    assert distance(np.array(first), np.array(second)) == pytest.approx(expected, nan_ok=True)


def test_unreadable_and_silent_files_of_a_folder_are_left_out(real, capsys):
    (real / "broken.mid").write_bytes(b"no music")
    mido.MidiFile(tracks=[mido.MidiTrack()]).save(real / "silent.mid")
    assert len(load_music(real)) == 4
    said = capsys.readouterr().err
    assert "broken.mid" in said
    assert said.count("\n") == 1


def test_what_is_no_music_is_named(tmp_path):
    with pytest.raises(CorpusError, match="nowhere"):
        load_music(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match="no music"):
        load_music(tmp_path)
    (tmp_path / "text.mid").write_text("not music")
    with pytest.raises(MidiError, match=r"text\.mid"):
        load_music(tmp_path / "text.mid")


def test_trouble_is_one_line_and_status_1(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("midinet: ")
    assert captured.err.count("\n") == 1


def test_it_runs_as_a_module_without_tensorflow(real, tmp_path):
    code = (
        "import sys, runpy; sys.argv = ['report', *sys.argv[1:]]\n"
        "try: runpy.run_module('midinet.report', run_name='__main__')\n"
        "except SystemExit as end: sys.exit(end.code or 'tensorflow' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(real), "--png", str(tmp_path / "report.png")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "scale consistency" in done.stdout
    assert (tmp_path / "report.png").is_file()
