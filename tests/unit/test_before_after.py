"""Before and after: figures by hand, win rates against scipy, and what a person reads of them."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from ftlab.core.files import write_json, write_jsonl
from ftlab.evaluation.before_after import PROXY, figures, win_rate
from ftlab.evaluation.generate import Answer
from ftlab.report.findings import figure_rows, lines_of

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def a_result(**contestants):
    zero = {"words": 0.0, "tokens": 0.0, "cut_share": 0.0, "repetition": 0.0, "distinct_2": 0.0, "weights": ""}
    return {
        "run": "r",
        "stage": "dpo",
        "start": "s" if "start" in contestants else None,
        "split": "test",
        "rows": 2,
        "contestants": {name: zero | more for name, more in contestants.items()},
        "win_rates": {},
        "notes": [],
    }


def judged_by(**against):
    return {"reward_model": "judge", "against": against, "proxy": PROXY, "notes": []}


def listed(panel, workspace, run_id, search, page, newest):
    """What one look at the files draws, for a page with these fields that saw `newest` before."""
    from ftlab.ui.page import Look
    from ftlab.ui.tabs.preferences import before_after

    given = dict(zip(panel.looked_at, (run_id, search, page), strict=True))
    return before_after.list_runs(panel, Look(workspace, None, given, {f"newest {panel.run._id}": newest}))


def test_figures_are_the_ones_of_a_hand_calculation():
    found = figures([Answer("a b c a b c", 7, False), Answer("a b", 2, True)])
    # Triples of the first: abc, bca, cab, abc: one of four was there before. The second is too short to have any.
    assert found["repetition"] == pytest.approx((1 / 4 + 0) / 2)
    # Pairs: ab bc ca ab bc, and ab: three different ones of six.
    assert found["distinct_2"] == pytest.approx(3 / 6)
    assert (found["words"], found["tokens"], found["cut_share"]) == (4, 4.5, 0.5)


def test_answers_of_one_word_or_none_have_figures_too():
    found = figures([Answer("", 1, False), Answer("yes", 2, False)])
    assert (found["words"], found["repetition"], found["distinct_2"]) == (0.5, 0, 0)


def test_a_win_rate_counts_the_decided_prompts_and_has_a_wilson_interval():
    before, after = [0.0] * 10, [1.0] * 6 + [-1.0] * 2 + [0.0] * 2
    found = win_rate(before, after)
    assert (found["wins"], found["ties"], found["losses"], found["win_rate"]) == (6, 2, 2, 0.75)
    interval = binomtest(6, 8).proportion_ci(method="wilson")
    assert found["interval"] == pytest.approx([interval.low, interval.high])
    assert found["difference"] == pytest.approx(0.4)
    assert found["difference_interval"][0] < 0.4 < found["difference_interval"][1]


def test_equal_answers_win_nothing():
    # Ten wins of two customers are two: as many as two heads, and an interval of two.
    tied = win_rate([0.0] * 10, [1.0, 2.0] * 5, ["Ann"] * 5 + ["Bo"] * 5)
    assert tied["p"] == 0.5 and tied["interval"][0] < 0.4 < win_rate([0.0] * 10, [1.0, 2.0] * 5)["interval"][0]
    found = win_rate([1.0, 2.0], [1.0, 2.0])
    assert (found["ties"], found["win_rate"], found["interval"], found["difference"]) == (2, None, None, 0)
    said = " ".join(lines_of(judged_by(start=found)))
    assert "all 2 answers score the same" in said


def test_a_win_rate_is_never_said_without_that_it_is_a_proxy():
    said = lines_of(judged_by(start=win_rate([0.0] * 8, [1.0] * 6 + [-1.0] * 2), base=win_rate([0.0] * 4, [1.0] * 4)))
    # Wilson by hand: .669 -+ .2596.
    assert "this run wins 75% of 8 prompts (95% interval 40.9% to 92.9%, p = .29)" in said[0]
    assert said[1].startswith("Against the base: this run wins 100% of 4 prompts")
    assert "not people's" in said[2]


def test_without_a_start_there_are_two_contestants():
    found = a_result(base={"words": 10.0}, adapted={"words": 12.25, "cut_share": 0.125})
    assert [row[:2] for row in figure_rows(found)] == [
        ["Answers of", "Words"],
        ["the base", "10.0"],
        ["this run", "12.2"],
    ]
    assert figure_rows(found)[2][3] == "12.5%"


def test_answers_are_found_by_words_turned_by_pages_and_never_markup(workspace):
    gr = pytest.importorskip("gradio")
    from ftlab.ui import run_files
    from ftlab.ui.tabs.preferences import before_after
    from tests.unit.test_ui import a_run

    def row(place, text):
        side = {"answer": text, "tokens": 3, "cut": place == 0, "scores": {"judge": 1.5}}
        return {"row": place, "prompt": [{"role": "user", "content": text}], "base": side, "adapted": side}

    rows = [row(0, ATTACK), *(row(place, f"number {place}") for place in range(1, 25))]
    shown = before_after.prompts_table(rows, 1, 3)
    assert "<script" not in shown and "<img" not in shown and "&lt;script&gt;" in shown
    assert shown.count("cut off") == 2 and "score 1.5" in shown
    assert [one["row"] for one in before_after.select(rows, "NUMBER 24")] == [24]
    attacked = before_after.result(a_result(base={}, adapted={}) | {"notes": [ATTACK], "run": ATTACK})
    assert "<script" not in attacked

    run = a_run(workspace, "dpo", stage="dpo")
    with gr.Blocks():
        panel = before_after.build()
    hidden = listed(panel, workspace, None, "", 1, "")
    assert hidden[panel.box]["visible"] is False and hidden[panel.judge]["interactive"] is False
    write_jsonl(run.before_after_answers_file, rows)
    write_json(run.before_after_file, a_result(base={}, adapted={}) | {"run": run.id})
    assert run_files.before_after(run)["run"] == run.id
    # A tick keeps the page that somebody reads, and a page beyond the last is the last.
    kept = listed(panel, workspace, run.id, "", 2, "an older one")
    assert kept[panel.page] == 2 and "number 10" in kept[panel.answers] and "number 9<" not in kept[panel.answers]
    assert listed(panel, workspace, run.id, "number", 9, "")[panel.page] == 3
