"""A model as judge of two answers: both orders, stored verdicts, agreement, and the caveats."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ftlab.core.endpoint import Asker, Replied, Reply, Request, cost
from ftlab.core.files import append_jsonl, end_last_line, locked, write_json
from ftlab.core.jobs import Stopped
from ftlab.core.run_directory import RunDirectory
from ftlab.core.run_results import JudgedLineJson, JudgementJson
from ftlab.core.words import counted
from ftlab.errors import FtlabError, shorten
from ftlab.evaluation.batches import Progress, silent
from ftlab.evaluation.figures import percent
from ftlab.evaluation.judge_plan import (
    JudgeRequest,
    JudgeSettings,
    answered_rows,
    answers_digest,
    known_lines,
    questions,
    read_choice,
    same_answers,
    sides_of,
)
from ftlab.evaluation.significance import LEVEL, mcnemar, p_text, share_interval

PROXY = "A proxy: it is another model's opinion, not people's."
TIE = "tie"
_RULE = (
    "Each row is judged twice, with the answers in both orders. If the two disagree, or the answers are equal, it "
    "is a tie. The win rate is the share of wins among the decided rows."
)
_NARROW = 0.7  # below this share of rows judged alike in both orders, the judge is unreliable
_FEW = 20


def summarise(
    rows: Sequence[dict[str, Any]],
    asked: Sequence[JudgeRequest],
    lines: Mapping[str, JudgedLineJson],
    settings: JudgeSettings,
    titles: Mapping[str, str],
    answers: str = "",
) -> JudgementJson:
    """One judgment: wins, ties and losses of the second side, their test, and how far the judge can be trusted.

    `lines` are the answered requests by key, `answers` is the digest of the judged answers. Rows with an unanswered
    order are counted as `open`, those with a reply that names no choice as `unreadable`; all other figures ignore both.
    """
    from scipy.stats import binomtest

    before, after = settings.sides
    by_row: dict[int, list[JudgedLineJson | None]] = {}
    for question in asked:
        by_row.setdefault(question.row, []).append(lines.get(question.key))
    counts = dict.fromkeys((before, after, TIE), 0)
    signs: list[tuple[float, Any]] = []  # of the decided rows, and the cluster of each
    places, alike, longer, unreadable, open_ = [0, 0], 0, [0, 0], 0, 0
    for row in rows:
        if same_answers(row, settings):
            counts[TIE] += 1
            continue
        pair = by_row[row["row"]]
        if any(line is None for line in pair):
            open_ += 1
            continue
        choices = [choice for line in pair if line and (choice := line["choice"]) is not None]
        if len(choices) < len(pair):
            unreadable += 1
            continue
        first, second = choices
        alike += first == second
        counts[first if first == second else TIE] += 1
        if first == second != TIE:
            signs.append((1.0 if first == after else -1.0, row.get("cluster", f"row {row['row']}")))
        if {first, second} == {before, after}:
            # The first of the pair showed `before` first: whichever answer was chosen there reveals the preferred
            # position.
            places[first == after] += 1
        if first == second != TIE and len(row[before]) != len(row[after]):
            longer[len(row[first]) == max(len(row[before]), len(row[after]))] += 1
    wins, losses = counts[after], counts[before]
    judged, decided = sum(counts.values()), wins + losses
    answered = [lines[question.key] for question in asked if question.key in lines]
    tokens = {
        "prompt": sum(line.get("prompt_tokens") or 0 for line in answered),
        "completion": sum(line.get("completion_tokens") or 0 for line in answered),
    }
    won, clusters = [sign > 0 for sign, _ in signs], [cluster for _, cluster in signs]
    p = mcnemar([not value for value in won], won, clusters)
    compared = judged - (len(rows) - len(asked) // 2)
    judgement: JudgementJson = {
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
        "cost": cost(tokens["prompt"], tokens["completion"], settings.price_in, settings.price_out),
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
        "text": "",
        "notes": [],
        "answers": answers,
    }
    judgement["text"], judgement["notes"] = _verdict(judgement), _notes(judgement)
    return judgement


def _verdict(judgement: JudgementJson) -> str:
    before, after = (judgement["titles"][side] for side in judgement["sides"])
    decided = judgement["wins"] + judgement["losses"]
    if not judgement["judged"]:
        return "Nothing is judged yet."
    rate, interval = judgement["win_rate"], judgement["interval"]
    if rate is None or interval is None:
        return f"The judge prefers neither: all {judgement['ties']} rows are ties."
    low, high = map(percent, interval)
    evidence = (
        f"{after} wins {percent(rate)} of {counted(decided, 'decided row')} "
        f"(95% interval {low} to {high}, {p_text(judgement['p'])}), {counted(judgement['ties'], 'tie')}"
    )
    if judgement["better"] is None:
        return f"The judge shows no clear preference: {evidence}."
    return f"The judge prefers {after if judgement['better'] else before}: {evidence}."


def _notes(judgement: JudgementJson) -> list[str]:
    """Caveats of the judgment."""
    notes, place, longer = [], judgement["position"], judgement["longer"]
    if judgement["open"]:
        notes.append(f"{judgement['open']} of {judgement['rows']} rows are not judged yet. Start again to continue.")
    if judgement["unreadable"]:
        notes.append(
            f"{judgement['unreadable']} rows were left out: a reply named no choice, or the endpoint refused the "
            "request. A longer reply may help."
        )
    if place["share"] is not None and place["share"] < _NARROW:
        notes.append(
            f"Swapping the answers changed the judge's mind in {place['rows'] - place['alike']} of {place['rows']} "
            "rows, which count as ties: use another judge."
        )
    if place["first"] + place["second"] and place["p"] < LEVEL:
        where = "first" if place["first"] > place["second"] else "second"
        most, both = max(place["first"], place["second"]), place["first"] + place["second"]
        notes.append(
            f"The judge favors the answer it reads {where}: {most} of {both} rows "
            f"in which the orders disagreed ({p_text(place['p'])}). Both orders were asked, so this evens out."
        )
    if longer["rows"] >= _FEW and not 0.25 <= longer["won"] / longer["rows"] <= 0.75:
        which = "longer" if longer["won"] * 2 > longer["rows"] else "shorter"
        count = longer["won"] if which == "longer" else longer["rows"] - longer["won"]
        notes.append(
            f"The {which} answer won in {count} of {longer['rows']} decided rows: is it better, or only {which}?"
        )
    return notes


PHASE = "the judge compares the answers"
_LONGEST_KEPT = 4000  # characters of a reply
_FIRST_WITHOUT_CHOICE = 6  # replies


def judge_by_endpoint(
    run: RunDirectory,
    settings: JudgeSettings,
    *,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> JudgementJson:
    """Ask the judge about every row that it has not judged yet. Returns the judgment, which is added to judged.json.

    Each answer is stored as it arrives: after a stop or a failure, the same call continues from there. Raises
    FtlabError if the endpoint cannot be used or this run is already being judged elsewhere, and Stopped.
    """
    rows = answered_rows(run, settings)
    asked = questions(rows, settings)
    with locked(run.judging_lock, wait=False) as mine:
        if not mine:
            raise FtlabError(f"The answers of {run.id} are already being judged", try_="wait, or stop that judge")
        known = known_lines(run)
        lines = {question.key: known[question.key] for question in asked if question.key in known}
        left = [question for question in asked if question.key not in known]
        tell = progress or silent
        tell(PHASE, len(lines), len(asked))
        end_last_line(run.judged_answers_file)
        try:
            for line in replies_of(left, settings, should_stop or (lambda: False), fresh=not lines):
                append_jsonl(run.judged_answers_file, {"judgement": settings.id, **line})
                lines[line["key"]] = line
                tell(PHASE, len(lines), len(asked))
        finally:
            digest = answers_digest(run, settings.sides)
            judgement = summarise(rows, asked, lines, settings, sides_of(run), digest)
            if judgement["judged"]:
                _keep(run, judgement)
    return judgement


def is_current(run: RunDirectory, judgement: JudgementJson) -> bool:
    """Whether the judged answers are the ones stored now."""
    return judgement["answers"] == answers_digest(run, judgement["sides"])


def replies_of(
    left: list[JudgeRequest], settings: JudgeSettings, should_stop: Callable[[], bool], *, fresh: bool
) -> Iterator[JudgedLineJson]:
    """One line per question, in the order in which replies arrive. Raises the error that ended it early, if any.

    `fresh`: this judge has not made a choice yet, so it is abandoned if its first replies hold none.
    """
    asker = Asker(settings.endpoint, threading.Event())
    questions = {question.key: question for question in left}
    done = without = 0
    useless: list[FtlabError] = []
    requests = [Request(question.key, question.messages) for question in left]
    try:
        for replied in asker.ask_all(
            requests, at_once=settings.at_once, should_stop=lambda: bool(useless) or should_stop()
        ):
            line = _line(replied, questions[replied.key])
            done, without = done + 1, without + (line["choice"] is None)
            yield line
            if fresh and done == without == min(_FIRST_WITHOUT_CHOICE, len(left)):
                useless.append(_no_choice(line, settings))
    finally:
        asker.close()
    if useless:
        raise useless[0]
    if done < len(left):
        raise Stopped


def _line(replied: Replied, question: JudgeRequest) -> JudgedLineJson:
    """One request as a stored line."""
    reply = replied.reply or Reply(replied.refused, None, None, False)
    choice = None if replied.reply is None else read_choice(reply.text)
    chosen = None if choice is None else TIE if choice < 0 else question.order[choice]
    return {
        "key": question.key,
        "row": question.row,
        "order": list(question.order),
        "choice": chosen,
        "reply": shorten(reply.text, _LONGEST_KEPT),
        "refused": replied.reply is None,
        "cut": reply.cut,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "seconds": round(replied.seconds, 3),
        "created": time.time(),
    }


def _no_choice(line: JudgedLineJson, settings: JudgeSettings) -> FtlabError:
    if line["refused"]:
        return FtlabError(line["reply"])
    what = f"{settings.endpoint.model} does not say which answer is better"
    if line["cut"]:
        longer = f"its replies are cut at {settings.endpoint.max_tokens} tokens: allow longer replies"
        return FtlabError(what, why=f"The last reply: {shorten(line['reply']) or 'empty'}", try_=longer)
    why = f"It should have returned a JSON object. The last reply: {shorten(line['reply']) or 'empty'}"
    return FtlabError(what, why=why, try_="a more capable model")


def _keep(run: RunDirectory, judgement: JudgementJson) -> None:
    others = [other for other in run.judgements() if other["id"] != judgement["id"]]
    write_json(run.judged_file, {"judgements": [judgement, *others]})
