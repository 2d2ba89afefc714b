import pytest

from midinet.rendering import soundfont_search
from midinet.rendering.soundfont import find_bundled_soundfont
from midinet.rendering.soundfont_search import find_soundfont
from tests.rendering.tiny_soundfont import make_soundfont


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts fonts into the folders that are searched, and returns the folder above these."""
    monkeypatch.delenv("SOUNDFONT", raising=False)
    folders = [tmp_path / name for name in ("empty", "first", "second")]
    monkeypatch.setattr(soundfont_search, "_FOLDERS", (*map(str, folders), "/nowhere", "%No%/x"))
    for folder in folders:
        folder.mkdir()

    def make(**fonts):
        for name, content in fonts.items():
            folder, _, file = name.partition("_")
            (tmp_path / folder / f"{file}.sf2").write_bytes(content)
        return tmp_path

    return make


def test_the_best_known_font_of_the_first_folder_that_has_one_is_taken(install):
    font = make_soundfont()
    folder = install(first_Aaa=font, first_TimGM6mb=font, second_FluidR3_GM=font)
    (folder / "first" / "x.txt").touch()
    assert find_soundfont() == folder / "first" / "TimGM6mb.sf2"


def test_what_the_user_names_comes_first(install, monkeypatch):
    folder = install(first_TimGM6mb=make_soundfont())
    monkeypatch.setenv("SOUNDFONT", str(folder / "mine.sf2"))
    assert find_soundfont() == folder / "mine.sf2"
    assert find_soundfont("other.sf2").name == "other.sf2"


def test_a_font_that_is_not_general_midi_is_passed_over_and_named(install, caplog):
    bells = make_soundfont(names=("FM Bell", "FM Bell 2"))
    folder = install(first_bells=bells, first_broken=bells[:900], second_good=make_soundfont())
    assert find_soundfont() == folder / "second" / "good.sf2"
    bells_line, broken_line = (record.getMessage() for record in caplog.records)
    assert "bells.sf2 is not General MIDI" in bells_line
    assert "broken.sf2 is a damaged SoundFont" in broken_line


def test_without_any_font_the_bundled_one_plays(install):
    install()
    assert find_soundfont() == find_bundled_soundfont()


def test_a_compressed_font_is_left_out_where_it_cannot_be_played(install):
    content = bytearray(make_soundfont())
    content[content.index(b"shdr") + 8 + 44] |= 0x10
    folder = install(first_small=bytes(content))
    assert find_soundfont() == folder / "first" / "small.sf2"
    assert find_soundfont(compressed=False) == find_bundled_soundfont()
