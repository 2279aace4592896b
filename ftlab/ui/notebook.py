"""ftlab's results in Jupyter: the same charts as in the tabs, with the app's style but without the app."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ftlab.arena.results import TallyJson
from ftlab.config import DataConfig
from ftlab.core.comparison import ComparisonJson
from ftlab.core.run_directory import RunDirectory
from ftlab.core.run_results import BeforeAfterJson, StrengthsJson
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.evaluation.before_after import CONTESTANTS
from ftlab.report.findings import MEANINGS, figure_rows, win_lines
from ftlab.ui.kit.html import badge, count, details, facts, heading, join, list_items, notice, table
from ftlab.ui.run_view import run as run_view
from ftlab.ui.tabs.data import findings as data_findings
from ftlab.ui.tabs.data import lengths as data_lengths
from ftlab.ui.tabs.evaluate import result as evaluate_result
from ftlab.ui.tabs.evaluate.result import strengths_view

if TYPE_CHECKING:
    from ftlab.data.checks import Report
    from ftlab.data.inspection import Inspection
    from ftlab.training.preflight.finding import Preflight

# Replaces the app's theme with neutral values that are readable in light and dark notebooks.
_THEME = """
 --border-color-primary: #88888855; --body-text-color-subdued: #808080; --block-background-fill: transparent;
 --background-fill-secondary: #88888818; --button-secondary-background-fill: transparent; --font-mono: monospace;
 font-family: system-ui, sans-serif; font-size: 14px; line-height: 1.45; max-width: 960px; margin: .3rem 0;
"""
# Buttons do nothing here, and Jupyter styles tables itself.
_MORE = """
 button { display: none; }
 table { margin: 0 !important; table-layout: auto !important; width: 100%; }
 tbody tr { background: transparent !important; }
 .ft-table th, .ft-table td { text-align: left !important; white-space: normal; max-width: none; }
 .ft-table .ft-num { text-align: right !important; white-space: nowrap; }
 td .ft-details { border: 0; padding: 0; } td .ft-details summary { font-weight: 400; }
 dt, dd { float: none !important; display: block !important; width: auto !important; margin-left: 0 !important; }
 .ft-cells dd { margin-bottom: .5rem; }
 svg { overflow: visible; }
"""
_DARK = ":is(html[theme=dark], body[data-jp-theme-light=false], body.vscode-dark) &"
_SHEETS = ("style.css", "tabs/blind_test/style.css")
_EXAMPLES = 3


def framed(body: str) -> str:
    """`body` as self-contained HTML; its style affects nothing else in the notebook."""
    return Markup('<style>{}</style><div class="ft-nb">{}</div>').format(Markup(_style()), body)


@functools.cache
def _style() -> str:
    """The rules of the app's stylesheets, nested so that they apply only within .ft-nb."""
    css = "\n".join((Path(__file__).parent / name).read_text(encoding="utf-8") for name in _SHEETS)
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    css = css.replace(":root {", "& {").replace(".dark {", f"{_DARK} {{")
    # Keyframes and page-level rules cannot be nested in another rule.
    css = re.sub(r"@keyframes[^{]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}", "", css)
    return re.sub(r"\s*\n\s*", "\n", f".ft-nb {{{_THEME}{css}{_MORE}}}")


def run_html(run: RunDirectory) -> str:
    """Figures, curves, warnings and outcome of `run`."""
    return framed(run_view.live(run))


def comparison_html(comparison: ComparisonJson, run: RunDirectory | None = None) -> str:
    """Verdict, table and charts of a comparison; with its `run`, also what to do next."""
    if run is not None:
        return framed(evaluate_result.result(run, comparison))
    notices = join(
        notice(verdict["text"], kind="info") for verdict in comparison.get("verdicts", {}).values() if verdict["text"]
    )
    body = join(
        [
            notices,
            evaluate_result.kept(comparison),
            evaluate_result.scores(comparison),
            evaluate_result.gains(comparison),
        ]
    )
    return framed(Markup('<section class="ft-card">{}</section>').format(body))


def strengths_html(strengths: StrengthsJson) -> str:
    """Table, chart and recommendation for the strengths of a run."""
    return framed(strengths_view(strengths))


def compared_html(picture: str, headings: Sequence[str], rows: Sequence[Sequence[Any]], lines: Sequence[str]) -> str:
    """Several runs: a chart, a table, and a sentence on each."""
    listed = list_items(lines)
    numbers = range(1, len(headings))
    body = join([picture, table(headings, rows, label="Runs", numbers=numbers)])
    notes = Markup('<ul class="ft-notes">{}</ul>').format(listed) if lines else ""
    return framed(Markup('<section class="ft-card">{}{}</section>').format(body, notes))


def inspection_html(inspection: Inspection) -> str:
    """What a data source contains, how its format was recognized, and its first rows."""
    splits = ", ".join(f"{count(rows)} {split}" for split, rows in inspection.splits.items())
    numbers = facts(
        [
            ("Rows", count(inspection.rows), splits or "cannot be trained on yet"),
            ("Format", inspection.format or None, f"{inspection.confidence:.0%} sure: {inspection.why}"),
            ("Prompt", f"{inspection.mean_prompt_characters:,.0f}", "characters on average"),
            ("Answer", f"{inspection.mean_answer_characters:,.0f}", "characters on average"),
        ]
    )
    left_out = [f"Left out: {reason} ({counted(rows, 'row')})" for reason, rows in inspection.dropped.items()]
    notes = list_items([*left_out, *inspection.notes])
    rows = [[row[column] for column in inspection.columns] for row in inspection.page(0, _EXAMPLES)]
    return framed(
        Markup('<section class="ft-card">{}{}{}{}{}</section>').format(
            heading(inspection.name),
            notice(inspection.problem, kind="bad") if inspection.problem else "",
            numbers,
            Markup('<ul class="ft-notes">{}</ul>').format(notes) if notes else "",
            table(inspection.columns, rows, label="First rows", css="ft-rows"),
        )
    )


def report_html(report: Report) -> str:
    """The results of the data checks: lengths, findings with their remedies, whether there is enough data."""
    values = report.as_dict()
    rows = [
        [
            badge(finding["severity"], {"error": "bad", "warning": "warn"}.get(finding["severity"], "info")),
            details(finding["title"], join([Markup("<p>{}</p>").format(finding["why"]), _shown(finding["shown"])])),
            data_findings.where(finding),
            _remedy(finding),
        ]
        for finding in values["findings"]
    ]
    listed = table(["", "Finding", "Rows", "Remedy"], rows, label="Findings") if rows else ""
    return framed(
        join(
            [
                Markup('<section class="ft-card">{}{}{}</section>').format(
                    heading(report.name), data_findings.totals(values), listed
                ),
                data_lengths.lengths(values["tokens"]),
                data_lengths.enough(values["advice"]),
            ]
        )
    )


def _remedy(finding: Mapping[str, Any]) -> str:
    if finding["remedy"] == "raise":
        return f"max_length={finding['detail']['raise_to']}: {finding['detail']['raise_cost']}"
    return "decide yourself" if finding["remedy"] == "none" else finding["remedy"]


def preflight_html(preflight: Preflight) -> str:
    """Whether a run fits, how long it takes, and what to know before it starts."""
    from ftlab.ui.tabs.train.preflight_view import card

    return framed(card(preflight, "before anything was started"))


def verdict_html(tally: TallyJson) -> str:
    """The verdict of a blind test with its charts."""
    from ftlab.ui.tabs.blind_test.verdict import verdict

    return framed(verdict(tally))


def row_html(data: DataConfig, workspace: Workspace, row: int, split: str | None, base: str, length: int | None) -> str:
    """A row of the source, and the tokens that the model reads, with the trained ones marked."""
    from ftlab.ui.tabs.data.row_view import row_card

    return framed(row_card(data, workspace, row, split, base, length))


def answers_html(message: str, base: str, adapted: str, notes: Sequence[str]) -> str:
    """One message and both answers, side by side."""
    panes = join(
        Markup(
            '<div class="ft-pane ft-pane-{}"><div class="ft-pane-name">{}</div><div class="ft-text">{}</div></div>'
        ).format(side, title, text)
        for side, title, text in (("base", "Base", base), ("adapted", "Adapted", adapted))
    )
    listed = list_items(notes)
    return framed(
        Markup('<div class="ft-said ft-text">{}</div><div class="ft-panes">{}</div>{}').format(
            message, panes, Markup('<ul class="ft-notes">{}</ul>').format(listed) if notes else ""
        )
    )


def before_after_html(comparison: BeforeAfterJson, rows: Sequence[Mapping[str, Any]]) -> str:
    """The answers of base, start and run to the same prompts: their figures, and the first few answers."""
    head, *figures = figure_rows(comparison)
    names = [name for name in CONTESTANTS if name in comparison["contestants"]]
    answers = [[row["prompt"][-1]["content"], *(row[name]["answer"] for name in names)] for row in rows[:_EXAMPLES]]
    titles = [CONTESTANTS[name].capitalize() for name in names]
    listed = list_items([*win_lines(comparison), *MEANINGS])
    return framed(
        Markup('<section class="ft-card">{}{}{}<ul class="ft-notes">{}</ul></section>').format(
            heading("Before and after", f"Greedy answers to the same {comparison['rows']} held-out prompts."),
            table(head, figures, label="Figures", numbers=range(1, len(head))),
            table(["Prompt", *titles], answers, label="Answers"),
            listed,
        )
    )


def page_html(page: str, height: int) -> str:
    """A whole page in a frame that blocks scripts."""
    return Markup(
        '<iframe srcdoc="{}" sandbox="" width="100%" height="{}" style="border:1px solid #8885;border-radius:8px;'
        'background:#fff"></iframe>'
    ).format(page, height)


def _shown(texts: Sequence[str]) -> Markup:
    lines = list_items(texts)
    return Markup("<ul>{}</ul>").format(lines) if texts else lines
