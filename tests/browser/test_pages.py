"""Every tab as it first looks: few controls and words, the one button in reach, and nothing that axe-core finds."""

from __future__ import annotations

from typing import Any

import pytest

from tests.benchmarks.pages import TABS, measure
from tests.browser.conftest import PHONE, WIDE, App, violations

pytestmark = pytest.mark.browser
MOST_CONTROLS, MOST_WORDS = 9, 120
SIZES = {"wide": WIDE, "phone": PHONE}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: Any) -> Any:
    app = App(tmp_path_factory.mktemp("pages") / "workspace").start()
    yield app
    app.kill()


def crowded(figures: dict[str, Any]) -> dict[str, Any]:
    """The tabs that show too much at first view, or are wider than the page."""
    return {
        tab: one
        for tab, one in figures.items()
        if one["controls"] > MOST_CONTROLS or one["words"] > MOST_WORDS or one["wide"]
    }


@pytest.mark.train
@pytest.mark.parametrize("size", SIZES)
def test_a_tab_with_a_run_shows_little_at_first_and_axe_finds_nothing(finished, visit, size):
    page = visit(finished.url, SIZES[size]).page
    if size == "phone":  # light on the wide page, dark on the phone
        page.locator("#theme_switch").click()
    figures, faults = {}, {}
    for tab in TABS:
        figures[tab] = measure(page, tab)
        faults[tab] = violations(page)
    assert not crowded(figures)
    assert not {tab: found for tab, found in faults.items() if found}


@pytest.mark.parametrize("size", SIZES)
def test_a_tab_shows_little_at_first_and_its_button_without_scrolling(empty, visit, size):
    page = visit(empty.url, SIZES[size]).page
    figures = {tab: measure(page, tab) for tab in TABS}
    assert not crowded(figures)
    height = SIZES[size]["height"]
    out_of_reach = {
        tab: one["primary"]
        for tab, one in figures.items()
        if one["primary"] and (len(one["primary"]) > 1 or one["primary"][0]["bottom"] > height)
    }
    assert not out_of_reach
