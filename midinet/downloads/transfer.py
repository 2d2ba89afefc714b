"""Downloads one file over HTTP in spite of broken connections, busy servers and warning pages."""

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
from urllib.parse import urlencode, urljoin, urlsplit

import requests
import urllib3
from tqdm import tqdm

from midinet.downloads.sources import Source

_CHUNK_BYTES = 16 << 10  # small, because a chunk is lost if the connection stalls inside it
_MAX_BYTES = 8 << 30  # several times the largest data set; stops a server that never ends
_MAX_PAGE_BYTES = 1 << 20
_MAX_PAGES = 3
_RETRYABLE_STATUS = {408, 425, 429, 500, 502, 503, 504}
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)$")


@dataclass(frozen=True)
class RetryPolicy:
    """When a failed connection is tried again.

    Attributes:
        waits_s: seconds to wait before each retry. The download is given up after one try more
            than there are waits, unless one of them received new bytes: then counting starts
            again.
        timeout_s: seconds of silence after which a connection counts as broken.
        connect_timeout_s: seconds after which a server that can't be reached counts as such.
        offline_s: seconds after which the download is given up if no server was ever reached.
    """

    waits_s: tuple[float, ...] = (1, 2, 4, 8, 16, 32)
    timeout_s: float = 30
    connect_timeout_s: float = 5
    offline_s: float = 10


class TransferError(Exception):
    """The download failed and a retry would not help; the text says why."""


class RetryableError(TransferError):
    """The connection broke or the server is busy, so that a retry may help."""


class UnreachableError(RetryableError):
    """No connection, perhaps because there is no network at all."""


class _FileVersion(NamedTuple):
    """What a server says about a file, to tell it from a later file at the same address.

    Attributes:
        validator: HTTP's validator, an ETag or a Last-Modified date.
        size: in bytes.
    """

    validator: str | None = None
    size: int | None = None

    def contradicts(self, other: _FileVersion) -> bool:
        return any(
            mine and theirs and mine != theirs for mine, theirs in zip(self, other, strict=True)
        )


class PartialFile:
    """A file that is still being downloaded, with a note beside it of which version it is.

    Thanks to the validator in that note the server only continues the file if it has not changed.
    """

    def __init__(self, target: Path):
        self.path = target.with_name(f"{target.name}.part")
        self._version_path = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def version(self) -> _FileVersion:
        try:
            validator, size = json.loads(self._version_path.read_text("utf-8"))
        except (OSError, ValueError, TypeError):
            return _FileVersion()
        return _FileVersion(
            validator if isinstance(validator, str) else None,
            size if isinstance(size, int) else None,
        )

    def restart(self, version: _FileVersion) -> None:
        self.discard()
        self._version_path.write_text(json.dumps(version), "utf-8")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._version_path.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        self.path.touch()  # a complete file may be empty
        self.path.replace(target)
        self._version_path.unlink(missing_ok=True)


def fetch(source: Source, target: Path, retries: RetryPolicy) -> None:
    """Downloads `source.url` to the file `target`, which appears once it is complete and right.

    Until then the bytes are kept in a `PartialFile`, which a later call continues.

    Raises:
        TransferError: if the last try failed.
        OSError: if the file can't be written, for example because the disk is full.
    """
    part = PartialFile(target)
    max_size = part.size
    failures = 0
    start_s = time.monotonic()
    answers: list[int] = []
    with requests.Session() as session:
        session.hooks["response"].append(lambda response, **_: answers.append(response.status_code))
        session.headers["User-Agent"] = "midinet"
        # Sizes and ranges would count compressed bytes if the transfer were compressed.
        session.headers["Accept-Encoding"] = "identity"
        while True:
            try:
                _connect_once(session, source, part, retries)
                break
            except RetryableError as error:
                failures = 1 if part.size > max_size else failures + 1
                max_size = max(max_size, part.size)
                if failures > len(retries.waits_s):
                    raise
                wait_s = retries.waits_s[failures - 1]
                next_s = time.monotonic() + wait_s - start_s
                is_offline = isinstance(error, UnreachableError) and not answers
                if is_offline and next_s > retries.offline_s:
                    raise
                tqdm.write(f"{source.name}: {error}; trying again in {wait_s:g} s")
                time.sleep(wait_s)
    _check_hash(source, part)
    part.finish(target)


def _connect_once(
    session: requests.Session, source: Source, part: PartialFile, retries: RetryPolicy
) -> None:
    """Tries once; returns if the file is complete."""
    try:
        timeouts_s = (retries.connect_timeout_s, retries.timeout_s)
        answer = _request(session, source.url, part, timeouts_s)
        with answer.response:
            if answer.response.status_code == 416:
                if answer.range == (None, part.size):
                    return  # the file was already complete
                part.discard()
                raise RetryableError("the kept bytes do not fit the file")
            total = _resume_or_restart(answer, source, part)
            _receive(answer, source, part, total)
    except requests.ConnectTimeout as error:
        reason = f"the server can't be reached within {retries.connect_timeout_s:g} s"
        raise UnreachableError(reason) from error
    except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise RetryableError(f"no answer for {retries.timeout_s:g} s") from error
    except (requests.ConnectionError, urllib3.exceptions.HTTPError) as error:
        raise UnreachableError(f"the connection failed ({_root_cause(error)})") from error
    except requests.RequestException as error:
        raise TransferError(str(error)) from error


class _Answer:
    """A response of which the first bytes have been read."""

    def __init__(self, response: requests.Response):
        self.response = response
        self._head: bytes = response.raw.read(512, decode_content=False)

    @property
    def is_page(self) -> bool:
        # Judged by content, because servers label pages as archives and archives as pages.
        return self._head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")

    @property
    def version(self) -> _FileVersion:
        # HTTP does not allow weak ETags in If-Range.
        etag = self.response.headers.get("ETag", "")
        strong_etag = etag if etag.startswith('"') else None
        length = self.response.headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() else None
        if self.response.status_code == 206:
            size = self.range[1]
        return _FileVersion(strong_etag or self.response.headers.get("Last-Modified"), size)

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


def _request(
    session: requests.Session, url: str, part: PartialFile, timeouts_s: tuple[float, float]
) -> _Answer:
    """Sends the request; if a warning page comes, submits its form instead."""
    headers = {"Range": f"bytes={part.size}-"} if part.size else {}
    if headers and part.version.validator:
        headers["If-Range"] = part.version.validator
    for _ in range(_MAX_PAGES):
        response = session.get(url, headers=headers, stream=True, timeout=timeouts_s)
        status = f"the server answered {response.status_code} {response.reason}"
        if response.status_code in _RETRYABLE_STATUS:
            response.close()
            raise RetryableError(status)
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
    """The parts of an HTML page that matter here: its title and its download form.

    Google Drive sends such a page before a file that it can't scan for viruses. The form behind
    "Download anyway" (`id="download-form"`, sent by GET) has the fields id, export, confirm and
    uuid. All its fields are sent back unchanged, whatever they are.
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


def _resume_or_restart(answer: _Answer, source: Source, part: PartialFile) -> int | None:
    """Decides whether the answer continues the partial file or replaces it.

    Returns:
        The size of the complete file in bytes, if it is known.
    """
    version = answer.version
    if answer.response.status_code != 206:
        part.restart(version)
    elif answer.range[0] != part.size or part.version.contradicts(version):
        part.discard()
        raise RetryableError("the file on the server has changed")
    if source.size_bytes is not None and version.size not in (None, source.size_bytes):
        raise TransferError(
            f"the file on the server has {version.size:,} bytes instead of {source.size_bytes:,}"
        )
    return source.size_bytes if version.size is None else version.size


def _receive(answer: _Answer, source: Source, part: PartialFile, total: int | None) -> None:
    """Appends the bytes of the answer to the partial file."""
    host = urlsplit(answer.response.url).hostname
    amount = "a file of unknown size" if total is None else f"{total / 1e6:,.1f} MB"
    kept = f", of which {part.size / 1e6:,.1f} MB are here already" if part.size else ""
    tqdm.write(f"{source.name}: downloading {amount} from {host}{kept}")
    bar = tqdm(
        desc=source.name,
        total=total,
        initial=part.size,
        unit="B",
        unit_scale=True,
        disable=None,  # hidden if the output is not a terminal
    )
    of_total = "" if total is None else f" of {total:,}"
    max_bytes = _MAX_BYTES if total is None else min(total, _MAX_BYTES)
    with bar, part.path.open("ab") as file:
        try:
            for chunk in answer.chunks():
                file.write(chunk)
                bar.update(len(chunk))
                if file.tell() > max_bytes:
                    break
        except urllib3.exceptions.ProtocolError as error:
            broken = f"the connection broke after {file.tell():,}{of_total} bytes"
            raise RetryableError(broken) from error
    if part.size > max_bytes:
        part.discard()
        raise TransferError(f"the server sent more than {max_bytes:,} bytes")
    if total is not None and part.size < total:
        raise RetryableError(f"the connection broke after {part.size:,}{of_total} bytes")


def _check_hash(source: Source, part: PartialFile) -> None:
    if not source.sha256_start:
        return
    with part.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(source.sha256_start):
        part.discard()
        raise TransferError(
            f"the SHA-256 of the file is {digest[:8]}... instead of {source.sha256_start}...: "
            "it is another file, or was damaged in transfer"
        )


def _root_cause(error: BaseException) -> str:
    """Returns the operating system's message, which requests wraps in three other errors."""
    while True:
        reason = getattr(error, "reason", None)
        inner = reason if isinstance(reason, BaseException) else None
        inner = inner or error.__cause__ or error.__context__
        if inner is None:
            return getattr(error, "strerror", None) or str(error)
        error = inner
