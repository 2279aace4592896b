"""From the results of lm-evaluation-harness to measures as in comparison.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.evaluation.significance import row_difference, share_interval

PREFIX = "harness/"  # of the names of these measures
_TITLES = {"acc": "accuracy", "acc_norm": "accuracy by length", "exact_match": "exact match"}
# A measure of the harness is called `name,filter`.
_SHARES = ("acc", "acc_norm", "exact_match", "em")


def measures_of(base: Mapping[str, Any], adapted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A measure for every task and score of the harness, with intervals, and a paired test where each question has a
    score of its own."""
    found = []
    hidden = _summed_up(base)
    for task, scores in base["results"].items():
        if task in hidden:
            continue
        samples = {
            side: _by_question(of["samples"].get(task, [])) for side, of in (("base", base), ("adapted", adapted))
        }
        for key, value in scores.items():
            name, _, filtered = key.partition(",")
            if not filtered or name.endswith("_stderr") or not isinstance(value, int | float):
                continue
            values = {"base": float(value), "adapted": float(adapted["results"][task][key])}
            errors = {
                side: of["results"][task].get(f"{name}_stderr,{filtered}")
                for side, of in (("base", base), ("adapted", adapted))
            }
            rows = {side: of.get((name, filtered)) for side, of in samples.items()}
            found.append(
                {
                    "name": f"{PREFIX}{task}/{name}" + ("" if filtered == "none" else f"/{filtered}"),
                    "title": f"{task}: {_TITLES.get(name, name)}" + ("" if filtered == "none" else f" ({filtered})"),
                    "unit": "%" if name in _SHARES else "",
                    "better": _better(base["higher_is_better"].get(task, {}).get(name)),
                    "help": f"The task {task} of lm-evaluation-harness.",
                    "rule": f"lm-evaluation-harness, {key}, task version {base['versions'].get(task)}",
                    "group": "general",
                    "kind": "share" if name in _SHARES else "score",
                    "values": values,
                    **_compared(values, errors, rows),
                    "rows": base["n-samples"].get(task, {}).get("effective"),
                    "detail": None,
                }
            )
    return found


def _summed_up(results: Mapping[str, Any]) -> set[str]:
    """The tasks that count in the score of a group, such as the 57 subjects of mmlu: the group stands for them."""
    found: set[str] = set()
    waiting = list(results.get("groups", {}))
    while waiting:
        members = results["group_subtasks"].get(waiting.pop(), [])
        waiting += [name for name in members if name not in found]
        found.update(members)
    return found


def _better(higher: bool | None) -> str | None:
    return None if higher is None else "higher" if higher else "lower"


def _by_question(samples: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[float] | None]:
    """(measure, filter): the scores of the questions in their order; None where one is no number (corpus measures)."""
    found: dict[tuple[str, str], list[float] | None] = {}
    for sample in sorted(samples, key=lambda sample: sample["doc_id"]):
        for name in sample["metrics"]:
            place, value = (name, sample["filter"]), sample[name]
            scores = found.setdefault(place, [])
            if scores is not None and isinstance(value, int | float):
                scores.append(float(value))
            else:
                found[place] = None
    return found


def _compared(
    values: Mapping[str, float], errors: Mapping[str, Any], rows: Mapping[str, list[float] | None]
) -> dict[str, Any]:
    """`intervals` and `differences` of one measure."""
    base, adapted = rows["base"], rows["adapted"]
    change: dict[str, Any] = {"value": values["adapted"] - values["base"], "interval": None, "p": None, "test": None}
    if not base or not adapted or len(base) != len(adapted):
        return {
            "intervals": {side: _by_error(values[side], errors[side]) for side in values},
            "differences": {"adapted": change},
        }
    right = all(value in (0.0, 1.0) for value in (*base, *adapted))
    # The value is the harness's own: it may weigh questions.
    change = row_difference(base, adapted, binary=right) | {"value": change["value"]}
    intervals = {
        side: share_interval(of) if right else _by_error(values[side], errors[side])
        for side, of in (("base", base), ("adapted", adapted))
    }
    return {"intervals": intervals, "differences": {"adapted": change}}


def _by_error(value: float, error: Any) -> list[float] | None:
    """The normal 95% interval of a standard error."""
    return [value - 1.96 * error, value + 1.96 * error] if isinstance(error, int | float) else None
