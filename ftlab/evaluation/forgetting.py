"""How much a model forgot: of the general questions that its base knew, and in bits per byte of a general text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.evaluation.documents import bits_per_byte
from ftlab.evaluation.figures import number, percent
from ftlab.evaluation.significance import LEVEL, loss_difference, mcnemar, p_text, wilson_interval

RULE = "of the general questions that the base answers right, the share that the adapted model answers wrong"


def score_forgetting(
    known: Mapping[str, Sequence[bool]] | None,
    losses: Mapping[str, Sequence[float]] | None = None,
    sizes: Sequence[int] | None = None,
    *,
    limit: float = 0.05,
    questions: str = "general questions",
    text: str = "A general text",
) -> dict[str, Any] | None:
    """What `adapted` lost of what `base` knew (both keys of `known` and of `losses`); None where nothing was asked.

    `known` says of every general question whether it was answered right, `losses` are summed nats per general text, and
    `sizes` the UTF-8 bytes of these. `questions` and `text` are what these are called in the sentences. Returns:
    `score` (0 to 1, see RULE; None without questions that the base knows), `interval` (Wilson, 95%), `known`, `lost`,
    `gained` and `asked` in questions, `accuracy` {side: share}, `accuracy_p`, `bits_per_byte` {side: bits}, `rise`
    (0.2: a fifth more bits), `bits_p`, `forgot` (past `limit`, and more than chance), `limit`, `rule` and `text`.
    """
    found: dict[str, Any] = {"limit": limit, "rule": RULE, "score": None, "interval": None}
    said, past = [], False
    if known and known["base"]:
        found |= _of_questions(known["base"], known["adapted"])
        said.append(_questions_in_words(found, questions))
        past |= _fell(found, limit)
    if losses and losses["base"] and sizes:
        found |= _of_text(losses["base"], losses["adapted"], sizes)
        said.append(_text_in_words(found, text))
        past |= found["rise"] > limit and found["bits_p"] < LEVEL
    if not said:
        return None
    return found | {"forgot": past, "text": " ".join(said)}


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


def _of_text(base: Sequence[float], adapted: Sequence[float], sizes: Sequence[int]) -> dict[str, Any]:
    bits = {"base": bits_per_byte(base, sizes), "adapted": bits_per_byte(adapted, sizes)}
    rise = bits["adapted"] / bits["base"] - 1 if bits["base"] else 0.0
    return {"bits_per_byte": bits, "rise": rise, "bits_p": loss_difference(base, adapted), "documents": len(sizes)}


def _fell(found: Mapping[str, Any], limit: float) -> bool:
    # The small term keeps a fall of exactly the limit on the right side of binary fractions.
    return found["accuracy"]["base"] - found["accuracy"]["adapted"] > limit + 1e-9


def _questions_in_words(found: Mapping[str, Any], questions: str) -> str:
    if not found["known"]:
        return f"The base knew none of the {found['asked']} {questions}, so they cannot show what was forgotten."
    low, high = found["interval"]
    share = f"{percent(found['score'])} (95% interval {percent(round(low, 3))} to {percent(round(high, 3))})"
    more = f", and knows {found['gained']} that its base did not" if found["gained"] else ""
    return (
        f"The adapted model lost {found['lost']} of the {found['known']} {questions} that its base knew, {share}{more}."
    )


def _text_in_words(found: Mapping[str, Any], text: str) -> str:
    bits, p = found["bits_per_byte"], found["bits_p"]
    figures = f"{number(bits['adapted'])} bits per byte against {number(bits['base'])} ({p_text(p)})"
    if p >= LEVEL:
        return f"{text} is predicted about as well as before: {figures}."
    return f"{text} is predicted {'worse' if found['rise'] > 0 else 'better'} than before: {figures}."
