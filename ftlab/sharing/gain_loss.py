"""What was gained and what was lost as one inline SVG: each difference as a dot on a line, its interval around it."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from markupsafe import Markup, escape

from ftlab.evaluation.figures import change_text, signed
from ftlab.sharing.drawing import BASE_COLOUR, svg, whisker
from ftlab.sharing.measures import (
    Comparison,
    Measure,
    improved,
    measures_of,
    p_of,
    sides_of,
)

GAINED, LOST, OPEN = "#2f9468", "#d1604e", BASE_COLOUR
_GROUPS = {"task": "The task", "general": "What it knew before"}
_WIDTH = 380
_LEFT, _RIGHT = 8, 372
_ROW, _HEAD = 40, 24


@dataclass(frozen=True)
class Line:
    """One measure: how far it moved towards better, in percentage points or in percent of the base's value."""

    name: str
    title: str
    text: str
    gain: float
    interval: tuple[float, float] | None
    better: bool | None
    group: str

    @property
    def colour(self) -> str:
        return OPEN if self.better is None else GAINED if self.better else LOST


def gain_loss_lines(comparison: Comparison, side: str = "adapted") -> list[Line]:
    """The measures that have a better and a worse, as gains of `side` over the first side, in two groups.

    Shares and scores of 0 to 100 count in points; losses and what else has no upper end in percent of the value of
    the first side.
    """
    first = sides_of(comparison)[0]["name"]
    found = [_line(measure, side, first) for measure in measures_of(comparison)]
    known = [line for line in found if line is not None]
    return [line for group in _GROUPS for line in known if line.group == group]


def gain_loss_svg(comparison: Comparison, side: str = "adapted", *, only: Container[str] | None = None) -> Markup:
    """The picture of `gain_loss_lines`: right of the middle is gained, left of it lost; empty without any.

    `only` names the measures that are drawn; None draws all.
    """
    lines = [line for line in gain_loss_lines(comparison, side) if only is None or line.name in only]
    if not lines:
        return Markup("")
    reach = _reach(lines)
    body, top, group = "", 26, ""
    for line in lines:
        if line.group != group:
            group = line.group
            # A rule parts the groups.
            body += f'<path d="M0 {top + 2}H{_WIDTH}" stroke="currentColor" stroke-opacity=".15"/>' if top > 26 else ""
            body += f'<text x="0" y="{top + 17}" font-size="11" fill-opacity=".65">{_GROUPS[group]}</text>'
            top += _HEAD
        body += _row(line, top, reach)
        top += _ROW
    spoken = "; ".join(f"{line.title}: {line.text}" for line in lines)
    middle = _place(0, reach)
    zero = f'<path d="M{middle:.1f} 22V{top}" stroke="currentColor" stroke-opacity=".35"/>'
    return svg(_WIDTH, top + 22, spoken, Markup(_head(middle) + zero + body + _axis(top, reach)), widest=_WIDTH + 80)


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
    difference = measure.get("differences", {}).get(side) or {}
    ends = difference.get("interval")
    low_high = tuple(sorted(towards * end for end in ends)) if ends else None
    p = p_of(measure, side)
    text = change_text(measure, side, first) + (f" ({p})" if p else "")
    better = improved(measure, side, first)
    return Line(measure["name"], measure["title"], text, towards * (after - before), low_high, better, measure["group"])


def _reach(lines: list[Line]) -> float:
    """How far the axis goes to each side: at most 100, and no farther than there is something to see."""
    ends = [abs(end) for line in lines for end in (line.gain, *(line.interval or ()))]
    return next((step for step in (5, 10, 20, 50) if max(ends) <= step), 100)


def _place(value: float, reach: float) -> float:
    share = min(1.0, max(-1.0, value / reach))
    return _LEFT + (_RIGHT - _LEFT) * (share + 1) / 2


def _head(middle: float) -> str:
    return (
        f'<text x="{middle - 12:.1f}" y="12" text-anchor="end" fill-opacity=".75">← lost</text>'
        f'<text x="{middle + 12:.1f}" y="12" fill-opacity=".75">gained →</text>'
    )


def _row(line: Line, top: float, reach: float) -> str:
    y, zero, at = top + 25, _place(0, reach), _place(line.gain, reach)
    weight = ' font-weight="600"' if line.better is not None else ""
    found = (
        f'<text x="0" y="{top + 12}">{escape(line.title)}</text>'
        f'<text x="{_WIDTH}" y="{top + 12}" text-anchor="end"{weight}>{escape(line.text)}</text>'
        f'<path d="M{_LEFT} {y}H{_RIGHT}" stroke="currentColor" stroke-opacity=".12"/>'
        f'<path d="M{zero:.1f} {y}H{at:.1f}" stroke="{line.colour}" stroke-width="4"/>'
    )
    if line.interval:
        found += str(whisker(*(_place(end, reach) for end in line.interval), y))
    if abs(line.gain) > reach:
        # Farther than the axis goes.
        tip = 6 if line.gain > 0 else -6
        return found + f'<path d="M{at:.1f} {y - 5}l{tip} 5l{-tip} 5z" fill="{line.colour}"/>'
    inside = "none" if line.better is None else line.colour
    # A hollow dot is within chance: colour alone does not tell everybody.
    if inside == "none":
        found += f'<circle cx="{at:.1f}" cy="{y}" r="4.5" fill="var(--card, var(--block-background-fill, #fff))"/>'
    return found + (f'<circle cx="{at:.1f}" cy="{y}" r="4.5" fill="{inside}" stroke="{line.colour}" stroke-width="2"/>')


def _axis(top: float, reach: float) -> str:
    y, labels = top + 14, ""
    for value in (-reach, -reach / 2, 0, reach / 2, reach):
        anchor = "start" if value == -reach else "end" if value == reach else "middle"
        x = _place(value, reach) if anchor == "middle" else 0 if value < 0 else _WIDTH
        labels += (
            f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" font-size="11" fill-opacity=".65">'
            f"{signed(f'{abs(value):g}', value)}</text>"
        )
    return labels
