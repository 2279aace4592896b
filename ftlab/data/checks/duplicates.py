"""Rows that repeat each other: exactly, nearly, across the splits, or with another answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ftlab.data.checks.examples import Examples, Watch
from ftlab.data.checks.finding import Finding, by_split
from ftlab.data.near import FEWEST_WORDS, NEAR, Texts, is_label, near_pairs, read_texts, share_trigrams
from ftlab.data.words import Words, count_words
from ftlab.errors import shorten

_SIGNS = re.compile(r"[.,!?;:…]+(?=\s|$)")


@dataclass
class Sameness:
    """What is alike, per position: `prompt` and `answer` are numbers that are equal for the same text (prompts as
    `near.normal_form` says, answers without regard to case, spaces and closing signs), `copies` are the positions of
    exact copies with that of the first. `texts` are the prompts as near copies are found."""

    prompt: list[int]
    answer: list[int]
    copies: dict[int, int]
    prompt_words: Words
    answer_words: Words
    texts: Texts


def find_sameness(examples: Examples, watch: Watch) -> Sameness:
    """Count the words of every text once, and tell which are the same."""
    prompt_words = count_words(examples.prompts, watch)
    answer_words = count_words(examples.answers, watch, prompt_words.vocabulary)
    texts = read_texts(examples.prompts, watch)
    numbers: dict[str, int] = {}
    systems = (turns[0]["content"] if turns[0]["role"] == "system" else "" for turns in examples.turns)
    # The same question under another system prompt is another question.
    prompt = [
        numbers.setdefault(f"{system}\x1e{form}", len(numbers))
        for system, form in zip(systems, texts.forms.tolist(), strict=True)
    ]
    answer = [numbers.setdefault(_plain(text), len(numbers)) for text in examples.answers]
    first: dict[tuple, int] = {}
    copies: dict[int, int] = {}
    for position, turns in watch.over(examples.turns):
        key = (examples.split[position], *((turn["role"], turn["content"]) for turn in turns))
        original = first.setdefault(key, position)
        if original != position:
            copies[position] = original
    return Sameness(prompt, answer, copies, prompt_words, answer_words, texts)


def exact_duplicates(examples: Examples, watch: Watch, same: Sameness) -> list[Finding]:
    """All turns are the same as in an earlier row of the split."""
    return by_split("exact_duplicate", same.copies, examples, matches=same.copies)


def overlap(examples: Examples, watch: Watch, same: Sameness) -> list[Finding]:
    """Training rows whose prompt is that of a held-out row; case, Unicode form, spaces and punctuation do not count."""
    held_out: dict[int, int] = {}
    trained = {prompt for prompt, split in zip(same.prompt, examples.split, strict=True) if split == "train"}
    seen = []
    for position, prompt in enumerate(same.prompt):
        if examples.split[position] != "train":
            held_out.setdefault(prompt, position)
            if prompt in trained:
                seen.append(position)
    leaks = {
        position: held_out[prompt]
        for position, prompt in enumerate(same.prompt)
        if examples.split[position] == "train" and prompt in held_out
    }
    return by_split("overlap", leaks, examples, matches=leaks, detail=_held_out_counts(examples, seen))


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
        are_labels = all(is_label(examples.answers[position]) for position in positions)
        original = next(position for position in positions if same.answer[position] == best)
        for position in positions:
            conflicting.append(position)
            group_of[position] = positions[0]
            usual[position] = original if most > second and are_labels else position
            shown[position] = f"{shorten(examples.prompts[position], 80)} → {shorten(examples.answers[position], 80)}"
    findings = by_split("conflicting_answers", conflicting, examples, matches=usual, shown=shown)
    for finding in findings:
        of_split = [position for position in sorted(conflicting) if examples.split[position] == finding.split]
        finding.detail["groups"] = [examples.row[group_of[position]] for position in of_split]
    return findings


def near_duplicates(examples: Examples, watch: Watch, same: Sameness) -> list[Finding]:
    """Rows whose prompt is nearly that of an earlier row of the split, and whose answer is too (80% of the trigrams).

    Prompts and answers of fewer than 8 words have to be the same: a row with a word more still teaches something.
    """
    copies: dict[int, int] = {}
    sides = _numbered(examples.split)
    for earlier, later, how in near_pairs(same.texts, examples.answers, sides=sides, watch=watch):
        if later in copies or earlier in same.copies or later in same.copies:
            continue
        same_prompt = same.prompt[earlier] == same.prompt[later]
        same_answer = same.answer[earlier] == same.answer[later]
        if same_prompt and not same_answer:  # another finding
            continue
        if not same_prompt and (how != "near" or not _nearly(same.prompt_words, earlier, later)):
            continue
        if not same_answer and not _nearly(same.answer_words, earlier, later):
            continue
        copies[later] = earlier
    return by_split("near_duplicate", copies, examples, matches=copies, detail={"threshold": NEAR})


def near_overlap(examples: Examples, watch: Watch, same: Sameness) -> list[Finding]:
    """Training rows whose prompt is nearly that of a held-out row (see `ftlab.data.near`)."""
    if len(set(examples.split)) < 2:
        return []
    held_out = {prompt for prompt, split in zip(same.prompt, examples.split, strict=True) if split != "train"}
    leaks: dict[int, int] = {}
    seen = set()
    sides = _numbered(examples.split)
    for trained, held, how in near_pairs(same.texts, examples.answers, sides=sides, across=True, watch=watch):
        if how != "answer" and trained not in same.copies and same.prompt[trained] not in held_out:
            leaks.setdefault(trained, held)
            seen.add(held)
    detail = _held_out_counts(examples, seen) | {"threshold": NEAR}
    return by_split("near_overlap", leaks, examples, matches=leaks, detail=detail)


def _nearly(words: Words, one: int, other: int) -> bool:
    return min(len(words.of(one)), len(words.of(other))) >= FEWEST_WORDS and share_trigrams(words, one, other)


def _plain(text: str) -> str:
    return "".join(_SIGNS.sub("", text.lower()).split())


def _numbered(splits: list[str]) -> list[int]:
    """0 for train, other numbers for the other splits."""
    numbers = {"train": 0}
    return [numbers.setdefault(split, len(numbers)) for split in splits]


def _held_out_counts(examples: Examples, seen: Iterable[int]) -> dict[str, dict[str, int]]:
    return {"held_out_rows": dict(Counter(examples.split[position] for position in seen))}
