"""A whole comparison of a tiny random base with a random adapter, on the first rows of a sample."""

from __future__ import annotations

import json
import math

import pytest
import torch

from ftlab.core.files import read_jsonl, write_json
from ftlab.core.jobs import Stopped
from ftlab.data.rendering import encode
from ftlab.data.splits import read_split
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.compare import evaluate_run
from ftlab.evaluation.request import Request
from ftlab.models.load import load_tokenizer
from tests.small_runs import ROWS, adapted_model, make_run, plain_perplexity, save_result


@pytest.fixture(scope="module")
def probes_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("probes") / "probes.jsonl"
    rows = [{"prompt": f"What is {i} and {i}?", "completion": str(2 * i)} for i in range(12)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def run(tmp_path_factory, base_folder, probes_file):
    run = make_run(tmp_path_factory.mktemp("runs"), base_folder, probes_file)
    save_result(run, base_folder)
    return run


@pytest.fixture(scope="module")
def compared(run):
    seen = []
    comparison = evaluate_run(run, progress=lambda *report: seen.append(report))
    return comparison, seen


@pytest.mark.parametrize("side", ["base", "adapted"])
def test_both_sides_have_the_perplexity_that_transformers_gives_them(run, compared, base_folder, side):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base_folder) if side == "base" else adapted_model(base_folder)
    by_row = {row["row"]: row for row in read_split(run, "test")}
    rows = [by_row[shown["row"]] for shown in run.predictions()]
    expected = plain_perplexity(model.eval(), rows, load_tokenizer(str(base_folder)))
    assert compared[0][side]["perplexity"] == pytest.approx(expected, rel=1e-4)


def test_the_results_are_on_disk_and_agree(run, compared):
    comparison, _ = compared
    assert run.comparison() == json.loads(json.dumps(comparison))
    assert not [file for file in run.older_scores if file.exists()], "the comparison holds each figure once"
    settings = json.loads(run.comparison_file.read_text())["settings"]
    assert not {"rows", "split"} & settings.keys() and "exact_match" not in settings["tests"]
    assert run.comparison()["settings"]["rows"] == ROWS
    predictions, probes = run.predictions(), read_jsonl(run.probes_file)
    assert len(predictions) == comparison["base"]["rows"] == ROWS
    assert len(probes) == comparison["base"]["general_rows"] == 12
    assert sum(row["adapted_correct"] for row in predictions) / ROWS == comparison["adapted"]["exact_match"]
    assert any(row["base"] != row["adapted"] for row in predictions)
    test = {row["row"]: row["messages"] for row in read_split(run, "test")}
    for shown in predictions:
        assert shown["messages"] == test[shown["row"]][:-1]
        assert shown["reference"] == test[shown["row"]][-1]["content"]
        assert shown["prompt"] == test[shown["row"]][-2]["content"]


def test_questions_of_replayed_kinds_are_reported_apart(tmp_path, base_folder):
    """Which kinds were, the run's own data say. Conversations and system prompts can be asked too."""
    known = [{"prompt": f"What is {n} and 1?", "completion": str(n + 1), "kind": "sums"} for n in range(20)]
    chats = [
        [("system", "Be short."), ("user", f"I am {n}."), ("assistant", "Hello!"), ("user", "Who?"), ("assistant", "b")]
        for n in range(8)
    ]
    asked = [{"messages": [{"role": r, "content": t} for r, t in chat], "kind": "talk"} for chat in chats]
    asked += [{"messages": chat["messages"][1:3], "kind": "sums"} for chat in asked[:4]]
    for name, rows in (("replay", known), ("probes", asked)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    replay = {"replay": str(tmp_path / "replay.jsonl"), "replay_fraction": 0.02}
    texts = {"general_text": "general_text, general_chat"}
    run = make_run(tmp_path, base_folder, tmp_path / "probes.jsonl", evaluation=texts, **replay)
    save_result(run, base_folder)
    comparison = evaluate_run(run)
    general = {one["name"]: one for one in comparison["measures"] if one["group"] == "general"}
    bits = ["general_bits_per_byte", "general_chat_bits_per_byte"]
    assert list(general) == ["general_accuracy", "general_accuracy_replayed", *bits]
    assert [general[name]["rows"] for name in list(general)[:2]] == [8, 4]
    assert [general[name]["help"][-36:] for name in bits] == ["that were not replayed: stories and mails."[-36:]] * 2
    adapted = comparison["adapted"]
    assert (adapted["general_rows"], adapted["general_rows_replayed"]) == (8, 4)
    shown = read_jsonl(run.probes_file)
    assert [(row["kind"], row["replayed"]) for row in shown] == [("talk", False)] * 8 + [("sums", True)] * 4
    assert comparison["settings"]["replayed_kinds"] == ["sums"]
    parts = {part["measure"]: part["text"] for part in comparison["forgetting"]["parts"]}
    assert "knew none of the 8 general questions (kinds not replayed)" in parts["general_accuracy"]
    assert "knew none of the 4 general questions (replayed kinds)" in parts["general_accuracy_replayed"]
    assert "bits per byte of general chat answers against" in parts[bits[1]]
    assert comparison["forgetting"]["text"] == " ".join(parts.values())
    # A set of one's own without kinds is asked as before, and nobody claims to know.
    for row in asked:
        del row["kind"]
    (tmp_path / "probes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    plain = {one["name"]: one for one in evaluate_run(run)["measures"] if one["group"] == "general"}
    assert list(plain) == ["general_accuracy", *bits] and plain["general_accuracy"]["title"] == "General questions"


def test_a_part_of_the_rows_is_said_to_be_one(compared):
    assert any(f"{ROWS} of 100 rows of the test split" in note for note in compared[0]["notes"])


def test_progress_moves_forward_and_arrives(compared):
    _, seen = compared
    phases, done, total = zip(*seen, strict=True)
    assert list(done) == sorted(done)
    assert done[-1] == total[-1] == 2 * (2 * ROWS + 12)
    assert {"loading the model", "answers of the base", "answers of the adapted model"} <= set(phases)


def test_evaluating_again_gives_the_same_figures(run, compared):
    again = evaluate_run(run)
    for side in ("base", "adapted"):
        assert again[side] == compared[0][side]
    assert again["verdict"] == compared[0]["verdict"]


def test_stopping_leaves_the_earlier_results_alone(run, compared):
    before = {file.name: file.read_bytes() for file in run.evaluation.iterdir() if file.is_file()}
    calls = iter(range(10_000))
    with pytest.raises(Stopped):
        evaluate_run(run, Request(max_rows=12), should_stop=lambda: next(calls) > 5)
    assert {file.name: file.read_bytes() for file in run.evaluation.iterdir() if file.is_file()} == before


def test_a_fully_tuned_model_is_compared_with_its_base(tmp_path, base_folder, compared):
    run = make_run(tmp_path, base_folder, "none", method="full")
    save_result(run, base_folder, "full")
    comparison = evaluate_run(run)
    assert comparison["base"]["perplexity"] == pytest.approx(compared[0]["base"]["perplexity"], rel=1e-6)
    rows = {row["row"]: row for row in read_split(run, "test")}
    tuned = adapted_model(base_folder, "full")
    chosen = [rows[shown["row"]] for shown in run.predictions()]
    expected = plain_perplexity(tuned, chosen, load_tokenizer(str(base_folder)))
    assert comparison["adapted"]["perplexity"] == pytest.approx(expected, rel=1e-4)
    assert comparison["adapted"]["general_accuracy"] is None


def test_without_a_test_split_the_validation_split_is_used_and_named(tmp_path, base_folder):
    run = make_run(tmp_path, base_folder, "none")
    run.split_file("test").unlink()
    save_result(run, base_folder)
    comparison = evaluate_run(run)
    assert comparison["split"] == "validation"
    assert any("no test split" in note for note in comparison["notes"])
    run.split_file("validation").unlink()
    with pytest.raises(InputError, match="no held-out rows"):
        evaluate_run(run)


def test_rows_longer_than_the_context_are_scored_on_their_end_and_none_is_left_out(tmp_path, base_folder):
    import shutil

    from transformers import AutoModelForCausalLM

    short = tmp_path / "short"
    shutil.copytree(base_folder, short)
    tokenizer = load_tokenizer(str(short))
    lengths = [len(encode(row["messages"], tokenizer).input_ids) for row in all_rows(tmp_path, short)]
    limit = sorted(lengths)[50]
    config = json.loads((short / "config.json").read_text())
    write_json(short / "config.json", config | {"max_position_embeddings": limit})
    run = make_run(tmp_path / "runs", short, "none")
    save_result(run, short)
    comparison = evaluate_run(run, Request(max_rows=100))
    too_long = sum(length > limit for length in lengths)
    assert too_long
    assert comparison["adapted"]["rows"] == 100
    assert any(f"{too_long} of 100 held-out rows are longer than the model's context" in n for n in comparison["notes"])
    # The answers are short: each is predicted from the last tokens that the model can read.
    model, total, count = AutoModelForCausalLM.from_pretrained(short).eval(), 0.0, 0
    for row in read_split(run, "test"):
        whole = encode(row["messages"], tokenizer)
        ids, labels = torch.tensor([whole.input_ids[-limit:]]), torch.tensor([whole.labels[-limit:]])
        with torch.no_grad():
            loss = model(input_ids=ids, labels=labels).loss
        tokens = int((labels[:, 1:] != -100).sum())
        total, count = total + loss.item() * tokens, count + tokens
    assert comparison["base"]["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-4)


def all_rows(folder, base):
    return read_split(make_run(folder / "look", base, "none"), "test")


def test_probes_that_cannot_be_read_are_noted_and_cost_nothing_else(tmp_path, base_folder):
    run = make_run(tmp_path, base_folder, tmp_path / "missing.jsonl")
    save_result(run, base_folder)
    comparison = evaluate_run(run)
    assert comparison["base"]["general_accuracy"] is None
    assert any("No general questions were asked" in note for note in comparison["notes"])


def test_a_run_without_a_result_is_refused_in_words(tmp_path, base_folder):
    run = make_run(tmp_path, base_folder, "none")
    with pytest.raises(FtlabError, match="no trained model"):
        evaluate_run(run)


def test_rows_of_one_group_or_of_one_prompt_are_clusters_and_that_is_said():
    from ftlab.evaluation.material import _clusters

    def row(prompt):
        return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": "yes"}]}

    rows = [row("a"), row("b"), row("a"), row("c")]
    customers = [{"customer": 7}, {"customer": 8}, {"customer": 7}, {"customer": 8}]
    keys, notes = _clusters(rows, customers, "customer")
    assert keys == [0, 1, 0, 1] and "The 4 rows have 2 values of customer" in notes[0]
    assert _clusters(rows, [{}] * 4, None) == ([0, 1, 0, 2], []), "one prompt that is asked twice is one draw"
    assert _clusters([row("a"), row("b")], [{}, {}], None) == (None, [])
    _, notes = _clusters(rows, [{}] * 4, "customer")
    assert "have no customer" in notes[0]
    documents = [{"messages": [{"role": "document", "content": "same"}]}] * 2
    assert _clusters(documents, [{}, {}], None) == (None, [])


def test_several_answers_to_each_row_are_kept_and_more_of_them_ask_only_for_the_new_ones(
    run, compared, base_folder, probes_file, tmp_path
):
    greedy = run.predictions()
    own = make_run(tmp_path, base_folder, probes_file, evaluation={"samples": 2, "temperature": 1.0})
    save_result(own, base_folder)
    comparison = evaluate_run(own)
    rows = own.predictions()
    for shown in rows:
        for side in ("base", "adapted"):
            assert len(shown[f"{side}_more"]) == 1 and set(shown[f"{side}_more"][0]) == {"answer", "tokens", "cut"}
        assert shown["samples"] == 2 and set(shown["right"]) == {"base", "adapted"}
    assert any(shown["adapted"] != shown["adapted_more"][0]["answer"] for shown in rows)
    assert [shown["adapted"] for shown in rows] != [shown["adapted"] for shown in greedy]
    assert comparison["settings"]["decoding"] == "sampled (temperature 1)" and comparison["settings"]["samples"] == 2
    assert [m["rows"] for m in comparison["measures"] if m["name"] in ("exact_match", "pass_k")] == [ROWS, ROWS]
    assert comparison["base"]["perplexity"] == compared[0]["base"]["perplexity"], "losses draw nothing"
    assert any(f"2 for each of the {ROWS} rows" in note for note in comparison["notes"])
    phases = set()
    more = evaluate_run(own, Request(settings={"samples": 3}), progress=lambda phase, *_: phases.add(phase))
    assert {phase for phase in phases if phase.startswith(("answers", "scoring"))} == {
        "answers of the base, number 3",
        "answers of the adapted model, number 3",
    }
    assert more["settings"]["samples"] == 3
    for before, after in zip(rows, own.predictions(), strict=True):
        assert after["adapted"] == before["adapted"] and after["adapted_more"][0] == before["adapted_more"][0]
