"""All charts, as inline SVG: no script, no external requests, readable in light and dark. Used by reports, notebooks
and the app.

    blind_test_charts(tally)        votes, win rates, evidence, strengths
    runs_chart(panels(...))         runs side by side
    gain_loss_chart(comparison)     what a run gained and lost
    run_curves(metrics)             the curves of a run; `plot` draws any lines
    histogram(...), distribution    how often values occur

Colors are middle tones with a contrast of 3:1 on white and on the dark pages; text has the color of the page, or INK on
a filled bar. The plots over steps stretch with their box, so their labels are HTML (classes ft-plot... of style.css),
which keeps its size on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ftlab.arena.results import Neither, TallyJson
from ftlab.arena.verdict import too_few
from ftlab.core.comparison import ComparisonJson
from ftlab.evaluation.figures import change_text, percent, short, signed, value_text
from ftlab.report.measures import Comparison, Measure, improved, measures_of, p_of, sides_of

BASE_COLOUR, ADAPTED_COLOUR = "#7f8a9d", "#4a86d8"
NEITHER_COLOURS: dict[Neither, str] = {"both_good": "#a08a4e", "both_bad": "#a87f7a"}
GAINED, LOST, THRESHOLD = "#2f9468", "#d1604e", "#a5771f"
INK = "#111"  # text on a filled bar
SOFT = 0.75  # opacity of secondary text and of intervals
_GRID = 0.12  # opacity of grid lines, which repeat the axis labels


# Pieces


@dataclass(frozen=True)
class Scale:
    """Maps values from `low` to `high` to pixels from `left` to `right`. Values outside are drawn at the ends."""

    left: float
    right: float
    low: float = 0.0
    high: float = 1.0

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.left + (self.right - self.left) * min(1.0, max(0.0, share))


def _svg(width: int, height: float, spoken: str, body: Markup, *, widest: int) -> Markup:
    """An SVG of `width` by `height` that grows with its box up to `widest` pixels. `spoken` is its text alternative."""
    return Markup(
        '<svg viewBox="0 0 {} {}" width="100%" style="max-width:{}px;height:auto" role="img" aria-label="{}" '
        'font-family="inherit" font-size="12" fill="currentColor">{}</svg>'
    ).format(width, round(height), widest, spoken, body)


def _text(
    x: float, y: float, words: object, *, anchor: str = "start", bold: bool = False, soft: bool = False, fill: str = ""
) -> Markup:
    style = Markup(' font-size="11" fill-opacity="{}"').format(SOFT) if soft else ""
    style += Markup(' font-weight="600"') if bold else ""
    style += Markup(' fill="{}"').format(fill) if fill else ""
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}"{}>{}</text>').format(x, y, anchor, style, words)


def _path(
    steps: str, *, colour: str = "currentColor", opacity: float = 1.0, width: float = 1, dash: str = ""
) -> Markup:
    dashes = Markup(' stroke-dasharray="{}"').format(dash) if dash else ""
    return Markup('<path d="{}" stroke="{}" stroke-opacity="{:g}" stroke-width="{:g}"{} fill="none"/>').format(
        steps, colour, opacity, width, dashes
    )


def _bar(x: float, y: float, width: float, height: float, colour: str, round_: int = 0) -> Markup:
    return Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{}" rx="{}" fill="{}"/>').format(
        x, y, width, height, round_, colour
    )


def _dot(x: float, y: float, colour: str, *, radius: float = 4.5) -> Markup:
    return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:g}" fill="{}"/>').format(x, y, radius, colour)


def _interval(ends: Iterable[float], y: float, scale: Scale) -> Markup:
    """A line between two values, with its ends marked."""
    low, high = map(scale, ends)
    return _path(f"M{low:.1f} {y}H{high:.1f}M{low:.1f} {y - 4}v8M{high:.1f} {y - 4}v8", opacity=SOFT)


def _join(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def _cut(text: str, most: int) -> str:
    """`text` shortened to at most `most` characters, for a label."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


# Blind tests

_CHOICES: dict[Neither, str] = {"both_good": "both good", "both_bad": "both bad"}
_WIDTH = 420
_SHARES = Scale(118, 372)  # after the row labels


def blind_test_charts(tally: TallyJson) -> dict[str, Markup]:
    """All charts of a verdict by name: votes, rates, evidence (two contestants), strengths (three or more)."""
    drawn = {}
    if len(tally["contestants"]) == 2:
        drawn["votes"] = votes_chart(tally)
        drawn["rates"] = rates_chart(tally)
        drawn["evidence"] = evidence_chart(tally)
    elif tally["ranking"]:
        drawn["strengths"] = strengths_chart(tally)
    return {name: chart for name, chart in drawn.items() if chart}


def votes_chart(tally: TallyJson) -> Markup:
    """One bar of all votes: for the second contestant, for neither, and for the first. Empty without votes. Ties of
    answers that are the same are no votes."""
    first, second = tally["contestants"]
    counts = tally["counts"]
    parts = [(counts["wins"][second["id"]], ADAPTED_COLOUR, second["title"])]
    parts += [(counts[choice], NEITHER_COLOURS[choice], word) for choice, word in _CHOICES.items()]
    parts += [(counts["wins"][first["id"]], BASE_COLOUR, first["title"])]
    total = sum(number for number, _, _ in parts)
    if not total:
        return Markup("")
    body, x, y = Markup(""), 0.0, 46
    for number, colour, _ in parts:
        width = _WIDTH * number / total
        if number:
            body += _bar(x, 4, max(width - 1, 1), 22, colour)
            if width > 24:
                body += _text(x + width / 2, 19, number, anchor="middle", bold=True, fill=INK)
        x += width
    for number, colour, name in parts:
        if number:
            amount = f"{number:,} vote{'' if number == 1 else 's'} ({percent(round(number / total, 3))})"
            body += _bar(0, y - 10, 11, 11, colour, 3) + _text(17, y, _cut(name, 40))
            body += _text(_WIDTH, y, amount, anchor="end")
            y += 18
    spoken = "Votes: " + ", ".join(f"{name} {number}" for number, _, name in parts)
    return _svg(_WIDTH, y - 8, spoken, body, widest=_WIDTH + 100)


@dataclass(frozen=True)
class _Rate:
    """A row of the chart of win rates; without a rate it is a heading."""

    name: str
    rate: float | None = None
    interval: Sequence[float] | None = None
    votes: int = 0
    is_total: bool = False


_MOST_GROUPS = 8


def rates_chart(tally: TallyJson) -> Markup:
    """The win rate with its 95% interval: of all votes, by topic, group and rater. Empty if too few votes chose a
    side."""
    if tally["win_rate"] is None or too_few(tally):
        return Markup("")
    rows = [_Rate("all votes", tally["win_rate"], tally["interval"], tally["decided"], True)]
    parts = [("by topic", tally["by_topic"]), ("by group", tally["by_group"]), ("by rater", tally["by_rater"])]
    for title, groups in parts:
        known = [group for group in groups if group["win_rate"] is not None]
        if len(known) < 2:
            continue
        rows.append(_Rate(title))
        rows += [
            _Rate(group["name"], group["win_rate"], group["interval"], group["wins"] + group["losses"])
            for group in known[:_MOST_GROUPS]
        ]
        if len(known) > _MOST_GROUPS:
            rows.append(_Rate(f"and {len(known) - _MOST_GROUPS} more"))
    height = 50 + 21 * len(rows)
    body = _text(0, 12, f"Win rate of {_cut(tally['contestants'][1]['title'], 40)}, 95% interval", soft=True)
    body += _text(_WIDTH, 12, "votes", anchor="end", soft=True)
    body += _shares_axis(42, height - 8, [_cut(contestant["title"], 14) for contestant in tally["contestants"]])
    for place, row in enumerate(rows):
        y = 60 + 21 * place
        if row.rate is None or row.interval is None:
            body += _text(0, y, row.name, soft=True)
            continue
        body += _text(0, y, _cut(row.name, 17), bold=row.is_total) + _interval(row.interval, y - 4, _SHARES)
        body += _dot(_SHARES(row.rate), y - 4, ADAPTED_COLOUR, radius=5 if row.is_total else 4)
        body += _text(_WIDTH, y, f"{row.votes:,}", anchor="end")
    spoken = f"Win rate of {tally['contestants'][1]['title']}: " + ", ".join(
        f"{row.name} {percent(round(row.rate, 3))}" for row in rows if row.rate is not None
    )
    return _svg(_WIDTH, height, spoken, body, widest=_WIDTH + 100)


def evidence_chart(tally: TallyJson) -> Markup:
    """How the odds for a difference grew with the votes, and the line at which they decide. Empty without votes."""
    evidence = tally["evidence"]
    if evidence is None or not evidence["path"]:
        return Markup("")
    path = [(0, 0.0), *((point["votes"], point["log10"]) for point in evidence["path"])]
    line = math.log10(evidence["threshold"])
    low, high = min(-1.0, *(log10 for _, log10 in path)), max(line + 0.5, *(log10 for _, log10 in path))
    last = max(path[-1][0], tally["votes"]["planned"] or 0)
    left, right, bottom = 62, _WIDTH - 8, 168
    along, up = Scale(left, right, 0, last), Scale(bottom, 30, low, high)
    claim = "a difference" if not tally.get("margin") else "worse" if tally["verdict"] == "worse" else "no worse"
    body = _text(0, 12, f"Odds for {claim}", soft=True)
    for power in range(math.ceil(low), math.floor(high) + 1, max(1, math.ceil((high - low) / 5))):
        label = (
            f"{10**power:,} to 1" if 0 <= power <= 4 else f"1 to {10**-power:,}" if power < 0 else f"10^{power} to 1"
        )
        body += _path(f"M{left} {up(power):.1f}H{right}", opacity=_GRID)
        body += _text(left - 6, up(power) + 4, label, anchor="end", soft=True)
    body += _path(f"M{left} {up(line):.1f}H{right}", colour=THRESHOLD, width=1.5, dash="5 4")
    body += _text(right, up(line) - 5, "decides from here on", anchor="end", soft=True)
    points = " ".join(f"{along(votes):.1f},{up(odds):.1f}" for votes, odds in path)
    body += Markup('<polyline points="{}" fill="none" stroke="{}" stroke-width="2"/>').format(points, ADAPTED_COLOUR)
    body += _text(left, bottom + 16, "0", soft=True)
    body += _text(right, bottom + 16, f"{last:,} votes", anchor="end", soft=True)
    return _svg(_WIDTH, bottom + 22, f"Evidence. {evidence['text']}", body, widest=_WIDTH + 100)


def strengths_chart(tally: TallyJson) -> Markup:
    """The strength of each contestant with its 95% interval, the strongest first."""
    rows = tally["ranking"]
    height = 50 + 24 * len(rows)
    body = _text(0, 12, "Chance of winning a vote, 95% interval", soft=True)
    body += _shares_axis(42, height - 10, ["0%", "100%"])
    for place, row in enumerate(rows):
        y = 62 + 24 * place
        body += _text(0, y, _cut(row["title"], 17)) + _interval(row["interval"], y - 4, _SHARES)
        body += _dot(_SHARES(row["strength"]), y - 4, ADAPTED_COLOUR, radius=5)
        body += _text(_WIDTH, y, percent(round(row["strength"], 2)), anchor="end")
    each = ", ".join(f"{row['title']} {percent(round(row['strength'], 2))}" for row in rows)
    return _svg(_WIDTH, height, f"Chance of winning a vote: {each}", body, widest=_WIDTH + 100)


def _shares_axis(top: int, bottom: int, ends: Sequence[str]) -> Markup:
    """Grid lines from 0 to 100%, with a word above each end."""
    body = Markup("")
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        middle = share == 0.5
        body += _path(f"M{_SHARES(share):.1f} {top}V{bottom}", opacity=0.5 if middle else _GRID, dash="3 3" * middle)
    for share, words, anchor in ((0.0, ends[0], "start"), (0.5, "50%", "middle"), (1.0, ends[1], "end")):
        body += _text(_SHARES(share), top - 10, words, anchor=anchor, soft=True)
    return body


# Runs side by side

_RUNS_WIDTH = 560
_RUNS_LEFT, _RUNS_RIGHT = 170, 480
_ROW, _HEAD = 22, 30


@dataclass(frozen=True)
class Dot:
    """One side of a panel; `interval` is at 95%."""

    title: str
    value: float
    interval: tuple[float, float] | None
    is_base: bool


@dataclass(frozen=True)
class Panel:
    """One measure with its sides, the base first."""

    measure: Measure
    dots: tuple[Dot, ...]

    @property
    def end(self) -> float:
        """The end of the axis: the full range of a share or of 0 to 100, else a little above the largest value of a
        run.

        A base's perplexity is often a hundred times that of any run, and would make the runs indistinguishable.
        """
        if self.measure["kind"] == "share":
            return 1.0
        if self.measure.get("unit") == "points":
            return 100.0
        runs = [dot for dot in self.dots if not dot.is_base]
        return 1.25 * max(max(dot.value, *(dot.interval or ())) for dot in runs) or 1.0


def panels(comparisons: Sequence[tuple[str, ComparisonJson]], names: Sequence[str]) -> list[Panel]:
    """A panel for each measure in `names` that all `comparisons` (title, comparison with a base) have."""
    listed = [{measure["name"]: measure for measure in measures_of(comparison)} for _, comparison in comparisons]
    every = []
    for name in names:
        if not all(name in entry and entry[name]["values"].get("adapted") is not None for entry in listed):
            continue
        first = listed[0][name]
        drawn = [("base", first, "base")]
        drawn += [(title, known[name], "adapted") for (title, _), known in zip(comparisons, listed, strict=True)]
        every.append(Panel(first, tuple(dot for side in drawn if (dot := _side(*side)) is not None)))
    return every


def runs_chart(drawn: Sequence[Panel]) -> Markup:
    """The chart of `panels`. Empty without any."""
    if not drawn:
        return Markup("")
    body, top, spoken = Markup(""), 0, []
    for panel in drawn:
        body += _panel(panel, top)
        spoken.append(
            f"{panel.measure['title']}: "
            + ", ".join(f"{dot.title} {value_text(panel.measure, dot.value)}" for dot in panel.dots)
        )
        top += _HEAD + _ROW * len(panel.dots) + 28
    return _svg(_RUNS_WIDTH, top, "; ".join(spoken), body, widest=_RUNS_WIDTH + 100)


def _side(title: str, measure: Measure, side: str) -> Dot | None:
    value, ends = measure["values"].get(side), (measure.get("intervals") or {}).get(side)
    return None if value is None else Dot(title, value, (ends[0], ends[1]) if ends else None, side == "base")


def _panel(panel: Panel, top: int) -> Markup:
    better = panel.measure.get("better")
    scale, bottom = Scale(_RUNS_LEFT, _RUNS_RIGHT, 0, panel.end), top + _HEAD + _ROW * len(panel.dots)
    body = _text(0, top + 14, panel.measure["title"], bold=True)
    body += _text(_RUNS_WIDTH, top + 14, f"{better} is better" if better else "", anchor="end", soft=True)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        body += _path(f"M{scale(share * panel.end):.1f} {top + 22}V{bottom}", opacity=_GRID)
    unit = panel.measure.get("unit") or ""
    end = value_text(panel.measure, panel.end) + (f" {unit}" if unit not in ("", "%") else "")
    body += _text(_RUNS_LEFT, bottom + 13, "0", soft=True)
    body += _text(_RUNS_RIGHT, bottom + 13, end, anchor="end", soft=True)
    for place, dot in enumerate(panel.dots):
        y, colour = top + _HEAD + _ROW * place + 6, BASE_COLOUR if dot.is_base else ADAPTED_COLOUR
        beyond = " →" if dot.value > panel.end else ""
        body += _text(0, y + 4, _cut(dot.title, 25))
        body += _path(f"M{_RUNS_LEFT} {y}H{scale(dot.value):.1f}", colour=colour, opacity=0.35, width=8)
        body += _interval(dot.interval, y, scale) if dot.interval else ""
        body += _dot(scale(dot.value), y, colour)
        body += _text(_RUNS_WIDTH, y + 4, value_text(panel.measure, dot.value) + beyond, anchor="end", bold=True)
    return body


# Gains and losses of a run

_GROUPS = {"task": "The task", "general": "What it knew before"}
_GAIN_WIDTH = 380
_GAIN_LEFT, _GAIN_RIGHT = 8, 372
_GAIN_ROW, _GAIN_HEAD = 40, 24


@dataclass(frozen=True)
class Line:
    """One measure: how far it moved toward better, in percentage points or in percent of the base's value."""

    name: str
    title: str
    text: str
    gain: float
    interval: tuple[float, float] | None
    better: bool | None
    group: str

    @property
    def colour(self) -> str:
        return BASE_COLOUR if self.better is None else GAINED if self.better else LOST


def gain_loss_lines(comparison: Comparison, side: str = "adapted") -> list[Line]:
    """The measures with a better and a worse direction, as gains of `side` over the first side, in two groups.

    Shares and scores of 0 to 100 use points; losses and other unbounded measures use percent of the value of the first
    side.
    """
    first = sides_of(comparison)[0]["name"]
    lines = [_line(measure, side, first) for measure in measures_of(comparison)]
    known = [line for line in lines if line is not None]
    return [line for group in _GROUPS for line in known if line.group == group]


def gain_loss_chart(comparison: Comparison, side: str = "adapted", *, only: Container[str] | None = None) -> Markup:
    """The chart of `gain_loss_lines`: gains right of the middle, losses left of it. Empty without any.

    `only` names the measures to draw; None draws all.
    """
    lines = [line for line in gain_loss_lines(comparison, side) if only is None or line.name in only]
    if not lines:
        return Markup("")
    reach = _reach(lines)
    scale = Scale(_GAIN_LEFT, _GAIN_RIGHT, -reach, reach)
    body, top, group, middle = Markup(""), 26, "", scale(0)
    for line in lines:
        if line.group != group:
            group = line.group
            # A rule separates the groups.
            body += _path(f"M0 {top + 2}H{_GAIN_WIDTH}", opacity=0.15) if top > 26 else ""
            body += _text(0, top + 17, _GROUPS[group], soft=True)
            top += _GAIN_HEAD
        body += _gain_row(line, top, scale)
        top += _GAIN_ROW
    head = _text(middle - 12, 12, "← lost", anchor="end") + _text(middle + 12, 12, "gained →")
    zero = _path(f"M{middle:.1f} 22V{top}", opacity=0.35)
    spoken = "; ".join(f"{line.title}: {line.text}" for line in lines)
    return _svg(_GAIN_WIDTH, top + 38, spoken, head + zero + body + _gain_axis(top, scale), widest=_GAIN_WIDTH + 80)


def _line(measure: Measure, side: str, first: str) -> Line | None:
    before, after = (measure["values"].get(name) for name in (first, side))
    if before is None or after is None or not measure.get("better") or measure["group"] not in _GROUPS:
        return None
    if measure["kind"] == "share":
        scale = 100.0
    elif measure.get("unit") == "points":
        scale = 1.0
    elif before:
        scale = 100.0 / abs(before)
    else:
        return None
    towards = scale if measure["better"] == "higher" else -scale
    difference = measure.get("differences", {}).get(side)
    ends = sorted(towards * end for end in difference.get("interval") or ()) if difference else []
    low_high = (ends[0], ends[1]) if ends else None
    p = p_of(measure, side)
    text = change_text(measure, side, first) + (f" ({p})" if p else "")
    better = improved(measure, side, first)
    return Line(measure["name"], measure["title"], text, towards * (after - before), low_high, better, measure["group"])


def _reach(lines: list[Line]) -> float:
    """The range of the axis on each side: at most 100, and no larger than the values need."""
    ends = [abs(end) for line in lines for end in (line.gain, *(line.interval or ()))]
    return next((step for step in (5, 10, 20, 50) if max(ends) <= step), 100)


def _gain_row(line: Line, top: float, scale: Scale) -> Markup:
    y, at = top + 25, scale(line.gain)
    row = _text(0, top + 12, line.title)
    row += _text(_GAIN_WIDTH, top + 12, line.text, anchor="end", bold=line.better is not None)
    row += _path(f"M{_GAIN_LEFT} {y}H{_GAIN_RIGHT}", opacity=_GRID)
    row += _path(f"M{scale(0):.1f} {y}H{at:.1f}", colour=line.colour, width=4)
    row += _interval(line.interval, y, scale) if line.interval else ""
    if abs(line.gain) > scale.high:  # beyond the end of the axis
        tip = 6 if line.gain > 0 else -6
        arrow = f"M{at:.1f} {y - 5}l{tip} 5l{-tip} 5z"
        return row + Markup('<path d="{}" fill="{}"/>').format(arrow, line.colour)
    inside = "none" if line.better is None else line.colour
    # A hollow dot means within chance, since not everyone can see color.
    row += _dot(at, y, "var(--card, var(--block-background-fill, #fff))") if inside == "none" else ""
    return row + Markup('<circle cx="{:.1f}" cy="{}" r="4.5" fill="{}" stroke="{}" stroke-width="2"/>').format(
        at, y, inside, line.colour
    )


def _gain_axis(top: float, scale: Scale) -> Markup:
    reach = scale.high
    places = {-reach: ("start", 0.0), reach: ("end", float(_GAIN_WIDTH))}
    labels = Markup("")
    for value in (-reach, -reach / 2, 0, reach / 2, reach):
        anchor, x = places.get(value, ("middle", scale(value)))
        labels += _text(x, top + 14, signed(f"{abs(value):g}", value), anchor=anchor, soft=True)
    unit = "points; losses in percent of the first side"
    return labels + _text(_GAIN_WIDTH / 2, top + 30, unit, anchor="middle", soft=True)


# Curves over steps

_MOST_POINTS = 400


@dataclass(frozen=True)
class Series:
    """`points` are (step, value). `css` is one of the colors a, b, c, d of style.css."""

    name: str
    points: Sequence[tuple[float, float]]
    css: str = "a"
    dots: bool = False


def metric_points(metrics: Iterable[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    """The (step, value) pairs of `key`, without gaps and nonfinite values."""
    return [
        (row["step"], row[key])
        for row in metrics
        if isinstance(row.get("step"), int | float)
        and isinstance(row.get(key), int | float)
        and math.isfinite(row[key])
    ]


def plot(
    series: Sequence[Series],
    *,
    title: str,
    unit: str,
    help: str = "",
    x_end: float | None = None,
    height: int = 200,
    axis: str = "step",
) -> Markup:
    """Lines over steps, or over what `axis` names. `x_end`: the last step expected, so that a running curve grows into
    its box."""
    series = [each for each in series if each.points]
    if not series:
        return _empty(title, help, height)
    xs = [x for each in series for x, _ in each.points]
    ys = [y for each in series for _, y in each.points]
    right = max([*xs, x_end or 0, 1])
    low, high, ticks = _axis(min(ys), max(ys))

    def rise(value: float) -> float:
        return (value - low) / (high - low)

    def place(point: tuple[float, float]) -> str:
        return f"{1000 * point[0] / right:.1f},{1000 * (1 - rise(point[1])):.1f}"

    lines = _join(_curve(each, place) for each in series)
    grid = _join(
        Markup('<line class="ft-grid" x1="0" x2="1000" y1="{0}" y2="{0}"/>').format(f"{1000 * (1 - rise(tick)):.1f}")
        for tick in ticks
    )
    labels = _join(
        Markup('<span style="bottom:{}%">{}</span>').format(f"{100 * rise(tick):.1f}", short(tick)) for tick in ticks
    )
    legend = _join(
        Markup('<span class="ft-key ft-line-{}">{}: <b>{}</b></span>').format(
            each.css, each.name, short(each.points[-1][1])
        )
        for each in series
    )
    spoken = "; ".join(
        f"{each.name} from {short(each.points[0][1])} to {short(each.points[-1][1])} at {axis} {each.points[-1][0]:g}"
        for each in series
    )
    return Markup(
        '<figure class="ft-plot">{head}<div class="ft-legend">{legend}<span class="ft-help">{unit}</span></div>'
        '<div class="ft-plot-box" style="height:{height}px"><div class="ft-plot-y" aria-hidden="true">{labels}</div>'
        '<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" aria-label="{spoken}">{grid}{lines}</svg>'
        '</div><div class="ft-plot-x" aria-hidden="true"><span>0</span><span>{axis}</span><span>{right}</span></div>'
        "</figure>"
    ).format(
        head=_caption(title, help),
        legend=legend,
        unit=unit,
        height=height,
        labels=labels,
        spoken=f"{title}: {spoken}",
        grid=grid,
        lines=lines,
        right=f"{right:,.0f}",
        axis=axis,
    )


def loss_curve(metrics: list[dict[str, Any]], total_steps: int | None = None) -> Markup:
    """Training and validation loss of one run."""
    return plot(
        [
            Series("training", metric_points(metrics, "loss"), "a"),
            Series("validation", metric_points(metrics, "eval_loss"), "b", dots=True),
        ],
        title="Loss",
        unit="nats per token",
        help="Lower is better.",
        x_end=total_steps,
        height=200,
    )


def speed_curves(metrics: list[dict[str, Any]], total_steps: int | None = None) -> Markup:
    """Learning rate and speed of one run."""
    small = [
        ("learning_rate", "c", "Learning rate", "per step", "Rises in the warm-up, then follows the schedule."),
        ("tokens_per_second", "d", "Speed", "tokens per second", "How fast examples are read."),
    ]
    curves = (
        plot(
            [Series(title.lower(), metric_points(metrics, key), css)],
            title=title,
            unit=unit,
            help=help,
            x_end=total_steps,
            height=110,
        )
        for key, css, title, unit, help in small
    )
    return Markup('<div class="ft-curves-small">{}</div>').format(_join(curves))


def run_curves(metrics: list[dict[str, Any]], total_steps: int | None = None) -> Markup:
    """The charts of one run: losses, learning rate, speed."""
    return Markup('<div class="ft-curves">{}{}</div>').format(
        loss_curve(metrics, total_steps), speed_curves(metrics, total_steps)
    )


def compared_losses(runs: Sequence[tuple[str, list[dict[str, Any]]]]) -> Markup:
    """Training and validation loss of up to two runs, side by side."""
    return Markup('<div class="ft-two">{}{}</div>').format(
        plot(
            [Series(name, metric_points(rows, "loss"), css) for (name, rows), css in zip(runs, "ab", strict=False)],
            title="Training loss",
            unit="nats per token",
            help="On examples the model learns from.",
        ),
        plot(
            [
                Series(name, metric_points(rows, "eval_loss"), css, dots=True)
                for (name, rows), css in zip(runs, "ab", strict=False)
            ],
            title="Validation loss",
            unit="nats per token",
            help="On held-out examples: the one that counts.",
        ),
    )


def _caption(title: str, help: str) -> Markup:
    return Markup('<figcaption><strong>{}</strong> <span class="ft-help">{}</span></figcaption>').format(title, help)


def _empty(title: str, help: str, height: int) -> Markup:
    """As high as a drawn one, so that nothing below moves when values come."""
    return Markup(
        '<figure class="ft-plot">{}<div class="ft-legend"><span class="ft-help">no value yet</span></div>'
        '<div class="ft-plot-box" style="height:{}px"></div><div class="ft-plot-x"><span>&nbsp;</span></div></figure>'
    ).format(_caption(title, help), height)


def _curve(series: Series, place: Callable[[tuple[float, float]], str]) -> Markup:
    points = _thinned(series.points)
    path = " ".join(place(point) for point in points)
    if len(points) == 1:
        path = f"{path} {path}"
    line = Markup('<polyline class="ft-line ft-line-{}" points="{}"/>').format(series.css, path)
    if series.dots:
        # A round dot needs a zero-length line: circles would be stretched with the box.
        line += _join(
            Markup('<polyline class="ft-line ft-dot ft-line-{0}" points="{1} {1}"/>').format(series.css, place(point))
            for point in points
        )
    return line


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Every n-th point and the last: a long run must not send megabytes each second."""
    step = max(1, math.ceil(len(points) / _MOST_POINTS))
    kept = list(points[::step])
    if kept[-1] != points[-1]:
        kept.append(points[-1])
    return kept


def _axis(low: float, high: float) -> tuple[float, float, list[float]]:
    """Round bounds that contain [low, high], and the ticks between them."""
    if low >= 0:
        low = 0.0
    if high <= low:
        high = low + 1
    raw = (high - low) / 4
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw * 0.999)
    bottom, top = math.floor(low / step) * step, math.ceil(high / step - 1e-9) * step
    return bottom, top, [bottom + i * step for i in range(round((top - bottom) / step) + 1)]


# How often values occur


def distribution(
    parts: Sequence[tuple[str, Sequence[float], str]], *, title: str, help: str, axis: str = "reward", bins: int = 20
) -> Markup:
    """How often values of `axis` occur: for each (name, values, css) an outline of the shares by size, all on one
    scale."""
    parts = [part for part in parts if len(part[1])]
    if not parts:
        return _empty(title, help, 110)
    every = [value for _, values, _ in parts for value in values]
    low, high = min(every), max(every)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    width = (high - low) / bins
    shares = []
    for _, values, _ in parts:
        counts = [0] * bins
        for value in values:
            counts[min(bins - 1, int((value - low) / width))] += 1
        shares.append([count / len(values) for count in counts])
    most = max(share for each in shares for share in each)
    shapes = _join(
        Markup('<polyline class="ft-line ft-area ft-line-{}" points="{}"/>').format(css, _outline(each, most))
        for (_, _, css), each in zip(parts, shares, strict=True)
    )
    means = [(name, sum(values) / len(values), css) for name, values, css in parts]
    legend = _join(
        Markup('<span class="ft-key ft-line-{}">{}: mean <b>{}</b></span>').format(css, name, short(mean))
        for name, mean, css in means
    )
    spoken = "; ".join(f"{name}: mean {short(mean)}" for name, mean, _ in means)
    ends = (short(low), axis, percent(most, 0), short(high))
    return Markup(
        '<figure class="ft-plot">{}<div class="ft-legend">{}</div><div class="ft-plot-box ft-plot-wide" '
        'style="height:110px"><svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" aria-label="{}">{}'
        '</svg></div><div class="ft-plot-x ft-plot-wide" aria-hidden="true"><span>{}</span><span>{}; height: '
        "share of all, up to {}</span><span>{}</span></div></figure>"
    ).format(_caption(title, help), legend, f"{title}: {spoken}", shapes, *ends)


def _outline(shares: Sequence[float], most: float) -> str:
    """The points of a staircase over `shares`, starting and ending on the baseline."""
    points, width = [(0.0, 1000.0)], 1000 / len(shares)
    for number, share in enumerate(shares):
        height = 1000 - 960 * share / most
        points += [(number * width, height), ((number + 1) * width, height)]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in [*points, (1000.0, 1000.0)])


def histogram(title: str, part: Mapping[str, Any], limit: int | None = None) -> Markup:
    """Bars of rows by length, with a line at `limit` tokens if it is within range of the rows."""
    edges, counts = part["histogram"]["edges"], part["histogram"]["counts"]
    right = edges[-1]
    if limit is not None and right < limit <= 2 * right:
        right = limit * 1.02
    most = max(counts) or 1
    bars = _join(
        Markup('<rect class="ft-bar-h" x="{}" width="{}" y="{}" height="{}"/>').format(
            f"{1000 * low / right:.1f}",
            f"{max(1.0, 1000 * (high - low) / right - 4):.1f}",
            f"{1000 - height:.1f}",
            f"{height:.1f}",
        )
        for low, high, number in zip(edges, edges[1:], counts, strict=False)
        if (height := max(14.0, 960 * number / most) if number else 0)
    )
    line, label = Markup(""), Markup("")
    if limit is not None and limit <= right:
        place = f"{100 * limit / right:.1f}"
        line = Markup('<line class="ft-limit" x1="{0}" x2="{0}" y1="0" y2="1000"/>').format(
            f"{1000 * limit / right:.1f}"
        )
        side = "right" if limit > right / 2 else "left"
        label = Markup('<span class="ft-limit-name" style="{}:{}%">max_length {}</span>').format(
            side, f"{100 - float(place):.1f}" if side == "right" else place, f"{limit:,.0f}"
        )
    elif limit is not None:
        label = Markup('<span class="ft-limit-name" style="right:0">max_length {} is off the chart</span>').format(
            f"{limit:,.0f}"
        )
    spoken = f"{title}: half up to {part['p50']} tokens, 95% up to {part['p95']}, the longest {part['max']}"
    half, most_rows, longest = (f"{part[name]:,.0f}" for name in ("p50", "p95", "max"))
    help = f"half up to {half}, 95% up to {most_rows}, longest {longest} tokens"
    return Markup(
        '<figure class="ft-plot">{}<div class="ft-plot-box ft-plot-bars">{}'
        '<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" aria-label="{}">{}{}</svg></div>'
        '<div class="ft-plot-x" aria-hidden="true"><span>0</span><span>tokens; height: rows, up to {}</span>'
        "<span>{}</span></div></figure>"
    ).format(_caption(title, help), label, spoken, bars, line, f"{most:,}", f"{right:,.0f}")
