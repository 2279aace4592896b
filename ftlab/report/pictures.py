"""Drawings of reports as SVG: a blind test's votes, runs side by side."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ftlab.arena.results import Neither, TallyJson
from ftlab.core.comparison import ComparisonJson
from ftlab.evaluation.figures import percent, value_text
from ftlab.report.measures import Measure, measures_of

# Middle tones: each is told from white and from near black.
BASE_COLOUR, ADAPTED_COLOUR = "#8b95a7", "#4a86d8"


def svg(width: int, height: float, spoken: str, body: Markup, *, widest: int) -> Markup:
    """An SVG of `width` by `height` that grows with its box up to `widest` pixels; `spoken` is its text alternative."""
    return Markup(
        '<svg viewBox="0 0 {} {}" width="100%" style="max-width:{}px;height:auto" role="img" aria-label="{}" '
        'font-family="inherit" font-size="12" fill="currentColor">{}</svg>'
    ).format(width, round(height), widest, spoken, body)


def whisker(low: float, high: float, y: float) -> Markup:
    """An interval from x `low` to `high`, with its ends marked."""
    return Markup(
        '<path d="M{0:.1f} {2}H{1:.1f}M{0:.1f} {3}v8M{1:.1f} {3}v8" stroke="currentColor" stroke-opacity=".7" '
        'fill="none"/>'
    ).format(low, high, y, y - 4)


def cut(text: str, most: int) -> str:
    """`text` in at most `most` characters, for a label."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


NEITHER_COLOURS = {"both_good": "#b9a26a", "both_bad": "#a98a86", "tie": "#9aa09a"}
_CHOICES: dict[Neither, str] = {"both_good": "both good", "both_bad": "both bad", "tie": "identical"}
_WIDTH = 420
_LEFT = 118  # where a plot begins, after its labels
_RIGHT = 372


def pictures(tally: TallyJson) -> dict[str, Markup]:
    """All pictures of a verdict by name: votes, rates, evidence (two contestants), strengths (three or more)."""
    drawn = {}
    if len(tally["contestants"]) == 2:
        drawn["votes"] = votes_svg(tally)
        drawn["rates"] = rates_svg(tally)
        drawn["evidence"] = evidence_svg(tally)
    elif tally["ranking"]:
        drawn["strengths"] = strengths_svg(tally)
    return {name: picture for name, picture in drawn.items() if picture}


def votes_svg(tally: TallyJson) -> Markup:
    """One bar of all votes: the second contestant's, those for neither, the first one's; empty without votes."""
    first, second = tally["contestants"]
    counts = tally["counts"]
    parts = [(counts["wins"][second["id"]], ADAPTED_COLOUR, second["title"])]
    parts += [(counts[choice], NEITHER_COLOURS[choice], word) for choice, word in _CHOICES.items()]
    parts += [(counts["wins"][first["id"]], BASE_COLOUR, first["title"])]
    total = sum(number for number, _, _ in parts)
    if not total:
        return Markup("")
    body, x = Markup(""), 0.0
    for number, colour, _ in parts:
        width = _WIDTH * number / total
        if number:
            body += Markup('<rect x="{}" y="4" width="{}" height="22" fill="{}"/>').format(
                f"{x:.1f}", f"{max(width - 1, 1):.1f}", colour
            )
            if width > 24:
                body += Markup(
                    '<text x="{}" y="19" text-anchor="middle" fill="#fff" font-weight="600">{}</text>'
                ).format(f"{x + width / 2:.1f}", number)
        x += width
    y = 46
    for number, colour, name in parts:
        if not number:
            continue
        body += Markup(
            '<rect x="0" y="{}" width="11" height="11" rx="3" fill="{}"/><text x="17" y="{}">{}</text>'
            '<text x="{}" y="{}" text-anchor="end">{} ({})</text>'
        ).format(y - 10, colour, y, cut(name, 44), _WIDTH, y, f"{number:,}", percent(round(number / total, 3)))
        y += 18
    spoken = "Votes: " + ", ".join(f"{name} {number}" for number, _, name in parts)
    return _svg(y - 8, spoken, body)


def rates_svg(tally: TallyJson, most: int = 8) -> Markup:
    """The win rate with its 95% interval: of all votes, by topic and by rater; empty when no vote chose a side."""
    if tally["win_rate"] is None:
        return Markup("")
    rows: list[tuple[str, float | None, list[float] | None, int, bool]] = [
        ("all votes", tally["win_rate"], tally["interval"], tally["decided"], True)
    ]
    groups = [("by topic", tally["by_topic"]), ("by rater", tally["by_rater"])]
    for title, some in groups:
        known = [one for one in some if one["win_rate"] is not None]
        if len(known) < 2:
            continue
        rows.append((title, None, None, 0, False))
        rows += [
            (one["name"], one["win_rate"], one["interval"], one["wins"] + one["losses"], False) for one in known[:most]
        ]
        if len(known) > most:
            rows.append((f"and {len(known) - most} more", None, None, 0, False))
    height = 34 + 21 * len(rows)
    body = _grid(26, height - 8, tally)
    for i, (name, rate, ends, votes, strong) in enumerate(rows):
        y = 44 + 21 * i
        if rate is None or ends is None:
            body += Markup('<text x="0" y="{}" fill-opacity=".65">{}</text>').format(y, name)
            continue
        weight = Markup(' font-weight="600"') if strong else Markup("")
        body += Markup('<text x="0" y="{}"{}>{}</text>').format(y, weight, cut(name, 17))
        low, high = (_x(end) for end in ends)
        body += Markup(
            '<path d="M{} {}H{}" stroke="currentColor" stroke-opacity=".55" stroke-width="2" fill="none"/>'
            '<circle cx="{}" cy="{}" r="{}" fill="{}"/>'
            '<text x="{}" y="{}" text-anchor="end" fill-opacity=".75">{}</text>'
        ).format(low, y - 4, high, _x(rate), y - 4, 5 if strong else 4, ADAPTED_COLOUR, _WIDTH, y, f"{votes:,}")
    spoken = f"Win rate of {tally['contestants'][1]['title']}: " + ", ".join(
        f"{name} {percent(round(rate, 3))}" for name, rate, *_ in rows if rate is not None
    )
    return _svg(height, spoken, body)


def evidence_svg(tally: TallyJson) -> Markup:
    """How the odds for a difference grew with the votes, and the line from which they decide; empty without any."""
    evidence = tally["evidence"]
    if evidence is None or not evidence["path"]:
        return Markup("")
    path = [(0, 0.0), *((point["votes"], point["log10"]) for point in evidence["path"])]
    line = math.log10(evidence["threshold"])
    low, high = min(-1.0, *(log10 for _, log10 in path)), max(line + 0.5, *(log10 for _, log10 in path))
    last = max(path[-1][0], tally["votes"]["planned"] or 0)
    top, bottom, left = 12, 150, 62

    def place(votes: int, log10: float) -> tuple[float, float]:
        x = left + (_WIDTH - left - 8) * votes / last
        return x, bottom - (bottom - top) * (log10 - low) / (high - low)

    body = Markup("")
    step = max(1, math.ceil((high - low) / 5))
    for power in range(math.ceil(low), math.floor(high) + 1, step):
        y = place(0, power)[1]
        label = (
            f"{10**power:,} to 1" if 0 <= power <= 4 else f"1 to {10**-power:,}" if power < 0 else f"10^{power} to 1"
        )
        body += Markup(
            '<path d="M{} {}H{}" stroke="currentColor" stroke-opacity=".12"/>'
            '<text x="{}" y="{}" text-anchor="end" font-size="11" fill-opacity=".7">{}</text>'
        ).format(left, f"{y:.1f}", _WIDTH - 8, left - 6, f"{y + 4:.1f}", label)
    y = place(0, line)[1]
    body += Markup(
        '<path d="M{} {}H{}" stroke="{}" stroke-width="1.5" stroke-dasharray="5 4"/>'
        '<text x="{}" y="{}" font-size="11" fill-opacity=".8">decides from here on</text>'
    ).format(left, f"{y:.1f}", _WIDTH - 8, "#b9862b", left + 6, f"{y - 5:.1f}")
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in itertools.starmap(place, path))
    body += Markup('<polyline points="{}" fill="none" stroke="{}" stroke-width="2"/>').format(points, ADAPTED_COLOUR)
    for votes, anchor in ((0, "start"), (last, "end")):
        x = place(votes, low)[0]
        label = f"{votes:,} votes" if votes else "0"
        body += Markup('<text x="{}" y="{}" font-size="11" text-anchor="{}" fill-opacity=".7">{}</text>').format(
            f"{x:.1f}", bottom + 16, anchor, label
        )
    return _svg(bottom + 22, f"Evidence. {evidence['text']}", body)


def strengths_svg(tally: TallyJson) -> Markup:
    """The strength of each contestant with its 95% interval, the strongest first."""
    rows = tally["ranking"]
    height = 34 + 24 * len(rows)
    body = _grid(26, height - 10, None)
    for i, row in enumerate(rows):
        y = 46 + 24 * i
        low, high = (_x(end) for end in row["interval"])
        body += Markup(
            '<text x="0" y="{}">{}</text>'
            '<path d="M{} {}H{}" stroke="currentColor" stroke-opacity=".55" stroke-width="2" fill="none"/>'
            '<circle cx="{}" cy="{}" r="5" fill="{}"/><text x="{}" y="{}" text-anchor="end">{}</text>'
        ).format(
            y, cut(row["title"], 17), low, y - 4, high, _x(row["strength"]), y - 4,
            ADAPTED_COLOUR, _WIDTH, y, percent(round(row["strength"], 2)),
        )  # fmt: skip
    each = ", ".join(f"{row['title']} {percent(round(row['strength'], 2))}" for row in rows)
    return _svg(height, f"Chance to win a vote: {each}", body)


def _grid(top: int, bottom: int, tally: TallyJson | None) -> Markup:
    """Grid lines from 0 to 100%, with the preferred contestant above each end."""
    body = Markup("")
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        strength = ".5" if share == 0.5 else ".12"
        dash = Markup(' stroke-dasharray="3 3"') if share == 0.5 else Markup("")
        body += Markup('<path d="M{} {}V{}" stroke="currentColor" stroke-opacity="{}"{}/>').format(
            _x(share), top, bottom, strength, dash
        )
    ends = ("0%", "100%") if tally is None else [cut(contestant["title"], 16) for contestant in tally["contestants"]]
    marks = ((ends[0], _LEFT, "start"), ("50%", _x(0.5), "middle"), (ends[1], _RIGHT, "end"))
    for text, x, anchor in marks:
        body += Markup('<text x="{}" y="16" font-size="11" text-anchor="{}" fill-opacity=".75">{}</text>').format(
            x, anchor, text
        )
    return body


def _x(share: float) -> str:
    return f"{_LEFT + (_RIGHT - _LEFT) * share:.1f}"


def _svg(height: float, spoken: str, body: Markup) -> Markup:
    return svg(_WIDTH, height, spoken, body, widest=_WIDTH + 100)


_RUNS_WIDTH, _RUNS_LEFT, _RUNS_RIGHT = 560, 170, 480
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
        """Where the axis ends: all of a share or of 0 to 100, else a little more than the largest value of a run.

        A base is often a hundred times as surprised as any of them, and would leave nothing to see.
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
        drawn += [(title, one[name], "adapted") for (title, _), one in zip(comparisons, listed, strict=True)]
        every.append(Panel(first, tuple(dot for one in drawn if (dot := _dot(*one)) is not None)))
    return every


def runs_svg(drawn: Sequence[Panel]) -> Markup:
    """The picture of `panels`; empty without any."""
    if not drawn:
        return Markup("")
    body, top, spoken = Markup(""), 0, []
    for panel in drawn:
        body += _panel(panel, top)
        spoken.append(
            f"{panel.measure['title']}: "
            + ", ".join(f"{dot.title} {value_text(panel.measure, dot.value)}" for dot in panel.dots)
        )
        top += _HEAD + _ROW * len(panel.dots) + 14
    return svg(_RUNS_WIDTH, top, "; ".join(spoken), body, widest=_RUNS_WIDTH + 100)


def _dot(title: str, measure: Measure, side: str) -> Dot | None:
    value, ends = measure["values"].get(side), (measure.get("intervals") or {}).get(side)
    return None if value is None else Dot(title, value, (ends[0], ends[1]) if ends else None, side == "base")


def _panel(panel: Panel, top: int) -> Markup:
    better = panel.measure.get("better")
    hint = f"{better} is better" if better else ""
    height = _HEAD + _ROW * len(panel.dots)
    body = Markup(
        '<text x="0" y="{}" font-weight="600">{}</text><text x="{}" y="{}" text-anchor="end" fill-opacity=".65" '
        'font-size="11">{}</text>'
    ).format(top + 14, panel.measure["title"], _RUNS_WIDTH, top + 14, hint)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _RUNS_LEFT + (_RUNS_RIGHT - _RUNS_LEFT) * share
        body += Markup('<path d="M{:.1f} {}V{}" stroke="currentColor" stroke-opacity=".12"/>').format(
            x, top + 22, top + height
        )
    for place, dot in enumerate(panel.dots):
        body += _row(panel, dot, top + _HEAD + _ROW * place + 6)
    return body


def _row(panel: Panel, dot: Dot, y: int) -> Markup:
    colour = BASE_COLOUR if dot.is_base else ADAPTED_COLOUR
    x = _runs_x(dot.value, panel.end)
    body = Markup(
        '<text x="0" y="{}">{}</text><path d="M{} {}H{:.1f}" stroke="{}" stroke-width="8" stroke-opacity=".35"/>'
    ).format(y + 4, cut(dot.title, 25), _RUNS_LEFT, y, x, colour)
    if dot.interval:
        low, high = (_runs_x(end, panel.end) for end in dot.interval)
        body += whisker(low, high, y)
    return body + Markup(
        '<circle cx="{:.1f}" cy="{}" r="4.5" fill="{}"/>'
        '<text x="{}" y="{}" text-anchor="end" font-weight="600">{}</text>'
    ).format(
        x, y, colour, _RUNS_WIDTH, y + 4, value_text(panel.measure, dot.value) + (" →" if dot.value > panel.end else "")
    )


def _runs_x(value: float, end: float) -> float:
    return _RUNS_LEFT + (_RUNS_RIGHT - _RUNS_LEFT) * min(1.0, max(0.0, value / end))
