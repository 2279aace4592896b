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
from ftlab.ui.rater.texts import LANGUAGES, Texts
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


def guess_nothing(page: Page, *numbers: int) -> None:
    """Answer the last screens, about these comparisons, with "No idea"."""
    for number in numbers:
        at(page, number)
        page.get_by_role("button", name="No idea").click()


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

    page.reload()  # what was written comes back from the server: this page has not seen it
    at(page, 2)
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

    expect(ready).to_be_enabled()
    page.keyboard.press("2")
    at(page, 6)
    assert votes(blind, key)[-1].comment == "1 and 2 in a comment are no votes"
    expect(ready).to_be_enabled()
    page.keyboard.press("u")
    at(page, 5)
    assert len(votes(blind, key)) == 4


def test_only_after_the_last_vote_a_rater_is_asked_which_side_was_trained(page_of, tmp_path):
    blind = open_blind_test(Workspace.open(tmp_path), prompts=4, raters=2)
    app, url = launch_rater_app(tmp_path)
    try:
        page = page_of(blind.keys[0], PHONE, url)
        asked = page.get_by_role("group", name=re.compile("which answer comes from the newly trained model"))
        for number in range(1, 5):
            at(page, number)
            expect(asked).to_have_count(0)
            page.get_by_role("button", name="A is better").click()
        for number, name in zip((4, 3), ("Answer A", "No idea"), strict=True):
            at(page, number)
            expect(asked).to_be_visible()
            page.get_by_role("button", name=name).click()
        at(page, 2)
        expect(asked).to_be_visible()
        page.reload()  # who leaves here has voted
        expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
        assert len(votes(blind, blind.keys[0])) == 4 and len(blind.rows()["guesses"]) == 1
        page.get_by_role("button", name="Undo last vote").click()
        at(page, 4)
        assert len(votes(blind, blind.keys[0])) == 3 and not blind.rows()["guesses"]
    finally:
        app.close()


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_a_rater_reads_two_whole_conversations_and_votes_once_on_both(page_of, tmp_path, size):
    blind = open_blind_test(Workspace.open(tmp_path), prompts=5, raters=1, turns=3)
    app, url = launch_rater_app(tmp_path)
    try:
        page = page_of(blind.keys[0], size, url)
        at(page, 1)
        expect(page.get_by_text("You see 5 pairs of conversations with the same questions")).to_be_visible()
        sides = [page.get_by_role("region", name=f"Conversation {name}") for name in "AB"]
        for side in sides:
            asked = side.locator(".rt-person").all_inner_texts()
            assert [re.search(r"Question \d\.(\d)", text)[1] for text in asked] == ["0", "1", "2"]
            expect(side.get_by_role("heading", name="Answer")).to_have_count(3)
        first, second = (side.bounding_box() for side in sides)
        beside = first["y"] == second["y"] and first["x"] + first["width"] <= second["x"]
        assert beside if size == WIDE else first["y"] + first["height"] <= second["y"]
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert not violations(page)
        assert not any(word in page.content() for word in blind.secrets.values())
        for number in range(1, 6):
            at(page, number)
            page.get_by_role("button", name="B is better").click()
        at(page, 5)
        expect(page.locator("#rt-ask")).to_contain_text("which conversation is with the newly trained model")
        page.get_by_role("button", name="Conversation A").click()
        guess_nothing(page, 4, 3)
        expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
        assert [vote.choice for vote in votes(blind, blind.keys[0])] == ["right"] * 5
    finally:
        app.close()


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
        expect(page.get_by_role("alert")).to_contain_text("Your vote is kept on this device")
        assert [vote.choice for vote in votes(blind, link.token)] == ["both_bad"]
        server = start(workspace, port)
        at(page, 3)  # sent by itself
        assert [vote.choice for vote in votes(blind, link.token)] == ["both_bad", "left"]
        page.get_by_role("button", name="Both good").click()
        guess_nothing(page, 3, 2, 1)
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
    at(page, 2)
    assert [vote.comment for vote in votes(blind, blind.keys[0])] == ["kept"]
    app.close()


@pytest.fixture
def three(tmp_path: Any) -> Iterator[tuple[Blind, Any]]:
    """A test of three prompts, and its page."""
    workspace = Workspace.open(tmp_path)
    blind = open_blind_test(workspace, prompts=3, raters=2)
    app, _ = launch_rater_app(workspace.root)
    yield blind, app
    app.close()


def kept(page: Page) -> list[str]:
    return page.evaluate("Object.keys(localStorage).filter(name => name.startsWith('ftlab-vote-'))")


def test_votes_without_a_network_are_sent_later_and_once_whatever_happens_in_between(page_of, tmp_path):
    workspace = Workspace.open(tmp_path)
    blind = open_blind_test(workspace, prompts=4, raters=1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = start(workspace, port)

    def cast() -> list[str]:
        return [vote.choice for vote in votes(blind, blind.keys[0])]

    def vote(name: str) -> None:
        button = page.get_by_role("button", name=name)
        expect(button).to_be_enabled()
        button.click()

    try:
        page = page_of(blind.keys[0], PHONE, f"http://127.0.0.1:{port}")
        # A tunnel.
        at(page, 1)
        page.context.set_offline(True)
        vote("A is better")
        expect(page.get_by_role("alert")).to_contain_text("Your vote is kept on this device")
        for button in page.locator("[data-do]").all():
            expect(button).to_be_disabled()  # it is decided; after it is sent, it can be undone
        chosen = page.locator("[aria-pressed=true]")
        expect(chosen).to_have_count(1)
        expect(chosen).to_have_text(re.compile("^A is better"))
        assert cast() == [] and kept(page)
        page.context.set_offline(False)
        at(page, 2)
        assert cast() == ["left"] and not kept(page)

        # The network goes, then the server, and the page is closed before either is back.
        page.context.set_offline(True)
        vote("B is better")
        expect(page.get_by_role("alert")).to_be_visible()
        address = page.url
        page.goto("about:blank")
        server.kill()
        server.wait()
        server = start(workspace, port)
        page.context.set_offline(False)
        page.goto(address)
        at(page, 3)
        assert cast() == ["left", "right"] and not kept(page)

        # The vote arrives, and its reply does not.
        def swallow(route: Any) -> None:
            route.fetch()
            route.abort()

        page.route(re.compile("component_server"), swallow)
        vote("Both bad")
        expect(page.get_by_role("alert")).to_be_visible()
        assert cast() == ["left", "right", "both_bad"] and kept(page)
        page.unroute(re.compile("component_server"))
        page.get_by_role("button", name="Try again").click()
        at(page, 4)
        expect(page.locator(".rt-problem")).to_have_count(0)
        assert cast() == ["left", "right", "both_bad"] and not kept(page)
    finally:
        server.kill()
        server.wait()


def test_every_language_fits_a_phone_and_is_known_to_a_screen_reader(three, page_of):
    blind, app = three
    for tag in LANGUAGES:
        t = Texts(tag)
        page = page_of(blind.keys[0], PHONE, app.local_url, locale=tag, has_touch=True, is_mobile=True)
        expect(page.get_by_role("heading", level=1)).to_have_text(
            t("Comparison {number} of {total}", number=1, total=3)
        )
        assert page.title() == t("Compare answers")
        assert page.locator("html").get_attribute("lang") == tag
        for name in ("A is better", "B is better", "Both good", "Both bad", "Skip"):
            button = page.get_by_role("button", name=t(name), exact=True)
            expect(button).to_be_in_viewport(ratio=1)
            assert button.evaluate("one => one.scrollWidth <= one.clientWidth && one.offsetHeight >= 44"), (tag, name)
            box = button.bounding_box()
            assert box["y"] > PHONE["height"] / 2, "out of the thumb's reach"
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        # Texts of the owner, and answers, are in a language that nobody told us.
        for text in ("Which answer would you send?", "which tree is meant?"):
            assert page.get_by_text(text).evaluate("one => one.closest('[lang]').lang") == ""
        assert page.locator(".rt-answer .rt-text").first.get_attribute("lang") == ""
        if tag == "de":
            assert not violations(page)
            page.context.set_offline(True)
            page.get_by_role("button", name="Beide gut").tap()
            expect(page.get_by_role("alert")).to_contain_text("Keine Verbindung. Ihre Stimme bleibt auf diesem Gerät")
            assert not violations(page)
            page.evaluate("localStorage.clear()")
        page.context.close()

    page = page_of(blind.keys[1], WIDE, app.local_url, locale="tr-TR")
    at(page, 1)  # English, for lack of Turkish
    page.get_by_text("Comment").first.click()
    page.get_by_label("Comment (optional)").fill("half a thought")
    page.get_by_role("combobox", name="Language").select_option("Français")
    expect(page.get_by_role("heading", level=1)).to_have_text("Comparaison 1 sur 3")
    expect(page.get_by_label("Commentaire (facultatif)")).to_have_value("half a thought")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Comparaison 1 sur 3")
    expect(page.get_by_role("combobox", name="Langue")).to_have_value("fr")


def test_the_page_goes_to_the_home_screen_under_the_raters_own_link(three, page_of):
    blind, app = three
    page = page_of(links.open_link(blind.store, blind.test_id), PHONE, app.local_url, locale="es")

    def manifest() -> dict[str, Any]:
        devtools = page.context.new_cdp_session(page)
        read = devtools.send("Page.getAppManifest")
        assert read["errors"] == []
        refused = devtools.send("Page.getInstallabilityErrors")["installabilityErrors"]
        # The tests' browser keeps nothing.
        assert [one["errorId"] for one in refused] == ["in-incognito"]
        return read["manifest"]

    expect(page.get_by_role("heading", name="Comparar respuestas")).to_be_visible()
    assert manifest()["startUrl"] == page.url
    page.get_by_label("Su nombre").fill("Ada")
    page.get_by_role("button", name="Empezar").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^Comparación 1 de "))
    own = next(link for link in links.links(blind.store, blind.test_id) if link.pseudonym == "Ada")
    put = manifest()
    assert put["startUrl"] == rater_address(app.local_url, own.token)
    assert (put["display"], put["name"]) == ("kStandalone", "Comparar respuestas")
    [icon] = put["icons"]
    assert page.request.get(icon["url"]).headers["content-type"] == "image/png"
    assert page.locator("link[rel=apple-touch-icon]").evaluate("one => one.href") == icon["url"]


def test_by_keyboard_and_names_alone_a_rater_votes_three_times_and_hears_each_step(three, page_of):
    blind, app = three
    page = page_of(blind.keys[0], PHONE, app.local_url)
    heard = page.get_by_role("status").first

    def press(name: str) -> None:
        button = page.get_by_role("button", name=name, exact=True)
        expect(button).to_be_enabled()
        for _ in range(30):
            if button.evaluate("one => one === document.activeElement"):
                break
            page.keyboard.press("Tab")
        expect(button).to_be_focused()
        page.keyboard.press("Enter")

    expect(heard).to_have_text("Comparison 1 of 3.")
    for number, (name, words) in enumerate(
        [
            ("A is better", "Vote saved. Comparison 2 of 3."),
            ("Both bad", "Vote saved. Comparison 3 of 3."),
            (
                "B is better",
                "Your votes are saved. A last guess: which answer comes from the newly trained model?",
            ),
        ],
        1,
    ):
        for part in ("The question", "Answer A", "Answer B"):
            expect(page.get_by_role("region", name=part)).to_be_visible()
        expect(page.get_by_role("progressbar", name=f"Comparisons judged: {number - 1} of 3")).to_be_visible()
        expect(page.get_by_role("group", name="Your vote")).to_be_visible()
        press(name)
        expect(heard).to_have_text(words)
        expect(page.get_by_role("heading", level=1)).to_be_focused()
    for left in (3, 2, 1):
        at(page, left)
        expect(page.get_by_role("progressbar", name="Comparisons judged: 3 of 3")).to_be_visible()
        press("No idea")
    expect(heard).to_have_text("You have no more comparisons. Thank you.")
    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
    assert not violations(page)
    assert [vote.choice for vote in votes(blind, blind.keys[0])] == ["left", "both_bad", "right"]
