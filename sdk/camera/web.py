"""A live page: the picture and its boxes, classes, the score's history, frames a second, the board's temperature.

The page asks for a picture and for numbers a few times a second, each in a request of its own: a browser that never
reads, or asks a byte at a time, holds one of MAX_CLIENTS places until TIMEOUT_S, and nothing else. Whoever listens on
more than this computer gives a token to each request. There are three paths; no text of a request reaches the file
system.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import json
import secrets
import socket
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sdk.camera.sinks import Sink, jpeg
from sdk.camera.watcher import Result
from sdk.errors import OutputError

MAX_CLIENTS = 16
TIMEOUT_S = 5.0  # until a request has come, whole; and until an answer is taken
HISTORY = 120  # frames
TEMPERATURE = Path("/sys/class/thermal/thermal_zone0/temp")
BUSY = b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n"
PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Microlith</title><link rel="icon" href="data:,">
<style>
body{font:16px system-ui,sans-serif;margin:0 auto;max-width:42rem;padding:1rem;background:#111;color:#eee}
img{width:100%;border-radius:.5rem;background:#222;min-height:8rem}h1{margin:.5rem 0;font-size:2rem;min-height:2.4rem}
li{list-style:none;margin:.3rem 0}ul{padding:0}meter{width:50%;margin-right:.6rem}p{color:#aaa}
svg{width:100%;height:4rem}small{color:#aaa}
@media(min-width:56rem){
body{max-width:80rem;display:grid;grid-template-columns:3fr 2fr;grid-template-rows:repeat(4,auto) 1fr;column-gap:1.5rem}
body>*{grid-column:2}img{grid-area:1/1/6/2;max-height:95vh;object-fit:contain}
}
</style>
<img id="picture" alt="what the camera sees"><h1 id="label">-</h1><ul id="top"></ul>
<svg id="history" viewBox="0 0 120 100" preserveAspectRatio="none"><polyline fill="none" stroke="#6cf"/></svg>
<small>score of the best class, frame by frame</small><p id="about"></p>
<script>
const query = location.search, $ = name => document.getElementById(name);
async function turn() {
  try {
    const state = await (await fetch("state" + query)).json();
    $("label").textContent = (state.labels ?? [state.label ?? ""]).join(", ") || "-";
    $("top").replaceChildren(...state.top.map(([name, score]) => {
      const row = document.createElement("li"), bar = document.createElement("meter");
      bar.value = score; row.append(bar, `${name}: ${Math.round(100 * score)} %`); return row;
    }));
    const points = state.history.map((y, x) => `${x},${100 - 100 * y}`).join(" ");
    $("history").firstElementChild.setAttribute("points", points);
    const heat = state.temperature_c === null ? "" : `, ${state.temperature_c} °C`;
    $("about").textContent = `${state.fps} frames a second, ${state.latency_ms} ms, ${state.dropped} dropped${heat}`;
    const picture = await (await fetch("frame.jpg" + query)).blob();
    URL.revokeObjectURL($("picture").src); $("picture").src = URL.createObjectURL(picture);
  } catch (error) { $("about").textContent = "no connection"; }
  setTimeout(turn, 150);
}
turn();
</script></html>
"""


class WebPage(Sink):
    """A sink that is a page at `url` until it is closed. `address`: where to listen; more than loopback needs a token,
    which is part of `url`. OutputError if the port is taken."""

    def __init__(self, address: str = "127.0.0.1", port: int = 8080) -> None:
        self.token = "" if _loopback(address) else secrets.token_urlsafe(16)
        self._lock, self._encoding = threading.Lock(), threading.Lock()
        self._result: Result | None = None
        self._picture: tuple[int, bytes] = (-1, b"")
        self._history: deque[tuple[float, float]] = deque(maxlen=HISTORY)  # when, score
        shown = f"[{address}]" if ":" in address else address
        try:
            self._server = _Server((address, port), self)
        except OSError as error:
            raise OutputError(
                f"cannot listen on {shown}:{port}: {error.strerror}", "Choose another one: --web ADDRESS:PORT"
            ) from error
        host = socket.gethostname() if address in ("", "0.0.0.0", "::") else shown
        self.url = f"http://{host}:{self._server.server_address[1]}/{f'?token={self.token}' if self.token else ''}"
        threading.Thread(target=self._server.serve_forever, name="web", daemon=True).start()

    def close(self) -> None:
        """Ends the page."""
        self._server.shutdown()
        self._server.server_close()

    def take(self, result: Result) -> None:
        """See sdk.camera.sinks: keeps it for whoever asks; nothing is computed for a page that nobody looks at."""
        with self._lock:
            self._result = result
            self._history.append((time.monotonic(), result.score))

    def state(self) -> dict[str, Any]:
        """What the page shows beside the picture."""
        with self._lock:
            result, history = self._result, list(self._history)
        span = history[-1][0] - history[0][0] if history else 0.0
        about = result.as_dict() if result is not None else {"label": None, "top": [], "latency_ms": 0, "dropped": 0}
        about["fps"] = round((len(history) - 1) / span, 1) if span > 0 else 0.0
        return {**about, "history": [round(score, 3) for _, score in history], "temperature_c": _temperature_c()}

    def picture(self) -> bytes:
        """The last frame as a JPEG, made once for all who ask; the camera does not wait for it."""
        with self._encoding:
            with self._lock:
                result = self._result
            if result is not None and self._picture[0] != result.number:
                self._picture = result.number, jpeg(result)
            return self._picture[1]

    def admits(self, host: str, token: str) -> bool:
        """Whether a request may be answered. Without a token its Host must be this computer's own name: a stranger's
        page may have one that leads here."""
        if self.token:
            return hmac.compare_digest(token.encode(), self.token.encode())
        return _loopback(urlsplit(f"//{host}").hostname or "")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], page: WebPage) -> None:
        self.page = page
        self._places = threading.BoundedSemaphore(MAX_CLIENTS)
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without HTTPServer's question for this computer's name, which takes long where no name server answers."""
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for each of MAX_CLIENTS; the others are told to come again."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        request.settimeout(0)
        with contextlib.suppress(OSError):  # it has gone already
            request.send(BUSY)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Gives the place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Browsers leave when they like."""


class _Handler(BaseHTTPRequestHandler):
    timeout = TIMEOUT_S
    server: _Server

    def handle(self) -> None:
        """One request. `timeout` is for each of its parts; this one for all of them."""
        self._late = threading.Timer(self.timeout, self._hang_up)
        self._late.daemon = True
        self._late.start()
        try:
            super().handle()
        finally:
            self._late.cancel()

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):  # it has gone already
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self) -> None:
        """Answers one of the three paths."""
        self._late.cancel()
        page, asked = self.server.page, urlsplit(self.path)
        token = parse_qs(asked.query).get("token", [""])[0]
        if not page.admits(self.headers.get("Host", ""), token):
            self._answer(403, "text/plain", b"The address that the camera printed has a token.")
        elif asked.path == "/":
            self._answer(200, "text/html; charset=utf-8", PAGE.encode())
        elif asked.path == "/state":
            self._answer(200, "application/json", json.dumps(page.state()).encode())
        elif asked.path == "/frame.jpg":
            self._answer(200, "image/jpeg", page.picture())
        else:
            self._answer(404, "text/plain", b"There is nothing here.")

    def _answer(self, status: int, kind: str, data: bytes) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(data)), "Cache-Control": "no-store"}
        headers |= {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """The console is for results."""


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _temperature_c() -> float | None:
    try:
        return round(int(TEMPERATURE.read_text()) / 1000, 1)
    except (OSError, ValueError):
        return None  # not every computer has a sensor there
