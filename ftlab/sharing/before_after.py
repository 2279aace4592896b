"""The answers before and after for people: the same figures on every surface."""

from __future__ import annotations

from typing import Any

from ftlab.evaluation.before_after import CONTESTANTS
from ftlab.evaluation.figures import percent
from ftlab.evaluation.significance import p_text

HEADINGS = ("Answers of", "Words", "Tokens", "Cut off", "Repeated", "Variety")
# What each figure means, in the order of the columns.
MEANINGS = (
    "Words, tokens: the mean length of an answer.",
    "Cut off: ran into the longest answer allowed.",
    "Repeated: word triples that the same answer has said before.",
    "Variety: different word pairs among all pairs of all answers; it falls when the answers become alike.",
)


def figure_rows(found: dict[str, Any]) -> list[list[str]]:
    """The table of before_after.json: headings, then a row each for base, start and run."""
    rows = [list(HEADINGS)]
    for name, title in CONTESTANTS.items():
        if name in found["contestants"]:
            one = found["contestants"][name]
            rows.append(
                [
                    title,
                    f"{one['words']:.1f}",
                    f"{one['tokens']:.1f}",
                    percent(one["cut_share"]),
                    percent(one["repetition"]),
                    percent(one["distinct_2"]),
                ]
            )
    return rows


def win_lines(found: dict[str, Any]) -> list[str]:
    """One sentence for each reward model and opponent, each marked as a proxy, and why the judge may be partial."""
    return [line for judged in found["win_rates"].values() for line in lines_of(judged)]


def lines_of(judged: dict[str, Any]) -> list[str]:
    """The sentences on the verdict of one reward model."""
    lines = []
    for name in ("start", "base"):
        if name not in judged["against"]:
            continue
        one, against = judged["against"][name], CONTESTANTS[name]
        decided = one["wins"] + one["losses"]
        low, high = one["difference_interval"]
        tested = f", {p_text(one['difference_p'])}" if "difference_p" in one else ""
        scores = f"Its score is {one['difference']:+.3g} on average ({low:+.3g} to {high:+.3g}{tested})."
        if one["win_rate"] is None:
            lines.append(f"Against {against}: all {one['ties']} answers score the same.")
            continue
        share, (least, most) = percent(one["win_rate"]), map(percent, one["interval"])
        sign = f", {p_text(one['p'])}" if "p" in one else ""
        lines.append(
            f"Against {against}: this run wins {share} of {decided} prompts (95% interval {least} to {most}{sign}), "
            f"with {one['ties']} ties. {scores}"
        )
    return [*lines, f"Judged by {judged['reward_model']}. {judged['proxy']}", *judged["notes"]]
