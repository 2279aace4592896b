"""The two forms of a comparison: the file holds each figure once, and whoever reads it gets all of them."""

from __future__ import annotations

import json

import jsonschema
import pytest

from ftlab.core.comparison import (
    ComparisonJson,
    read_comparison,
    scores_of,
    stored_form,
    verdict_of,
    whole_form,
)
from ftlab.core.files import DamagedFile, json_text, write_json
from tests.comparisons import three_sides
from tests.conftest import ROOT

SCHEMA = ROOT / "ftlab" / "docs" / "comparison.schema.json"


def compared() -> ComparisonJson:
    """As an evaluation makes it: `three_sides` with the scores that its measures give."""
    found = three_sides()
    for side in found["sides"]:
        found[side["name"]] = {"rows": 20, "tokens": 300, "truncated_answers": 0, "general_rows": 50}
    part = {"measure": "general_accuracy", "title": "general questions", "score": 0.2, "interval": [0.1, 0.3]}
    part |= {"known": 45, "lost": 9, "gained": 0, "asked": 50, "accuracy": {"base": 0.9, "adapted": 0.7}}
    part |= {"answer": "lost", "p_kept": 1.0, "p_lost": 0.002, "enough": 59, "text": "It lost 9.", "decides": True}
    found["forgetting"] = {"limit": 0.05, "rule": "…", "answer": "lost", "forgot": True, "parts": [part], "text": "It."}
    del found["verdict"], found["tests"]
    return whole_form(found)


def test_reading_what_was_stored_gives_every_figure_back(tmp_path):
    comparison = compared()
    assert comparison["adapted"]["exact_match"] == 0.8 and comparison["adapted"]["general_interval"] == [0.7, 0.7]
    assert comparison["tests"]["bleu"] == 0.4
    assert comparison["forgetting"]["score"] == 0.2 and comparison["forgetting"]["known"] == 45
    assert comparison["verdict"] == comparison["verdicts"]["adapted"]
    assert comparison["settings"]["rows"] == 20 and comparison["settings"]["split"] == comparison["split"]
    write_json(tmp_path / "comparison.json", stored_form(comparison))
    assert read_comparison(tmp_path / "comparison.json") == comparison
    assert read_comparison(tmp_path / "other.json") is None


def test_the_file_holds_each_figure_once():
    stored = stored_form(compared())
    assert not {"verdict", "tests"} & stored.keys()
    assert {"exact_match", "perplexity", "bleu", "general_accuracy"}.isdisjoint(stored["adapted"])
    assert {"score", "interval", "known", "lost", "accuracy"}.isdisjoint(stored["forgetting"])
    assert not {"rows", "split"} & stored["settings"].keys()
    assert len(json_text(stored)) < len(json_text(compared()))


def test_a_figure_that_no_measure_holds_stays_in_the_file():
    comparison = compared()
    comparison["adapted"]["perplexity"] = 2.5  # as of a run whose tokenizer counts other tokens
    comparison["measures"] = [one for one in comparison["measures"] if one["name"] != "exact_match"]
    stored = stored_form(comparison)
    assert stored["adapted"]["perplexity"] == 2.5 and stored["adapted"]["exact_match"] == 0.8
    assert stored["tests"] == {"exact_match": comparison["tests"]["exact_match"]}
    assert whole_form(stored) == comparison


@pytest.mark.parametrize("missing", ["measures", "verdicts", "forgetting", "sides", "tests"])
def test_what_an_older_ftlab_wrote_is_read_as_it_is(missing):
    old = three_sides()
    del old[missing]
    read = whole_form(old)
    completed = ("tests", "base", "prompted", "adapted", "settings")
    assert {name: read[name] for name in old if name not in completed} == {
        name: value for name, value in old.items() if name not in completed
    }
    for name, value in old["settings"].items():
        now = read["settings"][name]
        assert now == value if name != "tests" else now.items() >= value.items()
    for side in ("base", "prompted", "adapted"):
        assert scores_of(read, side).items() >= old[side].items()
    assert verdict_of(read) == old["verdict"] and scores_of(read, "another run") == {}


def test_a_comparison_keeps_the_schema_in_the_docs():
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))  # test_docs.py: it is that of the types
    for found in (stored_form(compared()), compared()):
        jsonschema.validate(json.loads(json_text(found)), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(stored_form(compared()) | {"verdicts": {"adapted": {"text": "better"}}}, schema)


@pytest.mark.parametrize("key", ["settings", "notes", ("forgetting", "text"), ("verdict", "better")])
def test_what_a_file_lacks_is_damage_to_it(tmp_path, key):
    path = (key,) if isinstance(key, str) else key
    values = json.loads(json_text(stored_form(compared())))
    values |= {"verdict": dict(compared()["verdict"])}
    inside = values
    for name in path[:-1]:
        inside = inside[name]
    del inside[path[-1]]
    values.pop("verdicts") if path[0] == "verdict" else None
    write_json(tmp_path / "comparison.json", values)
    found = read_comparison(tmp_path / "comparison.json")
    with pytest.raises(DamagedFile, match=r"comparison\.json is damaged"):
        for name in path:
            found = found[name]


@pytest.mark.parametrize("wrong", [{"verdicts": {"adapted": 3}}, {"measures": 7}, {"sides": [None]}])
def test_values_of_the_wrong_kind_are_damage_to_the_file(tmp_path, wrong):
    write_json(tmp_path / "comparison.json", {**stored_form(compared()), **wrong})
    with pytest.raises(DamagedFile, match="wrong type"):
        read_comparison(tmp_path / "comparison.json")
