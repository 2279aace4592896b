"""The sample data sets: what ships is what the scripts write, keeps to its stated rules, and is split honestly."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from ftlab.errors import InputError
from ftlab.samples import list_samples, sample_path
from ftlab.samples.generate.__main__ import GENERATORS, to_jsonl
from ftlab.samples.generate.triage import build_tickets
from ftlab.samples.generate.triage_wording import HOURS, PROBLEMS
from ftlab.samples.house_style import RULES, follows_house_style

ROWS = {
    "support_triage": {"train": 600, "validation": 100, "test": 100},
    "brand_voice": {"train": 400, "validation": 60, "test": 60},
    "brand_voice_preferences": {"train": 220, "validation": 40, "test": 40},
}


def read(name: str, split: str) -> list[dict[str, str]]:
    lines = (sample_path(name) / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def read_all(name: str) -> list[dict[str, str]]:
    return [row for split in ROWS[name] for row in read(name, split)]


def trigrams(text: str) -> set[str]:
    # Written apart from the generator's own measure, with plain splitting on spaces.
    words = [word.strip(".,?!") for word in text.lower().split()]
    return {" ".join(words[i : i + 3]) for i in range(len(words) - 2)}


def highest_overlap(some: list[str], others: list[str]) -> float:
    ones, twos = [trigrams(text) for text in some], [trigrams(text) for text in others]
    return max(len(one & two) / len(one | two) for one in ones for two in twos)


@pytest.mark.parametrize("name", GENERATORS)
def test_shipped_files_are_what_the_scripts_write(name):
    for split, rows in GENERATORS[name]().items():
        assert (sample_path(name) / f"{split}.jsonl").read_bytes() == to_jsonl(rows).encode("ascii")


@pytest.mark.parametrize("name", ROWS)
def test_row_counts_are_as_promised(name):
    sample = next(sample for sample in list_samples() if sample.name == name)
    assert sample.splits == ROWS[name]
    assert list(sample.splits) == ["train", "validation", "test"]
    assert {split: len(read(name, split)) for split in ROWS[name]} == ROWS[name]


def test_every_sample_has_a_card_with_license_and_a_sentence_for_the_page():
    for sample in list_samples():
        if sample.name in ROWS:
            card = (sample.path / "README.md").read_text(encoding="ascii")
            assert card.startswith("---\n") and "license: apache-2.0" in card and "- en\n" in card
            assert "python -m ftlab.samples.generate" in card
        assert sample.title and sample.description.endswith(".")


def test_an_unknown_sample_is_refused_with_the_nearest_name():
    with pytest.raises(InputError) as caught:
        sample_path("suport_triage")
    assert "support_triage" in caught.value.try_ and caught.value.given == "suport_triage"
    with pytest.raises(InputError):
        sample_path("../models")


@pytest.mark.parametrize("name", ROWS)
def test_no_prompt_occurs_twice_in_any_split(name):
    prompts = [row["prompt"].lower() for row in read_all(name)]
    assert len(set(prompts)) == len(prompts)


@pytest.mark.parametrize(
    ("name", "bound"), [("support_triage", 0.65), ("brand_voice", 0.7), ("brand_voice_preferences", 0.7)]
)
def test_held_out_prompts_are_no_near_copies_of_training_prompts(name, bound):
    train, validation, test = ([row["prompt"] for row in read(name, split)] for split in ROWS[name])
    assert highest_overlap(test, train) < bound
    assert highest_overlap(validation, train) < bound
    assert highest_overlap(test, validation) < bound


def test_preference_prompts_are_no_near_copies_of_brand_voice_prompts():
    replies = [row["prompt"] for row in read_all("brand_voice")]
    assert highest_overlap([row["prompt"] for row in read_all("brand_voice_preferences")], replies) < 0.7


@pytest.mark.parametrize("name", ROWS)
def test_every_text_is_plain_ascii_on_one_line_without_stray_spaces_or_open_slots(name):
    for row in read_all(name):
        for text in row.values():
            assert text.isascii() and text == " ".join(text.split())
            if not text.startswith('{"queue"'):
                assert "{" not in text and "}" not in text
                assert not re.search(r" [,.?!]|\.\.|,,", text)


# The rules of the card, written down a second time as patterns: what a careful reader would go by.
QUEUE_AND_HOURS = [  # the first pattern that is found decides
    (r"invoice|receipt|twice|two payments|two times|paid double", "billing", 2),
    (r"stranger|thief|someone else|never made|password|log in|locked out", "account", 2),
    (r"connect|app cannot find|signal|talks to|turn on|turns off|is dead|does nothing|no power", "technical", 8),
    (r"driver lost|but i never got|nobody at the post|wrong house|stolen from my door", "shipping", 4),
    (r"not arrived|should have come|is late|still not here|still waiting for the parcel", "shipping", 4),
    (r"send the \w+( \w+)? back|return it|send it back|give it back", "returns", 4),
    (r"broken|crack|in pieces|damaged|bent", "returns", 4),
    (r"in stock|still have|sold out|still for sale", "products", 1),
    (r"name on it|my own size|color that we choose|own drawing|sign of our team", "products", 1),
]
HIGH = r"urgent|today|help me right now|at once|cannot work|act fast"
LOW = r"no hurry|take your time|until next month|no rush|not important|do not mind"
NUMBER = r"(three|four|five|six|seven|eight|nine|ten|twelve|twenty|\d{1,2})"
SLIPS = {"hvae": "have", "wiht": "with", "teh": "the", "adn": "and", "becuase": "because", "orderd": "ordered"}
SEVERAL = rf"\b{NUMBER} (more|orders|of (my|us|them)|people)\b|\ball {NUMBER} that\b"


def triage_by_rule(message: str) -> dict[str, object]:
    text = message.lower()
    for slip, word in SLIPS.items():
        text = re.sub(rf"\b{slip}\b", word, text)
    queue, hours = next((queue, hours) for pattern, queue, hours in QUEUE_AND_HOURS if re.search(pattern, text))
    priority = "high" if re.search(HIGH, text) else "low" if re.search(LOW, text) else "normal"
    return {"queue": queue, "priority": priority, "hours": hours * (2 if re.search(SEVERAL, text) else 1)}


def test_every_triage_answer_follows_the_stated_rules_from_the_message_alone():
    for row in read_all("support_triage"):
        answer = json.loads(row["completion"])
        assert answer == triage_by_rule(row["prompt"]), row["prompt"]
        assert row["completion"] == json.dumps(answer) and list(answer) == ["queue", "priority", "hours"]


def test_the_card_states_the_queue_and_hours_of_every_problem():
    card = (sample_path("support_triage") / "README.md").read_text(encoding="ascii")
    stated = re.findall(r"^\| ([\w ]+) \| (\w+) \| (\d+) \|", card, re.MULTILINE)
    assert stated == [(problem.name, problem.queue, str(HOURS[problem.queue])) for problem in PROBLEMS]


@pytest.mark.parametrize("split", ROWS["support_triage"])
def test_triage_labels_are_spread_in_every_split(split):
    rows = [json.loads(row["completion"]) for row in read("support_triage", split)]
    queues, priorities, hours = (Counter(row[key] for row in rows) for key in ("queue", "priority", "hours"))
    assert len(queues) == 6 and min(queues.values()) >= 0.08 * len(rows)
    assert set(priorities) == {"low", "normal", "high"} and min(priorities.values()) >= 0.15 * len(rows)
    assert set(hours) == {1, 2, 4, 8, 16} and max(hours.values()) <= 0.4 * len(rows)


def test_triage_messages_have_15_to_45_words():
    lengths = [len(row["prompt"].split()) for row in read_all("support_triage")]
    assert min(lengths) >= 15 and max(lengths) <= 45


def test_held_out_triage_rows_combine_known_phrases_anew():
    built = build_tickets()
    pairs = {split: {ticket.pair for ticket in tickets} for split, tickets in built.items()}
    assert not pairs["test"] & pairs["train"] and not pairs["validation"] & pairs["train"]
    for place in (0, 1):  # but each phrase and each cue by itself was seen, several times, in training
        trained = Counter(ticket.pair[place] for ticket in built["train"])
        assert {pair[place] for pair in pairs["test"] | pairs["validation"]} <= set(trained)
        assert min(trained.values()) >= 5


def test_every_brand_voice_reply_keeps_to_the_house_style():
    for row in read_all("brand_voice"):
        assert follows_house_style(row["completion"], prompt=row["prompt"]) == [], row["completion"]
        assert 15 <= len(row["completion"].split()) <= 40


def test_every_chosen_answer_keeps_to_the_house_style_and_every_rejected_breaks_one_to_three_rules():
    broken = Counter()
    for row in read_all("brand_voice_preferences"):
        assert follows_house_style(row["chosen"], prompt=row["prompt"]) == []
        rules = follows_house_style(row["rejected"])
        assert 1 <= len(rules) <= 3, row["rejected"]
        broken.update(rules)
    assert set(broken) == set(RULES) and min(broken.values()) >= 30


@pytest.mark.parametrize("split", ROWS["brand_voice_preferences"])
def test_length_alone_does_not_tell_chosen_from_rejected(split):
    rows = read("brand_voice_preferences", split)
    for size in (len, lambda text: len(text.split())):
        longer = sum(size(row["chosen"]) > size(row["rejected"]) for row in rows)
        shorter = sum(size(row["chosen"]) < size(row["rejected"]) for row in rows)
        assert 0.4 <= longer / len(rows) <= 0.6 and 0.4 <= shorter / len(rows) <= 0.6


GOOD = "Hi Anna, we have the lamp in blue. It is on the shelf. Just ask if you need more help. Iris at Pinebrook"


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        (GOOD, []),
        (GOOD + ".", []),
        (GOOD.replace("Hi Anna, we", "We"), ["greeting"]),
        (GOOD.replace("Anna", "there"), ["greeting"]),
        (GOOD.replace("Hi Anna", "Dear Customer"), ["greeting"]),
        (GOOD.replace("shelf.", "shelf!"), ["calm"]),
        (GOOD.replace("It is", "Unfortunately it is"), ["plain words"]),
        (GOOD.replace("It is", "It's"), ["full forms"]),
        (GOOD.replace("the shelf", "the shelf by the door that leads to our garden"), ["short sentences"]),
        (GOOD.replace(" Just ask if you need more help.", ""), ["offer"]),
        (GOOD.replace(" Iris at Pinebrook", ""), ["sign-off"]),
        (GOOD.replace("Iris at Pinebrook", "The Pinebrook team"), ["offer", "sign-off"]),
        ("", ["greeting", "offer", "sign-off"]),
    ],
)
def test_the_style_check_names_each_broken_rule(text, broken):
    assert follows_house_style(text) == broken


def test_the_style_check_compares_the_name_with_the_prompt():
    assert follows_house_style(GOOD, prompt="Anna here. Do you have a blue lamp?") == []
    assert follows_house_style(GOOD, prompt="Ben here. Do you have a blue lamp?") == ["greeting"]


def test_generating_into_another_folder_leaves_the_shipped_files_alone(tmp_path: Path):
    from ftlab.samples.generate.__main__ import main

    main(["support_triage", "--into", str(tmp_path)])
    assert sorted(path.name for path in tmp_path.rglob("*.jsonl")) == ["test.jsonl", "train.jsonl", "validation.jsonl"]
    with pytest.raises(SystemExit) as stopped:
        main(["no_such_sample"])
    assert stopped.value.code == 2
