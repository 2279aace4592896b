"""What an answer names, whatever stands around it: form is not knowing."""

from __future__ import annotations

import pytest

from ftlab.evaluation.metrics.form import label_notes, with_companions
from ftlab.evaluation.metrics.measures import MeasureOptions, measure_answers, suggest
from ftlab.evaluation.verdict import judge
from tests.measured import TRUE, one, value


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ('The label that fits the text is "change_pin".', "change_pin"),
        ("**Change PIN**", "change_pin"),
        ("pin", "pin"),
        ("It could be pin or card-arrival", None),
        ("pinned", None),
        ("It is not change_pin but card_arrival.", "card_arrival"),
        ("This isn't a card_arrival", None),
        ("Not “pin”", None),
        ("Neither pin nor change_pin", None),
        ("card_arrival is not right; pin", "pin"),
        ("It is not only about pin", "pin"),
        ("No, it is pin", "pin"),
        ("", None),
    ],
)
def test_the_label_that_an_answer_names_is_the_longest_and_the_only_one(answer, label):
    labels = ("card_arrival", "change_pin", "pin")
    for right in labels:
        assert value("label_named", answer, right, labels=labels) == float(right == label)


def test_labels_of_one_letter_or_a_number_are_not_found_in_other_words():
    assert value("label_named", "A good choice is (B).", "B", labels=("A", "B")) == 0  # both are named
    assert value("label_named", "It is a clear case of B.", "B", labels=("A", "B")) == 1
    assert value("label_named", "I give it -1.", "-1", labels=("-1", "1")) == 1
    assert value("label_named", "It has 1.5 stars", "1", labels=("1", "2")) == 0


@pytest.mark.parametrize(
    ("answer", "reference", "named"),
    [
        ("The capital of Finland is Helsinki.", "Helsinki", 1.0),
        ("In Helsinkis suburbs", "Helsinki", 0.0),
        ('Sure:\n```json\n{"a": 1}\n```', '{"a": 1.0}', 1.0),
        ('{"a": 1} or {"a": 2}', '{"a": 1}', 0.0),
        ('[1] {"a": [2]}', '{"a": [2]}', 1.0),
        ("It is 1,000 in all.", "1000", 1.0),
        ("First 1000, then 7", "1000", 0.0),
        ("It is not Helsinki.", "Helsinki", 0.0),
        ("The capital isn't Helsinki", "Helsinki", 0.0),
        ("Not Oslo: Helsinki", "Helsinki", 1.0),
        ("It is not 7", "7", 0.0),
        ("I use Python 3.10", "3.1", 0.0),
        ("東京は日本の首都です", "東京", 1.0),
        ("a b c d e f g", "a b c d e f", None),
        ("anything", "", None),
    ],
)
def test_a_reference_that_stands_in_an_answer_is_told_from_one_that_does_not(answer, reference, named):
    assert value("reference_named", answer, reference) == named


def test_what_is_named_is_measured_beside_every_strict_measure_where_the_data_allow_it():
    short, long = ["Paris", "the Danube"], ["A sentence of many more than five words stands here."] * 2
    assert with_companions(["accuracy", "bleu"], short) == ["accuracy", "label_named", "bleu"]
    assert with_companions(["exact_match"], short) == ["exact_match", "reference_named"]
    assert with_companions(["exact_match", "bleu"], long) == ["exact_match", "bleu"]
    names = suggest(short)
    assert with_companions(names, short) == names


def test_what_is_equal_is_named_too():
    answers = ["4", "Paris.", '{"a": 1}', "1/2", "C++"]
    strict, _ = one("exact_match", {"base": answers}, answers)
    named, _ = one("reference_named", {"base": answers}, answers)
    assert strict["values"] == named["values"] == {"base": 1.0}


def test_majority_and_chance_and_answers_that_are_no_label_stand_beside_the_accuracy():
    answers = {"base": ["so bug", "So  bug", "what?"] * 8, "adapted": ["bug"] * 24}
    found, _ = one("accuracy", answers, TRUE, labels=("bug", "praise", "question"), commonest="bug ")
    assert found["detail"]["baselines"] == {"chance": 1 / 3, "label": "bug", "always": 0.5}
    assert found["detail"]["base"]["unlabelled"] == {
        "rows": 24,
        "several": 0,
        "commonest": [["so bug", 8], ["So bug", 8], ["what?", 8]],
    }
    spoken = {"base": "the base", "adapted": "the adapted model"}
    assert label_notes([found], spoken) == [
        "Labels of the base: 24 of 24 answers are no label, such as “so bug” (8), “So bug” (8) and “what?” (8).",
        "Labels of the adapted model: 2 of 3 labels were never given: praise, question.",
    ]


def test_two_letters_are_in_too_many_answers_to_count_as_named():
    assert with_companions(["exact_match"], ["no", "US", "A"] * 4) == ["exact_match"]


def test_a_base_that_lists_the_labels_is_said_to_and_what_it_knows_is_called_unknown():
    listing = ["bug, question or praise"] * 24
    options = MeasureOptions(labels=("bug", "praise", "question"))
    measures, _ = measure_answers(
        ["accuracy", "label_named"], {"base": listing, "adapted": TRUE}, TRUE, options=options
    )
    assert label_notes(measures, {"base": "the base"}) == [
        "Labels of the base: 24 of 24 answers are no label, such as “bug, question or praise” (24); 24 answers name "
        "several labels and count as naming none, as they do not show which label was meant."
    ]
    text = judge(measures, "adapted")["text"]
    assert "answers that name several labels (24 of the base) count as none: of them knowing cannot be told" in text
    del measures[0]["detail"]["base"]["unlabelled"]["several"]  # an older result
    assert label_notes(measures, {"base": "the base"})[0].endswith("(24).")
