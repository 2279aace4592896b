"""Form and knowledge: what an answer names, regardless of the surrounding text, and how much of a change that
explains."""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ftlab.core.comparison import MeasureJson, VerdictJson
from ftlab.core.words import composed, listed
from ftlab.data.final_number import NUMBER, quantity, same_final_number, same_quantity
from ftlab.errors import shorten
from ftlab.evaluation.figures import percent, value_text
from ftlab.evaluation.metrics.text import folded, is_exact, is_unspaced, json_value, plain, same_value, words
from ftlab.evaluation.significance import p_text

LABEL_NAMED_RULE = (
    "the one label that stands in the answer as whole words; case, Unicode forms, hyphens and underscores ignored; a "
    'label within a longer one does not count, nor one behind a negation ("not X", "isn\'t X"); an answer with several '
    "labels or none is wrong"
)
REFERENCE_NAMED_RULE = (
    "the reference stands somewhere in the answer: a short text as whole words, whatever the case; JSON as the only "
    'object (or list) there; of numbers the last one counts; not behind a negation ("not X", "isn\'t X"); rows with '
    "longer references are left out"
)
# The lenient counterpart of each strict measure: what an answer names.
COMPANIONS = {"accuracy": "label_named", "exact_match": "reference_named"}
_NEGATED_BEFORE = re.compile(
    r"(?:\b(?:not|cannot|never|no|neither|nor|isnt|wasnt|arent|other than|rather than|instead of|except|nicht"
    r"|kein(?:e[nmrs]?)?|pas)|n['’]t)"
    r"\s+(?:(?:a|an|the|about|be|is|of|in|really|called|labell?ed|category|class|label)\s+)*[\"'“”‘’*`(]*$",
    re.IGNORECASE,
)
_NEGATED_BEHIND = re.compile(
    r"[\"'“”’*`)]*\s+(?:(?:is|was|are)\s+(?:not|wrong|incorrect)|(?:is|was|are)n['’]?t)\b(?!\s+(?:only|just|merely))",
    re.IGNORECASE,
)
_SHORT = 5  # words of a reference; longer ones do not separate form from content
_NEARLY_ALL = 0.9
_MOST_STARTS = 50  # brackets of one answer at which parsing JSON is attempted
_MOST_NAMED = 5


def label_finder(labels: Sequence[str]) -> Callable[[str], set[int]]:
    """A function that finds which of `labels` a text names, by index, without those that it negates."""
    keys = [_spelled(label, folded) for label in labels]
    # A, B and C, or labels that differ only in case: an article must not pass for a label.
    fold = folded if len(set(keys)) == len(keys) and all(len(key) > 1 for key in keys) else composed
    place = {_spelled(label, fold): at for at, label in enumerate(labels)}
    longest = sorted(filter(None, place), key=len, reverse=True)
    pattern = re.compile("|".join(f"(?:{_whole(key)})" for key in longest))

    def named(text: str) -> set[int]:
        text = _spelled(text, fold)
        return {place[match.group()] for match in pattern.finditer(text) if not _is_negated(text, *match.span())}

    return named


def named_labels(texts: Sequence[str], labels: Sequence[str]) -> list[int]:
    """The index of the label that each text equals or else names; -1 for none or several."""
    from ftlab.evaluation.metrics.text import label_numbers

    find = label_finder(labels)

    def named(text: str) -> int:
        matches = find(text)
        return matches.pop() if len(matches) == 1 else -1

    return [
        named(text) if number < 0 else number for text, number in zip(texts, label_numbers(texts, labels), strict=True)
    ]


def names_reference(answer: str, reference: str) -> float | None:
    """1 or 0: whether `answer` contains `reference`, as defined in REFERENCE_NAMED_RULE. None for references of other
    kinds."""
    reference = reference.strip()
    if not can_be_named(reference):
        return None
    if is_exact(answer, reference):
        return 1.0
    if (wanted := json_value(reference)) is not None:
        values = [value for value in _json_in(answer) if type(value) is type(wanted)]
        return float(bool(values) and all(same_value(value, wanted) for value in values))
    if quantity(reference) is not None:
        last = deque(NUMBER.finditer(answer), maxlen=1)
        if last and (_is_negated(answer, *last[0].span()) or _other_version(last[0].group(), reference)):
            return 0.0
        return same_final_number(answer, reference)
    return float(holds(answer, reference))


def holds(answer: str, text: str) -> bool:
    """Whether `answer` contains `text` as whole words without negating it, ignoring case and spacing."""
    key, spelled = _spelled(plain(text), folded), _spelled(answer, folded)
    places = re.finditer(_whole(key), spelled) if key else ()
    return any(not _is_negated(spelled, *place.span()) for place in places)


def _is_negated(text: str, start: int, end: int) -> bool:
    """Whether the text around the match negates it: not X, isn't a X, neither X nor Y, no X, X is not; not "not only
    X"."""
    return bool(_NEGATED_BEFORE.search(text[max(0, start - 60) : start]) or _NEGATED_BEHIND.match(text[end : end + 40]))


def _other_version(number: str, reference: str) -> bool:
    return quantity(number) == quantity(reference) and not same_quantity(number, reference)


def can_be_named(reference: str) -> bool:
    """Whether `reference` can be part of an answer without being all of it: JSON, a number, or a few words. One or two
    Latin letters ("no", "A", "US") occur in many answers that mean something else."""
    reference = reference.strip()
    if json_value(reference) is not None:
        return True
    few = reference.isascii() and reference.isalpha() and len(reference) < 3
    return bool(reference) and not few and len(words(reference)) <= _SHORT


def with_companions(names: Sequence[str], references: Sequence[str]) -> list[str]:
    """`names` with the lenient counterpart after each measure that is strict about form, if the data allows it."""
    short = sum(map(can_be_named, references)) >= _NEARLY_ALL * max(1, len(references))
    every: list[str] = []
    for name in names:
        every += [name]
        beside = COMPANIONS.get(name)
        if beside and beside not in names and (short or name != "exact_match"):
            every += [beside]
    return every


def told_apart(measures: Sequence[MeasureJson], wanted: Sequence[str]) -> list[MeasureJson]:
    """`measures` without lenient ones that equal the strict ones on every side, unless `wanted`."""
    strict = {COMPANIONS[measure["name"]]: measure["values"] for measure in measures if measure["name"] in COMPANIONS}
    return [
        measure for measure in measures if measure["name"] in wanted or strict.get(measure["name"]) != measure["values"]
    ]


def judged_by_form(
    verdict: VerdictJson,
    task: Sequence[MeasureJson],
    decided: Sequence[MeasureJson],
    side: str,
    against: str,
    improved: Callable[[MeasureJson, str], bool | None],
    called: Mapping[str, str],
) -> VerdictJson:
    """`verdict` with how much of the change is form and how much is knowledge, if the deciding measure is strict.

    `improved` tells whether a side is better by a measure. A side that is better in form and worse in what it names is
    neither better nor worse: `better` becomes None.
    """
    known = {measure["name"]: measure for measure in task}
    strict = next((measure for measure in decided if measure["name"] in COMPANIONS), None)
    if strict is None or verdict["better"] is None:
        return verdict
    # What the model finds most likely does not depend on how it words an answer.
    lenient = known.get("likelihood_accuracy") if strict["name"] == "accuracy" else None
    lenient = lenient or known.get(COMPANIONS[strict["name"]])
    several = "" if lenient and lenient["name"] != "label_named" else _several(strict, side, against, called)
    unknown = verdict | {"text": verdict["text"] + several}
    if lenient is None or side not in lenient["differences"]:
        return unknown
    strict_pair, lenient_pair = _values(strict, side, against), _values(lenient, side, against)
    if strict_pair is None or lenient_pair is None or strict_pair == lenient_pair:
        return unknown
    better, named = improved(lenient, side), _named(lenient, side, against) + several
    change, knowing = strict_pair[0] - strict_pair[1], lenient_pair[0] - lenient_pair[1]
    if better is None:
        word = "better" if verdict["better"] else "worse"
        more = "more" if verdict["better"] else "less"
        text = verdict["text"].replace(f" is {word}", f" is {word} in form", 1)
        return verdict | {"text": f"{text}; no evidence that it knows {more}: {named}"}
    elif better != verdict["better"]:
        words = ("worse", "better") if verdict["better"] else ("better", "worse")
        text = verdict["text"].replace(f" is {words[1]}", f" is {words[1]} in form and {words[0]} in knowing", 1)
        opposed = f"{words[1]} in form, {words[0]} in knowing"
        return verdict | {"better": None, "opposed": opposed, "text": f"{text}; {named}"}
    elif abs(knowing) >= abs(change):
        parts = f"; none of that is form: {named}"
    else:
        points = [_points(part) for part in (change, change - knowing, knowing)]
        parts = f"; of these {points[0]} points {points[1]} are form and {points[2]} knowing: {named}"
    return verdict | {"text": verdict["text"] + parts}


def _values(measure: MeasureJson, side: str, against: str) -> tuple[float, float] | None:
    after, before = measure["values"].get(side), measure["values"].get(against)
    return None if after is None or before is None else (after, before)


def unlabelled(texts: Sequence[str], numbers: Sequence[int], labels: Sequence[str]) -> dict[str, Any]:
    """Answers that are not a label: how many, how many of them name `several`, and the most common as [text, count]."""
    other = [" ".join(text.split()) for text, number in zip(texts, numbers, strict=True) if number < 0]
    commonest = [[shorten(text, 60), count] for text, count in Counter(other).most_common(3)]
    find = label_finder(labels)
    return {"rows": len(other), "several": sum(len(find(text)) > 1 for text in other), "commonest": commonest}


def label_notes(measures: Sequence[MeasureJson], spoken: Mapping[str, str]) -> list[str]:
    """How each side used the labels, in sentences: labels it never gave, and answers that are not a label.

    `spoken` maps sides to their names in a sentence.
    """
    details = [measure["detail"] for measure in measures if measure["name"] == "accuracy" and measure["detail"]]
    detail: Mapping[str, Any] = details[0] if details else {}
    notes = []
    for side, called in spoken.items():
        of_side = detail.get(side) or {}
        if "unlabelled" not in of_side:
            continue
        matrix, other = of_side["confusion"], of_side["unlabelled"]
        never = [label for place, label in enumerate(detail["labels"]) if not any(line[place] for line in matrix)]
        rows = sum(map(sum, matrix))
        parts = []
        if other["rows"]:
            examples = listed([f"“{text}” ({count})" for text, count in other["commonest"]])
            parts.append(f"{other['rows']} of {rows} answers are no label, such as {examples}")
        if several := other.get("several"):  # missing from old results
            named = (
                "1 answer names several labels and counts"
                if several == 1
                else f"{several} answers name several labels and count"
            )
            parts.append(f"{named} as naming none, as they do not show which label was meant")
        if never and other["rows"] < rows:
            more = f" and {len(never) - _MOST_NAMED} more" if len(never) > _MOST_NAMED else ""
            names = ", ".join(never[:_MOST_NAMED])
            parts.append(f"{len(never)} of {len(detail['labels'])} labels were never given: {names}{more}")
        if parts:
            notes.append(f"Labels of {called}: {'; '.join(parts)}.")
    return notes


def _named(lenient: MeasureJson, side: str, against: str) -> str:
    after, before = (value_text(lenient, lenient["values"][at]) for at in (side, against))
    what = {
        "label_named": "the right label stands in {} of the answers against {}",
        "reference_named": "the reference stands in {} of the answers against {}",
        "likelihood_accuracy": "the right label is the likeliest in {} of the rows against {}",
    }[lenient["name"]].format(after, before)
    p = lenient["differences"][side]["p"]
    return what if p is None else f"{what} ({p_text(p)})"


def _several(strict: MeasureJson, side: str, against: str, called: Mapping[str, str]) -> str:
    """The answers of both sides that name several labels, which leaves open what they know."""
    counts = {
        at: ((strict.get("detail") or {}).get(at) or {}).get("unlabelled", {}).get("several") for at in (against, side)
    }
    counted = [f"{count} of {called[at]}" for at, count in counts.items() if count]
    return (
        f"; answers that name several labels ({listed(counted)}) count as none: of them knowing cannot be told"
        if counted
        else ""
    )


def _points(change: float) -> str:
    return percent(abs(change)).removesuffix("%")


def _spelled(text: str, fold: Callable[[str], str]) -> str:
    """`text` with single spaces, also for hyphens and underscores within words. The minus sign of a number stays."""
    return re.sub(r"(?<=[^\W_])[_-]+(?=[^\W_])", " ", " ".join(fold(text).split()))


def _whole(key: str) -> str:
    """A pattern for `key` that does not match inside a longer word or number. Scripts without spaces have no such
    bounds."""
    before = "" if is_unspaced(key[0]) else r"(?<!\w)(?<!\d[.,])" + (r"(?<![-−])" if key[0].isdigit() else "")
    after = "" if is_unspaced(key[-1]) else r"(?!\w)(?![.,]\d)"
    return before + re.escape(key) + after


def _json_in(text: str) -> list[Any]:
    """The JSON objects and lists in `text`, in order."""
    decoder, values, at = json.JSONDecoder(), [], 0
    for _ in range(_MOST_STARTS):
        start = re.compile(r"[{\[]").search(text, at)
        if start is None:
            break
        try:
            value, at = decoder.raw_decode(text, start.start())
            values.append(value)
        except (ValueError, RecursionError):
            at = start.end()
    return values
