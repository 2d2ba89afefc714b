"""Downloads from a server that misbehaves on command."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import random
import re
import threading
from collections.abc import Callable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from midinet.downloads import download as fetching
from midinet.downloads import transfer
from midinet.downloads.download import download
from midinet.downloads.sources import SOURCES
from midinet.downloads.transfer import RetryPolicy
from midinet.errors import ArchiveError, DownloadError
from tests.downloads.archive_makers import SONG, make_tar, make_wad, make_zip, song

# Random bytes, so that the archive stays large enough to be cut in many places.
SONGS = {f"{number}.mid": SONG + random.Random(number).randbytes(90_000) for number in range(8)}
ARCHIVE = make_zip(*SONGS.items())
CHANGED = make_zip(("changed.mid", SONG + random.Random(99).randbytes(600_000)))


class Site:
    """A web site with one file. Each request is answered by the next of `script`, then well."""

    def __init__(self) -> None:
        self.content = ARCHIVE
        self.etag: str | None = '"one"'
        self.modified: str | None = None
        self.script: list[Callable[[Request], None]] = []
        self.requests: list[tuple[str, Message]] = []
        self.closing = threading.Event()
        site = self

        class Bound(Request):
            pass

        Bound.site = site
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self.url = f"http://127.0.0.1:{self.server.server_port}/file.zip"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def ranges(self) -> list[str | None]:
        return [headers["Range"] for _, headers in self.requests]


class Request(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        self.site.requests.append((self.path, self.headers))
        answer = self.site.script.pop(0) if self.site.script else serve()
        answer(self)

    def log_message(self, *_: Any) -> None:
        pass

    def begin(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if self.site.etag:
            self.send_header("ETag", self.site.etag)
        if self.site.modified:
            self.send_header("Last-Modified", self.site.modified)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()


Answer = Callable[[Request], None]


def serve(
    stop: int | None = None,
    knows_ranges: bool = True,
    minds_marks: bool = True,
    length: int | None = -1,
    extra: bytes = b"",
    stall: bool = False,
) -> Answer:
    """Answers as a good server would, but for what the arguments say.

    Args:
        stop: the connection is closed after so many bytes of the body.
        knows_ranges: answers Range requests; otherwise sends all.
        minds_marks: looks at If-Range.
        length: the Content-Length to claim; None for none.
        extra: bytes sent after the body.
        stall: the connection stays open in silence at the end.
    """

    def answer(request: Request) -> None:
        site, data, start = request.site, request.site.content, 0
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        mark = request.headers.get("If-Range")
        is_same = not minds_marks or mark in (None, site.etag, site.modified)
        if knows_ranges and wanted and is_same:
            start = int(wanted[1])
            if start >= len(data):
                request.begin(416, 0, Content_Range=f"bytes */{len(data)}")
                return
        body = data[start:] + extra
        claimed = len(body) if length == -1 else length
        if start:
            last = len(data) - 1
            request.begin(206, claimed, Content_Range=f"bytes {start}-{last}/{len(data)}")
        else:
            request.begin(200, claimed)
        request.wfile.write(body[:stop])
        request.wfile.flush()
        if stall:
            site.closing.wait(5)

    return answer


def status(code: int, **headers: str) -> Answer:
    return lambda request: request.begin(code, 0, **headers)


def page(html: str, code: int = 200, kind: str = "text/html; charset=utf-8") -> Answer:
    def answer(request: Request) -> None:
        request.begin(code, len(html.encode()), Content_Type=kind)
        request.wfile.write(html.encode())

    return answer


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    """The site has the place of RuneScape's; nobody waits long."""
    site = Site()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetching, "RETRY_POLICY", RetryPolicy(waits_s=(0, 0, 0), timeout_s=0.3))
    use(monkeypatch, site)
    yield site
    site.close()


def use(monkeypatch: pytest.MonkeyPatch, site: Site, dataset: str = "rs_ost", **facts: Any) -> None:
    source = dataclasses.replace(SOURCES[dataset], **{"url": site.url, **facts})
    monkeypatch.setitem(SOURCES, dataset, source)


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "songs"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_clean(output: Path, songs: dict[str, bytes] | None = None) -> None:
    """The songs are there and nothing else is, not even beside them."""
    assert contents(output) == (SONGS if songs is None else songs)
    assert list(output.parent.iterdir()) == [output]


def failure(output: Path, dataset: str = "rs_ost") -> str:
    """The line that a download which can't succeed ends in."""
    with pytest.raises(DownloadError) as caught:
        download(dataset, output)
    assert not output.exists()
    message = str(caught.value)
    assert "\n" not in message
    assert SOURCES[dataset].url in message
    assert (
        f"download.py -d {dataset} -o {output} --archive {SOURCES[dataset].mirror_file}" in message
    )
    return message


# --- connections that break -------------------------------------------------------------------


def test_fetches_and_unpacks(site, output, capsys):
    assert download("rs_ost", output) == output
    assert_clean(output)
    assert len(site.requests) == 1
    size = f"{len(ARCHIVE) / 1e6:.1f} MB"
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"rs_ost: downloading {size} from 127.0.0.1"
    assert "8 files kept" in said[-1]


@pytest.mark.parametrize("seed", range(6))
def test_connections_that_break_anywhere_are_resumed(site, output, seed):
    cuts = sorted(random.Random(seed).sample(range(len(ARCHIVE)), 3))
    steps = [cuts[0], cuts[1] - cuts[0], cuts[2] - cuts[1]]
    site.script = [serve(stop=step) for step in steps]
    download("rs_ost", output)
    assert_clean(output)
    assert site.ranges == [None, *(f"bytes={cut}-" for cut in cuts)]


@pytest.mark.parametrize("cut", [0, 1, 511, 512, 513, len(ARCHIVE) - 1])
def test_nor_do_the_edges_of_a_file_matter(site, output, cut):
    site.script = [serve(stop=cut)]
    download("rs_ost", output)
    assert_clean(output)


def test_more_breaks_than_tries_are_no_matter_while_bytes_come(site, output):
    site.script = [serve(stop=50_000)] * 12
    download("rs_ost", output)
    assert_clean(output)


def test_a_server_that_never_gets_further_is_given_up(site, output):
    site.script = [serve(stop=1000, knows_ranges=False)] * 99
    assert "broke after 1,000 of" in failure(output)
    assert 4 <= len(site.requests) <= 6


def test_a_server_without_ranges_sends_all_again(site, output):
    site.script = [serve(stop=400_000, knows_ranges=False)] * 2 + [serve(knows_ranges=False)]
    download("rs_ost", output)
    assert_clean(output)


def test_goes_on_where_an_earlier_call_was_cut_off(site, output, capsys):
    site.script = [serve(stop=300_000), *[status(503)] * 9]
    assert "300,000 bytes are kept" in failure(output)
    assert (output.parent / "songs.rs_ost.zip.part").stat().st_size == 300_000
    site.script = []
    download("rs_ost", output)
    assert_clean(output)
    assert "MB from 127.0.0.1, of which 0.3 MB are here already" in capsys.readouterr().out
    assert site.ranges[-1] == "bytes=300000-"
    assert site.requests[-1][1]["If-Range"] == '"one"'


def test_a_part_that_was_whole_already_is_taken(site, output):
    site.script = [serve(stop=300_000), *[status(503)] * 9]
    failure(output)
    (output.parent / "songs.rs_ost.zip.part").write_bytes(ARCHIVE)
    site.script = []
    site.requests.clear()
    download("rs_ost", output)
    assert_clean(output)
    assert site.ranges == [f"bytes={len(ARCHIVE)}-"]


def test_a_part_longer_than_the_file_is_fetched_anew(site, output):
    (output.parent / "songs.rs_ost.zip.part").write_bytes(ARCHIVE + b"more")
    download("rs_ost", output)
    assert_clean(output)


@pytest.mark.parametrize("note", [b"", b"\xff", b"[]", b"[3, []]", b"{}"])
def test_a_spoilt_note_beside_the_part_does_no_harm(site, output, note):
    (output.parent / "songs.rs_ost.zip.part").write_bytes(ARCHIVE[:1000])
    (output.parent / "songs.rs_ost.zip.part.json").write_bytes(note)
    download("rs_ost", output)
    assert_clean(output)


@pytest.mark.parametrize("minds_marks", [True, False])
@pytest.mark.parametrize("etags", [('"one"', '"two"'), (None, None)])
def test_a_file_changed_between_two_tries_is_fetched_anew(site, output, minds_marks, etags):
    def change(request: Request) -> None:
        site.content, site.etag = CHANGED, etags[1]
        serve(minds_marks=minds_marks)(request)

    site.etag = etags[0]
    site.script = [serve(stop=300_000), change]
    download("rs_ost", output)
    assert list(contents(output)) == ["changed.mid"]


def test_a_rest_that_begins_elsewhere_is_not_taken(site, output):
    def send_wrong_rest(request: Request) -> None:
        last = len(ARCHIVE) - 1
        request.begin(206, 100, Content_Range=f"bytes {last - 99}-{last}/{len(ARCHIVE)}")
        request.wfile.write(ARCHIVE[-100:])

    site.script = [serve(stop=len(ARCHIVE) - 200), send_wrong_rest]
    download("rs_ost", output)
    assert_clean(output)


def test_a_date_does_where_there_is_no_etag(site, output):
    site.etag, site.modified = None, "Mon, 01 Mar 2021 10:00:00 GMT"
    site.script = [serve(stop=300_000)]
    download("rs_ost", output)
    assert_clean(output)
    assert site.requests[-1][1]["If-Range"] == site.modified


def test_a_weak_etag_is_not_sent_back(site, output):
    site.etag = 'W/"one"'
    site.script = [serve(stop=300_000)]
    download("rs_ost", output)
    assert_clean(output)
    assert site.requests[-1][1]["If-Range"] is None


def test_silence_is_ended_by_a_time_out(site, output):
    site.script = [serve(stop=200_000, stall=True)]
    download("rs_ost", output)
    assert_clean(output)
    assert site.ranges[0] is None
    assert int(site.ranges[1].removeprefix("bytes=").removesuffix("-")) > 180_000


def test_silence_for_ever_is_given_up(site, output, monkeypatch):
    monkeypatch.setattr(fetching, "RETRY_POLICY", RetryPolicy(waits_s=(0,), timeout_s=0.1))
    site.script = [serve(stop=0, stall=True)] * 9
    assert "no answer for 0.1 s" in failure(output)


def test_nobody_at_home(site, output):
    site.close()
    assert re.search(r"the connection failed \(.*refused\)", failure(output))


class Clock:
    """Takes the place of the module `time`: waiting costs nothing."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.waits: list[float] = []

    def sleep(self, wait_s: float) -> None:
        self.waits.append(wait_s)
        self.now_s += wait_s

    def monotonic(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("error", "takes_s", "waits", "said"),
    [
        (requests.ConnectionError("no such host"), 0, [1, 2, 4], "the connection failed"),
        (requests.ConnectTimeout(), 5, [1], "the server can't be reached within 5 s"),
        (requests.ReadTimeout(), 30, [1, 2, 4, 8, 16, 32], "no answer for 30 s"),
    ],
)
def test_without_a_network_it_ends_within_15_seconds(
    output, monkeypatch, error, takes_s, waits, said
):
    clock = Clock()

    def get(*_: Any, **__: Any) -> None:
        clock.now_s += takes_s
        raise error

    monkeypatch.setattr(transfer, "time", clock)
    monkeypatch.setattr(requests.Session, "get", get)
    monkeypatch.setattr(fetching, "RETRY_POLICY", RetryPolicy())
    message = failure(output, "freedoom")
    assert said in message
    assert "Or run pip download --no-deps vizdoom==1.3.2, and then " in message
    assert message.endswith(f"-o {output} --archive vizdoom-1.3.2-*.whl")
    assert clock.waits == waits


def test_waits_grow_and_begin_anew_when_bytes_come(site, output, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(transfer.time, "sleep", waits.append)
    monkeypatch.setattr(fetching, "RETRY_POLICY", RetryPolicy())
    site.script = [status(503)] * 3 + [serve(stop=5)] + [status(503)] * 2
    download("rs_ost", output)
    assert waits == [1, 2, 4, 1, 2, 4]
    assert sorted(RetryPolicy().waits_s) == list(RetryPolicy().waits_s)


# --- answers that are no file -----------------------------------------------------------------


@pytest.mark.parametrize("code", [500, 502, 503, 429])
def test_a_busy_server_is_asked_again(site, output, code):
    site.script = [status(code), status(code)]
    download("rs_ost", output)
    assert_clean(output)


@pytest.mark.parametrize("code", [404, 403, 410, 204])
def test_a_server_that_says_no_is_believed_at_once(site, output, code):
    site.script = [status(code)]
    assert f"the server answered {code}" in failure(output)
    assert len(site.requests) == 1


def test_redirects_are_followed(site, output):
    site.script = [status(302, Location="/elsewhere"), status(307, Location="/there")]
    download("rs_ost", output)
    assert_clean(output)
    assert [path for path, _ in site.requests] == ["/file.zip", "/elsewhere", "/there"]


def test_redirects_in_a_circle_are_left(site, output):
    site.script = [status(302, Location="/file.zip")] * 99
    assert "redirects" in failure(output)


@pytest.mark.parametrize("kind", ["text/html", "application/zip"])
def test_a_page_in_place_of_the_archive_is_recognised(site, output, kind):
    site.script = [page("\n<!doctype html><title>Not\nFound</title><p>Sorry", kind=kind)]
    message = failure(output)
    assert "a web page instead of an archive ('Not Found')" in message
    assert len(site.requests) == 1
    assert list(output.parent.iterdir()) == []


def test_a_page_does_not_cost_what_was_kept(site, output):
    site.script = [serve(stop=300_000), page("<html>log in to the WLAN</html>")]
    assert "300,000 bytes are kept" in failure(output)
    download("rs_ost", output)
    assert_clean(output)


WARNING = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head>
<body><p class="uc-warning-caption">Google Drive can't scan this file for viruses.</p>
<form id="search"><input type="hidden" name="q" value="no"></form>
<form id="download-form" action="/download" method="get">
<input type="submit" id="uc-download-link" value="Download anyway"/>
<input type="hidden" name="id" value="0Bx3m4"><input type="hidden" name="export" value="download">
<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="a&amp;b">
</form></body></html>"""


def test_google_drives_warning_page_is_confirmed_and_the_file_resumed(site, output, monkeypatch):
    use(monkeypatch, site, url=site.url.replace("file.zip", "uc?export=download&id=0Bx3m4"))
    site.script = [page(WARNING), serve(stop=300_000), page(WARNING)]
    download("rs_ost", output)
    assert_clean(output)
    asked, confirmed = "/uc?export=download&id=0Bx3m4", "/download?id=0Bx3m4"
    paths = [path for path, _ in site.requests]
    assert paths[0] == paths[2] == asked
    assert paths[1] == paths[3] == f"{confirmed}&export=download&confirm=t&uuid=a%26b"
    assert site.ranges[3] == "bytes=300000-"


def test_google_drives_quota_page_is_said(site, output):
    site.script = [page("<html><head><title>Google Drive - Quota exceeded</title></head></html>")]
    assert "'Google Drive - Quota exceeded'" in failure(output)


def test_one_warning_page_after_another_is_left(site, output):
    site.script = [page(WARNING)] * 99
    assert "one warning page after another" in failure(output)


# --- sizes and hashes -------------------------------------------------------------------------


def test_a_file_of_unannounced_length_is_taken_as_it_comes(site, output):
    site.script = [serve(length=None)]
    download("rs_ost", output)
    assert_clean(output)


def test_a_file_of_unannounced_length_that_is_cut_off_is_found_out(site, output):
    site.script = [serve(length=None, stop=300_000)]
    with pytest.raises(ArchiveError, match=r"damaged or cut off.*deleted") as caught:
        download("rs_ost", output)
    assert str(caught.value).startswith(f"{site.url}: ")
    assert "songs.rs_ost.zip" not in str(caught.value)
    assert list(output.parent.iterdir()) == []
    download("rs_ost", output)
    assert_clean(output)


def test_too_few_bytes_of_a_known_file_are_completed(site, output, monkeypatch):
    use(monkeypatch, site, size_bytes=len(ARCHIVE))
    site.script = [serve(length=None, stop=300_000)]
    download("rs_ost", output)
    assert_clean(output)
    assert site.ranges == [None, "bytes=300000-"]


def test_bytes_after_the_announced_ones_are_no_part_of_the_file(site, output):
    site.script = [serve(extra=b"x" * 1000, length=len(ARCHIVE))]
    download("rs_ost", output)
    assert_clean(output)


def test_too_many_bytes_of_a_known_file_are_refused(site, output, monkeypatch):
    use(monkeypatch, site, size_bytes=len(ARCHIVE))
    site.script = [serve(extra=b"x", length=None)]
    assert f"more than {len(ARCHIVE):,} bytes" in failure(output)
    assert list(output.parent.iterdir()) == []


@pytest.mark.parametrize("is_size_known", [True, False])
def test_a_server_that_never_stops_is_stopped(site, output, monkeypatch, is_size_known):
    def never_stop(request: Request) -> None:
        request.begin(200, None)
        with contextlib.suppress(ConnectionError):
            while not site.closing.is_set():
                request.wfile.write(bytes(1 << 16))

    if is_size_known:
        use(monkeypatch, site, size_bytes=len(ARCHIVE))
    else:
        monkeypatch.setattr(transfer, "_MAX_BYTES", len(ARCHIVE))
    site.script = [never_stop]
    assert f"more than {len(ARCHIVE):,} bytes" in failure(output)
    assert list(output.parent.iterdir()) == []


def test_a_file_of_another_size_is_not_even_begun(site, output, monkeypatch):
    use(monkeypatch, site, size_bytes=1_234_567)
    assert f"{len(ARCHIVE):,} bytes instead of 1,234,567" in failure(output)


def test_the_hash_is_checked_over_all_connections(site, output, monkeypatch):
    use(monkeypatch, site, sha256_start=hashlib.sha256(ARCHIVE).hexdigest()[:8])
    site.script = [serve(stop=300_000)]
    download("rs_ost", output)
    assert_clean(output)


def test_another_hash_is_another_file(site, output, monkeypatch):
    use(monkeypatch, site, sha256_start="0123abcd")
    assert "instead of 0123abcd" in failure(output)
    assert list(output.parent.iterdir()) == []


# --- every data set, and the disk -------------------------------------------------------------

WAD = make_wad(("D_A", song(1)))
MODEL = {
    "saved_model.pb": b"graph",
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": b"weights",
}


@pytest.mark.parametrize(
    ("dataset", "archive", "files"),
    [
        ("rs_ost", make_zip(("a/b.mid", SONG), ("a/c1234.mid", SONG)), {"b.mid"}),
        ("lahk", make_tar(("A/b.mid", SONG), ("A/b.1.mid", SONG), mode="w:gz"), {"b.mid"}),
        ("freedoom", make_zip(("f/freedoom2.wad", WAD)), {"freedoom2_D_A.mid"}),
        (
            "released_model",
            make_zip(*((f"midinet_model_trained/{name}", data) for name, data in MODEL.items())),
            set(MODEL),
        ),
    ],
)
def test_every_data_set_ends_in_its_files(site, output, monkeypatch, dataset, archive, files):
    use(monkeypatch, site, dataset)
    site.content = archive
    download(dataset, output)
    found = {p.relative_to(output).as_posix() for p in output.rglob("*") if p.is_file()}
    assert found == files
    assert list(output.parent.iterdir()) == [output]


def test_an_empty_output_folder_will_do(site, output):
    output.mkdir()
    download("rs_ost", output)
    assert_clean(output)


def test_the_output_folder_may_be_read_by_others(site, output):
    other = output.with_name("other")
    other.mkdir()
    download("rs_ost", output)
    assert output.stat().st_mode == other.stat().st_mode


def test_nothing_is_fetched_when_the_output_is_in_the_way(site, output):
    output.mkdir()
    (output / "mine.mid").write_bytes(SONG)
    with pytest.raises(DownloadError, match="is not empty"):
        download("rs_ost", output)
    assert contents(output) == {"mine.mid": SONG}
    assert site.requests == []


def fill_the_disk(monkeypatch: pytest.MonkeyPatch, mode: str, after: int) -> None:
    """Files opened with `mode` take `after` bytes in all, then the disk is full."""
    real_open = Path.open

    def open_on_full_disk(path: Path, *how: Any, **options: Any) -> Any:
        file = real_open(path, *how, **options)
        if how != (mode,):
            return file
        real_write, left = file.write, [after]

        class Full:
            def write(self, data: bytes) -> None:
                written = real_write(data[: left[0]])
                left[0] -= written
                if written < len(data):
                    raise OSError(errno.ENOSPC, "No space left on device")

            def __enter__(self) -> Full:
                return self

            def __exit__(self, *_: Any) -> None:
                file.close()

            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

        return Full()

    monkeypatch.setattr(Path, "open", open_on_full_disk)


def test_a_disk_full_while_fetching_keeps_what_came(site, output, monkeypatch):
    with monkeypatch.context() as full:
        fill_the_disk(full, "ab", after=300_000)
        with pytest.raises(DownloadError) as caught:
            download("rs_ost", output)
    assert str(caught.value) == (
        f"{output}: No space left on device: free some space and run the same command again; "
        "the 300,000 bytes that were downloaded are kept"
    )
    assert not output.exists()
    download("rs_ost", output)
    assert_clean(output)
    assert site.ranges == [None, "bytes=300000-"]


def test_a_disk_full_while_unpacking_keeps_the_archive(site, output, monkeypatch):
    with monkeypatch.context() as full:
        fill_the_disk(full, "xb", after=1000)
        with pytest.raises(DownloadError) as caught:
            download("rs_ost", output)
    assert str(caught.value) == (
        f"{output}: No space left on device: free some space and run the same command again; "
        "the archive is kept and will not be downloaded again"
    )
    assert [path.name for path in output.parent.iterdir()] == ["songs.rs_ost.zip"]
    download("rs_ost", output)
    assert_clean(output)
    assert len(site.requests) == 1


def test_a_disk_full_while_a_file_of_the_user_is_unpacked(output, tmp_path, monkeypatch):
    (tmp_path / "my.zip").write_bytes(ARCHIVE)
    fill_the_disk(monkeypatch, "xb", after=1000)
    with pytest.raises(DownloadError) as caught:
        download("rs_ost", output, tmp_path / "my.zip")
    expected = f"{output}: No space left on device: free some space and run the same command again"
    assert str(caught.value) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["my.zip"]


def test_ctrl_c_keeps_what_came(site, output, monkeypatch):
    def press(_: float) -> None:
        raise KeyboardInterrupt

    site.script = [serve(stop=300_000)]
    with monkeypatch.context() as pressed:
        pressed.setattr(transfer.time, "sleep", press)
        with pytest.raises(KeyboardInterrupt):
            download("rs_ost", output)
    download("rs_ost", output)
    assert_clean(output)
    assert site.ranges == [None, "bytes=300000-"]
