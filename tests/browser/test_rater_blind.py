"""Everything that reaches a rater's browser before the vote, and whether any of it tells whose answer stands where."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from scipy.stats import fisher_exact, mannwhitneyu

pytest.importorskip("gradio")

from ftlab.arena import store
from ftlab.arena.trials import GUESSES
from ftlab.core.workspace import Workspace
from ftlab.ui.rater.page import launch_rater_app, rater_address
from tests.blind import Blind, open_blind_test

pytestmark = pytest.mark.browser
# The sides are dealt from fixed seeds; what remains is chance in ids and clocks, and one false alarm in ten thousand.
RARE = 1e-4
_PROMPTS, _RATERS = 12, 2


class Recorder:
    """Whatever a page gets and keeps, and when."""

    def __init__(self, page: Any):
        self.page = page
        self.responses: list[Any] = []
        self.said: list[str] = []
        page.on("response", lambda response: self.responses.append(response))
        page.on("console", lambda message: self.said.append(message.text))
        page.on("websocket", lambda socket: self.said.append(socket.url))

    def everything(self) -> str:
        """All of it as one text: addresses, headers, bodies, the page, what the browser keeps, the console."""
        parts = list(self.said)
        for response in self.responses:
            parts += [response.url, json.dumps(response.all_headers()), str(response.status)]
            if response.request.resource_type not in ("image", "font"):
                parts.append(response.text())
        kept = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, document.title])"
        return "\n".join([*parts, self.page.content(), self.page.evaluate(kept)])

    def last_reply(self) -> tuple[dict[str, str], dict[str, str], dict[str, float]]:
        """Body, headers and clock of what the page got last from the server's one endpoint."""
        last = [one for one in self.responses if "component_server" in one.url][-1]
        return last.json(), last.all_headers(), last.request.timing


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Blind, str]]:
    workspace = Workspace.open(tmp_path_factory.mktemp("blind"))
    blind = open_blind_test(workspace, prompts=_PROMPTS, raters=_RATERS, rubric=("overall", "correctness"))
    app, url = launch_rater_app(workspace.root)
    yield blind, url
    app.close()


def texts(blind: Blind) -> dict[str, tuple[str, str]]:
    """By trial: the answers left and right."""
    with blind.store.reading() as connection:
        text = {row.id: row.text for row in connection.execute(store.answers.select())}
        return {
            row.id: (text[row.left_answer_id], text[row.right_answer_id])
            for row in connection.execute(store.trials.select())
        }


def masked(screen: str, answers: tuple[str, str], known: Sequence[str]) -> str:
    """A screen without what differs between any two trials: ids, the question's number, the place, the answers."""
    assert all(screen.count(answer) == 2 for answer in answers), "each answer once rendered and once as written"
    assert screen.index(answers[0]) < screen.index(answers[1])
    for answer in answers:
        screen = screen.replace(answer, "ANSWER")
    for one in known:
        screen = screen.replace(one, "ID")
    screen = re.sub(r"Question \d+: which", "Question N: which", screen)
    return re.sub(r'Comparison \d+ of \d+|max="\d+" value="\d+"|judged: \d+ of \d+', "PLACE", screen)


def telling(features: Mapping[str, Sequence[Any]], sides: Sequence[bool]) -> list[str]:
    """The names of features by which somebody could do better than a coin at naming the side.

    A feature with few values is held against the sides by Fisher's exact test on each value, one with many by its
    rank (Mann-Whitney).
    """
    found = []
    for name, values in features.items():
        assert len(values) == len(sides)
        kinds = set(values)
        if 1 < len(kinds) <= 4:
            pairs = list(zip(values, sides, strict=True))
            p = min(
                fisher_exact(
                    [
                        [pairs.count((kind, side)), sides.count(side) - pairs.count((kind, side))]
                        for side in (True, False)
                    ]
                ).pvalue
                for kind in kinds
            )
        elif len(kinds) > 4:
            rank = {value: place for place, value in enumerate(sorted(kinds))}
            groups = [[rank[v] for v, s in zip(values, sides, strict=True) if s is side] for side in (True, False)]
            p = mannwhitneyu(*groups).pvalue
        else:
            p = 1.0
        if p < RARE:
            found.append(name)
    return found


def test_nothing_that_reaches_the_browser_before_the_vote_tells_whose_answer_stands_where(served, chromium):
    blind, url = served
    before = []  # trials and what came with them, each before its vote
    for key in blind.keys:
        context = chromium.new_context()
        page = context.new_page()
        recorder = Recorder(page)
        page.goto(rater_address(url, key))
        for number in range(1, _PROMPTS + 1):
            page.get_by_role("heading", name=f"Comparison {number} of").wait_for()
            trial = page.locator("[data-trial]").get_attribute("data-trial")
            before.append((trial, *recorder.last_reply()))
            if number == 1:
                # All that came with the first comparison, its scripts and its configuration too.
                told = recorder.everything()
                assert not [name for name, secret in blind.secrets.items() if secret in told]
                assert all(response.url.startswith(url) for response in recorder.responses)
                assert not recorder.said
            page.locator("[data-choice=both_good]").click()
        for _ in range(GUESSES):
            page.get_by_role("button", name="No idea").click()
        page.get_by_role("heading", name="Thank you").wait_for()
        told = recorder.everything()
        assert not [name for name, secret in blind.secrets.items() if secret in told]
        context.close()

    sides, answers = blind.sides(), texts(blind)
    order, bodies, headers, clocks = (list(column) for column in zip(*before, strict=True))
    assert len(set(order)) == _PROMPTS * _RATERS
    screens = [masked(body["screen"], answers[trial], order) for trial, body in zip(order, bodies, strict=True)]
    # Apart from the answers themselves, the screens differ in nothing but the first (no undo, instructions open).
    for first in range(0, len(screens), _PROMPTS):
        assert len(set(screens[first + 1 : first + _PROMPTS])) == 1
    assert len(set(screens)) == 2
    assert all(set(body) == {"screen", "say"} for body in bodies)

    features: dict[str, list[Any]] = {
        "milliseconds": [clock["responseEnd"] for clock in clocks],
        "milliseconds to the first byte": [clock["responseStart"] for clock in clocks],
        "place": [order.index(trial) % _PROMPTS for trial in order],
        "even place": [order.index(trial) % 2 for trial in order],
        "order of the ids": [sorted(order).index(trial) for trial in order],
        "about how many": [int(body["say"].rpartition(" ")[2].rstrip(".")) for body in bodies],
        "length of the id": [len(trial) for trial in order],
        "bytes of the screen": [len(body["screen"]) for body in bodies],
        "same side as before": [False, *(sides[a] is sides[b] for a, b in pairwise(order))],
    }
    for name in {name for one in headers for name in one} - {"date"}:
        features[f"header {name}"] = [one.get(name, "") for one in headers]
    named = [bool(sides[trial]) for trial in order]
    assert telling(features, named) == []
    assert 0 < sum(named) < len(named)
    # The same look at the same recording finds a side that is told, however it is told.
    slow = [took + 1000 * side for took, side in zip(features["milliseconds"], named, strict=True)]
    assert telling({"late": slow, "class": ["b" if side else "a" for side in named]}, named) == ["late", "class"]
