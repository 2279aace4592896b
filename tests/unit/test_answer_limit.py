"""The longest answer follows the references, and what was answered under another limit is not asked again."""

from __future__ import annotations

import json

from ftlab.data.splits import read_split
from ftlab.evaluation import asking as collect
from ftlab.evaluation.compare import evaluate_before, evaluate_run
from ftlab.evaluation.keeping import ToAnswer
from ftlab.evaluation.material import AnswerLimit, answer_limit, limit_used
from ftlab.evaluation.request import Request
from ftlab.evaluation.sides import config_of
from ftlab.models.load import base_path, load_config_of, load_tokenizer, text_length
from ftlab.report.report import contents
from tests.small_runs import make_run, save_result

BY_REFERENCES = {"max_new_tokens": None}


def a_run(folder, base_folder, answers, *, stage="sft", **evaluation):
    """A run whose i-th row has the i-th of `answers`."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "rows.jsonl"
    rows = [{"prompt": f"What is thing {i}?", "completion": answer} for i, answer in enumerate(answers)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return make_run(folder / "runs", base_folder, "none", evaluation=BY_REFERENCES | evaluation, source=str(file))


def tokens_of(run):
    """The longest held-out reference, counted one by one."""
    tokenizer = load_tokenizer("starter")
    rows = read_split(run, "test")
    return max(len(tokenizer(row["messages"][-1]["content"], add_special_tokens=False).input_ids) for row in rows)


def limit_of(run):
    return answer_limit(run, config_of(run), load_tokenizer("starter"))


def test_labels_need_a_short_answer_and_long_references_a_long_one(tmp_path, base_folder):
    labels = a_run(tmp_path / "labels", base_folder, ["red", "green"] * 60)
    assert limit_of(labels) == AnswerLimit(16, tokens_of(labels))
    texts = a_run(tmp_path / "texts", base_folder, [f"word {'and another ' * (i % 40)}end" for i in range(120)])
    limit = limit_of(texts)
    assert limit.longest >= tokens_of(texts) > 40
    assert limit.longest < limit.tokens <= 1.3 * limit.longest
    assert str(limit) == f"at most {limit.tokens} tokens: the longest reference has {limit.longest}"


def test_one_odd_training_row_does_not_make_every_answer_long_but_a_held_out_one_does(tmp_path, base_folder):
    answers = ["red"] * 200
    run = a_run(tmp_path / "short", base_folder, answers)
    learned, held_out = (read_split(run, split)[0]["row"] for split in ("train", "test"))
    answers[learned] = "red and " * 100
    assert limit_of(a_run(tmp_path / "learned", base_folder, answers)).tokens == 16
    answers[held_out] = "green or " * 90
    odd = a_run(tmp_path / "held out", base_folder, answers)
    assert limit_of(odd).tokens > tokens_of(odd) + 1 > 90


def test_no_answer_is_longer_than_the_context(tmp_path, base_folder):
    run = a_run(tmp_path, base_folder, ["red and " * 600] * 80)
    assert (
        limit_of(run).tokens
        == text_length(config_of(run))
        == load_config_of(config_of(run).model).max_position_embeddings
    )


def test_a_number_that_a_person_sets_is_kept(tmp_path, base_folder):
    run = a_run(tmp_path, base_folder, ["red"] * 80, max_new_tokens=128)
    assert limit_of(run) == AnswerLimit(128) and str(limit_of(run)) == "at most 128 tokens"


def test_the_comparison_the_report_and_an_export_say_the_same_limit(tmp_path, base_folder):
    run = a_run(tmp_path, base_folder, ["red", "green"] * 60)
    evaluate_before(run)
    save_result(run, base_folder)
    settings = evaluate_run(run)["settings"]
    assert settings["max_new_tokens"] == 16 == limit_used(run, config_of(run))
    assert settings["longest_answer"] == f"at most 16 tokens: the longest reference has {tokens_of(run)}"
    assert any(settings["longest_answer"] in sentence for sentence in contents(run)["measured"])


def test_an_answer_that_ended_under_another_limit_is_not_asked_again(tmp_path, monkeypatch):
    starter = base_path("starter")  # which ends its answers, at different lengths
    answers = ["red", "green"] * 60

    def evaluated(name, *limits):
        run = a_run(tmp_path / name, starter, answers, max_rows=12)
        save_result(run, starter)
        for limit in limits:
            found = evaluate_run(run, Request(settings={"max_new_tokens": limit}))
        return run.question(found["question"]["name"]).predictions()

    long = evaluated("long", 60)
    lengths = sorted(row[f"{side}_tokens"] for row in long for side in ("base", "adapted"))
    short = lengths[len(lengths) // 2]
    asked = []

    def counted(model, tokenizer, question, **more):
        asked.append(len(question.prompts) if isinstance(question, ToAnswer) else 0)
        return ask(model, tokenizer, question, **more)

    ask = collect.ask
    monkeypatch.setattr(collect, "ask", counted)
    both = evaluated("both", 60, short)
    cut = sum(length > short for length in lengths)
    assert sum(asked) == 2 * 12 + cut and 0 < cut < 2 * 12
    monkeypatch.setattr(collect, "ask", ask)
    assert [(row["base"], row["adapted"]) for row in evaluated("short", short)] == [
        (row["base"], row["adapted"]) for row in both
    ]
