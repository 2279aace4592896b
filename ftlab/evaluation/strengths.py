"""How several strengths of a trained model do on the task and what they keep elsewhere, and which one is proposed.

The proposal is made on validation rows and reported on test rows, which played no part in it. Answers are cached as in
any comparison.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ftlab.config import RunConfig, with_settings
from ftlab.core.comparison import DifferenceJson, MeasureJson
from ftlab.core.files import read_cached, write_json
from ftlab.core.run_directory import RunDirectory
from ftlab.core.run_results import MeasureNameJson, ScoredStrengthsJson, StrengthJson, StrengthsJson
from ftlab.errors import InputError
from ftlab.evaluation.asking import results_of
from ftlab.evaluation.batches import Progress, silent
from ftlab.evaluation.compare import check_runs, questions_of
from ftlab.evaluation.figures import in_sentence, signed, value_text
from ftlab.evaluation.measuring import check_choice, measured, task_measures
from ftlab.evaluation.sides import ADAPTED, BASE, Side, adapted_side, base_side, config_of, result_identity
from ftlab.models.identity import is_made_of
from ftlab.models.strength import AS_TRAINED, GRID, check_strength, choose_strength

RULE = "the smallest strength whose task score on validation rows is at most one point worse than as trained"
_POINT = 0.01  # for a share; for a score from 0 to 100, one; for a loss or an error, a relative share
_FEW_ROWS = 100  # with fewer, one point is less than a row


def measure_strengths(
    run: RunDirectory,
    *,
    grid: Sequence[float] = GRID,
    max_rows: int | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> StrengthsJson:
    """Score the base of `run` and its result at each strength of `grid`, write evaluation/strengths.json and return it.

    `measure` decides on the task; `kept` are the requested measures of `evaluation` that are unrelated to the task.
    `strengths` holds for each strength (0: the base) `value`, `interval`, the paired `difference` to the model as
    trained (None for that itself) and `kept` by name. `proposed` follows `rule`, with `why` in words. `test` has the
    same figures on test rows for the base, the proposal and the model as trained (None without a test split).
    `settings` override those of `evaluation`. Raises InputError for a run without validation rows or with a method that
    has no strength, FtlabError without a result, Stopped.
    """
    began = time.monotonic()
    tell = progress or silent
    changes = {**(settings or {}), **({} if max_rows is None else {"max_rows": max_rows})}
    config = config_of(run)
    config = with_settings(config, {f"evaluation.{name}": value for name, value in changes.items()}).resolved()
    for strength in grid:
        check_strength(config, strength)
    check_runs([run], [config], None)
    tried = sorted({*grid, AS_TRAINED} - {0.0})
    scored, measure = _scored(run, config, "validation", tried, None, tell, should_stop)
    values = {row["strength"]: row["value"] for row in scored["strengths"]}
    proposed = propose({at: values[at] for at in tried}, measure)
    test, notes = None, list(scored["notes"])
    if run.split_file("test").exists():
        test, _ = _scored(run, config, "test", sorted({proposed, AS_TRAINED}), measure["name"], tell, should_stop)
    else:
        notes.append(
            "There is no test split: the strength is scored on the rows used to choose it, so its score is optimistic."
        )
    base, best = values[0.0], values[AS_TRAINED]
    if base is not None and best is not None and _not_worse(base, best, measure):
        notes.append("The base itself is within a point of the model as trained: there is no gain to trade off.")
    if scored["rows"] < _FEW_ROWS and measure["kind"] == "share":
        notes.append(f"With {scored['rows']} validation rows, one row is more than a point: see the intervals.")
    if not scored["kept"]:
        notes.append(
            "No general questions were asked, so what each strength keeps is unknown: set evaluation.probes or "
            "evaluation.general_text."
        )
    result: StrengthsJson = {
        "run": run.id,
        "created": time.time(),
        "weights_sha256": result_identity(run)[0],
        "seconds": round(time.monotonic() - began, 2),
        **scored,
        "notes": notes,
        "proposed": proposed,
        "rule": RULE,
        "why": _why(proposed, scored, measure),
        "test": test,
    }
    write_json(run.strengths_file, result)
    return result


def strengths_of(run: RunDirectory) -> StrengthsJson | None:
    """The strengths measured for the current weights of `run`. None if there are none."""
    stored: Any = read_cached(run.strengths_file)
    return stored if stored is not None and run.has_result and is_made_of(stored, run.result) else None


def propose(values: Mapping[float, float | None], measure: Mapping[str, Any]) -> float:
    """The strength that RULE selects from `values`, the task scores by strength, including 1."""
    best = values[AS_TRAINED]
    fitting = [
        at
        for at, value in values.items()
        if value is not None and best is not None and _not_worse(value, best, measure)
    ]
    return min(fitting, default=AS_TRAINED)


def _not_worse(value: float, best: float, measure: Mapping[str, Any]) -> bool:
    """Whether `value` is at most one point worse than `best`, within floating-point error."""
    if measure["kind"] == "share":
        point = _POINT
    else:
        point = 100 * _POINT if measure.get("unit") == "points" else _POINT * abs(best)
    lost = value - best if measure["better"] == "lower" else best - value
    return lost <= point + 1e-9


def _scored(
    run: RunDirectory,
    config: RunConfig,
    split: str,
    strengths: Sequence[float],
    decides: str | None,
    tell: Progress,
    should_stop: Callable[[], bool] | None,
) -> tuple[ScoredStrengthsJson, MeasureJson]:
    """Base and `strengths` on the rows of `split`, and the deciding measure: `decides`, else the verdict's."""
    from ftlab.evaluation.material import gather

    tell(f"reading the {split} rows", 0, 0)
    material = gather([run], [config], None, splits=(split,))
    check_choice(material, config)
    sides = _sides(run, config, strengths)
    asked = questions_of(sides, material, config)
    batch_rows = config.evaluation.batch_size
    results = results_of(sides, asked, material, batch_rows=batch_rows, tell=tell, should_stop=should_stop)
    figures = measured(material, sides, asked, results, config)
    name = decides or figures.verdicts[ADAPTED]["measure"]
    trained = [side for side in sides if side.name == ADAPTED]
    against = task_measures(
        material, [*trained, *(side for side in sides if side not in trained)], asked, results, config
    )
    measure = next((other for other in against if other["name"] == name), None)
    if measure is None:
        raise InputError("Nothing was measured that tells which strength is better", given=f"run {run.id}")
    kept = [other for other in figures.measures if other["group"] == "general"]
    rows: list[StrengthJson] = [
        {
            "strength": 0.0 if side.name == BASE else side.strength,
            "value": measure["values"].get(side.name),
            "interval": measure["intervals"].get(side.name),
            "difference": measure["differences"].get(side.name),
            "kept": {general["name"]: general["values"].get(side.name) for general in kept},
            "forgetting": verdict.get("forgetting") if (verdict := figures.verdicts.get(side.name)) else None,
        }
        for side in sides
    ]
    return {
        "split": split,
        "rows": len(material.rows),
        "measure": _about(measure),
        "kept": [_about(general) for general in kept],
        "strengths": sorted(rows, key=lambda row: row["strength"]),
        "notes": material.notes,
    }, measure


def _sides(run: RunDirectory, config: RunConfig, strengths: Sequence[float]) -> list[Side]:
    """The base, the model as trained (called adapted), and the other strengths."""
    sides = [base_side(run, config), adapted_side(run, config, first=True)]
    for strength in strengths:
        if strength != AS_TRAINED:
            side = adapted_side(run, config, first=True, strength=strength)
            sides.append(replace(side, name=f"strength {strength:g}"))
    return sides


def _about(measure: MeasureJson) -> MeasureNameJson:
    about: Any = {key: value for key, value in measure.items() if key in MeasureNameJson.__annotations__}
    named: MeasureNameJson = about
    return named


def _why(proposed: float, scored: ScoredStrengthsJson, measure: Mapping[str, Any]) -> str:
    rows = {row["strength"]: row for row in scored["strengths"]}
    title, best = in_sentence(measure["title"]), value_text(measure, rows[AS_TRAINED]["value"])
    where = f"On {scored['rows']:,} validation rows"
    if proposed == AS_TRAINED:
        return f"{where} every smaller strength is more than a point worse than as trained ({title} {best})."
    there = value_text(measure, rows[proposed]["value"])
    return (
        f"{where} {title} is {there} at strength {proposed:g} and {best} as trained, a change of "
        f"{_change(measure, rows[proposed]['difference'])}: it is {RULE}."
    )


def choose(run: RunDirectory, strength: float) -> float:
    """Store `strength` for `run` as `choose_strength` does, with the rule and the supporting figures."""
    stored = strengths_of(run)
    rows = [row for row in (stored["strengths"] if stored else []) if row["strength"] == float(strength)]
    by_rule = stored is not None and stored["proposed"] == float(strength)
    figures = (
        {"split": stored["split"], "rows": stored["rows"], "measure": stored["measure"], **rows[0]}
        if stored and rows
        else None
    )
    return choose_strength(run, strength, by=f"by the rule: {RULE}" if by_rule else "by hand", figures=figures)


def table_of(scored: ScoredStrengthsJson) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of `measure_strengths`: strength, task with interval and change, what was kept."""
    measure, kept = scored["measure"], scored["kept"]
    head = ["strength", measure["title"], "95% interval", "change from 1", *(general["title"] for general in kept)]
    rows = []
    for row in scored["strengths"]:
        ends = row["interval"]
        rows.append(
            [
                _called(row["strength"]),
                value_text(measure, row["value"]),
                " to ".join(value_text(measure, end) for end in ends) if ends else "–",
                _change(measure, row["difference"]),
                *(value_text(general, row["kept"].get(general["name"])) for general in kept),
            ]
        )
    return head, rows


def lines(scored: StrengthsJson) -> list[str]:
    """The result as lines for a terminal: the table, the proposal, and its score on test rows."""
    head, rows = table_of(scored)
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    text_lines = [f"{scored['rows']:,} {scored['split']} rows"]
    text_lines += [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]
    ]
    text_lines += ["", f"proposed   {scored['proposed']:g}: {scored['why']}"]
    return text_lines + [f"test       {line}" for line in test_lines(scored)]


def test_lines(scored: StrengthsJson) -> list[str]:
    """The proposal on test rows compared with the base and the model as trained, in sentences. Empty without test
    rows."""
    test = scored.get("test")
    if not test:
        return []
    measure = test["measure"]
    values = ", ".join(f"{_called(row['strength'])}: {value_text(measure, row['value'])}" for row in test["strengths"])
    text_lines = [f"On {test['rows']:,} test rows, {in_sentence(measure['title'])} is: {values}."]
    row = next((row for row in test["strengths"] if row["strength"] == scored["proposed"]), None)
    if row and row["difference"]:
        text_lines.append(f"Strength {scored['proposed']:g} against as trained: {_change(measure, row['difference'])}.")
    return text_lines


def _called(strength: float) -> str:
    return {0.0: "0 (base)", AS_TRAINED: "1 (as trained)"}.get(strength, f"{strength:g}")


def _change(measure: Mapping[str, Any], difference: DifferenceJson | None) -> str:
    """A paired difference with its interval: −2 points (−6 to 2); empty for the model as trained."""
    if not difference or difference.get("value") is None:
        return "" if not difference else "–"
    share = measure["kind"] == "share"

    def amount(value: float) -> str:
        return signed(f"{abs(100 * value):.1f}".removesuffix(".0") if share else f"{abs(value):.3g}", value)

    unit = " points" if share or measure.get("unit") == "points" else ""
    ends = difference.get("interval")
    return f"{amount(difference['value'])}{unit}" + (f" ({amount(ends[0])} to {amount(ends[1])})" if ends else "")
