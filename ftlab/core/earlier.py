"""What earlier versions wrote, in the form of today. Files are read through here; the rest of the code knows one form.

tests/fixtures/workspace_* were written by the versions in their names (see tests/unit/test_old_workspaces.py). What was
not recorded then stays unknown, such as the time before a comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftlab.core.comparison import DifferenceJson, SideJson

QUESTIONS = "suites/*"  # where a run had the comparisons on other data
_SIDES: list[SideJson] = [
    {"name": "base", "title": "Base", "what": ""},
    {"name": "adapted", "title": "Adapted", "what": ""},
]
_SHARE: Any = {"rule": "", "unit": "%", "better": "higher", "group": "task", "kind": "share"}
_LOSS: Any = _SHARE | {"unit": "", "better": "lower", "kind": "loss"}
_OF_ANSWERS = "How surprised the model is by the reference answers; 1 is certain."
_OF_DOCUMENTS = "How surprised the model is by documents that it has not seen; 1 is certain."
_PER_BYTE = "Bits the model needs per byte of text, comparable across tokenizers."
_GENERAL = "Share of general questions answered right. A fall is forgetting."
_MEASURES: dict[str, Any] = {
    "exact_match": {**_SHARE, "title": "Exact match", "help": "Share of answers equal to the reference."},
    "perplexity": {**_LOSS, "title": "Perplexity", "help": _OF_ANSWERS},
    "bits_per_byte": {**_LOSS, "title": "Bits per byte", "help": _PER_BYTE},
    "bleu": {
        **_SHARE,
        "title": "BLEU",
        "help": "Overlap of words with the reference.",
        "unit": "points",
        "kind": "score",
    },
    "general_accuracy": {**_SHARE, "title": "General accuracy", "help": _GENERAL, "group": "general"},
}


def comparison(stored: Mapping[str, Any]) -> dict[str, Any]:
    """What comparison.json lacks: its sides and its measures, once derived from the scores; the unit of a cost."""
    added: dict[str, Any] = {} if stored.get("sides") else {"sides": _SIDES}
    if "measures" not in stored:
        return added | ({"measures": _from_scores(stored)} if {"base", "adapted"} <= stored.keys() else {})
    if any(measure["name"] == "cost_per_thousand" and not measure.get("unit") for measure in stored["measures"]):
        units = {"cost_per_thousand": {"unit": "currency"}}
        added["measures"] = [{**measure, **units.get(measure["name"], {})} for measure in stored["measures"]]
    return added


def _from_scores(stored: Mapping[str, Any]) -> list[Any]:
    base, adapted, tests = stored["base"], stored["adapted"], stored.get("tests") or {}
    documents = adapted.get("exact_match", 0) is None
    names = ["perplexity", "bits_per_byte"] if documents else ["exact_match", "perplexity", "bleu"]
    measures: list[Any] = []
    for name in [*names, "general_accuracy"]:
        before, after = base.get(name), adapted.get(name)
        if before is None or after is None:
            continue
        info: Any = {"name": name, **_MEASURES[name]}
        if documents and name == "perplexity":
            info["help"] = _OF_DOCUMENTS
        key = "general_interval" if name == "general_accuracy" else f"{name}_interval"
        difference: DifferenceJson = {"value": after - before, "interval": None, "p": tests.get(name), "test": ""}
        measures.append(
            {
                **info,
                "values": {"base": before, "adapted": after},
                "intervals": {"base": base.get(key), "adapted": adapted.get(key)},
                "rows": adapted["general_rows" if name == "general_accuracy" else "rows"],
                "differences": {"adapted": difference},
                "detail": None,
            }
        )
    return measures


def preferences(stored: dict[str, Any] | None) -> Any:
    """preferences.json, with its interval by its name."""
    if stored and "accuracy_interval" in stored:
        stored.setdefault("interval", stored["accuracy_interval"])
    return stored


def outside_line(line: dict[str, Any]) -> dict[str, Any]:
    """A line of outside.jsonl, with how many were asked at once."""
    return {"at_once": 1} | line


def check_report(report: Any) -> Any:
    """The report of a check of data, with the number of rows of use and what was not read."""
    if report is not None:
        report.setdefault("usable", 1)
        report.setdefault("unread", [])
    return report
