"""The judgement of another model for people: the same words on every surface."""

from __future__ import annotations

from typing import Any

from ftlab.evaluation.figures import percent
from ftlab.evaluation.judge import is_current
from ftlab.evaluation.judge_plan import money
from ftlab.files import read_json
from ftlab.run_directory import RunDirectory

STALE = "The answers have changed since. Judge them again."


def judgements_of(run: RunDirectory) -> list[tuple[str, str]]:
    """What judges said of the answers as they are now, the last two: pairs of label and text for a report."""
    kept = (read_json(run.judged_file) or {"judgements": []})["judgements"]
    return [
        (f"Judged by {one['judge']['model']}", f"{one['text']} {one['proxy']}")
        for one in [one for one in kept if is_current(run, one)][-2:]
    ]


def lines_of(judgement: dict[str, Any], *, current: bool = True) -> list[str]:
    """The sentences on one judgement: its verdict first, then who said so and how far it can be trusted."""
    place, tokens = judgement["position"], judgement["tokens"]
    decided = f"{judgement['judged']} of {judgement['rows']} rows"
    same = f", {judgement['same_answers']} of them with equal answers" if judgement["same_answers"] else ""
    lines = [judgement["text"]]
    if not current:
        lines.append(STALE)
    lines.append(
        f"Judged by {judgement['judge']['model']} at {judgement['judge']['url']}: {decided}{same}. {judgement['proxy']}"
    )
    if place["share"] is not None:
        lines.append(
            f"Asked in both orders, it stood by its choice in {percent(place['share'])} of {place['rows']} rows."
        )
    spent = f"{judgement['requests']:,} requests, {tokens['prompt']:,} tokens out, {tokens['completion']:,} back"
    if judgement["cost"] is not None:
        spent += f": {money(judgement['cost'])}"
    return [*lines, f"{spent}.", *judgement["notes"]]


def figure_rows(judgement: dict[str, Any]) -> list[tuple[str, str]]:
    """Wins, ties and losses as a small table."""
    before, after = (judgement["titles"][side] for side in judgement["sides"])
    return [
        (f"{after} is better", str(judgement["wins"])),
        ("Tie", str(judgement["ties"])),
        (f"{before} is better", str(judgement["losses"])),
    ]
