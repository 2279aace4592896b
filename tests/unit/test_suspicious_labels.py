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
from ftlab.data.checks.finding import Examples
from ftlab.data.checks.labels import rank_labels, suspicious
from ftlab.data.normal import Watch
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
    suspects, sure = rank_labels(texts, labels)
    assert len(set(sure) & planted) >= 6 and len(set(sure) - planted) <= 1
    assert len(set(sorted(suspects, key=lambda at: suspects[at][1])[:12]) & planted) >= 8
    texts, labels, _ = labeled(240, 0)
    assert not rank_labels(texts, labels)[1]


def test_nothing_is_said_where_texts_do_not_tell_the_label() -> None:
    texts, labels, _ = labeled(240, 0)
    random.Random(0).shuffle(labels)
    assert rank_labels(texts, labels) == ({}, [])
    assert rank_labels(texts[:30], labels[:30]) == ({}, [])
    assert rank_labels(texts, ["a"] * 240) == ({}, [])


def test_one_label_that_stands_out_is_listed_and_no_finding() -> None:
    texts, labels, _ = labeled(240, 0)
    labels[7] = next(name for name in ABOUT if name != labels[7])
    findings, listed = suspicious(examples_of(list(zip(texts, labels, strict=True))), Watch(), {"answer": {}})
    assert not findings and listed[0]["row"] == 7 and "but looks like" in listed[0]["why"]


def test_curate_shows_the_rows_that_the_checks_take_for_wrong(tmp_path: Path, workspace: Workspace) -> None:
    texts, labels, planted = labeled(240, 12)
    path = tmp_path / "tickets.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(texts, labels, strict=True)])
    data = DataConfig(source=str(path))
    report = check(data, workspace=workspace)
    finding = next(finding for finding in report.findings if finding.kind == "suspicious_label")
    assert len(set(finding.rows) & planted) >= 6 and len(finding.detail["suggested"]) == len(finding.rows)
    assert "but looks like" in finding.excerpts[1] and finding.detail["first"][0] in finding.rows
    job = checks.job_for(checks.Request(data), workspace)
    job.folder.mkdir(parents=True)
    (job.folder / "status.json").write_text(json.dumps({"state": "done", "created": 1.0}))
    (job.folder / "report.json").write_text(json.dumps(report.as_dict(), default=str))
    desk = curate_desk.desk(data.model_dump_json(), "Ann", curate_desk.SUSPICIOUS, "", workspace)
    positions = curate_desk.view(desk)
    assert positions.tolist() == [suspect["row"] for suspect in report.suspicious]
    assert positions.tolist()[: len(finding.rows)] == finding.detail["first"] and positions.tolist() != finding.rows
    second = curate_desk.step(positions, int(positions[0]), 1)
    assert second == positions[1] and curate_desk.place_of(positions, second, desk.kind, "").startswith("2 of ")
    assert curate_desk.step(positions, second, -1) == positions[0] and "but looks like" in desk.suspects[second]


def test_a_field_of_json_answers_is_a_label_too(tmp_path: Path) -> None:
    texts, labels, planted = labeled(240, 12)
    path = tmp_path / "tickets.jsonl"
    rows = [
        {"prompt": text, "completion": json.dumps({"queue": label, "hours": len(text)})}
        for text, label in zip(texts, labels, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    finding = next(finding for finding in check(str(path)).findings if finding.kind == "suspicious_label")
    assert len(set(finding.rows) & planted) >= 6 and len(set(finding.rows) - planted) <= 1
    assert "→ queue " in finding.excerpts[0]


def sentences(count: int) -> list[tuple[str, str]]:
    chance = random.Random(5)
    words = ["".join(chance.choices("bdfgklmnprst", k=1) + chance.choices("aeiou", k=1)) * 2 for _ in range(2000)]
    words = sorted(set(words))
    chance.shuffle(words)
    made = []
    for _ in range(count):
        first, second = chance.sample([f"{word}{letter}" for word in words[:60] for letter in "nst"], 2)
        made.append((f"When was the {first} of the {second}?", f"The {first} came after the {second}."))
    return made


def test_answers_of_other_prompts_come_first_and_are_no_finding() -> None:
    pairs = sentences(200)
    planted = set(random.Random(1).sample(range(200), 12))
    mixed = [(prompt, pairs[(n + 77) % 200][1] if n in planted else answer) for n, (prompt, answer) in enumerate(pairs)]
    findings, listed = suspicious(examples_of(mixed), Watch(), {})
    assert not findings and len({suspect["row"] for suspect in listed[:12]} & planted) >= 10


def test_answers_that_share_no_words_with_any_prompt_are_not_ranked() -> None:
    pairs = [(prompt, f"Yes, on day {n * 37 % 200}.") for n, (prompt, _) in enumerate(sentences(200))]
    assert suspicious(examples_of(pairs), Watch(), {}) == ([], [])


def examples_of(pairs: list[tuple[str, str]]) -> Examples:
    turns = [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}] for prompt, answer in pairs
    ]
    return Examples(["train"] * len(pairs), list(range(len(pairs))), turns)
