"""Requests to a language model behind an OpenAI-compatible endpoint (`POST .../chat/completions`).

The API key comes from the environment variable of its purpose and is sent to that endpoint only; it is stored nowhere,
and removed from everything the server returns.
"""

from __future__ import annotations

import abc
import ipaddress
import math
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from ftlab.core.web import Answer, TooMuch, ask, is_near, open_client
from ftlab.errors import FtlabError, InputError, shorten

ATTEMPTS = 5
MOST_AT_ONCE = 64  # requests
_PATH, _EMBEDDINGS = "/chat/completions", "/embeddings"
_PASSING = (408, 409, 425, 429, 500, 502, 503, 504, 529)  # worth a retry
_LONGEST_WAIT = 60.0  # seconds
_LOOK_SECONDS = 0.25
_GRACE_SECONDS = 10.0
_SECRET = 8  # characters: shorter keys are placeholders like EMPTY for local servers
# Parameters that newer models reject, and their replacements.
_OTHER_NAMES = {"max_tokens": "max_completion_tokens", "temperature": None}

_Read = TypeVar("_Read")


class Refused(FtlabError):
    """The server rejected this request; it may accept others."""


@dataclass(frozen=True)
class Purpose:
    """What an endpoint is used for: its `name` in messages, the variable of its key, what is `kept` after a failure."""

    name: str
    key_variable: str
    kept: str

    @property
    def set_key(self) -> str:
        return f"set {self.key_variable} in the environment of ftlab; the key is stored nowhere else"

    @property
    def later(self) -> str:
        return f"try again later; {self.kept}"


WRITER = Purpose("the writer", "FTLAB_ENDPOINT_KEY", "replies so far are kept")
JUDGE = Purpose("the judge", "FTLAB_JUDGE_KEY", "judgments so far are kept")
CONTESTANT = Purpose("the endpoint", "FTLAB_ENDPOINT_KEY", "answers so far are kept")
EMBEDDER = Purpose("the embedding model", "FTLAB_ENDPOINT_KEY", "vectors so far are kept")


@dataclass(frozen=True)
class Endpoint:
    """`url` is the address without /chat/completions; `max_tokens` limits a reply; `timeout` is in seconds."""

    url: str
    model: str
    max_tokens: int = 1024
    timeout: float = 120.0

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine."""
        name = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return name == "localhost" or name.endswith(".localhost")


@dataclass(frozen=True)
class Reply:
    """A model's reply. Token counts come from the server (None if absent); `cut`: the reply reached its limit."""

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cut: bool
    calls: tuple[Any, ...] = ()  # of tools, as the server writes them


@dataclass(frozen=True)
class Request:
    """Messages to send, with the tools that can be called; `key` tells their reply from others."""

    key: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class Replied:
    """What came back for a request: a reply, or the server's reason to reject this one. `seconds` is its time."""

    key: str
    reply: Reply | None
    refused: str
    seconds: float


def find_key(purpose: Purpose = JUDGE) -> str | None:
    """The key in the environment; None without one. Raises InputError when it is not valid in an HTTP header."""
    key = os.environ.get(purpose.key_variable, "").strip()
    if not all("!" <= character <= "~" for character in key):
        # The message does not repeat it: it is still a secret.
        raise InputError(f"The key in {purpose.key_variable} contains whitespace or a non-ASCII character")
    return key or None


def endpoint_url(url: str | None, purpose: Purpose = JUDGE) -> str:
    """`url` as it is stored: without /chat/completions at its end.

    Raises InputError when it is not an http(s) address, when it contains a password or a key (it is written to files),
    and when it would send the key unencrypted over a public network.
    """
    address = (url or "").strip().rstrip("/").removesuffix(_PATH).rstrip("/")
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.username or parts.password or parts.query or parts.fragment:
        # The message does not repeat it: it may contain the secret.
        raise InputError(
            f"The address of {purpose.name} has more than a scheme, host and path",
            allowed="an address like https://api.example.com/v1, without user, password, ? and #",
            try_=purpose.set_key,
        )
    if not address:
        raise InputError(
            f"The address of {purpose.name} is missing",
            allowed="an address like https://api.example.com/v1 or http://127.0.0.1:8000/v1",
        )
    if parts.scheme not in ("http", "https") or not host or " " in address:
        raise InputError(
            f"This is not a valid address for {purpose.name}",
            given=address,
            allowed="an address like https://api.example.com/v1 or http://127.0.0.1:8000/v1",
        )
    key = find_key(purpose)
    if key and len(key) >= _SECRET and key in address:
        raise InputError(f"The address of {purpose.name} contains the key", try_=purpose.set_key)
    if key and parts.scheme == "http" and not is_near(host):
        raise InputError(
            f"The key in {purpose.key_variable} would be sent unencrypted to {host}",
            allowed="https; http only to this machine or its local network",
        )
    return address


class Asker:
    """A client of one endpoint, usable from several threads. Setting `ended` stops all waiting."""

    def __init__(self, endpoint: Endpoint, ended: threading.Event, purpose: Purpose = JUDGE, *, temperature: float = 0):
        self._endpoint, self._ended, self._purpose, self._key = endpoint, ended, purpose, find_key(purpose)
        self._settings: dict[str, Any] = {"temperature": temperature, "max_tokens": endpoint.max_tokens}
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        # Redirects are not followed: the key is meant for this host only.
        self._client = open_client(endpoint.url, timeout=endpoint.timeout, headers=headers, follow_redirects=False)

    @property
    def settings(self) -> dict[str, Any]:
        """The request parameters besides the messages, as this model accepts them."""
        return dict(self._settings)

    @property
    def _title(self) -> str:
        return self._purpose.name[:1].upper() + self._purpose.name[1:]

    def close(self) -> None:
        self._client.close()

    def ask_all(
        self, requests: Sequence[Request], *, at_once: int, should_stop: Callable[[], bool] | None = None
    ) -> Iterator[Replied]:
        """What comes back for each of `requests`, in the order in which it comes.

        The first is sent alone: a wrong key or model is found by one request. After `should_stop`, or a failure, no
        more are sent; replies on their way have been paid for and are returned if they come soon. Raises the failure
        that ended it, after them. May be called again once all have come back.
        """
        todo: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        replied: queue.SimpleQueue[Replied | Exception | None] = queue.SimpleQueue()

        def work() -> None:
            while not self._ended.is_set():
                try:
                    request = todo.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    continue
                if request is None:
                    return
                began = time.monotonic()
                try:
                    reply, refused = self.ask(request.messages, request.tools), ""
                except Refused as error:
                    # One request may be too long for the model; the others are not.
                    reply, refused = None, str(error)
                except Exception as error:  # raised again below, in the thread of the caller
                    replied.put(error)
                    continue
                ended = reply is None and not refused
                replied.put(None if ended else Replied(request.key, reply, refused, time.monotonic() - began))

        # Daemons: nobody who presses ctrl-C waits for a reply that is on its way.
        threads = [threading.Thread(target=work, daemon=True, name="endpoint") for _ in requests[:at_once]]
        for thread in threads:
            thread.start()
        for request in requests[:1]:
            todo.put(request)
        done, last = 0, math.inf
        failure: Exception | None = None
        try:
            while done < len(requests):
                if not self._ended.is_set() and (failure is not None or (should_stop and should_stop())):
                    self._ended.set()
                if self._ended.is_set() and last == math.inf:
                    last = time.monotonic() + _GRACE_SECONDS
                over = time.monotonic() > last or not any(thread.is_alive() for thread in threads)
                if over and replied.empty():
                    break
                try:
                    answer = replied.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    continue
                if isinstance(answer, Exception):
                    failure = failure or answer
                elif answer is not None:
                    done += 1
                    yield answer
                    if done == 1:
                        for request in requests[1:]:
                            todo.put(request)
        finally:
            if done < len(requests):
                self._ended.set()
            for _ in threads:
                todo.put(None)
        if failure is not None:
            raise failure

    def ask(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> Reply | None:
        """The reply to `messages`, in which `tools` can be called; None when `ended` was set first.

        Retries after transient errors, with growing pauses or as long as the server asks for. Raises Refused when the
        server rejects these messages only, FtlabError for everything else.
        """
        body = {"messages": messages} | ({"tools": tools} if tools else {})
        return self._sent(_PATH, body, self._read, lambda: self.settings)

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each of `texts`, all of one length. Raises as `ask` does."""
        vectors = self._sent(
            _EMBEDDINGS, {"input": list(texts)}, lambda answer: self._vectors(answer, len(texts)), dict
        )
        assert vectors is not None  # `ended` is not set while it is used so
        return vectors

    def _sent(
        self,
        path: str,
        body: dict[str, Any],
        read: Callable[[Answer], _Read],
        settings_now: Callable[[], dict[str, Any]],
    ) -> _Read | None:
        """What `read` makes of the answer to `body` with the settings of that moment."""
        import httpx

        problem, pause = FtlabError(f"{self._title} was not called"), 0.0
        attempt = 0
        while attempt < ATTEMPTS:
            if self._ended.wait(pause):
                return None
            settings = settings_now()
            pause = min(0.5 * 2**attempt, _LONGEST_WAIT) * random.uniform(0.75, 1.25)
            attempt += 1
            try:
                answer = ask(
                    self._client,
                    "POST",
                    self._endpoint.url + path,
                    seconds=self._endpoint.timeout,
                    json={"model": self._endpoint.model, **body, **settings},
                )
            except TooMuch as error:
                problem = FtlabError(
                    f"{self._endpoint.host} does not answer as an OpenAI-compatible endpoint",
                    why=str(error).replace("it ", "It ", 1),
                    try_="check the address",
                )
                break
            except httpx.TimeoutException:
                problem = FtlabError(
                    f"{self._title} at {self._endpoint.host} has not answered within {self._endpoint.timeout:.0f} s",
                    try_=f"{self._purpose.later}; or use a faster model",
                )
                continue
            except (httpx.TransportError, httpx.InvalidURL, ValueError) as error:
                # The message of httpx contains neither headers nor the key.
                problem = FtlabError(
                    f"{self._title} at {self._endpoint.host} cannot be reached",
                    why=self._clean(error) or type(error).__name__,
                    try_="check the address, and that the server is running",
                )
                if isinstance(error, httpx.ConnectError) and attempt >= 2:
                    break  # nothing listens there: waiting longer rarely helps
                continue
            if answer.status_code == 200:
                return read(answer)
            if self._adapt(answer, settings):
                attempt, pause = attempt - 1, 0.0
                continue
            problem = self._explain(answer)
            if answer.status_code not in _PASSING or "insufficient_quota" in answer.text:
                break
            pause = _asked_wait(answer) or pause
        raise problem

    def _read(self, answer: Answer) -> Reply:
        try:
            body = answer.json()
            choice = body["choices"][0]
            text = choice["message"].get("content") or ""
            usage = body.get("usage") or {}
            if isinstance(text, list):  # content blocks
                text = "".join(part.get("text", "") for part in text)
            return Reply(
                self.without_key(str(text)),
                _count(usage.get("prompt_tokens")),
                _count(usage.get("completion_tokens")),
                choice.get("finish_reason") == "length",
                tuple(choice["message"].get("tool_calls") or ()),
            )
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise self._unreadable(answer) from None

    def _vectors(self, answer: Answer, count: int) -> list[list[float]]:
        try:
            entries = sorted(answer.json()["data"], key=lambda entry: entry["index"])
            vectors = [[float(value) for value in entry["embedding"]] for entry in entries]
            if len(vectors) != count or len({len(vector) for vector in vectors}) != 1 or not vectors[0]:
                raise ValueError
            if not all(math.isfinite(value) for vector in vectors for value in vector):
                raise ValueError
            return vectors
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise self._unreadable(answer) from None

    def _unreadable(self, answer: Answer) -> FtlabError:
        return FtlabError(
            f"{self._endpoint.host} does not answer as an OpenAI-compatible endpoint",
            why=f"Its answer: {self._clean(answer.text)}" if answer.text.strip() else "Its response is empty.",
            try_="check the address: it usually ends in /v1",
        )

    def _adapt(self, answer: Answer, sent: dict[str, Any]) -> bool:
        """Drop or rename a parameter that this model rejects; returns whether a retry makes sense."""
        if answer.status_code not in (400, 422):
            return False
        refused = [name for name in _OTHER_NAMES if name in sent and f"'{name}'" in answer.text.replace('"', "'")]
        for name in refused:
            value = self._settings.pop(name, None)
            other = _OTHER_NAMES[name]
            if other and value is not None:
                self._settings[other] = value
        return bool(refused)

    def _explain(self, answer: Answer) -> FtlabError:
        host, status, reason = self._endpoint.host, answer.status_code, self._said(answer)
        if status in (401, 403):
            if self._key is None:
                return FtlabError(f"{host} requires a key ({status})", why=reason, try_=self._purpose.set_key)
            try_ = f"check the value of {self._purpose.key_variable}, and that it may use {self._endpoint.model}"
            return FtlabError(f"{host} rejected the key ({status})", why=reason, try_=try_)
        if "insufficient_quota" in answer.text or status == 402:
            return FtlabError(f"The account at {host} has no credit left ({status})", why=reason)
        if status == 404:
            what = f"{host} has no such path, or no model named {self._endpoint.model} (404)"
            return FtlabError(what, why=reason, try_="check both; the address usually ends in /v1")
        if status == 429:
            what = f"{host} has reached its rate limit (429)"
            return FtlabError(what, why=reason, try_=f"{self._purpose.later}; or send fewer requests at once")
        if 300 <= status < 400:
            what = f"{host} redirects to another address ({status}). ftlab does not follow: the key is for this host"
            return FtlabError(what, try_="use the final address")
        if status >= 500:
            return FtlabError(f"{host} failed ({status})", why=reason, try_=self._purpose.later)
        return Refused(f"{host} rejected the request ({status})", why=reason)

    def _said(self, answer: Answer) -> str | None:
        """The reason that the server gave."""
        try:
            body = answer.json()
            error = body.get("error", body) if isinstance(body, dict) else body
            text = error.get("message") or error.get("detail") or error if isinstance(error, dict) else error
        except ValueError:
            text = answer.text
        reason = self._clean(text)
        return f"It says: {reason}" if reason else None

    def _clean(self, text: object) -> str:
        return shorten(self.without_key(str(text)))

    def without_key(self, text: str) -> str:
        """`text` without the key: a server may echo its request."""
        secret = self._key is not None and len(self._key) >= _SECRET
        return text.replace(self._key or "", f"[{self._purpose.key_variable}]") if secret else text


def _asked_wait(answer: Answer) -> float | None:
    """The seconds that the server asks to wait, at most a minute; None if it does not say."""
    try:
        return min(max(float(answer.headers.get("retry-after", "")), 0.0), _LONGEST_WAIT)
    except ValueError:
        return None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def check_amount(name: str, value: int | None, least: int, most: int) -> None:
    """Raise InputError if the amount `name` is not from `least` to `most`; None is not given."""
    if value is not None and not least <= value <= most:
        raise InputError(f"{name} cannot take this value", given=value, allowed=f"{least} to {most:,}")


def check_prices(price_in: float | None, price_out: float | None) -> None:
    """Raise InputError for a price that is none; None is not given."""
    for name, price in (("input", price_in), ("output", price_out)):
        if price is not None and not 0 <= price < math.inf:
            raise InputError(f"The price of {name} tokens cannot take this value", given=price, allowed="0 or more")


def cost(prompt_tokens: int, reply_tokens: int, price_in: float | None, price_out: float | None) -> float | None:
    """In the currency of the prices, which are per million tokens; None if one of them is not given."""
    if price_in is None or price_out is None:
        return None
    return (prompt_tokens * price_in + reply_tokens * price_out) / 1_000_000


def estimate_tokens(text: str) -> int:
    """About how many tokens `text` has for a large model: four ASCII characters each, one for any other character."""
    ascii_ = sum(character.isascii() for character in text)
    return math.ceil(ascii_ / 4) + len(text) - ascii_


def money(value: float) -> str:
    """A cost in the currency of the prices, with two significant digits at least: 0.0042, 0.31, 12.40."""
    if value == 0:
        return "nothing"
    if value >= 0.0995:
        return f"{value:,.2f}"
    return f"{value:.{1 - math.floor(math.log10(value))}f}".rstrip("0")


def answered_before(number: int, how: str = "", then: str = "not sent again") -> str:
    """What a plan adds about the `number` of requests that have a reply; nothing for none."""
    if not number:
        return ""
    was, are = ("was", "is") if number == 1 else ("were", "are")
    return f"; {number:,} {was} answered before{how} and {are} {then}"


@dataclass(frozen=True, kw_only=True)
class SendingPlan(abc.ABC):
    """What requests to a `model` at a `host` (None: on this machine, without a server) take: how many, how many of them
    have a reply already, estimated tokens, and their cost in the currency of the given prices (None: not given)."""

    model: str
    host: str | None
    is_here: bool
    requests: int
    known: int
    prompt_tokens: int
    reply_tokens: int
    reply_tokens_at_most: int
    price: float | None
    price_at_most: float | None

    @classmethod
    def to(
        cls, endpoint: Endpoint, tokens: tuple[int, int, int], prices: tuple[float | None, float | None], **own: Any
    ) -> Self:
        """The plan of requests to `endpoint`, of `tokens` sent, received and received at most, with its other fields
        in `own`."""
        sent, received, at_most = tokens
        return cls(
            model=endpoint.model,
            host=endpoint.host,
            is_here=endpoint.is_here,
            prompt_tokens=sent,
            reply_tokens=received,
            reply_tokens_at_most=at_most,
            price=cost(sent, received, *prices),
            price_at_most=cost(sent, at_most, *prices),
            **own,
        )

    @property
    def open(self) -> int:
        return self.requests - self.known

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    @abc.abstractmethod
    def lines(self) -> list[str]:
        """What the user should know before anything is sent."""

    def before_sending(self, what: str, also: str = "") -> list[str]:
        """What every plan says before `what` (plural) is sent: tokens, what they cost, and whether it leaves this
        machine."""
        tokens = f"About {self.prompt_tokens:,} tokens are sent"
        if self.reply_tokens_at_most:
            tokens += f" and about {self.reply_tokens:,} are received (at most {self.reply_tokens_at_most:,}).{also}"
            tokens += " A model that thinks before it replies writes more."
        else:
            tokens += "."
        costs = "That costs nothing by these prices."
        if self.price is None:
            prices = "prices per million" if self.reply_tokens_at_most else "price per million input"
            costs = f"Cost unknown: give the {prices} tokens (0 for your own server)."
        elif self.price_at_most:
            at_most = f", at most {money(self.price_at_most)}" if self.reply_tokens_at_most else ""
            costs = f"That costs about {money(self.price)}{at_most}."
        leaves = f"leave this machine for {self.host}."
        stays = "are read by a server on this machine and do not leave it."
        return [tokens, costs, f"{what} {stays if self.is_here else leaves}"]
