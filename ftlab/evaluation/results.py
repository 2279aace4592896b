"""What a model has said is kept in its run, by the hash of all that decides it, and never asked for again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ftlab.errors import FtlabError
from ftlab.evaluation.answer_limit import still_holds
from ftlab.evaluation.generate import Answer
from ftlab.evaluation.perplexity import Losses
from ftlab.files import read_json, write_json
from ftlab.run_directory import RunDirectory

if TYPE_CHECKING:
    from ftlab.data.rendering import Encoded

_FORMAT = 1  # raised when the same question would be measured in another way


@dataclass(frozen=True)
class ToScore:
    """Pieces of text whose loss is taken; `owner[i]` is the row of piece i, of `rows` rows."""

    encoded: Sequence[Encoded]
    owner: Sequence[int]
    rows: int

    @property
    def steps(self) -> int:
        return len(self.encoded)


@dataclass(frozen=True)
class ToAnswer:
    """Prompts as token ids; an answer has at most `max_new_tokens`, and prompt and answer at most `context`.

    Greedy at the temperature 0; else `sample` (from 1) says which of several answers to these prompts it is.
    """

    prompts: Sequence[list[int]]
    max_new_tokens: int
    context: int | None
    temperature: float = 0.0
    sample: int = 1

    @property
    def decoding(self) -> Any:
        """What decides an answer beside the model and the prompt; JSON-able."""
        return ["sampled", self.temperature, self.sample] if self.temperature else "greedy"

    @property
    def steps(self) -> int:
        return len(self.prompts)

    @property
    def rooms(self) -> list[int]:
        """The longest answer to each prompt, in tokens."""
        most = self.max_new_tokens
        return [max(0, min(most, self.context - len(ids))) if self.context else most for ids in self.prompts]


@dataclass(frozen=True)
class ToExamine:
    """What is found out of a model in a way of its own (memorisation); `facts` is all that decides it."""

    facts: list[Any]

    @property
    def steps(self) -> int:
        return 0


Question = ToScore | ToAnswer | ToExamine


@dataclass(frozen=True)
class Said:
    """What a model said to one Question: `losses` of its rows, `answers` to its prompts, or what was `found` of it."""

    losses: Losses | None = None
    answers: list[Answer] | None = None
    found: dict[str, Any] | None = None
    halved_to: int | None = None


def key_of(identity: list[Any], question: Question) -> str:
    """The name under which the answer of the model with this `identity` to `question` is kept.

    Batch size and order do not change what is said, so they are no part of it.
    """
    digest = hashlib.sha256(json.dumps([_FORMAT, identity], sort_keys=True).encode())
    if isinstance(question, ToScore):
        for piece, owner in zip(question.encoded, question.owner, strict=True):
            digest.update(json.dumps([owner, piece.input_ids, [int(on) for on in piece.trained]]).encode())
    elif isinstance(question, ToExamine):
        digest.update(json.dumps(question.facts).encode())
    else:
        for prompt, room in zip(question.prompts, question.rooms, strict=True):
            digest.update(json.dumps([question.decoding, room, list(prompt)]).encode())
    return digest.hexdigest()


def recall(run: RunDirectory, key: str) -> Said | None:
    """What is kept under `key` in `run`, or in another run beside it (it is then copied); None when nothing is."""
    for owner in (run, *_beside(run)):
        found = read_json(owner.result_file(key))
        if found is not None:
            if owner != run:
                _write(run, key, found)
            return _read(found)
    return None


def answered_before(run: RunDirectory, identity: list[Any], question: ToAnswer) -> list[Answer | None]:
    """For each prompt the answer that was given under another limit (in `run` or in a run beside it) where this limit
    would not change it, else None."""
    name = _prompts_key(identity, question)
    for owner in (run, *_beside(run)):
        pointer = read_json(owner.result_file(name))
        found = read_json(owner.result_file(pointer["key"])) if pointer else None
        if found is None:
            continue
        then = replace(question, max_new_tokens=pointer["max_new_tokens"])
        answers = [Answer(*one) for one in found["answers"]]
        rooms = zip(then.rooms, question.rooms, strict=True)
        return [
            answer if still_holds(answer.tokens, answer.cut, *room) else None
            for answer, room in zip(answers, rooms, strict=True)
        ]
    return [None] * len(question.prompts)


def remember_limit(run: RunDirectory, identity: list[Any], question: ToAnswer, key: str) -> None:
    """Note that `key` holds the answers to the prompts of `question`, for `answered_before`."""
    _write(run, _prompts_key(identity, question), {"key": key, "max_new_tokens": question.max_new_tokens})


def keep(run: RunDirectory, key: str, said: Said, about: dict[str, Any]) -> None:
    """Write `said` under `key` into `run`; `about` tells a reader of the file what it is."""
    values: dict[str, Any] = dict(about)
    if said.losses is not None:
        values |= {"nll": said.losses.nll, "tokens": said.losses.tokens}
    if said.answers is not None:
        values["answers"] = [[answer.text, answer.tokens, answer.cut] for answer in said.answers]
    if said.found is not None:
        values["found"] = said.found
    _write(run, key, values | {"halved_to": said.halved_to})


def _write(run: RunDirectory, key: str, values: dict[str, Any]) -> None:
    try:
        write_json(run.result_file(key), values)
    except OSError as error:
        raise FtlabError(
            f"The results cannot be written: {error.strerror}", why=str(run.evaluation), try_="free some disk space"
        ) from error


def _read(values: dict[str, Any]) -> Said:
    losses = Losses(values["nll"], values["tokens"], values["halved_to"]) if "nll" in values else None
    answers = [Answer(*one) for one in values["answers"]] if "answers" in values else None
    return Said(losses, answers, values.get("found"), values["halved_to"])


def _prompts_key(identity: list[Any], question: ToAnswer) -> str:
    """As `key_of`, whatever the longest answer."""
    facts = [_FORMAT, identity, question.decoding, question.context]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for prompt in question.prompts:
        digest.update(json.dumps(list(prompt)).encode())
    return digest.hexdigest()


def _beside(run: RunDirectory) -> list[RunDirectory]:
    folder = run.path.parent
    return [RunDirectory(path) for path in sorted(folder.iterdir()) if path.is_dir() and path != run.path]
