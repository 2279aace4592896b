"""The verdict of a blind test in words: the sentence, what the evidence is worth, and what to keep in mind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.arena.evidence import FEWEST_RATERS, Decision
from ftlab.evaluation.figures import percent
from ftlab.evaluation.significance import p_text


def sentence(
    result: Mapping[str, Any], decision: Decision, titles: Mapping[str, str], given: int, planned: int | None
) -> str:
    """The verdict on two contestants in one or two sentences. `given` votes of `planned` are in."""
    one, other = titles[result["second"]], titles[result["first"]]
    if not result["decided"]:
        return f"Not enough votes: none chose between {one} and {other} yet."
    rate = f"won {percent(result['win_rate'])} of the {result['decided']:,} votes that chose a side"
    between = f"95% interval {_from_to(result['interval'])}"
    chosen = sum(decision.wins)
    test = f"sign test over {chosen:,} prompts, {p_text(decision.p)}" if result["clustered"] else p_text(decision.p)
    if decision.winner:
        word = "better" if decision.winner == "second" else "worse"
        limited = whom(result["raters_then"], result["raters"])
        if result["general"]:
            limited, between = "", f"95% interval over raters and prompts {_from_to(result['general_interval'])}"
        elif decision.by == "evidence":
            evidence, of = result["evidence"], ""
            if result["clustered"]:
                rate, of = f"{rate}, and {evidence['wins']:,} of {evidence['prompts']:,} prompts", " of prompts"
            between = f"95% interval{of} {_from_to(evidence['interval'])}, whenever one looks"
        if decision.by == "evidence":
            test = f"evidence {odds(result['evidence']['highest'])}"
        if limited and result["raters_then"] < result["raters"]:
            return f"{one} is {word} than {other}{limited} ({test}). By now it has {rate}."
        return f"{one} is {word} than {other}{limited}: it {rate} ({between}; {test})."
    if not decision.reached:
        of = f" of {planned:,} planned" if planned else ""
        return f"Not enough votes: {given:,}{of} are in. So far {one} {rate} ({between}), which decides nothing yet."
    if chosen < result["fewest"]:
        return (
            f"Not enough votes that chose a side: the raters preferred one of the two on {chosen} prompts, "
            f"and no test finds a difference in fewer than {result['fewest']}."
        )
    return f"No difference found between {one} and {other}: {one} {rate} ({between}; {test})."


def whom(raters: int, of: int) -> str:
    """Whom a verdict speaks of that holds for its raters only, as it follows what was found. `raters` had voted when it
    was decided, `of` have by now."""
    if raters < of:
        who = "rater" if raters == 1 else f"{raters:,} raters"
        return f" for the {who} who had voted when it was decided"
    return " for this rater" if raters == 1 else f" for these {raters:,} raters"


def evidence_text(result: Mapping[str, Any], decision: Decision) -> str:
    """What the evidence is, and what it would have to be, in one or two sentences."""
    now, highest = result["evidence"]["now"], result["evidence"]["highest"]
    if not decision.evidence:
        return "No prompt has all its votes yet, so there is no evidence."
    prompts = "1 prompt" if len(decision.evidence) == 1 else f"{len(decision.evidence):,} prompts"
    text = f"After {prompts} the evidence for a difference is {odds(now)}"
    if highest > 1.5 * now:
        text += f" (highest {odds(highest)})"
    if decision.crossed_at is not None:
        return f"{text}. It passed {decision.threshold:g} to 1 after {decision.crossed_at:,} votes."
    return f"{text}; from {decision.threshold:g} to 1 on it decides, however often one looks."


def odds(value: float) -> str:
    """A ratio as odds: 24 to 1, 1 to 3.2, more than 10,000 to 1."""
    if value >= 1e4:
        return "more than 10,000 to 1"
    if value >= 1:
        return f"{value:,.0f} to 1" if value >= 9.95 else f"{value:.1f} to 1"
    return f"1 to {1 / value:.1f}" if value > 0.01 else "1 to more than 100"


def notes(found: Mapping[str, Any], opened_early: int | None, left_out: int, closed_unseen: bool = False) -> list[str]:
    """What to keep in mind when reading the verdict."""
    said = []
    votes = found["votes"]
    cast, planned, raters = votes["cast"], votes["planned"], votes["raters"]
    if opened_early is not None:
        of = f" of {planned:,} planned" if planned else ""
        said.append(
            f"The tally was opened early, after {opened_early:,}{of} votes. The verdict allows for that: before the "
            "planned number only the evidence decides. The win rate of a test that ended early leans to the extreme."
        )
    if closed_unseen and planned and cast < planned:
        said.append(
            f"Closed after {cast:,} of {planned:,} planned votes, before anybody saw the tally: the test holds, and "
            "has less power than was planned."
        )
    if left_out:
        prompts = "1 prompt was" if left_out == 1 else f"{left_out:,} prompts were"
        said.append(f"{prompts} left out: a contestant was trained on it, so votes on it would show memory.")
    busiest = max(found["by_rater"], key=lambda row: row["votes"], default=None)
    if raters == 1:
        said.append("One rater voted: the verdict says what this person prefers.")
    else:
        said += _general(found)
        if found["between_raters"]["text"]:
            said.append(found["between_raters"]["text"])
    if raters > 1 and busiest and cast > 6 and busiest["votes"] > 0.6 * cast:
        share = percent(round(busiest["votes"] / cast, 2))
        said.append(f"{busiest['name']} gave {share} of the votes: the verdict says mostly what this rater prefers.")
    if planned and cast > planned:
        came = "1 vote came" if cast - planned == 1 else f"{cast - planned:,} votes came"
        said.append(f"{came} after the planned number: counted in the win rate, not in the test.")
    if (found["ties"]["share"] or 0) > 0.5 and votes["decided"]:
        said.append("More than half of the votes chose neither answer: the verdict rests on the others.")
    if found["length"]["confounded"]:
        said.append("Length may explain part of the preference: see what is said of it below.")
    return said


def listing(names: Sequence[str]) -> str:
    """Names as a sentence lists them: a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _general(found: Mapping[str, Any]) -> list[str]:
    """Why a verdict that one is better speaks of these raters only."""
    if found["verdict"] not in ("better", "worse") or found["general"]:
        return []
    raters, interval = found["votes"]["raters"], found.get("general_interval")
    if raters < FEWEST_RATERS:
        return [f"{raters:,} raters are too few to speak for raters in general: that takes {FEWEST_RATERS} or more."]
    if not found["pairs"] and interval is None:
        return ["It was decided before the planned number of votes, so it speaks of these raters only."]
    over = f" (95% interval over raters and prompts {_from_to(interval)})" if interval else ""
    return [f"Whether raters in general would prefer it, these votes cannot tell{over}."]


def _from_to(interval: Sequence[float]) -> str:
    return f"{_share(interval[0])} to {_share(interval[1])}"


def _share(value: float) -> str:
    return percent(round(value, 3))
