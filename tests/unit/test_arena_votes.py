"""A vote is one transaction, unique, and the server's decision: on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, false, inspect, select, update

from ftlab.arena import blind_tests, links, trials
from ftlab.arena.store import Store, guesses, open_store, votes
from ftlab.arena.store import trials as trial_rows
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from tests.arena import emptied, everything, opened, postgres_server


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    place = emptied(open_store(Workspace.open(tmp_path), url))
    assert place.engine.dialect.name == request.param
    yield place
    place.engine.dispose()


def first_trial(store: Store, rater: str) -> trials.Trial:
    trial = trials.next_trial(store, rater)
    assert trial is not None
    return trial


def refused(store: Store, act: Callable[[], Any]) -> str:
    """`act` is refused with one message and changes nothing at all; returns the message."""
    before = everything(store)
    with pytest.raises(InputError) as error:
        act()
    assert everything(store) == before
    return error.value.message()


def test_a_vote_is_kept_as_it_was_given(store: Store) -> None:
    _, (ana, _) = opened(store, rubric=("overall", "style"))
    trial = first_trial(store, ana)
    trials.vote(store, ana, trial.id, "left", {"style": "same"}, " fine \0 words ", 3.5)
    with store.reading() as connection:
        (vote,) = connection.execute(select(votes)).all()
    assert (vote.trial_id, vote.rater_id, vote.choice) == (trial.id, ana, "left")
    assert (vote.ratings, vote.comment, vote.seconds, bool(vote.automatic)) == (
        {"style": "same"},
        "fine  words",
        3.5,
        False,
    )


def test_a_forged_trial_changes_nothing(store: Store) -> None:
    _, (ana, _) = opened(store)
    first_trial(store, ana)
    for forged in ("", "1", secrets.token_urlsafe(12), "' OR 1=1 --", "x" * 10_000):
        assert "trial is not yours" in refused(store, lambda forged=forged: trials.vote(store, ana, forged, "left"))
        refused(store, lambda forged=forged: trials.guess(store, ana, forged, "left"))


def test_a_vote_by_another_raters_link_changes_nothing(store: Store) -> None:
    _, (ana, bo) = opened(store)
    _, (stranger, _) = opened(store, names=("Cy", "Di"))
    theirs = first_trial(store, ana)
    forged = refused(store, lambda: trials.vote(store, bo, secrets.token_urlsafe(12), "left"))
    for other in (bo, stranger):
        # The message is that of an id that was made up: it does not say that the trial exists.
        assert refused(store, lambda other=other: trials.vote(store, other, theirs.id, "left")) == forged
    trials.vote(store, ana, theirs.id, "right")
    refused(store, lambda: trials.undo(store, bo, theirs.id))
    refused(store, lambda: trials.guess(store, bo, theirs.id, "left"))


def test_of_a_double_vote_the_first_stands(store: Store) -> None:
    _, (ana, _) = opened(store)
    trial = first_trial(store, ana)
    trials.vote(store, ana, trial.id, "left")
    for choice in ("left", "right"):
        assert "first vote counts" in refused(store, lambda choice=choice: trials.vote(store, ana, trial.id, choice))


def test_a_vote_that_arrives_again_is_the_first_one_until_it_is_undone(store: Store) -> None:
    _, (ana, bo) = opened(store)
    trial, theirs = first_trial(store, ana), first_trial(store, bo)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: trials.vote(store, ana, trial.id, "left", sent_as="b7"), range(8)))
    before = everything(store)
    assert len(before["votes"]) == 1
    trials.vote(store, ana, trial.id, "left", sent_as="b7")
    assert everything(store) == before
    for other in ("b8", ""):
        assert "already voted" in refused(
            store, lambda other=other: trials.vote(store, ana, trial.id, "right", sent_as=other)
        )
    # The id of another rater's vote meets nothing of theirs.
    trials.vote(store, bo, theirs.id, "right", sent_as="b7")
    again = trials.undo(store, ana)
    assert "not yours" in refused(store, lambda: trials.vote(store, ana, trial.id, "left", sent_as="b7"))
    trials.vote(store, ana, again.id, "right", sent_as="b9")
    assert len(everything(store)["votes"]) == 2


def test_of_many_votes_at_once_exactly_one_counts(store: Store) -> None:
    _, (ana, _) = opened(store)
    trial = first_trial(store, ana)

    def vote(choice: str) -> str | None:
        try:
            trials.vote(store, ana, trial.id, choice)
        except InputError:
            return None
        return choice

    with ThreadPoolExecutor(8) as pool:
        done = [choice for choice in pool.map(vote, ["left", "right"] * 8) if choice]
    with store.reading() as connection:
        kept = connection.execute(select(votes.c.choice)).scalars().all()
    assert len(done) == 1 and kept == done


# What the whole blind test rests on: each of these is unique in the database itself, whoever writes.
ONCE = {"trials": [{"rater_id", "prompt_id", "pair"}], "votes": [{"trial_id"}], "guesses": [{"trial_id"}]}
ONCE |= {"answers": [{"prompt_id", "contestant_id"}], "prompts": [{"test_id", "number"}]}


def test_the_database_itself_refuses_what_may_be_there_only_once(store: Store) -> None:
    about = inspect(store.engine)
    for table, sets in ONCE.items():
        unique = [set(one["column_names"]) for one in about.get_unique_constraints(table)]
        unique += [set(one["column_names"]) for one in about.get_indexes(table) if one["unique"]]
        assert all(one in unique for one in sets), (table, unique)


@pytest.mark.parametrize("act", ["vote", "guess"])
def test_who_loses_the_race_to_the_database_is_told_so_and_changes_nothing(store, act, monkeypatch) -> None:
    _, (ana, _) = opened(store)
    trial = first_trial(store, ana)
    trials.vote(store, ana, trial.id, "left")
    if act == "guess":
        trials.guess(store, ana, trial.id, "left")
    # As another process would see it that looked before this vote was committed: only the constraint is left.
    execute, looks = Connection.execute, ("SELECT votes.id", "SELECT guesses.id")
    look = looks[act == "guess"]

    def unseen(connection, statement, *given, **more):
        if str(statement).startswith(look):
            statement, given = select(votes.c.id).where(false()), ()
        return execute(connection, statement, *given, **more)

    before = everything(store)
    with monkeypatch.context() as patch:
        patch.setattr(Connection, "execute", unseen)
        said = "first vote counts" if act == "vote" else "already guessed"
        with pytest.raises(InputError, match=said):
            trials.vote(store, ana, trial.id, "right") if act == "vote" else trials.guess(store, ana, trial.id, "right")
    assert everything(store) == before


def test_a_trial_asked_for_many_times_at_once_is_one(store: Store) -> None:
    _, (ana, _) = opened(store)
    with ThreadPoolExecutor(8) as pool:
        shown = list(pool.map(lambda _: trials.next_trial(store, ana), range(16)))
    assert len({trial.id for trial in shown if trial}) == 1 and None not in shown
    with store.reading() as connection:
        assert len(connection.execute(select(trial_rows)).all()) == 1


def test_a_vote_replayed_after_its_undo_changes_nothing(store: Store) -> None:
    _, (ana, _) = opened(store)
    before = first_trial(store, ana)
    trials.vote(store, ana, before.id, "left")
    again = trials.undo(store, ana)
    assert again.id != before.id
    assert (again.messages, again.left, again.right) == (before.messages, before.left, before.right)
    assert "trial is not yours" in refused(store, lambda: trials.vote(store, ana, before.id, "left"))
    trials.vote(store, ana, again.id, "right")
    # And so is the undo: it named a vote that is no more.
    refused(store, lambda: trials.undo(store, ana, before.id))


def test_undo_goes_back_one_vote_at_a_time_and_the_open_trial_waits(store: Store) -> None:
    _, (ana, _) = opened(store)
    first = first_trial(store, ana)
    trials.vote(store, ana, first.id, "left")
    second = first_trial(store, ana)
    trials.vote(store, ana, second.id, "left")
    third = first_trial(store, ana)
    assert trials.undo(store, ana).messages == second.messages
    assert trials.undo(store, ana).messages == first.messages
    refused(store, lambda: trials.undo(store, ana))
    numbers = []
    while len(numbers) < 3:
        trial = first_trial(store, ana)
        numbers.append(trial.number)
        trials.vote(store, ana, trial.id, "right")
    assert numbers == [1, 2, 3] and third.number == 3


def test_nothing_is_taken_back_once_the_tally_was_seen(store: Store) -> None:
    test_id, (ana, _) = opened(store)
    trials.vote(store, ana, first_trial(store, ana).id, "left")
    blind_tests.open_early(store, test_id)
    assert "counted" in refused(store, lambda: trials.undo(store, ana))
    trials.vote(store, ana, first_trial(store, ana).id, "left")
    trials.undo(store, ana)  # a vote given since then was not among them

    _, (cy, _) = opened(store, names=("Cy", "Di"), planned=1)
    trials.vote(store, cy, first_trial(store, cy).id, "left")
    assert "counted" in refused(store, lambda: trials.undo(store, cy))


@pytest.mark.parametrize("ended", ["revoked", "closed"])
def test_whose_link_was_ended_changes_nothing(store: Store, ended: str) -> None:
    test_id, (ana, _) = opened(store)
    voted = first_trial(store, ana)
    trials.vote(store, ana, voted.id, "left")
    trial = first_trial(store, ana)
    if ended == "revoked":
        links.revoke(store, ana)
    else:
        blind_tests.close_test(store, test_id)
    refused(store, lambda: trials.next_trial(store, ana))
    refused(store, lambda: trials.vote(store, ana, trial.id, "left"))
    refused(store, lambda: trials.undo(store, ana))
    refused(store, lambda: trials.guess(store, ana, voted.id, "left"))


def test_only_what_was_asked_for_can_be_said(store: Store) -> None:
    _, (ana, _) = opened(store, options=("left", "right", "skip"), rubric=("overall", "safety"))
    trial = first_trial(store, ana)
    for wrong in ("both_good", "tie", "LEFT", ""):
        refused(store, lambda wrong=wrong: trials.vote(store, ana, trial.id, wrong))
    refused(store, lambda: trials.vote(store, ana, trial.id, "left", {"style": "left"}))
    refused(store, lambda: trials.vote(store, ana, trial.id, "left", {"safety": "both_good"}))
    refused(store, lambda: trials.vote(store, ana, trial.id, "left", comment="x" * 5000))
    trials.vote(store, ana, trial.id, "left", seconds=float("nan"))


def test_a_guess_comes_after_the_vote_and_once(store: Store) -> None:
    _, (ana, _) = opened(store)
    trial = first_trial(store, ana)
    assert "Vote before you guess" in refused(store, lambda: trials.guess(store, ana, trial.id, "left"))
    trials.vote(store, ana, trial.id, "left")
    refused(store, lambda: trials.guess(store, ana, trial.id, "the tuned one"))
    trials.guess(store, ana, trial.id, "right")
    refused(store, lambda: trials.guess(store, ana, trial.id, "left"))
    trials.undo(store, ana)  # and a vote that is taken back takes its guess along
    with store.reading() as connection:
        assert connection.execute(select(guesses)).all() == []


def test_sides_are_guessed_after_the_last_vote_of_the_last_comparisons(store: Store) -> None:
    _, (ana, _) = opened(store, options=("left", "right", "skip"), prompts=5)
    voted = []
    while trial := trials.next_trial(store, ana):
        assert trials.to_guess(store, ana) is None
        trials.vote(store, ana, trial.id, "skip" if len(voted) == 3 else "left", {}, f"comment {len(voted)}")
        voted.append(trial.id)
    newest = [voted[place] for place in range(len(voted) - 1, -1, -1) if place != 3][: trials.GUESSES]
    asked, last = [], trials.to_guess(store, ana)
    while last is not None:  # "no idea" on each
        asked.append(last.id)
        last = trials.to_guess(store, ana, after=last.id)
    assert asked == newest
    trials.guess(store, ana, newest[0], "left")
    first = trials.to_guess(store, ana)
    assert first is not None and first.id == newest[1]
    written = trials.undo(store, ana).written
    assert written["comment"] == f"comment {len(voted) - 1}" and trials.to_guess(store, ana) is None


def test_identical_answers_are_ties_that_nobody_is_asked_about(store: Store) -> None:
    write = lambda prompt, contestant: "the same" if prompt <= 2 else f"{prompt} by {contestant}"  # noqa: E731
    test_id, raters = opened(store, write=write, votes_per_prompt=2)
    trials.next_trial(store, raters[0])
    before = blind_tests.progress(store, test_id)
    assert blind_tests.votes_in_words(before) == "0 of 8 planned votes", "a tie that came by itself is no vote"
    assert blind_tests.identical_in_words(before) == "2 pairs of answers are the same: a tie, which no rater sees."
    for rater in raters:
        while trial := trials.next_trial(store, rater):
            assert trial.left != trial.right and trial.total == 4
            trials.vote(store, rater, trial.id, "left")
    so_far = blind_tests.progress(store, test_id)
    assert (so_far["votes"], so_far["automatic"], so_far["revealed"]) == (12, 4, "planned")
    assert blind_tests.votes_in_words(so_far) == "8 of 8 planned votes"
    with store.reading() as connection:
        tie = connection.execute(select(votes.c.trial_id, votes.c.rater_id).where(votes.c.choice == "tie")).first()
    assert tie is not None
    refused(store, lambda: trials.vote(store, tie.rater_id, tie.trial_id, "left"))


def test_fifty_raters_at_once_lose_and_double_nothing(store: Store) -> None:
    """All vote as fast as they can until nothing is left; tests/benchmarks/votes.py times them, over HTTP."""
    test_id, raters = opened(store, names=[""] * 50, prompts=10, votes_per_prompt=10)

    def give(rater: str) -> list[str]:
        given = []
        while trial := trials.next_trial(store, rater):
            trials.vote(store, rater, trial.id, "left")
            given.append(trial.id)
        return given

    with ThreadPoolExecutor(50) as pool:
        acknowledged = [trial_id for given in pool.map(give, raters) for trial_id in given]
    with store.reading() as connection:
        kept = connection.execute(select(votes.c.trial_id)).scalars().all()
        handed = connection.execute(select(trial_rows.c.prompt_id, trial_rows.c.rater_id)).all()
    assert len(acknowledged) == 100 and sorted(acknowledged) == sorted(kept)
    by_prompt = [
        sum(one.prompt_id == prompt.id for one in handed) for prompt in blind_tests.list_prompts(store, test_id)
    ]
    assert by_prompt == [10] * 10
    assert len(set(handed)) == 100  # nobody saw a prompt twice


def test_a_skipped_and_an_abandoned_prompt_go_to_the_next_rater(store: Store) -> None:
    _, (ana, bo) = opened(store, prompts=2)
    trials.vote(store, ana, first_trial(store, ana).id, "skip")
    left_open = first_trial(store, ana)
    mine = first_trial(store, bo)
    assert mine.messages != left_open.messages
    trials.vote(store, bo, mine.id, "left")
    assert trials.next_trial(store, bo) is None  # Ana may still be reading
    with store.writing() as connection:
        hour_ago = trial_rows.c.created - 3600
        connection.execute(update(trial_rows).where(trial_rows.c.id == left_open.id).values(created=hour_ago))
    assert first_trial(store, bo).messages == left_open.messages


def test_a_deleted_test_takes_all_that_belongs_to_it_along_and_nothing_else(store: Store) -> None:
    other, _ = opened(store)
    before = everything(store)
    test_id, (ana, _) = opened(store)
    trial = first_trial(store, ana)
    trials.vote(store, ana, trial.id, "left")
    trials.guess(store, ana, trial.id, "left")
    blind_tests.close_test(store, test_id)
    blind_tests.delete_test(store, test_id)
    assert everything(store) == before and [test.id for test in blind_tests.list_tests(store)] == [other]
