"""The samples that measure and hold forgetting on every base: what they hold, and what they must not share."""

from __future__ import annotations

import ast
import re
import sqlite3
from collections import Counter
from itertools import product

import pytest

from ftlab.config import DataConfig
from ftlab.core.files import read_jsonl
from ftlab.data.formats import detect_prompts, example_of
from ftlab.data.load import load_rows
from ftlab.data.near import near_pairs
from ftlab.data.splits import detect_format
from ftlab.errors import InputError
from ftlab.samples import list_samples, sample_path
from ftlab.ui.run_files import sample_titles

SHARED = {"facts", "arithmetic", "rewriting", "lists", "format", "explanation", "small talk"}
UNSEEN = {"refusal", "languages", "code"}
ONLY_REPLAYED = {"summarizing", "extraction", "advice", "roles", "stories"}


def rows_of(name):
    return read_jsonl(next(sample_path(name).glob("*.jsonl")))


def asked(turns):
    return "\n".join(turn["content"] for turn in turns if turn["role"] != "system")


NEUTRAL, REPLAY = rows_of("neutral_prompts"), rows_of("replay_prompts")
FACTS, CHOICES, READING = rows_of("known_facts"), rows_of("known_choices"), rows_of("general_reading")
PROMPTS = {
    "neutral_prompts": [asked(row["prompt"]) for row in NEUTRAL],
    "replay_prompts": [asked(row["prompt"]) for row in REPLAY],
    "known_facts": [row["prompt"] for row in FACTS],
    "known_choices": [row["question"] for row in CHOICES],
}


def near(left, right=None):
    sides = right and [0] * len(left) + [1] * len(right)
    texts = left + (right or [])
    return [(texts[pair.first], texts[pair.second]) for pair in near_pairs(texts, sides=sides, across=bool(right))]


def test_the_prompts_are_of_the_kinds_that_the_cards_say():
    assert Counter(row["kind"] for row in NEUTRAL) == dict.fromkeys(SHARED | UNSEEN, 10)
    assert Counter(row["kind"] for row in REPLAY) == dict.fromkeys(SHARED | ONLY_REPLAYED, 25)
    assert Counter(row["kind"] for row in CHOICES) == dict.fromkeys(
        ("geography", "science", "nature", "history", "language"), 20
    )
    assert Counter(row["kind"] for row in FACTS) == dict.fromkeys(
        ("geography", "science", "nature", "history", "culture", "everyday"), 20
    )


@pytest.mark.parametrize("name", ["neutral_prompts", "replay_prompts"])
def test_prompts_without_answers_are_read_whole_with_the_answer_left_open(name):
    data = DataConfig(source=name)
    loaded = load_rows(data)
    rows = loaded.splits[loaded.main]
    detected = detect_prompts(loaded.columns, rows, {}, loaded.name, None)
    for row in rows:
        turns, remarks = example_of(row, detected, None)
        assert turns == [*row["prompt"], {"role": "assistant", "content": ""}] and not remarks
        spoken = [turn["role"] for turn in row["prompt"] if turn["role"] != "system"]
        assert spoken in (["user"], ["user", "assistant", "user"])
        assert all(turn["content"] == turn["content"].strip() != "" for turn in row["prompt"])
    with pytest.raises(InputError, match=r"add a column of answers to the prompts in prompt, or .*rloo, grpo"):
        detect_format(loaded, data)


@pytest.mark.parametrize("name", PROMPTS)
def test_nothing_is_asked_twice_in_a_sample(name):
    assert near(PROMPTS[name]) == []


@pytest.mark.parametrize(
    ("left", "right"), [("neutral_prompts", "replay_prompts"), *product(list(PROMPTS)[:2], list(PROMPTS)[2:])]
)
def test_what_is_measured_is_no_near_copy_of_what_is_replayed(left, right):
    assert near(PROMPTS[left], PROMPTS[right]) == []


def test_what_the_starter_replays_is_asked_in_no_probe():
    replayed = [row["prompt"] for row in rows_of("general_replay")]
    for name in ("neutral_prompts", "known_facts", "known_choices"):
        assert near(PROMPTS[name], replayed) == []
    assert near(PROMPTS["known_facts"], PROMPTS["known_choices"]) == []


# Words that many questions share, whatever they ask for.
COMMON = set(
    "about answer call called country city does explain from give have largest made make many most much name number "
    "only painted people player river same should take that their these this through time usually water what when "
    "where which with word wrote year years your".split()
)


def content(text):
    return {word.rstrip("s") for word in re.findall(r"[^\W_]{4,}", text.lower()) if word not in COMMON}


def test_no_fact_is_asked_in_the_probes_and_in_the_replay():
    replayed = [asked(row["prompt"]) for row in REPLAY if row["kind"] in ("facts", "explanation")]
    measured = [asked(row["prompt"]) for row in NEUTRAL if row["kind"] in ("facts", "explanation", "languages")]
    measured += [f"{row['prompt']} {row['completion']}" for row in FACTS]
    measured += [f"{row['question']} {row[row['answer']]}" for row in CHOICES]
    alike = [
        (left, right)
        for left, right in product(measured, replayed)
        if len(content(left) & content(right)) > 0.5 * min(len(content(left)), len(content(right)))
    ]
    assert alike == []


def test_of_four_choices_each_place_is_right_equally_often():
    for kind in {row["kind"] for row in CHOICES}:
        assert Counter(row["answer"] for row in CHOICES if row["kind"] == kind) == dict.fromkeys("ABCD", 5)
    for row in CHOICES:
        assert len({row[letter].lower() for letter in "ABCD"}) == 4


@pytest.mark.parametrize("extreme", [max, min])
def test_the_length_of_a_choice_does_not_tell_the_right_one(extreme):
    right = 0.0
    for row in CHOICES:
        lengths = [len(row[letter]) for letter in "ABCD"]
        if len(row[row["answer"]]) == extreme(lengths):
            right += 1 / lengths.count(extreme(lengths))
    assert 15 <= right <= 35, "of 100, where guessing gets 25"


def test_no_short_answer_stands_in_its_question():
    for row in FACTS:
        forms = [row["completion"], *row["also"]]
        assert len({form.lower() for form in forms}) == len(forms)
        assert all(form == form.strip() != "" for form in forms)
        contained = [
            form for form in forms if re.search(rf"(?<!\w){re.escape(form)}(?!\w)", row["prompt"], re.IGNORECASE)
        ]
        assert contained == [], row["prompt"]
        assert len(row["completion"].split()) <= 2


def test_the_passages_are_a_third_each_of_prose_code_and_other_languages():
    counts = Counter(row["kind"] for row in READING)
    assert counts == {
        "narrative": 20, "report": 20, "python": 14, "shell": 13, "sql": 13, "german": 20, "spanish": 20,
    }  # fmt: skip
    texts = [row["text"] for row in READING]
    assert near(texts) == []
    assert all(30 <= len(text.split()) <= 80 for text in texts)
    size = sum(len(text.encode()) for text in texts)
    assert f"| test | 120 | {size:,} |" in (sample_path("general_reading") / "README.md").read_text(encoding="utf-8")


def test_the_code_that_is_read_is_valid():
    for row in READING:
        if row["kind"] == "python":
            ast.parse(row["text"])
        if row["kind"] == "sql":
            try:
                sqlite3.connect(":memory:").executescript(row["text"])
            except sqlite3.OperationalError as error:
                assert "no such table" in str(error)


def test_prompts_and_choices_are_not_offered_as_data_to_train_or_to_score_on():
    assert {sample.name for sample in list_samples() if not sample.has_examples} == {
        "neutral_prompts",
        "replay_prompts",
        "known_choices",
    }
    assert not {"neutral_prompts", "replay_prompts", "known_choices"} & set(sample_titles())
    assert {"support_triage", "general_probes", "known_facts", "general_reading"} <= set(sample_titles())


def test_every_card_says_how_many_rows_there_are():
    for name in (*PROMPTS, "general_reading"):
        sample = next(sample for sample in list_samples() if sample.name == name)
        ((split, count),) = sample.splits.items()
        text = (sample.path / "README.md").read_text(encoding="utf-8")
        assert f"| {split} | {count} |" in text and "license: apache-2.0" in text
