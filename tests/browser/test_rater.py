"""A rater opens a link on a phone or at a desk, compares answers, is interrupted, and comes back."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytest.importorskip("gradio")

from ftlab.arena import links, store
from ftlab.core.workspace import Workspace
from ftlab.ui.rater.page import launch_rater_app, rater_address
from ftlab.ui.rater.talk import GUESS_AFTER_EVERY
from tests.blind import Blind, open_blind_test
from tests.browser.conftest import PHONE, WIDE, violations
from tests.conftest import ROOT, offline_environment

pytestmark = [pytest.mark.browser, pytest.mark.long]
_PROMPTS = 8
# What a model may write. Rendered where it is Markdown, shown as text where it is anything else.
RICH = """# Tea

1. Boil **fresh** water
2. Add `two` leaves

```python
print("a long line that does not fit on a phone and so has to be scrolled sideways inside its own box")
```

<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>
![pixel](http://tracker.example/p.png) [steal](javascript:document.title='owned')"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Blind, Any]]:
    workspace = Workspace.open(tmp_path_factory.mktemp("rated"))
    blind = open_blind_test(workspace, prompts=_PROMPTS, raters=3, rubric=("overall", "style"))
    with blind.store.writing() as connection:
        first = connection.execute(store.contestants.select().where(store.contestants.c.position == 0)).one().id
        connection.execute(store.answers.update().where(store.answers.c.contestant_id == first).values(text=RICH))
    app, _ = launch_rater_app(workspace.root)
    yield blind, app
    app.close()


@pytest.fixture
def page_of(served: tuple[Blind, Any], chromium: Any) -> Iterator[Callable[..., Page]]:
    contexts: list[Any] = []
    errors: list[str] = []

    def open_page(key: str, viewport: dict[str, int], url: str | None = None, **context: Any) -> Page:
        contexts.append(chromium.new_context(viewport=viewport, **context))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(rater_address(url or served[1].local_url, key))
        return page

    yield open_page
    for one in contexts:
        one.close()
    assert not errors


def votes(blind: Blind, key: str) -> list[Any]:
    """The votes of one rater, the oldest first."""
    rater = links.read_token(blind.store, key).id
    with blind.store.reading() as connection:
        query = store.votes.select().where(store.votes.c.rater_id == rater).order_by(store.votes.c.created)
        return list(connection.execute(query))


def at(page: Page, number: int) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(rf"^Comparison {number} of \d+$"))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_axe_finds_nothing_on_the_raters_page(served, page_of, theme, size):
    """A comparison with rich text and its aspects, and a link that does not work."""
    page = page_of(served[0].keys[1], size, color_scheme=theme)
    at(page, 1)
    page.get_by_text("Aspects and comment").click()
    assert not violations(page)
    lost = page_of("no-such-key", size, color_scheme=theme)
    expect(lost.get_by_text("the person who invited you")).to_be_visible()
    assert not violations(lost)


def test_on_a_phone_a_rater_votes_comments_takes_back_and_comes_back_after_a_break(served, page_of):
    blind, _ = served
    key = blind.keys[0]
    page = page_of(key, PHONE, has_touch=True, is_mobile=True)
    at(page, 1)
    expect(page.get_by_text("Which answer would you send?")).to_be_visible()
    # The buttons are in reach before anything is scrolled, and large enough for a thumb.
    for name in ("A is better", "B is better", "Both good", "Both bad", "Skip"):
        button = page.get_by_role("button", name=name)
        expect(button).to_be_in_viewport()
        assert button.bounding_box()["height"] >= 44
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")

    page.get_by_text("Aspects and comment").scroll_into_view_if_needed()
    page.get_by_role("group", name="Style").get_by_text("Same").tap()
    page.get_by_label("Comment (optional)").fill("Both are short.")
    page.get_by_role("button", name="B is better").tap()
    at(page, 2)
    [vote] = votes(blind, key)
    assert (vote.choice, vote.comment, vote.ratings) == ("right", "Both are short.", {"style": "same"})
    assert 0 < vote.seconds < 120

    page.get_by_role("button", name="Undo last vote").tap()
    at(page, 1)
    assert votes(blind, key) == []
    expect(page.get_by_label("Comment (optional)")).to_have_value("Both are short.")
    page.get_by_role("button", name="Both bad").tap()
    at(page, 2)
    assert votes(blind, key)[0].choice == "both_bad"

    page.get_by_text("Aspects and comment").scroll_into_view_if_needed()
    page.get_by_label("Comment (optional)").fill("half a thought")
    page.reload()
    at(page, 2)
    expect(page.get_by_label("Comment (optional)")).to_have_value("half a thought")


def test_at_a_desk_keys_vote_and_a_screen_reader_hears_where_it_is(served, page_of):
    blind, _ = served
    key = blind.keys[1]
    page = page_of(key, WIDE)
    at(page, 1)
    heard = page.locator("#rater [role=status][aria-live=polite]")
    expect(heard).to_have_text(re.compile(r"^Comparison 1 of \d+\.$"))
    sides = [page.get_by_role("region", name=name).bounding_box() for name in ("Answer A", "Answer B")]
    assert sides[0]["y"] == sides[1]["y"] and sides[0]["height"] == sides[1]["height"]

    ready = page.get_by_role("button", name="A is better")
    for number, (pressed, choice) in enumerate(
        [("1", "left"), ("ArrowRight", "right"), ("3", "both_good"), ("4", "both_bad")], 1
    ):
        expect(ready).to_be_enabled()
        page.keyboard.press(pressed)
        at(page, number + 1)
        assert votes(blind, key)[-1].choice == choice
        expect(heard).to_have_text(re.compile(rf"^Vote saved\. Comparison {number + 1} of \d+\.$"))
        # The focus goes with the reading, not back to the top of the page.
        assert page.evaluate("document.activeElement.tagName") == "H1"
    expect(ready).to_be_enabled()
    page.keyboard.press("c")
    page.keyboard.type("1 and 2 in a comment are no votes")
    page.keyboard.press("Escape")
    assert len(votes(blind, key)) == 4
    page.get_by_label("Use keys to vote").uncheck()
    page.keyboard.press("2")
    page.get_by_label("Use keys to vote").check()
    assert len(votes(blind, key)) == 4

    assert GUESS_AFTER_EVERY == 5
    expect(ready).to_be_enabled()
    page.keyboard.press("2")
    expect(page.get_by_role("group", name=re.compile("which answer comes from the adapted model"))).to_be_visible()
    guess = page.get_by_role("button", name="Answer A")
    expect(guess).to_be_enabled()
    page.keyboard.press("1")
    at(page, 6)
    assert blind.rows()["guesses"] and votes(blind, key)[-1].comment == "1 and 2 in a comment are no votes"
    expect(ready).to_be_enabled()
    page.keyboard.press("u")
    at(page, 5)
    assert len(votes(blind, key)) == 4 and not blind.rows()["guesses"]


def test_an_answer_is_rendered_and_can_do_nothing(served, page_of):
    blind, _ = served
    page = page_of(blind.keys[2], PHONE, color_scheme="dark")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    at(page, 1)
    answer = page.locator(".rt-answer", has_text="Boil").first
    expect(answer.get_by_role("heading", name="Tea")).to_be_visible()
    expect(answer.get_by_role("listitem")).to_have_count(2)
    expect(answer).to_contain_text("<script>document.title='owned'</script>")
    assert answer.locator("img, script, iframe, [onerror]").count() == 0
    assert answer.locator("a").evaluate_all("all => all.map(one => one.href)") == ["http://tracker.example/p.png"]
    code = answer.locator("pre").first
    assert code.evaluate("one => one.scrollWidth > one.clientWidth && one.tabIndex === 0")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert all(url.startswith((served[1].local_url, "data:")) for url in asked)

    page.get_by_label("Show answers as written").check()
    expect(page.get_by_text("1. Boil **fresh** water")).to_be_visible()
    expect(answer.get_by_role("heading", name="Tea")).to_be_hidden()
    assert page.title() == "Compare answers"


def start(workspace: Workspace, port: int) -> subprocess.Popen[bytes]:
    """The raters' page in a process of its own, which can be killed."""
    code = (
        f"from ftlab.ui.rater.page import launch_rater_app as go; go({str(workspace.root)!r}, port={port}, block=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=offline_environment())
    end = time.monotonic() + 90
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/config", timeout=5).read()
            return process
        except OSError:
            assert process.poll() is None
            time.sleep(0.1)
    raise AssertionError("the raters' page did not come up")


def test_whoever_has_the_open_link_votes_under_a_name_and_a_killed_server_loses_nothing(page_of, tmp_path):
    workspace = Workspace.open(tmp_path)
    blind = open_blind_test(workspace, prompts=3, raters=1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = start(workspace, port)
    try:
        page = page_of(links.open_link(blind.store, blind.test_id), PHONE, f"http://127.0.0.1:{port}")
        page.get_by_label("Your name").fill("Ada")
        opened = links.open_link(blind.store, blind.test_id)
        panel = page_of("none", PHONE, f"http://127.0.0.1:{port}")
        panel.goto(f"http://127.0.0.1:{port}/?PROLIFIC_PID=p17#key={opened}")
        expect(panel.get_by_label("Your name")).to_have_value("p17")
        expect(panel.get_by_label("Your name")).to_have_value("p17")
        page.get_by_role("button", name="Begin").click()
        at(page, 1)
        page.reload()
        at(page, 1)
        link = next(one for one in links.links(blind.store, blind.test_id) if one.pseudonym == "Ada")
        page.get_by_role("button", name="Both bad").click()
        at(page, 2)

        server.kill()
        server.wait()
        page.get_by_role("button", name="A is better").click()
        expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached, so this is not saved yet")
        assert [vote.choice for vote in votes(blind, link.token)] == ["both_bad"]
        server = start(workspace, port)
        page.get_by_role("button", name="Try again").click()
        at(page, 3)
        assert [vote.choice for vote in votes(blind, link.token)] == ["both_bad", "left"]
        page.get_by_role("button", name="Both good").click()
        expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
        links.revoke(blind.store, link.rater_id)
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_have_text("This link was revoked.")
    finally:
        server.kill()
        server.wait()


def test_a_page_that_was_open_while_it_was_served_anew_loads_itself_again(page_of, tmp_path):
    workspace = Workspace.open(tmp_path)
    blind = open_blind_test(workspace, prompts=2, raters=1)
    app, url = launch_rater_app(workspace.root)
    page = page_of(blind.keys[0], WIDE, url)
    at(page, 1)
    page.get_by_text("Comment").first.click()
    page.get_by_label("Comment (optional)").fill("kept")
    app.close()
    app, _ = launch_rater_app(workspace.root, port=app.server_port)
    page.get_by_role("button", name="A is better").click()
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_label("Comment (optional)")).to_have_value("kept")
    page.get_by_role("button", name="A is better").click()
    at(page, 2)
    assert [vote.comment for vote in votes(blind, blind.keys[0])] == ["kept"]
    app.close()
