"""The verdict in one sentence, what decided it, and what was gained and lost."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from ftlab.evaluation.gain_loss import gain_loss
from ftlab.evaluation.metrics.table import BUILT_IN, loss_measure
from ftlab.evaluation.verdict import judge


def measure(name, before, after, p, *, rows=100, sides=("base", "adapted")):
    """A measure as comparison.json holds it, with the figures of two sides."""
    first, second = sides
    general = "general" if name.startswith("general") else "task"
    info = BUILT_IN[name] if name in BUILT_IN else loss_measure(name, general)
    return asdict(info) | {
        "values": {first: before, second: after},
        "intervals": {first: None, second: None},
        "rows": rows,
        "differences": {second: {"value": after - before, "interval": None, "p": p, "test": "a test"}},
        "detail": None,
    }


def test_a_clear_gain_is_said_in_one_sentence():
    verdict = judge([measure("exact_match", 0.02, 0.86, 1e-9), measure("perplexity", 5, 2, 1e-4)])
    assert verdict["text"] == "The adapted model is better: exact match 86% against 2% (p < .001, 100 rows)."
    assert (verdict["better"], verdict["measure"], verdict["p"]) == (True, "exact_match", 1e-9)


def test_a_clear_loss_is_said_too():
    verdict = judge([measure("exact_match", 0.86, 0.02, 1e-9)])
    assert verdict["text"] == "The adapted model is worse: exact match 2% against 86% (p < .001, 100 rows)."
    assert verdict["better"] is False


def test_a_difference_within_chance_is_not_called_one():
    verdict = judge([measure("exact_match", 0.36, 0.40, 0.34)])
    assert verdict["text"] == "No clear difference: exact match 40% against 36% (p = .34, 100 rows)."
    assert verdict["better"] is None


def test_the_tuned_model_is_judged_against_the_prompted_base_too():
    sides = ("prompted", "adapted")
    verdict = judge([measure("exact_match", 0.4, 0.86, 1e-9, sides=sides)])
    assert verdict["text"].startswith("The adapted model is better than the prompted base: exact match 86% against 40%")
    verdict = judge([measure("exact_match", 0.84, 0.86, 0.6, sides=sides)])
    assert verdict["text"].startswith("No clear difference between the adapted model and the prompted base: exact")


def test_any_run_is_called_by_the_name_that_it_is_given():
    found = [measure("exact_match", 0.4, 0.8, 0.001, sides=("base", "r2"))]
    assert judge(found, "r2")["text"].startswith("The run r2 is better: ")
    assert judge(found, "r2", names={"r2": "the long run"})["text"].startswith("The long run is better: ")


def free_text(before=5.2, after=20.0, p=0.001):
    return [
        measure("exact_match", 0, 0.01, 1),
        measure("bleu", before, after, p),
        measure("perplexity", 24.31, 8.1, 1e-4),
    ]


def test_free_text_is_judged_by_loss_and_overlap_together():
    verdict = judge(free_text())
    assert verdict["better"] is True
    assert verdict["text"] == (
        "The adapted model is better: perplexity of the reference answers 8.10 against 24.3 (p < .001, 100 rows), "
        "BLEU 20.0 against 5.2 (p = .001)."
    )
    assert verdict["why"].startswith("Perplexity and BLEU decide together, because these answers are free text.")


def test_free_text_on_which_loss_and_overlap_disagree_has_no_winner():
    verdict = judge(free_text(before=30, after=10))
    assert verdict["better"] is None
    assert verdict["text"].startswith("The measures disagree: ")


def test_a_better_loss_alone_does_not_prove_better_answers():
    verdict = judge(free_text(before=0, after=0, p=0.22))
    assert verdict["better"] is None
    assert "fits this data better" in verdict["text"]
    assert "is not shown" in verdict["text"]


def test_documents_are_judged_by_how_well_they_are_predicted():
    found = [measure("perplexity", 9, 4, 2e-4, rows=40), measure("bits_per_byte", 2.1, 1.4, 2e-4, rows=40)]
    assert judge(found)["text"] == (
        "The adapted model predicts unseen documents better: perplexity 4.00 against 9.00, 1.40 bits per byte against "
        "2.10 (p < .001, 40 documents)."
    )


@pytest.mark.parametrize(
    ("names", "decides"),
    [
        (["macro_f1", "accuracy", "exact_match"], "accuracy"),
        (["json_valid", "json_fields", "exact_match"], "exact_match"),
        (["number_given", "mean_absolute_error"], "mean_absolute_error"),
        (["chrf", "pattern"], "pattern"),
        (["json_valid"], "json_valid"),
    ],
)
def test_one_measure_decides_whatever_the_order_and_the_reason_is_said(names, decides):
    verdict = judge([*(measure(name, 0.3, 0.7, 0.001) for name in names), measure("perplexity", 5, 2, 0.001)])
    assert verdict["measure"] == decides
    assert f"{BUILT_IN[decides].title} decides, because" in verdict["why"]


def test_the_other_measures_are_told_and_do_not_decide():
    found = [
        measure("exact_match", 0.3, 0.4, 0.02),
        measure("bleu", 30, 40, 0.01),
        measure("chrf", 30, 41, 0.01),
        measure("rouge_l", 0.3, 0.31, 0.6),
        measure("token_f1", 0.5, 0.4, 0.03),
    ]
    verdict = judge(found)
    assert verdict["better"] is True
    assert ", but token F1 is worse: 40% against 50% (p = .030)." in verdict["text"]
    assert verdict["why"].endswith(
        "Of the other measures, BLEU and chrF agree, token F1 says the opposite, ROUGE-L cannot tell; they are shown "
        "and do not decide."
    )


def test_few_whole_answers_right_leave_the_word_to_the_fields_or_the_distance():
    few = measure("exact_match", 0, 0.15, 0.25)
    verdict = judge([few, measure("json_fields", 0.1, 0.6, 0.001)])
    assert verdict["text"].startswith("The adapted model is better: fields right 60% against 10%")
    verdict = judge([few, measure("mean_absolute_error", 7, 2, 0.001)])
    assert verdict["text"].startswith("The adapted model is better: mean absolute error 2.00 against 7.00")
    assert judge([few, measure("bleu", 10, 20, 0.3)])["measure"] == "exact_match"


def test_a_measure_of_ones_own_decides_where_nothing_else_tells_the_answers_apart():
    own = measure("bleu", 0.2, 0.6, 0.001) | {"name": "politeness", "title": "Politeness", "kind": "share"}
    losses = [measure("perplexity", 5, 2, 0.001)]
    verdict = judge([own, *losses])
    assert verdict["text"].startswith("The adapted model is better: politeness 60% against 20%")
    assert "a measure of your own" in verdict["why"]
    assert judge([own, measure("accuracy", 0.5, 0.4, 0.6), *losses])["measure"] == "accuracy"


def test_forgetting_is_part_of_the_verdict():
    found = [measure("exact_match", 0.02, 0.86, 1e-9), measure("general_accuracy", 0.97, 0.38, 1e-9)]
    verdict = judge(found)
    assert verdict["text"].endswith(", but it forgot: general questions (kinds not replayed) 38% against 97%.")
    assert verdict["forgot"] is True
    bits = [measure("exact_match", 0.9, 0.1, 1e-9), measure("general_bits_per_byte", 1, 1.2, 1e-4)]
    assert judge(bits)["text"].endswith(", and it forgot: bits per byte of general documents 1.20 against 1.00.")


def test_what_was_replayed_does_not_hide_what_was_forgotten():
    found = [
        measure("exact_match", 0.02, 0.86, 1e-9),
        measure("general_accuracy", 0.97, 0.68, 1e-6),
        measure("general_accuracy_replayed", 0.97, 0.97, 1.0),
        measure("general_bits_per_byte", 0.61, 0.59, 1e-4),
        measure("general_chat_bits_per_byte", 0.6, 0.7, 1e-4),
    ]
    assert judge(found)["text"].endswith(
        "but it forgot: general questions (kinds not replayed) 68% against 97%, "
        "bits per byte of general chat answers 0.70 against 0.60."
    )
    held = [*found[:1], measure("general_accuracy", 0.97, 0.96, 0.9), *found[2:4]]
    assert judge(held)["forgot"] is False
    lost = [*found[:1], measure("general_accuracy_replayed", 0.97, 0.5, 1e-9)]
    assert judge(lost)["text"].endswith("but it forgot: general questions (replayed kinds) 50% against 97%.")


def test_a_prompted_base_cannot_forget():
    sides = ("base", "prompted")
    found = [measure("exact_match", 0.1, 0.4, 0.001, sides=sides)]
    found.append(measure("general_accuracy", 0.97, 0.5, 1e-9, sides=sides))
    assert judge(found, "prompted")["forgot"] is False


def test_gains_and_losses_are_told_with_their_figures_and_chance_is_neither():
    found = gain_loss(
        [
            measure("exact_match", 0.02, 0.86, 1e-9),
            measure("bleu", 20, 21, 0.4),
            measure("perplexity", 5, 2, 1e-4),
            measure("answer_words", 5, 20, 1e-4),
            measure("repetition", 0.01, 0.11, 0.002),
            measure("general_accuracy", 0.97, 0.38, 1e-9),
        ]
    )
    assert [entry["name"] for entry in found["gained"]] == ["exact_match", "perplexity"]
    assert [entry["name"] for entry in found["lost"]] == ["repetition", "general_accuracy"]
    assert found["gained"][0]["text"] == "Exact match +84 points: 86% against 2% (p < .001)"
    assert found["text"] == (
        "Better in exact match (+84 points) and perplexity (−60%); "
        "worse in repetition (+10 points) and general questions (kinds not replayed) (−59 points)."
    )
    assert found["forgetting"] == pytest.approx(0.59)


def test_a_fall_past_the_limit_is_a_loss_even_where_few_questions_cannot_prove_it():
    found = gain_loss([measure("general_accuracy", 1.0, 0.9, 0.5, rows=10)])
    assert [entry["name"] for entry in found["lost"]] == ["general_accuracy"]


def test_no_change_is_said_to_be_none():
    assert gain_loss([measure("exact_match", 0.4, 0.41, 0.9)])["text"] == (
        "Nothing changed by more than chance explains."
    )
