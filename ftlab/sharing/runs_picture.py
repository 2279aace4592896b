"""Several runs and their base beside each other as one inline SVG: for each measure a panel, for each side a dot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ftlab.evaluation.figures import value_text
from ftlab.sharing.drawing import ADAPTED_COLOUR, BASE_COLOUR, cut, svg, whisker
from ftlab.sharing.measures import Measure, measures_of

_WIDTH, _LEFT, _RIGHT = 560, 170, 480
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


def panels(comparisons: Sequence[tuple[str, Mapping[str, Any]]], names: Sequence[str]) -> list[Panel]:
    """A panel for each measure in `names` that all `comparisons` (title, comparison with a base) have."""
    listed = [{one["name"]: one for one in measures_of(comparison)} for _, comparison in comparisons]
    found = []
    for name in names:
        if not all(name in one and one[name]["values"].get("adapted") is not None for one in listed):
            continue
        first = listed[0][name]
        dots = [_dot("base", first, "base")] if first["values"].get("base") is not None else []
        dots += [_dot(title, one[name], "adapted") for (title, _), one in zip(comparisons, listed, strict=True)]
        found.append(Panel(first, tuple(dots)))
    return found


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
    return svg(_WIDTH, top, "; ".join(spoken), body, widest=_WIDTH + 100)


def _dot(title: str, measure: Measure, side: str) -> Dot:
    ends = (measure.get("intervals") or {}).get(side)
    return Dot(title, measure["values"][side], (ends[0], ends[1]) if ends else None, side == "base")


def _panel(panel: Panel, top: int) -> Markup:
    better = panel.measure.get("better")
    hint = f"{better} is better" if better else ""
    height = _HEAD + _ROW * len(panel.dots)
    body = Markup(
        '<text x="0" y="{}" font-weight="600">{}</text><text x="{}" y="{}" text-anchor="end" fill-opacity=".65" '
        'font-size="11">{}</text>'
    ).format(top + 14, panel.measure["title"], _WIDTH, top + 14, hint)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _LEFT + (_RIGHT - _LEFT) * share
        body += Markup('<path d="M{:.1f} {}V{}" stroke="currentColor" stroke-opacity=".12"/>').format(
            x, top + 22, top + height
        )
    for place, dot in enumerate(panel.dots):
        body += _row(panel, dot, top + _HEAD + _ROW * place + 6)
    return body


def _row(panel: Panel, dot: Dot, y: int) -> Markup:
    colour = BASE_COLOUR if dot.is_base else ADAPTED_COLOUR
    x = _x(dot.value, panel.end)
    body = Markup(
        '<text x="0" y="{}">{}</text><path d="M{} {}H{:.1f}" stroke="{}" stroke-width="8" stroke-opacity=".35"/>'
    ).format(y + 4, cut(dot.title, 25), _LEFT, y, x, colour)
    if dot.interval:
        body += whisker(*(_x(end, panel.end) for end in dot.interval), y)
    return body + Markup(
        '<circle cx="{:.1f}" cy="{}" r="4.5" fill="{}"/>'
        '<text x="{}" y="{}" text-anchor="end" font-weight="600">{}</text>'
    ).format(
        x, y, colour, _WIDTH, y + 4, value_text(panel.measure, dot.value) + (" →" if dot.value > panel.end else "")
    )


def _x(value: float, end: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * min(1.0, max(0.0, value / end))
