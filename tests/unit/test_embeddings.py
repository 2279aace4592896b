"""Embeddings behind an address as the index of retrieval: what is sent, kept and found, and what goes wrong."""

from __future__ import annotations

import json

import pytest

import ftlab
from ftlab.cli.main import main
from ftlab.core.endpoint import EMBEDDER
from ftlab.core.files import read_jsonl
from ftlab.core.jobs import Stopped
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.compare import evaluate_run, material_against, plans_to_send
from ftlab.evaluation.embeddings import read_embeddings, vectors_of
from ftlab.evaluation.material import gather
from ftlab.evaluation.request import Request
from ftlab.evaluation.retrieval import passages_near
from ftlab.evaluation.sides import config_of
from tests.judge_server import judge_server, without_proxies
from tests.small_runs import make_run, save_result

KEY = "sk-test-9aPq71xW-secret"
THINGS = ("lamp", "river", "parcel", "garden", "window", "engine", "pencil", "coffee")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv(EMBEDDER.key_variable, KEY)
    without_proxies(monkeypatch)


@pytest.fixture
def run(tmp_path, base_folder):
    file = tmp_path / "things.jsonl"
    rows = [
        {"prompt": f"How do people {verb} the old {thing} near our house?", "completion": f"{verb} {thing}"}
        for verb in ("repair", "paint", "measure", "sell", "move", "clean")
        for thing in THINGS
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = make_run(tmp_path / "runs", base_folder, "none", source=str(file))
    save_result(run, base_folder)
    return run


@pytest.fixture
def manuals(tmp_path):
    """A manual for each thing, under its name read backwards: no index of letters can find it."""
    folder = tmp_path / "manuals"
    folder.mkdir()
    for thing in THINGS:
        text = f"Whoever wants to look after {thing[::-1]} needs some patience and a good brush for the work.\n"
        (folder / f"{thing}.md").write_text(text, encoding="utf-8")
    return folder


def by_meaning(request, _=0):
    """One direction for each thing, whichever way round its name is written; in the reverse of the order asked."""
    texts = request["body"]["input"]
    vectors = [[3.0 * (thing in text or thing[::-1] in text) for thing in THINGS] for text in texts]
    data = [{"object": "embedding", "index": number, "embedding": vector} for number, vector in enumerate(vectors)]
    return 200, {}, {"object": "list", "data": data[::-1], "model": "meaning", "usage": {"prompt_tokens": 9}}


def planned_vectors(run, request):
    [planned] = plans_to_send(run, request, material_against(run, request))
    return planned


def test_passages_are_found_by_meaning_and_no_text_is_sent_twice(run, manuals):
    settings = {"retrieved": 1, "documents": [str(manuals)]}
    material = gather([run], [config_of(run)], None)
    with judge_server(by_meaning) as server:
        embeddings = read_embeddings(f"{server.url}/embeddings#meaning", 0.02)
        planned = planned_vectors(run, Request(embeddings=embeddings, settings=settings))
        assert planned.open == planned.texts == len(THINGS) + len(material.rows) and not server.requests
        comparison = evaluate_run(run, Request(settings=settings, embeddings=embeddings))
        sent = [text for request in server.requests for text in request["body"]["input"]]
        assert len(sent) == len(set(sent)) == planned.open
        assert server.requests[0]["path"] == "/v1/embeddings" and server.requests[0]["body"]["model"] == "meaning"
        assert set(server.requests[0]["body"]) == {"model", "input"}
        assert server.requests[0]["headers"]["Authorization"] == f"Bearer {KEY}"
        assert (
            planned_vectors(run, Request(embeddings=embeddings, settings=settings))
            .lines()[0]
            .startswith("Nothing to send")
        )
        again = evaluate_run(run, Request(settings=settings, embeddings=embeddings))
        assert len(server.requests) == planned.requests and again["question"] == comparison["question"]
        retrieval = passages_near([str(manuals)], material, 1, lambda texts: vectors_of(run, embeddings, texts))
    for row in material.rows:
        _, thing = row["messages"][-1]["content"].split()
        assert thing[::-1] in retrieval.fitted(row["messages"], lambda _: True)[0][-2]["content"]
    letters = passages_near([str(manuals)], material, 1)
    assert letters.nearest != retrieval.nearest
    assert (
        comparison["settings"]["retrieved"]["index"] == embeddings.index and "meaning at 127.0.0.1" in embeddings.index
    )
    assert "found by embeddings of meaning" in comparison["question"]["text"]
    assert comparison["question"]["name"] != evaluate_run(run, Request(settings=settings))["question"]["name"]
    kept = run.embeddings_file.read_text(encoding="utf-8")
    assert len(read_jsonl(run.embeddings_file)) == planned.open and KEY not in kept


def test_training_rows_are_found_too_and_a_stopped_search_goes_on(run):
    settings = {"retrieved": 2}
    with judge_server(by_meaning) as server:
        embeddings = read_embeddings(f"{server.url}#meaning")
        planned = planned_vectors(run, Request(embeddings=embeddings, settings=settings))
        assert planned.requests == 2
        with pytest.raises(Stopped):
            evaluate_run(
                run, Request(settings=settings, embeddings=embeddings), should_stop=lambda: len(server.requests) >= 1
            )
        assert planned_vectors(run, Request(embeddings=embeddings, settings=settings)).open == planned.open - 32
        comparison = evaluate_run(run, Request(settings=settings, embeddings=embeddings))
        assert sum(len(request["body"]["input"]) for request in server.requests) == planned.open
    measures = {measure["name"]: measure["values"] for measure in comparison["measures"]}
    assert measures["prompt_tokens"]["retrieved"] > measures["prompt_tokens"]["base"]


def test_nothing_is_sent_without_consent(run, manuals, capsys, monkeypatch):
    with judge_server(by_meaning) as server:
        words = ["evaluate", str(run.path), "--documents", str(manuals), "--embeddings", f"{server.url}#meaning"]
        assert main([*words, "--price-in", "100"]) != 0
        told = capsys.readouterr().err
        assert "1 request to meaning at 127.0.0.1" in told and "That costs about 0.0" in told and "add --yes" in told
        assert "do not leave it" in told and not server.requests
        with pytest.raises(InputError, match="Nothing was sent yet"):
            ftlab.evaluate(ftlab.Run.find(str(run.path)), retrieved=2, embeddings=f"{server.url}#meaning")
        assert not server.requests
        assert main([*words, "--yes"]) == 0 and len(server.requests) == 1
        assert "embeddings of meaning at 127.0.0.1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((401, {}, {"error": {"message": "bad key"}}), "rejected the key"),
        ((404, {}, {"error": {"message": "no such model"}}), "no model named meaning"),
        ((400, {}, {"error": {"message": "too long"}}), "too long"),
        ((200, {}, {"data": []}), "does not answer as an OpenAI-compatible endpoint"),
        ((200, {}, {"data": [{"index": 0, "embedding": ["x"]}]}), "does not answer as an OpenAI-compatible endpoint"),
        ((200, {}, '{"data": [{"index": 0, "embedding": [NaN]}]}'), "does not answer as an OpenAI-compatible endpoint"),
    ],
)
def test_what_an_address_gets_wrong_is_said_and_nothing_of_it_kept(run, answer, message):
    with judge_server(lambda *_: answer) as server, pytest.raises(FtlabError) as caught:
        vectors_of(run, read_embeddings(f"{server.url}#meaning"), ["a text"])
    assert message in caught.value.message() and not run.embeddings_file.exists()


def test_another_model_under_the_same_name_is_noticed(run):
    def of_size(size):
        return lambda request, _: (200, {}, {"data": [{"index": 0, "embedding": [1.0] * size}]})

    with judge_server(of_size(2)) as server:
        embeddings = read_embeddings(f"{server.url}#meaning")
        assert not vectors_of(run, embeddings, ["one text", "  "])[1].values.any()  # of spaces: not sent
        server.behave = of_size(3)
        with pytest.raises(FtlabError, match="differ in length: 2, 3"):
            vectors_of(run, embeddings, ["one text", "another text"])


def test_addresses_and_questions_that_do_not_fit_are_refused(run):
    with pytest.raises(InputError, match="which model makes the vectors"):
        read_embeddings("https://host/v1")
    with pytest.raises(InputError, match="not a valid address"):
        read_embeddings("host#model")
    with pytest.raises(InputError, match="none are retrieved"):
        evaluate_run(run, Request(embeddings=read_embeddings("http://127.0.0.1:9/v1#model")))
