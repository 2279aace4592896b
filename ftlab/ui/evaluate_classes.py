"""What stands behind one figure: precision and recall of each class, what was taken for what, each field of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from ftlab.core.comparison import ComparisonJson, SideJson
from ftlab.evaluation.figures import percent
from ftlab.report.measures import measures_of, sides_of
from ftlab.ui.html import details, heading, join, table

_MOST_LABELS = 20  # of a confusion matrix that can still be read


def details_of(comparison: ComparisonJson) -> Markup:
    """The details of every measure that has some, folded; empty without any."""
    sides, parts = sides_of(comparison), Markup("")
    for measure in measures_of(comparison):
        found = measure.get("detail")
        if not found:
            continue
        if "labels" in found:
            body = Markup("{}{}").format(per_class(found, sides), confusions(found, sides))
            parts += details(f"{measure['title']}: every class, and what was taken for what", body)
        if found.get("fields"):
            parts += details(f"{measure['title']}: every field", fields(found["fields"], sides))
    return Markup('<div class="ft-folds">{}</div>').format(parts) if parts else parts


def per_class(detail: Mapping[str, Any], sides: list[SideJson]) -> Markup:
    """Rows, precision, recall and F1 of each class on each side."""
    known = [side for side in sides if detail.get(side["name"])]
    by_label = {side["name"]: {one["label"]: one for one in detail[side["name"]]["per_class"]} for side in known}
    rows = []
    for label in detail["labels"]:
        found = [by_label[side["name"]].get(label) for side in known]
        cells = [
            "–"
            if one is None
            else Markup('<b>{}</b><span class="ft-help ft-block">precision {}, recall {}</span>').format(
                percent(one["f1"]), percent(one["precision"]), percent(one["recall"])
            )
            for one in found
        ]
        rows.append([label, next((one["rows"] for one in found if one), 0), *cells])
    counted = "Answers" if detail.get("samples") else "Rows"
    heads = ["Class", counted, *(f"F1, {side['title'].lower()}" for side in known)]
    return table(heads, rows, label="Every class", numbers=range(1, len(heads)))


def confusions(detail: Mapping[str, Any], sides: list[SideJson]) -> Markup:
    """A confusion matrix for each side: the row is what was right, the column what was answered."""
    labels = detail["labels"]
    if len(labels) > _MOST_LABELS:
        return Markup('<p class="ft-help">No confusion matrix: {} classes are too many to read.</p>').format(
            len(labels)
        )
    figures = join(
        Markup('<figure class="ft-confusion"><figcaption><strong>{}</strong></figcaption>{}</figure>').format(
            side["title"], _matrix(labels, detail[side["name"]]["confusion"])
        )
        for side in reversed(sides)
        if detail.get(side["name"], {}).get("confusion")
    )
    if not figures:
        return figures
    return Markup('{}<div class="ft-confusions">{}</div>').format(
        heading(
            "What was taken for what", "A line is the right class, a column the answer; on the diagonal both agree."
        ),
        figures,
    )


def fields(found: Mapping[str, Mapping[str, float]], sides: list[SideJson]) -> Markup:
    """The share of rows in which each field of the JSON is right."""
    known = [side for side in sides if any(side["name"] in shares for shares in found.values())]
    rows = [
        [name, *("–" if shares.get(side["name"]) is None else percent(shares[side["name"]]) for side in known)]
        for name, shares in found.items()
    ]
    heads = ["Field", *(side["title"] for side in known)]
    return table(heads, rows, label="Every field", numbers=range(1, len(heads)))


def _matrix(labels: list[str], counts: list[list[int]]) -> Markup:
    """Shades go by the share of the line, so that a rare class is seen as well."""
    # Answers that are no label have a column of their own, behind the labels.
    columns = [*labels, *(["other"] if counts and len(counts[0]) > len(labels) else [])]
    heads = join(Markup('<th scope="col"><span>{}</span></th>').format(label) for label in columns)
    body = Markup("")
    for row, label in enumerate(labels):
        total = sum(counts[row]) or 1
        cells = join(
            Markup('<td class="{}" style="--ft-share:{:.0f}%">{}</td>').format(
                "ft-hit" if row == column else "ft-miss", 100 * value / total, value or ""
            )
            for column, value in enumerate(counts[row])
        )
        body += Markup('<tr><th scope="row">{}</th>{}</tr>').format(label, cells)
    return Markup(
        '<div class="ft-scroll" tabindex="0" role="region" aria-label="Confusion matrix"><table class="ft-matrix">'
        "<thead><tr><td></td>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format(heads, body)
