"""The verdict in one sentence, what decided it, and what was gained and lost."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest

from ftlab.evaluation.forgetting import General, forgetting_of, gain_loss, with_adjusted
from ftlab.evaluation.metrics.table import BUILT_IN, loss_measure
from ftlab.evaluation.verdict import judge
from tests.comparisons import score_forgetting


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


def test_what_clearly_changed_is_said_where_the_measure_that_decides_cannot_tell():
    measures = [measure("json_fields", 0.0, 0.16, 0.14, rows=19), measure("json_valid", 0.0, 1.0, 1e-5, rows=19)]
    measures += [measure("bleu", 0.0, 73.2, 1e-5, rows=19), measure("perplexity", 116, 2, 1e-5, rows=19)]
    verdict = judge(measures)
    assert verdict["better"] is None and verdict["measure"] == "json_fields"
    assert verdict["text"] == (
        "No clear difference: fields right 16% against 0% (p = .14, 19 rows); clearly better: valid JSON 100% against "
        "0% (p < .001) and BLEU 73.2 against 0.0 (p < .001)."
    )


def test_a_later_pair_is_judged_by_what_decided_the_first():
    """A tuned model that retrieves loses every field, as the base that retrieves does: BLEU must not make it better."""
    pair = [measure("json_fields", 0.0, 0.0, 1.0), measure("bleu", 0.0, 44.5, 1e-5), measure("perplexity", 9, 3, 1e-5)]
    assert judge(pair)["better"] is True
    verdict = judge(pair, by="json_fields")
    assert verdict["better"] is None and verdict["measure"] == "json_fields"
    assert judge(pair, by="accuracy") == judge(pair)  # neither side has it


def test_rows_too_few_for_any_difference_are_said_to_be():
    few = judge([measure("exact_match", 0, 1, 0.13, rows=4)])
    assert few["text"].endswith("(p = .13, 4 rows). 4 rows cannot show a difference: at least 6 are needed.")
    assert "cannot show" not in judge([measure("exact_match", 0.4, 0.6, 0.3, rows=6)])["text"]


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
    assert "not shown to be better" in verdict["text"]


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
        measure("bleu", 30, 40, 0.001),
        measure("chrf", 30, 41, 0.001),
        measure("rouge_l", 0.3, 0.31, 0.6),
        measure("token_f1", 0.5, 0.4, 0.003),
    ]
    verdict = judge(found)
    assert verdict["better"] is True
    assert ", but token F1 is worse: 40% against 50% (p = .003)." in verdict["text"]
    assert verdict["why"].endswith(
        "Of the other measures, BLEU and chrF agree, token F1 says the opposite, ROUGE-L cannot tell; they are shown "
        "but do not decide."
    )


def test_few_whole_answers_right_leave_the_word_to_the_fields_or_the_distance():
    few = measure("exact_match", 0, 0.15, 0.25)
    verdict = judge([few, measure("json_fields", 0.1, 0.6, 0.001)])
    assert verdict["text"].startswith("The adapted model is better: fields right 60% against 10%")
    verdict = judge([few, measure("mean_absolute_error", 7, 2, 0.001)])
    assert verdict["text"].startswith("The adapted model is better: mean absolute error (capped) 2.00 against 7.00")
    assert judge([few, measure("bleu", 10, 20, 0.3)])["measure"] == "exact_match"


def test_a_measure_of_ones_own_decides_where_nothing_else_tells_the_answers_apart():
    own = measure("bleu", 0.2, 0.6, 0.001) | {"name": "politeness", "title": "Politeness", "kind": "share"}
    losses = [measure("perplexity", 5, 2, 0.001)]
    verdict = judge([own, *losses])
    assert verdict["text"].startswith("The adapted model is better: politeness 60% against 20%")
    assert "a measure of your own" in verdict["why"]
    assert judge([own, measure("accuracy", 0.5, 0.4, 0.6), *losses])["measure"] == "accuracy"


def forgotten(lost, gained, asked, *, known, limit=0.05):
    """What forgetting.py says of `asked` general questions of which the base knew `known`."""
    base = [True] * known + [False] * (asked - known)
    adapted = [False] * lost + [True] * (known - lost + gained) + [False] * (asked - known - gained)
    return score_forgetting({"base": base, "adapted": adapted}, limit=limit)


def labels(strict, lenient, p=0.001, *, name="label_named"):
    return [measure("accuracy", *strict, 1e-9), measure(name, *lenient, p)]


def test_a_gain_is_divided_into_form_and_knowing():
    verdict = judge(labels((0.0, 0.61), (0.4, 0.62)))
    assert verdict["better"] is True
    assert verdict["text"] == (
        "The adapted model is better: accuracy 61% against 0% (p < .001, 100 rows); of these 61 points 39 are form and "
        "22 knowing: the right label stands in 62% of the answers against 40% (p = .001)."
    )
    unproven = judge(labels((0.0, 0.61), (0.58, 0.62), 0.6))["text"]
    assert unproven.startswith("The adapted model is better in form: accuracy 61% against 0%")
    assert "; no evidence that it knows more: the right label stands in 62% of the answers against 58%" in unproven
    assert "; none of that is form: the right label" in judge(labels((0.2, 0.5), (0.2, 0.52)))["text"]
    # Where nothing stands around the labels there is nothing to divide.
    assert judge(labels((0.2, 0.5), (0.2, 0.5)))["text"].endswith("accuracy 50% against 20% (p < .001, 100 rows).")


def test_better_in_form_and_worse_in_knowing_is_not_called_better():
    # SmolLM2 on one-word questions before and after it was tuned on intents: 1 and 28 equal, 62 and 54 named.
    found = [measure("exact_match", 0.005, 0.14, 1e-6, rows=200), measure("reference_named", 0.31, 0.21, 0.01)]
    verdict = judge(found)
    assert verdict["better"] is None
    assert verdict["text"].startswith(
        "The adapted model is better in form and worse in knowing: exact match 14% against"
    )
    assert "the reference stands in 21% of the answers against 31%" in verdict["text"]
    assert verdict["text"].count("31%") == 1  # said once, not as a loss beside it again


def test_where_no_answer_is_the_reference_alone_what_they_hold_decides():
    found = [measure("exact_match", 0.0, 0.01, 0.9), measure("reference_named", 0.31, 0.5, 0.01)]
    verdict = judge([*found, measure("token_f1", 0.2, 0.3, 0.01), measure("perplexity", 5, 2, 0.001)])
    assert (verdict["measure"], verdict["better"]) == ("reference_named", True)
    assert "because hardly any answer equals its reference, but more hold it" in verdict["why"]


def test_where_likelihood_was_measured_it_tells_what_is_known():
    likely = measure("accuracy", 0.5, 0.6, 0.04) | {"name": "likelihood_accuracy"}
    text = judge([*labels((0.0, 0.61), (0.4, 0.62)), likely])["text"]
    assert "51 are form and 10 knowing: the right label is the likeliest in 60% of the rows against 50%" in text


def test_forgetting_is_part_of_the_verdict():
    found = [measure("exact_match", 0.02, 0.86, 1e-9), measure("general_accuracy", 0.97, 0.38, 1e-9)]
    verdict = judge(found, forgetting=forgotten(59, 0, 100, known=97))
    assert verdict["text"].endswith("; what the base knew: lost, general questions 38% against 97%.")
    assert (verdict["forgot"], verdict["forgetting"]) == (True, "lost")
    one_bit, sizes = [100 * math.log(2)] * 30, [100] * 30
    more = score_forgetting(None, {"base": one_bit, "adapted": [1.2 * nll for nll in one_bit]}, sizes)
    worse = judge([measure("exact_match", 0.9, 0.1, 1e-9)], forgetting=more)
    assert worse["text"].endswith("; what the base knew: lost, bits per byte of general text 1.20 against 1.00.")


def test_a_gain_says_whether_anything_was_forgotten_or_that_nobody_can_tell():
    found = [measure("exact_match", 0.02, 0.86, 1e-9)]
    few = judge(found, forgetting=forgotten(1, 1, 20, known=19))
    assert (few["forgot"], few["forgetting"]) == (False, "unknown")
    assert few["text"].endswith("(p < .001, 100 rows); what the base knew: cannot tell.")
    kept = judge(found, forgetting=forgotten(1, 0, 200, known=190))
    assert kept["forgetting"] == "kept" and kept["text"].endswith("(p < .001, 100 rows); what the base knew: kept.")
    assert judge(found)["forgetting"] is None, "nothing general was asked"


def test_the_limit_that_is_set_is_the_one_that_judges():
    # 8 of 100 are lost and 5 gained: a fall of 3 points, told from 20 points and not from 5.
    found = [measure("exact_match", 0.02, 0.86, 1e-9)]
    assert judge(found, forgetting=forgotten(8, 5, 100, known=95, limit=0.2))["forgetting"] == "kept"
    assert judge(found, forgetting=forgotten(8, 5, 100, known=95, limit=0.05))["forgetting"] == "unknown"


def test_what_was_replayed_does_not_hide_what_was_forgotten():
    def questions(name, title, right):
        base = [True] * 97 + [False] * 3
        return General(name, title, {"base": base, "adapted": [True] * right + [False] * (100 - right)})

    def text(name, title, factor):
        bits, sizes = [100 * math.log(2)] * 120, [100] * 120
        return General(name, title, losses={"base": bits, "adapted": [factor * one for one in bits]}, sizes=sizes)

    found = [measure("exact_match", 0.02, 0.86, 1e-9)]
    held = questions("general_accuracy_replayed", "general questions (replayed kinds)", 97)
    documents = text("general_bits_per_byte", "general documents", 0.97)
    lost = questions("general_accuracy", "general questions (kinds not replayed)", 68)
    every = [lost, held, documents, text("general_chat_bits_per_byte", "general chat answers", 1.2)]
    assert judge(found, forgetting=forgetting_of(every))["text"].endswith(
        "; what the base knew: lost, general questions (kinds not replayed) 68% against 97% and "
        "bits per byte of general chat answers 1.20 against 1.00."
    )
    assert judge(found, forgetting=forgetting_of([held, documents]))["forgetting"] == "kept"


def test_a_prompted_base_cannot_forget():
    found = [measure("exact_match", 0.1, 0.4, 0.001, sides=("base", "prompted"))]
    assert judge(found, "prompted", forgetting=forgotten(50, 0, 100, known=97))["forgot"] is False


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


def test_of_a_list_only_what_holds_among_all_of_it_is_a_finding_and_the_rest_are_looks():
    found = [
        measure("exact_match", 0.40, 0.48, 0.03),
        measure("bleu", 20, 26, 0.0001),
        measure("chrf", 20, 21, 0.2),
        measure("answer_words", 5, 20, 1e-4),
    ]
    told = gain_loss(found)
    # Of three measures with a better and a worse, .03 counts as the second smallest: .06.
    assert [one["p_adjusted"] for one in (m["differences"]["adapted"] for m in with_adjusted(found[:3]))] == (
        pytest.approx([0.06, 0.0003, 0.2])
    )
    assert [entry["name"] for entry in told["gained"]] == ["bleu"]
    assert [entry["name"] for entry in told["looks"]] == ["exact_match"]
    assert told["text"] == (
        "Better in BLEU (+6.0); no loss is shown. Below 5% only on its own, so worth a look but not a finding: "
        "exact match (+8 points)."
    )
    # What decides was chosen before, and stands by itself.
    assert judge(found)["better"] is True


def test_no_change_is_said_to_be_none_that_is_shown():
    assert gain_loss([measure("exact_match", 0.4, 0.41, 0.9)])["text"] == "No change is shown."


def test_a_verdict_by_distance_says_how_many_answers_gave_no_number():
    silent = measure("mean_absolute_error", 7, 20, 1e-6) | {
        "detail": {"cap": 60.0, "missing": {"base": 0, "adapted": 75}, "capped": {"base": 0, "adapted": 0}}
    }
    assert judge([silent])["text"].endswith(
        "(p < .001, 100 rows; answers without a number: 75 against 0, each counted as 60 off)."
    )
