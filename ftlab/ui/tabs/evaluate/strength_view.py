"""What several strengths of a run reach and keep, as a table and a picture: for the Evaluate tab and for Jupyter."""

from __future__ import annotations

from markupsafe import Markup

from ftlab.core.run_results import StrengthsJson
from ftlab.evaluation.figures import in_sentence
from ftlab.report.charts import Series, plot
from ftlab.ui.kit.html import heading, join, labelled, list_items, notice

_COLOURS = "abcd"


def strengths_view(found: StrengthsJson) -> Markup:
    """Table, picture and proposal of what `measure_strengths` found."""
    from ftlab.evaluation.strengths import table_of, test_lines

    head, rows = table_of(found)
    where = f"The task on {found['rows']:,} {found['split']} rows. Changes are paired, with 95% intervals."
    told = [found["why"], *test_lines(found), *found["notes"]]
    lines = list_items(told)
    parts = [
        heading("What each strength reaches and keeps", where),
        Markup("<p><strong>{}</strong></p>").format(f"Proposed: strength {found['proposed']:g}."),
        _picture(found),
        labelled([one[:1].upper() + one[1:] for one in head], rows, "Strengths", css="ft-scores ft-strengths"),
        Markup('<ul class="ft-notes">{}</ul>').format(lines),
    ]
    return Markup('<section class="ft-card">{}</section>').format(join(parts))


def strength_line(found: StrengthsJson, strength: float) -> Markup:
    """What was measured at `strength`, or between which measured strengths it lies."""
    from ftlab.evaluation.strengths import table_of

    head, rows = table_of(found)
    by_strength = dict(zip((one["strength"] for one in found["strengths"]), rows, strict=True))
    on = f"on {found['rows']:,} {found['split']} rows"
    if strength in by_strength:
        task, _, change, *kept = by_strength[strength][1:]
        compared = f" ({change} from as trained)" if change else ""
        others = "".join(f"; {title} {value}" for title, value in zip(map(in_sentence, head[4:]), kept, strict=True))
        return notice(f"Strength {strength:g}, {on}: {in_sentence(head[1])} {task}{compared}{others}.")
    below = [one for one in by_strength if one < strength]
    near = [*([max(below)] if below else []), *([one for one in by_strength if one > strength][:1])]
    told = " and ".join(f"{by_strength[one][1]} at {one:g}" for one in near)
    return notice(f"Strength {strength:g} was not measured. {head[1]} {on} is {told}.")


def _picture(found: StrengthsJson) -> Markup:
    """The shares among the figures over the strengths, on one axis; empty where the task is no share."""
    if found["measure"]["kind"] != "share":
        return Markup("")
    kept = [one for one in found["kept"] if one["kind"] == "share"][: len(_COLOURS) - 1]
    drawn = [(found["measure"]["title"], [row["value"] for row in found["strengths"]])]
    drawn += [(one["title"], [row["kept"].get(one["name"]) for row in found["strengths"]]) for one in kept]
    series = []
    for css, (title, values) in zip(_COLOURS, drawn, strict=False):
        pairs = zip(found["strengths"], values, strict=True)
        points = [(row["strength"], 100 * value) for row, value in pairs if value is not None]
        series.append(Series(title, points, css, dots=True))
    return plot(series, title="By strength", unit="%", axis="strength", height=180)
