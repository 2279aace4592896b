"""Wrong labels: how many of the planted ones are found, how many found ones are planted, and where they are read."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

from ftlab.config import DataConfig
from ftlab.core.workspace import Workspace
from ftlab.data.checks import check
from ftlab.data.checks import job as checks
from ftlab.data.checks.labels import find_suspects
from ftlab.ui.tabs.data import curate_desk

ABOUT = {
    "card": [
        "my card did not arrive",
        "when will the new card come",
        "the card is still missing",
        "card lost in the mail",
    ],
    "loan": ["can I borrow more money", "what does a loan cost", "the interest of my loan", "repay the loan early"],
    "fee": ["why was I charged", "the fee is too high", "refund the charge please", "what is this fee for"],
}
ENDS = "today, thanks, for my trip, please, again, in May, since Monday, by the way, at last, now".split(", ")


def labeled(count: int, wrong: int) -> tuple[list[str], list[str], set[int]]:
    chance = random.Random(3)
    texts, labels = [], []
    for n in range(count):
        label = list(ABOUT)[n % 3]
        texts.append(f"{chance.choice(ABOUT[label])} {chance.choice(ENDS)} {chance.choice(ENDS)} {n}")
        labels.append(label)
    planted = set(chance.sample(range(count), wrong))
    for row in planted:
        labels[row] = chance.choice([name for name in ABOUT if name != labels[row]])
    return texts, labels, planted


def test_planted_wrong_labels_are_found_and_right_ones_are_not() -> None:
    texts, labels, planted = labeled(240, 12)
    suspects = set(find_suspects(texts, labels))
    assert len(suspects & planted) >= 6 and len(suspects - planted) <= 1
    texts, labels, _ = labeled(240, 0)
    assert not find_suspects(texts, labels)


def test_nothing_is_said_where_texts_do_not_tell_the_label() -> None:
    texts, labels, _ = labeled(240, 0)
    random.Random(0).shuffle(labels)
    assert not find_suspects(texts, labels)
    assert not find_suspects(texts[:30], labels[:30]) and not find_suspects(texts, ["a"] * 240)


def test_curate_shows_the_rows_that_the_checks_take_for_wrong(tmp_path: Path, workspace: Workspace) -> None:
    texts, labels, planted = labeled(240, 12)
    path = tmp_path / "tickets.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(texts, labels, strict=True)])
    data = DataConfig(source=str(path))
    report = check(data, workspace=workspace)
    finding = next(finding for finding in report.findings if finding.kind == "suspicious_label")
    assert len(set(finding.rows) & planted) >= 6 and len(finding.detail["suggested"]) == len(finding.rows)
    assert "but looks like" in finding.excerpts[0] and finding.detail["first"][0] in finding.rows
    job = checks.job_for(checks.Request(data), workspace)
    job.folder.mkdir(parents=True)
    (job.folder / "status.json").write_text(json.dumps({"state": "done", "created": 1.0}))
    (job.folder / "report.json").write_text(json.dumps(report.as_dict(), default=str))
    desk = curate_desk.desk(data.model_dump_json(), "Ann", curate_desk.LOOKS_WRONG, "", workspace)
    assert curate_desk.view(desk).tolist() == finding.rows
