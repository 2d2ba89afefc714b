"""The tempo of a piece: which beats a model hears, and which its file says."""

import mido
import numpy as np
import pytest

from midinet.backend import keras
from midinet.codec.encoding import encode
from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import TIME_SHIFT
from midinet.errors import OptionError
from midinet.generation.beats import Beats, pulse_at
from midinet.generation.generate import generate
from midinet.generation.prompts import Prompt, open_primer
from midinet.generation.tempo import choose_metronome, continue_in, parse_bpm, with_beats
from midinet.midi.notes import Notes
from midinet.midi.reader import read_midi
from midinet.midi.tempo_map import TempoMap
from midinet.model.music_state import NO_TICK
from midinet.model.music_transformer import build_model, save_model
from midinet.model.parameters import Parameters

NOTHING = Prompt(np.empty(0, np.uint16), "")
TEMPI = [80.0, 95.5, 133.33, 171.0]
# Two seconds at 90 bpm, and then 120 bpm.
TWO_TEMPOS = TempoMap(
    np.array([0.0, 2000.0]), np.array([0.0, 3.0]), np.array([60e6 / 90, 5e5]), ((0.0, 3, 4),)
)


def seed_of(length_ms, tempo_map, grid_share=1.0):
    """A prompt that ends at a time, with a note there."""
    shifts = [TIME_SHIFT.end - 1] * (length_ms // 1000)
    rest = length_ms % 1000 // 10
    shifts += [TIME_SHIFT.first + rest - 1] if rest else []
    tokens = np.array([276, 60, *shifts, 62], np.uint16)
    return Prompt(tokens, "seed.mid", tempo_map, grid_share)


def notes_at(*start_ms):
    ones = np.ones(len(start_ms), np.uint8)
    start = np.array(start_ms, np.float64)
    return Notes(start, start + 100, 0 * ones, 60 * ones, 80 * ones, ones == 0)


@pytest.mark.parametrize(
    ("text", "expected"), [(None, None), ("None", "none"), ("96.5", 96.5), (140, 140.0)]
)
def test_a_tempo_is_a_number_or_none(text, expected):
    assert parse_bpm(text) == expected


@pytest.mark.parametrize("text", ["fast", "9", "1001", "nan", -3, "", "inf"])
def test_other_tempos_are_refused(text):
    with pytest.raises(OptionError, match=r"bpm is .*10 to 1000 quarter notes per minute, or none"):
        parse_bpm(text)


def test_a_piece_from_nothing_has_the_tempo_of_a_training_song():
    drawn = [choose_metronome(None, NOTHING, TEMPI, seed) for seed in range(40)]
    tempi = [60e6 / tempo_map.us_per_beat[0] for tempo_map in drawn]
    assert {round(tempo, 2) for tempo in tempi} == set(TEMPI)
    again = choose_metronome(None, NOTHING, TEMPI, 7)
    assert again.us_per_beat == drawn[7].us_per_beat
    assert choose_metronome(None, NOTHING, [], 7) is None
    assert choose_metronome(None, NOTHING, [5.0, 2000.0], 7) is None  # beyond what bpm may be
    assert choose_metronome("none", NOTHING, TEMPI, 7) is None
    assert choose_metronome(140.0, NOTHING, TEMPI, 7).us_per_beat == pytest.approx(60e6 / 140)


def test_a_seed_keeps_its_beats_and_its_last_tempo():
    before = choose_metronome(None, seed_of(1500, TWO_TEMPOS), TEMPI, 7)
    assert before.beats_at(np.array([1000.0, 4000.0])).tolist() == [1.5, 6.0]  # 90 bpm all along
    after = choose_metronome(None, seed_of(3000, TWO_TEMPOS), TEMPI, 7)
    assert after.beats_at(np.array([1000.0, 4000.0])).tolist() == [1.5, 7.0]
    assert after.time_signatures == ((0.0, 3, 4),)


def test_a_seed_goes_on_in_the_tempo_that_is_asked_for():
    metronome = choose_metronome(60.0, seed_of(1000, TWO_TEMPOS), TEMPI, 7)
    assert metronome.beats_at(np.array([500.0, 1000.0, 3000.0])).tolist() == [0.75, 1.5, 3.5]


def test_a_seed_off_its_grid_has_no_metronome_unless_one_is_asked_for():
    for seed in (seed_of(1000, TWO_TEMPOS, 0.79), seed_of(1000, None)):
        assert choose_metronome(None, seed, TEMPI, 7) is None
        assert choose_metronome(60.0, seed, TEMPI, 7).beats_at(np.array([2000.0])) == [2.0]
    assert choose_metronome("none", seed_of(1000, TWO_TEMPOS), TEMPI, 7) is None


def test_a_primer_brings_its_beats_in_the_time_of_its_tokens(tmp_path):
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=400_000)])
    track.append(mido.Message("note_on", note=60, velocity=80, time=480 * 4 + 240))
    track.append(mido.Message("note_off", note=60, time=480))
    mido.MidiFile(ticks_per_beat=480, tracks=[track]).save(tmp_path / "a.mid")
    prompt = open_primer(tmp_path / "a.mid", CodecSettings())
    assert prompt.grid_share == 1.0
    np.testing.assert_allclose(prompt.tempo_map.beats_at(np.array([0.0, 400.0])), [4.5, 5.5])


@pytest.mark.parametrize(
    ("signature", "end_ms", "pause_ms", "signatures"),
    [
        # After 7.5 s at 120 bpm 15 beats have passed: three beats are left of the fourth bar.
        ((0.0, 4, 4), 7500, 0, ((15, 1, 4), (16, 4, 4))),
        ((0.0, 4, 4), 8000, 0, ((16, 4, 4),)),
        ((0.0, 3, 4), 7500, 0, ((15, 3, 4),)),
        ((0.0, 3, 4), 8000, 0, ((16, 2, 4), (18, 3, 4))),
        ((0.0, 6, 8), 7750, 250, ((15, 6, 8),)),
        ((0.0, 7, 8), 7990, 490, ((15, 7, 8),)),  # a bar of 3.5 beats has no lines on whole beats
        (None, 7760, 260, ((15, 1, 4), (16, 4, 4))),
    ],
)
def test_a_piece_without_its_seed_begins_with_a_beat(signature, end_ms, pause_ms, signatures):
    tempo_map = TempoMap.constant(120)._replace(time_signatures=(signature,) if signature else ())
    prompt = seed_of(end_ms, tempo_map)
    notes = with_beats(notes_at(0, 740, 1240), tempo_map, prompt, inclusive=False)
    assert notes.start_ms.tolist() == [pause_ms, 740 + pause_ms, 1240 + pause_ms]
    assert notes.end_ms.tolist() == [100 + pause_ms, 840 + pause_ms, 1340 + pause_ms]
    assert notes.tempo_map.time_signatures == signatures
    expected = tempo_map.beats_at(notes.start_ms[1:] - pause_ms + end_ms)
    np.testing.assert_allclose(notes.tempo_map.beats_at(notes.start_ms[1:]), expected)


@pytest.mark.parametrize("tempo", [37.1, 120.0, 163.7, 999.0])
def test_beats_after_the_first_are_those_of_the_seed_at_any_tempo(tempo):
    for end_ms in range(1000, 3000, 170):
        seed = seed_of(end_ms, TempoMap.constant(tempo))
        since_ms = np.arange(2 * 60_000 / tempo, 9000, 333)
        notes = with_beats(notes_at(*since_ms), seed.tempo_map, seed, inclusive=False)
        beats = seed.tempo_map.beats_at(since_ms + end_ms)
        np.testing.assert_allclose(notes.tempo_map.beats_at(notes.start_ms), beats)
        pause_ms = notes.start_ms[0] - since_ms[0]
        assert round(pause_ms, 6) % 10 == 0
        assert 0 <= pause_ms <= 60_000 / tempo + 10


@pytest.fixture(scope="module")
def hearing_model(tmp_path_factory):
    """The folder of a model that knows nothing, but hears the state of the music."""
    folder = tmp_path_factory.mktemp("hearing") / "model"
    keras.utils.set_random_seed(0)
    parameters = Parameters(
        embedding_size=16, sequence_length=64, num_blocks=1, num_heads=2, feed_forward_dim=16
    )
    model = build_model(parameters, CodecSettings(), {"tempi_bpm": TEMPI}, hears_state=True)
    save_model(model, folder)
    return folder


def tempos_of(path):
    return [
        round(60e6 / message.tempo, 2)
        for message in mido.MidiFile(path).tracks[0]
        if message.type == "set_tempo"
    ]


def text_of(path):
    return next(m.text for m in mido.MidiFile(path).tracks[0] if m.type == "text")


@pytest.fixture
def compose(hearing_model, tmp_path):
    def call(**options):
        options = {"length": 150, "seed": 7, "full_length": True, "progress": False, **options}
        return generate(save_directory=hearing_model, output=tmp_path / "out", **options)

    return call


def test_the_file_says_the_tempo_that_its_model_heard(compose):
    (fast,), (slow,), (free,) = (compose(bpm=bpm) for bpm in (180, "72.5", "none"))
    assert (tempos_of(fast), tempos_of(slow)) == ([180.0], [72.5])
    assert "--bpm 180 " in text_of(fast)
    assert "--bpm none" in text_of(free)
    assert len({encode(path).tobytes() for path in (fast, slow, free)}) == 3


def test_several_pieces_from_nothing_have_tempos_of_their_own(compose, tmp_path):
    paths = compose(num=4)
    tempi = [tempos_of(path)[0] for path in paths]
    assert set(tempi) <= set(TEMPI)
    assert len(set(tempi)) > 1
    (alone,) = compose(seed=9)
    assert alone.read_bytes() == paths[2].read_bytes()
    assert f"--bpm {tempi[2]:g} " in text_of(paths[2])


def test_a_seed_in_front_keeps_its_tempos_in_the_file(compose, tmp_path):
    song = mido.MidiTrack()
    for tempo in (400_000, 600_000):
        song.append(mido.MetaMessage("set_tempo", tempo=tempo))
        for pitch in range(60, 70):
            song.append(mido.Message("note_on", note=pitch, velocity=80))
            song.append(mido.Message("note_off", note=pitch, time=48))
    mido.MidiFile(ticks_per_beat=96, tracks=[song]).save(tmp_path / "a.mid")
    options = {"primer": tmp_path / "a.mid", "inclusive": True}
    assert tempos_of(compose(**options)[0]) == [150.0, 100.0]
    assert tempos_of(compose(**options, seed_length="1s")[0]) == [150.0]
    (other,) = compose(**options, bpm=90)
    assert tempos_of(other) == [150.0, 100.0, 90.0]
    seed = read_midi(tmp_path / "a.mid")
    np.testing.assert_allclose(read_midi(other).start_ms[: len(seed)], seed.start_ms, atol=0.5)
    # Without the seed only what follows it is written.
    assert tempos_of(compose(primer=tmp_path / "a.mid")[0])[-1] == 100.0


def test_the_beats_of_a_seed_are_heard_in_the_window_and_in_the_loop():
    metronome = continue_in(TWO_TEMPOS, 3000, 150)
    beats = Beats([metronome, None])
    steps = np.array([[0, 100, 199, 200, 250, 300, 350]] * 2)
    heard, silent = beats.at(steps).beat
    np.testing.assert_allclose(heard, [0, 1.5, 2.985, 3, 4, 5, 6.25], atol=1e-6)
    assert np.isnan(silent).all()
    pulse = beats.at(steps)
    assert pulse.tick[0].tolist() == [0, 18, 36, 36, 48, 60, 75]
    assert (pulse.tick[1] == NO_TICK).all()
    for column, now in enumerate(steps.T):
        in_loop = pulse_at(now, beats.changes())
        for field, expected in zip(in_loop, pulse, strict=True):
            np.testing.assert_allclose(field, expected[:, column], atol=1e-6)


def test_a_model_that_hears_no_metronome_refuses_a_tempo(tmp_path):
    parameters = Parameters(
        embedding_size=16, sequence_length=64, num_blocks=1, num_heads=2, feed_forward_dim=16
    )
    save_model(build_model(parameters), tmp_path / "model")
    options = {"save_directory": tmp_path / "model", "output": tmp_path / "out", "progress": False}
    with pytest.raises(OptionError, match="bpm is 120: this model hears no metronome"):
        generate(50, bpm="120", **options)
    assert not list((tmp_path / "out").glob("*"))
    (path,) = generate(50, bpm="none", **options)
    assert tempos_of(path) == [120.0]
