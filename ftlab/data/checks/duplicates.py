"""Checks across rows: duplicates, near duplicates, and outliers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from ftlab.data.checks.finding import DetailJson, Examples, Finding, by_split
from ftlab.data.near import FEWEST_WORDS, NEAR, Texts, is_label, near_pairs, read_texts, share_trigrams
from ftlab.data.normal import Watch, Words, count_words
from ftlab.data.shapes import is_trained
from ftlab.errors import shorten

if TYPE_CHECKING:
    import numpy as np

_SIGNS = re.compile(r"[.,!?;:…]+(?=\s|$)")


@dataclass
class Sameness:
    """Equal texts by position: `prompt` and `answer` hold numbers that are equal for equal texts (prompts by
    `near.normal_form`, answers ignoring case, spaces and final punctuation); `copies` maps exact copies to the first
    occurrence. `texts` are the prompts in the form that finds near duplicates."""

    prompt: list[int]
    answer: list[int]
    copies: dict[int, int]
    prompt_words: Words
    answer_words: Words
    texts: Texts


def find_sameness(examples: Examples, watch: Watch) -> Sameness:
    """Count the words of each text once, and find equal texts."""
    prompt_words = count_words(examples.prompts, watch)
    answer_words = count_words(examples.answers, watch, prompt_words.vocabulary)
    texts = read_texts(examples.prompts, watch)
    numbers: dict[str, int] = {}
    systems = (turns[0]["content"] if turns[0]["role"] == "system" else "" for turns in examples.turns)
    # The same prompt under another system prompt counts as different.
    prompt = [
        numbers.setdefault(f"{system}\x1e{form}", len(numbers))
        for system, form in zip(systems, texts.forms.tolist(), strict=True)
    ]
    answer = [numbers.setdefault(_plain(text), len(numbers)) for text in examples.answers]
    first: dict[tuple, int] = {}
    copies: dict[int, int] = {}
    for position, turns in watch.over(examples.turns):
        key = (examples.split[position], *((turn["role"], turn["content"], is_trained(turn)) for turn in turns))
        original = first.setdefault(key, position)
        if original != position:
            copies[position] = original
    return Sameness(prompt, answer, copies, prompt_words, answer_words, texts)


def exact_duplicates(examples: Examples, watch: Watch, same: Sameness) -> list[Finding]:
    """Rows whose turns all equal those of an earlier row of the same split."""
    return by_split("exact_duplicate", same.copies, examples, matches=same.copies)


def overlap(examples: Examples, watch: Watch, same: Sameness) -> list[Finding]:
    """Training rows with the prompt of a held-out row, ignoring case, Unicode form, spaces and punctuation."""
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
    """The same prompt with different answers. Each row is matched with a row that has the most common answer, or with
    itself if there is no majority or the answers are sentences, since several may be right. `detail.groups` numbers the
    prompts: rows with the same number share a prompt."""
    groups: dict[tuple[str, int], list[int]] = {}
    for position, prompt in enumerate(same.prompt):
        if position not in same.copies:
            groups.setdefault((examples.split[position], prompt), []).append(position)
    conflicting: list[int] = []
    excerpts: dict[int, str] = {}
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
            excerpts[position] = (
                f"{shorten(examples.prompts[position], 80)} → {shorten(examples.answers[position], 80)}"
            )
    findings = by_split("conflicting_answers", conflicting, examples, matches=usual, excerpts=excerpts)
    for finding in findings:
        of_split = [position for position in sorted(conflicting) if examples.split[position] == finding.split]
        finding.detail["groups"] = [examples.row[group_of[position]] for position in of_split]
    return findings


def near_duplicates(examples: Examples, watch: Watch, same: Sameness) -> list[Finding]:
    """Rows whose prompt and answer nearly repeat those of an earlier row of the split (80% of the trigrams).

    Prompts and answers of fewer than 8 words must be identical: a row with one more word still teaches something.
    """
    copies: dict[int, int] = {}
    sides = _numbered(examples.split)
    for earlier, later, how in near_pairs(same.texts, examples.answers, sides=sides, watch=watch):
        if later in copies or earlier in same.copies or later in same.copies:
            continue
        same_prompt = same.prompt[earlier] == same.prompt[later]
        same_answer = same.answer[earlier] == same.answer[later]
        if same_prompt and not same_answer:  # reported by another check
            continue
        if not same_prompt and (how != "near" or not _nearly(same.prompt_words, earlier, later)):
            continue
        if not same_answer and not _nearly(same.answer_words, earlier, later):
            continue
        copies[later] = earlier
    return by_split("near_duplicate", copies, examples, matches=copies, detail={"threshold": NEAR})


def near_overlap(examples: Examples, watch: Watch, same: Sameness) -> list[Finding]:
    """Training rows whose prompt nearly repeats that of a held-out row (see `ftlab.data.near`)."""
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
    detail: DetailJson = {**_held_out_counts(examples, seen), "threshold": NEAR}
    return by_split("near_overlap", leaks, examples, matches=leaks, detail=detail)


def _nearly(words: Words, first: int, second: int) -> bool:
    return min(len(words.of(first)), len(words.of(second))) >= FEWEST_WORDS and share_trigrams(words, first, second)


def _plain(text: str) -> str:
    return "".join(_SIGNS.sub("", text.lower()).split())


def _numbered(splits: list[str]) -> list[int]:
    """0 for train, other numbers for the other splits."""
    numbers = {"train": 0}
    return [numbers.setdefault(split, len(numbers)) for split in splits]


def _held_out_counts(examples: Examples, seen: Iterable[int]) -> DetailJson:
    return {"held_out_rows": dict(Counter(examples.split[position] for position in seen))}


_SURE = 0.95  # minimum probability of a detected language
_FEWEST_LETTERS = 25  # the detector guesses on shorter texts
_MAIN_SHARE = 0.9  # of the identified rows must be in the main language
_ASKED = 400  # rows that decide the main language
_COMMON = 0.4  # with this share of common words, a row is in the main language
_FAR = 5.0  # robust standard deviations of the logarithm of the length
_NARROWEST = 0.3  # the smallest such deviation, for data where nearly all texts have the same length
_FEW = 0.02  # a larger share of rows is not an outlier but a second kind of text
_FEWEST = 30
_PIECE = 10_000


def other_languages(examples: Examples, watch: Watch, same: Sameness) -> list[Finding]:
    """Rows whose prompt or answer is clearly in a different language than at least 90% of the rows.

    Only rows of uncommon words go to the detector (langid.py, Lui and Baldwin 2012): words that many rows share are in
    the main language. That is faster and does not mistake names and codes for Latin.
    """
    strays: dict[int, str] = {}
    main: dict[str, str] = {}
    for part, texts, words in (
        ("prompt", examples.prompts, same.prompt_words),
        ("answer", examples.answers, same.answer_words),
    ):
        strange = _strange(words)
        usual = main_language(texts)
        if usual is None:
            continue
        main[part] = usual
        for _, position in watch.over(strange):
            language = _language(texts[position])
            if language and language != usual:
                strays.setdefault(position, f"{language}: {shorten(texts[position], 80)}")
    if len(strays) > (1 - _MAIN_SHARE) * len(examples):
        return []  # deliberately multilingual
    languages = Counter(text.split(":")[0] for text in strays.values())
    return by_split("language", strays, examples, excerpts=strays, detail={"main": main, "languages": dict(languages)})


def odd_lengths(examples: Examples, watch: Watch, same: Sameness) -> list[Finding]:
    """Prompts or answers whose length is more than 5 robust standard deviations (1.4826 times the median absolute
    deviation; Iglewicz and Hoaglin 1993) from the median, on a logarithmic scale."""
    import numpy as np

    odd: dict[int, str] = {}
    medians: dict[str, int] = {}
    if len(examples) < _FEWEST:
        return []
    first = "text" if examples.are_documents else "prompt"
    for part, texts in ((first, examples.prompts), ("answer", examples.answers)):
        watch.at(0, 1)
        sizes = np.fromiter(map(len, texts), np.float64, len(texts))
        far = np.flatnonzero(np.abs(robust_z(np.log1p(sizes))) > _FAR)
        if part == "answer":
            # One-word answers are a separate finding.
            far = np.array([position for position in far if len(texts[position].split(None, 1)) > 1], np.int64)
        medians[part] = int(np.median(sizes))
        if len(far) > max(1, _FEW * len(texts)):
            continue
        for position in far.tolist():
            odd.setdefault(position, f"{part} of {int(sizes[position]):,} characters (median {medians[part]:,})")
    return by_split("length", odd, examples, excerpts=odd, detail={"median_characters": medians})


def robust_z(values: np.ndarray) -> np.ndarray:
    """The distance of each value from the median, in robust standard deviations."""
    import numpy as np

    distances = values - np.median(values)
    return distances / max(1.4826 * float(np.median(np.abs(distances))), _NARROWEST)


def _strange(words: Words) -> list[int]:
    """Positions of the texts that share less than 40% of their words with many others."""
    import numpy as np

    if not len(words.numbers):
        return []
    pieces = [words.part(begin, min(begin + _PIECE, len(words))) for begin in range(0, len(words), _PIECE)]
    texts = [np.repeat(np.arange(len(piece)), piece.sizes) for piece in pieces]
    rows_with = np.zeros(len(words.vocabulary), np.int64)
    for piece, text in zip(pieces, texts, strict=True):
        pairs = np.unique(text << 32 | piece.numbers)
        rows_with += np.bincount(pairs & 0xFFFFFFFF, minlength=len(rows_with))
    common = rows_with >= max(3, 0.005 * len(words))
    shares = [
        np.bincount(text, weights=common[piece.numbers], minlength=len(piece)) / np.maximum(piece.sizes, 1)
        for piece, text in zip(pieces, texts, strict=True)
    ]
    return np.flatnonzero((np.concatenate(shares) < _COMMON) & (words.sizes > 2)).tolist()


def main_language(texts: list[str]) -> str | None:
    """ISO 639-1 code of the main language of `texts`; None if too few can be identified, or there is no clear one."""
    step = max(1, len(texts) // _ASKED)
    known = Counter(language for text in texts[::step][:_ASKED] if (language := _language(text)))
    if not known or sum(known.values()) < 10:
        return None
    language, count = known.most_common(1)[0]
    return language if count >= _MAIN_SHARE * sum(known.values()) else None


def _language(text: str) -> str | None:
    """ISO 639-1 code of the language of `text`; None if it is too short or the detector is unsure."""
    text = text[:250]
    letters = sum(map(str.isalpha, text))
    wide = sum("\u2e80" < letter < "\uffef" for letter in text)  # each of these characters counts as a word
    if letters + 4 * wide < _FEWEST_LETTERS or letters < 0.5 * len(text):
        return None
    language, probability = _identifier().classify(text)
    return str(language) if probability >= _SURE else None


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
