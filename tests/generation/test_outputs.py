"""Where music goes: names that are free, and files that are whole or not there."""

import mido
import numpy as np
import pytest

from midinet.codec.decoding import tokens_to_notes
from midinet.errors import MidinetError, OptionError
from midinet.generation.outputs import check_output, check_writable, unused_paths, write_midi

NOTES = tokens_to_notes(np.array([276, 60, 297]))


def test_a_file_name_that_is_no_text_does_no_harm(tmp_path):
    write_midi(NOTES, tmp_path / "a.mid", "caf\udce9.mid", 0)
    (track, *_) = mido.MidiFile(tmp_path / "a.mid").tracks
    assert [message.text for message in track if message.type == "text"] == ["caf?.mid"]


def test_several_pieces_are_numbered_and_skip_what_is_there(tmp_path):
    (tmp_path / "a_2.png").touch()
    names = [path.name for path in unused_paths(tmp_path / "a.mid", 3, [".mid", ".png"])]
    assert names == ["a_1.mid", "a_3.mid", "a_4.mid"]
    (alone,) = unused_paths(tmp_path / "a.mid", 1, [".mid"])
    assert alone.name == "a.mid"


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.PNG", "folder/a.html"])
def test_what_lies_beside_the_music_is_no_place_for_it(tmp_path, name):
    with pytest.raises(OptionError, match=r"a folder, or a name that ends in \.mid"):
        check_output(tmp_path / name)


def test_a_place_for_music_is_made_only_when_asked(tmp_path):
    output = tmp_path / "new" / "folder" / "a.mid"
    check_output(output)
    assert not (tmp_path / "new").exists()
    check_writable(output)
    assert output.parent.is_dir()
    assert not output.exists()


def test_a_file_that_came_up_since_is_not_overwritten(tmp_path):
    (tmp_path / "a.mid").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        write_midi(NOTES, tmp_path / "a.mid", "", 0)
    assert (tmp_path / "a.mid").read_bytes() == b"precious"


def test_a_failed_write_tells_how_to_compose_the_piece_again(tmp_path):
    with pytest.raises(MidinetError, match=r"can't be written .*--seed 42 composes it again"):
        write_midi(NOTES, tmp_path / "no such folder" / "a.mid", "", 42)
