"""Rows written by a model: asked for, filtered, and saved as a version of data that a person then reads."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ftlab.config import ModelConfig
from ftlab.core import jobs
from ftlab.core.endpoint import (
    WRITER,
    Asker,
    Request,
    cost,
)
from ftlab.core.files import append_jsonl, end_last_line, locked, read_json, write_json
from ftlab.core.jobs import Stopped
from ftlab.core.parsing import without_thoughts
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.data.version_store import DetailsJson, MadeJson, Version, VersionRow, resolve, rows_of
from ftlab.data.versions import MADE_BY, derive, originate
from ftlab.errors import FtlabError, InputError, shorten
from ftlab.evaluation.batches import Progress, free_memory, silent
from ftlab.synthesis.plan import (
    PAIR_TOKENS,
    ReplyLine,
    Settings,
    Work,
    all_replies,
    folder_of,
    kept_replies,
    replies_file,
)
from ftlab.synthesis.writing import (
    ANSWERS,
    CASES,
    DOCUMENTS,
    PARAPHRASES,
    TITLES,
    Written,
    judge_messages,
    read_judgment,
    read_pairs,
    request_key,
    why_not,
    without_copies,
)

_BATCH = 8  # requests to a base at once: each batch is kept
UNREADABLE = "the judge replied neither yes nor no"
JUDGED = "the judge: "
_MANY = 0.5  # share of rows left out for one reason that is worth a note


@dataclass(frozen=True)
class Made:
    """What came of it. `left_out` counts the rows by reason, with an example of each in `examples`."""

    version: Version
    written: int
    kept: int
    left_out: dict[str, int]
    examples: dict[str, str]
    unreadable: int  # replies without any row
    tokens: dict[str, int]
    cost: float | None
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        values = {**self.__dict__, "version": self.version.source, "shown": self.examples}
        return {name: value for name, value in values.items() if name != "examples"}

    def lines(self) -> list[str]:
        was = "was" if self.written == 1 else "were"
        lines = [f"{counted(self.written, 'row')} {was} written, {self.kept:,} of them kept."]
        lines += [f"  left out: {count:,}, {reason}" for reason, count in self.left_out.items()]
        lines += [f"    such as: {shorten(self.examples[reason], 160)}" for reason in list(self.left_out)[:3]]
        if self.unreadable:
            lines.append(f"  {counted(self.unreadable, 'reply', 'replies')} contained no row")
        return lines + self.notes


def make(
    work: Work,
    workspace: Workspace,
    *,
    who: str | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Made:
    """Write the rows and save them as a version: those that were left out are in it, excluded, with the reason.

    Each reply is kept as it comes: after a stop or a failure the same call continues, and asks an address again for the
    replies without a readable row. Raises Stopped, and FtlabError
    when the writer cannot be used, writes nothing that can be read, or all its rows are left out.
    """
    folder = folder_of(workspace, work)
    folder.mkdir(parents=True, exist_ok=True)
    tell, stopping = progress or silent, should_stop or (lambda: False)
    with locked(folder / "lock", wait=False) as mine:
        if not mine:
            raise FtlabError("These rows are already being written", try_="wait, or stop that work")
        outcome = read_json(folder / "outcome.json")
        if outcome is not None and (done := made_before(outcome, workspace)) is not None:
            return done
        file = replies_file(workspace, work)
        end_last_line(file)
        replies = kept_replies(workspace, work)

        def ask(requests: Sequence[Request], phase: str) -> None:
            left = [request for request in requests if request.key not in replies]
            count = len(requests) - len(left)
            tell(phase, count, len(requests))
            for line in _asked(left, work, workspace, tell, stopping):
                append_jsonl(file, dict(line))
                replies[line["key"]] = line
                count += 1
                tell(phase, count, len(requests))
            if any(request.key not in replies for request in requests):
                raise Stopped

        ask(work.requests, "writing rows")
        rows, unreadable = _read(work, replies)
        if not rows:
            raise _nothing(work, replies)
        rows = _filtered(work, rows, tell)
        if work.settings.judged:
            asked = [None if row.why_not else _to_judge(row, work.settings) for row in rows]
            ask(list({request.key: request for request in asked if request}.values()), "judging rows")
            rows = [
                _judged(row, replies[request.key]) if request else row for row, request in zip(rows, asked, strict=True)
            ]
        if work.settings.rows is not None:
            rows = _at_most(rows, work.settings.rows)
        tell("saving the rows", 0, 0)
        version = _save(work, workspace, rows, who)
        made = _made(work, version, rows, unreadable, all_replies(workspace, work))
        write_json(folder / "outcome.json", made.as_dict())
        return made


def _asked(
    left: Sequence[Request],
    work: Work,
    workspace: Workspace,
    tell: Progress,
    should_stop: Callable[[], bool],
) -> Iterator[ReplyLine]:
    """The replies to the requests; fewer after a stop."""
    settings = work.settings
    if not left:
        return
    if settings.endpoint is not None:
        asker = Asker(settings.endpoint, threading.Event(), WRITER)
        try:
            for replied in asker.ask_all(left, at_once=settings.at_once, should_stop=should_stop):
                reply = replied.reply
                yield {
                    "key": replied.key,
                    "text": reply.text if reply else replied.refused,
                    "cut": bool(reply and reply.cut),
                    "refused": reply is None,
                    "prompt_tokens": reply.prompt_tokens if reply else None,
                    "completion_tokens": reply.completion_tokens if reply else None,
                }
        finally:
            asker.close()
        return
    with jobs.turn(workspace.device_lock, should_stop, lambda phase: tell(phase, 0, 0)):
        yield from _written_here(left, work, tell, should_stop)


def _written_here(
    left: Sequence[Request], work: Work, tell: Progress, should_stop: Callable[[], bool]
) -> Iterator[ReplyLine]:
    from ftlab.data.rendering import encode_prompt, stop_token_ids
    from ftlab.evaluation.generate import generate_answers

    tell(f"loading {work.settings.base}", 0, 0)
    model, tokenizer, context = _base_of(work)
    longest = work.longest or work.settings.each * 2 * PAIR_TOKENS
    # The longest first: memory runs out at once or not at all.
    encoded = [
        (request, encode_prompt([*request.messages, {"role": "assistant", "content": ""}], tokenizer))
        for request in left
    ]
    encoded.sort(key=lambda pair: -len(pair[1]))
    try:
        for start in range(0, len(encoded), _BATCH):
            batch = encoded[start : start + _BATCH]
            try:
                answers = generate_answers(
                    model,
                    tokenizer,
                    [ids for _, ids in batch],
                    max_new_tokens=longest,
                    stop_ids=stop_token_ids(tokenizer, model.generation_config),
                    batch_rows=_BATCH,
                    context=context,
                    should_stop=should_stop,
                ).answers
            except Stopped:
                return
            for (request, ids), answer in zip(batch, answers, strict=True):
                yield {
                    "key": request.key,
                    "text": answer.text,
                    "cut": answer.cut,
                    "refused": False,
                    "prompt_tokens": len(ids),
                    "completion_tokens": answer.tokens,
                }
    finally:
        del model
        free_memory()


def _base_of(work: Work) -> tuple[Any, Any, int | None]:
    """The base that writes, its tokenizer, and its context in tokens; to the prompts of a run it answers as in the
    evaluation of that run."""
    from ftlab.data.rendering import ensure_chat_template
    from ftlab.models.load import context_length, load_base, load_tokenizer, load_trained_base, text_length

    if work.run is not None:
        from ftlab.evaluation.sides import base_side, config_of, tokenizer_of

        config = config_of(work.run)
        model = load_trained_base(config, device=config.launcher.device)
        return model, tokenizer_of(base_side(work.run, config)), text_length(config)
    base = ModelConfig(base=str(work.settings.base))
    tokenizer = load_tokenizer(base.base)
    ensure_chat_template(tokenizer)
    return load_base(base), tokenizer, context_length(base)


def _read(work: Work, replies: Mapping[str, ReplyLine]) -> tuple[list[Written], int]:
    """The rows in the replies, in the order of the tasks, and the number of replies without any."""
    rows: list[Written] = []
    unreadable = 0
    for request in work.requests:
        reply = replies[request.key]
        if work.kind == ANSWERS:
            task = work.by_key[request.key]
            why = REFUSED if reply["refused"] else CUT if reply["cut"] else ""
            answer = "" if reply["refused"] else without_thoughts(reply["text"]).strip()
            rows.append(Written(task, task.examples[0].prompt, answer, why))
            continue
        written = [] if reply["refused"] else read_pairs(reply["text"], work.by_key[request.key], cut=reply["cut"])
        unreadable += not written
        rows += written
    return rows, unreadable


def _nothing(work: Work, replies: Mapping[str, ReplyLine]) -> FtlabError:
    reply = replies[work.requests[0].key]
    if reply["refused"]:
        return FtlabError(reply["text"])
    return FtlabError(
        f"{work.settings.writer} wrote no readable row",
        why=f"A row is a line `Question: ...` with a line `Answer: ...`. A reply: {shorten(reply['text']) or 'empty'}",
        try_="use a more capable model"
        if work.settings.endpoint is None
        else "correct the server, or use a more capable model. Started again, the same work asks again",
    )


LABELS = "its answer is not a label in your data"
CUT, REFUSED = "the answer was cut at its longest", "the server gave no answer"


def _filtered(work: Work, rows: Sequence[Written], tell: Progress) -> list[Written]:
    tell("looking for copies", 0, 0)
    labels = None
    if work.place is not None and work.place.is_label:
        labels = {example.answer for task in work.tasks for example in task.examples}
        labels |= {str(row.cells.get(work.place.answer or "")) for row in work.like.values()}
    checked = []
    for row in rows:
        reason = row.why_not or why_not(row)
        if not reason and labels is not None and row.answer not in labels:
            reason = LABELS
        checked.append(replace(row, why_not=reason))
    # Answers belong to prompts of the data, which its checks look at.
    return checked if work.kind == ANSWERS else without_copies(checked, work.known)


def _to_judge(row: Written, settings: Settings) -> Request:
    messages = judge_messages(row)
    return Request(request_key(messages, *settings.who, "judge"), messages)


def _judged(row: Written, reply: ReplyLine) -> Written:
    keep, reason = (None, "") if reply["refused"] else read_judgment(reply["text"])
    if keep is None:
        return replace(row, why_not=UNREADABLE)
    return row if keep else replace(row, why_not=f"{JUDGED}{reason or 'it should not be learned from'}")


def _at_most(rows: Sequence[Written], most: int) -> list[Written]:
    """`rows` without the good ones beyond `most`."""
    kept, good = [], 0
    for row in rows:
        good += not row.why_not
        if row.why_not or good <= most:
            kept.append(row)
    return kept


def _save(work: Work, workspace: Workspace, rows: Sequence[Written], who: str | None) -> Version:
    settings = work.settings
    writer = f"{settings.writer} at {settings.endpoint.host}" if settings.endpoint else settings.writer
    if work.kind == ANSWERS and not settings.endpoint:
        writer += " with a prompt"
    made: MadeJson = {"by": writer, "kind": work.kind, "rows": sum(not row.why_not for row in rows)}
    action = f"{counted(made['rows'], 'row')} {_ACTIONS[work.kind]} by {writer}"
    signed = f"{writer}, {TITLES[work.kind]}"
    if work.parent is None:
        columns = ["question", "answer", "document", "section", "passage", MADE_BY]
        details: DetailsJson = {
            "columns": {"prompt": "question", "completion": "answer"},
            "prompt_template": None,
            "made": made,
        }
        new = []
        for number, row in enumerate(rows):
            passage = row.task.passage
            assert passage is not None
            cells = [row.prompt, row.answer, passage.document, passage.title, passage.text, signed]
            split = work.splits[passage]
            new.append(VersionRow(number, dict(zip(columns, cells, strict=True)), split, row.why_not or None))
        return originate(workspace, work.name, new, columns, action, work.origin, details, who=who)
    assert work.place is not None
    old = list(rows_of(work.parent))
    free = max(row.id for row in old) + 1
    if work.kind == ANSWERS:
        # The rows with the answers of before stay, left out: they can be brought back.
        old = [row.with_(excluded=f"answered by {writer}") if row.id in work.like else row for row in old]
    for number, row in enumerate(rows):
        like = work.like[row.task.examples[0].id]
        if work.kind == ANSWERS:
            added = work.place.answered(like.cells, row.answer) | {MADE_BY: signed}
        else:
            added = work.place.write(like.cells, row.prompt, row.answer) | {MADE_BY: signed}
        old.append(VersionRow(free + number, added, "train", row.why_not or None))
    columns = [*work.parent.columns, *([] if MADE_BY in work.parent.columns else [MADE_BY])]
    return derive(work.parent, old, action, who=who, workspace=workspace, details={"made": made}, columns=columns)


_ACTIONS = {
    DOCUMENTS: "about documents, written",
    CASES: "of the same kind, written",
    PARAPHRASES: "reworded",
    ANSWERS: "answered",
}


def _made(work: Work, version: Version, rows: Sequence[Written], unreadable: int, replies: Sequence[ReplyLine]) -> Made:
    reasons = Counter(_short(row.why_not) for row in rows if row.why_not)
    remarks = {_short(row.why_not): f"{row.prompt} -> {row.answer}" for row in reversed(rows) if row.why_not}
    tokens = {
        "prompt": sum(line["prompt_tokens"] or 0 for line in replies),
        "completion": sum(line["completion_tokens"] or 0 for line in replies),
    }
    notes = []
    kept = sum(not row.why_not for row in rows)
    for reason, count in reasons.most_common(1):
        if count > _MANY * len(rows):
            notes.append(
                f"Most rows were left out for one reason ({reason}): a more capable model writes fewer of them."
            )
    if work.kind == ANSWERS and kept:
        same = sum(not row.why_not and row.answer == row.task.examples[0].answer.strip() for row in rows)
        notes.append(f"{same:,} of the {kept:,} kept answers equal those of your data.")
    splits = Counter((row.task.passage and work.splits[row.task.passage]) or "train" for row in rows if not row.why_not)
    if work.parent is None and kept and not splits["test"]:
        notes.append("No test questions are left: add documents, or ask for more rows per passage.")
    price = cost(tokens["prompt"], tokens["completion"], work.settings.price_in, work.settings.price_out)
    return Made(version, len(rows), kept, dict(reasons.most_common()), remarks, unreadable, tokens, price, notes)


def _short(reason: str) -> str:
    return "rejected by the judge" if reason.startswith(JUDGED) else reason


def made_before(outcome: dict[str, Any], workspace: Workspace) -> Made | None:
    """What the same work made before, if its version is still there."""
    try:
        version = resolve(outcome["version"], workspace)
    except InputError:
        return None
    values = {name: value for name, value in outcome.items() if name != "shown"}
    return Made(**values | {"version": version, "examples": outcome["shown"]})
