"""The raters' page in each of its languages: nothing is missing, and what the owner wrote stays as it was typed."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from html.parser import HTMLParser
from string import Formatter
from typing import Any

import pytest

from ftlab.arena import asking, blind_tests, links
from ftlab.arena.store import open_store
from ftlab.arena.trials import Trial
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.ui.rater import screens, talk, texts
from ftlab.ui.rater.page import _FRAME
from ftlab.ui.rater.texts import LANGUAGES, OF_THE_BROWSER, OF_THE_SERVER, Texts
from tests.arena import draft
from tests.blind import open_blind_test
from tests.conftest import ROOT
from tests.unit.test_rater_talk import live_test, shout_or_repeat

RATER, ARENA = ROOT / "ftlab" / "ui" / "rater", ROOT / "ftlab" / "arena"
# Errors of the same modules that only the owner can meet.
_OWNERS = (
    "There is no such rater",
    "This test is over: voting has closed",
    ".+ is too short to sign links",
    "use the output of: .+",
    "The database address is not valid",
    "correct .+, or unset it to keep votes in the workspace",
    r"The blind test database cannot be opened \(.+\)",
    "check that it exists and is writable, or set .+ to another one",
)


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def test_every_language_has_every_text_with_the_same_placeholders():
    assert not OF_THE_SERVER.keys() & OF_THE_BROWSER.keys()
    for text, row in (OF_THE_SERVER | OF_THE_BROWSER).items():
        assert len(row) == len(LANGUAGES) - 1
        for words in row:
            assert words.strip() and fields(words) == fields(text), (text, words)
            # A sentence stays one; a blank before the colon is French.
            assert words.endswith((".", "。", "…")) == text.endswith("."), (text, words)
        german, french, spanish, chinese = row
        assert not re.search(r"\b(du|dein|deine|dich|dir)\b", german, re.I), german
        assert not re.search(r"\b(tu|ton|ta|tes|toi)\b", french, re.I), french
        assert not re.search(r"\b(tú|tu|tus|ti)\b", spanish, re.I), spanish
        assert re.search("[\u4e00-\u9fff]", chinese), chinese


def test_every_text_of_the_table_is_used():
    exact, patterns = set(), set()
    for file in (RATER / "screens.py", RATER / "talk.py", *ARENA.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                patterns.add("".join(strings_of(node)))
            elif isinstance(node, ast.Constant):
                exact.add(node.value)
    patterns = {pattern for pattern in patterns if re.search("[a-z]{5}", pattern)}
    unused = [text for text in OF_THE_SERVER.keys() - exact if not any(re.fullmatch(one, text) for one in patterns)]
    assert not unused
    script = (RATER / "rater.js").read_text() + _FRAME
    said = re.findall(r"say\('([^']+)'\)", script) + re.findall(r"data-text>([^<]+)<", script)
    assert set(said) == OF_THE_BROWSER.keys()


def test_every_error_that_a_rater_can_meet_is_in_the_table():
    unknown = []
    for file in (RATER / "talk.py", *(ARENA / f"{name}.py" for name in ("links", "trials", "live", "store"))):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in (
                *("InputError", "FtlabError", "NotBegun", "_TooLong"),
            ):
                continue
            for part in [*node.args[:1], *(word.value for word in node.keywords if word.arg == "try_")]:
                if not isinstance(part, (ast.Constant, ast.JoinedStr)):
                    continue  # an error passed on
                whole = ast.unparse(part).replace("{NOTHING_CHANGED}", "")
                pattern = "".join(strings_of(ast.parse(whole, mode="eval").body))
                if not any(re.fullmatch(pattern, text) for text in texts._ALL) and not any(
                    re.fullmatch(owner, pattern.replace("\\", "")) for owner in _OWNERS
                ):
                    unknown.append(f"{file.name}: {whole}")
    assert not unknown


def strings_of(node: ast.expr) -> list[str]:
    if isinstance(node, ast.JoinedStr):
        return [re.escape(p.value) if isinstance(p, ast.Constant) else ".+" for p in node.values]
    assert isinstance(node, ast.Constant)
    return [re.escape(node.value)]


class Reader(HTMLParser):
    """What a person sees or hears of a screen, without what is in a language of its own."""

    def __init__(self, screen: str):
        super().__init__()
        self.words: list[str] = []
        self.own = 0
        self.open: list[bool] = []
        self.feed(screen)
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        had = dict(attributes)
        if not self.own:
            self.words += [had[name] or "" for name in ("aria-label", "title", "placeholder", "alt") if name in had]
        if tag in ("input", "br", "img", "hr"):
            return
        self.open.append(had.get("lang") == "" or had.get("aria-hidden") == "true")
        self.own += self.open[-1]

    def handle_endtag(self, tag: str) -> None:
        self.own -= self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.own:
            self.words.append(data)


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """German, in which every text is recognized by its brackets."""
    monkeypatch.setattr(texts, "_ALL", {text: (f"⟦{text}⟧", "", "", "") for text in texts._ALL})


def left(reply: dict[str, str]) -> list[str]:
    """Words of a screen, or of what is read out, that no text of the table gave."""
    words = [*Reader(reply["screen"]).words, reply["say"]]
    return [word for word in words if re.search("[^\\W\\d]{2}", re.sub("⟦[^⟧]*⟧", "", word))]


def test_no_text_of_the_page_is_missing_from_the_table(marked, tmp_path):
    seen: list[dict[str, str]] = []

    def told(place: Any, ask: Any = None, **message: Any) -> dict[str, str]:
        seen.append(talk.answer(place, {"language": "de", **message}, ask))
        return seen[-1]

    blind = open_blind_test(
        Workspace.open(tmp_path / "a"), prompts=6, raters=2, rubric=asking.CRITERIA, completion="C1F9"
    )
    key, guest = blind.keys[0], links.open_link(blind.store, blind.test_id)
    told(blind.store, do="open", key="")
    told(blind.store, do="open", key="forged")
    told(blind.store, do="open", key=guest)
    told(blind.store, do="join", key=guest, name="")
    told(blind.store, do="none", key=key)
    told(blind.store, do="ask", key=key, text="?")
    told(blind.store, do="undo", key=key)
    screen = told(blind.store, do="open", key=key)["screen"]
    for number in range(1, 7):
        trial = re.search(r'data-trial="([\w-]+)"', screen)[1]
        screen = told(blind.store, do="vote", key=key, trial=trial, choice="left", id="x")["screen"]
        told(blind.store, do="vote", key=key, trial=trial, choice="left")
        if number == 1:
            trial = told(blind.store, do="undo", key=key, trial=trial)["screen"]
            trial = re.search(r'data-trial="([\w-]+)"', trial)[1]
            screen = told(blind.store, do="vote", key=key, trial=trial, choice="both_bad")["screen"]
    for guess in ("left", "", "right"):
        trial = re.search(r'data-trial="([\w-]+)"', screen)[1]
        screen = told(blind.store, do="guess", key=key, trial=trial, choice=guess)["screen"]
    assert "⟦Thank you⟧" in screen and "C1F9" in screen
    blind_tests.close_test(blind.store, blind.test_id)
    told(blind.store, do="open", key=key)
    told(blind.store, do="vote", key=key, trial=trial, choice="left", id="late")

    place, live_key = live_test(Workspace.open(tmp_path / "b"))
    told(place, shout_or_repeat, do="open", key=live_key)
    told(place, shout_or_repeat, do="ask", key=live_key, text=" ")
    told(place, shout_or_repeat, do="ask", key=live_key, text="x" * 5000)
    told(place, shout_or_repeat, do="ask", key=live_key, text="42")
    told(place, do="open", key=live_key)
    waiting = open_store(Workspace.open(tmp_path / "c"))
    told(waiting, do="open", key=links.open_link(waiting, draft(waiting, prompts=3)))
    assert [words for reply in seen for words in left(reply)] == []

    t, turn = Texts("de"), {"role": "system", "content": "Be kind"}
    turns = [
        turn,
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Yes"},
        turn | {"role": "user"},
    ]
    trial = Trial("t", 1, 2, turns, " ", "yes", ("left",), ())
    drawn = [
        screens.comparison(t, trial, instructions="Look", intro=intro)
        for intro in (screens.intro(t, 1, 9), screens.intro(t, 90, 60, at_most=True), screens.intro_live(t))
    ]
    drawn += [screens.guess(t, replace(trial, messages=[turn], left="1. a", right="1) a"), "t")]
    drawn += [screens.finished(t, last="t", completion="https://panel.example/done")]
    assert [words for screen in drawn for words in left({"screen": str(screen), "say": ""})] == []
    # The same look finds what is not from the table.
    assert left({"screen": str(screens.cannot_open(t, InputError("No such text"))), "say": "nor this"}) == [
        *("No such text.", "nor this"),
    ]


def test_a_message_gets_its_answer_in_the_language_it_names_and_english_else(tmp_path):
    blind = open_blind_test(Workspace.open(tmp_path), prompts=2, raters=1)
    for language, words in {
        "de": "Vergleich 1 von 2.",
        "fr": "Comparaison 1 sur 2.",
        "es": "Comparación 1 de 2.",
        "zh-Hans": "第 1 组，共 2 组。",
        "tlh": "Comparison 1 of 2.",
        "": "Comparison 1 of 2.",
    }.items():
        reply = talk.answer(blind.store, {"do": "open", "key": blind.keys[0], "language": language})
        assert reply["say"] == words
        assert "Which answer would you send?" in reply["screen"]
    over = Texts("zh-Hans").sentence("The disk with the blind tests is full; nothing was changed")
    assert over == "测试所用的磁盘已满；未作任何更改。"
