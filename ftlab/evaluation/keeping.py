"""What an evaluation stores: replies, so that nothing is generated twice, and comparisons by question.

evaluation/results/<model>-<rows>.json holds in `items` the replies of the model with that hash to each row: for a
prompt [longest answer, text, tokens, cut], for a text [summed loss, tokens], for a conversation [reward]. For a base's
own answers it holds their tokens and most likely alternatives (probes.py), and for another model how it predicts these.
A file is written once and never changed. A run's own comparison is in evaluation/, every other question in a subfolder.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ftlab.config import RunConfig
from ftlab.config.evaluation import EvaluationConfig
from ftlab.core.comparison import ComparisonJson, MemorisationJson, QuestionJson, stored_form
from ftlab.core.files import (
    DamagedFile,
    digest,
    disk_full,
    json_text,
    jsonl_text,
    read_cached,
    write_json,
    write_together,
)
from ftlab.core.run_directory import Question, RunDirectory
from ftlab.errors import FtlabError
from ftlab.evaluation.generate import Answer
from ftlab.evaluation.losses import Losses
from ftlab.evaluation.material import still_holds
from ftlab.evaluation.probes import TOP, Followed, Written
from ftlab.models.strength import AS_TRAINED, strength_name

if TYPE_CHECKING:
    from ftlab.data.rendering import Encoded
    from ftlab.data.shapes import Message

_FORMAT = 1  # incremented when the same question would be measured differently


@dataclass(frozen=True)
class ToScore:
    """Pieces of text to compute losses for. `owner[i]` is the row of piece i, of `rows` rows."""

    encoded: Sequence[Encoded]
    owner: Sequence[int]
    rows: int

    @property
    def steps(self) -> int:
        return len(self.encoded)


@dataclass(frozen=True)
class ToAnswer:
    """Prompts as token ids. An answer has at most `max_new_tokens`, prompt and answer together at most `context`.

    Greedy at temperature 0; otherwise `sample` (from 1) is the number of the sampled answer to these prompts.
    """

    prompts: Sequence[list[int]]
    max_new_tokens: int
    context: int | None
    temperature: float = 0.0
    sample: int = 1

    @property
    def decoding(self) -> Any:
        """What determines an answer besides the model and the prompt; JSON-serializable."""
        return ["sampled", self.temperature, self.sample] if self.temperature else "greedy"

    @property
    def steps(self) -> int:
        return len(self.prompts)

    @property
    def rooms(self) -> list[int]:
        """The maximum length of the answer to each prompt, in tokens."""
        most = self.max_new_tokens
        return [max(0, min(most, self.context - len(ids))) if self.context else most for ids in self.prompts]


@dataclass(frozen=True)
class ToGrade:
    """Conversations whose last answer a reward model scores."""

    conversations: Sequence[Sequence[Message]]

    @property
    def steps(self) -> int:
        return len(self.conversations)


@dataclass(frozen=True)
class ToExamine:
    """An examination of the whole model (memorization). `facts` is all that determines the result."""

    facts: list[Any]

    @property
    def steps(self) -> int:
        return 0


@dataclass(frozen=True)
class ToWrite:
    """Prompts as token ids that a base answers itself, greedily, with at most `max_new_tokens`; prompt and answer have
    at most `context`. The most likely tokens at each position are stored, too."""

    prompts: Sequence[list[int]]
    max_new_tokens: int
    context: int | None

    @property
    def steps(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True)
class ToFollow:
    """How a model predicts what the base with the identity `base` wrote to the prompts `of` it, and its own answers to
    the `examples` that changed most: see `follow`."""

    of: ToWrite
    base: list[Any]
    examples: int = 0

    @property
    def steps(self) -> int:
        return self.of.steps


Rowwise = ToScore | ToAnswer | ToGrade | ToWrite | ToFollow
Request = Rowwise | ToExamine


@dataclass(frozen=True)
class Reply:
    """A model's reply to one Request: `losses` of rows, `answers` to prompts, `rewards` of conversations, or its
    `memorisation` of training rows; what a base has `written`, and how another model `followed` it."""

    losses: Losses | None = None
    answers: list[Answer] | None = None
    rewards: list[float] | None = None
    written: list[Written] | None = None
    followed: list[Followed] | None = None
    memorisation: MemorisationJson | None = None
    halved_to: int | None = None


def key_of(identity: list[Any], question: Request) -> str:
    """The hash of the model with this `identity` and of the whole of `question`.

    Batch size and order do not change a reply, so they are not part of it.
    """
    hashed = hashlib.sha256(json.dumps([_FORMAT, identity], sort_keys=True).encode())
    if isinstance(question, ToScore):
        for piece, owner in zip(question.encoded, question.owner, strict=True):
            hashed.update(json.dumps([owner, piece.input_ids, [int(on) for on in piece.trained]]).encode())
    elif isinstance(question, ToExamine):
        hashed.update(json.dumps(question.facts).encode())
    elif isinstance(question, ToGrade | ToWrite | ToFollow):
        hashed.update(json.dumps(_row_keys(question)).encode())
    else:
        for prompt, room in zip(question.prompts, question.rooms, strict=True):
            hashed.update(json.dumps([question.decoding, room, list(prompt)]).encode())
    return hashed.hexdigest()


@dataclass(frozen=True)
class Kept:
    """The stored part of a question: `reply` if complete, `items` by row (None: not asked yet), `here` if all of it is
    in the run itself."""

    reply: Reply | None
    items: list[Any]
    here: bool


def recall(run: RunDirectory, identity: list[Any], question: Request) -> Kept:
    """The stored replies of the model with this `identity` to `question`, from `run` or a neighboring run."""
    owners = [run, *_beside(run)]
    items: list[Any] = []
    here = True
    if not isinstance(question, ToExamine):
        items, here = _collected(owners, identity, question)
        if items and all(item is not None for item in items):
            return Kept(_said(question, items), items, here)
    for owner in owners:  # examinations of the whole model, and files of older ftlab versions
        if (stored := read_cached(owner.result_file(key_of(identity, question)))) is not None:
            reply = _read(stored)
            return Kept(reply, _items(question, reply), here=owner == run and isinstance(question, ToExamine))
    return Kept(None, items, here)


def _collected(owners: Sequence[RunDirectory], identity: list[Any], question: Rowwise) -> tuple[list[Any], bool]:
    """The stored item of each row (None if never asked), and whether all of them are in the first of `owners`."""
    names, rooms, here = _row_keys(question), _rooms(question), True
    items: list[Any] = [None] * len(names)
    for owner in owners:
        for file in owner.result_files(_model_key(identity, question)):
            known = (read_cached(file) or {}).get("items", {})  # a damaged file is asked again
            for place, name in enumerate(names):
                if items[place] is None and name in known and _holds(known[name], rooms[place]):
                    items[place] = known[name]
                    here = here and owner == owners[0]
        if all(item is not None for item in items):
            break
    return items, here


def seconds_per_answer(run: RunDirectory, identity: list[Any], question: ToAnswer) -> float | None:
    """The seconds that one stored answer to `question` took: those of the batch divided by its rows. None if not
    recorded (an older ftlab, or a copy from another run)."""
    names, seconds, answers = set(_row_keys(question)), 0.0, 0
    for owner in [run, *_beside(run)]:
        for file in owner.result_files(_model_key(identity, question)):
            stored = read_cached(file) or {}
            took = stored.get("took")
            if took and names & stored.get("items", {}).keys():
                seconds, answers = seconds + took["seconds"], answers + took["answers"]
    return seconds / answers if answers else None


def open_part(question: Rowwise, kept: Kept) -> Rowwise:
    """The rows of `question` that were never asked."""
    rows = [row for row, item in enumerate(kept.items) if item is None]
    if isinstance(question, ToAnswer | ToWrite):
        return replace(question, prompts=[question.prompts[row] for row in rows])
    if isinstance(question, ToGrade):
        return ToGrade([question.conversations[row] for row in rows])
    if isinstance(question, ToFollow):
        return replace(question, of=replace(question.of, prompts=[question.of.prompts[row] for row in rows]))
    number = {row: place for place, row in enumerate(rows)}
    pieces = [
        (piece, number[row]) for piece, row in zip(question.encoded, question.owner, strict=True) if row in number
    ]
    return ToScore([piece for piece, _ in pieces], [place for _, place in pieces], len(rows))


def completed(question: Rowwise, kept: Kept, new: Reply) -> Reply:
    """The stored reply, completed with the `new` reply to `open_part`."""
    part = iter(_items(open_part(question, kept), new))
    items = [next(part) if item is None else item for item in kept.items]
    return replace(_said(question, items), halved_to=new.halved_to)


def keep(run: RunDirectory, identity: list[Any], question: Request, reply: Reply, about: dict[str, Any]) -> None:
    """Write the `reply` to `question` into `run`. `about` describes the file for human readers."""
    if isinstance(question, ToExamine):
        _write(run, key_of(identity, question), about | {"found": reply.memorisation, "halved_to": reply.halved_to})
        return
    items = dict(zip(_row_keys(question), _items(question, reply), strict=True))
    _write(run, f"{_model_key(identity, question)}-{key_of(identity, question)[:16]}", about | {"items": items})


def _write(run: RunDirectory, key: str, values: dict[str, Any]) -> None:
    try:
        write_json(run.result_file(key), values)
    except OSError as error:
        raise disk_full(error, run.path) or FtlabError(
            f"The results cannot be written: {error.strerror}", why=str(run.evaluation), try_="free some disk space"
        ) from error


def _read(values: dict[str, Any]) -> Reply:
    losses = Losses(values["nll"], values["tokens"]) if "nll" in values else None
    answers = [Answer(*answer) for answer in values["answers"]] if "answers" in values else None
    return Reply(losses, answers, memorisation=values.get("found"))


def _model_key(identity: list[Any], question: Rowwise) -> str:
    # Distributions take megabytes: separate files, which other questions do not read.
    apart = ["own answers"] if isinstance(question, ToWrite) else []
    return digest([_FORMAT, identity, *apart], 16, sort_keys=True)


def _row_keys(question: Rowwise) -> list[str]:
    """A hash for each row of everything the model reads. Two rows with the same text share it."""
    if isinstance(question, ToAnswer):
        texts = [json.dumps([question.decoding, list(prompt)]) for prompt in question.prompts]
    elif isinstance(question, ToGrade):
        texts = [json.dumps(["reward", list(messages)], sort_keys=True) for messages in question.conversations]
    elif isinstance(question, ToWrite | ToFollow):
        of, what = (question.of, ["follow", question.base]) if isinstance(question, ToFollow) else (question, ["own"])
        rooms = [
            min(of.max_new_tokens, of.context - len(ids)) if of.context else of.max_new_tokens for ids in of.prompts
        ]
        texts = [
            json.dumps([*what, TOP, room, list(ids)], sort_keys=True)
            for ids, room in zip(of.prompts, rooms, strict=True)
        ]
    else:
        pieces: list[list[Any]] = [[] for _ in range(question.rows)]
        for piece, row in zip(question.encoded, question.owner, strict=True):
            pieces[row].append([piece.input_ids, [int(on) for on in piece.trained]])
        texts = [json.dumps(["loss", *row]) for row in pieces]
    return [hashlib.sha256(text.encode()).hexdigest()[:24] for text in texts]


def _rooms(question: Rowwise) -> list[int | None]:
    if isinstance(question, ToAnswer):
        return list(question.rooms)
    return [None] * (question.rows if isinstance(question, ToScore) else question.steps)


def _holds(item: list[Any], room: int | None) -> bool:
    """Whether an answer generated under another limit is valid under this one."""
    return room is None or still_holds(item[2], item[3], item[0], room)


def _items(question: Request, reply: Reply) -> list[Any]:
    if isinstance(question, ToAnswer):
        pairs = zip(question.rooms, reply.answers or [], strict=True)
        return [[room, answer.text, answer.tokens, answer.cut] for room, answer in pairs]
    if isinstance(question, ToWrite):
        return [[list(answer.ids), answer.text, answer.cut, *_packed(answer)] for answer in reply.written or []]
    if isinstance(question, ToFollow):
        return [[answer.kl, answer.same, answer.tokens, answer.answer] for answer in reply.followed or []]
    if isinstance(question, ToGrade):
        return [[reward] for reward in reply.rewards or []]
    if isinstance(question, ToScore) and reply.losses is not None:
        return [list(row) for row in zip(reply.losses.nll, reply.losses.tokens, strict=True)]
    return []


def _said(question: Rowwise, items: Sequence[Any]) -> Reply:
    if isinstance(question, ToAnswer):
        return Reply(answers=[Answer(*item[1:]) for item in items])
    if isinstance(question, ToGrade):
        return Reply(rewards=[reward for [reward] in items])
    if isinstance(question, ToWrite):
        return Reply(written=[_unpacked(*item) for item in items])
    if isinstance(question, ToFollow):
        return Reply(followed=[Followed(*item) for item in items])
    return Reply(losses=Losses([nll for nll, _ in items], [tokens for _, tokens in items]))


def _beside(run: RunDirectory) -> list[RunDirectory]:
    folder = run.path.parent
    return [RunDirectory(path) for path in sorted(folder.iterdir()) if path.is_dir() and path != run.path]


def _packed(answer: Written) -> list[str]:
    """Tokens (four bytes each) and log-probabilities (float32) of all positions, as text."""
    return [base64.b64encode(array.tobytes()).decode("ascii") for array in (answer.top, answer.logs)]


def _unpacked(ids: list[int], text: str, cut: bool, top: str, logs: str) -> Written:
    import numpy as np

    places = len(ids)
    tokens = np.frombuffer(base64.b64decode(top), np.int32).reshape(places, -1 if places else 0)
    values = np.frombuffer(base64.b64decode(logs), np.float32).reshape(places, -1 if places else 1)
    return Written(tuple(ids), text, cut, tokens.copy(), values.copy())


# They change neither the question nor how answers are measured. The rows that result from `max_rows` are compared
# separately.
_NO_PART = {"max_rows", "batch_size", "margin", "after_training", "before_training"}


@dataclass(frozen=True)
class NamedQuestion:
    """A question by its `name` (empty: the run's own) and in words, as stored in comparison.json."""

    name: str
    text: str

    def place(self, run: RunDirectory) -> RunDirectory | Question:
        return run.question(self.name) if self.name else run

    def described(self) -> QuestionJson:
        return {"name": self.name, "text": self.text}


def question_of(
    own: RunConfig,
    used: RunConfig,
    *,
    rows: int,
    available: int,
    suite: str | None = None,
    others: Sequence[str] = (),
    strength: float = AS_TRAINED,
    answered_by: Mapping[str, str | None] | None = None,
    embedded_by: str | None = None,
) -> NamedQuestion:
    """The question that asks `rows` of `available` rows with the settings `used`, where `own` are those of the run.

    It is the run's own if it asks the same rows, sides and measures of the run as trained. `suite` is the data set that
    replaces the held-out rows, `others` are the ids of further runs, `answered_by` are files (with their sha256) whose
    answers determine which rows are asked, and `embedded_by` is the address and model used for retrieval. The same
    question always gets the same name.
    """
    changed = _changed_settings(own.evaluation, used.evaluation)
    other_rows = rows != min(available, own.evaluation.max_rows)
    of = f" of {available:,}" if rows < available else ""
    text = [f"{rows:,}{of} {f'rows of {_file_name(suite)}' if suite else 'held-out rows'}"]
    if not (suite or others or changed or other_rows or answered_by or embedded_by or strength_name(strength)):
        return NamedQuestion("", text[0])
    parts = [suite_name(suite)] if suite else []
    if at := strength_name(strength):
        parts.append(at.replace(" ", "-"))
        text.append(f"at {at}")
    parts += [f"{rows}-rows"] if other_rows or answered_by else []
    parts += [f"in-{suite_name(file)[:30]}" for file in answered_by or ()]
    text += [f"those answered in {_file_name(file)}" for file in answered_by or ()]
    if "prompted" in changed:
        parts.append("prompted")
        text.append("with the prompted base" if changed["prompted"] else "without the prompted base")
    if "retrieved" in changed:
        parts.append(f"retrieved-{changed['retrieved']}")
        things = "passages" if used.evaluation.documents else "rows"
        text.append(f"with {changed['retrieved']} retrieved {things}" if changed["retrieved"] else "without retrieval")
    if embedded_by:
        parts.append("embedded")
        text.append(f"found by embeddings of {embedded_by.partition('#')[2]}")
    if others:
        parts += ["with", *([suite_name(others[0])[:30]] if len(others) == 1 else [str(len(others)), "runs"])]
        text.append(f"with {', '.join(others)}")
    other_changes = {name: value for name, value in changed.items() if name not in ("prompted", "retrieved")}
    parts += [name.replace("_", "-") for name in other_changes]
    text += [f"{EvaluationConfig.model_fields[name].title}: {_shown(value)}" for name, value in other_changes.items()]
    # If the words are equal, a number distinguishes them.
    rest = [
        suite if suite and re.search(r"[/.\\]", suite) else None,
        list(others),
        other_changes,
        *(answered_by or {}).values(),
        *([embedded_by] if embedded_by else []),
    ]
    name = "-".join(parts)[:80]
    return NamedQuestion(f"{name}-{digest(rest, 6, sort_keys=True)}" if any(rest) else name, "; ".join(text))


def question_of_rows(own: RunConfig, max_rows: int | None, available: int) -> NamedQuestion:
    """Like `question_of`, if only the number of rows (or pairs, or prompts) can be chosen."""
    rows = min(max_rows or own.evaluation.max_rows, available)
    return question_of(own, own, rows=rows, available=available)


def write_comparison(
    run: RunDirectory,
    asked: NamedQuestion,
    comparison: ComparisonJson,
    predictions: list[dict[str, Any]],
    probes: list[dict[str, Any]],
) -> None:
    """Write everything, the comparison last, so that whoever sees a new one finds the files it refers to."""
    target = asked.place(run)
    texts = {target.predictions_file: jsonl_text(predictions), target.probes_file: jsonl_text(probes)}
    try:
        write_together(texts | {target.comparison_file: json_text(stored_form(comparison))})
        for file in target.older_scores:
            file.unlink(missing_ok=True)
    except OSError as error:
        with contextlib.suppress(OSError):
            target.evaluation.rmdir()  # of a new question, and still empty
        raise disk_full(error, run.path) or FtlabError(
            f"The results cannot be written: {error.strerror}", why=str(target.evaluation), try_="free some disk space"
        ) from error


def also_asked(run: RunDirectory) -> list[tuple[str, str, str]]:
    """Name, question and verdict of every other comparison of `run` besides its own, newest first."""
    asked = []
    for place in reversed(run.questions()):
        try:
            comparison = place.comparison()
        except DamagedFile as error:
            asked.append((place.name, place.name, f"damaged: {error.how}"))
            continue
        verdicts = comparison.get("verdicts", {}) if comparison else {}
        verdict = verdicts.get("adapted_vs_prompted") or (comparison.get("verdict") if comparison else None)
        asked.append((place.name, place.asked(), verdict["text"] if verdict else ""))
    return asked


def suite_name(suite: str) -> str:
    """A folder name for a suite; for a path, the name of its file."""
    last = suite.rstrip("/").split("/")[-1].rpartition(".")
    return re.sub(r"[^a-z0-9_]+", "-", (last[0] or last[2]).lower()).strip("-")[:60] or "suite"


def _changed_settings(own: EvaluationConfig, used: EvaluationConfig) -> dict[str, Any]:
    before, now = own.model_dump(mode="json"), used.model_dump(mode="json")
    return {name: value for name, value in now.items() if name not in _NO_PART and value != before[name]}


def _shown(value: Any) -> str:
    """A setting as text; for local files only their names."""
    if value is None or isinstance(value, bool):
        return {True: "on", False: "off", None: "none"}[value]
    return ", ".join(_file_name(part) for part in str(value).split(", "))


def _file_name(suite: str) -> str:
    return suite.rstrip("/").split("/")[-1] if suite.startswith(("/", ".", "~")) else suite
