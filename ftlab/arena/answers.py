"""The answers of the contestants of a blind test, generated in a separate process and stored."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
from ftlab.arena.conversations import BETWEEN, dialogue, parts_of
from ftlab.arena.store import Store, note
from ftlab.core import jobs
from ftlab.core.endpoint import CONTESTANT
from ftlab.core.files import locked
from ftlab.core.jobs import Job, Status, Stopped
from ftlab.core.run_directory import WORK_LOCK
from ftlab.core.workspace import Workspace
from ftlab.data.shapes import Message
from ftlab.data.tool_calls import spoken, uses_tools
from ftlab.data.tool_templates import text_of_reply
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.batches import free_memory

GENERATION: dict[str, Any] = {"max_new_tokens": 256, "temperature": 0.0, "batch_size": 16}
MOST_TOKENS = 8192
AT_ONCE = 4  # concurrent requests to an endpoint
_CONVERSATIONS_AT_ONCE = 4 * AT_ONCE

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
    work = _Work(store, settings, prompts, test.settings.get("conversations", False), progress, should_stop)
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
        conversations: bool,
        progress: Progress | None,
        should_stop: ShouldStop | None,
    ):
        self.store, self.settings, self.prompts, self.conversations = store, settings, prompts, conversations
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

    def talks(self, prompt_ids: Sequence[str]) -> list[_Talk]:
        scripts = self.conversations
        every = [(prompt_id, self.prompts[prompt_id].messages) for prompt_id in prompt_ids]
        return [_Talk(name, parts_of(turns) if scripts else [turns], scripts) for name, turns in every]

    def save(self, talk: _Talk, contestant: Row[Any]) -> None:
        save_answer(self.store, talk.prompt_id, contestant.id, **talk.whole())
        self.done += 1
        self.tell(f"answers of {contestant.title}")


@dataclass
class _Talk:
    """A prompt and what a contestant has answered: once, or each turn of a script, with its own answers before it."""

    prompt_id: str
    parts: list[list[Message]]
    is_conversation: bool
    made: list[dict[str, Any]] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return len(self.made) < len(self.parts)

    @property
    def messages(self) -> list[Message]:
        """What the next answer is to."""
        return dialogue(self.parts, [answer["text"] for answer in self.made])

    def add(self, text: str, *, tokens: int | None, seconds: float, cut: bool = False, flag: str = "") -> None:
        self.made.append({"text": text, "tokens": tokens, "seconds": seconds, "cut": cut})
        if flag:
            self.flags.append(f"Answer {len(self.made)}: {flag}" if self.is_conversation else flag)

    def whole(self) -> dict[str, Any]:
        """The arguments of `save_answer`."""
        tokens = [answer["tokens"] for answer in self.made]
        turns = [{name: answer[name] for name in ("text", "tokens", "cut")} for answer in self.made]
        return {
            "text": BETWEEN.join(answer["text"] for answer in self.made),
            "tokens": None if None in tokens else sum(tokens),
            "cut": any(answer["cut"] for answer in self.made),
            "seconds": round(sum(answer["seconds"] for answer in self.made), 4),
            "flags": self.flags,
            "turns": turns if self.is_conversation else None,
        }


def _ask_model(work: _Work, writer: Writer, contestant: Row[Any], prompt_ids: Sequence[str]) -> None:
    from ftlab.data.rendering import read_calls, stop_token_ids
    from ftlab.evaluation.generate import generate_answers

    room, rows = work.settings["max_new_tokens"], work.settings["batch_size"]

    def encode(talk: _Talk) -> tuple[list[int], str]:
        return encoded(writer, contestant.spec, talk.messages, room)

    # The longest first, as within a batch: memory runs out at once or not at all.
    every = [(talk, encode(talk)) for talk in work.talks(prompt_ids)]
    waiting = sorted(every, key=lambda item: (-len(item[0].parts), -len(item[1][0])))
    work.tell(f"answers of {contestant.title}")
    while waiting:
        batch, waiting = waiting[:rows], waiting[rows:]
        while batch:  # once, or turn by turn
            work.check()
            began = time.monotonic()
            made = generate_answers(
                writer.model,
                writer.tokenizer,
                [ids for _, (ids, _) in batch],
                max_new_tokens=room,
                stop_ids=stop_token_ids(writer.tokenizer, writer.model.generation_config),
                batch_rows=rows,
                context=writer.context,
                should_stop=work.should_stop,
            )
            rows = made.halved_to or rows
            seconds = round((time.monotonic() - began) / len(batch), 4)
            for (talk, (_, remark)), answer in zip(batch, made.answers, strict=True):
                calls = uses_tools(work.prompts[talk.prompt_id].messages)
                # Raters judge what a person would read, without thoughts, whose length would reveal the sides.
                text = spoken(read_calls(answer.text, writer.tokenizer) if calls else answer.text)
                talk.add(text, tokens=answer.tokens, seconds=seconds, cut=answer.cut, flag=remark)
                if not talk.is_open:
                    work.save(talk, contestant)
            batch = [(talk, encode(talk)) for talk, _ in batch if talk.is_open]


def _ask_endpoint(work: _Work, contestant: Row[Any], prompt_ids: Sequence[str]) -> dict[str, Any]:
    """Returns the settings that the endpoint accepts, and the number of answers reused from evaluations. What was
    asked there before word for word is not sent again."""
    from ftlab.core.endpoint import CONTESTANT, Asker, Endpoint
    from ftlab.evaluation.outside import kept_replies

    spec, limit = contestant.spec, work.settings["max_new_tokens"]
    client: Asker | None = None
    kept, sent, refused = 0, set(), {}

    def add(talk: _Talk, text: str, **answer: Any) -> None:
        talk.add(text, **answer)
        if not talk.is_open:
            work.save(talk, contestant)

    waiting = work.talks(prompt_ids)
    # Conversations are stored whole: a few at once, so that little is lost if the work is stopped.
    at_once = _CONVERSATIONS_AT_ONCE if work.conversations else len(waiting)
    try:
        while waiting:
            batch, waiting = waiting[:at_once], waiting[at_once:]
            while batch:  # once, or turn by turn
                by_id = {talk.prompt_id: talk for talk in batch}
                messages = {name: asked(spec, talk.messages) for name, talk in by_id.items()}
                known = kept_replies(work.store.workspace, spec["url"], spec["model"], messages, limit)
                requests = [request_of(n, spec, talk.messages) for n, talk in by_id.items() if n not in known]
                for name, old in known.items():
                    add(by_id[name], old.answer.text, tokens=old.answer.tokens, seconds=old.seconds)
                kept += len(known)
                sent |= {request.key for request in requests}
                if requests and client is None:
                    endpoint = Endpoint(spec["url"], spec["model"], limit)
                    how = {"temperature": work.settings["temperature"]}
                    client = Asker(endpoint, threading.Event(), CONTESTANT, **how)
                    work.tell(f"answers of {contestant.title}")
                if requests and client is not None:
                    for replied in client.ask_all(requests, at_once=AT_ONCE, should_stop=work.should_stop):
                        if replied.reply is None:
                            refused[replied.key] = replied.refused
                            continue
                        tokens, cut = replied.reply.completion_tokens, replied.reply.cut
                        text, seconds = text_of_reply(replied.reply), round(replied.seconds, 3)
                        add(by_id[replied.key], text, tokens=tokens, cut=cut, seconds=seconds)
                work.check()
                batch = [talk for talk in batch if talk.is_open and talk.prompt_id not in refused]
    finally:
        if client is not None:
            client.close()
    if refused:
        raise FtlabError(
            f"{contestant.title} did not answer {len(refused)} of {len(sent)} prompts",
            why=next(iter(refused.values())),
            try_="leave these prompts out of a new test",
        )
    return (client.settings if client else {}) | ({"kept": kept} if kept else {})


_WORDS = jobs.Words(
    "the one that generates these answers",
    ended="The process that generated the answers stopped early",
    failed="The answers could not be generated",
    again="generate again: existing answers are kept",
    idle="No answers are being generated.",
    asked="Stopping. Finished answers are kept.",
)


def _job(workspace: Workspace, test_id: str) -> Job:
    folder = workspace.answers_folder(test_id)
    files = (folder / "status.json", folder / WORK_LOCK, folder / "answers.log")
    return Job(*files, (test_id, workspace.root), folder / "stop", _WORDS)


def start(workspace: Workspace, test_id: str, *, then_open: bool = False) -> None:
    """Start generating the missing answers, unless that is already running. `then_open`: open the test when they are
    complete, unless its owner must review them first (`must_be_looked_at`)."""
    from ftlab.arena.store import DATABASE_VARIABLE

    job = _job(workspace, test_id)
    with locked(job.status_file.with_name("start.lock")):
        before = status(workspace, test_id)
        if before is not None and before.is_active:
            return
        jobs.begin(job, Status(phase="loading the libraries", created=time.time()))
        command = [sys.executable, "-m", "ftlab.arena.answers"]
        command += [*(["--open"] if then_open else []), "--", test_id, str(workspace.root)]
        keys = [DATABASE_VARIABLE, CONTESTANT.key_variable]
        jobs.start(job, command, jobs.environment({}, online=True, keep=keys))


def status(workspace: Workspace, test_id: str) -> Status | None:
    """The status, corrected if the process is gone. None if it was never started."""
    return jobs.followed(_job(workspace, test_id), Status)


def at_work(workspace: Workspace) -> list[tuple[str, Status]]:
    """The blind tests whose answers are being generated, by id."""
    files = sorted(workspace.arena_folder.glob("*/status.json"))
    return jobs.at_work((file.parent.name for file in files), lambda test_id: status(workspace, test_id))


def stop(workspace: Workspace, test_id: str) -> jobs.StopResult:
    """Ask the process to stop; on the second call, kill it."""
    return jobs.stop(_job(workspace, test_id), status(workspace, test_id))


def main(arguments: list[str] | None = None) -> int:
    """The process itself: generates the answers and writes the outcome to status.json."""
    parser = argparse.ArgumentParser(prog="ftlab.arena.answers")
    parser.add_argument("test")
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--open", action="store_true", help="then open the test, unless an answer may reveal its side")
    args = parser.parse_args(arguments)
    workspace = Workspace.open(args.workspace)
    job = _job(workspace, args.test)

    def work(writer: jobs.Writer[Status]) -> None:
        _work(workspace, args.test, job, writer)
        if args.open:
            open_unless_flagged(workspace, args.test)

    return jobs.run(job, lambda: jobs.Writer(job.status_file, Status), work)


def open_unless_flagged(workspace: Workspace, test_id: str) -> bool:
    """Open a test whose answers are complete, unless its owner must review them first. Returns whether it was
    opened."""
    from ftlab.arena.store import open_store

    store = open_store(workspace)
    if get_test(store, test_id).state != "ready" or must_be_looked_at(flags(store, test_id)):
        return False
    open_test(store, test_id)
    return True


def _work(workspace: Workspace, test_id: str, job: Job, writer: jobs.Writer[Status]) -> None:
    """Generate all answers. Raises Stopped."""
    from ftlab.arena.store import open_store
    from ftlab.models.bases.get import telling

    def asked_to_stop() -> bool:
        return job.is_asked_to_stop

    def tell(phase: str, done: int = 0, total: int = 0) -> None:
        writer.tell(phase, 0, 0)  # the database stores their number

    with (
        jobs.turn(workspace.device_lock, asked_to_stop, tell),
        telling(tell),
        jobs.ended_by(asked_to_stop, Stopped),
    ):
        if not generate(open_store(workspace), test_id, progress=tell, should_stop=asked_to_stop):
            raise Stopped


if __name__ == "__main__":
    sys.exit(main())
