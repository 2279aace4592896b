"""Retrieval as a side: what stands before a question, what must not, and what the figures say to take."""

from __future__ import annotations

import hashlib
import json
import sys

import pytest

from ftlab.config import with_settings
from ftlab.data.partition import prompt_text
from ftlab.data.splits import read_split
from ftlab.errors import InputError
from ftlab.evaluation.advisor import which_of
from ftlab.evaluation.compare import evaluate_run
from ftlab.evaluation.material import gather
from ftlab.evaluation.measuring import check_settings
from ftlab.evaluation.request import Request
from ftlab.evaluation.retrieval import passages_near, retrieval_of
from ftlab.evaluation.sides import config_of
from ftlab.report.measures import evidence_of
from ftlab.report.report import contents
from tests.small_runs import make_run, save_result

THINGS = ("lamp", "river", "parcel", "garden", "window", "engine", "pencil", "coffee", "bridge", "mirror")
VERBS = ("repair", "paint", "measure", "sell", "move", "clean", "photograph", "insure")


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
    comparison = evaluate_run(run, Request(settings={"retrieved": 2, "prompted": True}))
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
    evaluate_run(run)
    assert ("Prompting, retrieval or tuning", text) in contents(run)["checked"]


@pytest.fixture
def manuals(tmp_path):
    folder = tmp_path / "manuals"
    folder.mkdir()
    for number, thing in enumerate(THINGS):
        text = (
            f"# The {thing}\n\n"
            + f"Whoever wants to look after an old {thing} needs patience and a {thing} brush. " * 3
        )
        (folder / f"{number}.md").write_text(text, encoding="utf-8")
    return folder


def test_the_nearest_passages_of_documents_stand_in_the_turn_of_the_question(run, manuals):
    material = gather([run], [config_of(run)], None)
    retrieval = passages_near([str(manuals)], material, 2)
    assert retrieval.described() == "2 nearest passages of 10 documents before each question" and not retrieval.notes
    for row in material.rows:
        _, thing = row["messages"][-1]["content"].split()
        messages, count = shown_before(retrieval, row)
        assert count == 2 and len(messages) == len(row["messages"]) and messages[-1] == row["messages"][-1]
        far, near, question = messages[-2]["content"].split("\n\n---\n\n")
        assert question == row["messages"][-2]["content"]
        assert near.startswith(f"The {thing}\n\nWhoever") and not far.startswith(f"The {thing}\n")
        # Where the context ends, the farthest goes first.
        fewer, kept = retrieval.fitted(row["messages"], lambda prompted: prompted[-2]["content"].count("---") < 2)
        assert kept == 1 and fewer[-2]["content"] == f"{near}\n\n---\n\n{question}"


def test_retrieval_from_documents_names_them_in_the_comparison_and_the_report(run, manuals):
    question = gather([run], [config_of(run)], None).rows[0]["messages"][-2]["content"]
    (manuals / "0.md").write_text(f"{question} With a brush, some soap and a lot of patience, as always.", "utf-8")
    (manuals / "copy.md").write_bytes((manuals / "1.md").read_bytes())
    comparison = evaluate_run(run, Request(settings={"retrieved": 2, "documents": [str(manuals)]}))
    retrieved = comparison["settings"]["retrieved"]
    assert retrieved["rows"] == 2 and retrieved["left_out"] == 0 and len(retrieved["documents"]) == len(THINGS)
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in manuals.iterdir()}
    assert all(hashes[each["name"]] == each["sha256"] and each["passages"] == 1 for each in retrieved["documents"])
    notes = "\n".join(comparison["notes"])
    assert f"1 of {comparison['base']['rows']} held-out questions stand word for word in the documents" in notes
    assert "copy.md is the same file as 1.md" in notes
    measures = {measure["name"]: measure["values"] for measure in comparison["measures"]}
    read = measures["prompt_tokens"]
    assert read["retrieved"] == read["adapted_retrieved"] > read["base"] == read["adapted"]
    assert comparison["question"]["text"].endswith("with 2 retrieved passages; Documents: manuals")
    rows = evaluate_run(run, Request(settings={"retrieved": 2}))
    assert (
        rows["question"]["name"] != comparison["question"]["name"] and "documents" not in rows["settings"]["retrieved"]
    )
    evaluate_run(run, Request(settings={"retrieved": 2, "documents": [str(manuals)]}))
    evaluate_run(run)
    line = dict(contents(run)["checked"])["How retrieval worked"]
    assert (
        "put up to 2 passages before each question, of 0.md (1 passage, sha256 " in line and "5 more documents" in line
    )
    assert f"Tokens read per answer: {read['retrieved']:,.0f}, without it {read['base']:,.0f}." in line


def test_documents_that_cannot_be_retrieved_from_are_refused_before_a_model_is_loaded(run, tmp_path, monkeypatch):
    def refused(*places, retrieved=2):
        with pytest.raises(InputError) as caught:
            evaluate_run(run, Request(settings={"retrieved": retrieved, "documents": list(places)}))
        return caught.value.message()

    monkeypatch.setattr("ftlab.evaluation.asking.visit", None)
    (tmp_path / "empty").mkdir()
    (tmp_path / "short.md").write_text("Too short.", encoding="utf-8")
    assert "There is no file nothing.md" in refused(str(tmp_path / "nothing.md"))
    assert "There is no document here" in refused(str(tmp_path / "empty"))
    assert "The documents hold no passage" in refused(str(tmp_path / "short.md"))
    assert "is not a document that ftlab reads" in refused(run.config_file)
    assert "without a comma" in refused("first, second.md")
    assert "evaluation.retrieved" in refused(str(tmp_path / "short.md"), retrieved=0)
    monkeypatch.setitem(sys.modules, "markitdown", None)
    (tmp_path / "book.pdf").write_bytes(b"%PDF-1.4")
    assert "[documents]" in refused(str(tmp_path / "book.pdf"))
    config = with_settings(
        config_of(run), {"evaluation.retrieved": 1, "evaluation.documents": str(tmp_path / "gone.md")}
    )
    with pytest.raises(InputError, match="no file gone"):  # before training
        check_settings(config, ["an answer"])


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
        (a_comparison(True, None, together=(True, True), adds=False), "Cannot tell whether tuning is better "),
        (a_comparison(False, False), "Take prompting: "),
        (a_comparison(True, None), "Cannot tell whether tuning is better than retrieval "),
        ({"verdicts": {"adapted": {"better": True}}}, ""),
    ],
)
def test_one_sentence_says_which_to_take(comparison, starts):
    assert which_of(comparison).startswith(starts) and bool(which_of(comparison)) == bool(starts)


def test_more_rows_than_can_be_shown_are_refused(run):
    with pytest.raises(InputError, match="retrieved"):
        with_settings(config_of(run), {"evaluation.retrieved": 1000})
