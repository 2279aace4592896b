"""What a run gains and keeps at several strengths, as a table and a chart: for the Evaluate tab and Jupyter."""

from __future__ import annotations

from markupsafe import Markup

from ftlab.core.run_results import StrengthsJson
from ftlab.evaluation.figures import in_sentence
from ftlab.report.charts import Series, plot
from ftlab.ui.kit.html import heading, join, labelled, list_items, notice

_COLOURS = "abcd"


def strengths_view(measured: StrengthsJson) -> Markup:
    """Table, chart and recommendation from the result of `measure_strengths`."""
    from ftlab.evaluation.strengths import table_of, test_lines

    head, rows = table_of(measured)
    where = f"The task on {measured['rows']:,} {measured['split']} rows. Changes are paired, with 95% intervals."
    told = [measured["why"], *test_lines(measured), *measured["notes"]]
    lines = list_items(told)
    parts = [
        heading("Gain and retention by strength", where),
        Markup("<p><strong>{}</strong></p>").format(f"Proposed: strength {measured['proposed']:g}."),
        _picture(measured),
        labelled([title[:1].upper() + title[1:] for title in head], rows, "Strengths", css="ft-scores ft-strengths"),
        Markup('<ul class="ft-notes">{}</ul>').format(lines),
    ]
    return Markup('<section class="ft-card">{}</section>').format(join(parts))


def strength_line(measured: StrengthsJson, strength: float) -> Markup:
    """The measurements at `strength`, or the two measured strengths around it."""
    from ftlab.evaluation.strengths import table_of

    head, rows = table_of(measured)
    by_strength = dict(zip((step["strength"] for step in measured["strengths"]), rows, strict=True))
    on = f"on {measured['rows']:,} {measured['split']} rows"
    if strength in by_strength:
        task, _, change, *kept = by_strength[strength][1:]
        compared = f" ({change} from as trained)" if change else ""
        others = "".join(f"; {title} {value}" for title, value in zip(map(in_sentence, head[4:]), kept, strict=True))
        return notice(f"Strength {strength:g}, {on}: {in_sentence(head[1])} {task}{compared}{others}.")
    below = [step for step in by_strength if step < strength]
    near = [*([max(below)] if below else []), *([step for step in by_strength if step > strength][:1])]
    told = " and ".join(f"{by_strength[step][1]} at {step:g}" for step in near)
    return notice(f"Strength {strength:g} was not measured. {head[1]} {on} is {told}.")


def _picture(measured: StrengthsJson) -> Markup:
    """Figures that are shares, plotted over the strengths on one axis; empty if the task measure is not a share."""
    if measured["measure"]["kind"] != "share":
        return Markup("")
    kept = [measure for measure in measured["kept"] if measure["kind"] == "share"][: len(_COLOURS) - 1]
    drawn = [(measured["measure"]["title"], [row["value"] for row in measured["strengths"]])]
    drawn += [
        (measure["title"], [row["kept"].get(measure["name"]) for row in measured["strengths"]]) for measure in kept
    ]
    series = []
    for css, (title, values) in zip(_COLOURS, drawn, strict=False):
        pairs = zip(measured["strengths"], values, strict=True)
        points = [(row["strength"], 100 * value) for row, value in pairs if value is not None]
        series.append(Series(title, points, css, dots=True))
    return plot(series, title="By strength", unit="%", axis="strength", height=180)
