"""What a model is to write, before anything is asked: the requests, what they cost, and where their rows belong."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

from ftlab.config import STARTER, DataConfig, ModelConfig
from ftlab.core.endpoint import (
    MOST_AT_ONCE,
    WRITER,
    Endpoint,
    Request,
    SendingPlan,
    answered_before,
    check_amount,
    check_prices,
    endpoint_url,
    estimate_tokens,
)
from ftlab.core.files import digest, read_json, read_jsonl
from ftlab.core.parsing import json_or, without_thoughts
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.data.documents import Passage, find_documents, part_documents, read_passages
from ftlab.data.load import as_read, load_rows
from ftlab.data.shapes import Detected
from ftlab.data.splits import detect_format, split_version
from ftlab.data.turns import role_of, text_key_of
from ftlab.data.version_store import SourceJson, Version, VersionRow, history, resolve, rows_of
from ftlab.data.versions import MADE_BY, taken
from ftlab.errors import InputError
from ftlab.synthesis.writing import (
    ANSWERS,
    CASES,
    DOCUMENTS,
    JUDGE_REPLY_TOKENS,
    PARAPHRASES,
    Row,
    Task,
    document_tasks,
    read_judgment,
    read_pairs,
    request_key,
    row_tasks,
)

KINDS = (DOCUMENTS, CASES, PARAPHRASES, ANSWERS)
PAIR_TOKENS = 70  # what a question with its answer usually takes
_LONGEST_REPLY = 2048  # tokens
_MOST_ROWS = 100_000


@dataclass(frozen=True)
class Settings:
    """Who writes (a base here, or an address) and how much. Prices are per million tokens, shares of the passages."""

    base: str | None = None
    endpoint: Endpoint | None = None
    each: int = 3  # rows per request
    rows: int | None = None
    judged: bool = True  # by the model at the address; a base on this machine does not judge itself
    seed: int = 42
    validation: float = 0.1
    test: float = 0.1
    price_in: float | None = None
    price_out: float | None = None
    at_once: int = 4

    @property
    def writer(self) -> str:
        return self.endpoint.model if self.endpoint else str(self.base)

    @property
    def who(self) -> tuple[object, ...]:
        """What replies depend on besides the messages."""
        return (self.endpoint.url, self.endpoint.model) if self.endpoint else ("base", self.base)


def build_settings(
    *,
    url: str | None = None,
    model: str | None = None,
    base: str | None = None,
    each: int = 3,
    rows: int | None = None,
    judged: bool = True,
    price_in: float | None = None,
    price_out: float | None = None,
    at_once: int = 4,
    seed: int = 42,
) -> Settings:
    """The settings, checked. Raises InputError naming what cannot be used."""
    if url and base:
        raise InputError("Use either an address or a base, not both", given=f"{url} and {base}")
    if url is None and not base:
        raise InputError(
            "No model is named to write the rows",
            allowed="a model behind an OpenAI-compatible address, or a base on this machine",
        )
    check_amount("Rows per request", each, 1, 20)
    check_amount("Rows", rows, 1, _MOST_ROWS)
    check_amount("Requests at once", at_once, 1, MOST_AT_ONCE)
    check_prices(price_in, price_out)
    endpoint = None
    if url is not None:
        address = endpoint_url(url, WRITER)
        if not (model or "").strip():
            raise InputError("No model is named", try_="name the model at the address")
        endpoint = Endpoint(address, (model or "").strip(), _LONGEST_REPLY)
    else:
        from ftlab.models.load import check_base

        check_base(ModelConfig(base=str(base)))
    return Settings(
        base,
        endpoint,
        each,
        rows,
        judged and endpoint is not None,
        seed,
        price_in=price_in,
        price_out=price_out,
        at_once=at_once,
    )


@dataclass(frozen=True)
class Work:
    """Everything that is to be written, before anything is asked.

    `splits` is the split of each passage of the documents; `parent` the version that rows are added to, `known` the
    prompts that no new row may repeat: those of all splits.
    """

    kind: str
    name: str
    tasks: list[Task] = field(repr=False)
    settings: Settings
    splits: dict[Passage, str] = field(default_factory=dict, repr=False)
    origin: list[SourceJson] = field(default_factory=list)
    parent: Version | None = None
    known: list[str] = field(default_factory=list, repr=False)
    like: dict[int, VersionRow] = field(default_factory=dict, repr=False)
    place: Place | None = None
    notes: list[str] = field(default_factory=list)
    run: RunDirectory | None = None  # whose prompts are answered
    longest: int = 0  # tokens of a reply of a base on this machine

    @cached_property
    def by_key(self) -> dict[str, Task]:
        """The tasks by the keys of their requests. Paraphrases of one row in several requests, and cases after the same
        examples, are other draws."""
        before: Counter[Task] = Counter()
        tasks = {}
        for task in self.tasks:
            again = before[task] if self.kind != DOCUMENTS else 0
            before[task] += 1
            tasks[request_key(task.messages, *self.settings.who, task.wanted, again)] = task
        return tasks

    @cached_property
    def requests(self) -> list[Request]:
        return [Request(key, task.messages) for key, task in self.by_key.items()]

    @property
    def id(self) -> str:
        keys = list(self.by_key)
        parent = self.parent.id if self.parent else None
        asked = [keys, self.settings.judged, self.settings.rows, parent, sorted(self.splits.values())]
        return digest(asked, 12)


@dataclass(frozen=True, kw_only=True)
class Plan(SendingPlan):
    """What the model will be asked to write."""

    kind: str
    passages: int
    documents: int
    again: int  # of the open requests: their replies hold no readable row
    unjudged: int  # at most: rows that were written before and wait for the judge
    rows: int  # at most
    judged: bool
    splits: dict[str, int]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "writer": self.model, "notes": list(self.notes)}

    def lines(self) -> list[str]:
        lines = []
        if self.kind == DOCUMENTS:
            parts = ", ".join(f"{count:,} {split}" for split, count in self.splits.items() if count)
            lines.append(f"{counted(self.documents, 'document')}, {counted(self.passages, 'passage')} ({parts}).")
        lines += self.notes
        known = answered_before(self.known)
        known += answered_before(self.again, " without a readable row", "sent again")
        where = f"{self.model} at {self.host}" if self.host else f"{self.model} on this machine"
        if self.host and not self.open and not self.unjudged:
            return [*lines, f"Nothing to send: all replies of {where} are kept."]
        lines.append(f"{counted(self.open, 'request')} to {where}, for at most {counted(self.rows, 'row')}{known}.")
        if self.unjudged:
            lines.append(f"At most {counted(self.unjudged, 'row')} written before and judged now.")
        if not self.host:
            lines.append("Nothing leaves this machine. The base does not judge its own rows: read them with care.")
            if self.model == STARTER:
                lines.insert(0, "The starter is a toy: it writes no usable rows. Choose another base, or an address.")
            return lines
        judged = " Each row is then judged by the same model." if self.judged else ""
        what = {DOCUMENTS: "The passages", ANSWERS: "The prompts of your training rows"}
        return lines + self.before_sending(what.get(self.kind, "Rows of your data"), judged)


def examples_of(data: DataConfig, workspace: Workspace) -> list[Row]:
    """The questions and answers of one turn in the training rows of `data`: examples of form and style. Raises
    InputError if there are none."""
    loaded = load_rows(data, workspace)
    place = place_of(detect_format(loaded, as_read(data, loaded)))
    rows = [row for cells in loaded.splits[loaded.main] if (row := place.read(cells)) is not None]
    if not rows:
        raise _no_example(loaded.name)
    return rows


def _no_example(name: str) -> InputError:
    return InputError(
        f"{name} has no row with one question and one answer", allowed="questions with answers, in one turn each"
    )


@dataclass(frozen=True)
class Place:
    """Where the question and the answer of a row stand: in two columns, or as two turns in one (`answer` is None)."""

    question: str
    answer: str | None
    input: str | None = None
    history: str | None = None
    is_label: bool = False

    def read(self, cells: Mapping[str, Any]) -> Row | None:
        """The question and answer as they stand there; None if the row has more turns, or lacks one."""
        if self.answer is None:
            turns = _turns(cells.get(self.question))
            spoken = [turn for turn in turns if role_of(turn) != "system"]
            if [role_of(turn) for turn in spoken] != ["user", "assistant"]:
                return None
            texts = [turn.get(text_key_of(turn)) for turn in spoken]
        else:
            if self.history and cells.get(self.history):
                return None
            texts = [cells.get(self._asked(cells)), cells.get(self.answer)]
        question, answer = (text.strip() if isinstance(text, str) else "" for text in texts)
        return Row(question, answer) if question and answer else None

    def write(self, cells: Mapping[str, Any], question: str, answer: str) -> dict[str, Any]:
        """`cells` with another question and answer."""
        if self.answer is not None:
            return {**cells, self._asked(cells): question, self.answer: answer}
        texts = iter((question, answer))
        turns = [
            turn if role_of(turn) == "system" else {**turn, text_key_of(turn): next(texts)}
            for turn in _turns(cells[self.question])
        ]
        return {**cells, self.question: turns}

    def answered(self, cells: Mapping[str, Any], answer: str) -> dict[str, Any]:
        """`cells` with another last answer."""
        if self.answer is not None:
            return {**cells, self.answer: answer}
        turns = _turns(cells[self.question])
        last = max(place for place, turn in enumerate(turns) if role_of(turn) == "assistant")
        return {**cells, self.question: [*turns[:last], {**turns[last], text_key_of(turns[last]): answer}]}

    def _asked(self, cells: Mapping[str, Any]) -> str:
        """The column with what changes from row to row: where an instruction has an input, that."""
        return self.input if self.input and str(cells.get(self.input) or "").strip() else self.question


def place_of(detected: Detected) -> Place:
    """Raises InputError for a format whose rows are no questions with answers."""
    columns = {} if detected.choices else detected.columns  # no question is written with choices
    for question, answer in (("prompt", "completion"), ("text", "label")):
        if {question, answer} <= columns.keys():
            label = answer == "label"
            return Place(columns[question], columns[answer], columns.get("input"), columns.get("history"), label)
    if detected.format in ("messages", "sharegpt"):
        return Place(columns["messages"], None)
    raise InputError(
        "These rows cannot serve as examples",
        given=f"the format {detected.format}",
        allowed="questions with answers, conversations of one turn, or text with labels",
    )


def _turns(cell: Any) -> list[dict[str, Any]]:
    value = json_or(cell, None) if isinstance(cell, str) else cell
    return value if isinstance(value, list) and all(isinstance(turn, dict) for turn in value) else []


def document_work(
    places: Sequence[str | Path], settings: Settings, examples: Sequence[Row] = (), name: str | None = None
) -> Work:
    """The work of writing rows about documents. Raises InputError if none can be read."""
    notes: list[str] = []
    paths = find_documents(places)
    passages, documents = read_passages(paths, notes)
    splits = part_documents(passages, notes, validation=settings.validation, test=settings.test, seed=settings.seed)
    tasks = document_tasks(passages, examples, settings.each, settings.rows, settings.seed)
    counts = Counter(passage.document for passage in passages)
    origin: list[SourceJson] = [
        {
            "name": document.name,
            "kind": "document",
            "path": None,
            "sha256": document.sha256,
            "rows": counts[document.name],
        }
        for document in documents
    ]
    if name is None:
        place = Path(places[0]).expanduser()
        name = (place if place.is_dir() else place.parent if len(paths) > 1 else Path(place.stem)).name or "documents"
    return Work(DOCUMENTS, name, tasks, settings, dict(zip(passages, splits, strict=True)), origin, notes=notes)


def row_work(data: DataConfig, workspace: Workspace, kind: str, settings: Settings) -> Work:
    """The work of writing more rows like those of `data`. Its rows are split first, if they are not: new rows belong to
    training alone. Makes a version of the data. Raises InputError if no row can serve as an example."""
    if settings.rows is None:
        raise InputError("The number of rows to write is missing", allowed=f"1 to {_MOST_ROWS:,}")
    parent = split_first(data, workspace)
    loaded = load_rows(DataConfig(source=parent.source), workspace)
    place = place_of(detect_format(loaded, as_read(DataConfig(source=parent.source), loaded)))
    if MADE_BY in parent.columns and "made" not in parent.details:
        raise InputError(
            f"Your data has a column {MADE_BY}, which is where ftlab says who wrote a row", try_="rename that column"
        )
    like, examples, known = {}, [], []
    for row in rows_of(parent):
        parts = place.read(row.cells)
        if parts is None:
            continue
        known.append(parts.prompt)
        # What a model wrote is no example for the next: errors would breed.
        if row.excluded is None and row.split == "train" and not row.cells.get(MADE_BY):
            like[row.id] = row
            examples.append(replace(parts, id=row.id))
    if not examples:
        raise _no_example(loaded.name)
    tasks = row_tasks(kind, examples, settings.rows, settings.each, settings.seed)
    return Work(kind, parent.name, tasks, settings, parent=parent, known=known, like=like, place=place)


def split_first(data: DataConfig, workspace: Workspace) -> Version:
    """The version of `data` that is split; an equal one that was made before is taken again."""
    with taken(data, workspace) as version:
        if {"validation", "test"} & version.rows.keys():
            return version
        divided = split_version(data.model_copy(update={"source": version.source}), workspace)[0]
        for known in history(workspace, divided.name):
            same = (known.parent, known.content) == (divided.parent, divided.content)
            if same and known.id != divided.id and known.deleted is None:
                shutil.rmtree(divided.folder)
                return known
        return divided


class ReplyLine(TypedDict):
    """A reply as it is kept. `refused`: the server rejected the request, and `text` is its reason."""

    key: str
    text: str
    cut: bool
    refused: bool
    prompt_tokens: int | None
    completion_tokens: int | None


def folder_of(workspace: Workspace, work: Work) -> Path:
    return workspace.made_folder / work.id


def replies_file(workspace: Workspace, work: Work) -> Path:
    return folder_of(workspace, work) / "replies.jsonl"


def made_version(workspace: Workspace, work: Work) -> Version | None:
    """The version that this work made before, if it is still there."""
    outcome = read_json(folder_of(workspace, work) / "outcome.json")
    try:
        return resolve(outcome["version"], workspace) if outcome is not None else None
    except InputError:
        return None


def all_replies(workspace: Workspace, work: Work) -> list[ReplyLine]:
    """Every reply that came, in the order in which they came: a request may have several."""
    lines: list[Any] = read_jsonl(replies_file(workspace, work))
    return [line for line in lines if "key" in line]


def kept_replies(workspace: Workspace, work: Work) -> dict[str, ReplyLine]:
    """The last reply to each request that is not asked again. A server that replied nothing readable may have been
    corrected since; a base on this machine would reply the same."""
    replies = {line["key"]: line for line in all_replies(workspace, work)}
    if work.settings.endpoint is None:
        return replies
    return {key: line for key, line in replies.items() if _is_readable(line, work)}


def _is_readable(line: ReplyLine, work: Work) -> bool:
    if line["refused"]:
        return False
    task = work.by_key.get(line["key"])
    if task is None:  # of the judge
        return read_judgment(line["text"])[0] is not None
    if work.kind == ANSWERS:
        return bool(without_thoughts(line["text"]).strip())
    return bool(read_pairs(line["text"], task, cut=line["cut"]))


def _unjudged(work: Work, kept: Mapping[str, ReplyLine]) -> tuple[int, int]:
    """How many of the rows in the `kept` replies the judge may still be asked about, and the tokens of each request:
    rows that are left out before do not reach it."""
    written = [(work.by_key[key], line) for key, line in kept.items() if key in work.by_key]
    rows = sum(len(read_pairs(line["text"], task, cut=line["cut"])) for task, line in written)
    tokens = sum(estimate_tokens(task.messages[-1]["content"]) for task, _ in written)
    return max(0, rows - (len(kept) - len(written))), round(tokens / max(1, len(written))) + PAIR_TOKENS


def plan(work: Work, workspace: Workspace) -> Plan:
    """What the work will take; asks nobody."""
    settings = work.settings
    known = {line["key"] for line in all_replies(workspace, work)}
    is_made = made_version(workspace, work) is not None
    kept = kept_replies(workspace, work)
    again = set() if is_made else known - kept.keys()
    left = [request for request in work.requests if request.key not in known or request.key in again]
    rows = sum(work.by_key[request.key].wanted for request in left)
    sent = sum(estimate_tokens(turn["content"]) + 8 for request in left for turn in request.messages)
    usual = rows * PAIR_TOKENS
    if work.kind == ANSWERS:
        usual = sum(estimate_tokens(work.by_key[request.key].examples[0].answer) for request in left)
    most = len(left) * (settings.endpoint.max_tokens if settings.endpoint else _LONGEST_REPLY)
    unjudged = 0
    if settings.judged:
        # Each row is sent once more, with its passage or examples.
        sent += sum(
            work.by_key[request.key].wanted * (estimate_tokens(request.messages[-1]["content"]) + PAIR_TOKENS)
            for request in left
        )
        if not is_made:
            unjudged, each = _unjudged(work, kept)
            sent, rows = sent + unjudged * each, rows + unjudged
        usual, most = usual + rows * JUDGE_REPLY_TOKENS, most + rows * _LONGEST_REPLY
    endpoint, tokens, prices = settings.endpoint, (sent, usual, most), (settings.price_in, settings.price_out)
    made = Plan.to(
        endpoint or Endpoint("", settings.writer),
        tokens,
        prices,
        kind=work.kind,
        passages=len(work.splits),
        documents=len(work.origin),
        requests=len(work.requests),
        known=len(work.requests) - len(left),
        again=sum(request.key in again for request in left),
        unjudged=unjudged,
        rows=sum(task.wanted for task in work.tasks),
        judged=settings.judged,
        splits=dict(Counter(work.splits.values())),
        notes=tuple(work.notes),
    )
    return made if endpoint else replace(made, host=None, is_here=True)
