"""Wrong labels: how many of the planted ones are found, how many found ones are planted, and where they are read."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest

from ftlab.config import DataConfig
from ftlab.core.workspace import Workspace
from ftlab.data.checks import check
from ftlab.data.checks import job as checks
from ftlab.data.checks.finding import Examples
from ftlab.data.checks.labels import find_suspects, suspicious_answers
from ftlab.data.normal import Watch
from ftlab.data.shapes import Message
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
    suspects = set(find_suspects(texts, labels).rows)
    assert len(suspects & planted) >= 6 and len(suspects - planted) <= 1
    texts, labels, _ = labeled(240, 0)
    assert not find_suspects(texts, labels).rows


def test_nothing_is_said_where_texts_do_not_tell_the_label() -> None:
    texts, labels, _ = labeled(240, 0)
    random.Random(0).shuffle(labels)
    assert not find_suspects(texts, labels).rows
    assert not find_suspects(texts[:30], labels[:30]).rows
    assert not find_suspects(texts, ["a"] * 240).rows


def test_curate_shows_the_rows_that_the_checks_take_for_wrong(tmp_path: Path, workspace: Workspace) -> None:
    texts, labels, planted = labeled(240, 12)
    path = tmp_path / "tickets.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(texts, labels, strict=True)])
    data = DataConfig(source=str(path))
    report = check(data, workspace=workspace)
    finding = next(finding for finding in report.findings if finding.kind == "suspicious_label")
    assert len(set(finding.rows) & planted) >= 6 and len(finding.detail["suggested"]) == len(finding.rows)
    assert "but looks like" in finding.shown[1] and finding.detail["first"][0] in finding.rows
    job = checks.job_for(checks.Request(data), workspace)
    job.folder.mkdir(parents=True)
    (job.folder / "status.json").write_text(json.dumps({"state": "done", "created": 1.0}))
    (job.folder / "report.json").write_text(json.dumps(report.as_dict(), default=str))
    desk = curate_desk.desk(data.model_dump_json(), "Ann", curate_desk.LOOKS_WRONG, "", workspace)
    assert curate_desk.view(desk).tolist() == finding.rows
    assert [desk.suspects[row] for row in finding.rows] == finding.detail["because"]


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
    assert finding.detail["because"][0].startswith("queue ") and "of queue would be named" in finding.shown[0]


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


def test_answers_of_other_prompts_are_found_by_their_words_and_right_ones_are_not() -> None:
    pairs = sentences(200)
    assert not suspicious_answers(examples_of(pairs), Watch(), {})
    planted = set(random.Random(1).sample(range(200), 12))
    mixed = [(prompt, pairs[(n + 77) % 200][1] if n in planted else answer) for n, (prompt, answer) in enumerate(pairs)]
    (finding,) = suspicious_answers(examples_of(mixed), Watch(), {})
    assert len(set(finding.rows) & planted) >= 9 and len(set(finding.rows) - planted) <= 1
    assert "would be named" in finding.shown[0] and len(finding.detail["because"]) == len(finding.rows)


def test_nothing_is_said_of_answers_that_share_no_words_with_any_prompt() -> None:
    pairs = [(prompt, f"Yes, on day {n * 37 % 200}.") for n, (prompt, _) in enumerate(sentences(200))]
    assert not suspicious_answers(examples_of(pairs), Watch(), {})


def test_answers_of_other_prompts_are_found_by_losses() -> None:
    """Losses as of a base that knows which answer belongs to which prompt, for words tell nothing here."""
    pairs = [(f"prompt {chr(97 + n % 26)}{n}", f"answer x{n}") for n in range(120)]
    planted = {5, 40, 77, 100}
    mixed = [
        (prompt, f"answer x{(n + 50) % 120}" if n in planted else answer) for n, (prompt, answer) in enumerate(pairs)
    ]
    chance = random.Random(2)

    def losses(conversations: list[list[dict[str, str]]]) -> list[float]:
        return [
            chance.uniform(1, 1.5) + (dict(pairs)[turns[0]["content"]] != turns[1]["content"])
            for turns in conversations
        ]

    (finding,) = suspicious_answers(examples_of(mixed), Watch(), {}, losses)
    assert set(finding.rows) == planted and "hardly likelier" in finding.detail["because"][0]


def examples_of(pairs: list[tuple[str, str]]) -> Examples:
    turns = [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}] for prompt, answer in pairs
    ]
    return Examples(["train"] * len(pairs), list(range(len(pairs))), turns)


def test_the_command_line_scores_last_answers_only() -> None:
    """Against the mean of the model's own loss over the tokens of the answer, on the starter."""
    import torch

    from ftlab.cli.data import _answer_losses
    from ftlab.config import ModelConfig
    from ftlab.data.rendering import encode
    from ftlab.models.load import load_base, load_tokenizer

    tokenizer = load_tokenizer("starter")
    turns = [
        Message(role="user", content="What is the capital of France?"),
        Message(role="assistant", content="Paris"),
        Message(role="user", content="And of Spain?"),
        Message(role="assistant", content="Madrid"),
    ]
    whole, before = encode(turns, tokenizer), encode(turns[:2], tokenizer)
    trained = [on and at >= len(before.input_ids) for at, on in enumerate(whole.trained)]
    labels = torch.tensor([[i if on else -100 for i, on in zip(whole.input_ids, trained, strict=True)]])
    with torch.no_grad():
        expected = load_base(ModelConfig(base="starter"))(input_ids=torch.tensor([whole.input_ids]), labels=labels).loss
    assert _answer_losses("starter", tokenizer)([turns])[0] == pytest.approx(float(expected), rel=1e-4)
