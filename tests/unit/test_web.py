"""What another machine answers is limited in size, time and nesting, and comes from where the owner said."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from ftlab.core import web
from ftlab.core.endpoint import Asker, Endpoint
from ftlab.errors import FtlabError


@contextmanager
def answering(send: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a server that reads a request and lets `send` do the rest."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                try:
                    send(connection)
                    # Closed with a part of the request unread, a connection is reset, and the answer lost.
                    connection.shutdown(socket.SHUT_WR)
                    connection.settimeout(5)
                    while connection.recv(65536):
                        pass
                except OSError:
                    pass

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"
    server.close()


def with_body(body: bytes, *headers: str, status: str = "200 OK") -> Callable[[socket.socket], None]:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return lambda connection: connection.sendall("\r\n".join(lines).encode() + body)


def dripping(connection: socket.socket, head: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n") -> None:
    connection.sendall(head)
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def asked(url: str, seconds: float = 5.0) -> FtlabError:
    asker = Asker(Endpoint(url, "m", timeout=seconds), threading.Event())
    with pytest.raises(FtlabError) as caught:
        asker.ask([{"role": "user", "content": "hi"}])
    assert "Traceback" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("send", "said"),
    [
        (with_body(gzip.compress(b"x" * (64 << 20)), "Content-Encoding: gzip"), "larger than 16 MB"),
        (with_body(b"abc", "Content-Encoding: gzip"), "claims to be compressed"),
        (with_body(b"abc", "Content-Encoding: br"), "compressed as br"),
        (with_body(b"x" * (17 << 20)), "larger than 16 MB"),
        (with_body(b"[" * 100_000), "does not answer as an OpenAI"),
        (with_body(b'{"choices": ' + b"[" * 500 + b"]" * 500 + b"}"), "does not answer as an OpenAI"),
        (with_body(b'{"choices": ' + b"9" * 5000 + b"}"), "does not answer as an OpenAI"),
        (with_body(b"x\x9c", "Content-Type: application/json; charset=zlib"), "does not answer as an OpenAI"),
        (with_body(b"[" * 100_000, status="400 Bad Request"), "rejected the request"),
        (with_body(b"", "Location: http://169.254.169.254/", status="302 Found"), "does not follow"),
    ],
)
def test_an_answer_beyond_the_limits_is_refused_in_one_sentence(send: Callable, said: str) -> None:
    with answering(send) as url:
        assert said in str(asked(url))


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: "])
def test_an_answer_that_drips_is_over_in_time(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftlab.core.endpoint.ATTEMPTS", 1)
    with answering(lambda connection: dripping(connection, head)) as url:
        begun = time.monotonic()
        assert "has not answered within 1 s" in str(asked(url, 1.0))
        assert time.monotonic() - begun < 3


def test_half_an_emoji_in_a_reply_is_replaced() -> None:
    body = json.dumps({"choices": [{"message": {"content": "a \ud83d"}}]}).encode()
    with answering(with_body(body)) as url:
        reply = Asker(Endpoint(url, "m"), threading.Event()).ask([{"role": "user", "content": "hi"}])
    assert reply.text == "a \ufffd"


def test_a_name_that_stands_for_a_private_address_is_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(with_body(b"secret")) as url:
        port = int(url.split(":")[2].split("/")[0])
        for address in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "0.0.0.0", "fd00::1"):
            found = [(0, 0, 0, "", ("93.184.216.34", port)), (0, 0, 0, "", (address, port))]
            monkeypatch.setattr(web.socket, "getaddrinfo", lambda *_, found=found, **__: found)
            with pytest.raises(httpx.ConnectError, match="private network"):
                web.ask(
                    web.open_client("http://judge.example.com"), "GET", f"http://judge.example.com:{port}", seconds=5
                )
        monkeypatch.undo()
        # A redirect or link to this machine, from an address that was named outside of it.
        with pytest.raises(httpx.ConnectError, match="private network"):
            web.ask(web.open_client("https://pypi.org/simple"), "GET", url, seconds=5)
        # The owner named it.
        assert web.ask(web.open_client(url), "GET", url, seconds=5).text == "secret"
        monkeypatch.setenv("FTLAB_PRIVATE_HOSTS", "localhost, 127.0.0.1")
        assert web.ask(web.open_client("https://pypi.org/simple"), "GET", url, seconds=5).text == "secret"
