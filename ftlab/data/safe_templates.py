"""Untrusted chat templates are rendered in a separate process, with limits on memory, time and size.

A template is a program. Nested loops may never end, and `'x' * 10**10` takes all memory. It may do so only for some
conversations, so that no trial reveals it. Jinja's sandbox has no such limits, and a call in C cannot be interrupted.
So transformers' own rendering runs in a small child process (one for all templates), which can be killed. Templates
that ship with ftlab are rendered in this process.

The limits, with the largest realistic case: 8 million characters plus four times the input (a system prompt with 200
tools has 200,000), 20 seconds (1,000 turns of SmolLM2, a million characters, take 0.02 s), 512 MB.

This replaces transformers' `_compile_jinja_template`, which all its rendering uses (checked with 5.23).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Literal, TypedDict

from ftlab.core.words import byte_size

SECONDS = 20.0  # of CPU time
MEMORY = 512 << 20  # bytes on top of the child's initial memory
CHARACTERS = 8_000_000  # of a rendered text, plus four times the characters of the input
_BEGINS = 512 << 20  # bytes, an upper bound of the child's initial memory
_FIELDS = ("PATH", "PYTHONHOME", "HOME", "TZ", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT")
# For a base without a template. Uses plain words instead of control tokens, since such a base has none to spare and new
# ones would have to be trained from scratch. The base's own end-of-text token ends an answer. The template is saved
# with the tokenizer of the result, which then answers the same without ftlab. BOS becomes the base's beginning-of-text
# token, or nothing.
FALLBACK_TEMPLATE = (
    "BOS{%- for message in messages %}"
    "{%- if message['role'] == 'system' %}{{- message['content'] + '\\n\\n' }}"
    "{%- elif message['role'] == 'user' %}{{- '### Question:\\n' + message['content'] + '\\n\\n### Answer:\\n' }}"
    "{%- else %}{% generation %}{{- message['content'] + eos_token }}{% endgeneration %}"
    "{%- if not loop.last %}{{- '\\n\\n' }}{%- endif %}"
    "{%- endif %}{%- endfor %}"
)


class _AnswerJson(TypedDict, total=False):
    """The child's reply: the `text` with the `spans` of its answers, or the `kind` of failure and `why`."""

    text: str
    spans: list[tuple[int, int]]
    kind: Literal["limit", "refused"]
    why: str


_lock = threading.Lock()
_child: _Child | None = None
_refused: dict[str, str] = {}  # templates that exceeded a limit in this process, and which limit


def limit_templates() -> None:
    """Make this process render unknown chat templates in the child. Repeated calls cost nothing."""
    from transformers.utils import chat_template_utils as utils

    if getattr(utils._compile_jinja_template, "limited", False):
        return
    usual = utils._compile_jinja_template

    @lru_cache
    def compile_template(chat_template: str) -> Any:
        return usual(chat_template) if _is_ours(chat_template) else _Elsewhere(chat_template, usual)

    compile_template.limited = True  # type: ignore[attr-defined]
    utils._compile_jinja_template = compile_template


def _is_ours(template: str) -> bool:
    from ftlab.data.tool_templates import without_tools

    return without_tools(template) in _ours()


@lru_cache(maxsize=1)
def _ours() -> frozenset[str]:
    starter = Path(__file__).parents[1] / "models" / "starter" / "weights" / "chat_template.jinja"
    own = {FALLBACK_TEMPLATE.replace("BOS", begin) for begin in ("", "{{- bos_token }}")}
    return frozenset(own | ({starter.read_text(encoding="utf-8")} if starter.exists() else set()))


def _forget() -> None:
    """After a fork: another thread may have held the lock, and the child process belongs to the parent."""
    global _lock, _child
    _lock, _child = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class _Elsewhere:
    """The part of a compiled template that transformers uses: `render`, and `generate` in `activate_tracker`."""

    def __init__(self, template: str, usual: Any):
        self._template, self._usual = template, usual
        self._spans = threading.local()

    @property
    def environment(self) -> _Elsewhere:
        return self

    def parse(self, text: str) -> Any:
        return self._usual("").environment.parse(text)

    @contextlib.contextmanager
    def activate_tracker(self, _blocks: list[str], spans: list[tuple[int, int]]) -> Iterator[None]:
        self._spans.wanted = spans
        yield

    def render(self, **values: Any) -> str:
        return _ask(self._template, values, spans=False)["text"]

    def generate(self, **values: Any) -> Iterator[str]:
        answer = _ask(self._template, values, spans=True)
        self._spans.wanted.extend((start, end) for start, end in answer["spans"])
        yield answer["text"]


def _ask(template: str, values: dict[str, Any], *, spans: bool) -> _AnswerJson:
    """Raises jinja2.TemplateError if the template rejects the values, InputError if it exceeds a limit."""
    from jinja2 import TemplateError

    if template in _refused:
        raise _beyond(_refused[template])
    text = json.dumps(values)
    request = {"template": template, "values": values, "spans": spans, "most": CHARACTERS + 4 * len(text)}
    with _lock:
        answer = _exchange(json.dumps(request).encode())
    if "text" in answer:
        return answer
    if answer["kind"] == "limit":
        _refused[template] = answer["why"]
        raise _beyond(answer["why"])
    raise TemplateError(answer["why"])


def _beyond(why: str) -> Exception:
    from ftlab.errors import InputError

    return InputError(
        f"The chat template of the base is rejected: rendering a conversation {why}",
        allowed=f"{SECONDS:.0f} s, {byte_size(MEMORY)} and {CHARACTERS:,} characters",
        try_="use a base from a source you trust, or put another chat template into its folder",
    )


def _exchange(request: bytes) -> _AnswerJson:
    global _child
    if _child is None or _child.process.poll() is not None:
        _child = _started()
    child = _child
    child.since = time.monotonic()
    try:
        child.requests.write(len(request).to_bytes(8, "big") + request)
        child.requests.flush()
        head = child.answers.read(8)
        body = child.answers.read(int.from_bytes(head, "big"))
        if len(head) == 8 and body:
            return json.loads(body)
    except (OSError, ValueError):  # it ended during an answer
        pass
    finally:
        child.since = None
    _child = None
    child.end("crashed its process")
    return {"kind": "limit", "why": child.why}


@dataclass
class _Child:
    """The rendering process, when its current request began (`since`), and `why` it was ended."""

    process: subprocess.Popen[bytes]
    requests: IO[bytes]
    answers: IO[bytes]
    since: float | None = None
    why: str = ""

    def end(self, why: str) -> None:
        self.why = self.why or why
        self.process.kill()
        self.process.wait()

    def watch(self) -> None:
        """Enforce the limits from a thread: a timeout on the pipe would slow down every rendering."""
        import psutil

        child, seen, used = psutil.Process(self.process.pid), None, 0.0
        with contextlib.suppress(psutil.Error):  # it has ended
            while self.process.poll() is None:
                time.sleep(0.2)
                since, now = self.since, sum(child.cpu_times()[:2])
                if since != seen:
                    seen, used = since, now
                # CPU time: a busy or paused machine is not the template's fault.
                if since is not None and now - used > SECONDS:
                    self.end(f"took more than {SECONDS:.0f} s")
                # For systems without a memory limit (macOS, Windows).
                if since is not None and child.memory_info().rss > MEMORY + _BEGINS:
                    self.end(f"took more than {byte_size(MEMORY)}")


def _started() -> _Child:
    from ftlab.errors import FtlabError

    # No secrets: the environment of the child holds only what Python needs.
    environment = {name: os.environ[name] for name in _FIELDS if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "USE_TORCH": "0"}
    process = subprocess.Popen(
        [sys.executable, "-P", __file__],  # -P: never import from this folder
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # Ctrl-C goes to the parent, which then ends the child
    )
    assert process.stdin is not None and process.stdout is not None  # both are pipes
    child = _Child(process, process.stdin, process.stdout)
    if not child.answers.read(1):  # otherwise it is ready
        raise FtlabError(
            "The process that renders chat templates does not start",
            why=f"{sys.executable} ended with {process.wait()}",
            try_="check that transformers can be imported and that memory is available",
        )
    threading.Thread(target=child.watch, daemon=True).start()
    return child


# The code of the child. It imports nothing from ftlab.


def _serve() -> None:
    from transformers.utils import chat_template_utils as utils

    incoming, outgoing = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # keeps library output out of the answers
    _limit_memory()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    compiled = lru_cache(maxsize=64)(utils._cached_compile_jinja_template)
    outgoing.write(b"+")
    outgoing.flush()
    while len(head := incoming.read(8)) == 8:
        request = json.loads(incoming.read(int.from_bytes(head, "big")))
        try:
            answer = _rendered(utils, compiled, request)
        except Exception as error:
            answer = _explained(error)
        body = json.dumps(answer).encode()
        outgoing.write(len(body).to_bytes(8, "big") + body)
        outgoing.flush()


def _rendered(utils: Any, compiled: Any, request: dict[str, Any]) -> _AnswerJson:
    template, values, spans = compiled(request["template"]), request["values"], []
    if request["spans"]:
        named = {name: values.pop(name) for name in ("messages", "tools", "documents", "add_generation_prompt")}
        text, spans = utils._render_with_assistant_indices(template, **named, **values)
    else:
        text = template.render(**values)
    if len(text) > request["most"]:
        return {"kind": "limit", "why": f"gives {len(text):,} characters"}
    return {"text": text, "spans": spans}


def _explained(error: Exception) -> _AnswerJson:
    from jinja2 import TemplateError

    if isinstance(error, MemoryError):
        return {"kind": "limit", "why": f"took more than {byte_size(MEMORY)}"}
    if isinstance(error, RecursionError):
        return {"kind": "limit", "why": "recurses without end"}
    text = str(error)[:2000]
    return {"kind": "refused", "why": text if isinstance(error, TemplateError) else f"{type(error).__name__}: {text}"}


def _end_with(parent: int) -> None:
    """Exit when the parent is gone, for example killed."""
    while os.getppid() == parent:
        time.sleep(2)
    os._exit(1)


def _limit_memory() -> None:
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):
        pass  # the parent enforces the limit


if __name__ == "__main__":
    _serve()
