"""Pictures of a run as inline SVG: no script, no other host, the same in light and dark.

The lines stretch with the box; labels are HTML over it, so that text keeps its size on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ftlab.ui.kit.html import join, short

_MOST_POINTS = 400


@dataclass(frozen=True)
class Series:
    """`points` are (step, value); `css` is one of the colours a, b, c, d of style.css."""

    name: str
    points: Sequence[tuple[float, float]]
    css: str = "a"
    dots: bool = False


def metric_points(metrics: Iterable[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    """The (step, value) pairs of `key`, without gaps and without values that are not finite."""
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
    """Lines over steps, or what else `axis` names. `x_end`: the last step expected, so that a running curve grows into
    its box."""
    series = [one for one in series if one.points]
    head = Markup('<figcaption><strong>{}</strong> <span class="ft-help">{}</span></figcaption>').format(title, help)
    if not series:
        return Markup('<figure class="ft-plot">{}<div class="ft-plot-empty">no value to show</div></figure>').format(
            head
        )
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    right = max([*xs, x_end or 0, 1])
    low, high, ticks = _axis(min(ys), max(ys))

    def rise(value: float) -> float:
        return (value - low) / (high - low)

    def place(point: tuple[float, float]) -> str:
        return f"{1000 * point[0] / right:.1f},{1000 * (1 - rise(point[1])):.1f}"

    lines = join(_line(one, place) for one in series)
    grid = join(
        Markup('<line class="ft-grid" x1="0" x2="1000" y1="{0}" y2="{0}"/>').format(f"{1000 * (1 - rise(tick)):.1f}")
        for tick in ticks
    )
    labels = join(
        Markup('<span style="bottom:{}%">{}</span>').format(f"{100 * rise(tick):.1f}", short(tick)) for tick in ticks
    )
    legend = join(
        Markup('<span class="ft-key ft-line-{}">{}: <b>{}</b></span>').format(
            one.css, one.name, short(one.points[-1][1])
        )
        for one in series
    )
    spoken = "; ".join(
        f"{one.name} from {short(one.points[0][1])} to {short(one.points[-1][1])} at {axis} {one.points[-1][0]:g}"
        for one in series
    )
    return Markup(
        '<figure class="ft-plot">{head}<div class="ft-legend">{legend}<span class="ft-help">{unit}</span></div>'
        '<div class="ft-plot-box" style="height:{height}px"><div class="ft-plot-y" aria-hidden="true">{labels}</div>'
        '<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" aria-label="{spoken}">{grid}{lines}</svg>'
        '</div><div class="ft-plot-x" aria-hidden="true"><span>0</span><span>{axis}</span><span>{right}</span></div>'
        "</figure>"
    ).format(
        head=head,
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


def distribution(parts: Sequence[tuple[str, Sequence[float], str]], *, title: str, help: str, bins: int = 20) -> Markup:
    """How often values occur: for each (name, values, css) an outline of the shares by size, all on one axis."""
    parts = [part for part in parts if len(part[1])]
    head = Markup('<figcaption><strong>{}</strong> <span class="ft-help">{}</span></figcaption>').format(title, help)
    if not parts:
        return Markup('<figure class="ft-plot">{}<div class="ft-plot-empty">no value to show</div></figure>').format(
            head
        )
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
    shapes = join(
        Markup('<polyline class="ft-line ft-area ft-line-{}" points="{}"/>').format(css, _outline(each, most))
        for (_, _, css), each in zip(parts, shares, strict=True)
    )
    means = [(name, sum(values) / len(values), css) for name, values, css in parts]
    legend = join(
        Markup('<span class="ft-key ft-line-{}">{}: mean <b>{}</b></span>').format(css, name, short(mean))
        for name, mean, css in means
    )
    spoken = "; ".join(f"{name}: mean {short(mean)}" for name, mean, _ in means)
    return Markup(
        '<figure class="ft-plot">{}<div class="ft-legend">{}</div><div class="ft-plot-box ft-plot-wide" '
        'style="height:110px"><svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" aria-label="{}">{}'
        '</svg></div><div class="ft-plot-x ft-plot-wide" aria-hidden="true"><span>{}</span><span>reward</span>'
        "<span>{}</span></div></figure>"
    ).format(head, legend, f"{title}: {spoken}", shapes, short(low), short(high))


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
    return Markup('<div class="ft-curves-small">{}</div>').format(join(curves))


def run_curves(metrics: list[dict[str, Any]], total_steps: int | None = None) -> Markup:
    """The pictures of one run: losses, learning rate, speed."""
    return Markup('<div class="ft-curves">{}{}</div>').format(
        loss_curve(metrics, total_steps), speed_curves(metrics, total_steps)
    )


def compared_losses(runs: Sequence[tuple[str, list[dict[str, Any]]]]) -> Markup:
    """Validation and training loss of up to two runs, in pictures that share their axes."""
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
            help="On examples it never learns from: the one that counts.",
        ),
    )


def _outline(shares: Sequence[float], most: float) -> str:
    """The points of a staircase over `shares`, from the ground to the ground."""
    points, width = [(0.0, 1000.0)], 1000 / len(shares)
    for number, share in enumerate(shares):
        height = 1000 - 960 * share / most
        points += [(number * width, height), ((number + 1) * width, height)]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in [*points, (1000.0, 1000.0)])


def _line(one: Series, place: Any) -> Markup:
    points = _thinned(one.points)
    path = " ".join(place(point) for point in points)
    if len(points) == 1:
        path = f"{path} {path}"
    line = Markup('<polyline class="ft-line ft-line-{}" points="{}"/>').format(one.css, path)
    if one.dots:
        # A round dot needs a zero-length line: circles would be stretched with the box.
        line += join(
            Markup('<polyline class="ft-line ft-dot ft-line-{0}" points="{1} {1}"/>').format(one.css, place(point))
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
    """Round bounds that hold [low, high], and the ticks between them."""
    if low >= 0:
        low = 0.0
    if high <= low:
        high = low + 1
    raw = (high - low) / 4
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw * 0.999)
    bottom, top = math.floor(low / step) * step, math.ceil(high / step - 1e-9) * step
    return bottom, top, [bottom + i * step for i in range(round((top - bottom) / step) + 1)]
