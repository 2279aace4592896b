"""Answers of a blind test: made once, with the same settings for all, from models here and behind an address."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ftlab.arena import answers, asking, blind_tests, links, live
from ftlab.arena.store import answers as answer_table
from ftlab.arena.store import contestants, open_store, prompts
from ftlab.core.endpoint import CONTESTANT
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation import loaded

QUESTIONS = [
    "What colour is the sky?",
    "Count the letters in apple.",
    "Say hello.",
    "What is 2 plus 2?",
    "Name a bird.",
]
EXAMPLE = [{"role": "user", "content": "Say yes."}, {"role": "assistant", "content": "yes"}]


@pytest.fixture
def store(tmp_path):
    return open_store(Workspace.open(tmp_path / "workspace"))


@pytest.fixture
def endpoint(monkeypatch):
    """A server that speaks the protocol: it keeps what it is asked, and refuses a temperature as newer models do."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body | {"key": self.headers["Authorization"]})
            if "temperature" in body:
                self._reply(400, {"error": {"message": "Unsupported parameter: 'temperature'"}})
            elif "broken" in body["messages"][-1]["content"]:
                self._reply(401, {"error": {"message": f"wrong key {self.headers['Authorization']}"}})
            else:
                message = {"role": "assistant", "content": f"You said: {body['messages'][-1]['content']}"}
                self._reply(200, {"choices": [{"message": message}], "usage": {"completion_tokens": 7}})

        def _reply(self, status, body):
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv(CONTESTANT.key_variable, "secret-key-of-somebody")
    yield f"http://127.0.0.1:{server.server_address[1]}/v1", asked
    server.shutdown()
    server.server_close()


def made(store, among, questions=QUESTIONS, **generation):
    settings = answers.check_generation({"max_new_tokens": 8, "batch_size": 2} | generation)
    asked = [asking.PromptSpec([{"role": "user", "content": text}]) for text in questions]
    return blind_tests.create_test(store, "A test", among, asked, asking.TestSettings(settings), len(asked))


def texts(store, test_id):
    """{contestant's title: {question: answer}}"""
    found = {}
    with store.reading() as connection:
        query = (
            answer_table.join(prompts, answer_table.c.prompt_id == prompts.c.id)
            .join(contestants, answer_table.c.contestant_id == contestants.c.id)
            .select()
            .with_only_columns(contestants.c.title, prompts.c.messages, answer_table.c.text)
            .where(prompts.c.test_id == test_id)
        )
        for title, messages, text in connection.execute(query):
            found.setdefault(title, {})[messages[-1]["content"]] = text
    return found


def test_what_was_stopped_goes_on_and_ends_with_the_same_answers(store):
    among = [asking.base_contestant("starter"), asking.base_contestant("starter", title="Prompted", examples=[EXAMPLE])]
    whole, halted = made(store, among), made(store, among)
    seen = []
    assert answers.generate(store, whole, device="cpu", progress=lambda *one: seen.append(one))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[-1][1:] == (10, 10)

    assert not answers.generate(
        store, halted, device="cpu", should_stop=lambda: blind_tests.progress(store, halted)["answers"] >= 4
    )
    assert blind_tests.progress(store, halted)["answers"] == 4
    assert blind_tests.get_test(store, halted).state == "generating"
    kept = texts(store, halted)
    assert answers.generate(store, halted, device="cpu")
    assert blind_tests.get_test(store, halted).state == "ready"
    assert kept["Base"].items() <= texts(store, halted)["Base"].items()
    assert texts(store, halted) == texts(store, whole)


def test_examples_that_do_not_fit_are_left_out_and_the_owner_is_told(store):
    long = [{"role": "user", "content": "word " * 3000}, EXAMPLE[1]]
    among = [
        asking.base_contestant("starter"),
        asking.base_contestant("starter", title="Prompted", examples=[EXAMPLE, long]),
    ]
    test_id = made(store, among, ["Say hello."])
    assert answers.generate(store, test_id, device="cpu")
    assert "Only 1 of its 2 examples fit before this prompt" in [
        flag["what"] for flag in blind_tests.flags(store, test_id)
    ]


def test_an_endpoint_is_asked_with_the_same_limit_and_the_system_prompt_of_its_own(store, endpoint):
    url, asked = endpoint
    among = [asking.base_contestant("starter"), asking.endpoint_contestant(url, "parrot", system_prompt="Be brief.")]
    test_id = made(store, among)
    assert answers.generate(store, test_id, device="cpu")
    assert texts(store, test_id)["parrot"] == {text: f"You said: {text}" for text in QUESTIONS}
    taken = [one for one in asked if "temperature" not in one]
    assert {one["max_tokens"] for one in taken} == {8}
    assert all(one["messages"][0] == {"role": "system", "content": "Be brief."} for one in taken)
    assert {one["key"] for one in asked} == {"Bearer secret-key-of-somebody"}
    # The owner can read that this side was asked without a temperature.
    noted = next(row.detail for row in blind_tests.history(store, test_id) if row.what == "answers made")
    assert noted["settings"]["parrot"] == {"max_tokens": 8}
    assert "secret-key" not in json.dumps(noted)


def test_an_endpoint_that_refuses_the_key_is_told_in_words_without_the_key(store, endpoint):
    url, _ = endpoint
    among = [asking.endpoint_contestant(url, "parrot"), asking.endpoint_contestant(url, "other")]
    test_id = made(store, among, ["broken"])
    with pytest.raises(FtlabError, match="rejected the key") as error:
        answers.generate(store, test_id)
    assert "secret-key" not in str(error.value)
    assert blind_tests.get_test(store, test_id).state == "generating"


@pytest.mark.parametrize(
    "given", [{"temperature": 0.7}, {"max_new_tokens": 0}, {"max_new_tokens": "many"}, {"top_k": 5}], ids=str
)
def test_settings_that_no_blind_test_can_keep_are_refused(given):
    with pytest.raises(InputError):
        answers.check_generation(given)


def test_a_rater_of_a_live_test_sees_nothing_before_both_answers_are_complete(store, endpoint):
    url, _ = endpoint
    among = [asking.base_contestant("starter"), asking.endpoint_contestant(url, "parrot")]
    settings = asking.TestSettings(answers.check_generation({"max_new_tokens": 8}), live=True)
    test_id = blind_tests.create_test(store, "Live", among, [], settings, 5)
    blind_tests.open_test(store, test_id)
    [rater] = links.create_raters(store, test_id, ["Ana"])
    trial = live.ask_models(store, rater.rater_id, "Say hello.")
    assert "You said: Say hello." in (trial.left, trial.right)
    assert all(answer.strip() for answer in (trial.left, trial.right))

    tests_before = blind_tests.progress(store, test_id)
    other = links.create_raters(store, test_id, ["Ben"])[0]
    with pytest.raises(FtlabError) as error:
        live.ask_models(store, other.rater_id, "This one is broken")
    said = str(error.value)
    assert not any(word in said for word in ("parrot", "127.0.0.1", "starter", "key"))
    assert blind_tests.progress(store, test_id)["answers"] == tests_before["answers"]
    loaded.release()
