"""What several strengths of a run reach and keep, as a table and a picture: for the Evaluate tab and for Jupyter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from ftlab.ui.charts import Series, plot
from ftlab.ui.html import heading, join, table

_COLOURS = "abcd"


def strengths_view(found: Mapping[str, Any]) -> Markup:
    """Table, picture and proposal of what `measure_strengths` found."""
    from ftlab.evaluation.strengths import table_of, test_lines

    head, rows = table_of(found)
    where = f"On {found['rows']:,} {found['split']} rows; the change is paired, with its 95% interval."
    told = [f"Proposed: {found['proposed']:g}. {found['why']}", *test_lines(found), *found["notes"]]
    lines = join(Markup("<li>{}</li>").format(line) for line in told)
    return join(
        [
            heading("Task against what was kept", where),
            _picture(found),
            table(head, rows, label="Strengths", numbers=range(1, len(head))),
            Markup('<ul class="ft-notes">{}</ul>').format(lines),
        ]
    )


def _picture(found: Mapping[str, Any]) -> Markup:
    """The shares among the figures over the strengths, on one axis; empty where the task is no share."""
    if found["measure"]["kind"] != "share":
        return Markup("")
    kept = [one for one in found["kept"] if one["kind"] == "share"][: len(_COLOURS) - 1]
    drawn = [(found["measure"]["title"], lambda row: row["value"])]
    drawn += [(one["title"], lambda row, name=one["name"]: row["kept"].get(name)) for one in kept]
    series = []
    for css, (title, value) in zip(_COLOURS, drawn, strict=False):
        points = [(row["strength"], 100 * at) for row in found["strengths"] if (at := value(row)) is not None]
        series.append(Series(title, points, css, dots=True))
    return plot(series, title="By strength", unit="%", axis="strength", height=180)
