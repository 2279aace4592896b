"""Control items, which show how reliable a rater is, and the rule that excludes raters by them.

A repeated item is a comparison that the rater has made, with the sides swapped. An attention item is an answer beside
one to another question. Raters see neither apart from other comparisons, and no vote on one counts for the verdict.
Prompts of attention items are set aside: they have no votes of their own.
"""

from __future__ import annotations

import random
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.arena.asking import FEWEST_ATTENTION
from ftlab.arena.ballots import Ballot, judged
from ftlab.arena.results import QualityJson
from ftlab.errors import InputError
from ftlab.evaluation.figures import percent

REPEAT, ATTENTION = "repeat", "attention"
# Comparisons between an item and its repetition.
_LEAST_GAP, _LARGEST_GAP = 5, 12
SHORTEST_GAP = 3  # near a rater's end
# Chance fails one rater in two on a single repeated item.
FEWEST_REPEATS = 3
_FEWEST_WORDS, _MOST_SHARED = 3, 0.34
_WORD = re.compile(r"\w{4,}")


def set_aside(
    questions: Mapping[str, str],
    answers: Mapping[tuple[str, int], str],
    number: int,
    rng: random.Random,
    turns: Mapping[str, int] | None = None,
) -> list[tuple[str, int, str, int]]:
    """The attention items: (prompt, contestant who answers it, other prompt, contestant who answered that one).

    `questions` are texts by prompt id, `answers` by prompt id and position of the contestant. The other answer shares
    at most a third of its longer words with the question and all answers to it. Raises InputError if there are too few
    such prompts, for instance if all answers are labels. `turns`: how many turns each prompt has, if they are
    conversations; both prompts then have equally many.
    """
    of_answer = {key: set(_WORD.findall(text.casefold())) for key, text in answers.items()}
    contestants = sorted({contestant for _, contestant in answers})
    context = {
        prompt: set(_WORD.findall(text.casefold())).union(*(of_answer[prompt, who] for who in contestants))
        for prompt, text in questions.items()
    }

    def unlike(prompt: str, other: str) -> bool:
        """Whether no answer to `other` could be one to `prompt`."""
        return (turns or {}).get(prompt) == (turns or {}).get(other) and all(
            len(words) >= _FEWEST_WORDS and len(words & context[prompt]) <= _MOST_SHARED * len(words)
            for words in (of_answer[other, who] for who in contestants)
        )

    chosen: list[str] = []
    beside: dict[str, list[str]] = defaultdict(list)
    for prompt in rng.sample(list(questions), len(questions)):
        alone = [other for other in chosen if unlike(prompt, other) and unlike(other, prompt)]
        if chosen and not alone:
            continue
        chosen.append(prompt)
        for other in alone:
            beside[prompt].append(other)
            beside[other].append(prompt)
        if len(chosen) == number:
            break
    if len(chosen) < max(number, FEWEST_ATTENTION):
        raise InputError(
            "Attention items cannot be made: the answers to different prompts are too much alike",
            given=f"{number} wanted, {len(chosen)} possible",
            try_="create the test without attention items, or with more prompts",
        )
    # One contestant answers all of them, the other wrote all other answers, each used once if possible: a text that
    # comes twice would stand out.
    right, wrong = rng.sample(contestants, 2)
    unused, items = set(chosen), []
    for prompt in sorted(chosen, key=lambda prompt: len(beside[prompt])):
        other = rng.choice([other for other in beside[prompt] if other in unused] or beside[prompt])
        unused.discard(other)
        items.append((prompt, right, other, wrong))
    return items


def attention_due(number: int, answered: int, made: int, share: int, rng: random.Random) -> bool:
    """Whether the next of `number` attention items comes now. `made`: the rater's comparisons so far, of about `share`;
    items come one in each equal part of them. `rng` is the same for each call for one rater."""
    part = max(share / number, 1.0)
    places = [int(part * (place + rng.random())) for place in range(number)]
    return made > 0 and made >= places[answered]


def repeat_due(made_since: int, rng: random.Random, *, hurry: bool) -> bool:
    """Whether an item comes again, so many comparisons after it; `hurry`: the rater's last ones have begun. `rng` is
    the same for each call for one item."""
    return made_since >= (SHORTEST_GAP if hurry else rng.randint(_LEAST_GAP, _LARGEST_GAP))


def quality(
    ballots: Sequence[Ballot],
    controls: Sequence[Ballot],
    right: Mapping[str, str],
    *,
    min_attention: float = 0.0,
    min_consistency: float = 0.0,
) -> list[QualityJson]:
    """How reliable each rater is, in the order of their first vote. `right`: by prompt of an attention item, the
    contestant who answers it. "Both bad" and skips say nothing about attention, skips nothing about consistency.

    A rater is excluded whose share of correct attention items is below `min_attention`, or whose repeated items (three
    or more) went the same way in less than `min_consistency`.
    """
    own = {(ballot.rater, ballot.prompt, frozenset((ballot.left, ballot.right))): ballot for ballot in ballots}
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for ballot in controls:
        if ballot.control == ATTENTION and ballot.choice not in ("both_bad", "skip"):
            counted[ballot.rater]["attention"] += 1
            counted[ballot.rater]["right"] += ballot.winner == right.get(ballot.prompt)
        first = own.get((ballot.rater, ballot.prompt, frozenset((ballot.left, ballot.right))))
        if ballot.control == REPEAT and first and "skip" not in (ballot.choice, first.choice):
            counted[ballot.rater]["repeated"] += 1
            counted[ballot.rater]["same"] += ballot.winner == first.winner
    by_unit: dict[Any, list[Ballot]] = defaultdict(list)
    for ballot in filter(judged, ballots):
        by_unit[ballot.prompt, frozenset((ballot.left, ballot.right))].append(ballot)
    for votes in by_unit.values():
        choices = Counter(ballot.winner for ballot in votes)
        for ballot in votes:
            counted[ballot.rater]["met"] += len(votes) - 1
            counted[ballot.rater]["alike"] += choices[ballot.winner] - 1
    by_rater: dict[str, list[Ballot]] = defaultdict(list)
    for ballot in ballots:
        by_rater[ballot.rater].append(ballot)
    groups = {ballot.rater: ballot.group for ballot in (*ballots, *controls)}
    rows: list[QualityJson] = []
    for rater in dict.fromkeys(ballot.rater for ballot in (*ballots, *controls) if not ballot.automatic):
        mine, cast = counted[rater], by_rater[rater]
        times = [ballot.seconds for ballot in cast if ballot.seconds is not None]
        inattentive = mine["attention"] > 0 and mine["right"] < min_attention * mine["attention"]
        wavers = mine["repeated"] >= FEWEST_REPEATS and mine["same"] < min_consistency * mine["repeated"]
        rows.append(
            {
                "rater": rater,
                "group": groups.get(rater, ""),
                "votes": sum(map(judged, cast)),
                "seconds": statistics.median(times) if times else None,
                "attention": [mine["right"], mine["attention"]],
                "consistency": [mine["same"], mine["repeated"]],
                "agreement": [mine["alike"], mine["met"]],
                "excluded": inattentive or wavers,
            }
        )
    return rows


def rule_text(settings: Mapping[str, Any]) -> str:
    """The rule of exclusion in a sentence, empty if there is none."""
    parts = []
    if least := settings.get("min_attention"):
        parts.append(
            f"less than {percent(least)} of their attention items are correct (both bad and skips do not count)"
        )
    if least := settings.get("min_consistency"):
        parts.append(
            f"they chose the same in less than {percent(least)} of their repeated items ({FEWEST_REPEATS} or more)"
        )
    return f"Raters are excluded if {', or if '.join(parts)}." if parts else ""
