import numpy as np
import pytest

from midinet.midi.notes import Notes
from midinet.rendering.soundfont import find_bundled_soundfont, read_soundfont
from midinet.rendering.synthesizer import render
from tests.rendering.tiny_soundfont import make_soundfont

RATE = 44100


def song(*notes):
    """Notes from (start s, end s, pitch, velocity, program or "drum")."""
    return Notes(
        np.array([1000.0 * n[0] for n in notes]),
        np.array([1000.0 * n[1] for n in notes]),
        np.array([0 if n[4] == "drum" else n[4] for n in notes], np.uint8),
        np.array([n[2] for n in notes], np.uint8),
        np.array([n[3] for n in notes], np.uint8),
        np.array([n[4] == "drum" for n in notes], bool),
    )


@pytest.fixture
def play(tmp_path):
    """Renders notes with a made font whose first instrument has the zones given."""

    def make(notes, *zones, **parts):
        path = tmp_path / "tiny.sf2"
        zones = zones or ({"loop_mode": 1},)
        path.write_bytes(make_soundfont(instruments=[("one", zones)], **parts))
        return render(notes, read_soundfont(path), RATE)

    return make


def level(sound, start_s, end_s):
    """The root mean square of a stretch, of both channels."""
    return float(np.sqrt(np.mean(sound[:, int(start_s * RATE) : int(end_s * RATE)] ** 2)))


def decibels(ratio):
    return 20 * np.log10(ratio)


def frequency(sound, start_s, end_s):
    mono = sound.mean(axis=0)[int(start_s * RATE) : int(end_s * RATE)]
    spectrum = np.abs(np.fft.rfft(mono * np.hanning(len(mono)), 8 * len(mono)))
    return np.argmax(spectrum) * RATE / (8 * len(mono))


A4 = song((0, 1, 69, 127, 0))


@pytest.mark.parametrize(("pitch", "hertz"), [(69, 440), (81, 880), (57, 220), (70, 466.16)])
def test_a_note_sounds_at_its_pitch_for_as_long_as_it_lasts(pitch, hertz, play):
    sound = play(song((0.5, 1.5, pitch, 100, 0)))
    assert frequency(sound, 0.6, 1.4) == pytest.approx(hertz, abs=0.5)
    assert level(sound, 0, 0.499) == 0
    assert level(sound, 0.51, 1.49) > 0.05
    assert sound.dtype == np.float32
    assert sound.shape[1] == pytest.approx(1.52 * RATE, abs=0.02 * RATE)


def test_a_sample_without_a_loop_ends_by_itself(play):
    sound = play(A4, {})
    assert sound.shape[1] == pytest.approx(0.1 * RATE, abs=3)


def test_a_loop_until_release_plays_the_end_of_the_sample_afterwards(play):
    tone = np.rint(8000 * np.sin(2 * np.pi * 440 * np.arange(2205) / 22050)).astype("<i2")
    notes = song((0, 0.95, 69, 100, 0))
    looped = play(notes, {"loop_mode": 1, "release": 0}, samples=[tone])
    ended = play(notes, {"loop_mode": 3, "release": 0}, samples=[tone])
    assert level(ended, 0.5, 0.9) == pytest.approx(level(looped, 0.5, 0.9), rel=0.01)
    assert looped.shape[1] > 1.9 * RATE
    assert ended.shape[1] > 1.9 * RATE
    assert level(looped, 1.05, 1.1) > 0.01
    assert level(ended, 1.05, 1.1) < 1e-4


def test_velocity_follows_the_square_law(play):
    loud, soft = (play(song((0, 1, 69, v, 0))) for v in (127, 64))
    assert decibels(level(loud, 0.1, 0.9) / level(soft, 0.1, 0.9)) == pytest.approx(
        40 * np.log10(127 / 64), abs=0.05
    )


def test_attenuation_counts_two_fifths(play):
    full, less = (play(A4, {"loop_mode": 1, "attenuation": a}) for a in (0, 100))
    assert decibels(level(full, 0.1, 0.9) / level(less, 0.1, 0.9)) == pytest.approx(4, abs=0.05)


@pytest.mark.parametrize(("pan", "left", "right"), [(-500, 1, 0), (500, 0, 1), (0, 0.707, 0.707)])
def test_pan_keeps_the_power(pan, left, right, play):
    sound = play(A4, {"loop_mode": 1, "pan": pan})
    levels = np.sqrt(np.mean(sound[:, 4410:40000] ** 2, axis=1))
    whole = np.sqrt((levels**2).sum())
    assert levels / whole == pytest.approx([left, right], abs=0.002)


def test_the_volume_envelope_has_all_its_parts(play):
    zone = {"loop_mode": 1, "delay": -2786, "attack": -2786, "hold": -2786}  # 0.2 s each
    zone |= {"decay": 0, "sustain": 200, "release": 0}
    sound = play(song((0, 3, 69, 127, 0)), zone)
    assert level(sound, 0, 0.199) < 1e-6
    peak = level(sound, 0.42, 0.58)
    assert level(sound, 0.29, 0.31) == pytest.approx(peak / 2, rel=0.05)  # amplitude rises evenly
    assert decibels(level(sound, 0.69, 0.71) / peak) == pytest.approx(-9.6, abs=0.5)
    assert decibels(level(sound, 2, 2.9) / peak) == pytest.approx(-20, abs=1)
    assert decibels(level(sound, 3.24, 3.26) / peak) == pytest.approx(-20 - 24, abs=1.5)


def test_a_note_released_in_its_attack_gets_no_louder(play):
    sound = play(song((0, 0.1, 69, 127, 0)), {"loop_mode": 1, "attack": 0, "release": 0})
    assert level(sound, 0.1, 0.15) < 1.1 * level(sound, 0.08, 0.1)


def test_the_filter_takes_the_overtones(play):
    zone = {"loop_mode": 1, "sample": 1}
    bright, dull = play(A4, zone), play(A4, zone | {"cutoff": 6900})

    def overtones(sound):
        spectrum = np.abs(np.fft.rfft(sound[0, 4410:39690])) ** 2
        first = round(440 * 0.8)
        return spectrum[2 * first :].sum() / spectrum[first // 2 : 2 * first].sum()

    assert decibels(overtones(bright) ** 0.5 / overtones(dull) ** 0.5) > 12


def test_the_modulation_envelope_closes_the_filter(play):
    zone = {"loop_mode": 1, "sample": 1, "cutoff": 6900, "mod_env_to_cutoff": 6000}
    sound = play(song((0, 2, 69, 127, 0)), zone | {"mod_decay": 0, "mod_sustain": 1000})
    assert level(sound, 0.02, 0.1) > 1.3 * level(sound, 1.5, 1.9)


def test_layers_add_up(play):
    one, two = play(A4, {"loop_mode": 1}), play(A4, {"loop_mode": 1}, {"loop_mode": 1})
    assert level(two, 0.1, 0.9) == pytest.approx(2 * level(one, 0.1, 0.9), rel=0.01)


def test_an_exclusive_class_silences_the_earlier_note(play):
    notes = song((0, 3, 69, 127, "drum"), (1, 1.1, 81, 127, "drum"))
    zones = [{"loop_mode": 1, "keys": (60, 70)}, {"keys": (71, 90)}]
    free = play(notes, *zones)
    choked = play(notes, *(zone | {"exclusive_class": 1} for zone in zones))
    assert level(free, 2, 2.9) > 0.1
    assert level(choked, 0.1, 0.9) == pytest.approx(level(free, 0.1, 0.9), rel=0.01)
    assert choked.shape[1] < 2 * RATE
    assert level(choked, 1.02, 1.05) < 0.01 + level(play(notes[1:], *zones), 1.02, 1.05)


def test_notes_that_share_a_sound_are_each_as_if_alone(play):
    zone = {"loop_mode": 1, "attack": -2786, "release": -2786, "cutoff": 8000}
    notes = [(0, 1, 69, 100, 0), (1.5, 1.6, 69, 50, 0), (1.2, 4, 69, 127, 0)]
    together = play(song(*notes), zone)
    apart = np.zeros_like(together)
    for note in notes:
        alone = play(song(note), zone)
        apart[:, : alone.shape[1]] += alone
    assert np.abs(together - apart).max() < 1e-3


def test_vibrato_changes_the_pitch_but_not_on_average(play):
    straight, wobbling = (play(A4, {"loop_mode": 1, "vibrato": v}) for v in (0, 100))
    assert np.abs(straight - wobbling).max() > 0.1
    mono = wobbling[0, :RATE]
    assert (np.diff(np.sign(mono)) != 0).sum() == pytest.approx(880, abs=6)


def test_nothing_and_what_the_font_lacks_is_silence(play):
    assert not play(song()).any()
    assert not play(song((0, 1, 69, 100, "drum")), presets=[(0, 0, 0)]).any()
    assert not play(song((0, 1, 20, 100, 0)), {"keys": (60, 127)}).any()


def test_the_bundled_font_plays_every_instrument():
    font = read_soundfont(find_bundled_soundfont())
    for program in range(128):
        sound = render(song((0, 0.5, 60, 100, program)), font, 22050)
        assert np.isfinite(sound).all()
        assert 0.001 < np.abs(sound).max() < 4, program
    for key in range(35, 82):
        assert np.abs(render(song((0, 0.1, key, 100, "drum")), font, 22050)).max() > 0.001
