"""A folder that lets anyone check the verdict of a blind test: anonymous votes, plan, verdict and a script."""

from __future__ import annotations

import csv
import io
import string
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ftlab.arena import recompute
from ftlab.arena.ballots import Ballot, counts
from ftlab.arena.blind_tests import find_test
from ftlab.arena.registration import plan_of, plan_text
from ftlab.arena.store import Store
from ftlab.arena.tally import evaluate, read_votes, revealed_now
from ftlab.core.files import write_json, write_text
from ftlab.errors import InputError

_COLUMNS = ("prompt", "topic", "wanted", "rater", "left", "right", "choice", "automatic", "seconds")
_CONTROLS = ("kind", "prompt", "rater", "left", "right", "choice", "seconds", "correct")
_QUALITY = ("rater", "group", "votes", "seconds", "attention", "consistency", "agreement", "excluded")


def write_analysis(store: Store, test_id: str, folder: Path) -> Path:
    """Write votes.csv, controls.csv (votes on control items), raters.csv, plan.json, verdict.json and recompute.py to
    `folder`, which is created if missing, and return it.

    Raters are numbers, contestants are letters in the order of the test. Comments and times of day are left out. Raises
    InputError while the tally is hidden.
    """
    if revealed_now(store, test_id) is None:
        raise InputError("The votes are still hidden, and this would show who leads", try_="wait for the planned votes")
    known = read_votes(store, test_id)
    tally = evaluate(store, test_id, known)  # of the same votes, whoever votes in the meantime
    letter = dict(zip(known.titles, string.ascii_uppercase, strict=False))
    number = {row["rater"]: str(place) for place, row in enumerate(known.quality, start=1)}

    def row_of(ballot: Ballot) -> dict[str, Any]:
        return {
            "prompt": ballot.number,
            "topic": ballot.topic,
            "wanted": known.wanted_of_everyone.get(ballot.prompt, 1),
            "rater": number.get(ballot.rater, ""),  # nobody, if a tie of identical answers is all they have
            "left": letter[ballot.left],
            "right": letter[ballot.right],
            "choice": ballot.choice,
            "automatic": int(ballot.automatic),
            "seconds": ballot.seconds,
            "kind": ballot.control,
            "correct": letter.get(known.right.get(ballot.prompt, ""), ""),
        }

    raters = [
        {**row, "rater": number[row["rater"]], "excluded": int(row["excluded"])}
        | {name: f"{row[name][0]}/{row[name][1]}" for name in ("attention", "consistency", "agreement")}
        for row in known.quality
    ]
    with store.reading() as connection:
        plan = plan_text(plan_of(connection, find_test(connection, test_id)))
    pairs = [
        {
            "first": letter[pair["first"]],
            "second": letter[pair["second"]],
            "wins": pair["prompts"]["wins"],
            "losses": pair["prompts"]["losses"],
            "p": pair["p"],
            "highest_evidence": pair["evidence"]["highest"],
            "verdict": pair["verdict"],
        }
        for pair in cast(list[dict[str, Any]], tally["pairs"] or [tally])
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "votes.csv", _table(_COLUMNS, map(row_of, known.everyone)))
    write_text(folder / "controls.csv", _table(_CONTROLS, map(row_of, known.controls)))
    write_text(folder / "raters.csv", _table(_QUALITY, raters))
    write_text(folder / "plan.json", plan)
    verdict = {
        "text": tally["text"],
        "contestants": {letter[name]: title for name, title in known.titles.items()},
        "planned": min(known.planned_of_everyone, sum(map(counts, known.everyone)))
        if known.closed_unseen
        else known.planned_of_everyone,
        "registered": tally["registered"],
        "excluded": [row["rater"] for row in raters if row["excluded"]],
        "everyone": tally["everyone"],
        "pairs": pairs,
    }
    write_json(folder / "verdict.json", verdict)
    write_text(folder / "recompute.py", Path(recompute.__file__).read_text(encoding="utf-8"))
    return folder


def _table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    file = io.StringIO()
    table = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
    table.writeheader()
    table.writerows(rows)
    return file.getvalue()
