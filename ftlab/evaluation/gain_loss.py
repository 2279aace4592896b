"""What a side gained and what it lost, in words: findings, which hold among all that is listed, and looks.

With ten measures of a model that did not change, one of them falls below p = .05 in a third of comparisons. So each p
is also kept as it stands among all measures of its side (Holm, 1979), and that one decides what is named and coloured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.evaluation.figures import change_text, in_sentence, value_text
from ftlab.evaluation.probes import NOT_REPLAYED, REPLAYED
from ftlab.evaluation.significance import LEVEL, holm, p_text
from ftlab.wording import listed

_GENERAL = (NOT_REPLAYED, REPLAYED)


def with_adjusted(measures: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`measures`, each difference with `p_adjusted`: its p among all of its side that have a better and a worse."""
    found = [
        dict(one) | {"differences": {side: dict(of) for side, of in (one.get("differences") or {}).items()}}
        for one in measures
    ]
    sides = dict.fromkeys(side for one in found for side in one["differences"])
    for side in sides:
        tested = [one["differences"][side] for one in found if side in one["differences"] and one.get("better")]
        for difference, p in zip(tested, holm([one.get("p") for one in tested]), strict=True):
            difference["p_adjusted"] = p
    return found


def counted(measures: Sequence[Mapping[str, Any]], side: str) -> int:
    """How many measures of `side` the correction is over."""
    return sum(
        bool(one.get("better")) and (one.get("differences") or {}).get(side, {}).get("p") is not None
        for one in measures
    )


def direction(measure: Mapping[str, Any], side: str, *, adjusted: bool = True) -> bool | None:
    """Whether `side` is better than the first side by more than chance explains; None when the data cannot tell.

    By the p among all measures that are listed, where `with_adjusted` gave one; by its own with `adjusted` False.
    """
    difference = (measure.get("differences") or {}).get(side)
    if not difference or not measure["better"] or not difference["value"] or difference.get("p") is None:
        return None
    p = difference.get("p_adjusted") if adjusted else difference["p"]
    p = difference["p"] if p is None else p
    return None if p >= LEVEL else (difference["value"] > 0) == (measure["better"] == "higher")


def is_look(measure: Mapping[str, Any], side: str) -> bool:
    """Whether its p is below 5% by itself and not among all that is listed: something to look at, and no finding."""
    return direction(measure, side) is None and direction(measure, side, adjusted=False) is not None


def gain_loss(
    measures: Sequence[Mapping[str, Any]], side: str = "adapted", *, forgetting: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What `side` gained and lost against the first side: {gained, lost, looks, moved, text, forgetting}.

    `gained` and `lost` hold {name, title, change, text} of the measures that changed by more than chance explains among
    all that are listed, `looks` those that did by themselves only, `moved` how far answers moved from the base's where
    that is beyond the limits. `forgetting` is the share of the known general
    questions that were lost (from forgetting.py), or the fall of general accuracy, 0 to 1; None where nothing general
    was asked.
    """
    gained, lost, looks, moved = [], [], [], []
    # What was forgotten is told by a test of its own, which asks in one direction only.
    parts = (forgetting or {}).get("parts") or []
    forgotten = {
        part["measure"]: part
        for part in parts
        if isinstance(part, Mapping) and part.get("answer") == "lost" and part.get("decides", True)
    }
    for measure in with_adjusted(measures):
        better = direction(measure, side)
        if better is None and measure["name"] in forgotten:
            better = False
        if better is not None:
            test = forgotten.get(measure["name"]) if better is False else None
            # How far answers moved from the base is change, which need not be for the worse.
            (moved if "kl" in (test or {}) else gained if better else lost).append(_entry(measure, side, test))
        elif is_look(measure, side):
            looks.append(_entry(measure, side))
    return {
        "gained": gained,
        "lost": lost,
        "looks": looks,
        "moved": moved,
        "text": _in_words(gained, lost, looks, moved),
        "forgetting": _share(measures, side, forgetting),
    }


def _entry(measure: Mapping[str, Any], side: str, forgotten: Mapping[str, Any] | None = None) -> dict[str, str]:
    """With the p of the test that names it: that of `forgotten`, which asks whether it fell, where there is one."""
    first = next(iter(measure["values"]))
    difference = (measure.get("differences") or {}).get(side) or {}
    figures = " against ".join(value_text(measure, measure["values"][at]) for at in (side, first))
    change = change_text(measure, side, first)
    p = p_text(difference["p"]) if difference.get("p") is not None else "beyond limits fixed beforehand"
    if forgotten is not None and forgotten.get("p_lost") is not None:
        p = f"{p_text(forgotten['p_lost'])}, one-sided"
    text = f"{measure['title']} {change}: {figures} ({p})"
    return {"name": measure["name"], "title": measure["title"], "change": change, "text": text}


def _in_words(
    gained: Sequence[Mapping[str, str]],
    lost: Sequence[Mapping[str, str]],
    looks: Sequence[Mapping[str, str]],
    moved: Sequence[Mapping[str, str]] = (),
) -> str:
    parts = []
    for word, entries in (("better in", gained), ("worse in", lost), ("answers moved from the base's:", moved)):
        if entries:
            parts.append(f"{word} {_listed(entries)}")
    text = "; ".join(parts)
    if not parts:
        text = "no change is shown"
    elif not lost and not moved:
        text += "; no loss is shown"
    elif not gained:
        text += "; no gain is shown"
    by_itself = f" Below 5% only by itself, so a look and no finding: {_listed(looks)}." if looks else ""
    return f"{text[:1].upper()}{text[1:]}.{by_itself}"


def _listed(entries: Sequence[Mapping[str, str]]) -> str:
    return listed([f"{in_sentence(entry['title'])} ({entry['change']})" for entry in entries])


def _share(measures: Sequence[Mapping[str, Any]], side: str, forgetting: Mapping[str, Any] | None) -> float | None:
    if forgetting is not None and forgetting.get("score") is not None:
        return float(forgetting["score"])
    for measure in measures:
        if measure["name"] in _GENERAL and side in measure["differences"]:
            return max(0.0, -measure["differences"][side]["value"])
    return None
