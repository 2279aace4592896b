"""The view of one comparison: verdicts, what was kept, table, gains and losses, how it was measured; and the view of a
run at several strengths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from ftlab.core.comparison import ComparisonJson, MeasureJson, SideJson, VerdictJson, parts_of, scores_of
from ftlab.core.run_directory import RunDirectory
from ftlab.core.run_results import StrengthsJson
from ftlab.errors import shorten
from ftlab.evaluation.drift import changed_answers
from ftlab.evaluation.figures import in_sentence, nats
from ftlab.evaluation.forgetting import is_unmeasured
from ftlab.report.charts import Series, gain_loss_chart, gain_loss_lines, plot
from ftlab.report.findings import kept_answer, kept_rows
from ftlab.report.measures import (
    comparison_table,
    gained_text,
    later_sides,
    looks_note,
    measures_of,
    of_documents,
    sides_of,
    unbroken,
    verdict_of,
)
from ftlab.ui.kit.html import (
    badge,
    count,
    details,
    duration,
    facts,
    heading,
    join,
    labelled,
    list_items,
    notice,
    percent,
    scrolling,
    table,
    when,
)
from ftlab.ui.run_view import run as run_view

_GROUPS = {
    "task": "The task",
    "cost": "What an answer takes",
    "general": "What it knew before",
    "style": "Length and style",
}
_TONES = {True: "ft-up", False: "ft-down", None: ""}


def result(run: RunDirectory, comparison: ComparisonJson) -> Markup:
    """All of one comparison: verdict, table, charts and settings."""
    return _card(run, verdicts(run, comparison), comparison)


def in_full(run: RunDirectory, comparison: ComparisonJson) -> Markup:
    """The Details section of the Evaluate tab: everything that is not already above it."""
    return _card(run, beside(comparison), comparison)


def _card(run: RunDirectory, head: Markup, comparison: ComparisonJson) -> Markup:
    notes = list_items(comparison.get("notes", []))
    parts = [
        head,
        scores(comparison),
        Markup('<ul class="ft-notes">{}</ul>').format(notes) if notes else "",
        kept(comparison),
        gains(comparison),
        details_of(comparison),
        memorisation(comparison),
        _facts(comparison),
        details("How it was measured", _measured(comparison)),
    ]
    return Markup('<section class="ft-card" data-run="{}">{}</section>').format(run.id, join(parts))


def verdicts(run: RunDirectory, comparison: ComparisonJson) -> Markup:
    """The verdicts: the main one with what to do next, then one for each further side."""
    main = verdict_of(comparison, "adapted")
    own = notice(run_view.verdict_text(run, comparison), kind=run_view.verdict_kind(comparison)) if main else ""
    return Markup("{}{}").format(own, beside(comparison))


def beside(comparison: ComparisonJson) -> Markup:
    """The reason for the verdict, and the verdict on each further side."""
    main = verdict_of(comparison, "adapted")
    why = Markup('<p class="ft-help">{}</p>').format(main["why"]) if main and main.get("why") else ""
    others = [name for name in comparison.get("verdicts", {}) if not (main and name == "adapted")]
    titles = {side["name"]: side["title"] for side in sides_of(comparison)}
    first = sides_of(comparison)[0]["title"]
    lines = join(
        Markup("<li>{} <strong>{}</strong>: {}</li>").format(
            _badge(comparison["verdicts"][name]), _pair(name, titles, first), comparison["verdicts"][name]["text"]
        )
        for name in others
    )
    return Markup("{}{}").format(why, Markup('<ul class="ft-verdicts">{}</ul>').format(lines) if lines else "")


def scores(comparison: ComparisonJson) -> Markup:
    """The table: a row for each measure, a column for each side, with groups one below the other."""
    rows, sides = comparison_table(comparison), sides_of(comparison)
    titles = [side["title"] for side in sides]
    body = Markup("")
    grouped = len({row["group"] for row in rows}) > 1
    for group, title in _GROUPS.items():
        of_group = [row for row in rows if row["group"] == group]
        if of_group and grouped:
            body += Markup('<tr class="ft-group"><th scope="colgroup" colspan="{}">{}</th></tr>').format(
                len(sides) + 1, title
            )
        body += join(_score_row(row, sides) for row in of_group)
    asked = "documents" if of_documents(comparison) else "rows"
    # Other data may overlap with the run's training data; a note says so if that is known.
    where = f" of {comparison['suite']}" if comparison.get("suite") else ", held out"
    who = "; ".join(f"{side['title']}: {side['what']}" for side in sides if side.get("what"))
    looks = looks_note(comparison)
    return Markup("{}{}{}{}").format(
        heading(
            f"{titles[0]} against {titles[1].lower()}" if len(titles) == 2 else "Scores",
            f"On the same {asked}{where}. Small print: 95% interval; then the change, and p.",
        ),
        Markup('<p class="ft-help">{}.</p>').format(who) if who else "",
        scrolling(["Measure", *titles], body, label="Scores", numbers=range(1, len(titles) + 1), css="ft-scores"),
        Markup('<p class="ft-help">Colored: findings. {}</p>').format(looks) if looks else "",
    )


def gains(comparison: ComparisonJson) -> Markup:
    """A chart of gains and losses for each later side, and a sentence on it."""
    pictures = join(
        Markup('<figure class="ft-gain"><figcaption><strong>{}</strong></figcaption>{}</figure>').format(
            f"{side['title']} against {sides_of(comparison)[0]['title'].lower()}",
            gain_loss_chart(comparison, side["name"]),
        )
        for side in sorted(later_sides(comparison), key=lambda side: side["name"] != "adapted")
        if gain_loss_lines(comparison, side["name"])
    )
    if not pictures:
        return Markup("")
    text = gained_text(comparison)
    help = (
        "In points; of losses, in percent of the first side's value. The line is the 95% interval; a hollow dot "
        "is not a finding (chance, or exploratory)."
    )
    return Markup('{}{}<div class="ft-gains">{}</div>').format(heading("Gains and losses", help), _line(text), pictures)


def kept(comparison: ComparisonJson) -> Markup:
    """How much the adapted model kept of its base's answers and knowledge: figures, and the answers that changed most;
    says so if it was not measured. Empty for several runs side by side, whose table includes it."""
    if is_unmeasured(comparison):
        return notice(
            Markup("<strong>{}</strong> {}").format(
                "Forgetting was not measured.",
                "To measure it, open “Compare, other rows and measures”, set Forgetting to the base's own "
                "answers, and press Evaluate again.",
            ),
            kind="warn",
        )
    answer, rows = kept_answer(comparison), kept_rows(comparison)
    if answer is None:
        return Markup("")
    forgetting = comparison.get("forgetting")
    text = forgetting["text"] if forgetting else ""
    if not rows:
        return Markup("{}{}").format(heading("What it kept of the base"), _line(text))
    cells = [[row["measured"], row["base"], row["adapted"], _answer(row["answer"])] for row in rows]
    return Markup('<section class="ft-kept"><div>{} {}</div><p class="ft-help">{}</p>{}{}{}</section>').format(
        heading("What it kept of the base"),
        badge(*answer),
        "Measured on prompts and text unrelated to the task.",
        labelled(["Measured on", "Base", "Adapted", "Answer"], cells, "What it kept of the base", css="ft-scores"),
        moved(comparison),
        details("In full, and by kind of prompt", Markup("{}{}").format(_line(text), _by_kind(comparison))),
    )


def moved(comparison: ComparisonJson) -> Markup:
    """The base's answers that changed most beside those of the adapted model; empty if not measured."""
    rows = [
        [shorten(row["prompt"]), shorten(row["base"]) or "(nothing)", shorten(row["side"]) or "(nothing)"]
        for row in changed_answers(comparison)
    ]
    if not rows:
        return Markup("")
    return Markup('<p class="ft-help">{}</p>{}').format(
        "The three answers that changed most. A changed answer is not necessarily worse.",
        labelled(["Prompt", "Base", "Adapted"], rows, "Answers that changed most", css="ft-scores ft-changed"),
    )


def _by_kind(comparison: ComparisonJson) -> Markup:
    """The figures of each kind of neutral prompt, most changed first; replayed kinds are marked."""
    kinds = [kind for part in parts_of(comparison) for kind in part.get("of_kinds") or []]
    if not kinds:
        return Markup("")
    apart = len({bool(kind["replayed"]) for kind in kinds}) > 1
    head = ["Kind", *(["Replayed in training"] if apart else []), "Same next token", "KL, nats a token", "Prompts"]
    rows = [
        [
            kind["kind"],
            *(["yes" if kind["replayed"] else "no"] if apart else []),
            percent(kind["agreement"]),
            nats(kind["kl"]),
            count(kind["prompts"]),
        ]
        for kind in kinds
    ]
    return table(head, rows, label="By kind of prompt", numbers=range(1 + apart, len(head)))


def _answer(text: str) -> Markup:
    word, _, rest = text.partition(", ")
    kind = {"kept": "good", "cannot tell": "warn"}.get(word, "bad")
    answer = Markup("{}{}").format(badge(word, "info" if rest else kind), f" {rest}" if rest else "")
    return answer if text else Markup("")


def memorisation(comparison: ComparisonJson) -> Markup:
    """Which rows were memorized, if any; empty if not measured."""
    memorized = comparison.get("memorisation")
    if not memorized or not memorized.get("text"):
        return Markup("")
    bad = bool(memorized.get("memorised") or memorized.get("overfitted"))
    pairs = (memorized.get("leaks") or {}).get("pairs") or []
    kinds = {"same": "a copy", "near": "a near copy", "answer": "another question, with the answer"}
    named = [
        [
            pair["held_out_row"],
            pair["held_out"],
            kinds.get(pair["kind"], pair["kind"]),
            pair["train_row"],
            pair["train"],
        ]
        for pair in pairs
    ]
    heads = ["Held-out row", "Its prompt", "Is", "Of training row", "Its prompt"]
    return Markup("{}{}{}").format(
        heading("Memorization", "Loss on training and unseen rows, and answers continued from the middle."),
        notice(memorized["text"], kind="warn" if bad or pairs else "info"),
        details("Held-out rows that training has seen", table(heads, named, label="Leaks", css="ft-rows"))
        if named
        else "",
    )


def _score_row(row: Mapping[str, Any], sides: list[SideJson]) -> Markup:
    cells = Markup("")
    for place, side in enumerate(sides):
        score = row["sides"][side["name"]]
        change = " ".join(filter(None, [score["change"], score["p"] and f"({unbroken(score['p'])})"]))
        tone = _TONES[score["better"]] if place else ""
        cells += Markup('<td class="ft-num" data-label="{}">{}<span class="ft-help">{}</span>{}</td>').format(
            side["title"],
            Markup("<b>{}</b>").format(score["value"]),
            score["interval"],
            Markup('<span class="ft-change {}">{}</span>').format(tone, change) if change else "",
        )
    return Markup(
        '<tr><th scope="row">{} <span class="ft-help">{}</span><span class="ft-help ft-block">{}</span></th>{}</tr>'
    ).format(row["measure"], row["unit"], row["help"], cells)


def _facts(comparison: ComparisonJson) -> Markup:
    rows, suite = comparison.get("rows") or scores_of(comparison, "adapted").get("rows"), comparison.get("suite")
    figures = [
        (
            "Documents" if of_documents(comparison) else "Rows",
            count(rows),
            suite or f"from the {comparison['split']} split",
        ),
        ("Made", when(comparison.get("created")), "local time"),
    ]
    if comparison.get("seconds") is not None:
        before = comparison.get("seconds_before")
        earlier = "earlier answers are not counted" if before is None else ""
        earlier = f"after {duration(before)} of asking the base beforehand" if before else earlier
        figures.append(("Took", duration(comparison["seconds"]), ", ".join(filter(None, ["for all sides", earlier]))))
    return facts(figures)


def _measured(comparison: ComparisonJson) -> Markup:
    rules = [
        [measure["title"], measure["rule"] or measure["help"], _tests(measure)]
        for measure in comparison.get("measures", [])
    ]
    of_measures = table(["Measure", "Rule", "Test"], rows=rules, label="Rules of the measures") if rules else ""
    settings = [[name.replace("_", " "), _plain(value)] for name, value in comparison.get("settings", {}).items()]
    return Markup("{}{}").format(
        of_measures, table(["Setting", "Value"], settings, label="Settings of the evaluation", css="ft-settings")
    )


def _tests(measure: MeasureJson) -> str:
    return ", ".join(
        dict.fromkeys(
            test for difference in measure.get("differences", {}).values() if (test := difference.get("test"))
        )
    )


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_plain(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return (
        {True: "yes", False: "no", None: "none"}.get(value, str(value))
        if isinstance(value, bool | None)
        else str(value)
    )


def _badge(verdict: VerdictJson) -> Markup:
    better = verdict["better"]
    if (judged := verdict.get("no_worse")) and judged["no_worse"] and not better:
        return badge(f"no worse within {judged['margin']:g} points", "good")
    if better is None:
        return badge("not decided", "info")
    return badge("better" if better else "worse", "good" if better else "bad")


def _pair(name: str, titles: Mapping[str, str], first: str) -> str:
    if name in titles:
        return f"{titles[name]} against {first.lower()}"
    left, _, right = name.partition("_vs_")
    return f"{titles.get(left, left)} against {titles.get(right, right).lower()}"


def _line(text: str) -> Markup:
    return Markup("<p>{}</p>").format(text) if text else Markup("")


_MOST_LABELS = 20  # of a confusion matrix that is still readable


def details_of(comparison: ComparisonJson) -> Markup:
    """The details of every measure that has some, collapsed; empty if there are none."""
    sides, parts = sides_of(comparison), Markup("")
    for measure in measures_of(comparison):
        detail = measure.get("detail")
        if not detail:
            continue
        if "labels" in detail:
            body = Markup("{}{}").format(per_class(detail, sides), confusions(detail, sides))
            parts += details(f"{measure['title']}: every class, and which were confused", body)
        if detail.get("fields"):
            parts += details(f"{measure['title']}: every field", fields(detail["fields"], sides))
    return Markup('<div class="ft-folds">{}</div>').format(parts) if parts else parts


def per_class(detail: Mapping[str, Any], sides: list[SideJson]) -> Markup:
    """Rows, precision, recall and F1 of each class on each side."""
    known = [side for side in sides if detail.get(side["name"])]
    by_label = {side["name"]: {entry["label"]: entry for entry in detail[side["name"]]["per_class"]} for side in known}
    rows = []
    for label in detail["labels"]:
        entries = [by_label[side["name"]].get(label) for side in known]
        cells = [
            "–"
            if entry is None
            else Markup('<b>{}</b><span class="ft-help ft-block">precision {}, recall {}</span>').format(
                percent(entry["f1"]), percent(entry["precision"]), percent(entry["recall"])
            )
            for entry in entries
        ]
        rows.append([label, next((entry["rows"] for entry in entries if entry), 0), *cells])
    counted = "Answers" if detail.get("samples") else "Rows"
    heads = ["Class", counted, *(f"F1, {side['title'].lower()}" for side in known)]
    return table(heads, rows, label="Every class", numbers=range(1, len(heads)))


def confusions(detail: Mapping[str, Any], sides: list[SideJson]) -> Markup:
    """A confusion matrix for each side: rows are correct labels, columns are answers."""
    labels = detail["labels"]
    if len(labels) > _MOST_LABELS:
        return Markup('<p class="ft-help">No confusion matrix: {} classes are too many to display.</p>').format(
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
            "Which classes were confused", "Rows are the correct class, columns the answer. They agree on the diagonal."
        ),
        figures,
    )


def fields(by_field: Mapping[str, Mapping[str, float]], sides: list[SideJson]) -> Markup:
    """The share of rows in which each JSON field is correct."""
    known = [side for side in sides if any(side["name"] in shares for shares in by_field.values())]
    rows = [[name, *(percent(shares.get(side["name"])) for side in known)] for name, shares in by_field.items()]
    heads = ["Field", *(side["title"] for side in known)]
    return table(heads, rows, label="Every field", numbers=range(1, len(heads)))


def _matrix(labels: list[str], counts: list[list[int]]) -> Markup:
    """Each cell is shaded by its share of the row, so that a rare class is visible as well."""
    # Answers that are not a label have a column of their own after the labels.
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


_STRENGTH_COLOURS = "abcd"


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
        _strengths_picture(measured),
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


def _strengths_picture(measured: StrengthsJson) -> Markup:
    """Figures that are shares, plotted over the strengths on one axis; empty if the task measure is not a share."""
    if measured["measure"]["kind"] != "share":
        return Markup("")
    kept = [measure for measure in measured["kept"] if measure["kind"] == "share"][: len(_STRENGTH_COLOURS) - 1]
    drawn = [(measured["measure"]["title"], [row["value"] for row in measured["strengths"]])]
    drawn += [
        (measure["title"], [row["kept"].get(measure["name"]) for row in measured["strengths"]]) for measure in kept
    ]
    series = []
    for css, (title, values) in zip(_STRENGTH_COLOURS, drawn, strict=False):
        pairs = zip(measured["strengths"], values, strict=True)
        points = [(row["strength"], 100 * value) for row, value in pairs if value is not None]
        series.append(Series(title, points, css, dots=True))
    return plot(series, title="By strength", unit="%", axis="strength", height=180)
