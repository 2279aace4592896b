"""What a side gained and what it lost, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.evaluation.figures import change_text, in_sentence, value_text
from ftlab.evaluation.probes import NOT_REPLAYED, REPLAYED
from ftlab.evaluation.significance import p_text
from ftlab.evaluation.verdict import has_forgotten, improved
from ftlab.wording import listed

_GENERAL = (NOT_REPLAYED, REPLAYED)


def gain_loss(
    measures: Sequence[Mapping[str, Any]], side: str = "adapted", *, forgetting: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What `side` gained and lost against the first side: {gained, lost, text, forgetting}.

    `gained` and `lost` hold {name, title, change, text} of the measures that changed by more than chance explains, and
    of general accuracy where it fell past the limit. `forgetting` is the share of the known general questions that were
    lost (from forgetting.py), or the fall of general accuracy, 0 to 1; None where nothing general was asked.
    """
    gained, lost = [], []
    for measure in measures:
        better = improved(measure, side)
        if better is None and measure["name"] in _GENERAL and _fell(measure, side):
            better = False
        if better is not None:
            (gained if better else lost).append(_entry(measure, side))
    return {
        "gained": gained,
        "lost": lost,
        "text": _in_words(gained, lost),
        "forgetting": _share(measures, side, forgetting),
    }


def _entry(measure: Mapping[str, Any], side: str) -> dict[str, str]:
    first = next(iter(measure["values"]))
    difference = measure["differences"][side]
    figures = " against ".join(value_text(measure, measure["values"][at]) for at in (side, first))
    change = change_text(measure, side, first)
    text = f"{measure['title']} {change}: {figures} ({p_text(difference['p'])})"
    return {"name": measure["name"], "title": measure["title"], "change": change, "text": text}


def _in_words(gained: Sequence[Mapping[str, str]], lost: Sequence[Mapping[str, str]]) -> str:
    parts = []
    for word, entries in (("better in", gained), ("worse in", lost)):
        if entries:
            changes = [f"{in_sentence(entry['title'])} ({entry['change']})" for entry in entries]
            parts.append(f"{word} {listed(changes)}")
    if not parts:
        return "Nothing changed by more than chance explains."
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + ("." if lost else "; no measure is clearly worse.")


def _share(measures: Sequence[Mapping[str, Any]], side: str, forgetting: Mapping[str, Any] | None) -> float | None:
    if forgetting is not None and forgetting.get("score") is not None:
        return float(forgetting["score"])
    for measure in measures:
        if measure["name"] in _GENERAL and side in measure["differences"]:
            return max(0.0, -measure["differences"][side]["value"])
    return None


def _fell(measure: Mapping[str, Any], side: str) -> bool:
    first = next(iter(measure["values"]))
    return side in measure["differences"] and has_forgotten(
        *({NOT_REPLAYED: measure["values"][at]} for at in (first, side))
    )
