"""A folder that lets anyone check the verdict of a blind test: anonymous votes, plan, verdict and a script."""

from __future__ import annotations

import csv
import io
import string
from pathlib import Path
from typing import Any, cast

from ftlab.arena import recompute
from ftlab.arena.blind_tests import find_test
from ftlab.arena.registration import plan_of, plan_text
from ftlab.arena.store import Store
from ftlab.arena.tally import evaluate, read_votes, revealed_now
from ftlab.core.files import write_json, write_text
from ftlab.errors import InputError

_COLUMNS = ("prompt", "topic", "wanted", "rater", "left", "right", "choice", "automatic", "seconds")


def write_analysis(store: Store, test_id: str, folder: Path) -> Path:
    """Write votes.csv, plan.json, verdict.json and recompute.py to `folder`, which is created if missing, and return
    it.

    Raters are numbers, contestants are letters in the order of the test. Comments and times of day are left out. Raises
    InputError while the tally is hidden.
    """
    if revealed_now(store, test_id) is None:
        raise InputError("The votes are still hidden, and this would show who leads", try_="wait for the planned votes")
    known = read_votes(store, test_id)
    tally = evaluate(store, test_id, known)  # of the same votes, whoever votes in the meantime
    letter = dict(zip(known.titles, string.ascii_uppercase, strict=False))
    number = {rater: str(place) for place, rater in enumerate(dict.fromkeys(b.rater for b in known.ballots), start=1)}
    file = io.StringIO()
    table = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
    table.writeheader()
    for ballot in known.ballots:
        table.writerow(
            {
                "prompt": ballot.number,
                "topic": ballot.topic,
                "wanted": known.wanted.get(ballot.prompt, 1),
                "rater": number[ballot.rater],
                "left": letter[ballot.left],
                "right": letter[ballot.right],
                "choice": ballot.choice,
                "automatic": int(ballot.automatic),
                "seconds": ballot.seconds,
            }
        )
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
    write_text(folder / "votes.csv", file.getvalue())
    write_text(folder / "plan.json", plan)
    verdict = {
        "text": tally["text"],
        "contestants": {letter[name]: title for name, title in known.titles.items()},
        "planned": min(known.planned, tally["votes"]["cast"]) if known.closed_unseen else known.planned,
        "registered": tally["registered"],
        "pairs": pairs,
    }
    write_json(folder / "verdict.json", verdict)
    write_text(folder / "recompute.py", Path(recompute.__file__).read_text(encoding="utf-8"))
    return folder
