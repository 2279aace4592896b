"""A few prompts with both answers and what the raters said of them, chosen by a rule that flatters nobody."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import select

from ftlab.arena.ballots import Ballot, judged, pair_of
from ftlab.arena.store import Store, answers, contestants, prompts
from ftlab.arena.tally import count

RULE = "The first prompt, in the order of the test, that each contestant won, that was called alike, and that divided."


def examples(store: Store, test_id: str, most: int = 4) -> list[dict[str, Any]]:
    """Up to `most` prompts: kind, prompt (text of its last turn), answers (title and text), comments of raters."""
    with store.reading() as connection:
        query = select(contestants).where(contestants.c.test_id == test_id).order_by(contestants.c.position)
        among = {one.id: one for one in connection.execute(query)}
        asked = {one.id: one for one in connection.execute(select(prompts).where(prompts.c.test_id == test_id))}
        given = {
            (one.prompt_id, one.contestant_id): one.text
            for one in connection.execute(
                select(answers).join(prompts, answers.c.prompt_id == prompts.c.id).where(prompts.c.test_id == test_id)
            )
        }
    order = {name: one.position for name, one in among.items()}
    grouped: dict[tuple[str, str, str], list[Ballot]] = defaultdict(list)
    for ballot in count(store, test_id):
        if judged(ballot):
            grouped[(ballot.prompt, *pair_of(ballot, order))].append(ballot)
    found: dict[str, dict[str, Any]] = {}
    for (prompt, first, second), ballots in sorted(grouped.items(), key=lambda item: item[1][0].number):
        kind = _kind(ballots, {name: one.title for name, one in among.items()})
        if kind not in found:
            found[kind] = {
                "kind": kind,
                "prompt": asked[prompt].messages[-1]["content"],
                "answers": [{"title": among[one].title, "text": given[prompt, one]} for one in (first, second)],
                "comments": [ballot.comment for ballot in ballots if ballot.comment][:3],
            }
    return list(found.values())[:most]


def _kind(ballots: list[Ballot], titles: dict[str, str]) -> str:
    winners = {ballot.winner for ballot in ballots}
    if None in winners and len(winners) == 1:
        words = {"both_good": "both good", "both_bad": "both bad"}
        choices = {ballot.choice for ballot in ballots}
        return f"called {words[choices.pop()]}" if len(choices) == 1 else "called alike"
    chosen = winners - {None}
    return f"won by {titles[chosen.pop()]}" if len(chosen) == 1 else "the raters disagree"
