"""The advisor: what it recommends, why, and what a person's own figures change about it."""

from __future__ import annotations

import itertools
import json

import pytest

from ftlab.cli.main import main
from ftlab.core.comparison import whole_form
from ftlab.core.files import write_json
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.evaluation.advisor import BUDGETS, CHANGES, FRESHNESS, LATENCIES, STANDS, advise, build_needs
from ftlab.report.measures import evidence_of
from tests.json_shapes import check_output
from tests.unit.test_ui import a_run


def stands(advice):
    return {one.method: one.stand for one in advice.recommendations}


def measured(*, prompted=None, adapted=0.9, over_prompting=..., general=(0.97, 0.97), better=True):
    """A comparison of the shape that evaluation writes, with one measure of the task."""
    values = {"base": 0.1, "adapted": adapted} | ({"prompted": prompted} if prompted is not None else {})
    titles = {"base": "Base", "prompted": "Base, prompted", "adapted": "Adapted"}
    verdicts = {"adapted": {"better": better}}
    if over_prompting is not ...:
        verdicts |= {"adapted_vs_prompted": {"better": over_prompting}, "prompted": {"better": True}}
    return {
        "run": "r1",
        "base": {"general_accuracy": general[0]},
        "adapted": {"general_accuracy": general[1], "rows": 100},
        "sides": [{"name": name, "title": titles[name], "what": ""} for name in titles if name in values],
        "measures": [
            {"name": "tokens", "title": "Tokens", "kind": "score", "group": "style", "better": None, "values": values},
            {
                "name": "exact_match",
                "title": "Exact match",
                "kind": "share",
                "group": "task",
                "better": "higher",
                "values": values,
                "rows": 100,
            },
        ],
        "verdict": {"better": better, "measure": "exact_match"},
        "verdicts": verdicts,
        "tests": {"general_accuracy": 1e-4},
    }


@pytest.mark.parametrize(
    ("needs", "now", "no"),
    [
        # The four textbook cases, and a combination.
        (
            {"change": ["facts"], "freshness": "daily", "examples": 500},
            {"prompting", "retrieval"},
            {"tuning", "pretraining"},
        ),
        ({"change": ["format"], "examples": 500}, {"prompting", "tuning"}, {"retrieval", "pretraining"}),
        (
            {"change": ["language"], "examples": 0, "text_mb": 5000, "budget": "large"},
            {"prompting", "pretraining"},
            {"retrieval"},
        ),
        ({"change": ["style"], "examples": 5}, {"prompting"}, {"retrieval", "pretraining"}),
        (
            {"change": ["facts", "style"], "freshness": "weekly", "examples": 500},
            {"prompting", "retrieval", "tuning"},
            {"pretraining"},
        ),
    ],
)
def test_the_usual_cases_get_the_usual_advice(needs, now, no):
    found = stands(advise(build_needs(**needs)))
    assert {method for method, stand in found.items() if stand == "now"} == now
    assert {method for method, stand in found.items() if stand == "no"} == no


def test_every_form_gets_advice_with_reasons_and_never_tuning_for_facts_alone():
    for change, freshness, budget, latency in itertools.product(
        [["facts"], ["style", "facts"], ["language"], list(CHANGES)], FRESHNESS, BUDGETS, LATENCIES
    ):
        for examples, text in ((0, 0), (1000, 1000)):
            needs = build_needs(
                change, freshness=freshness, budget=budget, latency=latency, examples=examples, text_mb=text
            )
            advice = advise(needs)
            assert all(one.reasons and one.stand in STANDS for one in advice.recommendations)
            assert any(one.stand == "now" for one in advice.recommendations)
            assert (stands(advice)["retrieval"] == "now") == ("facts" in change)
            if change == ["facts"]:
                assert stands(advice)["tuning"] == "no"
            if examples == 0 or budget == "none":
                assert stands(advice)["tuning"] != "now"


def test_tuning_that_is_not_shown_to_beat_prompting_is_advised_against():
    needs = build_needs(["format"], examples=500)
    without = advise(needs, evidence_of(measured()))
    assert stands(without)["tuning"] == "now" and "--prompted" in " ".join(without.steps)
    equal = advise(needs, evidence_of(measured(prompted=0.88, over_prompting=None)))
    assert stands(equal)["tuning"] == "later" and stands(equal)["prompting"] == "now"
    worse = advise(needs, evidence_of(measured(prompted=0.97, over_prompting=False)))
    assert stands(worse)["tuning"] == "no"
    better = advise(needs, evidence_of(measured(prompted=0.3, over_prompting=True)))
    assert stands(better) == {"tuning": "now", "prompting": "no", "retrieval": "no", "pretraining": "no"}
    reasons = " ".join(reason.text for reason in better.recommendations[0].reasons)
    assert "beats prompting: Exact match: Base 10%; Base, prompted 30%; Adapted 90% (100 rows)" in reasons


def test_figures_that_show_a_gain_need_no_more_examples():
    advice = advise(build_needs(["format"], examples=10, budget="none"), evidence_of(measured()))
    assert stands(advice)["tuning"] == "now"


def test_what_a_run_forgot_is_part_of_the_advice():
    advice = advise(build_needs(["format"], examples=500), evidence_of(measured(general=(0.97, 0.60))))
    assert "General accuracy: Base 97%; Adapted 60%." in advice.figures and "data.replay" in " ".join(advice.steps)


def test_comparisons_from_before_there_were_measures_give_figures_too():
    side = {"exact_match": 0.0, "bleu": 1.0, "perplexity": 30.0, "general_accuracy": None, "rows": 100}
    old = {"run": "r", "base": side, "adapted": side | {"exact_match": 0.86}, "verdict": {}}
    found = evidence_of(whole_form(old | {"verdict": {"better": True, "measure": "exact_match"}}))
    assert found.text == "Exact match: Base 0%; Adapted 86% (100 rows)" and found.tuning is True
    documents = {key: side | {"exact_match": None, "bleu": None} for key in ("base", "adapted")}
    found = evidence_of(whole_form(documents | {"run": "r", "verdict": {"better": None, "measure": "perplexity"}}))
    assert found.text.startswith("Perplexity: Base 30.0") and found.tuning is None and "tuning" in found.known
    assert evidence_of(None) is None


@pytest.mark.parametrize(
    "given", [{"change": []}, {"change": ["speed"]}, {"examples": "many"}, {"examples": -1}, {"budget": "huge"}]
)
def test_an_answer_that_cannot_be_used_is_named(given):
    with pytest.raises(InputError, match="Allowed"):
        build_needs(**({"change": ["style"]} | given))


def test_the_command_line_gives_the_same_advice_with_sources(capsys, workspace: Workspace):
    run = a_run(workspace)
    run.evaluation.mkdir()
    write_json(run.comparison_file, measured(prompted=0.3, over_prompting=True) | {"run": run.id})
    form = ["advise", "--change", "format, facts", "--examples", "200", "--freshness", "monthly"]
    assert main([*form, "--run", "last", "--workspace", str(workspace.root), "--json"]) == 0
    told = check_output(form, capsys.readouterr().out)
    assert [one["method"] for one in told["recommendations"] if one["stand"] == "now"] == ["retrieval", "tuning"]
    assert "arXiv 2405.05904" in json.dumps(advise(build_needs(["facts"])).as_dict())
    assert told["figures"][0].startswith(f"Run {run.id}. Exact match: Base 10%")
    assert main(form) == 0
    said = capsys.readouterr().out
    assert "Try prompting first" in said and "Lewis et al." in said and "Figures" not in said
    assert main(["advise", "--examples", "3"]) == 2
