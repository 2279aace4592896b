"""`ftlab serve`: base and adapted model of a run behind OpenAI's protocol, for programs on this machine.

Own routes rather than `transformers serve` 5.23, which loads what a request names, knows no adapters and no key, and
adds no system prompt. The answers are made as Chat makes them (`evaluation.duet`), one request after the other. For
many users at once, export the model and serve it with vLLM.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftlab.config import load_config
from ftlab.core.hosts import Hosts, Names
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import byte_size
from ftlab.data.prompt_template import AsTrained
from ftlab.data.rendering import read_calls
from ftlab.data.tool_calls import Said, parts_of
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.duet import SIDES, Duet, load_duet
from ftlab.export.chat_request import MOST_BYTES, ChatRequest, Prompt, Rejected, prompt_of, read_request, room_for

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HOST = "127.0.0.1"  # never elsewhere: a proxy or an SSH tunnel reaches it
KEY_VARIABLE = "FTLAB_SERVE_KEY"
SHORTEST_KEY = 8  # characters: ftlab's own client takes shorter ones for placeholders
MOST_WAITING = 64  # requests
_RETRY_SECONDS = 5
_MOST_DROPPED = 256 << 20  # bytes of a request that is too large


def serving_key() -> tuple[str, bool]:
    """The key that requests must bring, and whether it was made just now: then the terminal is the only place for it.

    Raises InputError for an invalid key, and without one if there is no terminal to print a new one.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if key:
        if len(key) < SHORTEST_KEY or not all("!" <= character <= "~" for character in key):
            # The message does not repeat it: it is a secret.
            raise InputError(
                f"The key in {KEY_VARIABLE} cannot be used",
                allowed=f"{SHORTEST_KEY} or more ASCII characters without spaces",
            )
        return key, False
    if not sys.stderr.isatty():
        raise InputError(
            "No key for the server, and no terminal to print a new one on",
            try_=f"set {KEY_VARIABLE} in the environment to a secret of your choice",
        )
    return secrets.token_urlsafe(24), True


@dataclass
class Served:
    """What is served, and how: `usual` is the longest answer in tokens of a request that names none. With `asked`
    plain, requests are sent as they are. `strength` None is the one that was chosen for the run."""

    duet: Duet
    asked: AsTrained
    usual: int
    key: str
    strength: float | None = None
    threads: Callable[[], int | None] = lambda: None  # of the CPU, asked anew with each request


def prepare(run: RunDirectory, key: str, *, bare: bool = False, strength: float | None = None) -> Served:
    """Load the models of `run`. Raises InputError for a reward model, which answers nothing, and FtlabError for a run
    without a result."""
    from ftlab.core.workspace import Workspace
    from ftlab.evaluation.duet import threads_beside_a_run
    from ftlab.evaluation.material import limit_used
    from ftlab.training import supervisor

    config = load_config(run.config_file).resolved()
    if config.is_reward_model:
        what = f"The run {run.id} is a reward model, which scores answers and writes none"
        raise InputError(what, try_="another run")
    if not run.has_result:
        raise FtlabError(f"The run {run.id} has no trained model to serve", try_="finish its training first")
    duet = load_duet(run)
    duet.wanted(strength)
    workspace = Workspace(run.path.parent.parent)
    return Served(
        duet,
        AsTrained() if bare else duet.asked,
        limit_used(run, config),
        key,
        strength,
        lambda: threads_beside_a_run() if supervisor.active_runs(workspace) else None,
    )


def described(served: Served) -> list[str]:
    """Memory and settings in sentences."""
    import psutil
    import torch

    duet = served.duet
    models = {id(model): model for model in (duet.model, duet.base_model)}.values()
    weights = {w.data_ptr(): w.numel() * w.element_size() for model in models for w in model.parameters()}
    device = next(iter(models)).device
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        where = f"on {torch.cuda.get_device_name(device)}"
    else:
        free, where = psutil.virtual_memory().available, f"on {torch.get_num_threads()} CPU threads"
    held = "one copy of the weights" if len(models) == 1 else "two copies of the weights"
    context = f"{duet.context:,} tokens of context" if duet.context else "a context without a limit"
    lines = [
        f"{byte_size(sum(weights.values()))} for {held}, {byte_size(free)} free, {where}; {context}.",
        f"Requests are answered one at a time; up to {MOST_WAITING} wait. Without max_tokens, an answer ends after "
        f"{served.usual:,} tokens, as in the evaluation.",
    ]
    lines += [f"Without their own: {line}" for line in served.asked.described() if "You type" not in line]
    if served.asked.tools:
        lines.append("Without their own tools, requests get those of training.")
    return lines


def build(served: Served, names: Names) -> Hosts:
    """The server as ASGI."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.routing import Route

    queue = _Queue()

    async def models(request: Request) -> Response:
        _check_key(request, served.key)
        return _json({"object": "list", "data": [_model(name) for name in SIDES]})

    async def model(request: Request) -> Response:
        _check_key(request, served.key)
        return _json(_model(_side(request.path_params["name"])))

    async def chat(request: Request) -> Response:
        _check_key(request, served.key)
        asked = read_request(await _body(request))
        side = _side(asked.model)
        prompt = await asyncio.to_thread(prompt_of, asked, served.asked, served.duet.tokenizer)
        tokens = room_for(prompt, asked.limit, served.duet.context, served.usual)
        answer = _Answer(served, asked, side, prompt, tokens)
        queue.check()
        if asked.stream:
            return _streamed(answer, queue)
        return _json(await _whole(answer, queue, request))

    async def rejected(_: Request, error: Exception) -> Response:
        assert isinstance(error, Rejected)
        headers = {"retry-after": str(_RETRY_SECONDS)} if error.status == 429 else {}
        headers |= {"www-authenticate": "Bearer"} if error.status == 401 else {}
        return _json(error.as_dict(), error.status, headers)

    async def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        paths = "GET /v1/models and POST /v1/chat/completions"
        what = f"This server has no {request.method} {request.url.path[:100]}. It answers {paths}."
        return _json(Rejected(error.status_code, what).as_dict(), error.status_code, error.headers)

    async def broken(_: Request, error: Exception) -> Response:
        # Starlette raises it again behind this answer: its traceback is a bug report on standard error.
        return _json(Rejected(500, "Something went wrong inside ftlab. See the terminal of the server.").as_dict(), 500)

    app: Starlette = Starlette(
        routes=[
            Route("/v1/models", models, methods=["GET"]),
            Route("/v1/models/{name}", model, methods=["GET"]),
            Route("/v1/chat/completions", chat, methods=["POST"]),
        ],
        exception_handlers={Rejected: rejected, HTTPException: unknown, Exception: broken},
    )
    return Hosts(app, names)


def _check_key(request: Request, key: str) -> None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), key.encode()):
        what = "There is no key" if not token else "The key is wrong"
        raise Rejected(401, f"{what}. Send it as `Authorization: Bearer KEY`.", code="invalid_api_key")


async def _body(request: Request) -> bytes:
    body, size = bytearray(), 0
    async for part in request.stream():
        size += len(part)
        if size <= MOST_BYTES:
            body += part
        elif size > _MOST_DROPPED:
            break
    # Programs read an answer only once their whole request was taken: otherwise they see a reset connection.
    if size > MOST_BYTES:
        raise Rejected(413, f"The request is larger than {byte_size(MOST_BYTES)}.")
    return bytes(body)


def _side(name: str) -> str:
    if name not in SIDES:
        raise Rejected(
            404,
            f"There is no model named {name[:100]!r} here. Allowed: {' or '.join(SIDES)}.",
            param="model",
            code="model_not_found",
        )
    return name


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "ftlab"}


def _json(value: Any, status: int = 200, headers: Any = None) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(value, status, {**(headers or {}), "cache-control": "no-store"})


class _Queue:
    """One answer at a time, the others in the order in which they came."""

    def __init__(self) -> None:
        self.turn, self.waiting = asyncio.Lock(), 0

    def check(self) -> None:
        """Raises Rejected where too many wait."""
        if self.waiting >= MOST_WAITING:
            raise Rejected(429, f"{self.waiting} requests wait already. Try again later.", code="rate_limit_exceeded")

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        self.waiting += 1
        try:
            await self.turn.acquire()
        finally:
            self.waiting -= 1
        try:
            yield
        finally:
            self.turn.release()


class _Answer:
    """The answer to one request while it grows. `text` is what may be sent of it, without a stop text and what may
    become one."""

    def __init__(self, served: Served, request: ChatRequest, side: str, prompt: Prompt, tokens: int) -> None:
        self.served, self.request, self.side, self.prompt, self.limit = served, request, side, prompt, tokens
        self.id, self.created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())
        self.text, self.tokens, self.ended = "", 0, False

    def grow(self) -> Generator[None, None, None]:
        """Make it, a token at a time."""
        request = self.request
        steps = self.served.duet.answer(
            self.side,
            self.prompt.ids,
            max_new_tokens=self.limit,
            temperature=request.temperature or 0.0,
            top_p=1.0 if request.top_p is None else request.top_p,
            seed=request.seed,
            threads=self.served.threads(),
            strength=self.served.strength,
        )
        with contextlib.closing(steps):
            for text, self.tokens, self.ended in steps:
                at = min((place for stop in request.stops if (place := text.find(stop)) >= 0), default=None)
                if at is not None:
                    self.text, self.ended = text[:at], True
                    return
                whole = self.ended or self.tokens >= self.limit
                self.text = text if whole else text[: len(text) - held_back(text, request.stops)]
                yield

    @property
    def parts(self) -> Said:
        """The text and the calls in it."""
        if not self.prompt.tools:
            return Said("", self.text)
        return parts_of(read_calls(self.text, self.served.duet.tokenizer))

    def message(self) -> dict[str, Any]:
        parts = self.parts
        text = Said(parts.thought, parts.text, (), parts.broken).whole
        message: dict[str, Any] = {"role": "assistant", "content": text if text or not parts.calls else None}
        if parts.calls:
            message["tool_calls"] = [
                {
                    "id": f"call_{self.id[-12:]}_{number}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
                }
                for number, call in enumerate(parts.calls)
            ]
        return message

    @property
    def reason(self) -> str:
        if not self.ended:
            return "length"
        return "tool_calls" if self.parts.calls else "stop"

    @property
    def usage(self) -> dict[str, int]:
        asked = len(self.prompt.ids)
        return {"prompt_tokens": asked, "completion_tokens": self.tokens, "total_tokens": asked + self.tokens}

    def envelope(self, kind: str, choices: Sequence[dict[str, Any]]) -> dict[str, Any]:
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.side}
        return head | {"choices": list(choices)}


def held_back(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of `text` may be the beginning of one of `stops`."""
    return max(
        (size for stop in stops for size in range(1, min(len(stop) - 1, len(text)) + 1) if text.endswith(stop[:size])),
        default=0,
    )


async def _whole(answer: _Answer, queue: _Queue, request: Request) -> dict[str, Any]:
    async with queue.place(), contextlib.aclosing(_in_thread(answer.grow())) as steps:
        async for _ in steps:
            if await request.is_disconnected():
                break  # nobody waits for the rest
    choice = {"index": 0, "message": answer.message(), "logprobs": None, "finish_reason": answer.reason}
    return answer.envelope("chat.completion", [choice]) | {"usage": answer.usage}


def _streamed(answer: _Answer, queue: _Queue) -> Response:
    from starlette.responses import StreamingResponse

    def chunk(delta: dict[str, Any], reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _event(answer.envelope("chat.completion.chunk", [choice]))

    async def events() -> AsyncIterator[str]:
        try:
            yield chunk({"role": "assistant", "content": ""})
            sent = ""
            async with queue.place(), contextlib.aclosing(_in_thread(answer.grow())) as steps:
                async for _ in steps:
                    # Calls are read when they are whole. A tokenizer may revise what it wrote: that waits, too.
                    if not answer.prompt.tools and len(answer.text) > len(sent) and answer.text.startswith(sent):
                        yield chunk({"content": answer.text[len(sent) :]})
                        sent = answer.text
            message = answer.message()
            if (text := message["content"] or "") and text != sent:
                yield chunk({"content": text[len(sent) :] if text.startswith(sent) else text})
            if calls := message.get("tool_calls"):
                yield chunk({"tool_calls": [{"index": number, **call} for number, call in enumerate(calls)]})
            yield chunk({}, answer.reason)
            if answer.request.counts_in_stream:
                yield _event(answer.envelope("chat.completion.chunk", []) | {"usage": answer.usage})
            yield "data: [DONE]\n\n"
        except FtlabError as error:
            yield _event(Rejected(500, str(error)).as_dict())

    return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-store"})


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


async def _in_thread(steps: Generator[None, None, None]) -> AsyncGenerator[None, None]:
    """`steps`, each made in a thread. Where nobody waits any longer, they are closed, after the step that runs now."""
    step: asyncio.Future[bool] | None = None

    def go_on() -> bool:
        return next(steps, steps) is None

    try:
        while True:
            step = asyncio.ensure_future(asyncio.to_thread(go_on))
            if not await asyncio.shield(step):
                return
            yield
    finally:
        if step is None or step.done():
            steps.close()
        else:
            step.add_done_callback(lambda _: steps.close())


def serve(served: Served, port: int, allowed: Sequence[str] = (), *, ready: Callable[[str], None]) -> None:
    """Answer until ctrl-C or SIGTERM; `ready` is called with the address once it listens. Raises InputError when the
    port is taken."""
    import socket

    import uvicorn

    app = build(served, Names(HOST, allowed))
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(
            f"The server cannot listen at {HOST}:{port}", given=f"--port {port}", try_="another --port"
        ) from error
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=3, lifespan="off")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn passes the signal on when it is done
    with listener:
        ready(f"http://{HOST}:{listener.getsockname()[1]}/v1")
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])
