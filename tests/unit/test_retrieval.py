"""Retrieval as a side: what stands before a question, what must not, and what the figures say to take."""

from __future__ import annotations

import json

import pytest

from ftlab.config import with_settings
from ftlab.data.partition import prompt_text
from ftlab.data.splits import read_split
from ftlab.evaluation.advisor import which_of
from ftlab.evaluation.compare import evaluate_together
from ftlab.evaluation.material import gather
from ftlab.evaluation.retrieval import retrieval_of
from ftlab.evaluation.sides import config_of
from ftlab.report.measures import evidence_of
from ftlab.report.report import contents
from tests.small_runs import make_base, make_run, save_result

THINGS = ("lamp", "river", "parcel", "garden", "window", "engine", "pencil", "coffee", "bridge", "mirror")
VERBS = ("repair", "paint", "measure", "sell", "move", "clean", "photograph", "insure")


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def run(tmp_path, base_folder):
    file = tmp_path / "things.jsonl"
    rows = [
        {"prompt": f"How do people {verb} the old {thing} near our house?", "completion": f"{verb} {thing}"}
        for verb in VERBS
        for thing in THINGS
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = make_run(tmp_path / "runs", base_folder, "none", source=str(file))
    save_result(run, base_folder)
    return run


def shown_before(retrieval, row, most=99):
    messages, count = retrieval.fitted(row["messages"], lambda prompted: len(prompted) <= len(row["messages"]) + most)
    return messages, count


def test_the_nearest_training_rows_stand_before_a_question_the_nearest_last(run):
    material = gather([run], [config_of(run)], None)
    retrieval = retrieval_of(run, material, 3)
    trained = {row["messages"][-2]["content"]: row["messages"][-1]["content"] for row in read_split(run, "train")}
    for row in material.rows:
        messages, count = shown_before(retrieval, row)
        assert count == 3 and messages[-2:] == row["messages"][-2:]
        before = [(messages[place]["content"], messages[place + 1]["content"]) for place in (0, 2, 4)]
        assert all(trained[question] == answer for question, answer in before)
        # The same thing or the same verb is nearer than another thing with another verb.
        verb, thing = row["messages"][-1]["content"].split()
        assert verb in before[-1][0] or thing in before[-1][0]
        # Where the context ends, the farthest goes first.
        fewer, kept = shown_before(retrieval, row, most=2)
        assert kept == 1 and fewer[0]["content"] == before[-1][0]
    held_out = {prompt_text(row["messages"]) for row in material.rows}
    assert not held_out & {prompt_text(example) for example in retrieval.examples}


def test_copies_of_a_question_are_never_shown_before_it(run):
    material = gather([run], [config_of(run)], None)
    plain = retrieval_of(run, material, 1)
    # Copies of the first question, written into the training split: as it is, with courtesy, and with a word more.
    row = material.rows[0]
    question = row["messages"][-2]["content"]
    copies = [
        question,
        f"Please, {question[0].lower()}{question[1:]}",
        question.replace("old", "very old"),
        question.upper(),
    ]
    train = read_split(run, "train")
    added = [
        {**train[0], "row": 1000 + place, "messages": [{"role": "user", "content": copy}, row["messages"][-1]]}
        for place, copy in enumerate(copies)
    ]
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(run.split_file("train"))
    pq.write_table(pa.Table.from_pylist([*train, *added], schema=schema), run.split_file("train"))
    retrieval = retrieval_of(run, material, 5)
    messages, count = shown_before(retrieval, row)
    assert count == 5 and not set(copies) & {turn["content"] for turn in messages[:-2]}
    assert retrieval.left_out >= len(copies) > plain.left_out


def test_retrieval_enters_tables_verdicts_and_the_report_with_what_it_costs(run):
    comparison = evaluate_together([run], settings={"retrieved": 2, "prompted": True})
    names = [side["name"] for side in comparison["sides"]]
    assert names == ["base", "prompted", "retrieved", "adapted", "adapted_retrieved"]
    assert comparison["question"]["name"] == "prompted-retrieved-2"
    verdicts = comparison["verdicts"]
    assert {"adapted_vs_prompted", "adapted_vs_retrieved", "retrieved_vs_prompted"} <= verdicts.keys()
    assert {f"adapted_retrieved_vs_{first}" for first in ("adapted", "prompted", "retrieved")} <= verdicts.keys()
    measures = {measure["name"]: measure["values"] for measure in comparison["measures"]}
    read = measures["prompt_tokens"]
    assert read["retrieved"] == read["adapted_retrieved"] > read["base"] == read["adapted"]
    assert all(measures["seconds_per_answer"][name] > 0 for name in names)
    assert comparison["settings"]["retrieved"]["rows"] == 2
    text = which_of(comparison)
    assert "prompting" in text or "retrieval" in text
    evidence = evidence_of(comparison)
    assert evidence.choice == text and "over_retrieval" in evidence.known
    evaluate_together([run])
    assert ("Prompting, retrieval or tuning", text) in contents(run)["checked"]


def a_comparison(prompted, retrieved, between=None, adds=None, together=(None, None)):
    verdicts = {"adapted_vs_prompted": prompted, "adapted_vs_retrieved": retrieved}
    verdicts |= {"retrieved_vs_prompted": between, "adapted_retrieved_vs_adapted": adds}
    verdicts |= dict(zip(("adapted_retrieved_vs_prompted", "adapted_retrieved_vs_retrieved"), together, strict=True))
    values = {"base": 0.1, "prompted": 0.3, "retrieved": 0.6, "adapted": 0.8}
    measure = {"name": "exact_match", "title": "Exact match", "kind": "share", "unit": "%", "values": values}
    return {
        "sides": [{"name": name, "title": name.capitalize(), "what": ""} for name in values],
        "measures": [measure],
        "verdicts": {name: {"better": better, "measure": "exact_match"} for name, better in verdicts.items()},
    }


@pytest.mark.parametrize(
    ("comparison", "starts"),
    [
        (
            a_comparison(True, True),
            "Take tuning: the tuned model is better than prompting and retrieval (exact match: ",
        ),
        (a_comparison(True, True, adds=True), "Take tuning with retrieval: "),
        (a_comparison(True, False), "Take retrieval: it is better than the tuned model"),
        (a_comparison(False, False, between=True), "Take retrieval: "),
        (
            a_comparison(True, False, together=(True, True)),
            "Take tuning with retrieval: together they are better than ",
        ),
        (a_comparison(True, None, together=(True, True)), "Take tuning with retrieval: "),
        (a_comparison(True, False, together=(True, None)), "Take retrieval: "),
        (a_comparison(False, False), "Take prompting: "),
        (a_comparison(True, None), "Cannot tell whether tuning is better than retrieval "),
        ({"verdicts": {"adapted": {"better": True}}}, ""),
    ],
)
def test_one_sentence_says_which_to_take(comparison, starts):
    assert which_of(comparison).startswith(starts) and bool(which_of(comparison)) == bool(starts)


def test_more_rows_than_can_be_shown_are_refused(run):
    from ftlab.errors import InputError

    with pytest.raises(InputError, match="retrieved"):
        with_settings(config_of(run), {"evaluation.retrieved": 1000})
