"""Rows that repeat each other: exactly, nearly, across the splits, or with another answer."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from ftlab.data.checks.examples import Examples, Watch
from ftlab.data.checks.finding import Finding, by_split
from ftlab.data.checks.near import FEWEST_WORDS, NEAR, near_pairs
from ftlab.data.checks.words import Words, count_words
from ftlab.errors import shorten

_LABEL_WORDS = 5
_SIGNS = re.compile(r"[.,!?;:…]+(?=\s|$)")


@dataclass
class Sameness:
    """What is alike, per position: `prompt` and `answer` are numbers that are equal for the same text (without regard
    to case, spaces and closing signs), `copies` are the positions of exact copies with that of the first."""

    prompt: list[int]
    answer: list[int]
    copies: dict[int, int]
    prompt_words: Words
    answer_words: Words


def find_sameness(examples: Examples, watch: Watch) -> Sameness:
    """Count the words of every text once, and tell which are the same."""
    prompt_words = count_words(examples.prompts, watch)
    answer_words = count_words(examples.answers, watch, prompt_words.vocabulary)
    numbers: dict[str, int] = {}
    systems = (turns[0]["content"] if turns[0]["role"] == "system" else "" for turns in examples.turns)
    # The same question under another system prompt is another question.
    prompt = [
        numbers.setdefault(f"{system}\x1e{_plain(text)}", len(numbers))
        for system, text in zip(systems, examples.prompts, strict=True)
    ]
    answer = [numbers.setdefault(_plain(text), len(numbers)) for text in examples.answers]
    first: dict[tuple, int] = {}
    copies: dict[int, int] = {}
    for position, turns in watch.over(examples.turns):
        key = (examples.split[position], *((turn["role"], turn["content"]) for turn in turns))
        original = first.setdefault(key, position)
        if original != position:
            copies[position] = original
    return Sameness(prompt, answer, copies, prompt_words, answer_words)


def exact_duplicates(examples: Examples, watch: Watch, same: Sameness) -> list[Finding]:
    """All turns are the same as in an earlier row of the split."""
    return by_split("exact_duplicate", same.copies, examples, matches=same.copies)


def overlap(examples: Examples, watch: Watch, same: Sameness) -> list[Finding]:
    """Training rows whose prompt is that of a held-out row; case, spaces and closing signs do not count."""
    held_out: dict[int, int] = {}
    for position, prompt in enumerate(same.prompt):
        if examples.split[position] != "train":
            held_out.setdefault(prompt, position)
    leaks = {
        position: held_out[prompt]
        for position, prompt in enumerate(same.prompt)
        if examples.split[position] == "train" and prompt in held_out
    }
    return by_split("overlap", leaks, examples, matches=leaks, detail=_held_out_counts(examples, leaks))


def conflicting_answers(examples: Examples, watch: Watch, same: Sameness) -> list[Finding]:
    """The same prompt with different answers; the match of a row is one with the answer that most of them give, and the
    row itself where no answer has most, or where answers are sentences: several of them may be right.
    `detail.groups` numbers the prompts: rows with one number share theirs."""
    groups: dict[tuple[str, int], list[int]] = {}
    for position, prompt in enumerate(same.prompt):
        if position not in same.copies:
            groups.setdefault((examples.split[position], prompt), []).append(position)
    conflicting: list[int] = []
    shown: dict[int, str] = {}
    usual: dict[int, int] = {}
    group_of: dict[int, int] = {}
    for positions in groups.values():
        answers = Counter(same.answer[position] for position in positions)
        if len(answers) < 2:
            continue
        (best, most), (_, second) = answers.most_common(2)
        is_label = all(_is_label(examples.answers[position]) for position in positions)
        original = next(position for position in positions if same.answer[position] == best)
        for position in positions:
            conflicting.append(position)
            group_of[position] = positions[0]
            usual[position] = original if most > second and is_label else position
            shown[position] = f"{shorten(examples.prompts[position], 80)} → {shorten(examples.answers[position], 80)}"
    findings = by_split("conflicting_answers", conflicting, examples, matches=usual, shown=shown)
    for finding in findings:
        of_split = [position for position in sorted(conflicting) if examples.split[position] == finding.split]
        finding.detail["groups"] = [examples.row[group_of[position]] for position in of_split]
    return findings


def near_duplicates(examples: Examples, watch: Watch, same: Sameness) -> list[Finding]:
    """At least 80% of the word trigrams of prompt and answer are those of another row of the split.

    Prompts and answers of fewer than 8 words have to be the same: there one other word is another meaning.
    """
    asked, said = same.prompt_words.sizes, same.answer_words.sizes
    copies: dict[int, int] = {}

    def alike(earlier: int, later: int) -> bool:
        same_prompt = same.prompt[earlier] == same.prompt[later]
        same_answer = same.answer[earlier] == same.answer[later]
        return (
            later not in copies
            and (same_answer or not same_prompt)  # conflicting answers are another finding
            and (same_prompt or min(asked[earlier], asked[later]) >= FEWEST_WORDS)
            and (same_answer or min(said[earlier], said[later]) >= FEWEST_WORDS)
        )

    sides = _numbered(examples.split)
    whole = (same.prompt_words, same.answer_words)
    for earlier, later, _ in near_pairs(whole, sides, watch, alike, left_out=same.copies):
        copies[later] = earlier
    return by_split("near_duplicate", copies, examples, matches=copies, detail={"threshold": NEAR})


def near_overlap(examples: Examples, watch: Watch, same: Sameness) -> list[Finding]:
    """Training rows whose prompt shares at least 80% of its word trigrams with that of a held-out row."""
    if len(set(examples.split)) < 2:
        return []
    asked = same.prompt_words.sizes
    held_out = {prompt for prompt, split in zip(same.prompt, examples.split, strict=True) if split != "train"}
    known = {
        position
        for position, split in enumerate(examples.split)
        if position in same.copies or (split == "train" and same.prompt[position] in held_out)
    }
    leaks: dict[int, int] = {}

    def straddles(trained: int, held: int) -> bool:
        return trained not in leaks and min(asked[trained], asked[held]) >= FEWEST_WORDS

    sides = _numbered(examples.split)
    for trained, held, _ in near_pairs(same.prompt_words, sides, watch, straddles, across=True, left_out=known):
        leaks[trained] = held
    detail = _held_out_counts(examples, leaks) | {"threshold": NEAR}
    return by_split("near_overlap", leaks, examples, matches=leaks, detail=detail)


def _is_label(answer: str) -> bool:
    """Whether an answer is a label, a number or JSON, of which only one can be right."""
    return len(answer.split(None, _LABEL_WORDS)) <= _LABEL_WORDS or answer.lstrip()[:1] in ("{", "[")


def _plain(text: str) -> str:
    return "".join(_SIGNS.sub("", text.lower()).split())


def _numbered(splits: list[str]) -> list[int]:
    """0 for train, other numbers for the other splits."""
    numbers = {"train": 0}
    return [numbers.setdefault(split, len(numbers)) for split in splits]


def _held_out_counts(examples: Examples, matches: dict[int, int]) -> dict[str, dict[str, int]]:
    return {"held_out_rows": dict(Counter(examples.split[position] for position in set(matches.values())))}
