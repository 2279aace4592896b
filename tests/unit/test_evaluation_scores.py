"""Metrics, intervals and tests against figures from outside ftlab; the verdict in words."""

from __future__ import annotations

import math

import pytest

from ftlab.config import build_config
from ftlab.evaluation import metrics, significance
from ftlab.evaluation.figures import number, percent
from ftlab.evaluation.metrics.measures import measure_answers
from ftlab.evaluation.rows import changed, what_to_read
from ftlab.evaluation.verdict import next_steps, warnings
from tests.comparisons import score_forgetting

HYPOTHESES = ["The cat sat on the mat today.", "A small dog runs in the park.", "It rains."]
REFERENCES = ["The cat sat on the mat.", "The small dog runs through the park.", "It rains a lot today."]


def test_bleu_is_what_sacrebleu_says_and_carries_its_signature():
    import sacrebleu

    expected = sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score
    found = metrics.score("bleu", HYPOTHESES, REFERENCES)
    assert found["bleu"] == pytest.approx(expected)
    assert found["bleu_signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_perfect_answers_have_bleu_100_and_never_more():
    assert metrics.score("bleu", REFERENCES, REFERENCES)["bleu"] <= 100


@pytest.mark.parametrize(
    ("prediction", "reference", "equal"),
    [
        (" Paris\n", "Paris", True),
        ("paris", "Paris", False),
        ("a  b", "a b", False),
        ('{"hours": 4, "queue": "billing"}', '{"queue":"billing","hours":4.0}', True),
        ('{"hours": "4"}', '{"hours": 4}', True),
        ('{"urgent": 1}', '{"urgent": true}', False),
        ('{"tags": ["a", "b"]}', '{"tags": ["b", "a"]}', False),
        ('{"hours": 4} and more', '{"hours": 4}', False),
        ("[1,2]", "[1, 2]", True),
        ("", '{"hours": 4}', False),
        ("{" * 5000, '{"hours": 4}', False),
    ],
)
def test_exact_match_compares_text_after_strip_and_json_by_value(prediction, reference, equal):
    assert metrics.is_exact(prediction, reference) is equal
    assert metrics.score("exact_match", [prediction], [reference]) == {"exact_match": float(equal)}


@pytest.mark.parametrize(
    ("prediction", "equal"),
    [("Paris", True), ("paris.", True), (" PARIS ! ", True), ("Paris, France", False), ("", False)],
)
def test_a_general_question_is_right_in_any_case_and_with_a_full_stop(prediction, equal):
    assert metrics.is_general_match(prediction, "Paris") is equal
    assert metrics.score("general_accuracy", [prediction], ["Paris"])["general_accuracy"] == float(equal)


def test_the_final_mark_is_ignored_but_not_a_name_like_c_plus_plus():
    assert not metrics.is_general_match("C", "C++")


def test_the_metrics_combine_as_evaluate_modules_do():
    import evaluate

    combined = evaluate.combine([metrics.load("exact_match"), metrics.load("bleu")])
    found = combined.compute(predictions=REFERENCES, references=REFERENCES)
    assert found["exact_match"] == 1
    assert found["bleu"] == pytest.approx(100)


def test_perplexity_as_a_metric_is_over_the_corpus_and_not_the_mean_of_rows():
    # Row one: 3 tokens of probability 1/2; row two: 1 token of 1/16. The mean of the two perplexities would be 9.
    found = metrics.score("perplexity", [3 * math.log(2), math.log(16)], [3, 1])
    assert found == {"perplexity": pytest.approx(128**0.25)}


def test_the_wilson_interval_is_that_of_the_textbook():
    # By hand from Wilson (1927): centre (p + z^2/2n) / (1 + z^2/n), with z = 1.959964, p = 8/10, n = 10.
    z, p, n = 1.959964, 0.8, 10
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert significance.wilson_interval(8, 10) == pytest.approx([centre - half, centre + half], abs=1e-5)
    assert significance.wilson_interval(0, 0) is None


def test_mcnemar_counts_only_the_rows_that_differ():
    base = [True] * 20 + [False] * 30 + [True] + [False] * 9
    adapted = [True] * 20 + [False] * 30 + [False] + [True] * 9
    # One lost, nine gained: two-sided binomial p = 2 * (C(10,0) + C(10,1)) / 2^10.
    assert significance.mcnemar(base, adapted) == pytest.approx(2 * 11 / 1024)
    assert significance.mcnemar(base, base) == 1


def test_the_test_of_losses_gives_the_exact_p_for_few_rows():
    # All 4 differences point one way: of the 16 sign flips only the 2 extreme ones reach it.
    assert significance.exchange_p([-1, -1.5, -0.8, -0.1]) == pytest.approx(2 / 16)
    assert significance.loss_difference([5, 6, 7, 8], [5, 6, 7, 8]) == 1


def test_few_rows_that_all_gain_are_judged_with_one_more_that_lost():
    import numpy as np
    from scipy.stats import ttest_1samp

    # 20 rows whose loss falls by 0.15 to 0.25 of 2. One row in seven may have gone unseen (1 - .05 ** (1 / 20) = .139);
    # with one more that is 5.8 times as far the other way 20 equal rows are no finding ((20 - 2.086) / 3.086).
    gains = np.linspace(0.15, 0.25, 20)
    unseen = 0.139 * 5.806 * 0.75 * 2
    expected = ttest_1samp([*-gains, unseen], 0).pvalue
    assert significance.loss_difference([2.0] * 20, 2.0 - gains) == pytest.approx(expected, rel=0.02)


def test_the_interval_of_the_perplexity_holds_it_and_closes_when_rows_agree():
    low, high = significance.perplexity_interval([10, 12, 8, 30, 11], [10, 10, 10, 10, 10])
    assert low < math.exp(71 / 50) < high
    assert significance.perplexity_interval([math.log(3)] * 5, [1] * 5) == pytest.approx([3, 3])


def test_sides_with_the_same_score_do_not_differ():
    [bleu], _ = measure_answers(["bleu"], {"base": ["No."] * 9, "adapted": ["Yes."] * 9}, ["The cat sat down."] * 9)
    assert bleu["values"] == {"base": 0, "adapted": 0}
    assert bleu["differences"]["adapted"]["p"] == 1


@pytest.mark.parametrize(
    ("p", "text"), [(0.0000001, "p < .001"), (0.0312, "p = .031"), (0.34, "p = .34"), (1.0, "p = 1")]
)
def test_p_is_written_as_people_write_it(p, text):
    assert significance.p_text(p) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.86, "86%"), (0, "0%"), (1, "100%"), (0.975, "97.5%"), (0.0002, "<0.1%"), (0.99996, ">99.9%")]
)
def test_a_share_is_rounded_but_never_to_nothing_or_everything(share, text):
    assert percent(share) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1.0412, "1.04"), (24.31, "24.3"), (431.2, "431"), (1234.5, "1,234"), (2.5e7, "2.5e+07")]
)
def test_a_perplexity_has_three_figures(value, text):
    assert number(value) == text


def scores(**values):
    return {
        "perplexity": 5.0,
        "bleu": 20.0,
        "exact_match": 0.5,
        "general_accuracy": None,
        "rows": 100,
        "truncated_answers": 0,
    } | values


def test_what_was_forgotten_is_warned_of_and_its_remedy_is_named():
    forgetting = score_forgetting({"base": [True] * 97 + [False] * 3, "adapted": [True] * 38 + [False] * 62})
    [note] = warnings(scores(), forgetting=forgetting)
    # The verdict says what was lost.
    assert note.startswith("It forgot.") and "lower strength" in note
    assert all(remedy in note for remedy in ("replay", "learning rate", "epochs"))
    found = {"base": scores(), "adapted": scores(), "verdict": {"better": True}, "forgetting": forgetting}
    strength, replay, *_ = next_steps(found, build_config())
    assert "strength" in strength and "Replay" in replay


def test_a_fall_that_may_be_chance_is_no_warning_and_more_questions_are_the_next_step():
    forgetting = score_forgetting({"base": [True] * 20, "adapted": [True] * 18 + [False] * 2})
    assert warnings(scores(), forgetting=forgetting) == []
    found = {"base": scores(), "adapted": scores(), "verdict": {"better": True}, "forgetting": forgetting}
    assert next_steps(found, build_config())[0].startswith("To tell whether it was kept, ask more general questions")


def test_what_to_read_next_holds_for_as_many_rows_as_there_are():
    def rows(*pairs):
        return [{"scores": {"accuracy": dict(zip(("base", "adapted"), pair, strict=True))}} for pair in pairs]

    accuracy = {"name": "accuracy", "title": "Accuracy", "better": "higher"}
    told = {}
    for name, pairs in {"none": [(0, 1)] * 3, "one": [(1, 0), (0, 1)], "two": [(1, 0)] * 2 + [(1, 1)]}.items():
        found = {"adapted": scores(), "changed": changed(rows(*pairs), [accuracy], "accuracy")}
        told[name] = what_to_read(found)
    assert told["none"].startswith("No answer got worse by accuracy. Read some of those that changed,")
    assert told["one"].startswith("Read the answer that got worse by accuracy, then")
    assert told["two"].startswith("Read the 2 answers that got worse by accuracy, then")
    # Comparisons of earlier versions did not count them.
    assert what_to_read({"adapted": scores()}).startswith("Read the answers that changed, then")
    documents = [{"document": "a", "base_loss": 2.0, "adapted_loss": 2.5}, {"base_loss": 2.0, "adapted_loss": 1.0}]
    found = {"adapted": scores(exact_match=None), "changed": changed(documents, [], "perplexity")}
    assert what_to_read(found).startswith("Read the document that got worse by loss, then")


def test_cut_answers_and_few_rows_are_noted():
    notes = warnings(scores(truncated_answers=30, rows=40))
    assert any("30 of 40" in note for note in notes)
    assert any("Only 40 held-out rows" in note for note in notes)
