import builtins
import os
import shutil
import wave
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile

from midinet.errors import AudioError, OptionError
from midinet.rendering import audio
from midinet.rendering.audio import write_audio
from midinet.rendering.mastering import PEAK, TARGET_LUFS, loudness
from midinet.rendering.soundfont import find_bundled_soundfont
from tests.rendering.tiny_soundfont import make_soundfont

with_shell = pytest.mark.skipif(os.name != "posix", reason="stands in for FluidSynth by a script")


@pytest.fixture(params=["our own player", "FluidSynth"])
def player(request, monkeypatch):
    """Both players in turn; FluidSynth where it is installed."""
    if request.param == "our own player":
        monkeypatch.setattr(audio.shutil, "which", lambda program: None)
    elif shutil.which("fluidsynth") is None:
        pytest.skip("FluidSynth is not installed")
    monkeypatch.setenv("SOUNDFONT", str(find_bundled_soundfont()))


@pytest.fixture
def song(tmp_path):
    """Three seconds: a second of silence, then one piano note of two seconds."""
    path = tmp_path / "-song.mid"
    track = mido.MidiTrack(
        [
            mido.Message("note_on", note=69, velocity=100, time=960),
            mido.Message("note_off", note=69, time=1920),
        ]
    )
    mido.MidiFile(tracks=[track], ticks_per_beat=480).save(path)
    return path


@pytest.fixture
def soundfont(tmp_path):
    """A file with the looks of a SoundFont."""
    path = tmp_path / "font.sf2"
    path.write_bytes(b"RIFF\x04\0\0\0sfbk")
    return path


@pytest.fixture
def fake_fluidsynth(tmp_path, monkeypatch):
    """Puts a shell script in FluidSynth's place; $wav is the file it is asked to write."""

    def install(script):
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "fluidsynth"
        find_wav = 'while [ "$1" != -F ]; do shift; done; wav="$2"'
        program.write_text(f"#!/bin/sh\n{find_wav}\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    return install


def samples(path):
    with wave.open(str(path)) as wav:
        assert wav.getsampwidth() == 2
        frames = np.frombuffer(wav.readframes(wav.getnframes()), "<i2")
        return frames.reshape(-1, wav.getnchannels()), wav.getframerate()


@pytest.mark.usefixtures("player")
@pytest.mark.parametrize("rate", [44100, 22050])
def test_the_wav_sounds_when_and_as_the_midi_file_says(song, tmp_path, rate):
    path = write_audio(song, tmp_path / "song.wav", sample_rate=rate)
    sound, written_rate = samples(path)
    assert path == tmp_path / "song.wav"
    assert written_rate == rate
    assert 3 <= len(sound) / rate < 15  # the note rings on
    mono = sound.mean(axis=1)
    assert np.abs(mono[: int(0.9 * rate)]).max() < 300
    assert np.abs(mono[int(1.1 * rate) : 2 * rate]).max() > 3000
    spectrum = np.abs(np.fft.rfft(mono[int(1.1 * rate) : int(2.1 * rate)]))
    harmonic = 440 * np.arange(1, 4)  # the note is A4
    assert np.abs(harmonic - np.argmax(spectrum)).min() < 6


@pytest.mark.usefixtures("player")
@pytest.mark.parametrize("velocity", [20, 100])
def test_the_wav_is_loud_but_does_not_clip_and_has_no_steps(velocity, song, tmp_path):
    music = mido.MidiFile(song)
    music.tracks[0][0].velocity = velocity
    music.save(song)
    sound = samples(write_audio(song, tmp_path / "song.wav"))[0].astype(int)
    assert 5000 < np.abs(sound).max() <= round(PEAK * 32767)
    assert loudness(sound, 32767, 44100) == pytest.approx(TARGET_LUFS, abs=2)
    # However soft the note was: it is not some coarse levels made loud.
    assert len(np.unique(sound)) > 3000


@pytest.mark.usefixtures("player")
def test_silence_stays_silent(tmp_path):
    track = mido.MidiTrack([mido.Message("program_change", program=3, time=0)])
    track.append(mido.MetaMessage("end_of_track", time=960))
    mido.MidiFile(tracks=[track]).save(tmp_path / "rest.mid")
    sound, _ = samples(write_audio(tmp_path / "rest.mid", tmp_path / "rest.wav"))
    assert np.abs(sound.astype(int)).max() <= 10


@pytest.mark.usefixtures("player")
def test_an_old_wav_is_replaced_and_nothing_else_is_left(song, tmp_path):
    (tmp_path / "song.wav").write_bytes(b"old")
    write_audio(song, tmp_path / "song.wav")
    assert sorted(os.listdir(tmp_path)) == ["-song.mid", "song.wav"]
    assert (tmp_path / "song.wav").read_bytes().startswith(b"RIFF")


@pytest.mark.usefixtures("player")
@pytest.mark.parametrize("data", [b"not a MIDI file", b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk\0\0\1\0"])
def test_a_file_that_is_no_midi_file_is_named_and_leaves_no_wav(data, tmp_path):
    if data.startswith(b"MThd") and audio.shutil.which("fluidsynth") is None:
        pytest.skip("our reader takes a file that is cut short as far as it goes")
    (tmp_path / "broken.mid").write_bytes(data)
    with pytest.raises(AudioError, match=r"broken\.mid"):
        write_audio(tmp_path / "broken.mid", tmp_path / "broken.wav")
    assert os.listdir(tmp_path) == ["broken.mid"]


@pytest.mark.usefixtures("player")
def test_an_mp3_holds_the_same_music_in_a_fraction_of_the_bytes(song, tmp_path):
    wav, mp3 = (write_audio(song, tmp_path / f"song.{kind}") for kind in ("wav", "mp3"))
    expected, rate = samples(wav)
    sound, mp3_rate = soundfile.read(mp3, dtype="int16")
    assert soundfile.info(mp3).format == "MP3"
    assert mp3_rate == rate
    assert 4 * mp3.stat().st_size < wav.stat().st_size
    assert abs(len(sound) - len(expected)) < 0.1 * rate
    # Also its loudest moment: MP3 changes the shape of a wave, but hardly its height.
    for measure in (np.max, np.mean):
        levels = [measure(np.abs(x.astype(float))) for x in (sound[: len(expected)], expected)]
        assert levels[0] == pytest.approx(levels[1], rel=0.05)
    assert sorted(os.listdir(tmp_path)) == ["-song.mid", "song.mp3", "song.wav"]


@pytest.mark.parametrize("error", [ImportError("no module"), OSError("sndfile library not found")])
def test_without_its_package_an_mp3_is_refused_before_any_work(error, song, tmp_path, monkeypatch):
    def import_(name, *more):
        if name == "soundfile":
            raise error
        return real_import(name, *more)

    real_import = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", import_)
    monkeypatch.setenv("SOUNDFONT", str(find_bundled_soundfont()))
    audio.find_player()
    with pytest.raises(AudioError, match="pip install soundfile"):
        audio.find_player(suffix=".mp3")
    with pytest.raises(AudioError, match="pip install soundfile"):
        write_audio(song, tmp_path / "song.mp3")
    assert os.listdir(tmp_path) == ["-song.mid"]


def test_a_rate_that_mp3_does_not_know_is_named(song, tmp_path, monkeypatch):
    monkeypatch.setenv("SOUNDFONT", str(find_bundled_soundfont()))
    with pytest.raises(AudioError, match="no MP3 of 96000 Hz"):
        write_audio(song, tmp_path / "song.mp3", sample_rate=96000)
    assert os.listdir(tmp_path) == ["-song.mid"]


def test_both_players_write_the_same_music_as_loud(song, tmp_path, monkeypatch):
    if shutil.which("fluidsynth") is None:
        pytest.skip("FluidSynth is not installed")
    font = find_bundled_soundfont()
    theirs, _ = samples(write_audio(song, tmp_path / "theirs.wav", font))
    monkeypatch.setattr(audio.shutil, "which", lambda program: None)
    ours, _ = samples(write_audio(song, tmp_path / "ours.wav", font))
    assert abs(len(ours) - len(theirs)) < 22050
    levels = [np.sqrt(np.mean(sound[44100:132300].astype(float) ** 2)) for sound in (ours, theirs)]
    assert 20 * np.log10(levels[0] / levels[1]) == pytest.approx(0, abs=1)


def test_without_fluidsynth_a_named_soundfont_plays(song, tmp_path, monkeypatch):
    monkeypatch.setattr(audio.shutil, "which", lambda program: None)
    font = tmp_path / "square.sf2"
    zones = [{"loop_mode": 1, "sample": 1}]
    font.write_bytes(make_soundfont(instruments=[("square", zones)]))
    sound, rate = samples(write_audio(song, tmp_path / "song.wav", font))
    spectrum = np.abs(np.fft.rfft(sound[int(1.1 * rate) : int(2.1 * rate), 0]))
    assert spectrum[1320] > 0.2 * spectrum[440]  # a square wave's third harmonic


@pytest.mark.parametrize("damage", ["cut", "compressed"])
def test_without_fluidsynth_a_soundfont_that_it_cannot_play_is_named(
    damage, song, tmp_path, monkeypatch
):
    monkeypatch.setattr(audio.shutil, "which", lambda program: None)
    font = tmp_path / "bad.sf2"
    content = bytearray(make_soundfont())
    if damage == "cut":
        del content[2000:]
    else:
        headers = content.index(b"shdr") + 8
        content[headers + 44] |= 0x10  # the type of the first sample: compressed
    font.write_bytes(content)
    with pytest.raises(AudioError, match=r"bad\.sf2 is a (damaged|compressed)") as caught:
        write_audio(song, tmp_path / "song.wav", font)
    assert "\n" not in str(caught.value)


def test_music_of_many_hours_needs_fluidsynth(tmp_path, monkeypatch):
    monkeypatch.setattr(audio.shutil, "which", lambda program: None)
    monkeypatch.setenv("SOUNDFONT", str(find_bundled_soundfont()))
    on = mido.Message("note_on", note=60, velocity=9)
    off = mido.Message("note_off", note=60, time=480 * 2 * 7200)
    mido.MidiFile(tracks=[mido.MidiTrack([on, off])]).save(tmp_path / "long.mid")
    with pytest.raises(AudioError, match=r"long\.mid lasts 120 minutes.*install.*fluidsynth"):
        write_audio(tmp_path / "long.mid", tmp_path / "long.wav")


@with_shell
@pytest.mark.parametrize("content", [None, b"", b"RIFF\x04\0\0\0WAVE", b"PK\3\4 a zip, not a font"])
def test_what_is_no_soundfont_is_named(content, song, tmp_path, fake_fluidsynth):
    fake_fluidsynth("exit 0")
    font = tmp_path / "piano.sf2"
    if content is not None:
        font.write_bytes(content)
    with pytest.raises(AudioError, match=r"piano\.sf2"):
        write_audio(song, tmp_path / "song.wav", font)


@with_shell
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ('echo half > "$wav"; echo "fluidsynth: error: out of disk" >&2; exit 0', "out of disk"),
        ('echo half > "$wav"; echo it broke >&2; exit 3', "it broke"),
        ('echo half > "$wav"; exit 3', "exit status 3"),
        ("exit 0", "no WAV"),
        ('echo raw samples > "$wav"', "no WAV"),
        ('echo half > "$wav"; exec sleep 30', "was stopped after"),
    ],
)
def test_a_failure_of_fluidsynth_is_told_and_leaves_no_wav(
    script, said, song, soundfont, tmp_path, fake_fluidsynth, monkeypatch
):
    monkeypatch.setattr(audio, "FLUIDSYNTH_TIMEOUT_S", 0.5)
    fake_fluidsynth(script)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(AudioError, match=said) as caught:
        write_audio(song, tmp_path / "song.wav", soundfont)
    assert "-song.mid" in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == before


@with_shell
def test_samples_of_another_size_are_not_taken_for_sound(
    song, soundfont, tmp_path, fake_fluidsynth
):
    with wave.open(str(tmp_path / "narrow.wav"), "wb") as narrow:
        narrow.setparams((2, 2, 44100, 0, "NONE", ""))
        narrow.writeframes(bytes(400))
    fake_fluidsynth(f'/bin/cp "{tmp_path}/narrow.wav" "$wav"')
    with pytest.raises(AudioError, match="no WAV"):
        write_audio(song, tmp_path / "song.wav", soundfont)


@with_shell
def test_a_missing_midi_file_is_named(soundfont, tmp_path, fake_fluidsynth):
    fake_fluidsynth("exit 0")
    with pytest.raises(AudioError, match=r"gone\.mid"):
        write_audio(Path("gone.mid"), tmp_path / "gone.wav", soundfont)


@pytest.mark.parametrize("rate", [0, 7999, 96001])
def test_an_impossible_sample_rate_is_refused(rate, song, tmp_path):
    with pytest.raises(OptionError, match=str(rate)):
        write_audio(song, tmp_path / "song.wav", sample_rate=rate)
