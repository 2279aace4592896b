"""What was forgotten: the score, the general text it is measured on, and what to try next."""

from __future__ import annotations

import json
import math
import re
import shlex
from dataclasses import replace
from itertools import islice

import pytest

from ftlab.config import RunConfig, build_config, load_config, with_settings
from ftlab.config.methods import METHODS
from ftlab.core.files import read_jsonl, write_json, write_text
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.evaluation.forgetting import General, answer_of, forgetting_of, lost_in_words
from ftlab.evaluation.losses import CHAT, DOCUMENTS, Losses, by_owner, load_general_text
from ftlab.evaluation.probes import replayed_kinds, was_replayed
from ftlab.evaluation.remedies import against_forgetting, against_memorising, commands, remedies
from ftlab.models.load import load_tokenizer
from ftlab.models.starter.corpus import training_examples
from ftlab.models.starter.general_documents import make_documents
from ftlab.models.starter.general_text import make_chats, make_texts
from ftlab.report.findings import kept_rows
from ftlab.report.measures import by_same_kinds, verdict_short, verdict_text
from ftlab.samples import sample_path
from ftlab.ui.tabs.evaluate.result import kept
from tests.comparisons import score_forgetting

KNOWN = {"base": [True] * 8 + [False] * 2, "adapted": [True] * 6 + [False] * 2 + [True, False]}


DOCUMENTS_AT_HALF_THE_RATE = {
    "data.replay_text": "general_documents",
    "data.replay_text_fraction": 0.2,
    "optimisation.learning_rate": 0.002,
}


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("starter")


def read_texts(name: str, split: str = "test") -> list[str]:
    return [row["text"] for row in read_jsonl(sample_path(name) / f"{split}.jsonl")]


def test_the_score_is_the_share_of_what_was_known_and_is_lost():
    found = score_forgetting(KNOWN)
    assert (found["known"], found["lost"], found["gained"], found["asked"]) == (8, 2, 1, 10)
    assert found["score"] == 0.25
    # Wilson's interval of 2 in 8, by hand with z = 1.96.
    assert found["interval"] == pytest.approx([0.0715, 0.5907], abs=1e-4)
    assert found["accuracy"] == {"base": 0.8, "adapted": 0.7}
    assert "lost 2 of the 8 general questions that its base knew, 25%" in found["text"]
    # Two lost and one gained of ten is what chance does: neither forgotten nor kept.
    assert (found["answer"], found["forgot"]) == ("unknown", False)
    assert "fell by 10 points; 10 questions cannot show whether it fell by 5 points or more" in found["text"]


def test_59_questions_of_which_none_is_lost_are_the_fewest_that_rule_out_a_loss_of_five_points():
    # .95 ** 59 = .0485: were one in twenty forgotten, all of 59 would still be right in less than 5% of cases.
    def asked(count):
        return score_forgetting({"base": [True] * count, "adapted": [True] * count})

    assert asked(58)["answer"] == "unknown" and "about 59 questions would" in asked(58)["text"]
    assert asked(59)["answer"] == "kept"
    assert (
        "did not fall; a fall of 5 points or more is ruled out for questions like these (p = .048, one-sided)"
        in asked(59)["text"]
    )


def test_a_fall_that_is_more_than_chance_is_lost_unless_it_is_shown_to_be_small():
    def fell(lost, asked):
        return score_forgetting({"base": [True] * asked, "adapted": [True] * (asked - lost) + [False] * lost})

    assert fell(4, 50)["answer"] == "unknown", "4 of 4 heads: p = .0625"
    assert fell(5, 50)["answer"] == "lost" and "more than chance explains (p = .031, one-sided)" in fell(5, 50)["text"]
    # 10 of 1,000 are a loss, and one of less than 5 points for certain.
    assert fell(10, 1000)["answer"] == "kept" and "fell by 1 point; a fall of 5" in fell(10, 1000)["text"]


def test_what_is_told_of_questions_holds_for_their_kinds_and_names_those_that_fell():
    # 5 kinds of 40 questions: one falls from 40 to 10, the others hold. 30 of 200 is a fall of 15 points.
    kinds = [kind for kind in ("sums", "extraction", "advice", "mail", "dates") for _ in range(40)]
    after = [kind != "extraction" or place % 40 < 10 for place, kind in enumerate(kinds)]
    asked = General("general_accuracy", "general questions", {"base": [True] * 200, "adapted": after}, kinds=kinds)
    found = forgetting_of([asked])
    text = found["text"]
    assert (
        found["answer"] == "lost" and "By kind, the change ranges from −75 points (extraction, 40 questions) to" in text
    )
    assert text.endswith("other kinds were not asked. Fell by more than chance explains: extraction.")
    assert lost_in_words(found) == "general questions 85% against 100%, most in extraction (−75 points)"
    # Kept as a whole is kept for these kinds, and hides no kind that fell.
    many = General("general_accuracy", "general questions", {"base": [True] * 1000, "adapted": [True] * 800 + after})
    whole = forgetting_of([replace(many, kinds=["other"] * 800 + kinds)])
    assert whole["answer"] == "kept" and "ruled out for questions of these 6 kinds (p" in whole["text"]
    assert whole["text"].endswith("Fell by more than chance explains: extraction.")


def test_a_base_that_knew_little_cannot_show_that_nothing_was_forgotten():
    found = score_forgetting({"base": [True] * 6 + [False] * 194, "adapted": [True] * 6 + [False] * 194})
    assert found["answer"] == "unknown" and "knew too few of the 200 questions" in found["text"]


def test_a_comparison_from_before_the_three_answers_is_told_by_its_counts():
    old = {"lost": 0, "gained": 0, "asked": 200, "known": 190, "limit": 0.05, "forgot": False, "text": ""}
    assert answer_of({"forgetting": old}) == "kept"
    assert answer_of({"forgetting": old | {"asked": 20, "known": 19}}) == "unknown"
    assert answer_of({"forgetting": old | {"lost": 12}}) == "lost"
    assert answer_of({"forgetting": {"limit": 0.05, "rise": 0.2, "bits_p": 0.001, "forgot": True}}) == "lost"
    sides = {"base": {"general_accuracy": 0.9}, "adapted": {"general_accuracy": 0.8}}
    assert answer_of(sides | {"tests": {"general_accuracy": 0.01}}) == "lost"
    assert answer_of(sides | {"tests": {"general_accuracy": 0.2}}) == "unknown"
    assert answer_of({"base": {}, "adapted": {}}) is None


def test_a_general_text_that_takes_more_bits_is_forgetting_beyond_chance_only():
    sizes = [100] * 30
    one_bit = [100 * math.log(2)] * 30
    worse = score_forgetting(None, {"base": one_bit, "adapted": [1.2 * nll for nll in one_bit]}, sizes)
    assert worse["bits_per_byte"] == pytest.approx({"base": 1.0, "adapted": 1.2})
    assert worse["rise"] == pytest.approx(0.2)
    assert worse["forgot"] is True and "1.20 bits per byte of general text against 1.00: worse by" in worse["text"]
    # One text of thirty differs, by so much that the mean rises by 20%.
    chance = score_forgetting(None, {"base": one_bit, "adapted": [7 * one_bit[0], *one_bit[1:]]}, sizes)
    assert chance["rise"] == pytest.approx(0.2)
    assert chance["answer"] == "unknown" and "30 texts cannot show whether it rose" in chance["text"]


def test_a_general_text_is_kept_where_five_percent_more_bits_are_ruled_out():
    bits = [100 * math.log(2) * (1 + place % 7) for place in range(120)]
    same = [nll * (1.01 if place % 2 else 0.995) for place, nll in enumerate(bits)]
    found = score_forgetting(None, {"base": bits, "adapted": same}, [100] * 120)
    assert found["answer"] == "kept" and "a rise of 5% or more is ruled out" in found["text"]
    few = score_forgetting(None, {"base": bits[:110], "adapted": same[:110]}, [100] * 110)
    assert few["answer"] == "unknown", (
        "one text in forty may take three times the bits, and 110 hold none in 6% of cases"
    )


def test_where_nothing_general_was_asked_there_is_no_score():
    assert score_forgetting(None) is None
    assert score_forgetting({"base": [], "adapted": []}, {"base": [], "adapted": []}, []) is None
    unknown = score_forgetting({"base": [False] * 3, "adapted": [False] * 3})
    assert unknown["score"] is None and "knew none of the 3" in unknown["text"]


def test_the_shipped_text_is_what_the_script_writes_and_the_starter_never_read_it():
    texts = read_texts("general_text")
    assert texts == [row["text"] for row in make_texts()]
    assert read_jsonl(sample_path("general_chat") / "test.jsonl") == make_chats()
    assert [row["messages"][-1]["content"] for row in make_chats()] == texts
    assert len(texts) == len(set(texts)) == 120
    trained = {
        turn["content"]
        for example in islice(training_examples(0), 20_000)
        for turn in example["messages"]
        if turn["role"] == "assistant"
    }
    assert not trained & set(texts)


def test_the_documents_that_are_mixed_in_are_none_of_those_that_measure():
    documents = read_texts("general_documents", "train")
    assert documents == [row["text"] for row in make_documents()]
    assert len(documents) == len(set(documents)) == 340
    # Without the questions in which the starter has read them.
    assert not [one for one in documents if re.search("Continue:|Go on:|next sentences|comes after this| title", one)]
    measured = " ".join(read_texts("general_text"))
    sentences = {sentence for one in documents for sentence in re.split(r"(?<=[.!?]) ", one)}
    assert len(sentences) > 500
    assert not [one for one in sentences if one in measured]


def test_the_general_text_of_the_starter_is_cut_into_windows_that_lose_nothing(tokenizer):
    found, note = load_general_text(build_config(), tokenizer, context=32)
    assert note is None and found.keys() == {DOCUMENTS, CHAT}
    pieces = found[DOCUMENTS].pieces
    assert max(len(window.input_ids) for window in pieces.windows) == 32
    texts = read_texts("general_text")
    # Every token but the first of each text is predicted once, and its end-of-text token.
    wanted = [len(tokenizer(text, add_special_tokens=False).input_ids) for text in texts]
    counts = [sum(window.trained[1:]) for window in pieces.windows]
    summed = by_owner(Losses([0.0] * len(counts), counts), pieces.owner, len(pieces.sizes))
    assert summed.tokens == wanted
    assert len(pieces.sizes) == 120 and sum(pieces.sizes) <= sum(len(text.encode()) for text in texts)
    assert found[CHAT].pieces.sizes == [len(text.encode()) for text in texts]


def test_documents_and_conversations_of_several_sources_are_measured_apart(tmp_path, tokenizer):
    for name, row in (("a", {"text": "Once."}), ("b", {"prompt": "Go on.", "completion": "Then.", "kind": "tales"})):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    named = f"{tmp_path}/a.jsonl, {tmp_path}/b.jsonl, general_chat"
    config = build_config({"evaluation": {"general_text": named}})
    found, note = load_general_text(config, tokenizer, context=512, replayed=frozenset({"tales"}))
    assert note is None
    assert len(found[DOCUMENTS].pieces.sizes) == 1 and len(found[CHAT].pieces.sizes) == 121
    assert found[CHAT].pieces.owner == list(range(121))
    assert found[CHAT].kinds == {"tales": True, "stories": False, "mails": False} and found[DOCUMENTS].kinds == {}


def test_a_general_text_that_is_replayed_too_is_said_to_show_nothing(tokenizer):
    config = build_config({"data": {"replay": "general_replay"}, "evaluation": {"general_text": "general_replay"}})
    _, note = load_general_text(config, tokenizer, context=512)
    assert "was replayed in training, so it cannot show forgetting" in note and "200 of 600 rows" in note


def test_of_conversations_the_answers_are_the_general_text(tmp_path, tokenizer):
    rows = [{"prompt": f"Say {n} in German.", "completion": f"Größe {n}"} for n in range(12)]
    file = tmp_path / "chat.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = build_config({"evaluation": {"general_text": str(file)}})
    found, note = load_general_text(config, tokenizer, context=512)
    assert note is None and found.keys() == {CHAT}
    assert found[CHAT].pieces.sizes == [len(row["completion"].encode()) for row in rows]


def test_a_general_text_that_is_not_there_is_a_note_and_costs_nothing(tokenizer):
    config = build_config({"evaluation": {"general_text": "/no/such/file.txt"}})
    found, note = load_general_text(config, tokenizer, context=512)
    assert found == {} and note.startswith("General language was not measured: ")
    assert load_general_text(build_config({"evaluation": {"general_text": "none"}}), tokenizer, context=512) == (
        {},
        None,
    )
    other = build_config({"model": {"base": "Qwen/Qwen3-0.6B"}})
    found, note = load_general_text(other, tokenizer, context=512)
    assert (list(found), note) == ([DOCUMENTS], None)
    assert set(found[DOCUMENTS].kinds) == {"narrative", "report", "python", "shell", "sql", "german", "spanish"}


def make_replayed(workspace: Workspace, name: str, replay: dict | None, **model: str) -> tuple[RunDirectory, RunConfig]:
    run = RunDirectory(workspace.runs_folder / name)
    write_json(run.manifest_file, {"replay": replay, "replay_text": None})
    config = build_config({"model": model} if model else {})
    write_text(run.config_file, config.to_yaml())
    return run, config


def test_which_kinds_were_replayed_is_what_the_data_of_the_runs_say(tmp_path):
    """Also those of what a run started from; unknown where something was mixed in whose kinds nobody tells."""
    workspace = Workspace.open(tmp_path)
    without = make_replayed(workspace, "without", None)
    first = make_replayed(workspace, "first", {"kinds": ["sums", "colours"]})
    second = make_replayed(workspace, "second", {"kinds": ["colours", "rhymes"]})
    old = make_replayed(workspace, "old", {"source": "general_replay"})
    tuned = make_replayed(workspace, "tuned", None, start="first")
    lost = make_replayed(workspace, "lost", None, start="deleted")

    def kinds(*runs):
        return replayed_kinds(*zip(*runs, strict=True))

    assert kinds(without) == frozenset()
    assert kinds(first) == kinds(tuned) == {"sums", "colours"}
    assert kinds(without, first, second) == {"sums", "colours", "rhymes"}
    assert kinds(old) is kinds(first, old) is kinds(lost) is None
    assert [was_replayed(kind, kinds(first)) for kind in ("sums", "rhymes", None)] == [True, False, None]
    assert [was_replayed(kind, kinds(without)) for kind in ("sums", None)] == [False, False]
    assert was_replayed("sums", None) is None


def test_runs_beside_each_other_are_measured_by_the_same_questions():
    """One replayed sums, the other nothing: what stands beside each other are the rhymes of both, and the sums."""
    rows = [
        {"row": n, "kind": kind, "reference": "1", "base": "1"} for n, kind in enumerate(["sums"] * 4 + ["rhymes"] * 4)
    ]
    one = [row | {"adapted": "1" if row["kind"] == "sums" else "2"} for row in rows]
    two = [row | {"adapted": "2"} for row in rows]
    measure = {"name": "general_accuracy", "values": {"base": 1.0, "adapted": 0.0}}
    other = {"name": "perplexity", "values": {"base": 9.0, "adapted": 2.0}}
    comparisons = [{"measures": [measure, other], "settings": {"replayed_kinds": kinds}} for kinds in (["sums"], [])]
    found = by_same_kinds([(comparisons[0], one), (comparisons[1], two)])
    values = [{one["name"]: one["values"]["adapted"] for one in comparison["measures"]} for comparison in found]
    assert values[0] == {"general_accuracy": 0.0, "general_accuracy_replayed": 1.0, "perplexity": 2.0}
    assert values[1] == {"general_accuracy": 0.0, "general_accuracy_replayed": 0.0, "perplexity": 2.0}
    assert [one["rows"] for one in found[1]["measures"][:2]] == [4, 4]
    del comparisons[0]["settings"]  # evaluated before kinds were kept
    [unknown, _], _ = (one["measures"] for one in by_same_kinds([(comparisons[0], one), (comparisons[1], two)]))
    assert unknown["title"] == "General questions" and unknown["rows"] == 8 and "unknown whether" in unknown["help"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stage", ["sft", "pretraining", "dpo", "orpo", "grpo"])
def test_every_remedy_is_a_run_that_can_be_started(stage, method):
    config = build_config({"stage": stage, "method": {"name": method}})
    found = against_forgetting(config.resolved()) + against_memorising(config.resolved())
    assert found
    for remedy in found:
        changed = with_settings(config, remedy.changes)
        assert remedy.title and remedy.why.endswith(".")
        assert remedy.needs is not None or changed != config
        # Nothing that the method or the stage does not read.
        assert "method.rank" not in remedy.changes or method in ("lora", "dora", "qlora")
        assert "data.replay" not in remedy.changes or stage == "sft"


def test_replay_comes_first_and_beside_it_a_lower_rate_and_more_of_it():
    first = against_forgetting(build_config().resolved())[0]
    documents = DOCUMENTS_AT_HALF_THE_RATE
    assert first.changes == {"data.replay": "general_replay", "data.replay_fraction": 0.35, **documents}
    assert first.needs is None
    replayed = build_config({"data": {"replay": "general_replay", "replay_fraction": 0.35}})
    too, lower, more, *_ = against_forgetting(replayed.resolved())
    assert (too.changes, too.needs) == (documents, None)
    assert (lower.changes, more.changes) == ({"optimisation.learning_rate": 0.002}, {"data.replay_fraction": 0.7})
    both = with_settings(replayed, documents)
    assert [one.changes for one in against_forgetting(both.resolved())][:2] == [
        {"optimisation.learning_rate": 0.001},
        {"data.replay_fraction": 0.7},
    ]
    bare = {"model": {"base": "Qwen/Qwen3-0.6B"}, "data": {"replay": None}}
    other = against_forgetting(build_config(bare).resolved())[0]
    hold = {"data.replay": "self", "data.replay_fraction": 0.35, "data.replay_loss": "kl"}
    assert (other.changes, other.needs) == (hold, None)
    held = build_config({"model": {"base": "Qwen/Qwen3-0.6B"}, "data": {"replay": "self"}})
    # A lower rate costs more of the task (ftlab/docs/replay.md).
    assert against_forgetting(held.resolved())[0].changes == {"data.replay_fraction": 0.7}
    learned = with_settings(held, {"data.replay_loss": "nll"})
    assert against_forgetting(learned.resolved())[0].changes == {"data.replay_loss": "kl"}


@pytest.mark.parametrize("stage", ["sft", "pretraining"])
@pytest.mark.parametrize("replay", [None, "self", "general.jsonl"])
def test_on_a_real_base_no_remedy_asks_for_data_of_ones_own(stage, replay):
    config = build_config({"stage": stage, "model": {"base": "Qwen/Qwen3-0.6B"}, "data": {"replay": replay}})
    found = against_forgetting(config.resolved())
    assert not [one.title for one in found if one.needs]
    assert (found[0].changes.get("data.replay") == "self") == (replay != "self")


def test_a_remedy_can_be_typed(tmp_path):
    config = build_config({"name": "first"})
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml())
    (_, command), *_ = commands({"verdict": {"forgot": True}}, config, file)
    given = shlex.split(command)
    assert given[:4] == ["python", "-m", "ftlab", "train"]
    tried = load_config(given[4], [value for value in given[5:] if value != "--set"])
    assert tried.data.replay == "general_replay"
    replay = {"data.replay": "general_replay", "data.replay_fraction": 0.35}
    assert tried == with_settings(config, replay | DOCUMENTS_AT_HALF_THE_RATE)


def test_remedies_are_offered_only_where_something_is_wrong():
    config = build_config()
    well = {"verdict": {"forgot": False}, "forgetting": {"forgot": False}, "memorisation": {"memorised": False}}
    assert remedies(well, config) == []
    assert remedies({"verdict": {"forgot": True}}, config) == against_forgetting(config.resolved())
    by_heart = remedies(well | {"memorisation": {"memorised": True, "overfitted": False}}, config)
    assert by_heart == against_memorising(config.resolved())
    both = remedies({"verdict": {"forgot": True}, "memorisation": {"overfitted": True}}, config)
    changes = [json.dumps(remedy.changes, sort_keys=True) for remedy in both]
    assert len(changes) == len(set(changes)), "no run is offered twice"


def _compared(base, **more):
    sides = [{"name": "base", "title": "Base", "what": base}, {"name": "adapted", "title": "Adapted", "what": ""}]
    return {"sides": sides, "base": {}, "adapted": {}, "verdict": {"text": "It is better."}, "measures": []} | more


def test_an_old_verdict_says_what_was_kept_in_the_words_of_today():
    base = [True] * 97 + [False] * 3
    lost = forgetting_of([General("a", "general questions", {"base": base, "adapted": [True] * 38 + [False] * 62})])
    for ending in (", but it forgot: general questions 38% against 97%.", "; whether it forgot cannot be told."):
        old = _compared("smollm2", forgetting=lost) | {"verdict": {"text": f"It is better: 0.5 against 0.1{ending}"}}
        today = "It is better: 0.5 against 0.1; what the base knew: lost, general questions 38% against 97%."
        assert verdict_text(old) == today
        assert verdict_short(old) == "Compared with the base: it is better; what the base knew: lost."


def test_an_old_comparison_on_a_real_base_says_that_forgetting_was_not_measured():
    assert verdict_text(_compared("smollm2")) == "It is better; what the base knew: not measured."
    assert verdict_text(_compared("starter")) == "It is better."
    known = {"answer": "kept", "parts": []}
    assert verdict_text(_compared("smollm2", forgetting=known)) == "It is better."
    assert "was not measured" in kept(_compared("smollm2"))


def test_each_figure_on_what_was_kept_says_what_it_was_measured_on_and_its_answer_in_a_word():
    found = forgetting_of(
        [
            General("general_accuracy", "general questions", {"base": [True] * 97, "adapted": [False] * 97}),
            General(
                "general_bits_per_byte", "general documents", losses={"base": [60.0], "adapted": [90.0]}, sizes=[80]
            ),
        ]
    )
    comparison = _compared("smollm2", forgetting=found)
    asked, read = kept_rows(comparison)
    assert asked == {"measured": "97 general questions: right", "base": "100%", "adapted": "0%", "answer": "lost"}
    assert read["measured"].startswith("1 general documents: bits per byte") and read["answer"] == "cannot tell"
    assert ">lost</span>" in kept(comparison)
