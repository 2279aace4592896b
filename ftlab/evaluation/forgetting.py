"""How much a model forgot: of the general questions that its base knew, and in bits per byte of a general text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.evaluation.documents import bits_per_byte
from ftlab.evaluation.figures import number, percent
from ftlab.evaluation.significance import (
    LEVEL,
    Kept,
    holm,
    kept,
    kept_of_counts,
    loss_difference,
    mcnemar,
    p_text,
    wilson_interval,
)

RULE = "of the general questions that the base answers right, the share that the adapted model answers wrong"
# A base that knows less cannot lose much: that nothing was lost says nothing.
_KNOWS_ENOUGH = 0.2


def score_forgetting(
    known: Mapping[str, Sequence[bool]] | None,
    losses: Mapping[str, Sequence[float]] | None = None,
    sizes: Sequence[int] | None = None,
    *,
    limit: float = 0.05,
    side: str = "adapted",
) -> dict[str, Any] | None:
    """What `side` lost of what `base` knew (both keys of `known` and of `losses`); None where nothing was asked.

    `known` says of every general question whether it was answered right, `losses` are summed nats per general text, and
    `sizes` the UTF-8 bytes of these. Returns:
    `answer`: kept (general accuracy fell by less than `limit`, and bits per byte rose by less than that share; each
    tested, so that a loss as large as the limit passes in at most 5% of cases), lost (one of them got worse by more
    than chance explains, Holm over both, and is not shown to be within the limit), or unknown.
    `score` (0 to 1, see RULE; None without questions that the base knows), `interval` (Wilson, 95%), `known`, `lost`,
    `gained` and `asked` in questions, `accuracy` {side: share}, `accuracy_p`, `bits_per_byte` {side: bits}, `rise`
    (0.2: a fifth more bits), `bits_p`, `parts` {questions, text: answer, p_kept, p_lost, enough}, `forgot` (whether the
    answer is lost), `limit`, `rule` and `text`. `enough` is the number of questions or texts that would tell.
    """
    found: dict[str, Any] = {"limit": limit, "rule": RULE, "score": None, "interval": None}
    tests: dict[str, Kept] = {}
    if known and known["base"]:
        found |= _of_questions(known["base"], known[side])
        tests["questions"] = _test_of_questions(found, limit)
    if losses and losses["base"] and sizes:
        found |= _of_text(losses["base"], losses[side], sizes)
        tests["text"] = kept(losses["base"], losses[side], margin=limit, better="lower", relative=True)
    if not tests:
        return None
    answers = _together(tests)
    found["parts"] = {
        name: {"answer": answers[name], "p_kept": test.p_kept, "p_lost": test.p_lost, "enough": test.enough}
        for name, test in tests.items()
    }
    every = set(answers.values())
    answer = "lost" if "lost" in every else "kept" if every == {"kept"} else "unknown"
    words = {"questions": _questions_in_words, "text": _text_in_words}
    text = " ".join(words[name](found, tests[name], answers[name]) for name in tests)
    return found | {"answer": answer, "forgot": answer == "lost", "text": text}


def answer_of(comparison: Mapping[str, Any]) -> str | None:
    """kept, lost or unknown, as `comparison` tells it; None where nothing general was asked.

    Of one that was made before there were three answers: from the figures that it kept.
    """
    scored = comparison.get("forgetting")
    if scored and "answer" in scored:
        return scored["answer"]
    if scored:
        answers = set()
        if scored.get("asked"):
            answers.add(_test_of_questions(scored, scored["limit"]).answer)
        if "rise" in scored:
            answers.add("lost" if scored["rise"] > 0 and scored["bits_p"] < LEVEL else "unknown")
        return "lost" if "lost" in answers else "kept" if answers == {"kept"} else "unknown"
    before, after = (comparison.get(side, {}).get("general_accuracy") for side in ("base", "adapted"))
    if before is None or after is None:
        return None
    p = (comparison.get("tests") or {}).get("general_accuracy")
    return "lost" if after < before and p is not None and p < LEVEL else "unknown"


def _of_questions(base: Sequence[bool], adapted: Sequence[bool]) -> dict[str, Any]:
    pairs = list(zip(base, adapted, strict=True))
    knew, lost = sum(base), sum(old and not new for old, new in pairs)
    return {
        "score": lost / knew if knew else None,
        "interval": wilson_interval(lost, knew),
        "known": knew,
        "lost": lost,
        "gained": sum(new and not old for old, new in pairs),
        "asked": len(pairs),
        "accuracy": {"base": knew / len(pairs), "adapted": sum(adapted) / len(pairs)},
        "accuracy_p": mcnemar(base, adapted),
    }


def _test_of_questions(found: Mapping[str, Any], limit: float) -> Kept:
    test = kept_of_counts(found["lost"], found["gained"], found["asked"], limit)
    if test.answer == "kept" and found["known"] < _KNOWS_ENOUGH * found["asked"]:
        answer = "lost" if test.p_lost <= LEVEL else "unknown"
        return Kept(answer, test.loss, limit, 1.0, test.p_lost, test.rows, None)
    return test


def _of_text(base: Sequence[float], adapted: Sequence[float], sizes: Sequence[int]) -> dict[str, Any]:
    bits = {"base": bits_per_byte(base, sizes), "adapted": bits_per_byte(adapted, sizes)}
    rise = bits["adapted"] / bits["base"] - 1 if bits["base"] else 0.0
    return {"bits_per_byte": bits, "rise": rise, "bits_p": loss_difference(base, adapted), "documents": len(sizes)}


def _together(tests: Mapping[str, Kept]) -> dict[str, str]:
    """The answer of each test, where a loss must stand the correction for there being several."""
    adjusted = dict(zip(tests, holm([test.p_lost for test in tests.values()]), strict=True))
    return {
        name: "unknown" if test.answer == "lost" and (adjusted[name] or 0) > LEVEL else test.answer
        for name, test in tests.items()
    }


def _questions_in_words(found: Mapping[str, Any], test: Kept, answer: str) -> str:
    asked, limit = found["asked"], _points(found["limit"])
    if not found["known"]:
        return f"The base knew none of the {asked} general questions, so they cannot show what was forgotten."
    low, high = found["interval"]
    share = f"{percent(found['score'])} (95% interval {percent(round(low, 3))} to {percent(round(high, 3))})"
    more = f", and knows {found['gained']} that its base did not" if found["gained"] else ""
    said = (
        f"The adapted model lost {found['lost']} of the {found['known']} general questions that its base knew, "
        f"{share}{more}."
    )
    change = "did not fall" if test.loss <= 0 else f"fell by {_points(test.loss)}"
    if answer == "kept":
        return f"{said} General accuracy {change}; a fall of {limit} or more is ruled out ({p_text(test.p_kept)})."
    if answer == "lost":
        return f"{said} General accuracy {change}, more than chance explains ({p_text(test.p_lost)}, one-sided)."
    if found["known"] < _KNOWS_ENOUGH * asked:
        return f"{said} The base knew too few of the {asked} questions to tell whether something was forgotten."
    fell = f"fell by {limit} or more" if found["limit"] else "fell at all"
    return (
        f"{said} General accuracy {change}; whether it {fell} cannot be told from {asked} questions"
        f"{_would_tell(test, 'questions')}."
    )


def _text_in_words(found: Mapping[str, Any], test: Kept, answer: str) -> str:
    bits = found["bits_per_byte"]
    figures = f"{number(bits['adapted'])} bits per byte against {number(bits['base'])}"
    limit = percent(found["limit"])
    if answer == "kept":
        return (
            f"General text: {figures}; that it takes {limit} more bits, or worse, is ruled out ({p_text(test.p_kept)})."
        )
    if answer == "lost":
        return (
            f"General text is predicted worse than before: {figures}, more than chance explains "
            f"({p_text(test.p_lost)}, one-sided)."
        )
    return (
        f"General text: {figures}; whether it takes {limit} more bits, or worse, cannot be told from "
        f"{found['documents']} texts{_would_tell(test, 'texts')}."
    )


def _would_tell(test: Kept, what: str) -> str:
    return f"; about {test.enough:,} {what} would" if test.enough and test.enough > test.rows else ""


def _points(share: float) -> str:
    text = f"{100 * share:.1f}".removesuffix(".0")
    return f"{text} point{'' if text == '1' else 's'}"
