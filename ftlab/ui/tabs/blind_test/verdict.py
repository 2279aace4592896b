"""The verdict of a blind test on the tab: the sentence, charts, and further analyses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ftlab.arena.ballots import Ballot
from ftlab.arena.results import GroupJson, Neither, PooledJson, TallyJson
from ftlab.arena.verdict import too_few
from ftlab.core.words import counted
from ftlab.evaluation.significance import p_text
from ftlab.report.arena import QUALITY, check_lines, group_rows, method_lines, quality_rows
from ftlab.report.charts import blind_test_charts
from ftlab.ui.kit.html import count, details, facts, heading, join, list_items, notice, percent, table

PAGE = "blind_tests#repeat-a-test-on-fresh-prompts"
_KINDS = {"better": "good", "worse": "bad", "no_worse": "good", "no_difference": "info", "not_enough": "warn"}
_TITLES = {"votes": "Votes", "rates": "Win rate", "evidence": "How the evidence grew"}
_TITLES |= {"strengths": "Chance of winning a vote"}
_CHOICES: dict[Neither, str] = {
    "both_good": "both good",
    "both_bad": "both bad",
    "tie": "identical answers",
    "skip": "skipped",
}


def verdict(tally: TallyJson) -> Markup:
    """The whole verdict as one card, from the result of `tally.evaluate`."""
    kind = _KINDS[tally["verdict"]]
    # With three or more contestants, a loss for one is a win for another, so it gets no color.
    if len(tally["contestants"]) > 2 and tally["verdict"] == "better":
        kind = "info"
    notes = list_items(tally["notes"])
    drawn = join(
        Markup('<figure class="ft-figure"><figcaption>{}</figcaption>{}</figure>').format(_TITLES.get(name, name), svg)
        for name, svg in blind_test_charts(tally).items()
    )
    tested = tally["contestants"][-1]["title"]
    by = [
        ("By topic", tally["by_topic"], 2),
        ("By group of raters", tally["by_group"], 2),
        ("By rater", tally["by_rater"], 1),
        ("By criterion", tally["by_criterion"], 1),
    ]
    groups = join(
        heading(title, f"Against the others, from the side of {tested}: won, lost, tied.") + _groups(rows)
        for title, rows, fewest in by
        if len(rows) >= fewest
    )
    if raters := quality_rows(tally):
        groups += heading("Raters", "Their median time, and how many of how many.", page="raters#how-reliable-they-are")
        groups += table(list(QUALITY), raters, label="Raters", numbers=(1, 2, 3, 4, 5))
    checks = join(Markup("<dt>{}</dt><dd>{}</dd>").format(label, text) for label, text in check_lines(tally) if text)
    method = list_items(method_lines(tally))
    more = join(
        [
            facts(_figures(tally)),
            Markup('<div class="ft-figures">{}</div>').format(drawn),
            _pairs(tally),
            groups,
            heading("What was checked"),
            Markup('<dl class="ft-checks">{}</dl>').format(checks),
            heading("How it was decided"),
            Markup('<ul class="ft-notes">{}</ul>').format(method),
        ]
    )
    # The finding is bold; its figures follow. A name that contains a bracket only ends the bold part early.
    head, *rest = re.split(r"(?<=[.:]) | (?=\()", tally["text"], maxsplit=1)
    return Markup('<section class="ft-card" data-verdict="{}">{}{}{}</section>').format(
        tally["verdict"],
        notice(Markup("<strong>{}</strong> {}").format(head, "".join(rest)), kind=kind),
        Markup('<ul class="ft-notes">{}</ul>').format(notes) if notes else "",
        details("Details: figures, charts, checks", more),
    )


def pooled(result: PooledJson) -> Markup:
    """The verdict of a test and its repetitions together, from the result of `pooling.pool`."""
    rows = [
        (test["title"], count(test["wins"]), count(test["losses"]), count(test["split"]), count(test["votes"]))
        for test in result["tests"]
    ]
    # Like the verdict of one test: the finding is bold, its figures follow.
    head, *rest = re.split(r"(?<=[.:]) | (?=\()", result["text"], maxsplit=1)
    return Markup('<section class="ft-card" data-pooled="{}">{}{}{}<ul class="ft-notes">{}</ul></section>').format(
        result["verdict"],
        heading("With its repetitions", "The evidence of all tests together.", page=PAGE),
        notice(Markup("<strong>{}</strong> {}").format(head, "".join(rest)), kind=_KINDS[result["verdict"]]),
        table(["Test", "Prompts won", "Lost", "Neither", "Votes"], rows, label="Pooled tests", numbers=(1, 2, 3, 4)),
        list_items(result["notes"]),
    )


def comments(ballots: Sequence[Ballot], questions: Mapping[str, str], titles: Mapping[str, str]) -> Markup:
    """What raters wrote, each with its question and the side they chose; empty without comments."""
    words = {"both_good": "both good", "both_bad": "both bad", "skip": "skipped"}
    rows = [
        (questions[vote.prompt], vote.rater, titles.get(vote.winner or "", words.get(vote.choice, "")), vote.comment)
        for vote in ballots
        if vote.comment
    ]
    if not rows:
        return Markup("")
    list_of_them = table(("Question", "Rater", "Chose", "Comment"), rows, label="Comments")
    return details(f"{counted(len(rows), 'comment')} by raters", list_of_them)


def _figures(tally: TallyJson) -> list[tuple[str, Any, str]]:
    votes, counts = tally["votes"], tally["counts"]
    alike = counts["tie"]  # those came by themselves
    of = f"of {count(votes['planned'])} planned" if votes["planned"] and not alike else ""
    rows: list[tuple[str, Any, str]] = [
        ("Votes", count(votes["cast"] - alike), of),
        ("Prompts", count(votes["prompts"]), "1 rater" if votes["raters"] == 1 else f"{count(votes['raters'])} raters"),
    ]
    rows += [
        (f"For {contestant['title']}", count(won := counts["wins"][contestant["id"]]), "vote" if won == 1 else "votes")
        for contestant in tally["contestants"]
    ]
    rows += [
        (word.capitalize(), count(counts[name]), "no rater saw them" if name == "tie" else "votes")
        for name, word in _CHOICES.items()
        if counts[name]
    ]
    if too_few(tally):
        return rows
    if tally["win_rate"] is not None:
        rows.append(
            (
                f"Win rate of {tally['contestants'][1]['title']}",
                percent(tally["win_rate"]),
                _interval(tally["interval"]),
            )
        )
        if tally["general_interval"] and votes["raters"] > 1:
            rows.append(("For raters in general", _interval(tally["general_interval"]), "over raters and prompts"))
    if tally["p"] is not None:
        side = "Exact test of the margin" if tally.get("margin") else "Sign test"
        rows.append((side, p_text(tally["p"]), "over prompts"))
    return rows


def _interval(interval: Sequence[float] | None, before: str = "95%: ") -> str:
    return f"{before}{percent(interval[0])} to {percent(interval[1])}" if interval else ""


def _groups(rows: Sequence[GroupJson]) -> Markup:
    return table(
        ["", "Won", "Lost", "Neither", "Win rate", "95% interval", "p"],
        group_rows(rows),
        label="Win rates",
        numbers=(1, 2, 3, 4, 5, 6),
    )


def _pairs(tally: TallyJson) -> Markup:
    """Every pair of three or more contestants."""
    titles = {contestant["id"]: contestant["title"] for contestant in tally["contestants"]}
    rows = [
        [
            f"{titles[pair['second']]} against {titles[pair['first']]}",
            percent(pair["win_rate"]),
            _interval(pair["interval"], ""),
            count(pair["decided"]),
            "" if pair["p"] is None else p_text(pair["p"]),
        ]
        for pair in tally["pairs"]
    ]
    if not rows:
        return Markup("")
    return table(["Pair", "Win rate", "95% interval", "Votes", "p"], rows, label="Pairs", numbers=(1, 2, 3, 4))
