"""From the choices of a judge to a win rate: both orders of a row count once, and where they disagree it is a tie."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.evaluation.figures import percent
from ftlab.evaluation.judge_plan import JudgeSettings, Question, cost, same_answers
from ftlab.evaluation.significance import LEVEL, mcnemar, p_text, share_interval

PROXY = "A proxy: it is another model's opinion, not people's."
TIE = "tie"
_RULE = (
    "Each row is judged twice, with the answers in both orders. Where the two disagree, or the answers are equal, it "
    "is a tie. The win rate is the share of wins among the decided rows."
)
_NARROW = 0.7  # below this share of rows judged alike in both orders, the judge is hardly one
_FEW = 20


def summarise(
    rows: Sequence[dict[str, Any]],
    asked: Sequence[Question],
    lines: Mapping[str, dict[str, Any]],
    settings: JudgeSettings,
    titles: Mapping[str, str],
) -> dict[str, Any]:
    """One judgement: wins, ties and losses of the second side, their test, and how far the judge can be trusted.

    `lines` are the answered requests by key. Rows with an order that is still open are counted as `open`, those with a
    reply that names no choice as `unreadable`; neither is part of anything else.
    """
    from scipy.stats import binomtest

    before, after = settings.sides
    by_row: dict[int, list[dict[str, Any] | None]] = {}
    for question in asked:
        by_row.setdefault(question.row, []).append(lines.get(question.key))
    counts = dict.fromkeys((before, after, TIE), 0)
    signs: list[tuple[float, Any]] = []  # of the rows that are decided, and what each belongs to
    places, alike, longer, unreadable, open_ = [0, 0], 0, [0, 0], 0, 0
    for row in rows:
        if same_answers(row, settings):
            counts[TIE] += 1
            continue
        pair = by_row[row["row"]]
        if any(line is None for line in pair):
            open_ += 1
            continue
        choices = [line["choice"] for line in pair if line]
        if None in choices:
            unreadable += 1
            continue
        alike += choices[0] == choices[1]
        counts[choices[0] if choices[0] == choices[1] else TIE] += 1
        if choices[0] == choices[1] != TIE:
            signs.append((1.0 if choices[0] == after else -1.0, row.get("cluster", f"row {row['row']}")))
        if set(choices) == {before, after}:
            # The first of the pair showed `before` first: whoever was chosen there says which place was preferred.
            places[choices[0] == after] += 1
        if choices[0] == choices[1] != TIE and len(row[before]) != len(row[after]):
            longer[len(row[choices[0]]) == max(len(row[before]), len(row[after]))] += 1
    wins, losses = counts[after], counts[before]
    judged, decided = sum(counts.values()), wins + losses
    answered = [lines[question.key] for question in asked if question.key in lines]
    tokens = {name: sum(line.get(f"{name}_tokens") or 0 for line in answered) for name in ("prompt", "completion")}
    won, clusters = [sign > 0 for sign, _ in signs], [cluster for _, cluster in signs]
    p = mcnemar([not value for value in won], won, clusters)
    compared = judged - (len(rows) - len(asked) // 2)
    found = {
        "id": settings.id,
        "created": time.time(),
        "judge": {"url": settings.endpoint.url, "model": settings.endpoint.model},
        "sides": [before, after],
        "titles": {side: titles.get(side, side) for side in (before, after)},
        "rows": len(rows),
        "judged": judged,
        "complete": not open_,
        "wins": wins,
        "ties": counts[TIE],
        "losses": losses,
        "same_answers": len(rows) - len(asked) // 2,
        "unreadable": unreadable,
        "open": open_,
        "win_rate": wins / decided if decided else None,
        "interval": share_interval(won, clusters),
        "p": p,
        "test": "exact sign test on the decided rows",
        "better": (wins > losses) if decided and p < LEVEL else None,
        "position": {
            "alike": alike,
            "rows": compared,
            "share": alike / compared if compared else None,
            "first": places[0],
            "second": places[1],
            "p": float(binomtest(places[0], sum(places)).pvalue) if sum(places) else 1.0,
        },
        "longer": {"won": longer[1], "rows": sum(longer)},
        "requests": len(answered),
        "tokens": tokens,
        "cost": cost(tokens["prompt"], tokens["completion"], settings),
        "rule": _RULE,
        "proxy": PROXY,
        "settings": {
            "criteria": settings.criteria,
            "reference": settings.reference,
            "rows": settings.rows,
            "max_tokens": settings.endpoint.max_tokens,
            "price_in": settings.price_in,
            "price_out": settings.price_out,
        },
    }
    return found | {"text": _verdict(found), "notes": _notes(found)}


def _verdict(found: dict[str, Any]) -> str:
    before, after = (found["titles"][side] for side in found["sides"])
    decided = found["wins"] + found["losses"]
    if not found["judged"]:
        return "Nothing is judged yet."
    if not decided:
        return f"The judge prefers neither: all {found['ties']} rows are ties."
    evidence = (
        f"{after} wins {percent(found['win_rate'])} of {decided} decided rows "
        f"(95% interval {percent(found['interval'][0])} to {percent(found['interval'][1])}, {p_text(found['p'])}), "
        f"{found['ties']} ties"
    )
    if found["better"] is None:
        return f"The judge shows no clear preference: {evidence}."
    return f"The judge prefers {after if found['better'] else before}: {evidence}."


def _notes(found: dict[str, Any]) -> list[str]:
    """What speaks against the judgement, or limits it."""
    notes, place, longer = [], found["position"], found["longer"]
    if found["open"]:
        notes.append(f"{found['open']} of {found['rows']} rows are not judged yet. Start again to go on.")
    if found["unreadable"]:
        notes.append(
            f"{found['unreadable']} rows were left out: a reply named no choice, or the endpoint refused the request. "
            "A longer reply may help."
        )
    if place["share"] is not None and place["share"] < _NARROW:
        notes.append(
            f"Swapping the answers changed the judge's mind in {place['rows'] - place['alike']} of {place['rows']} "
            "rows, which count as ties: take another judge."
        )
    if place["first"] + place["second"] and place["p"] < LEVEL:
        where = "first" if place["first"] > place["second"] else "second"
        notes.append(
            f"The judge favours the answer it reads {where}: {place[where]} of {place['first'] + place['second']} rows "
            f"in which the orders disagreed ({p_text(place['p'])}). Both orders were asked, so this evens out."
        )
    if longer["rows"] >= _FEW and not 0.25 <= longer["won"] / longer["rows"] <= 0.75:
        which = "longer" if longer["won"] * 2 > longer["rows"] else "shorter"
        count = longer["won"] if which == "longer" else longer["rows"] - longer["won"]
        notes.append(
            f"The {which} answer won in {count} of {longer['rows']} decided rows: is it better, or only {which}?"
        )
    return notes
