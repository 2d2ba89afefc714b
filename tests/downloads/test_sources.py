"""Which files of which data set are kept."""

from __future__ import annotations

import pytest

from midinet.downloads.sources import SOURCES, find_source, model_file
from midinet.errors import OptionError


@pytest.mark.parametrize(
    ("dataset", "path", "is_kept"),
    [
        ("rs_ost", "OST/Sea Shanty 2.mid", True),
        ("rs_ost", "OST/Harmony 999.mid", True),
        ("rs_ost", "OST/Harmony 1000.mid", False),
        ("rs_ost", "OST/12345.MID", False),
        ("rs_ost", "1998/Harmony.mid", True),
        ("rs_ost", "__MACOSX/OST/Harmony.mid", False),
        ("rs_ost", "OST/._Harmony.mid", False),
        ("rs_ost", "OST/readme.txt", False),
        ("lahk", "clean_midi/ABBA/Dancing Queen.mid", True),
        ("lahk", "clean_midi/ABBA/Dancing Queen.1.mid", False),
        ("lahk", "clean_midi/ABBA/Dancing Queen.12.mid", False),
        ("lahk", "clean_midi/Prince/1999.mid", True),
        ("lahk", "clean_midi/Nena/99 Luftballons.MID", True),
        ("lahk_full", "lmd_full/0/0a1b2c3d.mid", True),
        ("lahk_full", "lmd_full/0/song.1.mid", True),
        ("freedoom", "music/title.midi", True),
        ("freedoom", "music/title.kar", True),
        ("freedoom", "music/title.rmi", True),
        ("freedoom", "music/title.mid.zip", False),
        ("freedoom", "mid", False),
        ("freedoom", ".mid", True),
        ("released_model", "saved_model.pb", True),
        ("released_model", "a/b/variables/variables.data-00000-of-00001", True),
        ("released_model", "a/variables/variables.index", True),
        ("released_model", "a/variables/evil.py", False),
        ("released_model", "a/my_saved_model.pb", False),
        ("released_model", "song.mid", False),
    ],
)
def test_what_is_kept_of_a_data_set(dataset, path, is_kept):
    assert (find_source(dataset).skip_reason(path) is None) == is_kept


def test_a_model_file_keeps_its_place_in_the_model():
    assert model_file("top/model/variables/variables.index") == "variables/variables.index"
    assert model_file("top/model/saved_model.pb") == "saved_model.pb"


def test_an_unknown_data_set_is_answered_with_the_known_ones():
    with pytest.raises(OptionError, match="there are rs_ost, lahk, lahk_full, freedoom") as caught:
        find_source("lakh")
    assert "'lakh': did you mean lahk?" in str(caught.value)


def test_the_catalogue_is_that_of_2021_and_more():
    assert {"rs_ost", "lahk", "lahk_full", "freedoom", "released_model"} == set(SOURCES)
    assert "0Bx3m4LvdozzGRE5hRlJjWFFGR0E" in SOURCES["rs_ost"].url
    assert SOURCES["lahk_full"].size_bytes == 1_768_163_879
