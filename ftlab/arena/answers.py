"""The answers of all contestants to all prompts: made once, in batches, with the same settings for every side.

Voting then needs no model. Each batch is kept as it is done: who stops, or is killed, goes on where it ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any

from sqlalchemy import Row

from ftlab.arena.asking import Writer, asked, encoded, load_writer, weights_of
from ftlab.arena.store import Store, note
from ftlab.arena.tests import (
    get_test,
    list_contestants,
    list_prompts,
    mark_ready,
    missing_answers,
    save_answer,
    start_generating,
)
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.batches import Stopped, free_memory

GENERATION: dict[str, Any] = {"max_new_tokens": 256, "temperature": 0.0, "batch_size": 16}
MOST_TOKENS = 8192
AT_ONCE = 4  # requests to an endpoint
_POLL_SECONDS = 0.5

Progress = Callable[[str, int, int], None]
ShouldStop = Callable[[], bool]


def check_generation(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with the defaults where it is silent. Raises InputError for what is unknown or out of range."""
    unknown = sorted(set(given) - set(GENERATION))
    if unknown:
        raise InputError("There is no such setting of generation", given=unknown[0], allowed=", ".join(GENERATION))
    settings = GENERATION | dict(given)
    if settings["temperature"] != 0:
        raise InputError(
            "Answers for a blind test are the likeliest ones, so that they can be made again",
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
    """Make all answers of a test that are missing, and bring it to ready; False when `should_stop` ended it before.

    What is there stays, and calling again goes on. `progress` gets a phase in words, answers there and answers in all.
    The caller holds the device (`workspace.device_lock`). Raises InputError for a live test or one that is open,
    FtlabError when a model cannot be loaded or an endpoint does not answer.
    """
    test = get_test(store, test_id)
    if test.settings["live"]:
        raise InputError("In a live test the answers are made while raters write", try_="open it")
    settings = check_generation(test.settings["generation"])
    if test.state == "ready":
        return True
    start_generating(store, test_id)
    among = {one.id: one for one in list_contestants(store, test_id)}
    prompts = {one.id: one for one in list_prompts(store, test_id)}
    work = _Work(store, settings, prompts, progress, should_stop)
    missing = missing_answers(store, test_id)
    work.total = len(among) * len(prompts)
    work.done = work.total - len(missing)
    open_prompts: dict[str, list[str]] = {}
    for prompt_id, contestant_id in missing:
        open_prompts.setdefault(contestant_id, []).append(prompt_id)
    # Side by side in the order of their weights, so that each copy is loaded once.
    grouped: dict[tuple[Any, ...], list[Row[Any]]] = {}
    for contestant_id in open_prompts:
        grouped.setdefault(weights_of(among[contestant_id].spec), []).append(among[contestant_id])
    taken: dict[str, Any] = {}  # the settings as each contestant takes them
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
    work.tell("all answers are there")
    return True


def _answer(
    work: _Work, members: Sequence[Row[Any]], open_prompts: Mapping[str, Sequence[str]], device: str
) -> dict[str, Any]:
    """The answers of contestants that share their weights; returns the settings as each of them takes them."""
    if members[0].spec["kind"] == "endpoint":
        return {one.title: _ask_endpoint(work, one, open_prompts[one.id]) for one in members}
    work.check()
    work.tell(f"loading the model of {members[0].title}")
    writer = load_writer(work.store.workspace, members[0].spec, device)
    for one in members:
        _ask_model(work, writer, one, open_prompts[one.id])
    del writer
    free_memory()
    return {one.title: {key: work.settings[key] for key in ("temperature", "max_new_tokens")} for one in members}


class _Work:
    """What all contestants are asked, and how far it is."""

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
    from ftlab.data.rendering import stop_token_ids
    from ftlab.evaluation.generate import generate_answers

    room, rows = work.settings["max_new_tokens"], work.settings["batch_size"]
    found = {one: encoded(writer, contestant.spec, work.prompts[one].messages, room) for one in prompt_ids}
    # The longest first, as within a batch: memory runs out at once or not at all.
    waiting = sorted(prompt_ids, key=lambda one: -len(found[one][0]))
    work.tell(f"answers of {contestant.title}")
    while waiting:
        work.check()
        batch, waiting = waiting[:rows], waiting[rows:]
        began = time.monotonic()
        made = generate_answers(
            writer.model,
            writer.tokenizer,
            [found[one][0] for one in batch],
            max_new_tokens=room,
            stop_ids=stop_token_ids(writer.tokenizer, writer.model.generation_config),
            batch_rows=rows,
            context=writer.context,
            should_stop=work.should_stop,
        )
        rows = made.halved_to or rows
        seconds = round((time.monotonic() - began) / len(batch), 4)
        for one, answer in zip(batch, made.answers, strict=True):
            flags = [found[one][1]] if found[one][1] else []
            work.save(one, contestant, answer.text, tokens=answer.tokens, cut=answer.cut, seconds=seconds, flags=flags)


def _ask_endpoint(work: _Work, contestant: Row[Any], prompt_ids: Sequence[str]) -> dict[str, Any]:
    """Returns the settings as the endpoint takes them."""
    from ftlab.arena.endpoint import Client, Refused

    ended = threading.Event()
    client = Client(contestant.spec["url"], contestant.spec["model"], work.settings, ended)

    def ask(prompt_id: str) -> tuple[str, Any, float, list[str]]:
        began = time.monotonic()
        try:
            reply = client.ask(asked(contestant.spec, work.prompts[prompt_id].messages))
        except Refused as error:
            return prompt_id, None, time.monotonic() - began, [error.message()]
        return prompt_id, reply, time.monotonic() - began, []

    work.tell(f"answers of {contestant.title}")
    refused: list[str] = []
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="endpoint") as pool:
        try:
            waiting = {pool.submit(ask, one) for one in prompt_ids}
            while waiting:
                work.check()
                finished, waiting = wait(waiting, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                for future in finished:
                    prompt_id, reply, seconds, flags = future.result()
                    refused += flags
                    if reply is not None:
                        # Written by this thread alone, so that progress only ever goes up.
                        work.save(
                            prompt_id,
                            contestant,
                            reply.text,
                            tokens=reply.tokens,
                            cut=reply.cut,
                            seconds=round(seconds, 3),
                        )
        finally:
            ended.set()
            pool.shutdown(wait=True, cancel_futures=True)
            client.close()
    if refused:
        count = f"{len(refused)} of {len(prompt_ids)} prompts"
        raise FtlabError(
            f"{contestant.title} did not answer {count}", why=refused[0], try_="leave these prompts out of a new test"
        )
    return client.settings
