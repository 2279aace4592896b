"""The tables of the command line."""

from __future__ import annotations

import pytest

from ftlab.cli.output import Interrupted, keeping, print_table
from ftlab.core.comparison import whole_form
from ftlab.evaluation.figures import value_text
from tests.comparisons import three_sides


def test_the_table_has_a_column_for_the_prompted_base_and_says_who_wins_against_it(capsys):
    print_table(three_sides())
    head, first, *rest = capsys.readouterr().out.strip("\n").splitlines()
    assert head.split("  ")[-1] == "change" and "base, prompted" in head
    place = head.index("base, prompted")
    assert first.startswith("Exact match") and first[place:].split()[0] == "30%"
    assert any(line.startswith("Against the prompted base: The adapted model is better than") for line in rest)


def test_without_a_prompted_base_there_is_no_column_for_it(capsys):
    comparison = three_sides()
    comparison["sides"] = [side for side in comparison["sides"] if side["name"] != "prompted"]
    print_table(comparison)
    assert "prompted" not in capsys.readouterr().out.split("\n")[1]


def test_the_signature_of_bleu_stands_where_bleu_does(capsys):
    comparison = three_sides()
    for side in ("base", "prompted", "adapted"):
        comparison[side] = comparison[side] | {"bleu_signature": "nrefs:1"}
    assert any(measure["name"] == "bleu" for measure in comparison["measures"])
    print_table(comparison)
    assert "BLEU signature: nrefs:1" in capsys.readouterr().out
    comparison["measures"] = [measure for measure in comparison["measures"] if measure["name"] != "bleu"]
    print_table(comparison)
    assert "BLEU" not in capsys.readouterr().out


def test_the_commonest_label_and_guessing_stand_below_the_accuracy(capsys):
    from ftlab.evaluation.metrics.measures import MeasureOptions, measure_answers

    labels = ("bug", "praise", "question", "spam")
    references = ["bug"] * 6 + ["praise", "question"] * 3
    answers = {"base": ["The label is bug."] * 12, "adapted": references}
    options = MeasureOptions(labels=labels, commonest="bug")
    measures, _ = measure_answers(["accuracy", "label_named"], answers, references, options=options)
    comparison = three_sides() | {"measures": measures}
    comparison["sides"] = [side for side in comparison["sides"] if side["name"] != "prompted"]
    print_table(comparison)
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()[2:6]]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells[0][:3] == ["Accuracy", "0%", "100%"]
    assert cells[1] == ["Always “bug”", "50%", "50%"]
    assert cells[2] == ["Guessing", "25%", "25%"]
    assert cells[3][:3] == ["Right label named", "50%", "100%"]


def test_ctrl_c_says_what_is_kept_only_where_replies_came(tmp_path):
    file = tmp_path / "replies.jsonl"
    with pytest.raises(KeyboardInterrupt), keeping(file):
        raise KeyboardInterrupt
    kept = pytest.raises(Interrupted, match=r"Interrupted\. Replies that had come are kept: the same command")
    with kept as told, keeping(file):
        file.write_text("{}\n")
        raise KeyboardInterrupt
    assert told.value.exit_code == 130


def test_costs_have_two_digits_however_small_they_are():
    from ftlab.evaluation.metrics.table import BUILT_IN

    measure = BUILT_IN["cost_per_thousand"].as_json()
    values = [0.002, 0.0051, 0.009, 0.0000123, 0.0996, 0.5, 1234.5, 0]
    texts = ["0.002", "0.0051", "0.009", "0.000012", "0.10", "0.50", "1,234.50", "0"]
    assert [value_text(measure, value) for value in values] == texts
    [of_earlier_version] = whole_form({"measures": [{**measure, "unit": ""}]})["measures"]
    assert value_text(of_earlier_version, 0.0024) == "0.0024"
