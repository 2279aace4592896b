"""The answers of the contestants of a blind test, generated in a separate process and stored."""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from ftlab.arena.asking import Writer, asked, encoded, load_writer, request_of, weights_of
from ftlab.arena.blind_tests import (
    flags,
    get_test,
    list_contestants,
    list_prompts,
    mark_ready,
    missing_answers,
    must_be_looked_at,
    open_test,
    save_answer,
    start_generating,
)
from ftlab.arena.store import Store, note
from ftlab.core import jobs
from ftlab.core.endpoint import CONTESTANT
from ftlab.core.files import DamagedFile, locked
from ftlab.core.jobs import Job
from ftlab.core.processes import give_way, hold_own, let_go
from ftlab.core.quiet import quieten
from ftlab.core.run_directory import WORK_LOCK
from ftlab.core.workspace import Workspace
from ftlab.data.tool_calls import spoken, uses_tools
from ftlab.data.tool_templates import text_of_reply
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.batches import Stopped, free_memory

GENERATION: dict[str, Any] = {"max_new_tokens": 256, "temperature": 0.0, "batch_size": 16}
MOST_TOKENS = 8192
AT_ONCE = 4  # concurrent requests to an endpoint

Progress = Callable[[str, int, int], None]
ShouldStop = Callable[[], bool]


def check_generation(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` completed with the defaults. Raises InputError for an unknown setting or one out of range."""
    unknown = sorted(set(values) - set(GENERATION))
    if unknown:
        raise InputError("There is no such setting of generation", given=unknown[0], allowed=", ".join(GENERATION))
    settings = GENERATION | dict(values)
    if settings["temperature"] != 0:
        raise InputError(
            "Blind tests use greedy decoding, so that the answers can be reproduced",
            given=f"temperature {settings['temperature']}",
            allowed="temperature 0",
        )
    for name, most in (("max_new_tokens", MOST_TOKENS), ("batch_size", 1024)):
        if isinstance(settings[name], bool) or not isinstance(settings[name], int) or not 1 <= settings[name] <= most:
            raise InputError(f"{name} is out of range", given=settings[name], allowed=f"1 to {most}")
    return settings


def generate(
    store: Store,
    test_id: str,
    *,
    device: str = "auto",
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> bool:
    """Generate all missing answers of a test, then mark it ready. Returns False if `should_stop` ended it first.

    Existing answers are kept; a second call continues. `progress` gets the phase, the number of finished answers and
    the total. The caller holds the device (`workspace.device_lock`). Raises InputError for a live test or an open one,
    FtlabError if a model cannot be loaded or an endpoint does not answer.
    """
    test = get_test(store, test_id)
    if test.settings["live"]:
        raise InputError("A live test generates its answers while raters write", try_="open it")
    settings = check_generation(test.settings["generation"])
    if test.state == "ready":
        return True
    start_generating(store, test_id)
    among = {contestant.id: contestant for contestant in list_contestants(store, test_id)}
    prompts = {prompt.id: prompt for prompt in list_prompts(store, test_id)}
    work = _Work(store, settings, prompts, progress, should_stop)
    missing = missing_answers(store, test_id)
    work.total = len(among) * len(prompts)
    work.done = work.total - len(missing)
    open_prompts: dict[str, list[str]] = {}
    for prompt_id, contestant_id in missing:
        open_prompts.setdefault(contestant_id, []).append(prompt_id)
    # Grouped by weights, so that each copy is loaded once.
    grouped: dict[tuple[Any, ...], list[Row[Any]]] = {}
    for contestant_id in open_prompts:
        grouped.setdefault(weights_of(among[contestant_id].spec), []).append(among[contestant_id])
    taken: dict[str, Any] = {}  # the settings as applied for each contestant
    began = time.monotonic()
    try:
        for members in grouped.values():
            taken |= _answer(work, members, open_prompts, device)
    except Stopped:
        return False
    if missing:
        with store.writing() as connection:
            seconds = round(time.monotonic() - began, 2)
            note(connection, test_id, "answers made", answers=len(missing), seconds=seconds, settings=taken)
    mark_ready(store, test_id)
    work.tell("all answers generated")
    return True


def _answer(
    work: _Work, members: Sequence[Row[Any]], open_prompts: Mapping[str, Sequence[str]], device: str
) -> dict[str, Any]:
    """Generate the answers of contestants that share their weights. Returns the settings used for each."""
    if members[0].spec["kind"] == "endpoint":
        return {member.title: _ask_endpoint(work, member, open_prompts[member.id]) for member in members}
    work.check()
    work.tell(f"loading {members[0].title}")
    writer = load_writer(work.store.workspace, members[0].spec, device)
    for contestant in members:
        _ask_model(work, writer, contestant, open_prompts[contestant.id])
    del writer
    free_memory()
    return {
        contestant.title: {key: work.settings[key] for key in ("temperature", "max_new_tokens")}
        for contestant in members
    }


class _Work:
    """The prompts for all contestants, and the progress."""

    def __init__(
        self,
        store: Store,
        settings: dict[str, Any],
        prompts: dict[str, Row[Any]],
        progress: Progress | None,
        should_stop: ShouldStop | None,
    ):
        self.store, self.settings, self.prompts = store, settings, prompts
        self._progress, self._should_stop = progress, should_stop
        self.done = self.total = 0

    def tell(self, phase: str) -> None:
        if self._progress:
            self._progress(phase, self.done, self.total)

    def should_stop(self) -> bool:
        return bool(self._should_stop and self._should_stop())

    def check(self) -> None:
        if self.should_stop():
            raise Stopped

    def save(self, prompt_id: str, contestant: Row[Any], text: str, **answer: Any) -> None:
        save_answer(self.store, prompt_id, contestant.id, text, **answer)
        self.done += 1
        self.tell(f"answers of {contestant.title}")


def _ask_model(work: _Work, writer: Writer, contestant: Row[Any], prompt_ids: Sequence[str]) -> None:
    from ftlab.data.rendering import read_calls, stop_token_ids
    from ftlab.evaluation.generate import generate_answers

    room, rows = work.settings["max_new_tokens"], work.settings["batch_size"]
    encodings = {
        prompt_id: encoded(writer, contestant.spec, work.prompts[prompt_id].messages, room) for prompt_id in prompt_ids
    }
    # The longest first, as within a batch: memory runs out at once or not at all.
    waiting = sorted(prompt_ids, key=lambda prompt_id: -len(encodings[prompt_id][0]))
    work.tell(f"answers of {contestant.title}")
    while waiting:
        work.check()
        batch, waiting = waiting[:rows], waiting[rows:]
        began = time.monotonic()
        made = generate_answers(
            writer.model,
            writer.tokenizer,
            [encodings[prompt_id][0] for prompt_id in batch],
            max_new_tokens=room,
            stop_ids=stop_token_ids(writer.tokenizer, writer.model.generation_config),
            batch_rows=rows,
            context=writer.context,
            should_stop=work.should_stop,
        )
        rows = made.halved_to or rows
        seconds = round((time.monotonic() - began) / len(batch), 4)
        for prompt_id, answer in zip(batch, made.answers, strict=True):
            flags = [encodings[prompt_id][1]] if encodings[prompt_id][1] else []
            calls = uses_tools(work.prompts[prompt_id].messages)
            work.save(
                prompt_id,
                contestant,
                # Raters judge what a person would read, without thoughts, whose length would reveal the sides.
                spoken(read_calls(answer.text, writer.tokenizer) if calls else answer.text),
                tokens=answer.tokens,
                cut=answer.cut,
                seconds=seconds,
                flags=flags,
            )


def _ask_endpoint(work: _Work, contestant: Row[Any], prompt_ids: Sequence[str]) -> dict[str, Any]:
    """Returns the settings that the endpoint accepts, and the number of answers reused from evaluations. Prompts
    already asked there word for word are not sent again."""
    from ftlab.core.endpoint import CONTESTANT, Asker, Endpoint
    from ftlab.evaluation.outside import kept_replies

    spec, limit = contestant.spec, work.settings["max_new_tokens"]
    messages = {prompt_id: asked(spec, work.prompts[prompt_id].messages) for prompt_id in prompt_ids}
    kept = kept_replies(work.store.workspace, spec["url"], spec["model"], messages, limit)
    for prompt_id, known in kept.items():
        work.save(prompt_id, contestant, known.answer.text, tokens=known.answer.tokens, seconds=known.seconds)
    prompt_ids = [prompt_id for prompt_id in prompt_ids if prompt_id not in kept]
    if not prompt_ids:
        return {"kept": len(kept)}
    endpoint = Endpoint(spec["url"], spec["model"], limit)
    client = Asker(endpoint, threading.Event(), CONTESTANT, temperature=work.settings["temperature"])
    requests = [request_of(prompt_id, contestant.spec, work.prompts[prompt_id].messages) for prompt_id in prompt_ids]
    work.tell(f"answers of {contestant.title}")
    refused: list[str] = []
    try:
        for replied in client.ask_all(requests, at_once=AT_ONCE, should_stop=work.should_stop):
            if replied.reply is None:
                refused.append(replied.refused)
                continue
            work.save(
                replied.key,
                contestant,
                text_of_reply(replied.reply),
                tokens=replied.reply.completion_tokens,
                cut=replied.reply.cut,
                seconds=round(replied.seconds, 3),
            )
    finally:
        client.close()
    work.check()
    if refused:
        count = f"{len(refused)} of {len(prompt_ids)} prompts"
        raise FtlabError(
            f"{contestant.title} did not answer {count}", why=refused[0], try_="leave these prompts out of a new test"
        )
    return client.settings | ({"kept": len(kept)} if kept else {})


@dataclass
class Status(jobs.Status):
    """The progress of the answers."""

    phase: str = "loading the libraries"


def _job(workspace: Workspace, test_id: str) -> Job:
    folder = workspace.answers_folder(test_id)
    files = (folder / "status.json", folder / WORK_LOCK, folder / "answers.log")
    return Job(*files, (test_id, workspace.root), folder / "stop")


def start(workspace: Workspace, test_id: str, *, then_open: bool = False) -> None:
    """Start generating the missing answers, unless that is already running. `then_open`: open the test when they are
    complete, unless its owner must review them first (`must_be_looked_at`)."""
    from ftlab.arena.store import DATABASE_VARIABLE

    job = _job(workspace, test_id)
    with locked(job.status_file.with_name("start.lock")):
        before = status(workspace, test_id)
        if before is not None and before.is_active:
            return
        jobs.begin(job, Status(created=time.time()))
        command = [sys.executable, "-m", "ftlab.arena.answers"]
        command += [*(["--open"] if then_open else []), "--", test_id, str(workspace.root)]
        keys = [DATABASE_VARIABLE, CONTESTANT.key_variable]
        jobs.start(job, command, jobs.environment({}, online=True, keep=keys))


def status(workspace: Workspace, test_id: str) -> Status | None:
    """The status, corrected if the process is gone. None if it was never started."""
    ended = "The process that generated the answers stopped early"
    return jobs.followed(_job(workspace, test_id), Status, ended, "generate again: existing answers are kept")


def at_work(workspace: Workspace) -> list[tuple[str, Status]]:
    """The blind tests whose answers are being generated, by id."""
    tests = [file.parent.name for file in sorted(workspace.arena_folder.glob("*/status.json"))]
    states = [(test_id, status(workspace, test_id)) for test_id in tests]
    return [(test_id, current) for test_id, current in states if current is not None and current.is_active]


def stop(workspace: Workspace, test_id: str) -> jobs.StopResult:
    """Ask the process to stop; on the second call, kill it."""
    current = status(workspace, test_id)
    outcome = "idle" if current is None else jobs.stop(_job(workspace, test_id), current)
    messages: dict[jobs.StopOutcome, str] = {
        "idle": "No answers are being generated.",
        "asked": "Stopping. Finished answers are kept.",
        "killed": "Stopped at once.",
        "ended": "It has already ended.",
        "unproven": "Not killed: no process here can be identified as the one that generates these answers.",
    }
    return jobs.StopResult(outcome, messages[outcome])


def main(arguments: list[str] | None = None) -> int:
    """The process itself: generates the answers and writes the outcome to status.json."""
    parser = argparse.ArgumentParser(prog="ftlab.arena.answers")
    parser.add_argument("test")
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--open", action="store_true", help="then open the test, unless an answer may reveal its side")
    args = parser.parse_args(arguments)
    quieten()
    workspace = Workspace.open(args.workspace)
    job = _job(workspace, args.test)
    hold_own(job.lock)
    give_way()
    current = Status(created=time.time())
    with contextlib.suppress(FileNotFoundError, DamagedFile):
        current = jobs.read_status(job.status_file, Status)
    current.sign()

    def keep(**values: Any) -> None:
        for name, value in values.items():
            setattr(current, name, value)
        jobs.write_status(job.status_file, current)

    keep()
    try:
        done = _work(workspace, args.test, lambda: job.is_asked_to_stop, keep)
        if done and args.open:
            open_unless_flagged(workspace, args.test)
        keep(state="done" if done else "stopped", finished=time.time())
        return 0
    except BaseException as error:
        traceback.print_exc()
        told = jobs.as_told(error, job, "The answers could not be generated", "generate again")
        keep(state="failed", finished=time.time(), error=told.as_dict())
        return 1
    finally:
        let_go()


def open_unless_flagged(workspace: Workspace, test_id: str) -> bool:
    """Open a test whose answers are complete, unless its owner must review them first. Returns whether it was
    opened."""
    from ftlab.arena.store import open_store

    store = open_store(workspace)
    if get_test(store, test_id).state != "ready" or must_be_looked_at(flags(store, test_id)):
        return False
    open_test(store, test_id)
    return True


def _work(workspace: Workspace, test_id: str, should_stop: Callable[[], bool], keep: Any) -> bool:
    """Whether all answers were generated."""
    from ftlab.arena.store import open_store
    from ftlab.models.bases.get import telling

    last = [""]

    def tell(phase: str, done: int, total: int) -> None:
        # The database stores their number.
        if phase != last[0]:
            last[0] = phase
            keep(phase=phase)

    keep(state="running", started=time.time())
    waiting = "waiting for a run that uses the device"
    with jobs.turn(workspace.device_lock, should_stop, lambda: tell(waiting, 0, 0)) as mine:
        if not mine:
            return False
        try:
            with telling(tell), jobs.ended_by(should_stop, Stopped):
                return generate(open_store(workspace), test_id, progress=tell, should_stop=should_stop)
        except Stopped:
            return False


if __name__ == "__main__":
    sys.exit(main())
