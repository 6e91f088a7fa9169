"""The live page: what it shows, who may see it, and that no browser can stop the camera."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from sdk.camera import Frame, web
from sdk.camera.sinks import jpeg
from sdk.camera.watcher import Result
from sdk.camera.web import MAX_CLIENTS, WebPage, _Handler
from sdk.errors import OutputError


def result(number: int) -> Result:
    frame = Frame(np.full((48, 64, 3), number, np.uint8), time.monotonic(), "camera")
    return Result(frame, number, ("cat",), False, (("cat", 0.9), ("dog <b>", 0.1)), 1.5, 7)


@pytest.fixture
def page() -> Iterator[WebPage]:
    with WebPage(port=0) as made:
        made.take(result(1))
        made.take(result(2))
        yield made


def get(url: str, **headers: str) -> bytes:
    data: bytes = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10).read()
    return data


def refused(url: str, **headers: str) -> int:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(url, **headers)
    with caught.value as error:
        return int(error.code)


def test_page(page: WebPage) -> None:
    assert page.url.startswith("http://127.0.0.1:")
    assert b"viewport" in get(page.url)
    state = json.loads(get(page.url + "state"))
    assert (state["label"], state["dropped"], state["history"]) == ("cat", 7, [0.9, 0.9])
    with Image.open(io.BytesIO(get(page.url + "frame.jpg"))) as image:
        assert image.size == (64, 48)
    for path in ("etc/passwd", "../../etc/passwd", "frame.jpg/..", "%2e%2e/state"):
        assert refused(page.url + path) == 404
    assert refused(page.url, Host="evil.example:80") == 403  # a stranger's name that leads here


def test_token() -> None:
    with WebPage("0.0.0.0", 0) as page:
        page.take(result(1))
        port, query = urlsplit(page.url).port, urlsplit(page.url).query
        assert len(page.token) > 20
        assert refused(f"http://127.0.0.1:{port}/state") == 403
        assert refused(f"http://127.0.0.1:{port}/state?token=wrong") == 403
        assert json.loads(get(f"http://127.0.0.1:{port}/state?{query}"))["label"] == "cat"


def test_browsers_that_never_read(page: WebPage, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than there are places: the rest is turned away, results go on, and the places come back."""
    monkeypatch.setattr(_Handler, "timeout", 60.0)
    address = ("127.0.0.1", int(urlsplit(page.url).port or 0))
    idle = [socket.create_connection(address) for _ in range(50)]
    start = time.monotonic()
    answers = []
    for line in idle[MAX_CLIENTS:]:
        line.settimeout(10)
        answers.append(line.recv(100)[:12])
    assert answers.count(b"HTTP/1.0 503") == 50 - MAX_CLIENTS
    for number in range(1000):
        page.take(result(number))
    assert time.monotonic() - start < 30
    for line in idle:
        line.close()
    for _ in range(200):
        try:
            assert json.loads(get(page.url + "state"))["number"] == 999
            break
        except (urllib.error.HTTPError, ConnectionError):
            time.sleep(0.05)
    else:
        pytest.fail("no place became free")


def test_answers_that_nobody_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures larger than what the system keeps for a socket: the places come back when the time is over."""
    monkeypatch.setattr(_Handler, "timeout", 0.5)
    noise = np.random.default_rng(0).integers(0, 256, (3000, 3000, 3), np.uint8)
    with WebPage(port=0) as page, contextlib.ExitStack() as stack:
        page.take(replace(result(0), frame=Frame(noise, 0.0, "camera")))
        assert len(page.picture()) > 5_000_000
        address = ("127.0.0.1", int(urlsplit(page.url).port or 0))
        for _ in range(MAX_CLIENTS):
            line = stack.enter_context(socket.socket())
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.connect(address)
            line.send(b"GET /frame.jpg HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert refused(page.url + "state") == 503
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with contextlib.suppress(urllib.error.HTTPError, ConnectionError):
                assert json.loads(get(page.url + "state"))["number"] == 0
                break
            time.sleep(0.05)
        else:
            pytest.fail("no place became free")


def test_request_that_comes_a_byte_at_a_time(page: WebPage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte is in time; the request is not."""
    monkeypatch.setattr(_Handler, "timeout", 0.5)
    start = time.monotonic()
    with socket.create_connection(("127.0.0.1", int(urlsplit(page.url).port or 0))) as line:
        line.settimeout(0.1)
        while time.monotonic() - start < 20:
            try:
                line.send(b"G")
                if not line.recv(1):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
    assert 0.4 < time.monotonic() - start < 15


def test_results_do_not_wait_for_a_picture(page: WebPage, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, done = threading.Event(), threading.Event()

    def slow(shown: Result) -> bytes:
        begun.set()
        assert done.wait(20)
        return jpeg(shown)

    monkeypatch.setattr(web, "jpeg", slow)
    with ThreadPoolExecutor(1) as pool:
        picture = pool.submit(page.picture)
        assert begun.wait(20)
        page.take(result(3))
        assert page.state()["number"] == 3
        done.set()
        with Image.open(io.BytesIO(picture.result())) as image:
            assert image.size == (64, 48)


def test_all_addresses_are_told_by_the_computers_name() -> None:
    """`--web :8080`."""
    with WebPage("", 0) as page:
        assert urlsplit(page.url).hostname == socket.gethostname().lower()
        assert page.token in page.url
        assert page.token


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_address_of_ipv6() -> None:
    try:
        with WebPage("::1", 0) as page:
            page.take(result(1))
            assert page.url.startswith("http://[::1]:")
            assert json.loads(get(page.url + "state"))["label"] == "cat"
    except OutputError:
        pytest.skip("this computer has no ::1")


def test_no_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A board without a name server would wait for one."""
    asked: list[object] = []
    monkeypatch.setattr(socket, "gethostbyaddr", asked.append)
    with WebPage("0.0.0.0", 0):
        assert not asked


def test_port_that_is_taken(page: WebPage) -> None:
    with pytest.raises(OutputError, match="cannot listen"):
        WebPage(port=int(urlsplit(page.url).port or 0))
