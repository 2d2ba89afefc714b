"""What comes out of archives, honest ones and hostile ones."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from midinet.downloads import archives
from midinet.downloads.download import download
from midinet.downloads.sources import SOURCES
from midinet.downloads.unpacking import unpack
from midinet.errors import ArchiveError
from midinet.midi.reader import read_midi
from tests.downloads.archive_makers import SONG, make_tar, make_wad, make_zip, song
from tests.downloads.test_mus import END, mus, play, release


def unpacked(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def try_unpacking(tmp_path):
    """Unpacks bytes as a user would; fails if anything but the output folder changes."""

    def run(data: bytes, dataset: str = "freedoom", name: str = "archive") -> dict[str, bytes]:
        home = tmp_path / "some" / "where"
        home.mkdir(parents=True)
        (home / name).write_bytes(data)
        before = unpacked(tmp_path)
        output = home / "out"
        error = None
        try:
            download(dataset, output, home / name)
        except ArchiveError as caught:
            error = caught
        if error:
            assert "\n" not in str(error)
            assert str(home / name) in str(error)
            assert not output.exists()
            assert unpacked(tmp_path) == before
            assert sorted(path.name for path in home.iterdir()) == [name]
            raise error
        result = unpacked(output)
        rest = {
            name: data
            for name, data in unpacked(tmp_path).items()
            if not name.startswith("some/where/out/")
        }
        assert rest == before
        assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
        return result

    return run


# --- honest archives --------------------------------------------------------------------------

SONGS = (("music/a.mid", song(1)), ("music/deep/b.MID", song(2)), ("c.txt", b"no song"))


@pytest.mark.parametrize(
    "data",
    [
        make_zip(*SONGS),
        make_tar(*SONGS),
        make_tar(*SONGS, mode="w:gz"),
        make_tar(*SONGS, mode="w:bz2"),
        make_tar(*SONGS, mode="w:xz"),
    ],
    ids=["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"],
)
def test_every_kind_of_archive_gives_its_songs_in_one_folder(try_unpacking, data):
    assert try_unpacking(data) == {"a.mid": song(1), "b.MID": song(2)}


WAD = make_wad(("E1M1", b""), ("D_E1M1", song(1)), ("PLAYPAL", b"\1" * 99), ("D_INTER", song(2)))
LUMPS = {"freedoom1_D_E1M1.mid": song(1), "freedoom1_D_INTER.mid": song(2)}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("freedoom1.wad", WAD),
        ("vizdoom-1.2-py3.whl", make_zip(("vizdoom/freedoom1.wad", WAD), ("x.py", b"pass"))),
        ("freedoom.zip", make_zip(("freedoom-0.13.0/freedoom1.wad", WAD))),
        ("freedoom.tar.gz", make_tar(("freedoom-0.13.0/freedoom1.wad", WAD), mode="w:gz")),
    ],
)
def test_midi_lumps_come_out_of_wads_named_after_both(try_unpacking, name, data):
    assert try_unpacking(data, name=name) == LUMPS


def test_music_in_any_form_comes_out_of_a_wad(try_unpacking, capsys):
    tune = mus(play(0, 60, 90, wait=b"\x46"), release(0, 60), END)
    riff = b"RIFF" + struct.pack("<I", len(SONG) + 12) + b"RMIDdata" + struct.pack("<I", 18) + SONG
    wad = make_wad(
        ("D_RUNNIN", tune),
        ("D_E1M1", song(1)),
        ("D_RIFF", riff),
        ("D_BAD", b"MUS\x1a"),
        ("MAP01", b""),
    )
    files = try_unpacking(wad, name="doom2.wad")
    assert set(files) == {"doom2_D_RUNNIN.mid", "doom2_D_E1M1.mid", "doom2_D_RIFF.mid"}
    notes = read_midi(files["doom2_D_RUNNIN.mid"])
    assert (notes.pitch.tolist(), notes.end_ms.tolist()) == ([60], [500])
    said = capsys.readouterr().out
    assert "lumps that are not music (1)" in said
    assert "damaged MUS files (1)" in said


def test_loose_mus_files_become_midi_files(try_unpacking):
    tune = mus(play(0, 60, 90, wait=b"\x46"), END)
    files = try_unpacking(make_zip(("music/intro.mus", tune), ("music/BOSS.MUS", tune)))
    assert set(files) == {"intro.mus.mid", "BOSS.MUS.mid"}
    assert all(data.startswith(b"MThd") for data in files.values())


def test_mus_files_count_before_they_are_converted(try_unpacking, monkeypatch):
    monkeypatch.setattr(archives, "FREE_UNPACKED_BYTES", 1 << 20)
    tune = mus(play(0, 60, 90, wait=b"\x46") * 10_000)
    wad = make_wad(("D_A", tune), entries=[(12, len(tune), b"D_%d" % n) for n in range(40)])
    with pytest.raises(ArchiveError, match="unpacks to more than"):
        try_unpacking(wad)


def test_both_wads_keep_their_music_though_lumps_have_equal_names(try_unpacking):
    data = make_zip(
        ("freedoom1.wad", make_wad(("D_INTRO", song(1)))),
        ("freedoom2.wad", make_wad(("D_INTRO", song(2)))),
        ("extra/title.mid", song(3)),
    )
    assert try_unpacking(data) == {
        "freedoom1_D_INTRO.mid": song(1),
        "freedoom2_D_INTRO.mid": song(2),
        "title.mid": song(3),
    }


def test_says_what_was_kept_and_what_was_left_out(try_unpacking, capsys):
    names = ("a/x.mid", "a/x 1001.mid", "a/x 1002.mid", "__MACOSX/a/._x.mid", "a/cover.jpg")
    try_unpacking(make_zip(*((name, SONG) for name in names)), "rs_ost")
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert line.startswith("rs_ost: ")
    assert "1 file kept" in line
    assert "songs that need a special SoundFont (2)" in line
    assert "macOS metadata in __MACOSX (1)" in line
    assert "files that are not MIDI (1)" in line


@pytest.mark.parametrize(
    ("dataset", "data", "owner"),
    [
        ("lahk", make_zip(("vizdoom/freedoom1.wad", WAD)), "freedoom"),
        ("rs_ost", make_tar(("clean_midi/ABBA/Waterloo.mid", SONG)), "lahk"),
        ("lahk", make_tar(("lmd_full/0/0a.mid", SONG), mode="w:gz"), "lahk_full"),
        ("freedoom", make_zip(("model/saved_model.pb", b"")), "released_model"),
        ("released_model", make_tar(("clean_midi/ABBA/Waterloo.mid", SONG)), "lahk"),
    ],
)
def test_the_archive_of_another_data_set_is_not_taken_for_this_one(
    try_unpacking, dataset, data, owner
):
    expected = f"it is the archive of {owner}: unpack it with -d {owner}$"
    with pytest.raises(ArchiveError, match=expected):
        try_unpacking(data, dataset)


def test_an_archive_inside_an_archive_stays_shut(try_unpacking):
    inner = make_zip(("inner.mid", SONG))
    data = make_zip(("outer.mid", SONG), ("inner.zip", inner), ("inner.tar", make_tar(*SONGS)))
    assert try_unpacking(data) == {"outer.mid": SONG}


MODEL = (
    ("midinet_model_trained/saved_model.pb", b"graph"),
    ("midinet_model_trained/variables/variables.index", b"index"),
    ("midinet_model_trained/variables/variables.data-00000-of-00001", b"weights"),
    ("midinet_model_trained/setup.py", b"boom"),
    ("__MACOSX/midinet_model_trained/._saved_model.pb", b"mac"),
)


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_the_released_model_becomes_the_output_folder_itself(try_unpacking, make):
    assert try_unpacking(make(*MODEL), "released_model") == {
        "saved_model.pb": b"graph",
        "variables/variables.index": b"index",
        "variables/variables.data-00000-of-00001": b"weights",
    }


@pytest.mark.parametrize("missing", [0, 1])
def test_half_a_model_is_none(try_unpacking, missing):
    with pytest.raises(ArchiveError, match="no complete model"):
        try_unpacking(make_zip(*MODEL[:missing], *MODEL[missing + 1 :]), "released_model")


def test_two_models_are_one_too_many(try_unpacking):
    with pytest.raises(ArchiveError, match=r"more than one saved_model\.pb"):
        try_unpacking(make_zip(*MODEL, ("other/saved_model.pb", b"")), "released_model")


# --- names ------------------------------------------------------------------------------------


def test_no_song_is_lost_to_another_of_its_name(try_unpacking):
    names = ("x/song.mid", "y/song.mid", "song_2.mid", "z/SONG.mid", "x/song.mid")
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = make_zip(*((name, song(number)) for number, name in enumerate(names)))
    files = try_unpacking(data)
    assert sorted(files.values()) == [song(number) for number in range(len(names))]
    assert len({name.lower() for name in files}) == len(names)
    assert files["song.mid"] == song(0)


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ('Who? "What": *Why*.mid', "Who_ _What__ _Why_.mid"),
        ("tab\tand\nline.mid", "tab_and_line.mid"),
        ("Für Elise.mid", "Für Elise.mid"),
        ("con.mid", "_con.mid"),
        ("x" * 300 + ".mid", "x" * 200 + ".mid"),
        ("invalid \udcff\udcfe.mid", "invalid __.mid"),
    ],
)
def test_names_are_made_such_that_every_file_system_takes_them(try_unpacking, name, clean):
    assert try_unpacking(make_tar((name, SONG))) == {clean: SONG}


def test_a_zip_with_invalid_utf8_is_refused_in_words(try_unpacking):
    data = make_zip(("é.mid", SONG)).replace("é".encode(), b"\xff\xfe")
    with pytest.raises(ArchiveError, match="UTF-8"):
        try_unpacking(data)


LEADING_OUT = (
    "../evil.mid",
    "a/../../evil.mid",
    "/evil.mid",
    "/etc/evil.mid",
    "..\\evil.mid",
    "\\\\server\\share\\evil.mid",
    "C:\\evil.mid",
    "c:/evil.mid",
)


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("path", LEADING_OUT)
def test_a_path_that_leads_out_is_left_out(try_unpacking, make, path, capsys):
    assert try_unpacking(make((path, SONG), ("good.mid", SONG))) == {"good.mid": SONG}
    assert "path leads out of the archive's folder (1)" in capsys.readouterr().out


@pytest.mark.parametrize("path", [*LEADING_OUT, "x/../variables/variables.index"])
def test_nor_does_a_model_lead_out(try_unpacking, path):
    path = path.replace("evil.mid", "variables/variables.index")
    with pytest.raises(ArchiveError, match="no complete model"):
        try_unpacking(make_zip(MODEL[0], (path, b"")), "released_model")


def special(kind: bytes, name: str, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b""


@pytest.mark.parametrize(
    "member",
    [
        special(tarfile.SYMTYPE, "evil.mid", "/etc/passwd"),
        special(tarfile.SYMTYPE, "evil.mid", "../../../etc/passwd"),
        special(tarfile.LNKTYPE, "evil.mid", "/etc/passwd"),
        special(tarfile.CHRTYPE, "evil.mid"),
        special(tarfile.BLKTYPE, "evil.mid"),
        special(tarfile.FIFOTYPE, "evil.mid"),
    ],
    ids=lambda member: member[0].type.decode(),
)
def test_links_and_devices_are_left_out(try_unpacking, member, capsys):
    assert try_unpacking(make_tar(member, ("good.mid", SONG))) == {"good.mid": SONG}
    assert "links or devices (1)" in capsys.readouterr().out


def test_nothing_is_written_through_a_link_to_a_folder(try_unpacking, tmp_path):
    link = special(tarfile.SYMTYPE, "out", str(tmp_path))
    assert try_unpacking(make_tar(link, ("out/good.mid", SONG))) == {"good.mid": SONG}


def test_links_in_zips_are_left_out(try_unpacking):
    link = zipfile.ZipInfo("evil.mid")
    link.external_attr = 0o120777 << 16
    assert try_unpacking(make_zip((link, b"/etc/passwd"), ("good.mid", SONG))) == {"good.mid": SONG}


# --- damage -----------------------------------------------------------------------------------

ENCRYPTED = bytearray(make_zip(("a.mid", SONG)))
for _signature, _flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
    ENCRYPTED[ENCRYPTED.index(_signature) + _flags] |= 1

BIG_ENOUGH = tuple((f"{number}.mid", SONG + bytes(range(256)) * 9) for number in range(20))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"no archive at all", "is not a zip, whl, tar"),
        (SONG, "is not a zip, whl, tar"),
        (b"\n<!DOCTYPE html><title>Sorry</title>", "a web page"),
        (gzip.compress(b"a song, but no tar"), "damaged or cut off"),
        (make_zip(("readme.txt", b"")), "no MIDI file"),
        (make_zip(), "no MIDI file"),
        (make_tar(mode="w:gz"), "no MIDI file"),
        (bytes(ENCRYPTED), "encrypted: unpack it with its password"),
    ],
    # Else the ids would hold the time that gzip writes, and differ between pytest's processes.
    ids=["empty", "text", "MIDI", "HTML", "gzip", "zip", "empty zip", "tar.gz", "encrypted zip"],
)
def test_what_is_no_archive_of_songs_is_refused_in_words(try_unpacking, data, message):
    with pytest.raises(ArchiveError, match=message):
        try_unpacking(data)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_a_cut_off_archive_is_refused(try_unpacking, mode, share):
    data = make_zip(*BIG_ENOUGH) if mode == "zip" else make_tar(*BIG_ENOUGH, mode=mode)
    # GNU tar pads with zeros: what is cut off there is no loss.
    whole = data.rstrip(b"\0") if mode == "w" else data
    with pytest.raises(ArchiveError):
        try_unpacking(data[: int(len(whole) * share)])


def test_a_tar_cut_off_between_two_songs_is_refused(try_unpacking):
    data = make_tar(("a.mid", SONG), ("b.mid", SONG))
    with pytest.raises(ArchiveError, match="cut off"):
        try_unpacking(data[:1024])


def test_a_bad_header_is_not_taken_for_the_end(try_unpacking):
    data = bytearray(make_tar(("a.mid", SONG), ("b.mid", SONG)))
    data[1024] ^= 0xFF
    with pytest.raises(ArchiveError, match="damaged"):
        try_unpacking(bytes(data))


@pytest.mark.parametrize("mode", ["zip", "w:gz", "w:bz2", "w:xz"])
def test_changed_bytes_are_noticed(try_unpacking, mode):
    data = make_zip(*BIG_ENOUGH) if mode == "zip" else make_tar(*BIG_ENOUGH, mode=mode)
    changed = bytearray(data)
    changed[len(data) // 3] ^= 0x40
    with pytest.raises(ArchiveError):
        try_unpacking(bytes(changed))


def test_a_zip_whose_files_begin_before_it_is_refused(try_unpacking):
    data = bytearray(make_zip(("a.mid", SONG)))
    ending = data.index(b"PK\5\6")
    data[ending + 16 : ending + 20] = struct.pack("<I", 100_000)
    with pytest.raises(ArchiveError, match="damaged"):
        try_unpacking(bytes(data))


def test_a_file_without_a_name_is_no_song(try_unpacking):
    data = make_zip(("x.mid", SONG), ("good.mid", SONG)).replace(b"x.mid", b"\0.mid")
    assert try_unpacking(data) == {"good.mid": SONG}


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_negative_size_leads_to_no_endless_loop(try_unpacking, kind):
    info = tarfile.TarInfo("a.mid")
    info.type, info.size = kind, -1024
    with pytest.raises(ArchiveError):
        try_unpacking(info.tobuf(tarfile.GNU_FORMAT) + make_tar(("b.mid", SONG)))


@pytest.mark.parametrize(
    "wad",
    [
        make_wad(("D_A", SONG), directory=1 << 30),
        make_wad(("D_A", SONG), directory=-1),
        make_wad(("D_A", SONG), count=-1),
        make_wad(("D_A", SONG), count=2**31 - 1),
        make_wad(("D_A", SONG), entries=[(12, 1 << 30, b"D_A")]),
        make_wad(("D_A", SONG), entries=[(-4, 8, b"D_A")]),
        make_wad(("D_A", SONG), entries=[(12, -8, b"D_A")]),
        b"IWAD\0\0",
    ],
)
@pytest.mark.parametrize("is_packed", [False, True])
def test_a_wad_with_a_wrong_directory_is_refused(try_unpacking, wad, is_packed):
    with pytest.raises(ArchiveError, match=r"WAD|lump"):
        try_unpacking(make_zip(("a.wad", wad)) if is_packed else wad)


def test_lump_names_are_no_paths(try_unpacking):
    wad = make_wad(("../EVIL", SONG), ("A\\B/C:", SONG))
    assert set(try_unpacking(wad, name="x.wad")) == {"x____EVIL.mid", "x_A_B_C_.mid"}


# --- bombs ------------------------------------------------------------------------------------


def bomb_zip(size: int) -> bytes:
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("bomb.mid", "w", force_zip64=True) as member,
    ):
        for _ in range(size >> 20):
            member.write(bytes(1 << 20))
    return file.getvalue()


def bomb_tar(size: int) -> bytes:
    info = tarfile.TarInfo("bomb.mid")
    info.size = size
    return gzip.compress(info.tobuf()) + gzip.compress(bytes(1 << 20), 1) * (size >> 20)


@pytest.mark.parametrize("make", [bomb_zip, bomb_tar])
def test_a_bomb_is_stopped_at_the_bound(try_unpacking, make):
    with pytest.raises(ArchiveError, match=r"unpacks to more than [0-9,]+ MB"):
        try_unpacking(make(300 << 20))


def test_a_zip_that_lies_about_sizes_writes_no_more_than_it_says(try_unpacking):
    data = bytearray(bomb_zip(8 << 20))
    at = data.index(b"PK\1\2")
    data[at + 24 : at + 28] = struct.pack("<I", 1000)
    with pytest.raises(ArchiveError):
        try_unpacking(bytes(data))


def test_lumps_that_share_their_bytes_are_stopped_at_the_bound(try_unpacking):
    data = SONG + bytes(4 << 20)
    entries = [(12, len(data), b"D_%d" % number) for number in range(200)]
    with pytest.raises(ArchiveError, match="unpacks to more than"):
        try_unpacking(make_wad(("D_A", data), entries=entries))


def test_wads_that_hold_nothing_are_bounded_too(try_unpacking, monkeypatch):
    monkeypatch.setattr(archives, "FREE_UNPACKED_BYTES", 5 << 20)
    wad = make_wad(("BOMB", bytes(2 << 20)))
    with pytest.raises(ArchiveError, match="unpacks to more than 5 MB"):
        try_unpacking(make_zip(*((f"{number}.wad", wad) for number in range(3))))


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_name_can_not_fill_the_memory(try_unpacking, kind):
    info = tarfile.TarInfo("long")
    info.type, info.size = kind, 4 << 30
    data = gzip.compress(info.tobuf()) + gzip.compress(bytes(1 << 20), 1) * 16
    with pytest.raises(ArchiveError, match="names in it take more than"):
        try_unpacking(data)


def test_a_sparse_file_can_not_fill_the_disk(try_unpacking):
    info = tarfile.TarInfo("sparse.mid")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o " % (7 << 30)  # the real size
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
    with pytest.raises(ArchiveError, match="unpacks to more than"):
        try_unpacking(bytes(header) + bytes(1024))


def table_of_contents(count: int) -> bytes:
    """A zip of which there is nothing but the list of its `count` files."""
    name = b"a.mid"
    fields = (20, 20, *[0] * 7, len(name), *[0] * 6)
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", *fields) + name
    listed = min(count, 0xFFFF)
    ending = ("<4s4H2LH", b"PK\5\6", 0, 0, listed, listed, len(entry) * count, 4, 0)
    return b"PK\3\4" + entry * count + struct.pack(*ending)


def many_headers(count: int) -> bytes:
    header = tarfile.TarInfo("a.txt").tobuf()
    return gzip.compress(header * 1000) * (count // 1000) + gzip.compress(bytes(1024))


@pytest.mark.parametrize(
    "make",
    [table_of_contents, many_headers, lambda count: make_wad(entries=[(0, 0, b"D_A")] * count)],
    ids=["zip", "tar", "wad"],
)
def test_a_million_entries_are_refused(try_unpacking, make, monkeypatch):
    # With the true bounds it takes some seconds to count so far.
    monkeypatch.setattr(archives, "FREE_ENTRIES", 2000)
    monkeypatch.setattr(archives, "BYTES_PER_ENTRY", 1 << 40)
    with pytest.raises(ArchiveError, match=r"entries|names in it take"):
        try_unpacking(make(1_000_000))


def test_the_bounds_leave_room_for_the_largest_data_set():
    assert archives.MAX_ENTRIES > 178_561 + 17
    assert archives.MAX_UNPACKED_BYTES > 2 * (6 << 30)
    lakh = SOURCES["lahk_full"].size_bytes or 0
    assert archives.FREE_UNPACKED_BYTES + archives.MAX_RATIO * lakh > 2 * (6 << 30)
    assert archives.FREE_ENTRIES + lakh // archives.BYTES_PER_ENTRY > 178_561 + 17


def test_unpack_tells_what_became_of_the_members(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "a.zip").write_bytes(make_zip(("a.mid", SONG), ("b.txt", b"")))
    tally = unpack(tmp_path / "a.zip", tmp_path / "out", SOURCES["lahk"])
    assert (tally.kept, dict(tally.skipped)) == (1, {"files that are not MIDI": 1})
