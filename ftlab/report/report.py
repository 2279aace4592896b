"""The comparison for decision makers: one HTML page, rendered from `contents`, as is its Markdown version."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from ftlab.config import load_config
from ftlab.core.files import read_jsonl, write_text
from ftlab.core.run_directory import RunDirectory
from ftlab.core.run_results import BeforeAfterJson
from ftlab.errors import FtlabError
from ftlab.evaluation.advisor import which_of
from ftlab.evaluation.drift import changed_answers
from ftlab.evaluation.seeds import verdict_with
from ftlab.evaluation.verdict import next_steps
from ftlab.report.charts import gain_loss_chart
from ftlab.report.facts import measured, retrieved, strength_fact, tuned_on
from ftlab.report.findings import (
    MEANINGS,
    also_checked,
    asked_beside,
    badge,
    choose_examples,
    figure_rows,
    forgetting,
    judgements_of,
    kept_answer,
    kept_rows,
    right_text,
    where_worse,
    win_lines,
)
from ftlab.report.measures import (
    comparison_table,
    gained_text,
    looks_note,
    of_documents,
    render_page,
    sides_of,
    verdict_text,
)

__all__ = ["choose_examples", "comparison_table", "contents", "write_report"]

_LONGEST = 420
_MOST_NOTES = 3
# What fits on the page. All measures are on the Evaluate tab and in comparison.json.
_MOST_MEASURES = {"task": 9, "cost": 3, "general": 4, "style": 2}


def write_report(run: RunDirectory, *, price_per_hour: float | None = None, name: str | None = None) -> Path:
    """Write the one-page report of the run's own comparison. Returns its path.

    One HTML file without scripts or external requests. With `price_per_hour` of the machine, it includes the cost.
    `name` is what the run is called there. Raises FtlabError before an evaluation.
    """
    write_text(run.report_file, _page(contents(run, price_per_hour=price_per_hour, name=name)))
    return run.report_file


def contents(run: RunDirectory, *, price_per_hour: float | None = None, name: str | None = None) -> dict[str, Any]:
    """Everything in a report, as texts. Raises FtlabError before an evaluation."""
    comparison, config = run.comparison(), load_config(run.config_file)
    if comparison is None and config.is_reward_model:
        raise FtlabError(
            f"The run {run.id} is a reward model: it writes no answers to compare",
            try_="its share of held-out pairs is in evaluation/preferences.json, and on the Evaluate tab",
        )
    if comparison is None:
        raise FtlabError(f"The run {run.id} has not been evaluated", try_=f"python -m ftlab evaluate {run.id}")
    predictions = run.predictions()
    checked = [*_choice(run), *also_checked(comparison), *_over_seeds(run), *asked_beside(run), *judgements_of(run)]
    table = _most_telling(comparison_table(comparison), comparison["verdict"].get("measure"))
    examples, rule = choose_examples(predictions)
    return {
        "run": run,
        "name": name or config.name or run.id,
        "date": _date(comparison["created"]),
        "verdict": verdict_text(comparison),
        "badge": badge(comparison["verdict"]),
        "facts": [*tuned_on(run, config, comparison, price_per_hour), *strength_fact(run)],
        "sides": sides_of(comparison),
        "table": table,
        "comparison": comparison,
        "gained": gained_text(comparison),
        "looks": looks_note(comparison),
        "notes": comparison["notes"][:_MOST_NOTES],
        "forgetting": forgetting(comparison),
        "kept": kept_rows(comparison),
        "kept_answer": kept_answer(comparison),
        "lost": _lost(run)[:2],
        "moved": changed_answers(comparison),
        "worse": where_worse(comparison, predictions),
        "checked": checked,
        "before_after": _before_after(run.before_after()),
        "of_documents": of_documents(comparison),
        "examples": [
            {key: _clip(value) for key, value in row.items()}
            | {"tone": _tone(row["kind"])}
            | {f"said_{side}": right_text(row, side) for side in ("base", "adapted")}
            for row in examples
        ],
        "rule": rule,
        "measured": measured(comparison, {row["name"] for row in table}),
        "steps": next_steps(comparison, config),
    }


def _choice(run: RunDirectory) -> list[tuple[str, str]]:
    """Whether to use prompting, retrieval or tuning, from the comparison that includes the most of them."""
    for side in ("retrieved", "prompted"):
        comparison = run.with_side(side).comparison()
        if comparison and (text := which_of(comparison)):
            retrieval = retrieved(comparison)
            return [
                ("Prompting, retrieval or tuning", text),
                *([("How retrieval worked", retrieval)] if retrieval else []),
            ]
    return []


def _over_seeds(run: RunDirectory) -> list[tuple[str, str]]:
    verdict = verdict_with(run)
    return [(f"Over {len(verdict.runs)} seeds", verdict.text)] if verdict else []


def _page(report: dict[str, Any]) -> str:
    names = {row["name"] for row in report["table"]}
    return render_page("report.html.jinja", **report, chart=gain_loss_chart(report["comparison"], only=names))


def _lost(run: RunDirectory) -> list[dict[str, Any]]:
    """The general questions that only the base answers right, with kinds that were not replayed first."""
    lost = [row for row in read_jsonl(run.probes_file) if row["base_correct"] and not row["adapted_correct"]]
    return sorted(lost, key=lambda row: bool(row.get("replayed")))


def _most_telling(rows: list[dict[str, Any]], decided: str | None) -> list[dict[str, Any]]:
    """As many rows of each group as the page has room for, in order. The measure that `decided` comes first."""
    kept = sorted(rows, key=lambda row: row["name"] != decided)
    return [row for group, most in _MOST_MEASURES.items() for row in [r for r in kept if r["group"] == group][:most]]


def _before_after(result: BeforeAfterJson | None) -> dict[str, Any] | None:
    """The answers of base, start and run in three figures each. None for runs that have none."""
    if result is None:
        return None
    head, *rows = [[row[0], row[1], row[3], row[4]] for row in figure_rows(result)]
    how = f"Greedy answers to {result['rows']} prompts of the {result['split']} split: {' '.join(MEANINGS[:3])}"
    return {"head": head, "rows": rows, "how": how, "lines": win_lines(result)}


def _tone(kind: str) -> str:
    return "improved" if kind.startswith("improved") else "worse" if kind.startswith("got worse") else "same"


def _clip(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _LONGEST:
        return value[: _LONGEST - 1].rstrip() + "…"
    return value


def _date(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds)
    return f"{moment.day} {moment:%B %Y}"
