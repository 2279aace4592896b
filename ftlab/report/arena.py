"""The verdict of a blind test on one page, for decision makers: printable, without scripts or external requests."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftlab.arena.blind_tests import get_test, list_contestants, list_prompts
from ftlab.arena.evidence import EARLY_LEVEL, FEWEST_RATERS, PLANNED_LEVEL, fewest_prompts
from ftlab.arena.power import plan_in_words
from ftlab.arena.preferences import RULE, ExampleJson, examples
from ftlab.arena.results import GroupJson, TallyJson
from ftlab.arena.store import Store
from ftlab.arena.tally import evaluate
from ftlab.arena.verdict import points_text, whom
from ftlab.core.files import write_text
from ftlab.core.words import counted
from ftlab.errors import InputError
from ftlab.evaluation.figures import percent
from ftlab.evaluation.significance import p_text
from ftlab.report.charts import blind_test_charts
from ftlab.report.measures import render_page

_LONGEST = 600
BADGES = {
    "better": ("better", "Better"),
    "worse": ("worse", "Worse"),
    "no_worse": ("better", "No worse"),
    "no_difference": ("open", "No difference found"),
    "not_enough": ("open", "Not enough votes"),
}


def write_arena_report(store: Store, test_id: str, path: Path | None = None) -> Path:
    """Write the report of a blind test. Returns its path (by default next to the test's votes in the workspace).

    Raises InputError while the tally is hidden.
    """
    tally = evaluate(store, test_id)
    if tally["revealed"] is None:
        raise InputError(
            "The votes are still hidden",
            given=f"{tally['votes']['cast']} of {tally['votes']['planned']} planned votes cast",
            try_="wait for the planned number, or open the test early, which the report will mention",
        )
    path = path or store.workspace.votes_folder(test_id) / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, _page(store, test_id, tally))
    return path


def badge(tally: TallyJson) -> tuple[str, str]:
    """The color and the label of a verdict."""
    colour, words = BADGES[tally["verdict"]]
    if tally["winner"] and tally["pairs"]:
        colour, words = "better", "One is better than all others"
    if margin := tally.get("margin"):
        words += f" by more than {points_text(margin)}" if tally["verdict"] in ("worse", "no_worse") else ""
        words = "Cannot tell" if tally["verdict"] == "not_enough" else words
    limited = (tally["winner"] is not None or tally["verdict"] == "no_worse") and not tally["general"]
    return colour, words + (whom(tally["raters_then"], tally["raters"]) if limited else "")


def group_rows(rows: Sequence[GroupJson]) -> list[list[str]]:
    """Win rates by topic, rater or criterion as a table: name, won, lost, neither, win rate, interval, p. Too few votes
    for any test are only counted."""
    table = []
    for row in rows:
        figures = ["", "", ""]
        if row["win_rate"] is not None and row["wins"] + row["losses"] >= fewest_prompts(1):
            p = row.get("p_adjusted")
            figures = [percent(round(row["win_rate"], 3)), _interval(row["interval"]), "" if p is None else p_text(p)]
        table.append([row["name"], f"{row['wins']:,}", f"{row['losses']:,}", f"{row['ties']:,}", *figures])
    return table


QUALITY = ("Rater", "Votes", "Seconds a vote", "Attention items", "Repeated alike", "Agrees with others", "")


def quality_rows(tally: TallyJson) -> list[list[str]]:
    """The reliability of each rater, with the columns QUALITY: the median time, and how many of how many. Empty for
    fewer than two raters without control items."""
    rows = tally["quality"]
    if len(rows) < 2 and not any(row["attention"][1] + row["consistency"][1] for row in rows):
        return []
    return [
        [
            row["rater"],
            f"{row['votes']:,}",
            f"{row['seconds']:.0f}" if row["seconds"] is not None else "",
            *(f"{times:,} of {of:,}" if of else "" for times, of in (row["attention"], row["consistency"])),
            f"{row['agreement'][0]:,} of {row['agreement'][1]:,}" if row["agreement"][1] else "",
            "excluded" if row["excluded"] else "",
        ]
        for row in rows
    ]


def check_lines(tally: TallyJson) -> list[tuple[str, str]]:
    """The checks, as pairs of label and sentence."""
    lines = [("Ties", tally["ties"]["text"]), ("Agreement of raters", tally["alpha"]["text"])]
    lines += [("Side of the screen", tally["position"]["text"]), ("Length of answers", tally["length"]["text"])]
    if judged := tally.get("corrected"):
        early = tally["revealed"] in ("early", "evidence")
        caveat = (
            " It is meant for one look at the planned number of votes, and this test ended before." if early else ""
        )
        lines.append(("With a judge that votes correct", judged["text"] + caveat))
    if style := tally.get("style"):
        lines.append(("With equal style", style["text"]))
    lines += [("Could raters tell", tally["guesses"]["text"])]
    if plan := tally.get("registered"):
        when = datetime.datetime.fromtimestamp(plan["at"], datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        now = "It has not changed since." if plan["kept"] else "It is no longer the same: the verdict is exploratory."
        lines.append(("Plan", f"Registered {when}, before the first vote (SHA-256 {plan['sha256'][:16]}…). {now}"))
    return lines


def method_lines(tally: TallyJson) -> list[str]:
    """How the verdict was reached, in sentences with sources."""
    prompts = counted(_seen_prompts(tally), "prompt")
    made = "Raters wrote the prompts and saw both answers once both were complete" if tally["live"] else ""
    made = made or "Answers were generated once, before anyone voted"
    rule = (
        f"The 5% false positive rate is split: {percent(PLANNED_LEVEL)} for the exact two-sided sign test at the "
        f"planned number, {percent(EARLY_LEVEL)} for evidence that stays valid however often you check (beta-binomial "
        "mixture, Robbins 1970; Ville 1939)."
    )
    of_raters = (
        "A verdict without “for these raters” also passed a test that treats raters as a sample, with "
        f"{FEWEST_RATERS} or more of them: sign flips of their net votes (Fisher 1935), and an interval over raters "
        "and prompts that excludes 50%."
    )
    if margin := tally.get("margin"):
        rule = (
            f"“No worse” was planned before the first vote: a win rate above {percent(0.5 - margin / 100)} of the "
            f"prompts that chose a side. Its 5% is split: {percent(PLANNED_LEVEL)} for a one-sided exact binomial test "
            f"at the planned number, {percent(EARLY_LEVEL)} for evidence that stays valid however often you check "
            "(beta-binomial mixture over the rates above). Worse by more is tested in the same way."
        )
        of_raters = "A margin is tested for the raters who voted."
    return [
        f"{_raters(tally)} judged pairs of answers to {prompts} without knowing their source. Sides were balanced "
        f"for each rater and mirrored between raters. {made}, with the same settings for all.",
        "The unit is the prompt: the majority of its votes counts once, because votes on a prompt are not "
        "independent. The verdict applies to prompts like these.",
        rule,
        of_raters,
        "Intervals: 95%, over prompts, and by criterion over raters too: Wilson (1927) at the effective number of "
        "votes (Korn and Graubard 1998), jackknife by cluster (MacKinnon, Nielsen and Webb 2024). p by topic and "
        "rater: adjusted by Holm (1979). Agreement: Krippendorff's alpha, nominal. Three contestants or more: Bradley "
        "and Terry (1952), pairs by Bonferroni. By scipy and evalica.",
    ]


def _page(store: Store, test_id: str, tally: TallyJson) -> str:
    return render_page(
        "arena_report.html.jinja",
        tally=tally,
        badge=badge(tally),
        facts=_facts(store, test_id, tally),
        pictures=blind_test_charts(tally),
        dot=f"Each dot is the share that {tally['contestants'][-1]['title']} won of the votes that chose a side; the "
        "line is its 95% interval, the number is its votes.",
        checks=check_lines(tally),
        pairs=_pairs(tally),
        ranking=_ranking(tally),
        groups=_groups(tally),
        quality=quality_rows(tally),
        quality_heads=QUALITY,
        examples=[_clipped(example) for example in examples(store, test_id)],
        rule=RULE,
        method=method_lines(tally),
        plan=_plan(store, test_id, tally),
        date=_date(tally["created"]),
        tested=tally["contestants"][-1]["title"],
    )


def _facts(store: Store, test_id: str, tally: TallyJson) -> list[tuple[str, str]]:
    test, titles = get_test(store, test_id), list_contestants(store, test_id)
    settings = test.settings
    facts = [(contestant.title, contestant_in_words(contestant.spec)) for contestant in titles]
    made = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings["generation"].items())
    votes = tally["votes"]
    topics = {prompt.topic for prompt in list_prompts(store, test_id) if prompt.topic}
    asked = f"{_seen_prompts(tally):,} judged" + (f", of {len(topics)} topics" if len(topics) > 1 else "")
    if settings.get("conversations"):
        asked += ", as conversations: every contestant answered each turn of the user"
    if gone := settings.get("gave_away"):
        asked += f"; {gone:,} left out before the start, as an answer could reveal its side"
    alike = tally["counts"]["tie"]  # those came by themselves
    of = f"{votes['cast'] - alike:,}"
    if alike:
        of += f", and {alike:,} ties between answers that were the same, which no rater saw"
    elif votes["planned"]:
        of += f" of {votes['planned']:,} planned"
    facts += [("Answers", made), ("Prompts", asked), ("Votes", f"{of}, by {_raters(tally)}")]
    return [(label, text) for label, text in facts if text]


def _plan(store: Store, test_id: str, tally: TallyJson) -> str:
    """What the planned number of votes can show, given the share of ties. Empty without a plan."""
    settings, votes = get_test(store, test_id).settings, tally["votes"]
    if not votes["planned"] or tally["live"]:
        return ""
    ties = round(min(tally["ties"]["share"] or 0.0, 0.9), 2)
    shape = settings["votes_per_prompt"], ties, settings["overlap"], len(tally["contestants"])
    return plan_in_words(votes["planned"], tally["asked"], *shape, margin=settings.get("margin", 0.0))


def _seen_prompts(tally: TallyJson) -> int:
    """The prompts on which raters were asked: with two contestants, those whose answers differ."""
    alike = tally["ties"]["identical_prompts"] if len(tally["contestants"]) == 2 else 0
    return tally["votes"]["prompts"] - alike


def _raters(tally: TallyJson) -> str:
    raters = tally["votes"]["raters"]
    return "1 rater" if raters == 1 else f"{raters:,} raters"


def contestant_in_words(spec: Mapping[str, Any]) -> str:
    """A contestant described in one line."""
    named = {"base": spec.get("base"), "run": spec.get("run"), "endpoint": spec.get("model") or spec.get("url")}
    words = {"base": "base", "run": "run", "endpoint": "endpoint"}
    text = f"{words.get(spec['kind'], spec['kind'])} {named.get(spec['kind']) or ''}".strip()
    if spec.get("system_prompt"):
        text += f", system prompt “{_clip(str(spec['system_prompt']), 120)}”"
    if spec.get("examples"):
        text += f", {len(spec['examples'])} examples in the prompt"
    if spec.get("adapter_sha256"):
        text += f", adapter {str(spec['adapter_sha256'])[:12]}"
    if spec.get("strength") is not None:
        text += f", strength {spec['strength']:g}"
    return text


def _pairs(tally: TallyJson) -> list[list[str]]:
    titles = {contestant["id"]: contestant["title"] for contestant in tally["contestants"]}
    return [
        [
            f"{titles[pair['second']]} against {titles[pair['first']]}",
            percent(round(pair["win_rate"], 3)) if pair["win_rate"] is not None else "",
            _interval(pair["interval"]),
            f"{pair['decided']:,}",
            p_text(pair["p"]) if pair["p"] is not None else "",
            BADGES[pair["verdict"]][1],
        ]
        for pair in tally["pairs"]
    ]


def _ranking(tally: TallyJson) -> list[list[str]]:
    return [
        [
            row["title"],
            percent(round(row["strength"], 3)),
            _interval(row["interval"]),
            f"{row['wins']:,}",
            f"{row['losses']:,}",
            f"{row['ties']:,}",
        ]
        for row in tally["ranking"]
    ]


def _groups(tally: TallyJson) -> list[tuple[str, list[list[str]]]]:
    groups = [
        ("Topic", tally["by_topic"], 2),
        ("Group of raters", tally["by_group"], 2),
        ("Rater", tally["by_rater"], 2),
        ("Criterion", tally["by_criterion"], 1),
    ]
    return [(title, group_rows(rows)) for title, rows, fewest in groups if len(rows) >= fewest]


def _interval(interval: list[float] | None) -> str:
    return f"{percent(round(interval[0], 3))} to {percent(round(interval[1], 3))}" if interval else ""


def _clipped(example: ExampleJson) -> ExampleJson:
    return {
        "kind": example["kind"],
        "prompt": _clip(example["prompt"]),
        "answers": [{"title": answer["title"], "text": _clip(answer["text"])} for answer in example["answers"]],
        "comments": [_clip(comment, 200) for comment in example["comments"]],
    }


def _clip(text: str, most: int = _LONGEST) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _date(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds)
    return f"{moment.day} {moment:%B %Y}"
