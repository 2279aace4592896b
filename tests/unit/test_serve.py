"""Programs on this machine get the answers of Chat over OpenAI's protocol, and one clear reason where they get none."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import openai
import pytest

from ftlab.cli.main import main
from ftlab.core.endpoint import JUDGE, Asker, Endpoint, Refused
from ftlab.core.files import write_json
from ftlab.core.run_directory import RunDirectory
from ftlab.data.prompt_template import AsTrained
from ftlab.evaluation.duet import Duet, load_duet
from ftlab.export.chat_request import Rejected, prompt_of, read_request
from ftlab.export.serve import KEY_VARIABLE, held_back
from tests.small_runs import make_base, make_run, save_result

KEY = "a-key-of-this-test"
SYSTEM = "You sort tickets."
TOOLS = json.dumps([{"type": "function", "function": {"name": "route", "parameters": {"type": "object"}}}])
QUESTION = [{"role": "user", "content": "My card was charged twice."}]


@dataclass
class Running:
    url: str
    run: RunDirectory
    duet: Duet
    process: subprocess.Popen[str]
    log: Path

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key=KEY, max_retries=0)

    def post(self, body: object, **headers: str) -> httpx.Response:
        content = body if isinstance(body, str | bytes) else json.dumps(body)
        known = {"authorization": f"Bearer {KEY}"} | headers
        return httpx.post(f"{self.url}/chat/completions", content=content, headers=known, timeout=60)

    def by_chat(self, side: str, tokens: int, **settings: object) -> str:
        *_, last = self.duet.stream(QUESTION[0]["content"], max_new_tokens=tokens, **settings)
        return getattr(last, side)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The command, on a run with random weights: nobody could guess what it answers."""
    root = tmp_path_factory.mktemp("serve")
    base = make_base(root / "base")
    (root / "workspace" / "runs").mkdir(parents=True)
    probes = root / "probes.jsonl"
    probes.write_text('{"prompt": "What is water?", "completion": "Wet."}\n' * 3)
    run = make_run(root / "workspace" / "runs", base, probes)
    save_result(run, base)
    write_json(run.asked_file, AsTrained(system=SYSTEM, system_rows=3, rows=3).as_dict())
    words = ["serve", run.id, "--port", "0", "--workspace", str(root / "workspace")]
    log = root / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "ftlab", *words],
            stderr=file,
            stdout=file,
            text=True,
            env=os.environ | {KEY_VARIABLE: KEY, "OMP_NUM_THREADS": "1"},
        )
    try:
        end = time.monotonic() + 120
        while not (match := re.search(r"http://127\.0\.0\.1:\d+/v1", log.read_text())):
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield Running(match.group(), run, load_duet(run), process, log)
    finally:
        process.kill()
        process.wait()


def test_the_openai_client_gets_the_answers_of_chat_from_both_models(running: Running) -> None:
    assert [model.id for model in running.client.models.list()] == ["base", "adapted"]
    answers = {}
    for side in ("base", "adapted"):
        reply = running.client.chat.completions.create(model=side, messages=QUESTION, max_tokens=12)  # type: ignore[call-overload]
        answers[side] = reply.choices[0].message.content
        assert answers[side] == running.by_chat(side, 12), "with the system prompt of training"
        assert reply.choices[0].finish_reason == "length" and reply.usage.completion_tokens == 12
        assert reply.usage.total_tokens == reply.usage.prompt_tokens + 12
    assert answers["base"] != answers["adapted"]


def test_a_system_prompt_of_the_request_takes_the_place_of_that_of_training(running: Running) -> None:
    own = [{"role": "developer", "content": "You write poems."}, *QUESTION]
    reply = running.client.chat.completions.create(model="adapted", messages=own, max_tokens=12)  # type: ignore[call-overload]
    assert reply.choices[0].message.content == running.by_chat("adapted", 12, system="You write poems.")
    assert running.by_chat("adapted", 12, system="You write poems.") != running.by_chat("adapted", 12)


def test_a_stream_ends_with_the_whole_answer_and_its_usage(running: Running) -> None:
    settings = {"model": "adapted", "messages": QUESTION, "max_tokens": 12}
    chunks = list(
        running.client.chat.completions.create(**settings, stream=True, stream_options={"include_usage": True})
    )
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(texts) == running.by_chat("adapted", 12) and len(texts) > 2
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert chunks[-1].usage.completion_tokens == 12


def test_draws_repeat_with_their_seed(running: Running) -> None:
    def drawn(seed: int) -> str:
        settings = {"model": "adapted", "messages": QUESTION, "max_tokens": 12, "temperature": 1.5, "seed": seed}
        return running.client.chat.completions.create(**settings).choices[0].message.content

    assert drawn(1) == drawn(1) != drawn(2)
    assert (
        drawn(1)
        == running.client.chat.completions.create(
            model="adapted", messages=QUESTION, max_tokens=12, temperature=1.5, seed=1, top_p=1
        )
        .choices[0]
        .message.content
    )  # type: ignore[call-overload]


def test_an_answer_ends_before_a_stop_text_streamed_or_not(running: Running) -> None:
    whole = running.by_chat("adapted", 12)
    stop = whole[len(whole) // 2 :][:3]
    before = whole[: whole.index(stop)]
    settings = {"model": "adapted", "messages": QUESTION, "max_tokens": 12, "stop": ["never there", stop]}
    reply = running.client.chat.completions.create(**settings)
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == (before, "stop")
    chunks = list(running.client.chat.completions.create(**settings, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == before


def test_what_may_become_a_stop_text_waits() -> None:
    assert (
        held_back("one tw", ["two"]) == 2 and held_back("one two", ["two"]) == 0 and held_back("t", ["two", "t."]) == 1
    )
    assert held_back("", ["two"]) == held_back("one", []) == 0


def test_several_requests_wait_for_each_other(running: Running) -> None:
    def answer(side: str) -> str:
        settings = {"model": side, "messages": QUESTION, "max_tokens": 12}
        return running.client.chat.completions.create(**settings).choices[0].message.content

    sides = ["base", "adapted"] * 4
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(answer, sides))
    assert answers == [running.by_chat(side, 12) for side in sides]


def test_a_program_that_went_away_holds_nothing_up(running: Running) -> None:
    body = {"model": "adapted", "messages": QUESTION, "max_tokens": 400}
    began = time.monotonic()
    assert running.post(body | {"stream": True}).text.count("data: ") > 100, "long enough to be left"
    whole = time.monotonic() - began
    headers = {"authorization": f"Bearer {KEY}"}
    for _ in range(8):
        with httpx.stream(
            "POST", f"{running.url}/chat/completions", json=body | {"stream": True}, headers=headers
        ) as it:
            next(it.iter_lines())
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{running.url}/chat/completions", json=body, headers=headers, timeout=0.05)
    began = time.monotonic()
    assert running.post(body | {"model": "base", "max_tokens": 1}).status_code == 200
    assert time.monotonic() - began < 4 * whole, "not sixteen answers later"


def test_our_own_client_reads_it(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JUDGE.key_variable, KEY)
    asker = Asker(Endpoint(running.url, "adapted", max_tokens=12), threading.Event())
    reply = asker.ask(QUESTION)
    assert reply is not None and reply.text == running.by_chat("adapted", 12) and reply.cut
    with pytest.raises(Refused, match="tokens with the chat template"):
        asker.ask([{"role": "user", "content": "word " * 3000}])
    asker.close()


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("{", 400, "not valid JSON"),
        ("[" * 100_000, 400, "not valid JSON"),
        ("[]", 400, "not a JSON object"),
        ({"messages": QUESTION}, 400, "field model is missing"),
        ({"model": "gpt-5", "messages": QUESTION}, 404, "no model named 'gpt-5' here. Allowed: base or adapted"),
        ({"model": "base", "messages": []}, 400, "field messages"),
        ({"model": "base", "messages": [{"role": "king", "content": "x"}]}, 400, "unknown role 'king'"),
        ({"model": "base", "messages": [{"role": "assistant", "content": "x"}]}, 400, "nothing to answer"),
        ({"model": "base", "messages": QUESTION, "temperature": 3}, 400, "field temperature"),
        ({"model": "base", "messages": QUESTION, "temperature": "hot"}, 400, "should be a number. Given: hot"),
        ({"model": "base", "messages": QUESTION, "stop": 5}, 400, "should be a text, or a list of texts. Given: 5"),
        ({"model": "base", "messages": QUESTION, "max_tokens": 0}, 400, "field max_tokens"),
        ({"model": "base", "messages": QUESTION, "n": 2}, 400, "does not support n=2"),
        ({"model": "base", "messages": QUESTION, "response_format": {"type": "json_object"}}, 400, "response_format"),
        ({"model": "base", "messages": QUESTION, "tool_choice": "required"}, 400, "cannot force a call"),
        ({"model": "base", "messages": QUESTION, "tools": [{"name": 3}]}, 400, "tools holds something else"),
        ({"model": "base", "messages": QUESTION, "grammar": "x"}, 400, "does not support the field grammar"),
        ({"model": "base", "messages": QUESTION, "stop": list("abcde")}, 400, "at most 4"),
        ("x" * (5 << 20), 413, "larger than 4 MB"),
        ("x" * (40 << 20), 413, "larger than 4 MB"),
    ],
)
def test_a_wrong_request_gets_one_reason_in_openais_form(
    running: Running, body: object, status: int, words: str
) -> None:
    answer = running.post(body)
    error = answer.json()["error"]
    assert answer.status_code == status and words in error["message"] and error["type"] == "invalid_request_error"


def test_too_long_messages_are_refused_with_the_code_that_programs_know(running: Running) -> None:
    error = running.post({"model": "base", "messages": [{"role": "user", "content": "word " * 3000}]}).json()["error"]
    assert error["code"] == "context_length_exceeded" and "512" in error["message"]


def test_nobody_gets_in_without_the_key_or_from_another_site(running: Running) -> None:
    assert httpx.get(f"{running.url}/models").status_code == 401
    wrong = running.post({"model": "base", "messages": QUESTION}, authorization="Bearer another")
    assert wrong.status_code == 401 and wrong.json()["error"]["code"] == "invalid_api_key"
    page = running.post({"model": "base", "messages": QUESTION}, origin="https://example.org")
    assert page.status_code == 403
    assert running.post({"model": "base", "messages": QUESTION}, host="example.org").status_code == 421
    missing = httpx.get(running.url.removesuffix("/v1") + "/docs")
    assert missing.status_code == 404 and "GET /v1/models" in missing.json()["error"]["message"]


def test_tools_of_training_are_offered_and_calls_come_in_openais_form(running: Running) -> None:
    asked = AsTrained(tools=TOOLS, tool_rows=3, rows=3)
    tokenizer = running.duet.tokenizer
    body = {"model": "adapted", "messages": QUESTION}

    def prompt(**more: object) -> str:
        return tokenizer.decode(prompt_of(read_request(json.dumps(body | more).encode()), asked, tokenizer).ids)

    assert "route" in prompt() and "route" not in prompt(tools=[]) and "route" not in prompt(tool_choice="none")
    other = json.loads(TOOLS.replace("route", "escalate"))
    assert "escalate" in prompt(tools=other) and "route" not in prompt(tools=other)
    called = {"type": "function", "id": "1", "function": {"name": "route", "arguments": '{"to": "billing"}'}}
    later = [*QUESTION, {"role": "assistant", "content": None, "tool_calls": [called]}]
    later.append({"role": "tool", "tool_call_id": "1", "content": "done"})
    assert '{"to": "billing"}' in prompt(messages=later) and "done" in prompt(messages=later)
    with pytest.raises(Rejected, match="holds something else"):
        prompt(tools=[{"type": "function"}])


def test_a_call_in_an_answer_becomes_a_tool_call(running: Running) -> None:
    from ftlab.export.chat_request import Prompt
    from ftlab.export.serve import Served, _Answer

    served = Served(running.duet, AsTrained(tools=TOOLS), 8, KEY)
    request = read_request(json.dumps({"model": "adapted", "messages": QUESTION}).encode())
    answer = _Answer(served, request, "adapted", Prompt([1], TOOLS), 8)
    answer.text = 'One moment.\n<tool_call>\n{"name": "route", "arguments": {"to": "billing"}}\n</tool_call>'
    answer.ended = True
    message = answer.message()
    assert message["content"] == "One moment." and answer.reason == "tool_calls"
    assert message["tool_calls"][0]["function"] == {"name": "route", "arguments": '{"to": "billing"}'}
    answer.prompt = replace(answer.prompt, tools=None)
    assert answer.message()["content"] == answer.text, "without tools it is text"


def test_a_key_is_asked_for_where_none_can_be_printed(
    running: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["serve", running.run.id, "--workspace", str(running.run.path.parent.parent)]
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert main(words) == 2 and f"set {KEY_VARIABLE}" in capsys.readouterr().err
    monkeypatch.setenv(KEY_VARIABLE, "kurz")
    assert main(words) == 2
    message = capsys.readouterr().err
    assert "8 or more" in message and "kurz" not in message
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    port = running.url.split(":")[2].removesuffix("/v1")
    assert main([*words, "--port", port]) == 2 and "another --port" in capsys.readouterr().err


def test_ctrl_c_ends_it_cleanly_even_within_an_answer(running: Running) -> None:
    body = {"model": "adapted", "messages": QUESTION, "max_tokens": 400, "stream": True}
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.stream("POST", f"{running.url}/chat/completions", json=body, headers=headers) as stream:
        next(stream.iter_lines())
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(timeout=30) == 0
    log = running.log.read_text()
    assert log.rstrip().endswith("Stopped.") and "Traceback" not in log and KEY not in log
    assert re.search(r"\d [kMG]B for one copy of the weights", log) and "one at a time" in log
