"""The results of the checks as HTML: progress, totals, a card per finding, and a row beside its match."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ftlab.data.checks.run import nothing_wrong
from ftlab.ui.kit.html import badge, count, duration, join, list_items, notice, pick_button
from ftlab.ui.run_names import version_name

SHOWN_ROWS = 20
_SHOWN_TEXTS = 3
_CELL_CHARACTERS = 6000
_BADGES = {"error": "bad", "warning": "warn", "note": "info"}
_DECIDE = {
    "mojibake": "Set the encoding under More, How it is read and split; or save the file again as UTF-8.",
    "unused_label": "Choose the column as Label under Rows, Which column is which.",
    "suspicious_label": "Read these rows in Curate (show: Most suspicious) and fix the wrong labels.",
    "few_answers": "Collect more answers, or keep these if choosing one of them is the task.",
    "stock_answers": "Have a person rewrite some of the answers.",
    "one_template": "Add prompts in people's own words.",
    "not_covered": "Collect rows about these topics, or decide that the model does not need them.",
    "system_unseen": "Write what the system prompt says into the questions, or choose a base whose template shows it.",
    "thoughts_unseen": "Choose a base whose template supports thoughts (reasoning_content), such as Qwen3.",
    "no_thoughts": "Keep it if you want short answers. Otherwise add the thoughts behind correct answers "
    "(reasoning_content), "
    "or choose a base that does not think.",
    "tools_added": "No action needed. Bases that know tools: Qwen2.5-Instruct, Qwen3, Llama 3.1.",
    "stop_token": "Choose a base whose chat template ends its answers, or report it to the makers of this one.",
}


def progress(phase: str, done: int, total: int, share: float | None, *, stopping: bool = False) -> Markup:
    """The progress of a check, in words and as a bar."""
    words = phase[:1].upper() + phase[1:]
    if total > 1:
        # Small numbers count pieces of work, not rows.
        unit = " prompts" if phase == "coverage" else " rows" if total >= 100 else ""
        words += f", {count(done)} of {count(total)}{unit}"
    if stopping:
        words = "Stopping. Findings so far are kept."
    if share is None:
        bar = Markup('<div class="ft-bar ft-bar-busy" role="progressbar" aria-label="progress"><i></i></div>')
    else:
        bar = Markup(
            '<div class="ft-bar" role="progressbar" aria-label="progress" aria-valuemin="0" aria-valuemax="100" '
            'aria-valuenow="{0}"><i style="width:{0}%"></i></div>'
        ).format(f"{100 * share:.0f}")
    return Markup('<div class="ft-line-card ft-checking" role="status" aria-live="off"><span>{}</span>{}</div>').format(
        words, bar
    )


def shortages(report: Mapping[str, Any]) -> list[str]:
    """What is in short supply: rows, or rows of a class. Not a finding about a row, but just as relevant."""
    return [advice["text"] for advice in report["advice"] if advice["level"] == "low"]


def totals(report: Mapping[str, Any]) -> Markup:
    """The number of findings by severity, the number of rows checked, and how long it took."""
    findings = report["findings"]
    short = {"warning": len(shortages(report))}  # as the badge counts them
    numbers = [
        _many(sum(finding["severity"] == severity for finding in findings) + short.get(severity, 0), severity)
        for severity in ("error", "warning", "note")
    ]
    rows, checked = report["rows"], report["checked"]
    looked_at = f"{_many(rows, 'row')}" if checked >= rows else f"{count(checked)} of {_many(rows, 'row')}"
    looked_at += ", those held out included"  # the Data tab counts them separately
    took = duration(max(1, sum(report["seconds"].values())))
    if not findings:
        partly = report["stopped"] or checked < rows or not report["usable"]
        told = notice(f"{nothing_wrong(report)} {looked_at}, checked in {took}.", kind="warn" if partly else "good")
        return told + _short_of(report) + _notes(report)
    line = Markup('<p class="ft-totals"><strong>{}, {} and {}</strong> in {}, checked in {}.</p>').format(
        *numbers, looked_at, took
    )
    return line + _short_of(report) + _notes(report)


def _short_of(report: Mapping[str, Any]) -> Markup:
    texts = shortages(report)
    return notice(" ".join(texts), kind="warn") if texts else Markup("")


def _notes(report: Mapping[str, Any]) -> Markup:
    if not report["notes"]:
        return Markup("")
    items = list_items(report["notes"])
    return Markup('<ul class="ft-notes">{}</ul>').format(items)


def cards(findings: Sequence[Mapping[str, Any]], *, fixes_all: bool = False) -> Markup:
    """A card for each finding; presses raise `row:<finding>:<row>` and `remedy:<finding>:<remedy>`.

    `fixes_all`: a button above them applies the first remedy of each.
    """
    if not findings:
        return Markup("")
    help = Markup('<p class="ft-help">Press a row to read it. Rows are counted from 0. {}</p>').format(
        "A remedy makes a new version; the source is never changed."
        + (" Fix all applies the first remedy of every error and warning." if fixes_all else "")
    )
    return help + Markup('<div class="ft-findings">{}</div>').format(
        join(_card(number, finding) for number, finding in enumerate(findings))
    )


def _card(number: int, finding: Mapping[str, Any]) -> Markup:
    parts = [
        Markup("<header>{}<h3>{}</h3><span class='ft-help'>{}</span></header>").format(
            badge(finding["severity"], _BADGES[finding["severity"]]), finding["title"], where(finding)
        ),
        Markup("<p>{}</p>").format(finding["why"]),
    ]
    lines = [*finding["shown"][:_SHOWN_TEXTS], *_details(finding["detail"])]
    if finding["detail"].get("raise_cost"):
        lines.append(f"A longer example costs: {finding['detail']['raise_cost']}.")
    if lines:
        parts.append(Markup('<ul class="ft-shown">{}</ul>').format(list_items(lines)))
    if finding["kind"] != "stop_token":
        parts.append(_row_buttons(number, finding))
    parts.append(_remedies(number, finding))
    return Markup('<section class="ft-finding" data-kind="{}" data-split="{}">{}</section>').format(
        finding["kind"], finding["split"], join(parts)
    )


def where(finding: Mapping[str, Any]) -> str:
    """The number of rows in each split."""
    if finding["kind"] == "stop_token":
        return "all rows"
    return f"{_many(finding['count'], 'row')} of {finding['split']}"


def _details(detail: Mapping[str, Any]) -> list[str]:
    reasons = [*detail.get("problems", {}).items(), *detail.get("reasons", {}).items()]
    return [f"{reason}: {_many(number, 'row')}" for reason, number in reasons]


def _row_buttons(number: int, finding: Mapping[str, Any]) -> Markup:
    buttons = [
        pick_button(f"row:{number}:{row}", str(row), label=f"Read row {row} of {finding['split']}")
        for row in finding["rows"][:SHOWN_ROWS]
    ]
    rest = finding["count"] - len(buttons)
    more = Markup('<span class="ft-help">and {} more</span>').format(count(rest)) if rest > 0 else ""
    return Markup('<div class="ft-row-picks">{}{}</div>').format(join(buttons), more)


def _remedies(number: int, finding: Mapping[str, Any]) -> Markup:
    offered = [remedy for remedy in finding["remedies"] if remedy != "none"]
    hint = Markup("")
    if "relabel" in offered:
        hint = Markup('<p class="ft-help">Press a row to choose the right answer.</p>')
        if not has_majority(finding):
            offered.remove("relabel")
    elif not offered or finding["kind"] in _DECIDE:
        hint = Markup('<p class="ft-help">{}</p>').format(_DECIDE.get(finding["kind"], "You need to decide this."))
    buttons = join(
        Markup('<button type="button" class="ft-do{}" data-pick="remedy:{}:{}" aria-label="{}">{}</button>').format(
            " ft-do-main" if remedy == finding["remedy"] else "",
            number,
            remedy,
            f"{remedy_words(remedy, finding)}: {finding['title']}",
            remedy_words(remedy, finding),
        )
        for remedy in offered
    )
    return Markup('<div class="ft-remedies">{}{}</div>').format(hint, buttons)


def has_majority(finding: Mapping[str, Any]) -> bool:
    """Whether some rows with conflicting answers can get the majority answer of their group."""
    own = ((finding["split"], row) for row in finding["rows"])
    return any(tuple(match) != place for match, place in zip(finding["matches"], own, strict=False))


def remedy_words(remedy: str, finding: Mapping[str, Any]) -> str:
    """What a remedy does to this finding: "Drop 12 rows"."""
    rows = _many(finding["count"], "row")
    return {
        "drop": f"Drop {rows}",
        "mask": f"Mask {'it' if finding['count'] == 1 else 'them'} in {rows}",
        "deduplicate": "Remove the copy, keep the first"
        if finding["count"] == 1
        else f"Remove {count(finding['count'])} copies, keep the first",
        "move": f"Move {rows} to the held-out split",
        "relabel": "Use the most common answer",
        "shorten": f"Cut sentences from {rows}",
        "raise": f"Raise the longest example to {count(finding['detail'].get('raise_to', 0))} tokens",
    }[remedy]


def what_was_done(action: str, number: int, name: str, before: int) -> Markup:
    """The description of a new version, and how to undo it."""
    done = [sentence.rstrip(".") + "." for sentence in action.split(". ")]
    lines = list_items(done)
    return Markup(
        '<div class="ft-box ft-good" role="status">Version {} of {} is open now.<ul>{}</ul>'
        '<p class="ft-help">To undo this, choose version {} under Versions.</p></div>'
    ).format(number, version_name(name), lines, before)


def row_beside_match(title: str, sides: Sequence[tuple[str, Mapping[str, Any]]]) -> Markup:
    """One row, or a row beside the one it duplicates: `sides` are (label, cells)."""
    sides_html = join(
        Markup('<div class="ft-side"><h4>{}</h4><dl>{}</dl></div>').format(
            name, join(Markup("<dt>{}</dt><dd>{}</dd>").format(column, _cell(value)) for column, value in cells.items())
        )
        for name, cells in sides
    )
    return Markup('<h3 class="ft-h">{}</h3><div class="ft-sides">{}</div>').format(title, sides_html)


def _cell(value: Any) -> str:
    if value is None:
        return "(missing)"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if not text.strip():
        return "(empty)"
    return text if len(text) <= _CELL_CHARACTERS else text[:_CELL_CHARACTERS] + " … (the rest is not shown)"


def _many(number: int, noun: str) -> str:
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"
