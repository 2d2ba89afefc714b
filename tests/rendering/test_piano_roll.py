import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from midinet.midi.notes import Notes
from midinet.rendering import piano_roll as pictures
from midinet.rendering.piano_roll import piano_roll, piano_roll_image
from midinet.rendering.style import COLOURS, INK

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def song(*notes):
    """Notes from (start s, end s, program or "drum", pitch), at full velocity."""
    return Notes(
        np.array([1000.0 * n[0] for n in notes]),
        np.array([1000.0 * n[1] for n in notes]),
        np.array([0 if n[2] == "drum" else n[2] for n in notes], np.uint8),
        np.array([n[3] for n in notes], np.uint8),
        np.full(len(notes), 127, np.uint8),
        np.array([n[2] == "drum" for n in notes], bool),
    )


def count(image, colour):
    """How many pixels have a colour, whatever the antialiasing at the edges does."""
    wanted = np.round(255 * np.array(to_rgb(colour)))
    return int((np.abs(image.astype(int) - wanted).max(axis=2) <= 2).sum())


PIANO = song((0, 2, 0, 60), (2, 4, 0, 64))
DUO = song((0, 2, 0, 60), (2, 4, 40, 64))
DRUMS = song((0, 0.1, "drum", 36), (1, 1.1, "drum", 38))
BAND = song((0, 2, 0, 60), (1, 1.1, "drum", 38), (2, 4, 40, 64))


def test_the_png_is_returned_and_written(tmp_path):
    png = piano_roll(BAND, tmp_path / "roll.png", title="Band")
    assert png.startswith(PNG_SIGNATURE)
    assert (tmp_path / "roll.png").read_bytes() == png


def test_the_image_is_the_png_as_an_array(tmp_path):
    image = piano_roll_image(BAND, title="Band", seed_end_ms=1500)
    piano_roll(BAND, tmp_path / "roll.png", title="Band", seed_end_ms=1500)
    read = matplotlib.image.imread(tmp_path / "roll.png")
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert np.array_equal(image, np.round(255 * read[:, :, :3]).astype(np.uint8))


def test_each_instrument_has_its_colour():
    first, second = COLOURS[:2]
    piano, duo = piano_roll_image(PIANO), piano_roll_image(DUO)
    assert count(piano, first) > 8000
    assert count(duo, first) > 4000
    assert count(duo, second) > 4000
    assert count(piano, second) == 0


def test_percussion_has_a_lane_of_its_own():
    without, drums = piano_roll_image(DUO), piano_roll_image(BAND)
    assert drums.shape[0] > without.shape[0]
    assert count(drums, pictures._DRUM_COLOUR) > 100
    assert count(without, pictures._DRUM_COLOUR) == 0


def test_seed_and_continuation_are_told_apart():
    half = count(piano_roll_image(BAND, seed_end_ms=2000), pictures._SEED_LINE)
    none = count(piano_roll_image(BAND), pictures._SEED_LINE)
    assert half > 400
    assert none == 0


def test_what_was_kept_has_an_outline_and_a_label():
    def labels(kept):
        figure = pictures._draw_roll(BAND, "", None, kept)
        return [text.get_text() for text in figure.legends[0].get_texts()]

    assert labels(()) == ["Acoustic Grand Piano", "Violin", "Percussion"]
    assert labels(("Violin", "Percussion"))[1:] == ["Violin (kept)", "Percussion (kept)"]
    outlines = [
        count(piano_roll_image(BAND, kept=kept), INK)
        for kept in ((), ("Violin",), ("Percussion",), ("Flute",))
    ]
    assert outlines[1] > outlines[0] + 100
    assert outlines[2] > outlines[0]
    assert outlines[3] == outlines[0]


def test_soft_notes_are_paler_than_loud_ones():
    soft = Notes(
        PIANO.start_ms,
        PIANO.end_ms,
        PIANO.program,
        PIANO.pitch,
        np.full(2, 20, np.uint8),
        PIANO.is_drum,
    )
    assert piano_roll_image(soft).mean() > piano_roll_image(PIANO).mean()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["l\udce9on", "音楽", "a\tb"])
def test_a_title_may_hold_what_no_font_has(name):
    assert piano_roll(PIANO, None, title=name).startswith(b"\x89PNG")


def test_a_long_title_is_broken_not_cut():
    title = " ".join(["a piece with $5 and $7 in its name"] * 12)
    image = piano_roll_image(PIANO, title=title)
    assert image.shape[0] > piano_roll_image(PIANO, title="short").shape[0]
    assert (image[:, -5:] == 255).all()


@pytest.mark.parametrize(
    "notes",
    [
        song(),
        DRUMS,
        song((0, 0, 0, 60)),
        song((0, 1, 0, 0), (0, 1, 127, 127)),
        song((0, 1, 0, 60), (40 * 3600, 40 * 3600 + 1, 1, 60)),
        song(*((0, 1, program, 30 + program // 2) for program in range(128))),
    ],
    ids=["nothing", "only drums", "a note of no length", "extremes", "40 hours", "128 instruments"],
)
def test_any_music_can_be_drawn(notes):
    height, width, _ = piano_roll_image(notes, seed_end_ms=500).shape
    assert 200 < height < 2500
    assert 1000 < width < 3000


@pytest.mark.parametrize("length_s", [0, 0.001, 0.1, 0.25, 0.261, 0.27, 0.4])
def test_even_the_shortest_note_of_a_long_piece_is_visible(length_s):
    """A pixel is a quarter of a second here."""
    image = piano_roll_image(song((0, 600, 0, 60), (300, 300 + length_s, 40, 72)))
    paint = image[: image.shape[0] - 60].astype(int)  # without the legend
    is_second = (paint[:, :, 0] > 200) & (paint[:, :, 2] < 180) & (paint[:, :, 1] > 100)
    assert is_second.sum() >= 3


@pytest.mark.parametrize(
    ("notes", "facts"),
    [
        (PIANO[:1], "0:02  ·  1 note  ·  1 instrument"),
        (BAND, "0:04  ·  3 notes  ·  3 instruments"),
        (song(), "no notes"),
    ],
)
def test_the_heading_counts_what_there_is(notes, facts):
    assert facts in [text.get_text() for text in pictures._draw_roll(notes, "", None).texts]


@pytest.mark.parametrize("length_s", [0.7, 3, 30, 600, 7200])
def test_time_has_some_ten_marks_whatever_the_length(length_s):
    axes = pictures._draw_roll(song((0, length_s, 0, 60)), "", None).axes[0]
    marks = [mark for mark in axes.get_xticks() if 0 <= mark <= axes.get_xlim()[1]]
    assert 6 <= len(marks) <= 30


def test_threads_draw_the_same_pictures():
    songs = [PIANO, DUO, DRUMS, BAND]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(piano_roll, songs)) == [piano_roll(notes) for notes in songs]


def test_neither_pyplot_nor_tensorflow_is_imported():
    code = (
        "import sys, midinet.rendering.piano_roll; "
        "sys.exit(bool({'matplotlib.pyplot', 'tensorflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
