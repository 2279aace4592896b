"""Let another model judge stored answers, behind any OpenAI-compatible address: asked for, never by default.

evaluation/judged.json    {"judgements": [...]}, the newest first, one for each judge, pair of sides and criteria
evaluation/judged.jsonl   one line for each request: row, order, choice, reply, tokens; what is there is not asked
                          again
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ftlab.endpoint import Asker, Refused, Reply
from ftlab.errors import FtlabError, shorten
from ftlab.evaluation.batches import Stopped
from ftlab.evaluation.judge_plan import (
    JudgeSettings,
    Question,
    answered_rows,
    answers_digest,
    known_lines,
    questions,
    sides_of,
)
from ftlab.evaluation.judge_prompt import read_choice
from ftlab.evaluation.judge_result import TIE, summarise
from ftlab.files import append_jsonl, locked, write_json
from ftlab.run_directory import RunDirectory

PHASE = "the judge compares the answers"
_LONGEST_KEPT = 4000  # characters of a reply
_FIRST_WITHOUT_CHOICE = 6  # replies
_LOOK_SECONDS = 0.25
_GRACE_SECONDS = 10.0


def judge_by_endpoint(
    run: RunDirectory,
    settings: JudgeSettings,
    *,
    progress: Callable[[str, int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Ask the judge about every row that it has not judged yet; returns the judgement, which is added to judged.json.

    Each answer is kept as it comes: after a stop or a failure the same call goes on from there. Raises FtlabError when
    the endpoint cannot be used or somebody else is judging this run, Stopped when asked to.
    """
    rows = answered_rows(run, settings)
    asked = questions(rows, settings)
    with locked(run.judging_lock, wait=False) as mine:
        if not mine:
            raise FtlabError(f"The answers of {run.id} are being judged already", try_="wait, or stop that")
        known = known_lines(run)
        lines = {question.key: known[question.key] for question in asked if question.key in known}
        left = [question for question in asked if question.key not in known]
        tell = progress or (lambda phase, done, total: None)
        tell(PHASE, len(lines), len(asked))
        _end_last_line(run.judged_answers_file)
        try:
            for line in _answers(left, settings, should_stop or (lambda: False), fresh=not lines):
                append_jsonl(run.judged_answers_file, {"judgement": settings.id, **line})
                lines[line["key"]] = line
                tell(PHASE, len(lines), len(asked))
        finally:
            judgement = summarise(rows, asked, lines, settings, sides_of(run))
            judgement["answers"] = answers_digest(run, settings.sides)
            if judgement["judged"]:
                _keep(run, judgement)
    return judgement


def is_current(run: RunDirectory, judgement: dict[str, Any]) -> bool:
    """Whether the answers that were judged are those that are stored now."""
    return judgement["answers"] == answers_digest(run, judgement["sides"])


def _answers(
    left: list[Question], settings: JudgeSettings, should_stop: Callable[[], bool], *, fresh: bool
) -> Iterator[dict[str, Any]]:
    """A line for each question, in the order in which the answers come. Raises what ended it before all were there.

    `fresh`: this judge has not made a choice yet, so that it is given up when its first replies hold none.
    """
    ended = threading.Event()
    asker = Asker(settings.endpoint, ended)
    todo: queue.SimpleQueue[Question] = queue.SimpleQueue()
    answered: queue.SimpleQueue[dict[str, Any] | Exception | None] = queue.SimpleQueue()

    def work() -> None:
        while not ended.is_set():
            try:
                question = todo.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue
            try:
                answered.put(_ask(asker, question))
            except Exception as error:  # raised again below, in the thread of the caller
                answered.put(error)

    # Daemons: nobody who presses ctrl-C waits for an answer that is on its way.
    threads = [threading.Thread(target=work, daemon=True, name="judge") for _ in left[: settings.at_once]]
    for thread in threads:
        thread.start()
    # The first one alone: a wrong key or model is found by one request.
    for question in left[:1]:
        todo.put(question)
    done = without = 0
    last = math.inf
    failure: Exception | None = None
    try:
        while done < len(left):
            if failure is None and should_stop():
                failure = Stopped()
            if failure is not None and not ended.is_set():
                ended.set()
                last = time.monotonic() + _GRACE_SECONDS
            # What is on its way has been paid for and is kept, if it comes soon.
            over = time.monotonic() > last or not any(thread.is_alive() for thread in threads)
            if over and answered.empty():
                break
            try:
                found = answered.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue
            if isinstance(found, Exception):
                failure = failure or found
                continue
            if found is None:
                continue
            done, without = done + 1, without + (found["choice"] is None)
            yield found
            if done == 1:
                for question in left[1:]:
                    todo.put(question)
            if fresh and done == without == min(_FIRST_WITHOUT_CHOICE, len(left)):
                failure = failure or _no_choice(found, settings)
    finally:
        ended.set()
        asker.close()
    if failure is not None and (done < len(left) or not isinstance(failure, Stopped)):
        raise failure


def _ask(asker: Asker, question: Question) -> dict[str, Any] | None:
    """The line of one request; None when there was an end before its answer."""
    began, refused = time.monotonic(), False
    try:
        reply = asker.ask(question.messages)
    except Refused as error:
        # One row may be too long for the judge; the others are not.
        reply, choice, refused = Reply(str(error), None, None, False), None, True
    else:
        if reply is None:
            return None
        choice = read_choice(reply.text)
    chosen = None if choice is None else TIE if choice < 0 else question.order[choice]
    return {
        "key": question.key,
        "row": question.row,
        "order": list(question.order),
        "choice": chosen,
        "reply": shorten(reply.text, _LONGEST_KEPT),
        "refused": refused,
        "cut": reply.cut,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "seconds": round(time.monotonic() - began, 3),
        "created": time.time(),
    }


def _no_choice(line: dict[str, Any], settings: JudgeSettings) -> FtlabError:
    if line["refused"]:
        return FtlabError(line["reply"])
    what = f"{settings.endpoint.model} does not say which answer is better"
    if line["cut"]:
        longer = f"its replies are cut at {settings.endpoint.max_tokens} tokens: allow longer ones"
        return FtlabError(what, why=f"The last reply: {shorten(line['reply']) or 'empty'}", try_=longer)
    why = f"It was asked for a JSON object. The last reply: {shorten(line['reply']) or 'empty'}"
    return FtlabError(what, why=why, try_="a more capable model")


def _end_last_line(file: Path) -> None:
    """A process that was killed may have left half a line: what comes next is not appended to it."""
    with contextlib.suppress(FileNotFoundError):
        content = file.read_bytes()
        if content and not content.endswith(b"\n"):
            with file.open("ab") as end:
                end.write(b"\n")


def _keep(run: RunDirectory, judgement: dict[str, Any]) -> None:
    others = [one for one in run.judgements() if one["id"] != judgement["id"]]
    write_json(run.judged_file, {"judgements": [judgement, *others]})
