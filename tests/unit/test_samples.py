"""Several answers to each row: the row's value is their mean, the row is what is drawn, and pass^k wants all right."""

from __future__ import annotations

import pytest
import sacrebleu

from ftlab.config import build_config
from ftlab.errors import InputError
from ftlab.evaluation.keeping import ToAnswer
from ftlab.evaluation.metrics.measures import MeasureOptions, measure_answers
from ftlab.evaluation.rows import measure_samples, right_of
from ftlab.report.findings import choose_examples, right_text
from ftlab.training.preflight.asking import Amount, amount_of

REFERENCES = ["red", "blue", "red", "green", "blue", "green", "red", "blue", "green", "red"]


def answers(right, k):
    """k lists of answers, of which the first `right[i]` to row i are right."""
    return [
        [ref if sample < count else "none" for ref, count in zip(REFERENCES, right, strict=True)] for sample in range(k)
    ]


SIDES = {"base": answers([0, 1, 0, 0, 2, 0, 1, 0, 0, 0], 3), "adapted": answers([3, 3, 2, 1, 3, 0, 3, 2, 3, 1], 3)}


def named(measures):
    return {measure["name"]: measure for measure in measures}


def test_a_row_counts_with_the_mean_over_its_answers_and_pass_k_with_all_of_them():
    measures, rows = measure_samples(["exact_match"], SIDES, REFERENCES)
    found = named(measures)
    assert list(found) == ["exact_match", "pass_k"]
    assert found["exact_match"]["values"] == {"base": pytest.approx(4 / 30), "adapted": pytest.approx(21 / 30)}
    assert found["exact_match"]["rows"] == 10 and found["exact_match"]["title"] == "Exact match"
    assert rows["exact_match"]["adapted"] == pytest.approx([1, 1, 2 / 3, 1 / 3, 1, 0, 1, 2 / 3, 1, 1 / 3])
    assert found["pass_k"]["values"] == {"base": 0.0, "adapted": 0.5} and found["pass_k"]["title"] == "pass^3"
    # Wilson of 5 in 10 (Newcombe 1998), and McNemar where five rows were won and none lost: 2 / 2**5.
    assert found["pass_k"]["intervals"]["adapted"] == pytest.approx([0.2366, 0.7634], abs=1e-4)
    assert found["pass_k"]["differences"]["adapted"]["p"] == pytest.approx(2 / 32)
    assert right_of(rows, 2, 3) == {"base": 0, "adapted": 2}


def test_answers_to_one_row_are_no_rows_of_their_own():
    alike = {side: [given[0]] * 5 for side, given in SIDES.items()}
    once = {side: given[0] for side, given in SIDES.items()}
    names = ["exact_match", "accuracy", "macro_f1", "bleu", "chrf", "rouge_l", "token_f1", "repetition", "length_ratio"]
    options = MeasureOptions(labels=("blue", "green", "red"))
    many, plain = (
        named(measure(names, given, REFERENCES, options=options)[0])
        for measure, given in ((measure_samples, alike), (measure_answers, once))
    )
    for name in names:
        new, old = many[name], plain[name]
        assert new["rows"] == old["rows"] == 10
        for side in SIDES:
            assert new["values"][side] == pytest.approx(old["values"][side]), name
            assert new["intervals"][side] == pytest.approx(old["intervals"][side]), name
        new, old = new["differences"]["adapted"], old["differences"]["adapted"]
        assert new["interval"] == pytest.approx(old["interval"]), name
        assert new["p"] == pytest.approx(old["p"], abs=0.02), name


def test_rows_that_belong_together_stay_together():
    alike = {side: [given[0]] * 5 for side, given in SIDES.items()}
    once = {side: given[0] for side, given in SIDES.items()}
    options = MeasureOptions(clusters=(0, 0, 0, 1, 1, 2, 2, 3, 3, 4))
    names = ["exact_match", "bleu"]
    many, plain = (
        named(measure(names, given, REFERENCES, options=options)[0])
        for measure, given in ((measure_samples, alike), (measure_answers, once))
    )
    for name in names:
        for one in (many, plain):
            assert one[name]["intervals"]["adapted"] is not None
        assert many[name]["intervals"]["adapted"] == pytest.approx(plain[name]["intervals"]["adapted"]), name
    assert many["pass_k"]["differences"]["adapted"]["clusters"] == 5


def test_bleu_of_several_answers_is_that_of_all_of_them():
    references = ["the cat sat on the mat today", "a dog ran over the green hill"]
    given = [["the cat sat on the mat", "a dog ran"], ["the cat on the mat today", "a dog ran over a green hill"]]
    measures, _ = measure_samples(["bleu"], {"base": given, "adapted": given}, references)
    expected = sacrebleu.corpus_bleu([*given[0], *given[1]], [references * 2]).score
    assert measures[0]["values"]["base"] == pytest.approx(expected) and measures[0]["rows"] == 2


def test_one_answer_is_measured_as_ever():
    one = {side: given[:1] for side, given in SIDES.items()}
    once = {side: given[0] for side, given in SIDES.items()}
    names = ["exact_match", "bleu"]
    assert measure_samples(names, one, REFERENCES) == measure_answers(names, once, REFERENCES)


@pytest.mark.parametrize("settings", [{"samples": 3}, {"samples": 3, "temperature": 0}])
def test_several_greedy_answers_are_refused_in_one_message(settings):
    with pytest.raises(InputError, match=r"temperature.*above 0 if evaluation.samples.*same answer each time"):
        build_config({"evaluation": settings})
    assert build_config({"evaluation": settings | {"temperature": 0.7}}).evaluation.samples == 3


def test_examples_go_by_how_many_answers_are_right_and_say_so():
    def row(number, base, adapted):
        right = {"base": base, "adapted": adapted}
        first = {"base_correct": base > 0, "adapted_correct": adapted > 0, "base": "a", "adapted": "b"}
        return {"row": number, "samples": 3, "right": right} | first

    chosen, rule = choose_examples([row(0, 1, 3), row(1, 2, 1), row(2, 0, 0), row(3, 3, 3), row(4, 2, 2)])
    kinds = {one["row"]: one["kind"] for one in chosen}
    assert kinds[0] == "improved" and kinds[1] == "got worse" and kinds[4] == "equally often right on both sides"
    assert "1 equally often right on both sides" in rule
    assert right_text(chosen[0], "base") == " (first of 3 answers, 1 right)"
    assert right_text({"row": 1}, "base") == ""


def test_the_estimate_counts_every_answer():
    one = {"answers": ToAnswer([[1, 2], [3]], 8, None), "probes": ToAnswer([[1]], 8, None)}
    three = one | {f"answers_of_sample_{n}": ToAnswer([[1, 2], [3]], 8, None, 0.7, n) for n in (2, 3)}
    lengths = {"answers": 5.0, "probes": 1.0}
    assert amount_of(one, lengths, once=False) == Amount(read=4, written=11)
    assert amount_of(three, lengths, once=False) == Amount(read=10, written=31)
