"""Brings one file over HTTP, through broken connections, busy servers and warning pages."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode, urljoin

import requests
import urllib3
from tqdm import tqdm

from midinet.downloads.sources import Source

_CHUNK_BYTES = 16 << 10  # a connection that falls silent takes what it had of a chunk with it
_MAX_BYTES = 8 << 30  # several times the largest data set; ends a server that never stops
_MAX_PAGE_BYTES = 1 << 20
_MAX_PAGES = 3
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)$")


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    Attributes:
        waits_s: seconds before each further try. When as many tries in a row have brought no
            new bytes, the last one counts.
        timeout_s: seconds of silence after which a connection is given up.
    """

    waits_s: tuple[float, ...] = (1, 2, 4, 8, 16, 32)
    timeout_s: float = 30


class TransferError(Exception):
    """No further try would help; the text says why."""


class BrokenError(TransferError):
    """The connection broke or the server is busy: worth another try."""


class _Note(NamedTuple):
    """What a server says of a file, to tell it from a later one of that address."""

    mark: str | None = None
    size: int | None = None

    def contradicts(self, other: _Note) -> bool:
        return any(
            mine and theirs and mine != theirs for mine, theirs in zip(self, other, strict=True)
        )


class Part:
    """A file that is still coming, and beside it a note of which file it is.

    With the mark (an ETag or a date) the server sends the rest only if the rest still belongs to
    what is here.
    """

    def __init__(self, target: Path):
        self.path = target.with_name(f"{target.name}.part")
        self._note_path = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def note(self) -> _Note:
        try:
            mark, size = json.loads(self._note_path.read_text("utf-8"))
        except (OSError, ValueError, TypeError):
            return _Note()
        return _Note(
            mark if isinstance(mark, str) else None, size if isinstance(size, int) else None
        )

    def begin(self, note: _Note) -> None:
        """Starts from nothing."""
        self.discard()
        self._note_path.write_text(json.dumps(note), "utf-8")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note_path.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        self.path.touch()  # a whole file may be empty
        self.path.replace(target)
        self._note_path.unlink(missing_ok=True)


def fetch(source: Source, target: Path, patience: Patience) -> None:
    """Brings `source.url` to the file `target`, which appears when it is whole and right.

    Until then the bytes stand in a `Part`, where a later call finds them.

    Raises:
        TransferError: why the last try failed.
        OSError: the disk is full, or the like.
    """
    part = Part(target)
    furthest = part.size
    failures = 0
    with requests.Session() as session:
        session.headers["User-Agent"] = "midinet"
        # A compressed transfer would give sizes and ranges another meaning.
        session.headers["Accept-Encoding"] = "identity"
        while True:
            try:
                _connect_once(session, source, part, patience.timeout_s)
                break
            except BrokenError as error:
                failures = 1 if part.size > furthest else failures + 1
                furthest = max(furthest, part.size)
                if failures > len(patience.waits_s):
                    raise
                wait_s = patience.waits_s[failures - 1]
                tqdm.write(f"{source.name}: {error}; trying again in {wait_s:g} s")
                time.sleep(wait_s)
    _check_hash(source, part)
    part.finish(target)


def _connect_once(session: requests.Session, source: Source, part: Part, timeout_s: float) -> None:
    """One try; returns when the part is whole."""
    try:
        answer = _ask(session, source.url, part, timeout_s)
        with answer.response:
            if answer.response.status_code == 416:
                if answer.range == (None, part.size):
                    return  # nothing is left to send
                part.discard()
                raise BrokenError("what was kept does not fit the file")
            total = _settle(answer, source, part)
            _receive(answer, source, part, total)
    except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise BrokenError(f"no answer for {timeout_s:g} s") from error
    except (requests.ConnectionError, urllib3.exceptions.HTTPError) as error:
        raise BrokenError(f"the connection failed ({_innermost(error)})") from error
    except requests.RequestException as error:
        raise TransferError(str(error)) from error


class _Answer:
    """A response whose first bytes have been looked at."""

    def __init__(self, response: requests.Response):
        self.response = response
        self._head = response.raw.read(512, decode_content=False)

    @property
    def is_page(self) -> bool:
        # By content: servers call pages archives and archives pages. No archive starts so.
        return self._head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")

    @property
    def mark(self) -> str | None:
        """What tells this file from a later one; HTTP allows no weak ETag in If-Range."""
        etag = self.response.headers.get("ETag")
        return etag if etag and etag[0] == '"' else self.response.headers.get("Last-Modified")

    @property
    def length(self) -> int | None:
        text = self.response.headers.get("Content-Length", "")
        return int(text) if text.isdecimal() else None

    @property
    def range(self) -> tuple[int | None, int | None]:
        """Where the bytes sent begin in the file, and the size of the file."""
        match = _CONTENT_RANGE.match(self.response.headers.get("Content-Range", ""))
        if not match:
            return None, None
        start, total = match.groups()
        return (int(start) if start else None), (int(total) if total != "*" else None)

    def chunks(self) -> Iterator[bytes]:
        yield self._head
        yield from self.response.raw.stream(_CHUNK_BYTES, decode_content=False)

    def page(self) -> WebPage:
        return WebPage(self._head + self.response.raw.read(_MAX_PAGE_BYTES, decode_content=False))


def _ask(session: requests.Session, url: str, part: Part, timeout_s: float) -> _Answer:
    """Sends the request, again by the form of a warning page if there is one."""
    headers = {"Range": f"bytes={part.size}-"} if part.size else {}
    if headers and part.note.mark:
        headers["If-Range"] = part.note.mark
    for _ in range(_MAX_PAGES):
        response = session.get(url, headers=headers, stream=True, timeout=timeout_s)
        status = f"the server answered {response.status_code} {response.reason}"
        if response.status_code in _TRY_AGAIN:
            response.close()
            raise BrokenError(status)
        if response.status_code not in (200, 206, 416):
            response.close()
            raise TransferError(status)
        answer = _Answer(response)
        if response.status_code != 200 or not answer.is_page:
            return answer
        with response:
            page = answer.page()
        if page.form_action is None:
            title = f" ({' '.join(page.title.split())!r})" if page.title else ""
            raise TransferError(f"the server sent a web page instead of an archive{title}")
        url = urljoin(response.url, page.form_action) + "?" + urlencode(page.form_fields)
    raise TransferError("the server sent one warning page after another")


class WebPage(HTMLParser):
    """What matters of an HTML page: its title, and the form behind "Download anyway".

    Before a file it can't scan for viruses Google Drive sends such a page. Its form
    (`id="download-form"`, sent by GET) has the fields id, export, confirm and uuid; whatever they
    are, they go back as they came.
    """

    def __init__(self, page: bytes):
        super().__init__()
        self.title = ""
        self.form_action: str | None = None
        self.form_fields: dict[str, str] = {}
        self._in_title = False
        self._in_form = False
        self.feed(page.decode("utf-8", "replace"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "title":
            self._in_title = True
        elif tag == "form" and values.get("id") == "download-form":
            self._in_form = True
            self.form_action = values.get("action", "")
        elif tag == "input" and self._in_form and values.get("name"):
            self.form_fields[values["name"]] = values.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        elif tag == "form":
            self._in_form = False

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data


def _settle(answer: _Answer, source: Source, part: Part) -> int | None:
    """Decides whether the answer continues the part or replaces it; returns the whole size."""
    if answer.response.status_code == 206:
        start, total = answer.range
        if start != part.size or part.note.contradicts(_Note(answer.mark, total)):
            part.discard()
            raise BrokenError("the file changed at the server")
    else:
        total = answer.length
        part.begin(_Note(answer.mark, total))
    if source.size_bytes is not None and total not in (None, source.size_bytes):
        raise TransferError(f"the server has {total:,} bytes instead of {source.size_bytes:,}")
    return source.size_bytes if total is None else total


def _receive(answer: _Answer, source: Source, part: Part, total: int | None) -> None:
    """Appends what comes to the part."""
    bar = tqdm(
        desc=source.name,
        total=total,
        initial=part.size,
        unit="B",
        unit_scale=True,
        disable=None,  # for people to see, not for logs
    )
    promised = "" if total is None else f" of {total:,}"
    most = _MAX_BYTES if total is None else min(total, _MAX_BYTES)
    with bar, part.path.open("ab") as file:
        try:
            for chunk in answer.chunks():
                file.write(chunk)
                bar.update(len(chunk))
                if file.tell() > most:
                    break
        except urllib3.exceptions.ProtocolError as error:
            broke = f"the connection broke after {file.tell():,}{promised} bytes"
            raise BrokenError(broke) from error
    if part.size > most:
        part.discard()
        raise TransferError(f"the server sent more than {most:,} bytes")
    if total is not None and part.size < total:
        raise BrokenError(f"the connection broke after {part.size:,}{promised} bytes")


def _check_hash(source: Source, part: Part) -> None:
    if not source.sha256_start:
        return
    digest = hashlib.sha256()
    with part.path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    if not digest.hexdigest().startswith(source.sha256_start):
        part.discard()
        raise TransferError(
            f"what came has the SHA-256 {digest.hexdigest()[:8]}... "
            f"instead of {source.sha256_start}...: another file, or damaged on its way"
        )


def _innermost(error: BaseException) -> str:
    """The word of the operating system, which requests wraps in three others."""
    while True:
        reason = getattr(error, "reason", None)
        inner = reason if isinstance(reason, BaseException) else None
        inner = inner or error.__cause__ or error.__context__
        if inner is None:
            return getattr(error, "strerror", None) or str(error)
        error = inner
