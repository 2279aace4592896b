"""What the server says to a rater, without a server: questions of the rater's own, ties, empty and hostile texts."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest

from ftlab.arena import asking, blind_tests, links, store, trials
from ftlab.arena.analysis import write_analysis
from ftlab.arena.store import Store, open_store
from ftlab.arena.tally import evaluate
from ftlab.arena.trials import Trial
from ftlab.cli.arena_inputs import text_or_file
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.report import arena as arena_report
from ftlab.ui.kit.safe_markdown import look_alike, safe_markdown
from ftlab.ui.rater import screens
from ftlab.ui.rater.talk import answer
from ftlab.ui.rater.texts import Texts
from tests.arena import draft, opened
from tests.blind import open_blind_test


def live_test(workspace: Workspace) -> tuple[Store, str]:
    """An open test whose raters write the questions, and a rater's key."""
    place = open_store(workspace)
    test_id = draft(place, prompts=0, live=True)
    blind_tests.open_test(place, test_id)
    return place, links.create_raters(place, test_id, ["Ada"])[0].token


def shout_or_repeat(place: Store, rater_id: str, question: str) -> object:
    """Two very small models: one repeats the question, the other shouts it."""
    first, second = trials.live_contestants(place, rater_id)
    given = {first: {"text": question}, second: {"text": question.upper()}}
    return trials.record_live(place, rater_id, [{"role": "user", "content": question}], given)


def test_a_rater_asks_both_models_and_votes_on_answers_that_come_together(tmp_path):
    place, key = live_test(Workspace.open(tmp_path))
    said = {"key": key}
    assert "Ask both models" in answer(place, {"do": "open"} | said, shout_or_repeat)["screen"]
    assert "The question is empty" in answer(place, {"do": "ask", "text": " "} | said, shout_or_repeat)["screen"]
    asked = answer(place, {"do": "ask", "text": "which tree"} | said, shout_or_repeat)
    assert all(text in asked["screen"] for text in ("which tree", "WHICH TREE", "Comparison 1 of"))
    assert not re.search(r"Contestant|model-\d", str(asked))
    trial = re.search(r'data-trial="([\w-]+)"', asked["screen"])[1]
    voted = answer(place, {"do": "vote", "trial": trial, "choice": "left"} | said, shout_or_repeat)
    assert voted["say"] == "Vote saved. Write a question for both models."
    # Nothing to shout: both answers are the same.
    tie = answer(place, {"do": "ask", "text": "42"} | said, shout_or_repeat)
    assert "Both models gave the same answer" in tie["screen"] and "Ask both models" in tie["screen"]
    assert "The models are not running" in answer(place, {"do": "open"} | said)["screen"]


def test_a_test_with_questions_lets_nobody_ask_the_models(tmp_path):
    blind = open_blind_test(Workspace.open(tmp_path), prompts=2, raters=1)
    calls = []
    reply = answer(
        blind.store, {"do": "ask", "key": blind.keys[0], "text": "who are you"}, lambda *all: calls.append(all)
    )
    assert "are already set" in reply["screen"] and not calls


@pytest.mark.parametrize("completion", ["C1F9&X", "https://panel.example/done?cc=C1F9&x=1"])
def test_who_voted_gets_the_completion_code_and_who_did_not_gets_none(tmp_path, completion):
    place = open_store(Workspace.open(tmp_path))
    test_id, (ana, bo) = opened(place, prompts=2, votes_per_prompt=1, completion=completion)
    keys = {rater.rater_id: rater.token for rater in links.links(place, test_id)}
    while "no more comparisons" not in (screen := answer(place, {"do": "open", "key": keys[ana]})["screen"]):
        trial = re.search(r'data-trial="([\w-]+)"', screen)[1]
        assert "C1F9" not in screen
        answer(place, {"do": "vote", "trial": trial, "choice": "left", "key": keys[ana]})
    shown = completion.replace("&", "&amp;")
    assert (f'href="{shown}"' if completion.startswith("https") else f">{shown}<") in screen
    late = answer(place, {"do": "open", "key": keys[bo]})["screen"]
    assert "no more comparisons" in late and "C1F9" not in late


def test_nothing_is_shown_or_taken_before_a_rater_has_agreed_and_when_is_recorded(tmp_path):
    place = open_store(Workspace.open(tmp_path))
    test_id, _ = opened(place, (), prompts=2, consent="Your votes are **stored**. <script>x</script>")
    key = links.create_raters(place, test_id, ["Ada"])[0].token
    for message in (
        {"do": "open"},
        {"do": "vote", "trial": "x", "choice": "left"},
        {"do": "undo"},
        {"do": "dance"},
        {},
    ):
        screen = answer(place, {"key": key} | message)["screen"]
        assert "I agree, begin" in screen and "<strong>stored</strong>" in screen and "<script>" not in screen
        assert "Comparison" not in screen
    assert "Ich stimme zu" in answer(place, {"key": key, "do": "open", "language": "de"})["screen"]
    begun = time.time()
    assert "Comparison 1 of 2" in answer(place, {"key": key, "do": "agree"})["screen"]
    assert "Comparison 1 of 2" in answer(place, {"key": key, "do": "open"})["screen"]
    with place.reading() as connection:
        (row,) = connection.execute(store.raters.select()).all()
    assert begun <= row.agreed_at <= time.time()
    # By an open link, the button that sends the name says it.
    open_key = links.open_link(place, test_id)
    welcome = answer(place, {"key": open_key, "do": "open"})["screen"]
    assert "I agree, begin" in welcome and "<strong>stored</strong>" in welcome
    joined = answer(place, {"key": open_key, "do": "join", "name": "Bo", "group": "nurses\u202e " + "x" * 90})
    assert "Comparison 1 of" in joined["screen"]
    bo = next(rater for rater in blind_tests.progress(place, test_id)["raters"] if rater["pseudonym"] == "Bo")
    assert bo["group"].startswith("nurses x") and len(bo["group"]) == links.LONGEST_GROUP


def test_the_name_of_a_file_is_never_what_raters_agree_to(tmp_path):
    text = tmp_path / "consent.txt"
    text.write_text("Ich stimme zu: für alles.\n", encoding="utf-8")
    assert text_or_file(str(text)) == "Ich stimme zu: für alles."
    assert text_or_file(" Votes are stored, see rules.txt ") == "Votes are stored, see rules.txt"
    assert text_or_file("x" * 9000) == "x" * 9000 and text_or_file("") == ""
    with pytest.raises(InputError, match="no such file"):
        text_or_file(str(tmp_path / "consnt.txt"))
    text.write_text("für", encoding="latin-1")
    with pytest.raises(InputError, match="cannot be read as text"):
        text_or_file(str(text))


def test_groups_of_raters_have_a_result_of_their_own(tmp_path):
    place = open_store(Workspace.open(tmp_path))
    test_id, _ = opened(place, (), prompts=8, votes_per_prompt=3, planned=24)
    people = links.create_raters(place, test_id, ["nurses: Ana", "NURSES : Bo", "doctors: Cy"])
    assert [person.pseudonym for person in people] == ["Ana", "Bo", "Cy"]
    for person in people:
        best = "0" if person.pseudonym == "Cy" else "1"
        while trial := trials.next_trial(place, person.rater_id):
            trials.vote(place, person.rater_id, trial.id, "left" if trial.left.endswith(best) else "right")
    tally = evaluate(place, test_id)
    nurses, doctors = tally["by_group"]
    assert (nurses["name"], nurses["wins"], nurses["losses"]) == ("nurses", 16, 0)
    assert (doctors["name"], doctors["wins"], doctors["losses"]) == ("doctors", 0, 8)
    assert "p" not in nurses and nurses["interval"][0] < 0.5  # two raters say little of other nurses,
    assert doctors["interval"] is None  # and one doctor nothing of other doctors
    assert ("Group of raters", 2) in [(title, len(rows)) for title, rows in arena_report._groups(tally)]
    folder = write_analysis(place, test_id, tmp_path / "analysis")
    assert [line.split(",")[1] for line in (folder / "raters.csv").read_text().split()] == [
        *("group", "nurses", "nurses", "doctors")
    ]


def test_a_completion_address_without_https_is_refused(tmp_path):
    with pytest.raises(InputError, match="completion code"):
        draft(open_store(Workspace.open(tmp_path)), completion="http://panel.example/done")


def test_a_failure_of_the_server_is_told_without_its_details(tmp_path, caplog):
    blind = open_blind_test(Workspace.open(tmp_path), prompts=2, raters=1)
    with blind.store.writing() as connection:
        connection.execute(store.answers.delete())
    reply = answer(blind.store, {"do": "open", "key": blind.keys[0]})
    assert reply["say"] == "Something went wrong. Your earlier votes are safe."
    assert not [name for name, secret in blind.secrets.items() if secret in str(reply)]
    assert "Traceback" in caplog.text


def test_instructions_questions_and_empty_answers_are_text_and_never_markup(tmp_path):
    place = open_store(Workspace.open(tmp_path))
    among = [asking.ContestantSpec(name, {"kind": "base", "base": name}) for name in ("one", "two")]
    asked = [
        asking.PromptSpec([{"role": "system", "content": "<i>Be kind</i>"}, {"role": "user", "content": "${x} <b>?"}])
    ]
    settings = asking.TestSettings({}, instructions="Look at *style* <script>1</script>")
    test_id = blind_tests.create_test(place, "t", among, asked, settings, 1)
    blind_tests.start_generating(place, test_id)
    for (prompt_id, contestant_id), text in zip(
        blind_tests.missing_answers(place, test_id), (" \n", "</pre><b>x"), strict=True
    ):
        blind_tests.save_answer(place, prompt_id, contestant_id, text)
    blind_tests.mark_ready(place, test_id)
    blind_tests.open_test(place, test_id)
    key = links.create_raters(place, test_id, [""])[0].token
    screen = answer(place, {"do": "open", "key": key})["screen"]
    for shown in (
        "&lt;i&gt;Be kind&lt;/i&gt;",
        "${x} &lt;b&gt;?",
        "<em>style</em> &lt;script&gt;",
        "This answer is empty",
    ):
        assert shown in screen
    assert "</pre><b>" not in screen and screen.count("&lt;/pre&gt;&lt;b&gt;x") == 2


def test_without_a_link_that_lets_vote_the_page_says_whom_to_ask_and_has_nothing_to_press(tmp_path):
    blind = open_blind_test(Workspace.open(tmp_path), prompts=2, raters=1)
    key = links.open_link(blind.store, blind.test_id)
    links.revoke_open_link(blind.store, blind.test_id)
    guest = links.create_raters(blind.store, blind.test_id, ["guest"])[0]
    links.revoke(blind.store, guest.rater_id)
    for bad, words in (("", "ask the person"), ("forged", "ask"), (key, "ask"), (guest.token, "ask the sender")):
        for do in ("open", "join", "vote"):
            screen = answer(blind.store, {"do": do, "key": bad, "name": "Ada"})["screen"]
            assert words in screen.lower() and "<button" not in screen and "data-again" not in screen
    blind_tests.close_test(blind.store, blind.test_id)
    over = answer(blind.store, {"do": "open", "key": blind.keys[0]})["screen"]
    assert "This test is over" in over and "<button" not in over


def test_a_vote_that_comes_after_the_end_is_told_whether_it_was_saved(tmp_path):
    blind = open_blind_test(Workspace.open(tmp_path), prompts=2, raters=1)
    said = {"key": blind.keys[0], "do": "vote", "choice": "left"}

    def trial(screen):
        return re.search(r'data-trial="([\w-]+)"', screen)[1]

    first = trial(answer(blind.store, {"do": "open", "key": blind.keys[0]})["screen"])
    second = trial(answer(blind.store, said | {"trial": first, "id": "a"})["screen"])
    blind_tests.close_test(blind.store, blind.test_id)
    # The reply to the first was lost; the second was kept by a phone without a network.
    again = answer(blind.store, said | {"trial": first, "id": "a"})
    late = answer(blind.store, said | {"trial": second, "id": "b"})
    assert again["say"] == "This test is over. Your last vote is saved."
    assert late["say"] == "This test is over. Your last vote was not saved."
    assert "was not saved" in late["screen"] and len(blind.rows()["votes"]) == 1
    assert "vote" not in answer(blind.store, {"do": "open", "key": blind.keys[0]})["say"]


def test_who_comes_before_voting_begins_waits_and_is_then_told_what_this_is_and_how_long_it_takes(tmp_path):
    place = open_store(Workspace.open(tmp_path))
    test_id = draft(place, prompts=30, instructions="Which is kinder?")
    key = links.open_link(place, test_id)
    early = answer(place, {"do": "open", "key": key})["screen"]
    assert "has not started" in early and "data-again" in early and "<button" not in early
    blind_tests.start_generating(place, test_id)
    for prompt_id, contestant_id in blind_tests.missing_answers(place, test_id):
        # "Question 7" and two answers of 58 words: 118 words at 238 a minute are 30 seconds, and 8 seconds to choose.
        blind_tests.save_answer(place, prompt_id, contestant_id, f"{contestant_id} " * 58)
    blind_tests.mark_ready(place, test_id)
    blind_tests.open_test(place, test_id)
    welcome = answer(place, {"do": "open", "key": key})["screen"]
    assert "up to 30 questions, each with two answers" in welcome and "About 19 minutes" in welcome
    assert "Which is kinder?" in welcome and "data-again" not in welcome
    joined = answer(place, {"do": "join", "key": key, "name": "Ada"})
    assert "Comparison 1 of" in joined["screen"] and "minute" not in joined["screen"]
    own = links.create_raters(place, test_id, ["Bo"])[0].token
    first = answer(place, {"do": "open", "key": own})["screen"]
    # Ada and Bo share the 30 votes.
    assert "Comparison 1 of 15" in first and "About 9 minutes" in first and "Which is kinder?" in first
    trial = re.search(r'data-trial="([\w-]+)"', first)[1]
    assert "minute" not in answer(place, {"do": "vote", "key": own, "choice": "left", "trial": trial})["screen"]


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("# A", "<h3>A</h3>\n"),
        ("###### A", "<h6>A</h6>\n"),
        ("a\nb", "<p>a<br>\nb</p>\n"),
        ("<a href='x'>", "<p>&lt;a href='x'&gt;</p>\n"),
        ("[x](java\tscript:alert(1))", "<p>[x](java\tscript:alert(1))</p>\n"),
        ("[x](ftp://a/b)", '<p><a target="_blank" rel="noopener noreferrer nofollow">x</a> (ftp://a/b)</p>\n'),
        ("`</code><b>`", "<p><code>&lt;/code&gt;&lt;b&gt;</code></p>\n"),
        ("~~~js\n<b>\n~~~", '<pre tabindex="0"><code>&lt;b&gt;\n</code></pre>\n'),
        (
            "|a|\n|-|\n|<u>|",
            "<table>\n<thead>\n<tr>\n<th>a</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td>&lt;u&gt;</td>\n</tr>\n</tbody>\n"
            "</table>\n",
        ),
    ],
)
def test_markdown_becomes_harmless_html(text, html):
    assert safe_markdown(text) == html


@pytest.mark.parametrize(
    "text",
    [
        *("2*3*4 = 24", "2**3**4", "call __init__ first", "*args, **kwargs", "snake_case _x_"),
        *(r"C:\_temp\*.txt", r"\*not\*", r"\(\foo{x}\)", r"\(\href{javascript:a}{x}\)"),
        *("5 &lt; 6 &amp; 7", "[x]: http://a.b", "<https://a.b>", "$5 and $6"),
        *(r"\(" + "x" * 2000 + r"\)", r"\(a", "\ue0000123456789abcdef-0\ue001"),
    ],
)
def test_what_was_written_keeps_its_characters(text):
    assert safe_markdown(text).striptags() == text


def test_formulas_are_drawn_and_can_do_nothing():
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in safe_markdown(r"so \(x^2\) is")
    assert '<math display="block">' in safe_markdown("$$\n\\frac{a}{b}\n$$")
    assert "<script" not in safe_markdown(r"\(\text{<script>alert(1)</script>}\)")
    assert "<code>\\(x\\)</code>" in safe_markdown(r"`\(x\)`")


def test_answers_that_only_look_alike_are_shown_as_written():
    assert look_alike(["1. a", "1) a"]) and not look_alike(["a", "a"]) and not look_alike(["**a**", "a"])
    seen = Trial("t", 1, 2, [], "```js\nx\n```", "```py\nx\n```", (), ())
    alike = str(screens.guess(Texts(), seen, None))
    assert "rt-alike" in alike and "as written" in alike
    assert "rt-alike" not in str(screens.guess(Texts(), replace(seen, left="a", right="b"), None))
