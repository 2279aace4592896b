"""Sides that answer elsewhere, against a server on this machine: what is sent, kept, compared, and what goes wrong."""

from __future__ import annotations

import json
import time
from collections import Counter

import pytest

from ftlab.arena.answers import generate
from ftlab.arena.asking import PromptSpec, TestSettings, endpoint_contestant, run_contestant, same_question
from ftlab.arena.blind_tests import create_test, history
from ftlab.arena.store import answers, open_store
from ftlab.cli.main import main
from ftlab.core.endpoint import CONTESTANT
from ftlab.core.files import read_jsonl
from ftlab.core.jobs import Stopped
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.compare import evaluate_run, material_against
from ftlab.evaluation.judge_plan import sides_of
from ftlab.evaluation.outside import plan, read_against
from ftlab.evaluation.request import Request
from ftlab.report.report import contents
from tests.json_shapes import check_output
from tests.judge_server import judge_server, reply, without_proxies
from tests.small_runs import ROWS, make_run, save_result

KEY = "sk-test-9aPq71xW-secret"
COLOURS = ("red", "green", "blue")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONTESTANT.key_variable, KEY)
    without_proxies(monkeypatch)


@pytest.fixture
def run(tmp_path, base_folder):
    file = tmp_path / "colours.jsonl"
    rows = [{"prompt": f"Which colour has thing {i}?", "completion": COLOURS[i % 3]} for i in range(80)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = make_run(
        tmp_path / "runs", base_folder, "none", source=str(file), system_prompt="Name the colour of the thing."
    )
    save_result(run, base_folder)
    return run


def right(request: dict, _: int):
    """The colour that the data hold, in 20 tokens read and 2 written."""
    number = int(request["body"]["messages"][-1]["content"].split()[-1].rstrip("?"))
    return reply(COLOURS[number % 3], prompt_tokens=20, completion_tokens=2)


def against(server, **settings):
    return read_against(f"{server.url}#big-one", **settings)


def test_a_model_behind_an_address_answers_the_same_rows_and_stands_in_the_runs_own_comparison(run):
    with judge_server(right) as server:
        side = against(server, price_in=1.0, price_out=10.0)
        comparison = evaluate_run(run, Request(against=[side], price_per_hour=3.6))
    rows = run.predictions()
    assert comparison["question"]["name"] == "" and len(rows) == ROWS == len(server.requests)
    asked = [request["body"]["messages"] for request in server.requests]
    assert all(messages[0] == {"role": "system", "content": "Name the colour of the thing."} for messages in asked)
    assert sorted(messages[1]["content"] for messages in asked) == sorted(row["prompt"] for row in rows)
    assert server.requests[0]["headers"]["Authorization"] == f"Bearer {KEY}"
    assert all(row[side.name] == row["reference"] for row in rows)
    measures = {measure["name"]: measure for measure in comparison["measures"]}
    assert measures["exact_match"]["values"][side.name] == 1.0
    # What needs probabilities is not there, and not 0.
    assert side.name not in measures["perplexity"]["values"] and "perplexity" not in comparison[side.name]
    assert any("cannot be measured behind an address" in note for note in comparison["notes"])
    # Requests that wait for each other in the server's queue are no measure of a lone one.
    assert any("with up to 4 requests at once" in note for note in comparison["notes"])
    # Names of models keep their case.
    assert comparison["verdicts"][side.name]["text"].startswith("big-one is ")
    # 20 tokens at 1 a million and 2 at 10 a million are 0.00004 an answer.
    assert measures["cost_per_thousand"]["values"][side.name] == pytest.approx(0.04)
    seconds = measures["seconds_per_answer"]["values"]
    assert seconds["adapted"] > 0 and seconds[side.name] > 0
    # At 3.6 an hour 1,000 answers cost as much as an answer takes seconds.
    assert measures["cost_per_thousand"]["values"]["adapted"] == pytest.approx(seconds["adapted"])
    assert measures["prompt_tokens"]["values"][side.name] == 20
    verdict = comparison["verdicts"][f"adapted_vs_{side.name}"]
    assert verdict["better"] is False and "than big-one" in verdict["text"]
    report = contents(run)
    assert "big-one" in [one["title"] for one in report["sides"]]
    assert ("Against big-one", verdict["text"]) in report["checked"]
    assert side.name in sides_of(run)  # a judge can read its answers
    assert KEY not in run.outside_file.read_text(encoding="utf-8") + run.comparison_file.read_text(encoding="utf-8")


def test_what_was_answered_is_kept_and_not_paid_for_twice(run):
    def slowly(request, number):
        time.sleep(0.3)
        return right(request, number)

    with judge_server(slowly) as server:
        side = against(server, at_once=1)
        with pytest.raises(Stopped):
            evaluate_run(run, Request(against=[side]), should_stop=lambda: len(server.requests) >= 3)
        # Those on their way when it was stopped were paid for: they are kept too.
        sent = [line["key"] for line in read_jsonl(run.outside_file)]
        assert 3 <= len(sent) < ROWS
        material = material_against(run, Request())
        assert plan(run, side, material).open == ROWS - len(sent)
        evaluate_run(run, Request(against=[side]))
        assert len(server.requests) == ROWS
        assert plan(run, side, material).open == 0
        # Asked again without it, the side stays, and nothing is sent.
        again = evaluate_run(run)
        assert side.name in [one["name"] for one in again["sides"]] and len(server.requests) == ROWS
        # A longer limit serves what ended by itself.
        evaluate_run(run, Request(against=[against(server, max_tokens=2000)]))
        assert len(server.requests) == ROWS


def test_a_side_stays_in_evaluations_of_these_rows_until_it_is_left_out(run, capsys):
    with judge_server(right) as server:
        named = [read_against(f"{server.url}#{model}") for model in ("big-one", "Adapted")]
        host = named[1].title.removeprefix("Adapted at ")
        assert host == server.url.split("/")[2]  # else two columns would be called adapted
        evaluate_run(run, Request(against=named))
        sent = len(server.requests)
        # Another question about the same rows: the answers are there.
        asked = evaluate_run(run, Request(settings={"retrieved": 1}))
        assert {side.title for side in named} <= {side["title"] for side in asked["sides"]}
        assert main(["evaluate", str(run.path), "--without", "other"]) != 0
        assert f"big-one and Adapted at {host}" in capsys.readouterr().err
        assert main(["evaluate", str(run.path), "--without", "big-one"]) == 0
        left = [side["title"] for side in run.comparison()["sides"]]
        assert left[-1] == f"Adapted at {host}" and "big-one" not in left
        evaluate_run(run)
        assert "big-one" not in [side["title"] for side in run.comparison()["sides"]] and len(server.requests) == sent


def test_empty_answers_are_counted_in_a_note(run):
    with judge_server(lambda request, _: reply("")) as server:
        comparison = evaluate_run(run, Request(against=[against(server)]))
    assert f"{ROWS} of {ROWS} answers of big-one are empty, and count as such." in comparison["notes"]


def test_a_refused_row_is_an_empty_answer_that_is_named_and_asked_again(run):
    def refuses_first(request, number):
        return (400, {}, {"error": {"message": "content filter"}}) if number == 1 else right(request, number)

    with judge_server(refuses_first) as server:
        comparison = evaluate_run(run, Request(against=[against(server, at_once=1)]))
        assert any("big-one refused 1 of 6 rows" in note for note in comparison["notes"])
        name = comparison["sides"][-1]["name"]
        assert sorted(row[name] for row in run.predictions())[0] == ""
        evaluate_run(run)
        assert len(server.requests) == ROWS
        comparison = evaluate_run(run, Request(against=[against(server)]))
    assert len(server.requests) == ROWS + 1
    assert not any("refused" in note or "at once" in note for note in comparison["notes"])


def test_the_command_line_shows_the_cost_and_sends_nothing_without_consent(run, capsys):
    with judge_server(right) as server:
        arguments = ["evaluate", str(run.path), "--against", f"{server.url}#big-one", "--price-in", "1"]
        arguments += ["--price-out", "10"]
        assert main(arguments) != 0  # nobody to ask
        shown = capsys.readouterr().err
        assert f"{ROWS} requests to big-one" in shown and "That costs about" in shown and "--yes" in shown
        assert main([*arguments, "--json"]) == 0
        planned = check_output(arguments, capsys.readouterr().out)["plans"][0]
        assert planned["rows"] == ROWS and not server.requests
        assert main([*arguments, "--yes", "--price", "1"]) == 0
        told = capsys.readouterr().out
        assert len(server.requests) == ROWS
        assert "Adapted against big-one: " in told and "Cost of 1,000 answers" in told


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("https://api.example.com/v1", "does not say which model"),
        ("https://user:pw@api.example.com/v1#m", "more than a scheme, host and path"),
        ("missing.jsonl", "There is no such side"),
        ("http://api.example.com/v1#m", "unencrypted"),
    ],
)
def test_a_side_that_cannot_be_used_is_named(text, wrong):
    with pytest.raises(InputError, match=wrong):
        read_against(text)


def test_an_address_that_fails_says_so_and_local_answers_stay(run):
    with judge_server(lambda *_: (401, {}, {"error": {"message": f"bad key {KEY}"}})) as server:
        with pytest.raises(FtlabError, match="rejected the key") as failed:
            evaluate_run(run, Request(against=[against(server)]))
        assert KEY not in str(failed.value) and run.comparison() is None
        assert len(server.requests) == 1


def answers_file(run, tmp_path, rows, **more):
    file = tmp_path / "hosted.jsonl"
    lines = [{"prompt": row["prompt"], "answer": row["reference"]} | more for row in rows]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


def test_answers_measured_elsewhere_are_matched_by_their_prompts(run, tmp_path):
    evaluate_run(run)
    file = answers_file(run, tmp_path, reversed(run.predictions()), seconds=0.5)
    comparison = evaluate_run(run, Request(against=[read_against(str(file))]))
    assert comparison["question"]["name"] == ""
    measures = {measure["name"]: measure["values"] for measure in comparison["measures"]}
    assert measures["exact_match"]["hosted@file"] == 1.0 and measures["seconds_per_answer"]["hosted@file"] == 0.5
    file.unlink()  # its answers are kept
    assert "hosted@file" in [side["name"] for side in evaluate_run(run)["sides"]]


def test_a_file_of_answers_may_have_the_layouts_of_training_data():
    from ftlab.evaluation.outside import _read_line

    turns = [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "red"}]
    lines = {
        "red": {"messages": turns},
        "blue": {"messages": turns, "answer": "blue"},
        "green": {"prompt": "Which?", "completion": [{"role": "assistant", "content": "green"}]},
        '{"colour": "red", "sure": true}': {"prompt": "Which?", "answer": {"colour": "red", "sure": True}},
        "7": {"prompt": "Which?", "answer": 7},
    }
    for text, line in lines.items():
        prompt, answer = _read_line(json.dumps(line), "line 1")
        assert (prompt, answer.answer.text) == ("Which?", text)


def test_rows_that_the_file_does_not_answer_are_left_out_on_all_sides_and_said(run, tmp_path):
    own = evaluate_run(run)
    rows = run.predictions()[:4]
    file = answers_file(run, tmp_path, [*rows, {"prompt": "Something else?", "reference": "red"}])
    comparison = evaluate_run(run, Request(against=[read_against(str(file))]))
    place = run.question(comparison["question"]["name"])
    assert comparison["question"]["name"].startswith("4-rows-in-hosted")
    assert [row["prompt"] for row in place.predictions()] == [row["prompt"] for row in rows]
    assert any("answers 4 of the 6 rows" in note for note in comparison["notes"])
    assert any("1 prompt in hosted.jsonl left out: no row" in note for note in comparison["notes"])
    assert run.comparison()["created"] == own["created"]


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ('{"prompt": "What?", "answer": "x"}', "No held-out row has a prompt that is in"),
        ('{"question": "What?"}', "Line 1 of hosted.jsonl has no prompt"),
        ('{"prompt": "What?"}', "Line 1 of hosted.jsonl has no answer"),
        ('{"messages": [{"role": "user", "content": "What?"}]}', "Line 1 of hosted.jsonl has no answer"),
        ("not json", "Line 1 of hosted.jsonl is no JSON object"),
        (" \n", "The file of answers is empty"),
    ],
)
def test_a_file_that_fits_no_row_says_what_is_wrong(run, tmp_path, content, wrong):
    file = tmp_path / "hosted.jsonl"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=wrong):
        evaluate_run(run, Request(against=[read_against(str(file))]))


def test_python_sends_nothing_before_it_was_agreed_to(run):
    import ftlab

    handle = ftlab.Run.find(str(run.path))
    with judge_server(right) as server:
        against = f"{server.url}#big-one"
        with pytest.raises(InputError, match=r"Nothing was sent.* 6 requests to big-one.*costs about.*send=True"):
            ftlab.evaluate(handle, against=against, price_in=1, price_out=2)
        assert server.requests == []
        compared = ftlab.evaluate(handle, against=against, price_in=1, price_out=2, send=True)
        assert "big-one" in [side["title"] for side in compared["sides"]] and len(server.requests) == ROWS
        # What is kept needs no consent.
        ftlab.evaluate(handle, against=against)
        assert len(server.requests) == ROWS


def test_a_blind_test_takes_kept_answers_and_asks_for_the_others_alone(run, tmp_path):
    workspace = Workspace(tmp_path)
    with judge_server(right) as server:
        evaluate_run(run, Request(against=[against(server)]))
        sent = len(server.requests)
        rows = run.predictions()
        new = [{"role": "user", "content": "Which colour has thing 300?"}]
        prompts = [PromptSpec(row["messages"]) for row in rows] + [PromptSpec(new)]
        among = same_question([run_contestant(workspace, run.id), endpoint_contestant(server.url, "big-one")])
        store = open_store(workspace)
        test_id = create_test(store, "Kept", among, prompts, TestSettings({"max_new_tokens": 8}), 7)
        assert generate(store, test_id, device="cpu")
        asked = [request["body"]["messages"] for request in server.requests[sent:]]
    assert asked == [[{"role": "system", "content": "Name the colour of the thing."}, *new]]
    noted = next(row.detail for row in history(store, test_id) if row.what == "answers made")
    assert noted["settings"]["big-one"]["kept"] == len(rows) == ROWS
    with store.reading() as connection:
        texts = [row.text for row in connection.execute(answers.select())]
    assert Counter(row["reference"] for row in rows) <= Counter(texts)
