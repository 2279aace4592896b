"""Have a model behind an address judge the answers of a blind test: all prompts, each in both orders. `judge_test` does
it; `start` has a process of its own do it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from ftlab.arena.blind_tests import find_test
from ftlab.arena.conversations import as_text, texts_of
from ftlab.arena.corrected import read_scores
from ftlab.arena.store import Store, answers, contestants, prompts
from ftlab.core import jobs
from ftlab.core.endpoint import JUDGE
from ftlab.core.files import append_jsonl, end_last_line, locked, read_json, read_jsonl, write_json
from ftlab.core.jobs import Job, Status
from ftlab.core.workspace import Workspace
from ftlab.data.shapes import Message
from ftlab.data.tool_calls import spoken
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.batches import Progress, silent
from ftlab.evaluation.judge import PHASE, TIE, replies_of
from ftlab.evaluation.judge_plan import JudgeRequest, JudgeSettings, Plan, plan_of, questions


def sides_of_test(store: Store, test_id: str) -> tuple[str, str]:
    """The ids of the two contestants. Raises InputError if there are more, or if raters write the prompts."""
    with store.reading() as connection:
        test = find_test(connection, test_id)
        query = contestants.select().where(contestants.c.test_id == test_id).order_by(contestants.c.position)
        among = [contestant.id for contestant in connection.execute(query)]
    if test.settings["live"] or len(among) != 2:
        raise InputError(
            "A judge takes part in tests of two contestants with prompts that were set",
            given=f"{len(among)} contestants" + (", prompts of raters" if test.settings["live"] else ""),
        )
    return among[0], among[1]


def plan_judging(store: Store, test_id: str, settings: JudgeSettings) -> Plan:
    """What judging a test takes. Sends nothing."""
    settings = _settings_for(store, test_id, settings)
    rows, asked, known = _asked(store, test_id, settings)
    return plan_of(settings, len(rows), asked, known)


def judge_test(
    store: Store,
    test_id: str,
    settings: JudgeSettings,
    *,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> int:
    """Ask about every prompt that this judge has not judged, and store each reply as it arrives. Returns the number of
    prompts with a choice in both orders. Raises FtlabError if the address cannot be used, and Stopped.
    """
    settings = _settings_for(store, test_id, settings)
    rows, asked, known = _asked(store, test_id, settings)
    file = store.workspace.judged_file(test_id)
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file.with_suffix(".lock"), wait=False) as mine:
        if not mine:
            raise FtlabError("The answers of this test are being judged already", try_="wait for it to end")
        end_last_line(file)
        of_all = {"judgement": settings.id, "model": settings.endpoint.model}
        same = {row["row"] for row in rows} - {question.row for question in asked}
        written = {line["row"] for line in read_jsonl(file) if line["judgement"] == settings.id}
        for row in sorted(same - written):  # equal answers are a tie without a request
            for order in (settings.sides, settings.sides[::-1]):
                append_jsonl(file, {**of_all, "key": "", "row": row, "order": list(order), "choice": TIE})
        left = [question for question in asked if question.key not in known]
        done = len(asked) - len(left)
        tell = progress or silent
        tell(PHASE, done, len(asked))
        for line in replies_of(left, settings, should_stop or (lambda: False), fresh=not known):
            append_jsonl(file, {**of_all, **line})
            done += 1
            tell(PHASE, done, len(asked))
    return len(read_scores(file, *settings.sides)[0])


_OF_CONVERSATIONS = (
    " Here, the prompt holds the user's turns, and each answer is a whole conversation with these turns. Judge all "
    "that the assistant says in it."
)


def _settings_for(store: Store, test_id: str, settings: JudgeSettings) -> JudgeSettings:
    with store.reading() as connection:
        conversations = find_test(connection, test_id).settings.get("conversations")
    return replace(settings, criteria=settings.criteria + _OF_CONVERSATIONS) if conversations else settings


def _as_judged(answer: Row[Any], script: Sequence[Message]) -> str:
    texts = [spoken(text) for text in texts_of(answer.text, answer.turns)]
    return as_text(script, texts) if answer.turns else texts[0]


def _asked(
    store: Store, test_id: str, settings: JudgeSettings
) -> tuple[list[dict[str, Any]], list[JudgeRequest], set[str]]:
    """The prompts with both answers as rows, the requests about them, and the keys of the answered ones."""
    with store.reading() as connection:
        asked = connection.execute(
            prompts.select().where(prompts.c.test_id == test_id).order_by(prompts.c.number)
        ).all()
        query = answers.select().join(prompts).where(prompts.c.test_id == test_id)
        script = {prompt.id: prompt.messages for prompt in asked}
        texts = {(a.prompt_id, a.contestant_id): _as_judged(a, script[a.prompt_id]) for a in connection.execute(query)}
    rows = [
        {"row": prompt.number, "messages": prompt.messages, "reference": prompt.reference}
        | {side: texts[prompt.id, side] for side in settings.sides}
        for prompt in asked
        if all((prompt.id, side) in texts for side in settings.sides)
    ]
    if not rows:
        raise FtlabError("This test has no answers to judge yet", try_="python -m ftlab arena generate")
    lines = read_jsonl(store.workspace.judged_file(test_id))
    return rows, questions(rows, settings), {line["key"] for line in lines if line.get("choice") is not None}


_WORDS = jobs.Words(
    "the judge of this blind test",
    ended="The process of the judge ended early",
    failed="The answers could not be judged",
    again="send again: replies so far are kept",
    idle="No judge is at work.",
    asked="Stopping. Finished judgments are kept.",
)


def _job(workspace: Workspace, test_id: str) -> Job:
    file = workspace.judged_file(test_id)
    files = (file.with_name("judging.json"), file.with_name("judging.lock"), file.with_name("judging.log"))
    return Job(*files, (test_id, workspace.root), file.with_name("judging.stop"), _WORDS)


def _request_file(workspace: Workspace, test_id: str) -> Path:
    return workspace.judged_file(test_id).with_name("judge.json")


def start(workspace: Workspace, test_id: str, settings: JudgeSettings) -> None:
    """Judge a test in a separate process. The key reaches it through its environment. Raises FtlabError while a judge
    is at work."""
    from ftlab.arena.store import DATABASE_VARIABLE

    job = _job(workspace, test_id)
    with locked(job.status_file.with_name("judging.start.lock")):
        before = status(workspace, test_id)
        if before is not None and before.is_active:
            raise FtlabError("The answers of this test are being judged already", try_="wait for it to end, or stop it")
        write_json(_request_file(workspace, test_id), settings.as_dict())
        jobs.begin(job, Status(phase=PHASE, created=time.time()))
        command = [sys.executable, "-m", "ftlab.arena.judging", "--", test_id, str(workspace.root)]
        keys = [DATABASE_VARIABLE, JUDGE.key_variable]
        jobs.start(job, command, jobs.environment({}, online=True, keep=keys))


def status(workspace: Workspace, test_id: str) -> Status | None:
    """The status, corrected if the process is gone. None if it was never started."""
    return jobs.followed(_job(workspace, test_id), Status)


def at_work(workspace: Workspace) -> list[tuple[str, Status]]:
    """The blind tests that a judge is reading, by id."""
    files = sorted(workspace.arena_folder.glob("*/judging.json"))
    return jobs.at_work((file.parent.name for file in files), lambda test_id: status(workspace, test_id))


def stop(workspace: Workspace, test_id: str) -> jobs.StopResult:
    """Ask the process to stop; on the second call, kill it."""
    return jobs.stop(_job(workspace, test_id), status(workspace, test_id))


def main(arguments: list[str] | None = None) -> int:
    """The process itself: judges, and writes the outcome to judging.json."""
    from ftlab.arena.store import open_store

    parser = argparse.ArgumentParser(prog="ftlab.arena.judging")
    parser.add_argument("test")
    parser.add_argument("workspace", type=Path)
    args = parser.parse_args(arguments)
    workspace = Workspace.open(args.workspace)
    job = _job(workspace, args.test)

    def work(writer: jobs.Writer[Status]) -> None:
        settings = JudgeSettings.from_dict(read_json(_request_file(workspace, args.test)))
        store = open_store(workspace)
        judge_test(store, args.test, settings, progress=writer.tell, should_stop=lambda: job.is_asked_to_stop)

    return jobs.run(job, lambda: jobs.Writer(job.status_file, Status), work)


if __name__ == "__main__":
    sys.exit(main())
