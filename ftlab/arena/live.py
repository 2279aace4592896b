"""The live mode: a rater writes the prompt, both models answer, and nothing is shown before both are complete.

Serves one rater at a time, since two generations on one device only slow each other down. Models stay loaded between
questions, as many as one test needs.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from typing import Any

from ftlab.arena.answers import check_generation
from ftlab.arena.asking import encoded, load_writer, request_of, weights_of
from ftlab.arena.blind_tests import list_contestants
from ftlab.arena.links import find_rater
from ftlab.arena.store import Store
from ftlab.arena.trials import live_contestants, record_live
from ftlab.data.tool_templates import text_of_reply
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation import loaded

LONGEST_PROMPT = 4000  # characters
WAIT_SECONDS = 120.0

log = logging.getLogger(__name__)


class _TooLong(InputError):
    """The message for a rater whose question cannot be answered."""


def ask_endpoints(store: Store, rater_id: str, prompt: str) -> Any:
    """Like `ask_models`, on a server without models: only contestants at an endpoint can answer there."""
    with store.reading() as connection:
        test, _ = find_rater(connection, rater_id)
    if any(contestant.spec["kind"] != "endpoint" for contestant in list_contestants(store, test.id)):
        log.warning("The test %s needs models, and this server has none: it can only ask endpoints", test.id)
        raise FtlabError("This could not be answered; nothing was recorded", try_="tell your host")
    return ask_models(store, rater_id, prompt)


def ask_models(store: Store, rater_id: str, prompt: str) -> Any:
    """Have the next two contestants answer `prompt`. Returns what `trials.record_live` returns.

    Raises InputError for an empty or too long prompt and if the rater may not vote, and FtlabError, which names no
    model, if one of them cannot answer; nothing is recorded then.
    """
    if not prompt.strip():
        raise InputError("The question is empty", try_="write one first")
    if len(prompt) > LONGEST_PROMPT:
        raise InputError("The question is too long", given=f"{len(prompt)} characters", allowed=f"{LONGEST_PROMPT}")
    with store.reading() as connection:
        test, _ = find_rater(connection, rater_id)
    if not test.settings["live"]:
        raise InputError("Raters cannot write questions in this test")
    settings = check_generation(test.settings["generation"])
    pair = live_contestants(store, rater_id)
    specs = {contestant.id: contestant.spec for contestant in list_contestants(store, test.id)}
    messages = [{"role": "user", "content": prompt.strip()}]
    if not loaded.device.acquire(timeout=WAIT_SECONDS):
        raise FtlabError("Other questions are being answered right now", try_="ask again in a moment")
    try:
        among = {weights_of(spec) for spec in specs.values()}
        replies = {name: _answer(store, specs[name], among, messages, settings) for name in pair}
    except _TooLong:
        raise
    except FtlabError as error:
        # The message may name a run, a model or a host, which only the owner may see.
        log.warning("A question in the test %s could not be answered: %s", test.id, error)
        raise FtlabError("This could not be answered; nothing was recorded", try_="tell your host") from error
    finally:
        loaded.device.release()
    return record_live(store, rater_id, messages, replies)


def _answer(
    store: Store,
    spec: dict[str, Any],
    among: set[tuple[Any, ...]],
    messages: list[dict[str, str]],
    settings: dict[str, Any],
) -> dict[str, Any]:
    began = time.monotonic()
    if spec["kind"] == "endpoint":
        return _ask_endpoint(spec, messages, settings) | {"seconds": round(time.monotonic() - began, 3)}
    from ftlab.data.rendering import stop_token_ids
    from ftlab.evaluation.generate import generate_answers

    load = functools.partial(load_writer, store.workspace, spec)
    writer = loaded.models_of("live tests", weights_of(spec), load, beside=among)
    ids, flag = encoded(writer, spec, messages, settings["max_new_tokens"])
    if writer.context is not None and len(ids) >= writer.context:
        raise _TooLong("The question is longer than the models can read", try_="a shorter one")
    made = generate_answers(
        writer.model,
        writer.tokenizer,
        [ids],
        max_new_tokens=settings["max_new_tokens"],
        stop_ids=stop_token_ids(writer.tokenizer, writer.model.generation_config),
        context=writer.context,
    ).answers[0]
    return {
        "text": made.text,
        "tokens": made.tokens,
        "cut": made.cut,
        "flags": [flag] if flag else [],
        "seconds": round(time.monotonic() - began, 3),
    }


def _ask_endpoint(spec: dict[str, Any], messages: list[dict[str, str]], settings: dict[str, Any]) -> dict[str, Any]:
    from ftlab.core.endpoint import CONTESTANT, Asker, Endpoint

    endpoint = Endpoint(spec["url"], spec["model"], settings["max_new_tokens"])
    client = Asker(endpoint, threading.Event(), CONTESTANT, temperature=settings["temperature"])
    try:
        request = request_of("", spec, messages)
        reply = client.ask(request.messages, request.tools)
    finally:
        client.close()
    assert reply is not None  # nothing ends the wait here
    return {"text": text_of_reply(reply), "tokens": reply.completion_tokens, "cut": reply.cut, "flags": []}
