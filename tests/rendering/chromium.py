"""A headless Chromium to look at pages with, driven through its debugging protocol over a pipe.

Source: https://chromedevtools.github.io/devtools-protocol/ (messages are JSON, ended by a zero
byte; the browser reads them from file descriptor 3 and writes to 4).
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--mute-audio"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--autoplay-policy=no-user-gesture-required", "--remote-debugging-pipe"),
)
KEYS = {" ": "Space", "+": "Equal", "-": "Minus", "0": "Digit0", "2": "Digit2"}


class Chromium:
    """A browser with one page; a context manager that closes it.

    Attributes:
        events: what the browser told of the page, in order: `{"method": ..., "params": ...}`.
    """

    def __init__(self, profile: Path, timeout_s: float = 60):
        self.events: list[dict[str, Any]] = []
        self._timeout_s = timeout_s
        self._ids = itertools.count(1)
        self._buffer = b""
        to_browser, self._write_end = os.pipe()
        self._read_end, from_browser = os.pipe()
        redirected = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["bash", "-c", redirected, PROGRAM, *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._session: str | None = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self._session = None
        self.send("Browser.close")
        self._process.wait(timeout=self._timeout_s)
        os.close(self._write_end)
        os.close(self._read_end)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a command and returns its result; an error of the browser is raised."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write_end, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._read()
            if reply.get("id") == number:
                if "error" in reply:
                    raise RuntimeError(f"{method}: {reply['error']['message']}")
                return reply["result"]
            self.events.append(reply)

    def _read(self) -> dict[str, Any]:
        deadline = time.monotonic() + self._timeout_s
        while b"\0" not in self._buffer:
            remaining_s = max(0.0, deadline - time.monotonic())
            if not select.select([self._read_end], [], [], remaining_s)[0]:
                raise TimeoutError("Chromium does not answer")
            received = os.read(self._read_end, 1 << 20)
            if not received:
                raise ConnectionError("Chromium has ended")
            self._buffer += received
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def open(self, path: Path) -> None:
        """Opens a file and waits until it has loaded."""
        self.events.clear()
        self.send("Page.navigate", url=path.as_uri())
        self.wait_for("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; a promise is awaited."""
        result = self.send(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in result:
            raise RuntimeError(str(result["exceptionDetails"]))
        return result["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Waits until a JavaScript expression is true."""
        deadline = time.monotonic() + self._timeout_s
        while not self.evaluate(expression):
            if time.monotonic() > deadline:
                raise TimeoutError(f"never true: {expression}")
            time.sleep(0.02)

    def press(self, key: str, modifiers: int = 0) -> None:
        """Presses and releases a key, with the name that JavaScript gives it (shift is 8)."""
        text = {"text": key} if len(key) == 1 else {}
        common = {"key": key, "code": KEYS.get(key, key), "modifiers": modifiers}
        self.send("Input.dispatchKeyEvent", type="keyDown", **common, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def click(self, selector: str, share_x: float = 0.5, share_y: float = 0.5) -> None:
        """Clicks on an element, at a share of its width and height."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{element}.scrollIntoView({{block: 'center'}})")
        box = self.evaluate(f"{element}.getBoundingClientRect().toJSON()")
        x, y = box["x"] + share_x * box["width"], box["y"] + share_y * box["height"]
        at = {"x": x, "y": y, "button": "left", "clickCount": 1}
        self.send("Input.dispatchMouseEvent", type="mousePressed", buttons=1, **at)
        self.send("Input.dispatchMouseEvent", type="mouseReleased", **at)

    def resize(self, width: int, height: int, is_phone: bool = False) -> None:
        """Gives the page another size, in CSS pixels."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if is_phone else 1,
            mobile=is_phone,
        )

    def set_dark(self, is_dark: bool) -> None:
        """Makes the page believe that the user likes dark or light colours."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path | None = None, whole_page: bool = False) -> bytes:
        """A picture of the page, as PNG."""
        options = {"captureBeyondViewport": True} if whole_page else {}
        if whole_page:
            size = self.send("Page.getLayoutMetrics")["cssContentSize"]
            options["clip"] = {
                "x": 0,
                "y": 0,
                "scale": 1,
                **{k: size[k] for k in ("width", "height")},
            }
        png = base64.b64decode(self.send("Page.captureScreenshot", **options)["data"])
        if path is not None:
            path.write_bytes(png)
        return png

    @property
    def errors(self) -> list[str]:
        """What went wrong in the page: exceptions, and errors and warnings on its console."""
        found = []
        for event in self.events:
            params = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] != "verbose":
                found.append(params["entry"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled":
                found.append(str(params["args"]))
        return found

    @property
    def requests(self) -> list[str]:
        """The addresses that the page asked for, apart from those that need no network."""
        sent = [e for e in self.events if e["method"] == "Network.requestWillBeSent"]
        urls = [event["params"]["request"]["url"] for event in sent]
        return [url for url in urls if not url.startswith(("file:", "data:"))]
