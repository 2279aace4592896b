"""Sides that answer elsewhere: a model behind an address, or a file of existing answers.

`read_against` parses the user's setting (`https://host/v1#model`, or a JSONL file), `plan` estimates the requests
before anything is sent, and `answers_of` sends them. Each answer is stored in `outside.jsonl` of the run as it arrives:
nothing is paid for twice, and a stopped evaluation resumes where it ended. Only answers come back: no loss, no
perplexity.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.core.comparison import ComparisonJson, OutsideJson, SideJson
from ftlab.core.earlier import outside_line
from ftlab.core.endpoint import (
    CONTESTANT,
    MOST_AT_ONCE,
    Asker,
    Endpoint,
    Reply,
    SendingPlan,
    answered_before,
    check_amount,
    check_prices,
    cost,
    endpoint_url,
    estimate_tokens,
)
from ftlab.core.files import append_jsonl, digest, end_last_line, lines_of
from ftlab.core.jobs import Stopped
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.data.conversion import written_out
from ftlab.data.prompt_template import AsTrained
from ftlab.data.shapes import Message, UnusableRow
from ftlab.data.tool_calls import TOOLS
from ftlab.data.tool_templates import openai_form, request_of, text_of_reply
from ftlab.data.turns import are_turns, read_turns
from ftlab.errors import FtlabError, InputError, shorten
from ftlab.evaluation.batches import Progress
from ftlab.evaluation.generate import Answer
from ftlab.evaluation.material import Material, still_holds

# Tokens of another model differ in size, and a thinking model uses some before it answers.
_FEWEST_TOKENS, _TIMES_LIMIT = 256, 2
_ANSWER_KEYS = ("answer", "completion", "response", "output")
_LINE = '{"prompt": "...", "answer": "..."}, {"messages": [...], "answer": "..."}, or messages that end with the answer'
_NO_SIDE: dict[str, Any] = {"url": None, "model": None, "file": None, "sha256": None}
_OURS = {"base", "adapted", "prompted", "start"}  # sides on this machine; `ftlab serve` offers models of these names
UNMEASURED = "cannot be measured behind an address"


@dataclass(frozen=True)
class Outside:
    """A side that answers elsewhere: behind `endpoint`, or in `file`. `name` is its key in a comparison and `title` its
    display name. `max_tokens` limits an answer (None: from the references). Prices are per million tokens."""

    name: str
    title: str
    what: str
    url: str | None = None
    model: str | None = None
    file: str | None = None
    sha256: str | None = None
    max_tokens: int | None = None
    price_in: float | None = None
    price_out: float | None = None
    at_once: int = 4

    @property
    def spoken(self) -> str:
        return self.title

    @property
    def who(self) -> str:
        """A hash of what determines its answers besides the prompts."""
        return digest([self.url, self.model, self.sha256], 16)

    def described(self) -> SideJson:
        return {"name": self.name, "title": self.title, "what": self.what, "outside": self.as_dict()}

    def as_dict(self) -> OutsideJson:
        return {
            "url": self.url,
            "model": self.model,
            "file": self.file,
            "sha256": self.sha256,
            "max_tokens": self.max_tokens,
            "price_in": self.price_in,
            "price_out": self.price_out,
            "at_once": self.at_once,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Outside:
        if values.get("url"):
            model, host = values["model"], Endpoint(values["url"], values["model"]).host
            title = f"{model} at {host}" if model.lower() in _OURS else model
            return cls(f"{_slug(model)}@{host}", title, f"behind {values['url']}", **values)
        name = Path(values["file"]).name
        title = name if Path(name).stem.lower() in _OURS else Path(name).stem
        return cls(f"{_slug(Path(name).stem)}@file", title, f"answers in {name}", **values)


def _slug(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-") or "model"


def read_against(
    text: str,
    *,
    price_in: float | None = None,
    price_out: float | None = None,
    at_once: int = 4,
    max_tokens: int | None = None,
) -> Outside:
    """The side that `text` names: `https://host/v1#model`, or a JSONL file of prompts and answers.

    Raises InputError for an address without a model, an unusable address, and a missing file.
    """
    text = text.strip()
    check_amount("Requests at once", at_once, 1, MOST_AT_ONCE)
    check_amount("The longest answer", max_tokens, 1, 1_000_000)
    check_prices(price_in, price_out)
    values = _NO_SIDE | {"max_tokens": max_tokens}
    values |= {"price_in": price_in, "price_out": price_out, "at_once": at_once}
    if re.match(r"https?://", text):
        address, _, model = text.partition("#")
        if not model.strip():
            raise InputError(
                "The address does not say which model answers",
                given=text,
                allowed="the address, #, and the name of the model there",
                try_=f"{address.rstrip('/')}#my-model",
            )
        return Outside.from_dict(values | {"url": endpoint_url(address, CONTESTANT), "model": model.strip()})
    file = Path(text).expanduser()
    if not text or not file.is_file():
        raise InputError(
            "There is no such side to compare with",
            given=text or "nothing",
            allowed="an address with its model (https://host/v1#model), or a JSONL file of prompts and answers",
        )
    hashed = hashlib.sha256(file.read_bytes()).hexdigest()
    return Outside.from_dict(values | {"file": str(file.absolute()), "sha256": hashed})


@dataclass(frozen=True)
class OutsideAnswer:
    """An answer from elsewhere, with its cost: `seconds` from request to reply, with up to `at_once` concurrent
    requests, and the tokens counted by the server (None: not reported). `refused`: the server's reason for giving no
    answer."""

    answer: Answer
    seconds: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    refused: str = ""
    at_once: int = 1


def _key(messages: Sequence[Message]) -> str:
    form = openai_form(messages)
    return digest(form, 24, sort_keys=True)


def _prompts(material: Material) -> list[list[Message]]:
    return [list(row["messages"][:-1]) for row in material.rows]


def limit_of(side: Outside, material: Material) -> int:
    """The maximum answer length of a side behind an address, in its own tokens."""
    return side.max_tokens or max(_FEWEST_TOKENS, _TIMES_LIMIT * material.limit.tokens)


def known(run: RunDirectory, side: Outside, material: Material, *, refused: bool = True) -> dict[str, OutsideAnswer]:
    """The stored answers of `side` to the rows of `material` by key, from `run` or a neighboring run; with `refused`,
    also rows that the server refused."""
    wanted = {_key(messages) for messages in _prompts(material)}
    return _kept(run.and_neighbours(), side, wanted, limit_of(side, material), refused=refused)


def kept_replies(
    workspace: Workspace, url: str, model: str, prompts: Mapping[str, Sequence[Message]], limit: int
) -> dict[str, OutsideAnswer]:
    """The answers of the `model` at `url` to `prompts` in evaluations of the runs of `workspace`, by the keys of
    `prompts`, without those that a `limit` in its tokens would cut."""
    side = Outside.from_dict({**_NO_SIDE, "url": url, "model": model})
    keys = {_key(messages): name for name, messages in prompts.items()}
    answers = _kept(workspace.runs(), side, keys.keys(), limit, refused=False)
    return {keys[key]: answer for key, answer in answers.items() if not answer.answer.cut}


def _kept(
    owners: Iterable[RunDirectory], side: Outside, wanted: Set[str], limit: int, *, refused: bool
) -> dict[str, OutsideAnswer]:
    answers: dict[str, OutsideAnswer] = {}
    for line in map(outside_line, lines_of((owner.outside_file for owner in owners), side.who, wanted)):
        if line["refused"] and not refused:
            continue
        if side.file or line["refused"] or still_holds(line["tokens"], line["cut"], line["limit"], limit):
            answer = Answer(line["answer"], line["tokens"], line["cut"])
            seconds, counts = line["seconds"], (line["prompt_tokens"], line["completion_tokens"])
            answers[line["key"]] = OutsideAnswer(answer, seconds, *counts, line["refused"], line["at_once"])
    return answers


def _keep(run: RunDirectory, side: Outside, key: str, reply: OutsideAnswer, limit: int) -> None:
    line: dict[str, Any] = {"who": side.who, "side": side.name, "key": key, "answer": reply.answer.text}
    line |= {"tokens": reply.answer.tokens, "cut": reply.answer.cut, "limit": limit, "seconds": reply.seconds}
    line |= {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
    line |= {"refused": reply.refused, "at_once": reply.at_once}
    append_jsonl(run.outside_file, line | {"created": time.time()})


@dataclass(frozen=True, kw_only=True)
class Plan(SendingPlan):
    """A request for each of `rows`."""

    rows: int

    def lines(self) -> list[str]:
        rows, left = counted(self.rows, "row"), counted(self.open, "request")
        if not self.open:
            return [f"Nothing to send: the answers of {self.model} at {self.host} to all {rows} are kept."]
        return [
            f"{left} to {self.model} at {self.host}, one for each row{answered_before(self.known)}.",
            *self.before_sending(f"The prompts of {counted(self.open, 'held-out row')}"),
        ]


def plan(run: RunDirectory, side: Outside, material: Material) -> Plan:
    """What asking `side` about the rows of `material` takes. Sends nothing."""
    answered = known(run, side, material, refused=False)
    each = {_key(messages): place for place, messages in enumerate(_prompts(material))}
    left = [place for key, place in each.items() if key not in answered]
    sent = sum(estimate_tokens(turn["content"]) + 8 for place in left for turn in material.rows[place]["messages"][:-1])
    usual = sum(estimate_tokens(material.references[place]) for place in left)
    most = len(left) * limit_of(side, material)
    return Plan.to(
        Endpoint(side.url or "", side.model or ""),
        (sent, usual, most),
        (side.price_in, side.price_out),
        rows=len(each),
        requests=len(each),
        known=len(each) - len(left),
    )


def answers_of(
    run: RunDirectory,
    side: Outside,
    material: Material,
    *,
    kept: bool,
    tell: Progress,
    should_stop: Callable[[], bool] | None = None,
) -> list[OutsideAnswer]:
    """The answers of `side` to the rows of `material`, in order. Missing ones are requested. A row that the server
    refuses has an empty answer, and is asked again unless all are `kept`, in which case nothing is sent. Raises
    FtlabError if the side cannot be asked, and Stopped; answers received until then are kept."""
    prompts = _prompts(material)
    keys = [_key(messages) for messages in prompts]
    answered = known(run, side, material, refused=kept or bool(side.file))
    left = {key: messages for key, messages in zip(keys, prompts, strict=True) if key not in answered}
    if left and (side.file or kept):
        raise FtlabError(
            f"The answers of {side.title} are not kept for all rows any more", try_="name its file again (--against)"
        )
    if left:
        end_last_line(run.outside_file)
        limit = limit_of(side, material)
        asker = Asker(Endpoint(side.url or "", side.model or "", limit), threading.Event(), CONTESTANT)
        requests = [request_of(key, messages) for key, messages in left.items()]
        phase, total = f"answers of {side.title}", len(set(keys))
        tell(phase, total - len(left), total)
        try:
            for replied in asker.ask_all(requests, at_once=side.at_once, should_stop=should_stop):
                reply = replied.reply or Reply("", None, None, False)
                text = text_of_reply(reply)
                tokens = reply.completion_tokens
                made = Answer(text, estimate_tokens(text) if tokens is None else tokens, reply.cut)
                counts = (reply.prompt_tokens, reply.completion_tokens)
                seconds, at_once = round(replied.seconds, 3), min(side.at_once, len(left))
                answered[replied.key] = OutsideAnswer(made, seconds, *counts, replied.refused, at_once)
                _keep(run, side, replied.key, answered[replied.key], limit)
                tell(phase, total - len(left) + sum(key in answered for key in left), total)
        finally:
            asker.close()
        if any(key not in answered for key in left):
            raise Stopped
        refusals = [answered[key].refused for key in left if answered[key].refused]
        if len(refusals) == len(set(keys)):
            raise FtlabError(f"{side.title} answered none of the rows", why=refusals[0])
    return [answered[key] for key in keys]


def read_answers(run: RunDirectory, side: Outside, material: Material, how: AsTrained) -> tuple[list[int], list[str]]:
    """Store the answers in the file of `side` to the rows of `material`. Returns the indices of the rows it answers,
    and notes on what does not match.

    A line has `prompt` (a text) or `messages`, and `answer` (or `completion`, `response`, `output`), or it has
    `messages` that end with the answer; an object is written out as JSON, as in the data. `seconds`, `prompt_tokens`,
    `completion_tokens` and `cut` are optional. `how` says how prompts of the data were built. Raises InputError for a
    line without these, for a file without any, and if no row matches.
    """
    name = Path(side.file or "").name
    by_prompt: dict[str, OutsideAnswer] = {}
    lines = doubled = 0
    try:
        text = Path(side.file or "").read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The answers cannot be read: {error}", given=name) from None
    for number, raw in enumerate(text.splitlines(), 1):
        if not raw.strip():
            continue
        lines += 1
        prompt, answer = _read_line(raw, f"line {number} of {name}")
        doubled += prompt in by_prompt
        by_prompt.setdefault(prompt, answer)
    if not lines:
        raise InputError("The file of answers is empty", given=name, allowed=f"a JSON object on each line: {_LINE}")
    prompts = _prompts(material)
    places, used = [], set()
    kept = known(run, side, material)
    wrapped = {}
    if how.template and len(how.columns) == 1:
        wrapped = {how.wrapped(prompt).strip(): prompt for prompt in by_prompt}
    for place, messages in enumerate(prompts):
        asked = _joined([turn for turn in messages if turn["role"] not in ("system", TOOLS)])
        key = asked if asked in by_prompt else wrapped.get(asked)
        if key is None:
            continue
        places.append(place)
        used.add(key)
        if (row_key := _key(messages)) not in kept:
            _keep(run, side, row_key, by_prompt[key], limit_of(side, material))
            kept[row_key] = by_prompt[key]
    if not places:
        first = next((turn["content"] for turn in reversed(prompts[0]) if turn["role"] == "user"), "")
        raise InputError(
            f"No held-out row has a prompt that is in {name}",
            given=f"{counted(lines, 'line')}, the first prompt: {shorten(next(iter(by_prompt)), 80)}",
            allowed=f"the prompts of {counted(len(prompts), 'held-out row')}, such as: {shorten(first, 80)}",
            try_=f"answer the rows of {run.split_file(material.split)}, and keep their prompts as they are",
        )
    notes = []
    if len(places) < len(prompts):
        missing = next(place for place in range(len(prompts)) if place not in set(places))
        lost = next((turn["content"] for turn in reversed(prompts[missing]) if turn["role"] == "user"), "")
        notes.append(
            f"{name} answers {len(places):,} of the {len(prompts):,} rows, so all sides are compared on these alone. "
            f"Without an answer, for example: {shorten(lost, 80)}"
        )
    if spare := len(by_prompt) - len(used):
        notes.append(f"{counted(spare, 'prompt')} in {name} left out: no row that is compared has it.")
    if doubled:
        notes.append(f"{counted(doubled, 'line')} of {name} left out for a repeated prompt: its first answer counts.")
    return places, notes


def _read_line(raw: str, where: str) -> tuple[str, OutsideAnswer]:
    try:
        line = json.loads(raw)
    except ValueError:
        line = None
    if not isinstance(line, dict):
        raise InputError(f"{_capital(where)} is no JSON object", given=shorten(raw, 80), allowed=_LINE)
    prompt, answer = _prompt_of(line), _answer_of(line)
    if prompt is None or answer is None:
        missing = "prompt" if prompt is None else "answer"
        raise InputError(f"{_capital(where)} has no {missing}", given=shorten(raw, 80), allowed=_LINE)
    numbers: dict[str, Any] = {key: line.get(key) for key in ("seconds", "prompt_tokens", "completion_tokens")}
    for key, value in numbers.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
            raise InputError(f"{key} in {where} cannot take this value", given=value, allowed="a number, 0 or more")
    tokens = numbers["completion_tokens"]
    made = Answer(answer, int(estimate_tokens(answer) if tokens is None else tokens), bool(line.get("cut")))
    return prompt, OutsideAnswer(made, **numbers)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _answer_of(line: Mapping[str, Any]) -> str | None:
    """The text of the answer of a line, as the data would be read: of turns, the last. None without one."""
    value = next((line[key] for key in _ANSWER_KEYS if line.get(key) is not None), None)
    turns = line.get("messages") if value is None else value
    if isinstance(value, str):
        return value
    if not are_turns(turns):
        return None if value is None else written_out(value)
    try:
        spoken = read_turns(turns, "messages")
    except UnusableRow:
        return None
    return spoken[-1]["content"] if spoken and spoken[-1]["role"] == "assistant" else None


def _prompt_of(line: Mapping[str, Any]) -> str | None:
    """The text by which a line is matched: its prompt, or the last question of its messages with the preceding
    turns."""
    if isinstance(line.get("prompt"), str):
        return str(line["prompt"]).strip()
    turns = line.get("messages") or line.get("prompt")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return None
    asked = [turn for turn in turns if turn.get("role") not in ("system", "developer", TOOLS)]
    if asked and asked[-1].get("role") == "assistant":
        asked = asked[:-1]
    return _joined(asked) if asked else None


def _joined(turns: Sequence[Mapping[str, Any]]) -> str:
    """A single question unchanged; a conversation with its roles."""
    if len(turns) == 1:
        return str(turns[0].get("content") or "").strip()
    return "\n".join(f"{turn.get('role')}: {str(turn.get('content') or '').strip()}" for turn in turns)


def carried(earlier: ComparisonJson | None, run: RunDirectory, material: Material) -> list[Outside]:
    """The sides of the `earlier` comparison of the same question whose answers are all stored. They cost nothing and
    stay."""
    sides = [
        Outside.from_dict(side["outside"])
        for side in (earlier.get("sides", []) if earlier else [])
        if side.get("outside") is not None
    ]
    keys = {_key(messages) for messages in _prompts(material)}
    return [side for side in sides if keys <= known(run, side, material).keys()]


def notes_on(side: Outside, replies: Sequence[OutsideAnswer]) -> list[str]:
    """What readers must know about the answers of `side`."""
    notes = []
    refused = sum(bool(each.refused) for each in replies)
    if refused:
        reason = next(each.refused for each in replies if each.refused)
        notes.append(f"{side.title} refused {refused} of {len(replies)} rows, which count as empty answers. {reason}")
    empty = sum(not each.refused and not each.answer.text.strip() for each in replies)
    if empty:
        notes.append(f"{empty} of {len(replies)} answers of {side.title} are empty, and count as such.")
    cut = sum(each.answer.cut for each in replies)
    if cut:
        notes.append(
            f"{cut} of {len(replies)} answers of {side.title} were cut. A longer limit (--max-tokens) may help a model "
            "that thinks before it answers."
        )
    if (most := max((each.at_once for each in replies), default=1)) > 1:
        notes.append(
            f"Seconds of {side.title} run from request to reply, with up to {most} requests at once: a server that "
            "answers one at a time lets the others wait. --at-once 1 measures one alone."
        )
    if side.url:
        notes.append(f"Perplexity and what was forgotten {UNMEASURED}: only the answers of {side.title} are available.")
    return notes


def spent(side: Outside, replies: Sequence[OutsideAnswer]) -> dict[str, float | None]:
    """The mean cost of an answer of `side`: `seconds`, tokens read (`read`), and the price of 1,000 answers
    (`thousand`). None if unknown."""
    seconds = [each.seconds for each in replies if each.seconds is not None and not each.refused]
    reported = [
        (each.prompt_tokens, each.completion_tokens)
        for each in replies
        if each.prompt_tokens is not None and each.completion_tokens is not None
    ]
    read = math.fsum(prompt for prompt, _ in reported) / len(reported) if reported else None
    total = cost(sum(p for p, _ in reported), sum(c for _, c in reported), side.price_in, side.price_out)
    return {
        "seconds": math.fsum(seconds) / len(seconds) if seconds else None,
        "read": read,
        "thousand": None if total is None or not reported else 1000 * total / len(reported),
    }
