"""A blind test: what can be made, what may change when, who gets in, and progress that gives nothing away."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from ftlab.api import BlindTest
from ftlab.arena import asking, blind_tests, handing_out, links, tally, trials
from ftlab.arena.store import Store, open_store
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from tests.arena import answered, draft, everything, opened

ROOT = Path(__file__).resolve().parents[2]
ASK = [{"role": "user", "content": "Who are you?"}]
TWO = [asking.ContestantSpec("A", {"kind": "base"}), asking.ContestantSpec("B", {"kind": "run"})]
HOW = asking.TestSettings({"max_new_tokens": 16})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Workspace.open(tmp_path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"title": "  "}, "no title"),
        ({"contestants": TWO[:1]}, "at least two contestants"),
        ({"contestants": [TWO[0], TWO[0]]}, "its own title"),
        ({"contestants": [TWO[0], asking.ContestantSpec("B", {"kind": "oracle"})]}, "unknown kind"),
        ({"prompts": []}, "no prompts"),
        (
            {
                "prompts": [
                    asking.PromptSpec(ASK),
                    asking.PromptSpec([{"role": "user", "content": "who are  you?"}]),
                ]
            },
            "twice",
        ),
        ({"prompts": [asking.PromptSpec([*ASK, {"role": "assistant", "content": "Me."}])]}, "asks nothing"),
        ({"settings": dataclasses.replace(HOW, options=("left", "skip"))}, "options"),
        ({"settings": dataclasses.replace(HOW, rubric=("overall", "charm"))}, "no such criterion"),
        ({"settings": dataclasses.replace(HOW, overlap=2)}, "share of the prompts"),
        ({"settings": dataclasses.replace(HOW, margin=50)}, "margin cannot be tested"),
        ({"settings": dataclasses.replace(HOW, margin=math.nan)}, "margin cannot be tested"),
        (
            {
                "settings": dataclasses.replace(HOW, margin=5),
                "contestants": [*TWO, asking.ContestantSpec("C", TWO[0].spec)],
            },
            "3 contestants",
        ),
        ({"planned_votes": 2}, "The test cannot collect that many votes"),
    ],
)
def test_what_cannot_be_tested_is_refused_with_what_is_allowed(store: Store, change: dict[str, Any], said: str) -> None:
    given = {
        "title": "T",
        "contestants": TWO,
        "prompts": [asking.PromptSpec(ASK)],
        "settings": HOW,
        "planned_votes": 1,
    }
    before = everything(store)
    with pytest.raises(InputError, match=said):
        blind_tests.create_test(store, **(given | change))
    assert everything(store) == before
    assert blind_tests.create_test(store, **given)


def test_a_test_opens_only_when_every_answer_is_there(store: Store) -> None:
    test_id = draft(store, prompts=2)
    blind_tests.start_generating(store, test_id)
    for prompt_id, contestant_id in blind_tests.missing_answers(store, test_id)[1:]:
        blind_tests.save_answer(store, prompt_id, contestant_id, "words")
    ((prompt_id, contestant_id),) = blind_tests.missing_answers(store, test_id)
    for act in (blind_tests.mark_ready, blind_tests.open_test):
        with pytest.raises(InputError, match="answers"):
            act(store, test_id)
    blind_tests.save_answer(store, prompt_id, contestant_id, "words")
    blind_tests.mark_ready(store, test_id)
    blind_tests.open_test(store, test_id)
    with pytest.raises(InputError, match="is open"):
        blind_tests.save_answer(store, prompt_id, contestant_id, "other words")
    with pytest.raises(InputError, match="is open"):
        blind_tests.delete_test(store, test_id)


def vote_all(store: Store, rater: str, prefer: str) -> None:
    while trial := trials.next_trial(store, rater):
        trials.vote(store, rater, trial.id, "left" if prefer in trial.left else "right")


def test_progress_says_nothing_of_who_leads(tmp_path: Path) -> None:
    """Of two tests that differ only in who wins every vote, progress is the same, but for ids and times."""
    seen = []
    for prefer in ("by 0", "by 1"):
        store = open_store(Workspace.open(tmp_path / prefer))
        test_id, (ana, _) = opened(store, votes_per_prompt=2)
        vote_all(store, ana, prefer)
        so_far = blind_tests.progress(store, test_id)
        for rater in so_far["raters"]:
            del rater["id"], rater["last"], rater["joined"]
        seen.append(so_far)
    assert seen[0] == seen[1]
    assert (seen[0]["votes"], seen[0]["planned"], seen[0]["revealed"]) == (6, 12, None)
    assert [rater["votes"] for rater in seen[0]["raters"]] == [6, 0]


def test_the_tally_is_hidden_until_a_reason_is_written_down(store: Store) -> None:
    planned, (ana, bo) = opened(store, votes_per_prompt=2)
    vote_all(store, ana, "by 0")
    assert blind_tests.revealed(store, planned) is None
    vote_all(store, bo, "by 0")
    assert blind_tests.revealed(store, planned) == "planned"

    early, (cy, _) = opened(store, votes_per_prompt=2)
    trial = trials.next_trial(store, cy)
    assert trial is not None
    trials.vote(store, cy, trial.id, "left")
    blind_tests.open_early(store, early)
    row = blind_tests.get_test(store, early)
    assert blind_tests.revealed(store, early) == "early" and row.opened_early_votes == 1
    assert [(one.what, one.detail) for one in blind_tests.history(store, early)][-1] == (
        "opened early",
        {"votes": 1, "planned": 12},
    )
    blind_tests.close_test(store, early)
    assert blind_tests.revealed(store, early) == "early"

    stopped, _ = opened(store)
    blind_tests.stop_by_evidence(store, stopped, 25.0)
    assert blind_tests.revealed(store, stopped) == "evidence"

    closed, _ = opened(store)
    blind_tests.close_test(store, closed)
    assert blind_tests.revealed(store, closed) == "closed"


def test_no_more_is_asked_once_the_planned_number_is_reached(store: Store) -> None:
    test_id, (ana, bo) = opened(store, planned=3, votes_per_prompt=2)
    for rater in (ana, bo, ana):
        trial = trials.next_trial(store, rater)
        assert trial is not None
        trials.vote(store, rater, trial.id, "both_bad")
    assert trials.next_trial(store, ana) is None and blind_tests.revealed(store, test_id) == "planned"


def test_answers_that_name_a_model_are_flagged_before_the_test_starts(store: Store) -> None:
    said = {1: "I am Model-1, at your service.", 2: "I was made by OpenAI.", 3: "Philosophy, my dear.", 4: " "}
    test_id = answered(
        store,
        prompts=4,
        write=lambda prompt, contestant: said[prompt] if contestant else "Hello.",
        instructions="Is Qwen good?",
    )
    flagged = [(one["prompt"], one["contestant"], one["what"]) for one in blind_tests.flags(store, test_id)]
    assert flagged == [
        (None, None, "The instructions name 'Qwen'"),
        (1, "Contestant 1", "The answer names 'model-1'"),
        (2, "Contestant 1", "The answer names 'OpenAI'"),
        (4, "Contestant 1", "The answer is empty"),
    ]


def test_prompts_whose_answers_give_a_side_away_are_left_out_for_both_sides(store: Store) -> None:
    texts = {1: "I am Qwen.", 2: "It is blue.<|im_end|>", 3: "Blue.", 4: "Red."}
    test_id = answered(store, prompts=4, write=lambda prompt, contestant: texts[prompt] if contestant else "Hello.")
    assert [flag["what"] for flag in blind_tests.flags(store, test_id)] == [
        "The answer names 'Qwen'",
        "The answer has a remnant of a template",
    ]
    planned = blind_tests.get_test(store, test_id).planned_votes
    assert blind_tests.leave_out(store, test_id) == 2
    assert [prompt.number for prompt in blind_tests.list_prompts(store, test_id)] == [3, 4]
    assert blind_tests.progress(store, test_id)["answers"] == 4 and blind_tests.flags(store, test_id) == []
    test = blind_tests.get_test(store, test_id)
    assert blind_tests.settings_of(test).gave_away == 2
    assert test.planned_votes <= planned
    assert "left out" in [entry.what for entry in blind_tests.history(store, test_id)]
    assert blind_tests.leave_out(store, test_id) == 0
    blind_tests.open_test(store, test_id)
    rater = links.create_raters(store, test_id, ["Ana"])[0].rater_id
    seen = []
    while (trial := trials.next_trial(store, rater)) is not None:
        seen.append((trial.number, trial.total))
        trials.vote(store, rater, trial.id, "left")
    assert [number for number, _ in seen] == [1, 2]
    with pytest.raises(InputError, match="must be ready"):
        blind_tests.leave_out(store, test_id)


def test_a_test_without_a_prompt_that_is_safe_is_refused(store: Store) -> None:
    test_id = answered(store, prompts=2, write=lambda prompt, contestant: "I am ChatGPT.")
    with pytest.raises(InputError, match="Every prompt"):
        blind_tests.leave_out(store, test_id)
    assert len(blind_tests.list_prompts(store, test_id)) == 2


def test_a_trial_holds_nothing_but_what_a_rater_may_see(store: Store) -> None:
    test_id, (ana, _) = opened(store)
    trial = trials.next_trial(store, ana)
    assert trial is not None
    assert {one.name for one in dataclasses.fields(handing_out.Trial)} == set(
        "id number total messages left right options rubric turns written".split()
    )
    names = [
        text for one in blind_tests.list_contestants(store, test_id) for text in (one.id, one.title, one.spec["base"])
    ]
    assert not any(name in repr(trial) for name in names)


def test_a_link_is_whole_and_signed_here_or_it_is_unknown(store: Store, tmp_path: Path) -> None:
    test_id = answered(store)
    (link,) = links.create_raters(store, test_id, ["Ana"])
    with pytest.raises(InputError, match="has not started"):
        links.read_token(store, link.token)
    blind_tests.open_test(store, test_id)
    assert links.read_token(store, link.token).pseudonym == "Ana"
    assert re.fullmatch(r"[A-Za-z0-9_.-]{20,120}", link.token)  # goes into an address as it is
    elsewhere = open_store(Workspace.open(tmp_path / "elsewhere"))
    (foreign,) = links.create_raters(elsewhere, answered(elsewhere), ["Ana"])
    last = "A" if link.token[-2] != "A" else "B"
    for forged in (
        "",
        link.token[:-1],
        link.token[:-2] + last + link.token[-1],
        foreign.token,
        link.rater_id,
        "x" * 9999,
    ):
        with pytest.raises(InputError, match="not valid"):
            links.read_token(store, forged)
    links.revoke(store, link.rater_id)
    with pytest.raises(InputError, match="was revoked"):
        links.read_token(store, link.token)
    assert links.links(store, test_id) == []


def test_who_comes_by_the_open_link_says_a_name_and_becomes_nobody_else(store: Store) -> None:
    test_id, (ana, _) = opened(store)
    token = links.open_link(store, test_id)
    assert links.is_open_link(store, token) and links.open_link(store, test_id) == token
    with pytest.raises(InputError, match="name"):
        links.join(store, token, "  ")
    joined = links.join(store, token, "Ana")
    assert joined.rater_id != ana and joined.pseudonym == "Ana (2)"
    assert links.read_token(store, joined.token).id == joined.rater_id
    with pytest.raises(InputError, match="not valid"):  # it is a door, not a rater
        links.read_token(store, token)
    with pytest.raises(InputError, match="not valid"):
        links.join(store, joined.token, "Ana")
    links.revoke_open_link(store, test_id)
    with pytest.raises(InputError, match="not valid"):
        links.join(store, token, "Bo")
    assert links.read_token(store, joined.token).pseudonym == "Ana (2)"
    assert links.open_link(store, test_id) != token


def test_the_secret_is_its_owners_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(store)
    file = store.workspace.arena_secret
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and len(file.read_text()) > 40
    monkeypatch.setenv("FTLAB_SECRET", "short")
    with pytest.raises(InputError, match="16 or more"):
        opened(store)


def test_sqlite_writes_ahead_and_waits_for_the_disk(store: Store) -> None:
    with store.writing(on_disk=False) as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 1  # NORMAL
    with store.writing() as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2  # FULL


def test_a_database_that_cannot_be_had_is_one_message_without_its_password(monkeypatch: Any, tmp_path: Path) -> None:
    for url, said in (
        ("mystery://me:hunter2@host/x", "is not valid"),
        ("postgres://me:hunter2@127.0.0.1:1/x", "cannot be opened"),
    ):
        monkeypatch.setenv("FTLAB_DATABASE_URL", url)
        with pytest.raises(FtlabError, match=said) as error:
            open_store(Workspace.open(tmp_path))
        assert "hunter2" not in error.value.message()


def test_processes_that_start_at_once_share_one_database_and_one_secret(tmp_path: Path) -> None:
    script = """
import sys
from ftlab.arena import asking, links
from ftlab.arena.store import open_store
from ftlab.core.workspace import Workspace
from tests.arena import answered
store = open_store(Workspace.open(sys.argv[1]))
print(links.create_raters(store, answered(store, prompts=1), ["Ana"])[0].token)
"""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        for _ in range(2)
    ]
    tokens = [process.communicate(timeout=120)[0].strip() for process in started]
    store = open_store(Workspace.open(tmp_path))
    for test in blind_tests.list_tests(store):
        blind_tests.open_test(store, test.id)
    assert {links.read_token(store, token).pseudonym for token in tokens} == {"Ana"}
    assert len(blind_tests.list_tests(store)) == 2


def test_in_a_live_test_the_rater_asks_and_identical_answers_are_ties(store: Store) -> None:
    test_id = draft(store, prompts=0, planned=5, live=True)
    blind_tests.open_test(store, test_id)
    (link,) = links.create_raters(store, test_id, ["Ana"])
    ana = link.rater_id
    assert trials.next_trial(store, ana) is None
    first, second = trials.live_contestants(store, ana)
    trial = trials.record_live(store, ana, ASK, {first: {"text": "I am one."}, second: {"text": "I am two."}})
    assert trial is not None and {trial.left, trial.right} == {"I am one.", "I am two."}
    with pytest.raises(InputError, match="first"):
        trials.record_live(store, ana, ASK, {first: {"text": "a"}, second: {"text": "b"}})
    assert trials.next_trial(store, ana) == trial  # a page that is loaded again
    trials.vote(store, ana, trial.id, "left")
    assert trials.record_live(store, ana, ASK, {first: {"text": "Me. "}, second: {"text": "Me."}}) is None
    so_far = blind_tests.progress(store, test_id)
    assert (so_far["votes"], so_far["automatic"]) == (2, 1)


def test_names_that_read_alike_are_told_apart_and_what_is_not_seen_is_left_out(store: Store) -> None:
    test_id, _ = opened(store, names=())
    token = links.open_link(store, test_id)
    names = ("Ada", "\u0410da", "a d a", "Ad\u00e1", "\u200bAda\u202e", "\uff21da", "Lilian", "lllian")
    joined = [links.join(store, token, name).pseudonym for name in names]
    assert joined == [
        "Ada",
        "\u0410da (2)",
        "a d a (3)",
        "Ad\u00e1 (4)",
        "Ada (5)",
        "\uff21da (6)",
        "Lilian",
        "lllian (2)",
    ]
    for name in ("\u200b", "\u3164\u2800", "\u202e \t"):
        with pytest.raises(InputError, match="enter your name"):
            links.join(store, token, name)


def test_one_address_or_all_together_cannot_flood_an_open_link(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "JOINS", {60: (3, 5), 3600: (6, 9)})
    clock = [1_000_000.0]
    monkeypatch.setattr(links, "now", lambda: clock[0])
    test_id, _ = opened(store)
    token = links.open_link(store, test_id)

    def joins(address: str, times: int) -> int:
        done = 0
        for n in range(times):
            with contextlib.suppress(InputError):
                links.join(store, token, f"Somebody {n}", address)
                done += 1
        return done

    assert joins("10.0.0.1", 245) == 3
    assert sum(joins(f"10.0.1.{n}", 1) for n in range(9)) == 2, "five in all within a minute"
    links.create_raters(store, test_id, ["Cleo"])  # the owner's own links are not counted
    clock[0] += 61
    assert joins("10.0.0.1", 9) == 3 and joins("10.0.0.2", 9) == 1, "nine in all within an hour"
    assert "10.0." not in str(everything(store)), "no address is kept"
    beside = {one["pseudonym"]: len(one["beside"]) for one in blind_tests.progress(store, test_id)["raters"]}
    assert sorted(beside.values()) == [0, 0, 0, 0, 0, 0, 5, 5, 5, 5, 5, 5]


def test_voided_votes_count_nowhere_and_every_verdict_says_so(store: Store) -> None:
    test_id, (ana, bo) = opened(store, prompts=4)
    while trial := trials.next_trial(store, ana):
        trials.vote(store, ana, trial.id, "left")
    given = blind_tests.progress(store, test_id)["votes"]
    assert given == 4 and blind_tests.revealed(store, test_id) == "planned"
    links.void(store, ana)
    links.void(store, ana)
    known = blind_tests.progress(store, test_id)
    assert (known["votes"], known["voided"], known["raters"][0]["voided"]) == (0, 4, True)
    assert tally.count(store, test_id) == []
    with pytest.raises(InputError, match="revoked"):
        trials.next_trial(store, ana)
    assert known["revealed"] == "early", "it could be seen, so every report says that it was"
    while trial := trials.next_trial(store, bo):
        trials.vote(store, bo, trial.id, "right")
    assert len(tally.count(store, test_id)) == 4, "what was voided is asked again"
    said = " ".join(tally.evaluate(store, test_id)["notes"])
    assert "4 votes of 1 rater were voided by the owner" in said and "1 of these raters after the tally" in said
    with pytest.raises(InputError, match="no such rater"):
        links.void(store, "nobody")


def test_a_notebook_holds_a_blind_test_from_its_plan_to_votes_that_train(store: Store) -> None:
    test = BlindTest(store, answered(store, lambda number, position: "no" * (1 + position) + str(number), prompts=12))
    assert "12" in test.plan and "0 of 12 planned votes" in repr(test)
    with pytest.raises(InputError, match="hidden"):
        test.votes()
    test.open(["Ana"])
    with pytest.raises(InputError, match="no such score"):
        test.simulate("beauty")
    assert test.simulate(lambda answer, prompt, reference: float(len(answer)), temper=0) == 12
    assert test.close().verdict()["verdict"] == "better", "the second contestant writes the longer answers"
    votes = test.votes()
    assert votes.stage == "dpo" and len(votes.pairs) == len(votes.origins) == 12
    assert all(len(row["chosen"][0]["content"]) > len(row["rejected"][0]["content"]) for row in votes.pairs)
    assert Path(votes.source).is_file() and test.report().is_file()
