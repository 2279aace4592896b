"""No worse by a margin: what it takes, how often it is wrong, and that a margin that was changed is told."""

from __future__ import annotations

import json

import pytest

from ftlab.cli.main import main
from ftlab.config import build_config
from ftlab.errors import InputError
from ftlab.evaluation.compare import evaluate_run
from ftlab.evaluation.margins import no_worse, rows_for
from ftlab.evaluation.metrics.table import BUILT_IN, of_rows
from ftlab.evaluation.outside import read_against
from ftlab.evaluation.request import Request
from tests.benchmarks.no_worse import rate
from tests.small_runs import make_run, save_result


def judged(both: int, lost: int, gained: int, neither: int, margin: float, **more):
    before = [1.0] * (both + lost) + [0.0] * (gained + neither)
    after = [1.0] * both + [0.0] * lost + [1.0] * gained + [0.0] * neither
    measure = of_rows(BUILT_IN["exact_match"], {"a": before, "b": after}, clusters=more.get("clusters"))
    return no_worse(measure, "b", before, after, margin, **more)


@pytest.mark.parametrize(
    "case", [(200, None, 5, 0.9, 0.08), (400, None, 5, 0.8, 0.1), (300, 30, 10, 0.7, 0.2)], ids=lambda case: str(case)
)
def test_a_loss_as_large_as_the_margin_is_called_no_worse_in_at_most_5_percent(case):
    assert rate(150, case, loss=1) <= 0.05


def test_two_sides_that_are_alike_are_told_with_as_many_rows_as_were_named():
    # 8 points, 10% of rows differ: (1.96 + 0.842)^2 * 0.1 / 0.08^2 = 123 rows for four cases of five.
    assert "about 123 rows" in rows_for(8, 200)
    assert rate(100, (123, None, 8, 0.8, 0.1), loss=0) == pytest.approx(0.8, abs=0.12)


def test_a_hundred_rows_cannot_show_three_points():
    alike = judged(100, 0, 0, 0, 3)
    assert alike["no_worse"] is None and alike["interval"][0] < -3
    assert judged(130, 0, 0, 0, 3)["no_worse"] is True
    assert "That is too few" in rows_for(3, 100) and "about 873 rows" in rows_for(3, 100)
    assert "too few" not in rows_for(3, 1000)
    # Rows of one customer count together.
    assert "worth 10 independent" in rows_for(3, 1000, [place // 100 for place in range(1000)])


def test_the_interval_is_the_one_of_the_house_and_decides():
    # 360 right on both, 8 lost, 6 gained, 26 wrong on both of 400: -0.5 points; Newcombe's interval is -2.6 to 1.5.
    test = judged(360, 8, 6, 26, 3)
    assert test["difference"] == pytest.approx(-0.5) and test["interval"] == pytest.approx([-2.6, 1.5], abs=0.15)
    assert test["no_worse"] is True
    assert test["text"].startswith("No worse within the margin of 3 points: the difference is −0.5 (95% interval −2.")
    narrow = judged(360, 8, 6, 26, 2)
    assert narrow["no_worse"] is None and "Not shown to be no worse" in narrow["text"] and narrow["needed"] > 400
    clustered = judged(360, 8, 6, 26, 3, clusters=[place // 40 for place in range(400)])
    assert clustered["no_worse"] is None


def test_a_measure_without_points_has_no_such_margin():
    values = {"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 4.0]}
    measure = of_rows(BUILT_IN["mean_absolute_error"], values)
    test = no_worse(measure, "b", values["a"], values["b"], 3)
    assert test["no_worse"] is None and "says nothing of mean absolute error" in test["text"]


def test_a_margin_that_was_changed_after_the_results_were_known_is_told(tmp_path, base_folder, capsys):
    run = make_run(tmp_path / "runs", base_folder, "none", evaluation={"margin": 50})
    save_result(run, base_folder)
    evaluate_run(run)
    rows = run.predictions()
    file = tmp_path / "hosted.jsonl"
    lines = [{"prompt": row["prompt"], "answer": row["reference"]} for row in rows]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    key, against = "adapted_vs_hosted@file", [read_against(str(file))]
    # The base was compared before, but this side was not: the margin is chosen before its answers are known.
    first = evaluate_run(run, Request(against=against))
    chosen = first["verdicts"][key]["no_worse"]
    assert chosen["margin"] == 50 and chosen["earlier"] == [] and first["settings"]["margin"] == 50
    assert evaluate_run(run, Request(against=against))["verdicts"][key]["no_worse"]["earlier"] == []
    changed = evaluate_run(run, Request(settings={"margin": 80.0}, against=against))["verdicts"][key]["no_worse"]
    assert changed["earlier"] == [50]
    assert "chosen after the results were known" in changed["text"]
    # Asked again without one, the margin stays that of the comparison of these rows, and so does what was said of it.
    main(["evaluate", str(run.path), "--margin", "80"])
    told = capsys.readouterr()
    assert "There are 6 rows" in told.err and "chosen after the results were known" in told.out


def test_a_margin_out_of_range_is_refused():
    with pytest.raises(InputError, match="margin"):
        build_config({"evaluation": {"margin": -1}})
