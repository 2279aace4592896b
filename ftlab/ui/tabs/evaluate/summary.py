"""The top of the Evaluate tab: the verdict, three figures, and the answers that changed most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ftlab.config import STARTER
from ftlab.core.comparison import ComparisonJson, decided_by, scores_of, verdict_of
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import counted
from ftlab.errors import shorten
from ftlab.evaluation.figures import in_sentence, value_text
from ftlab.evaluation.forgetting import KNEW
from ftlab.evaluation.metrics.text import words
from ftlab.evaluation.rows import LOSS, LOSS_MEASURE, gain, row_scores
from ftlab.report.findings import kept_answer, kept_rows
from ftlab.report.measures import interval_text, measures_of, of_documents, sides_of, verdict_headline
from ftlab.ui import run_files, run_names
from ftlab.ui.kit.html import count, facts, heading, join, notice
from ftlab.ui.run_view import run as run_view
from ftlab.ui.tabs.evaluate import rows as evaluate_rows

MOST = 3  # answers of each kind
_KNEW = KNEW.capitalize()
_GAINED = "Gained most"
_LONGEST = 700  # characters of a text; a card shows four lines

Row = Mapping[str, Any]


def summary(run: RunDirectory, comparison: ComparisonJson, rows: Sequence[Row]) -> Markup:
    """Verdict, what it was measured on, three figures, and the answers that changed most."""
    parts = [verdict(comparison), measured_on(run, comparison, rows), figures(comparison, rows)]
    return Markup('<section class="ft-card ft-summary" data-run="{}">{}</section>{}').format(
        run.id, join(parts), examples(comparison, rows)
    )


def verdict(comparison: ComparisonJson) -> Markup:
    """The verdict in a sentence; for several runs side by side, one for each."""
    if verdict_of(comparison, "adapted"):
        kind = run_view.verdict_kind(comparison)
        return notice(Markup("<strong>{}</strong>").format(verdict_headline(comparison)), kind=kind)
    titles = {side["name"]: side["title"] for side in sides_of(comparison)}
    judged = {name: entry for name, entry in comparison.get("verdicts", {}).items() if name in titles}
    kinds = {True: "good", False: "bad", None: "warn"}
    return join(
        notice(Markup("<strong>{}</strong>: {}").format(titles[name], entry["text"]), kind=kinds[entry["better"]])
        for name, entry in judged.items()
    )


def measured_on(run: RunDirectory, comparison: ComparisonJson, rows: Sequence[Row]) -> Markup:
    """The rows behind these figures; a warning if they are not from the run's own data."""
    config, suite = run_files.config(run), comparison.get("suite")
    own = run_names.data_name(config) if config else "its own data"
    number = comparison.get("rows") or scores_of(comparison, "adapted").get("rows") or len(rows)
    what = "documents" if of_documents(comparison) else "rows"
    if suite:
        text = f"Measured on {count(number)} {what} of {suite}. This run was trained on {own}: other data."
        return notice(text, kind="warn")
    split = comparison.get("split") or "test"
    toy = " The base is a toy: this shows the method, not how good it gets."
    held_out = Markup('<p class="ft-help">On {} {} {} of {}, held out from training.{}</p>').format(
        count(number), split, what, own, toy if config and config.model.base == STARTER else ""
    )
    return held_out + beside(run, comparison)


def beside(run: RunDirectory, comparison: ComparisonJson) -> Markup:
    """A warning if a run compared with `run` learned from other data, so these rows are no test of it."""
    folders = [run.path, *(run.path.with_name(side["name"]) for side in sides_of(comparison))]
    runs = [RunDirectory(folder) for folder in dict.fromkeys(folders) if folder.is_dir()]
    differ = run_names.differing_data([run_files.config(other) for other in runs])
    return notice(differ, kind="warn") if differ else Markup("")


def figures(comparison: ComparisonJson, rows: Sequence[Row]) -> Markup:
    """The deciding measure, what was kept of the base, and the length of answers."""
    first, later = _pair(comparison)
    parts = [_task(comparison, first, later), _kept(comparison), _length(rows, first, later)]
    return facts(part for part in parts if part)


Figure = tuple[str, str, str]


def _task(comparison: ComparisonJson, first: str, later: str) -> Figure | None:
    known = {info["name"]: info for info in measures_of(comparison)}
    measure = known.get(decided_by(comparison) or "") or next(iter(known.values()), None)
    if measure is None:
        return None
    before, after = (value_text(measure, measure["values"].get(side)) for side in (first, later))
    interval = interval_text(measure, (measure.get("intervals") or {}).get(later))
    lower = "lower is better" if measure.get("better") == "lower" else ""
    notes = [interval and f"95% interval {interval}", counted(measure.get("rows") or 0, "row"), lower]
    return measure["title"], f"{before} → {after}", ", ".join(filter(None, notes))


def _kept(comparison: ComparisonJson) -> Figure | None:
    """None for several runs side by side, whose table includes it."""
    answer = kept_answer(comparison)
    if answer is None:
        measured = verdict_of(comparison, "adapted") is None
        return None if measured else (_KNEW, "Not measured", "")
    deciding = [
        candidate for candidate in kept_rows(comparison) if candidate["answer"] and "," not in candidate["answer"]
    ]
    # The figure beside "Lost" must be a loss, not something that was kept.
    row = next((candidate for candidate in deciding if candidate["answer"] == answer[0]), next(iter(deciding), None))
    text = f"{row['measured']}: {row['base']} → {row['adapted']}" if row else ""
    return _KNEW, answer[0].capitalize(), text


def _length(rows: Sequence[Row], first: str, later: str) -> Figure | None:
    """Mean words per answer. Truncated answers are marked, as they would have been longer."""
    answered = [row for row in rows if "document" not in row and row.get(later) is not None]
    if not answered:
        return None
    before, after, wanted = (
        sum(len(words(str(row.get(side) or ""))) for row in answered) / len(answered)
        for side in (first, later, "reference")
    )
    cut = [sum(bool(row.get(f"{side}_cut")) for row in answered) for side in (first, later)]
    least = ["≥" if some else "" for some in cut]  # truncated answers would have been longer
    notes = [f"words, references {wanted:.0f}"]
    notes += [f"cut off: {cut[0]} and {cut[1]} of {len(answered)}"] if any(cut) else []
    return "Length of answers", f"{least[0]}{before:.0f} → {least[1]}{after:.0f}", "; ".join(notes)


def examples(comparison: ComparisonJson, rows: Sequence[Row]) -> Markup:
    """The answers that gained most and those that got worse, both sides next to each other; empty for documents."""
    if not rows or "document" in rows[0]:
        return Markup("")
    sides, pair = sides_of(comparison), _pair(comparison)
    titles = {side["name"]: side["title"] for side in sides}
    known = evaluate_rows.measures_shown(comparison, rows)
    name = evaluate_rows.usual(comparison, known)
    measure = known.get(name, LOSS_MEASURE)
    gained, worse = changed_most(rows, name, pair, higher=measure.get("better") != "lower")
    by = in_sentence(measure["title"])
    parts = [
        _group(_GAINED, f"No answer gained by {by}.", gained, measure, pair, titles),
        _group("Got worse", f"No answer got worse by {by}.", worse, measure, pair, titles),
    ]
    return Markup('<div class="ft-examples">{}</div>').format(join(parts))


def changed_most(
    rows: Sequence[Row], measure: str, pair: tuple[str, str], *, higher: bool
) -> tuple[list[Row], list[Row]]:
    """Up to three rows that gained most and three that lost most; ties are ordered by the loss on the reference."""

    def change(row: Row) -> tuple[float, float]:
        return gain(row, measure, pair, higher=higher) or 0.0, gain(row, LOSS, pair, higher=False) or 0.0

    gained = sorted((row for row in rows if change(row)[0] > 0), key=change, reverse=True)
    return gained[:MOST], sorted((row for row in rows if change(row)[0] < 0), key=change)[:MOST]


def _group(
    title: str,
    none: str,
    rows: Sequence[Row],
    measure: Mapping[str, Any],
    pair: tuple[str, str],
    titles: Mapping[str, str],
) -> Markup:
    if not rows:
        return Markup('<section class="ft-none">{}<p class="ft-help">{}</p></section>').format(heading(title), none)
    cards = join(_card(row, measure, pair, titles) for row in rows)
    differs = any(str(row.get(pair[1]) or "").strip() != str(row.get("reference") or "").strip() for row in rows)
    hint = "Nearer to the reference than before, not necessarily right." if title == _GAINED and differs else ""
    return Markup('<section>{}<div class="ft-content">{}</div></section>').format(heading(title, hint), cards)


def _card(row: Row, measure: Mapping[str, Any], pair: tuple[str, str], titles: Mapping[str, str]) -> Markup:
    values = row_scores(row, pair).get(measure["name"], {})
    panes = join(
        Markup(
            '<div class="ft-pane ft-pane-{}" data-side="{}"><div class="ft-pane-name">{} <span>{} {}</span></div>'
            '<div class="ft-text">{}</div></div>'
        ).format(
            "adapted" if place else "base",
            side,
            titles[side],
            in_sentence(measure["title"]),
            value_text(measure, values.get(side)),
            _cut(row.get(side)) or "(nothing)",
        )
        for place, side in enumerate(pair)
    )
    reference = _cut(row.get("reference"))
    wanted = Markup('<div class="ft-text ft-help">Reference: {}</div>').format(reference) if reference else ""
    return Markup(
        '<article class="ft-example"><div class="ft-text">{}</div><div class="ft-panes">{}</div>{}</article>'
    ).format(_cut(row.get("prompt")), panes, wanted)


def _cut(text: Any) -> str:
    return shorten(str(text or "").strip(), _LONGEST)


def _pair(comparison: ComparisonJson) -> tuple[str, str]:
    sides = sides_of(comparison)
    return sides[0]["name"], evaluate_rows.newest(sides)
