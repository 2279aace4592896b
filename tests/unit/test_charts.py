"""The charts can be read: in light and dark, with units on their axes, and without markup from data."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from ftlab.arena.ballots import Ballot
from ftlab.arena.verdict import judge
from ftlab.report import charts
from tests.comparisons import three_sides

EVIL = "<script>alert(1)</script>"
UI = Path(charts.__file__).parents[1] / "ui"
# The cards of the report and of the app, and the page of a notebook.
LIGHT, DARK = ("#ffffff", "#f8fafc"), ("#1b1f26", "#0f172a")
COLOURS = [
    charts.BASE_COLOUR,
    charts.ADAPTED_COLOUR,
    *charts.NEITHER_COLOURS.values(),
    charts.GAINED,
    charts.LOST,
    charts.THRESHOLD,
]


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    shares = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def blended(over: str, under: str, opacity: float) -> str:
    pairs = ((int(over[i : i + 2], 16), int(under[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(opacity * top + (1 - opacity) * below):02x}" for top, below in pairs)


def test_the_formula_of_contrast_gives_the_known_values():
    assert contrast("#000", "#fff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # webaim.org/articles/contrast


@pytest.mark.parametrize("colour", COLOURS)
def test_what_is_drawn_stands_out_on_light_and_dark_and_its_number_can_be_read(colour):
    assert min(contrast(colour, page) for page in (*LIGHT, *DARK)) >= 3
    assert contrast(charts.INK, colour) >= 4.5


def test_soft_text_can_be_read_on_light_and_dark():
    for ink, pages in (("#20242c", LIGHT), ("#e4e7ec", DARK)):
        for page in pages:
            assert contrast(blended(ink, page, charts.SOFT), page) >= 4.5


def test_the_lines_of_the_app_stand_out_in_their_theme():
    css = (UI / "style.css").read_text(encoding="utf-8")
    for theme, pages in ((":root", LIGHT), (".dark", DARK)):
        rule = re.search(rf"^{re.escape(theme)} {{(.*?)}}", css, flags=re.DOTALL | re.MULTILINE)
        colours = dict(re.findall(r"--ft-([abcd]): (#\w+)", rule[1]))
        assert len(colours) == 4 and min(contrast(c, page) for c in colours.values() for page in pages) >= 3


def ballots(votes: int, wins: int) -> list[Ballot]:
    return [
        Ballot(f"p{n}", "r", "two", "one", "left" if n < wins else "right", float(n), n, "a" if n % 2 else "b")
        for n in range(votes)
    ]


def texts(chart: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(chart).iter("text")]


def test_a_blind_test_says_what_its_axes_count():
    tally = judge(ballots(20, 15), {"one": "the base", "two": EVIL}, planned=20)
    drawn = charts.blind_test_charts(tally)
    assert list(drawn) == ["votes", "rates", "evidence"]
    assert f"Win rate of {EVIL}, 95% interval" in texts(drawn["rates"]) and EVIL not in drawn["rates"]
    assert "15 votes (75%)" in texts(drawn["votes"])
    assert {"Odds for a difference", "20 votes"} <= set(texts(drawn["evidence"]))
    # 15 of 20 is three quarters of the way from the left end of the axis to the right one.
    dot = next(ElementTree.fromstring(drawn["rates"]).iter("circle"))
    assert float(dot.get("cx")) == pytest.approx(118 + 0.75 * (372 - 118), abs=0.06)


def test_gains_say_in_what_they_are_counted():
    assert any(text.startswith("points; ") for text in texts(charts.gain_loss_chart(three_sides())))


def test_a_panel_of_runs_names_both_ends_of_its_axis():
    drawn = charts.panels([("one", three_sides())], ["exact_match"])
    assert {"0", "100%"} <= set(texts(charts.runs_chart(drawn)))


def test_a_histogram_and_a_distribution_say_how_high_their_highest_bar_is():
    part = {"histogram": {"edges": [0, 10, 20], "counts": [3, 1200]}, "p50": 12, "p95": 18, "max": 20}
    assert "rows, up to 1,200" in charts.histogram(EVIL, part, 16) and EVIL not in charts.histogram(EVIL, part)
    assert "up to 50%" in charts.distribution([("before", [0.0, 1.0], "a")], title="Reward", help="", bins=2)
    assert not math.isnan(charts.Scale(0, 1)(2)) and charts.Scale(0, 10, 0, 5)(20) == 10
