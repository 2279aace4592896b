"""Measures of answers: each against figures worked out by hand or by a library that ftlab does not use for it."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ftlab.data.final_number import find_number, last_number
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation import metrics, significance
from ftlab.evaluation.metrics.measures import (
    NAMES,
    MeasureOptions,
    check_measures,
    describe,
    measure_answers,
    measure_likelihoods,
    measure_losses,
    suggest,
)
from ftlab.evaluation.metrics.own import name_files
from ftlab.evaluation.metrics.text import (
    code_parses,
    fields_right,
    is_number,
    is_valid_json,
    schema_validator,
    token_f1,
)
from tests.measured import TRUE, one, value

REFERENCES = ["The cat sat on the mat.", "The small dog runs through the park.", "It rains a lot today."] * 5
BASE = ["A cat sat on a mat today.", "A small dog runs in the park.", "It rains."] * 5
ADAPTED = REFERENCES[:9] + BASE[9:]


def test_the_module_is_light_enough_for_forms_and_help_texts():
    heavy = "{'torch', 'numpy', 'scipy', 'sklearn', 'evaluate', 'datasets', 'transformers', 'nltk', 'sacrebleu'}"
    code = f"import sys, ftlab.evaluation.metrics.measures; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# Text


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_corpus_scores_and_their_p_are_those_of_sacrebleu(name):
    from sacrebleu.metrics import BLEU, CHRF
    from sacrebleu.significance import PairedTest

    metric = {"bleu": BLEU, "chrf": CHRF}[name]()
    found, _ = one(name, {"base": BASE, "adapted": ADAPTED}, REFERENCES)
    assert found["values"]["base"] == pytest.approx(metric.corpus_score(BASE, [REFERENCES]).score)
    assert found["values"]["adapted"] == pytest.approx(metric.corpus_score(ADAPTED, [REFERENCES]).score)
    assert found["rule"] == f"sacrebleu, {metric.get_signature()}"
    systems = [("base", BASE), ("adapted", ADAPTED)]
    # Its bootstrap calls 10 to 19% of equal systems different; its approximate randomisation keeps to 5%, as ours.
    _, scores = PairedTest(systems, {name: metric}, [REFERENCES], test_type="ar", n_samples=2000)()
    [results] = [scores[key] for key in scores if key != "System"]
    assert found["differences"]["adapted"]["p"] == pytest.approx(results[1].p_value, abs=0.03)
    low, high = found["intervals"]["adapted"]
    assert low < found["values"]["adapted"] < high


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_counts_of_rows_add_up_to_the_score_of_any_part_of_the_corpus(name):
    from sacrebleu.metrics import BLEU, CHRF

    from ftlab.evaluation.metrics.text import corpus_metric, row_counts, score_of_counts

    metric = corpus_metric(name, REFERENCES)
    counts = row_counts(metric, ADAPTED, REFERENCES)
    expected = {"bleu": BLEU, "chrf": CHRF}[name]().corpus_score(ADAPTED[7:12], [REFERENCES[7:12]]).score
    assert score_of_counts(metric, counts[7:12].sum(axis=0)[None])[0] == pytest.approx(expected)


def test_bleu_of_scripts_without_spaces_is_by_characters_and_says_so():
    import sacrebleu

    answers, references = ["今日は雨が降ります。"], ["今日は雪が降ります。"]
    found, _ = one("bleu", {"base": answers}, references)
    assert found["values"]["base"] == pytest.approx(sacrebleu.corpus_bleu(answers, [references], tokenize="char").score)
    assert "tok:char" in found["rule"]


@pytest.mark.parametrize(
    ("answer", "name", "expected"),
    [
        # Lin (2004), section 3.1, against "police killed the gunman": the longest common sequences hold 3 and 2 words.
        ("police kill the gunman", "rouge_l", 3 / 4),
        ("the gunman kill police", "rouge_l", 2 / 4),
        ("police kill the gunman", "rouge2", 1 / 3),
        ("the gunman kill police", "rouge2", 1 / 3),
        ("the gunman kill police", "rouge1", 3 / 4),
    ],
)
def test_rouge_is_that_of_the_example_in_its_paper(answer, name, expected):
    assert value(name, answer, "police killed the gunman") == pytest.approx(expected)


def test_rouge_reads_letters_beyond_a_to_z():
    assert value("rouge1", "größe über alles", "größe über viel") == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("answer", "reference", "f1"),
    [
        # Precision 2/3, recall 2/2.
        ("in Paris, France", "Paris, France", 0.8),
        ("The Eiffel Tower!", "eiffel tower", 1.0),
        ("a a", "the", 1.0),
        ("", "Paris", 0.0),
        ("東京です", "東京", 2 * (2 / 4) * 1 / (2 / 4 + 1)),
        ("cafe\u0301 \u200bcre\u0300me", "Caf\u00e9 cr\u00e8me", 1.0),
    ],
)
def test_token_f1_is_that_of_squad(answer, reference, f1):
    assert token_f1(answer, reference) == pytest.approx(f1)


def test_style_is_measured_and_never_decides_what_is_better():
    answers = {"base": ["a b c a b c", "x"], "adapted": ["a b", "x y z"]}
    found, rows = measure_answers(["answer_words", "length_ratio", "repetition"], answers, ["a b c", "x"])
    words, ratio, repetition = found
    assert words["values"] == {"base": 3.5, "adapted": 2.5}
    assert ratio["values"] == {"base": 7 / 4, "adapted": 5 / 4}
    # Of the triples abc, bca, cab, abc the last one was there before; the other answer is too short for any.
    assert rows["repetition"]["base"] == [0.25, 0.0]
    assert repetition["values"]["base"] == 0.125
    assert {measure["group"] for measure in found} == {"style"}


# JSON, code, patterns, numbers


@pytest.mark.parametrize(
    ("answer", "valid"),
    [
        ('{"a": 1}', True),
        (" [1, 2]\n", True),
        ("4", False),
        ('{"a": NaN}', False),
        ('{"a": 1} indeed', False),
        ('```json\n{"a": 1}\n```', False),
        ("[" * 100_000, False),
    ],
)
def test_json_must_be_an_object_or_a_list_and_nothing_around_it(answer, valid):
    assert is_valid_json(answer) is valid


SCHEMA = {
    "type": "object",
    "properties": {
        "queue": {"enum": ["billing", "shipping"]},
        "hours": {"type": "integer"},
        "note": {"type": "string"},
    },
    "required": ["queue", "hours"],
    "additionalProperties": False,
}


def test_a_schema_decides_what_is_valid_where_one_is_given():
    answers = ['{"queue": "billing", "hours": 4}', '{"queue": "sales", "hours": 4}', '{"queue": "billing"}', "[]"]
    found, rows = one("json_valid", {"base": answers}, [""] * 4, schema=SCHEMA)
    assert rows["base"] == [1.0, 0.0, 0.0, 0.0]
    assert found["values"]["base"] == 0.25
    # Without a reference object the properties of the schema are the fields; the note may be left out.
    found, rows = one("json_fields", {"base": answers}, [""] * 4, schema=SCHEMA)
    assert rows["base"] == [1.0, pytest.approx(2 / 3), pytest.approx(2 / 3), 0.0]
    assert found["detail"]["fields"]["hours"] == {"base": 0.5}


def test_a_schema_fetches_nothing_and_a_broken_one_is_refused_with_its_fault():
    validator = schema_validator({"$ref": "https://example.org/other.json"})
    with pytest.raises(InputError, match="which is not fetched"):
        is_valid_json("{}", validator)
    with pytest.raises(InputError, match="is not valid: 'objekt' is not valid"):
        schema_validator({"type": "objekt"})


def test_fields_are_those_of_the_reference_and_a_list_is_right_as_a_whole():
    reference = '{"queue": "billing", "hours": 4, "who": {"name": "Ada", "vip": true}, "tags": ["a", "b"]}'
    answer = '{"hours": 4.0, "queue": "sales", "who": {"name": "Ada", "vip": 1}, "tags": ["b", "a"], "more": 1}'
    assert fields_right(answer, reference) == {
        "queue": False,
        "hours": True,
        "who.name": True,
        "who.vip": False,
        "tags": False,
    }
    found, rows = one("json_fields", {"base": ["no JSON"], "adapted": [answer]}, [reference])
    assert rows == {"base": [0.0], "adapted": [0.4]}
    assert found["detail"]["fields"]["who.name"] == {"base": 0.0, "adapted": 1.0}


def test_objects_in_a_list_are_compared_field_by_field_at_their_place():
    reference = '[{"name": "Ann", "hours": 1000}, {"name": "Bo", "hours": 2}]'
    answer = '[{"hours": 1e3, "name": "Ann"}, {"name": "Bob", "hours": 2.0}]'
    assert fields_right(answer, reference) == {
        "[]": True,
        "[0].name": True,
        "[0].hours": True,
        "[1].name": False,
        "[1].hours": True,
    }
    assert fields_right('{"a": [{"b": 1}]}', '{"a": [{"b": 1}, {"b": 2}]}') == {
        "a[]": False,
        "a[0].b": True,
        "a[1].b": False,
    }
    found, _ = one("json_fields", {"base": [answer]}, [reference])
    assert found["detail"]["fields"] == {"[]": {"base": 1.0}, "[].name": {"base": 0.5}, "[].hours": {"base": 1.0}}


@pytest.mark.parametrize(
    ("answer", "reference", "equal"),
    [
        ('[{"name": "Ann"}]', '[{"name":"Ann"}]', True),
        ('{"a": [{"b": 1e3}, [2.0]]}', '{"a": [{"b": 1000}, [2]]}', True),
        ("[1, 2]", "[2, 1]", False),
        ('{"a": "1,000"}', '{"a": 1000}', True),
        ('{"a": "4 hours"}', '{"a": 4}', False),
        ('{"a": "1"}', '{"a": true}', False),
        # Two texts of JSON are equal as they are written.
        ('{"a": "1,000"}', '{"a": "1000"}', False),
        ('{"a": "1e3"}', '{"a": "1000"}', False),
        # Zeros at the end may tell two versions apart.
        ("3.10", "3.1", False),
        ("5.0", "5", True),
        ("1.000", "1000", False),
        ("1,000", "1000", True),
        ("1e3", "1 000", True),
        ("-.5", "-0.50", True),
        ("1/2", "0.5", False),
        # Names that are written with digits are texts.
        ("7", "007", False),
        ("49 30 123456", "+49 30 123456", False),
        ("4111111111111111", "4111 1111 1111 1111", False),
        ("4 hours", "4.0 hours", False),
        ("Cafe\u0301", "Caf\u00e9", True),
        ("cafe\u0301", "Caf\u00e9", False),
    ],
)
def test_exact_match_compares_json_and_single_numbers_by_value_and_all_else_as_text(answer, reference, equal):
    assert metrics.is_exact(answer, reference) is equal
    assert metrics.is_exact(reference, answer) is equal


@pytest.mark.parametrize("name", [name for name in NAMES if describe(name)["group"] == "task"])
def test_no_measure_tells_the_unicode_forms_of_a_text_apart(name):
    import unicodedata

    references = ["café 4", "naïve", "café 4", "naïve"] * 5
    other = [unicodedata.normalize("NFD", text) for text in references]
    composed, _ = one(name, {"base": references}, references, pattern="é 4$")
    mixed, _ = one(name, {"base": other}, references, pattern="é 4$")
    assert mixed["values"] == composed["values"]


def test_a_label_in_two_unicode_forms_is_one_label():
    found, _ = one("accuracy", {"base": ["cafe\u0301"] * 10}, ["caf\u00e9", "cafe\u0301", "the"] * 3 + ["the"])
    assert found["detail"]["labels"] == ["caf\u00e9", "the"]
    assert found["values"]["base"] == 0.6


@pytest.mark.parametrize(
    ("answer", "parses"),
    [
        ("def f(x):\n    return x + 1", True),
        ("```python\nprint('a')\n```", True),
        ("def f(x)\n    return x", False),
        ("  indented = 1", False),
        ("", False),
        ("a\x00b", False),
        ("(" * 5000, False),
    ],
)
def test_code_is_read_by_pythons_parser_and_never_run(answer, parses):
    assert code_parses(answer) is parses


def test_a_pattern_is_searched_for_and_one_that_hangs_counts_as_not_found():
    found, rows = one("pattern", {"base": ["4 hours", "four hours", "in 12 hours"]}, [""] * 3, pattern=r"\d+ hours$")
    assert rows["base"] == [1.0, 0.0, 1.0]
    assert found["rule"].endswith(r": \d+ hours$")
    found, _ = one("pattern", {"base": ["a" * 60 + "b"]}, [""], pattern="^(?:(a|aa)+)+$")
    assert found["values"]["base"] == 0
    assert "took longer" in found["rule"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("4", 4),
        ("about 1,234.5 hours", 1234.5),
        ("−7", -7),
        ("1e3", 1000),
        ("version v2", None),
        ("none", None),
        ("9e999", None),
        (".5", 0.5),
        ("it fell to -.5", -0.5),
        ("1 000", 1000),
        ("1\u202f000 km", 1000),  # a narrow space, as French is set
        ("1\u2009234\u2009567.5", 1234567.5),
        ("1'000", 1000),
        ("1 000 km", 1000),
        ("20m2", 20),
        ("He has 2 million, and 5", 5),
        ("20-5=15", 15),
    ],
)
def test_the_last_number_of_an_answer_counts(text, number):
    assert find_number(text) == number


@pytest.mark.parametrize(
    "text",
    "1/2;3 or 1 1/2;½;2½;1,5;0,123;10:30;2024-05-01;1.2.3;10^3;\\frac{1}{2};between 3-5;10–20;$10-$20;10 – 20;2 million"
    ";2.5 Million;2k;3bn;0x10;to add 5 300 times".split(";"),
)
def test_digits_that_are_no_plain_number_are_refused_rather_than_read_in_parts(text):
    assert find_number(text) is None
    assert last_number(f"So it is {text}") is None


def test_a_number_with_its_unit_is_a_number_and_a_sentence_is_not():
    assert all(is_number(text) for text in ("4", "-3.5", "1,200", "$5", "12 km", "80%"))
    assert not any(is_number(text) for text in ("4 or 5", "room 4", "v2", ""))


def test_an_error_counts_up_to_the_spread_of_the_references_and_a_missing_answer_counts_as_that():
    from sklearn.metrics import mean_absolute_error

    answers = {"base": ["10", "I do not know", "5", "7"], "adapted": ["4 hours", "2", "6", "none"]}
    found, rows = one("mean_absolute_error", answers, ["4", "4", "8", "8"])
    # The references are 4 apart at most: 10 for 4 counts as 8, and so does no number.
    assert found["values"]["base"] == mean_absolute_error([4, 4, 8, 8], [8, 8, 5, 7])
    assert found["values"]["adapted"] == mean_absolute_error([4, 4, 8, 8], [4, 2, 6, 12])
    assert rows["adapted"] == [0, 2, 2, 4]
    assert found["detail"] == {
        "cap": 4.0,
        "missing": {"base": 1, "adapted": 1},
        "capped": {"base": 1, "adapted": 0},
    }
    assert "(4 here)" in found["rule"]
    given, _ = one("number_given", answers, ["4", "4", "8", "8"])
    assert given["values"] == {"base": 0.75, "adapted": 0.75}


def test_a_model_that_refuses_the_hard_questions_is_not_better_by_its_error():
    import numpy as np

    rng = np.random.default_rng(1)
    references = [str(value) for value in rng.integers(0, 60, size=100)]
    near = [str(int(reference) + int(rng.integers(-7, 8))) for reference in references]
    refusing = [text if place < 25 else "I cannot say." for place, text in enumerate(references)]
    found, _ = one("mean_absolute_error", {"base": near, "adapted": refusing}, references)
    assert found["values"]["adapted"] > found["values"]["base"], "right 25 times, silent 75 times"
    assert found["differences"]["adapted"]["p"] < 0.001 and found["differences"]["adapted"]["value"] > 0


def test_one_answer_of_1e300_decides_nothing():
    import numpy as np

    rng = np.random.default_rng(2)
    references = [str(value) for value in rng.integers(0, 60, size=40)]
    far = [str(int(reference) + 20) for reference in references]
    closer = [str(int(reference) + 2) for reference in references[:-1]] + ["1e300"]
    found, _ = one("mean_absolute_error", {"base": far, "adapted": closer}, references)
    difference = found["differences"]["adapted"]
    assert difference["value"] < 0 and difference["p"] < 0.001


# Classes

SAID = ["bug", "Question.", "question", " praise\n", "bug", "something else", "bug", "bug"] * 3


def test_classes_are_scored_as_scikit_learn_does():
    from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, f1_score

    plain = ["bug", "question", "question", "praise", "bug", "none", "bug", "bug"] * 3
    labels = sorted(set(TRUE))
    found, rows = measure_answers(["accuracy", "macro_f1"], {"base": TRUE[::-1], "adapted": SAID}, TRUE)
    accuracy, macro = found
    assert accuracy["values"]["adapted"] == accuracy_score(TRUE, plain)
    assert macro["values"]["adapted"] == pytest.approx(f1_score(TRUE, plain, labels=labels, average="macro"))
    report = classification_report(TRUE, plain, labels=labels, output_dict=True, zero_division=0)
    detail = accuracy["detail"]
    assert detail["labels"] == labels
    for row in detail["adapted"]["per_class"]:
        expected = report[row["label"]]
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx(
            (expected["precision"], expected["recall"], expected["f1-score"])
        )
        assert row["rows"] == expected["support"]
    # A line for each true label; the last column holds answers that are no label.
    assert detail["adapted"]["confusion"] == confusion_matrix(TRUE, plain, labels=[*labels, "none"])[:-1].tolist()
    assert sum(rows["accuracy"]["adapted"]) == 15


def test_labels_that_differ_only_in_case_are_told_apart():
    references = ["A", "a"] * 5
    found, _ = one("accuracy", {"base": ["A"] * 10}, references, labels=("A", "a"))
    assert found["values"]["base"] == 0.5


def test_an_answer_of_the_data_outside_the_given_labels_is_refused_with_the_likeliest_meant():
    with pytest.raises(InputError, match=r"not one of the labels.*Given: prise.*did you mean praise\?"):
        check_measures(["accuracy"], ["bug", "prise"], MeasureOptions(labels=("bug", "praise")))


def test_by_likelihood_the_label_with_the_smallest_loss_is_the_answer():
    # Row one: "no" is likelier on both sides. Row two: the adapted model finds "perhaps" likelier by byte only.
    losses = {"base": [[1.0, 9.0], [1.0, 9.0]], "adapted": [[1.0, 9.0], [2.0, 4.2]]}
    found, rows = measure_likelihoods(losses, ["no", "perhaps"], ["no", "perhaps"])
    assert [measure["name"] for measure in found] == ["likelihood_accuracy", "likelihood_macro_f1"]
    assert rows["likelihood_accuracy"] == {"base": [1.0, 0.0], "adapted": [1.0, 0.0]}
    found, rows = measure_likelihoods(losses, ["no", "perhaps"], ["no", "perhaps"], sizes=[2, 7])
    assert found[0]["values"] == {"base": 0.5, "adapted": 1.0}


# Losses


def test_perplexity_and_bits_per_byte_are_over_the_whole_corpus():
    # Three tokens of probability 1/2 and one of 1/16 in 7 bytes: 7 bits, so 2^(7/4) a token and one bit a byte.
    nll = [3 * math.log(2), 4 * math.log(2)]
    perplexity, bits = measure_losses({"base": nll}, {"base": [3, 1]}, [5, 2])
    assert perplexity["values"]["base"] == pytest.approx(2**1.75)
    assert (bits["name"], bits["values"]["base"]) == ("bits_per_byte", pytest.approx(1.0))


def test_general_text_gives_bits_per_byte_alone_under_its_own_name():
    [found] = measure_losses({"base": [1.0]}, {"base": [1]}, [2], name="general_bits_per_byte", group="general")
    assert (found["name"], found["group"]) == ("general_bits_per_byte", "general")


# Tests and intervals


def test_the_interval_of_a_paired_difference_is_the_published_one():
    # Cavo et al. (2012) in Fagerland, Lydersen and Laake, chapter 8: 59 both, 6 and 16 one only, 80 neither. The R
    # package of the book, contingencytables, gives -0.0621 (95% CI -0.1186 to -0.0046).
    base = [True] * 59 + [False] * 6 + [True] * 16 + [False] * 80
    adapted = [True] * 59 + [True] * 6 + [False] * 16 + [False] * 80
    assert significance.share_difference(base, adapted) == pytest.approx([-0.1186, -0.0046], abs=5e-5)


def test_the_interval_of_a_difference_without_any_differing_row_is_not_a_point():
    low, high = significance.share_difference([True] * 20, [True] * 20)
    assert low < -0.1 and high > 0.1


def test_exchanging_sides_gives_the_p_of_scipys_permutation_test():
    import numpy as np
    from scipy.stats import permutation_test

    rng = np.random.default_rng(1)
    for rows in (9, 60):
        base, adapted = rng.normal(size=rows), rng.normal(0.3, size=rows)
        counts = [np.column_stack([values, np.ones(rows)]) for values in (base, adapted)]
        found = significance.approximate_randomisation(*counts, lambda sums: sums[:, 0])
        expected = permutation_test(
            (adapted, base),
            lambda x, y, axis: (x - y).sum(axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=20_000,
            rng=rng,
        ).pvalue
        assert found == pytest.approx(expected, abs=1e-12 if rows == 9 else 0.02)


def test_bootstrap_intervals_are_those_of_scipy_widened_for_few_rows():
    import numpy as np
    from scipy.stats import bootstrap, norm, t

    values = np.random.default_rng(2).gamma(2, size=80)
    # Hesterberg (2015), section 2.3.2: the percentiles that make the interval of a mean as wide as that of t.
    level = 1 - 2 * norm.cdf(-np.sqrt(80 / 79) * t.ppf(0.975, 79))
    settings = {"method": "percentile", "n_resamples": 5000, "rng": 0, "confidence_level": level}
    expected = bootstrap((values,), np.mean, **settings).confidence_interval
    found, _ = significance.bootstrap({"a": values[:, None] / 80}, lambda sums: sums[:, 0])
    assert found["a"] == pytest.approx([expected.low, expected.high], rel=0.03)
    assert significance.mean_interval(values) == pytest.approx([expected.low, expected.high], rel=0.03)


def test_a_difference_that_is_not_there_is_found_in_about_one_case_of_twenty():
    import numpy as np

    from ftlab.evaluation.metrics.text import class_counts, macro_f1

    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        true = rng.integers(3, size=40)
        sides = [np.where(rng.random(40) < 0.6, true, rng.integers(3, size=40)) for _ in range(2)]
        counts = [class_counts(true.tolist(), side.tolist(), 3) for side in sides]
        p = significance.approximate_randomisation(*counts, lambda sums: macro_f1(sums, np.ones(3, dtype=bool)))
        hits += p < 0.05
    # Binomial(200, .05) stays within 2 to 20 in 999 of 1000 cases.
    assert 2 <= hits <= 20


def test_rows_of_one_customer_are_one_draw_in_every_interval_and_test():
    import numpy as np

    # 60 rows, six of each of ten customers; a customer's rows go right or wrong together.
    rng = np.random.default_rng(4)
    answers, references, customers = {"base": [], "adapted": []}, [], []
    for customer in range(10):
        words = " ".join(rng.choice("cat dog mat park rain walks sat today over small".split(), size=6))
        right = {"base": customer < 4, "adapted": customer < 7}
        for row in range(6):
            references.append(f"{words} {row}")
            customers.append(customer)
            for side in answers:
                answers[side].append(references[-1] if right[side] else "no idea at all")
    names = ["exact_match", "bleu", "chrf", "token_f1", "answer_words"]
    alone, _ = measure_answers(names, answers, references)
    options = MeasureOptions(clusters=tuple(customers))
    together, _ = measure_answers(names, answers, references, options=options)
    for single, joint in zip(alone, together, strict=True):
        # Three customers changed, whatever the rows: two of eight exchanges are as extreme.
        assert single["differences"]["adapted"]["p"] < 0.001
        assert joint["differences"]["adapted"]["p"] >= 0.25
        for kind in ("base", "adapted"):
            widths = [one["intervals"][kind][1] - one["intervals"][kind][0] for one in (single, joint)]
            assert widths[1] > 1.4 * widths[0]
        low, high = joint["differences"]["adapted"]["interval"]
        assert low <= 0 < high


# All of them


@pytest.mark.parametrize("name", NAMES)
def test_every_measure_keeps_its_shape_whatever_the_answers_are(name):
    references = ["", "yes", "{}", "3", "def f(): pass", "日本語", '{"a": 1}']
    answers = {
        "base": ["", "\ud83d", "{" * 3000, "9" * 400, "x" * 1000, "日本", "a\x00b"],
        "adapted": ["yes", "yes", "{}", "3e999", "((((", "日本語", "NaN"],
    }
    found, rows = one(name, answers, references, pattern="a+$")
    json.dumps([found, rows], allow_nan=False)
    assert set(found) == {
        *("name", "title", "unit", "better", "help", "rule", "group", "kind", "values", "intervals", "rows"),
        *("differences", "detail"),
    }
    assert list(found["values"]) == ["base", "adapted"]
    for side, at in found["values"].items():
        if at is not None and found["intervals"][side]:
            low, high = found["intervals"][side]
            assert low - 1e-9 <= at <= high + 1e-9
    assert describe(name)["title"] == found["title"] and found["help"].endswith(".")


def test_every_measure_is_an_evaluate_metric_with_the_same_figure():
    import evaluate

    answers, references = ["bug 4", "bug"] * 4, ["bug 4", "praise"] * 4
    for name in NAMES:
        options = MeasureOptions(pattern="bug")
        found, _ = one(name, {"base": answers}, references, pattern="bug")
        metric = metrics.load(name, options)
        assert isinstance(metric, evaluate.Metric)
        given = metric.compute(predictions=answers, references=references)[name]
        assert given == (None if found["values"]["base"] is None else pytest.approx(found["values"]["base"]))


@pytest.mark.parametrize(
    ("references", "first", "also"),
    [
        (["bug", "praise", "bug", "bug", "praise"] * 4, "accuracy", "macro_f1"),
        (["0", "1"] * 10, "accuracy", "macro_f1"),
        (['{"a": 1}', '{"a": 2}'], "exact_match", "json_fields"),
        (["2 * 9 = 18\n#### 18", "It takes 1 + 2 = 3 bolts.\n#### 3"], "final_number", "exact_match"),
        (["4", "17", "3.5", "1,200"], "exact_match", "mean_absolute_error"),
        (["def f():\n    pass", "import os\nprint(os.name)"], "exact_match", "code_parses"),
        (["Paris", "Rome", "the Danube"], "exact_match", "token_f1"),
        (REFERENCES[:3], "exact_match", "rouge_l"),
    ],
)
def test_the_references_suggest_what_to_measure(references, first, also):
    names = suggest(references)
    assert names[0] == first
    assert also in names
    check_measures(names, references, MeasureOptions())


def test_a_wrong_name_is_answered_with_the_nearest_one():
    with pytest.raises(InputError, match=r"no such measure.*Given: rougel.*Try: rouge_l"):
        check_measures(["rougel"], [], MeasureOptions())
    with pytest.raises(InputError, match="needs a regular expression"):
        check_measures(["pattern"], [], MeasureOptions())


def test_answers_that_are_not_paired_with_references_are_never_scored():
    with pytest.raises(ValueError, match="must be paired"):
        measure_answers(["bleu"], {"base": ["a", "b"]}, ["a"])


# Metrics of one's own

HEAD = """
import datasets
import evaluate


class Own(evaluate.Metric):
    better = "lower"

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="What I care about.",
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions, references):
"""


@pytest.fixture
def own_file(tmp_path, monkeypatch):
    monkeypatch.delenv("FTLAB_METRICS_FOLDER", raising=False)  # an app that was launched before sets it
    monkeypatch.setenv("FTLAB_METRIC_FILES", "")

    def write(body, head=HEAD):
        file = tmp_path / "own.py"
        file.write_text(head + f"        {body}\n", encoding="utf-8")
        name_files([str(file)])
        return str(file)

    return write


def test_a_metric_of_ones_own_is_measured_and_tested_like_any_other(own_file):
    path = own_file('return {"sorry": sum("sorry" in a for a in predictions) / len(predictions)}')
    answers = {"base": ["sorry"] * 9 + ["yes"] * 11, "adapted": ["yes"] * 20}
    [exact, own], rows = measure_answers(["exact_match"], answers, ["yes"] * 20, options=MeasureOptions(extra=(path,)))
    assert (own["name"], own["title"], own["better"], own["help"]) == ("sorry", "Sorry", "lower", "What I care about.")
    assert own["values"] == {"base": 0.45, "adapted": 0.0}
    assert rows["sorry"]["base"] == [1.0] * 9 + [0.0] * 11
    # Nine rows changed, all one way: 2 / 2^9.
    assert own["differences"]["adapted"]["p"] == pytest.approx(2 / 512)
    assert exact["name"] == "exact_match"


def test_the_metric_in_the_docs_works_as_it_stands_there(tmp_path, monkeypatch):
    monkeypatch.delenv("FTLAB_METRICS_FOLDER", raising=False)
    page = (Path(__file__).parents[2] / "ftlab" / "docs" / "measures.md").read_text(encoding="utf-8")
    [code] = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "evaluate.Metric" in block]
    (tmp_path / "thanks.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("FTLAB_METRIC_FILES", "")
    name_files([tmp_path / "thanks.py"])
    options = MeasureOptions(extra=(str(tmp_path / "thanks.py"),))
    [own], _ = measure_answers([], {"base": ["Thank you.", "No."]}, ["", ""], options=options)
    assert (own["title"], own["values"]["base"], own["kind"]) == ("Says thank you", 0.5, "share")


def test_a_metric_of_whole_corpora_gets_its_interval_and_p_by_resampling(own_file):
    path = own_file('return {"variety": len(set(" ".join(predictions).split())) / len(" ".join(predictions).split())}')
    answers = {"base": ["one two"] * 12, "adapted": [f"word{i} other{i}" for i in range(12)]}
    [own], rows = measure_answers([], answers, ["-"] * 12, options=MeasureOptions(extra=(path,)))
    assert own["values"] == {"base": 2 / 24, "adapted": 1.0}
    assert rows == {}
    assert own["differences"]["adapted"]["p"] == pytest.approx(1 / 201)
    assert own["differences"]["adapted"]["interval"][0] > 0


@pytest.mark.parametrize(
    ("head", "body", "said"),
    [
        (HEAD, "return {'x': [1]}", "returns no number"),
        (HEAD, "return {'x': 1 / 0}", r"ZeroDivisionError: division by zero \(line 19\)"),
        ("x = (\n", "", r"cannot be run: SyntaxError.*\(line"),
        ("import evaluate\nx = 1\nif x:\n", "pass", "no classes"),
    ],
)
def test_a_metric_file_that_does_not_work_is_refused_in_one_message(own_file, head, body, said):
    options = MeasureOptions(extra=(own_file(body, head),))
    with pytest.raises(FtlabError, match=said):
        measure_answers([], {"base": ["a"]}, ["a"], options=options)


def test_the_app_runs_no_metric_file_that_somebody_uploaded(own_file, tmp_path, monkeypatch):
    uploaded = own_file('return {"x": 1.0}')
    folder = tmp_path / "workspace" / "metrics"
    folder.mkdir(parents=True)
    monkeypatch.setenv("FTLAB_METRICS_FOLDER", str(folder))
    (folder / "linked.py").symlink_to(uploaded)
    for path in (uploaded, "../../own.py", "linked.py"):
        with pytest.raises(InputError, match="from one folder"):
            check_measures([], ["a"], MeasureOptions(extra=(path,)))
    (folder / "mine.py").write_bytes(Path(uploaded).read_bytes())
    check_measures([], ["a"], MeasureOptions(extra=("mine.py",)))


def test_a_metric_file_runs_as_it_was_when_somebody_named_it(own_file, monkeypatch):
    path = own_file('return {"x": 1.0}')
    check_measures([], ["a"], MeasureOptions(extra=(path,)))
    Path(path).write_text("raise SystemExit('another one')", encoding="utf-8")
    with pytest.raises(InputError, match="has changed since you named it"):
        check_measures([], ["a"], MeasureOptions(extra=(path,)))
    monkeypatch.setenv("FTLAB_METRIC_FILES", "")
    with pytest.raises(InputError, match="it is not run"):
        check_measures([], ["a"], MeasureOptions(extra=(path,)))


def test_a_metric_file_must_be_there():
    with pytest.raises(InputError, match="no such metric file"):
        check_measures([], ["a"], MeasureOptions(extra=("nowhere.py",)))
