"""The measures of a comparison in the form that all surfaces use: rows of figures, tables, evidence for the advisor,
the page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftlab.core.comparison import ComparisonJson as Comparison
from ftlab.core.comparison import MeasureInfoJson, SideJson, decided_by, scores_of, verdict_of
from ftlab.core.comparison import MeasureJson as Measure
from ftlab.errors import shorten
from ftlab.evaluation.advisor import Evidence, which_of
from ftlab.evaluation.figures import change_text, percent, signed, value_text
from ftlab.evaluation.forgetting import (
    KNEW,
    answer_of,
    counted,
    direction,
    gain_loss,
    is_look,
    is_unmeasured,
    kept_in_words,
    lost_in_words,
    with_adjusted,
)
from ftlab.evaluation.metrics.table import BUILT_IN
from ftlab.evaluation.significance import p_text

_TIME = re.compile(r"^\d{8}-\d{6}-")


def measures_of(comparison: Comparison) -> list[Measure]:
    """The measures of `comparison`, each p also adjusted over all that are listed (`p_adjusted`, by Holm)."""
    return with_adjusted(comparison["measures"])


def sides_of(comparison: Comparison) -> list[SideJson]:
    """The sides in order: name, title, what. The others are compared with the first."""
    # The timestamp at the beginning of a run's id says nothing about the run.
    return [{**side, "title": _TIME.sub("", side["title"])} for side in comparison["sides"]]


def later_sides(comparison: Comparison) -> list[SideJson]:
    return sides_of(comparison)[1:]


# How verdicts ended before they said it in the words of the figure.
_ENDED = re.compile(r"(, (but|and) it (forgot|changed elsewhere): .*|; whether it forgot cannot be told)\.$")


def verdict_text(comparison: Comparison) -> str:
    """The verdict of `comparison` in a sentence. Adds a remark if a real base was compared and forgetting was not
    measured, since comparisons from before that rule do not mention it."""
    text, scored = comparison["verdict"]["text"], comparison.get("forgetting")
    no_worse = comparison["verdict"].get("no_worse")  # its sentence follows
    if scored and scored.get("parts") and not no_worse and (earlier := _ENDED.search(text)):
        return f"{text[: earlier.start()]}; {kept_in_words(scored)}."
    base = comparison["sides"][0]["what"]
    if base == "starter" or not is_unmeasured(comparison) or "not measured" in text:
        return text
    return f"{text.removesuffix('.')}; {KNEW}: not measured."


def verdict_headline(comparison: Comparison) -> str:
    """`verdict_text` without the figures of what was lost, for where they stand beside it."""
    text, scored = verdict_text(comparison), comparison.get("forgetting")
    lost = lost_in_words(scored) if scored and scored.get("parts") else ""
    return text.replace(f": lost, {lost}", ": lost", 1) if lost else text


def verdict_short(comparison: Comparison) -> str:
    """`verdict_headline` without its figures, for where another measure stands first: "Compared with the base: better;
    what the base knew: kept."."""
    first, _, rest = (text := verdict_headline(comparison)).partition(": ")
    knew = rest.rfind(f"; {KNEW}")
    if not rest:
        return text
    return f"Compared with the base: {first[:1].lower()}{first[1:]}{rest[knew:] if knew >= 0 else '.'}"


def of_documents(comparison: Comparison) -> bool:
    """Whether plain text was compared: documents scored by likelihood, without prompts and answers."""
    return scores_of(comparison, "adapted").get("exact_match", 0) is None


def interval_text(measure: MeasureInfoJson, interval: list[float] | None) -> str:
    """A 95% interval: 78–92%, 20.0–29.0. Empty for None."""
    if not interval:
        return ""
    low, high = interval
    if measure["kind"] == "share":
        return f"{100 * low:.0f}–{100 * high:.0f}%"
    return f"{value_text(measure, low)}–{value_text(measure, high)}"


def unit_text(measure: Measure) -> str:
    """The unit of the values, or which direction is better if they have no unit."""
    if measure["kind"] == "share":
        if measure["name"].startswith("base_agreement"):
            return "% of places"
        return BUILT_IN[measure["name"]].share_of if measure["name"] in BUILT_IN else "%"
    if measure.get("unit") == "points":
        return "0 to 100"
    wish = f"{measure['better']} is better" if measure.get("better") else ""
    return ", ".join(filter(None, [measure.get("unit"), wish]))


def improved(measure: Measure, side: str, first: str) -> bool | None:
    """Whether `side` is significantly better than `first`, adjusted over all listed measures. None if the data cannot
    tell, and without a test."""
    before, after = (measure["values"].get(name) for name in (first, side))
    return None if before is None or after is None else direction(measure, side)


def p_of(measure: Measure, side: str) -> str:
    """The p of `side` against the first side as text: p < .001. One that is below 5% only without adjustment is called
    a look."""
    differences = measure.get("differences", {})
    p = differences[side].get("p") if side in differences else None
    return "" if p is None else p_text(p) + (", a look" if is_look(measure, side) else "")


def gained_text(comparison: Comparison) -> str:
    """Gains and losses in words, recomputed for comparisons that did not yet separate looks from findings."""
    known = comparison.get("gain_loss")
    if not known or "looks" in known:
        return known["text"] if known else ""
    return gain_loss(measures_of(comparison), later_sides(comparison)[0]["name"])["text"]


def looks_note(comparison: Comparison) -> str:
    """What the colors and the word "look" in a list of measures mean. Empty for fewer than two measures."""
    return looks_text(measures_of(comparison), [side["name"] for side in sides_of(comparison)])


def looks_text(measures: Sequence[Measure], sides: Sequence[str]) -> str:
    """Like `looks_note`, for `measures` shown on their own."""
    of = max((counted(measures, side) for side in sides), default=0)
    if of < 2:
        return ""
    return (
        f"A finding is significant among all {of} listed measures (Holm's correction at 5%). A look has p < .05 only "
        "on its own: in a list this long, chance alone produces some."
        + (
            " Forgetting has its own test, which asks only whether the model got worse (one-sided); p in the list is "
            "two-sided."
            if any(measure["group"] == "general" for measure in measures)
            else ""
        )
    )


def unbroken(text: str) -> str:
    """`text` with non-breaking spaces in p-values such as "p < .001"."""
    return text.replace("p < ", "p\u00a0<\u00a0").replace("p = ", "p\u00a0=\u00a0")


def by_same_kinds(runs: Sequence[tuple[Comparison, Sequence[Mapping[str, Any]]]]) -> list[Comparison]:
    """The comparisons of several runs, each with the rows of its probes.jsonl, made comparable: the general questions
    of all are split by the kinds that any of them replayed."""
    from ftlab.evaluation.drift import regrouped

    known = [comparison.get("settings", {}).get("replayed_kinds") for comparison, _ in runs]
    kinds = None if None in known else frozenset(kind for kinds_ in known for kind in kinds_ or ())
    return [
        {**comparison, "measures": regrouped(measures_of(comparison), probes, kinds)} for comparison, probes in runs
    ]


__all__ = ["comparison_table", "of_documents"]


def comparison_table(comparison: Comparison) -> list[dict[str, Any]]:
    """One row per measure, with texts ready for display.

    Keys: measure, unit, help, group, name, and for the first and the adapted side base, adapted, change, base_interval,
    adapted_interval (95%), p, better. `better` is True or False for a significant change, None if the data cannot tell.
    `sides` has for each side value, interval, change, p and better.
    """
    names = [side["name"] for side in sides_of(comparison)]
    rows: list[dict[str, Any]] = []
    for measure in measures_of(comparison):
        rows += [_row(measure, names), *baseline_rows(measure, names)]
    cut = _cut(comparison, names)
    return [*rows, _flat(cut, names)] if cut else rows


def _row(measure: Measure, names: list[str]) -> dict[str, Any]:
    first = names[0]
    sides = {}
    for name in names:
        later = name != first
        sides[name] = {
            "value": value_text(measure, measure["values"].get(name)),
            "interval": interval_text(measure, (measure.get("intervals") or {}).get(name)),
            "change": change_text(measure, name, first) if later else "",
            "p": p_of(measure, name) if later else "",
            "better": improved(measure, name, first) if later else None,
        }
    row = {"name": measure["name"], "group": measure["group"], "help": measure["help"], "measure": measure["title"]}
    return _flat(row | {"unit": unit_text(measure), "sides": sides}, names)


def baseline_rows(measure: Measure, names: list[str]) -> list[dict[str, Any]]:
    """What the most common label and guessing would score, shown below the accuracy of labels. The same for every
    side."""
    known = (measure.get("detail") or {}).get("baselines") if measure["name"] == "accuracy" else None
    if not known:
        return []
    lines = [("chance", "Guessing", "One of the labels at random, without a model.", known["chance"])]
    if "label" in known:
        help = "Always the most common label of the training rows, without a model."
        lines.insert(0, ("majority", f"Always “{shorten(known['label'], 30)}”", help, known["always"]))
    rows = []
    for name, title, help, value in lines:
        cell = {"value": value_text(measure, value), "interval": "", "change": "", "p": "", "better": None}
        row = {"name": name, "group": measure["group"], "help": help, "measure": title, "unit": unit_text(measure)}
        rows.append(_flat(row | {"sides": {side: dict(cell) for side in names}}, names))
    return rows


def _flat(row: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """`row` with the figures of its first and its adapted side as columns, for a table of two sides."""
    first = row["sides"][names[0]]
    last = row["sides"].get("adapted") or row["sides"][names[-1]]
    return row | {
        "base": first["value"],
        "adapted": last["value"],
        "change": last["change"],
        "base_interval": first["interval"],
        "adapted_interval": last["interval"],
        "p": last["p"],
        "better": last["better"],
    }


def _cut(comparison: Comparison, names: list[str]) -> dict[str, Any] | None:
    """How many answers were cut, if any."""
    scores = {name: scores_of(comparison, name) for name in names}
    known = [name for name in names if "truncated_answers" in scores[name]]
    if not any(scores[name]["truncated_answers"] for name in known):
        return None
    first = scores[names[0]].get("truncated_answers", 0)
    sides = {}
    for name in names:
        cut = scores[name]["truncated_answers"] if name in known else None
        change = signed(f"{abs(cut - first):,}", cut - first) if cut is not None and name != names[0] else ""
        value = "–" if cut is None else f"{cut:,}"
        sides[name] = {"value": value, "interval": "", "change": change, "p": "", "better": None}
    return {
        "name": "truncated_answers",
        "measure": "Answers cut",
        "unit": f"of {scores[known[-1]]['rows']:,} rows",
        "group": "style",
        "help": "Answers that reached the length limit before the model ended them.",
        "sides": sides,
    }


_SHOWN = {
    "adapted": "tuning",
    "adapted_vs_prompted": "over_prompting",
    "adapted_vs_retrieved": "over_retrieval",
}


def evidence_of(comparison: Comparison | None) -> Evidence | None:
    """The figures of one comparison. None if there is none, or nothing in it that two sides can be compared by."""
    measure = _deciding(comparison) if comparison else None
    if not comparison or measure is None:
        return None
    titles = {side["name"]: side["title"] for side in sides_of(comparison)}
    values = {side: measure["values"][side] for side in titles if measure["values"].get(side) is not None}
    if not {"base", "adapted"} <= values.keys():
        return None
    figures = "; ".join(f"{titles[side]} {value_text(measure, value)}" for side, value in values.items())
    rows = f" ({measure['rows']} rows)" if measure.get("rows") else ""
    verdicts = {name: verdict for side, name in _SHOWN.items() if (verdict := verdict_of(comparison, side))}
    forgot, forgetting = _forgetting(comparison)
    return Evidence(
        comparison["run"],
        f"{measure['title']}: {figures}{rows}",
        frozenset(verdicts),
        verdict=next((verdicts[name].get("text", "") for name in ("over_prompting", "tuning") if name in verdicts), ""),
        forgot=forgot,
        forgetting=forgetting,
        choice=which_of(comparison),
        **{name: verdict["better"] for name, verdict in verdicts.items()},
    )


def _deciding(comparison: Comparison) -> Measure | None:
    """The measure that decided the verdict, else the first task measure with a better direction."""
    name = decided_by(comparison)
    fitting = [
        measure for measure in measures_of(comparison) if measure["group"] == "task" and measure["better"] is not None
    ]
    return next((measure for measure in fitting if measure["name"] == name), fitting[0] if fitting else None)


def _forgetting(comparison: Comparison) -> tuple[bool, str | None]:
    """Whether something was forgotten, and the sentence about it."""
    scored, lost = comparison.get("forgetting"), answer_of(comparison) == "lost"
    if scored:
        return lost, scored["text"]
    before, after = (scores_of(comparison, side).get("general_accuracy") for side in ("base", "adapted"))
    if before is None or after is None:
        return False, None
    return lost, f"General accuracy: Base {percent(before)}; Adapted {percent(after)}."


def render_page(template: str, **values: Any) -> str:
    """Render the Jinja2 `template` of this folder with `values`. Everything but `markupsafe.Markup` is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = unbroken
    return environment.get_template(template).render(**values)
