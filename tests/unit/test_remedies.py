"""Remedies give new rows and say what they did; the rows they are given stay as they are."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from ftlab.config import DataConfig
from ftlab.data.checks import KINDS, check
from ftlab.data.checks.finding import Finding
from ftlab.data.remedies import Action, action_for, apply, apply_all, mend
from ftlab.data.versions import create, rows_of
from ftlab.errors import InputError
from ftlab.workspace import Workspace

PAIR = {"prompt": "prompt", "completion": "completion"}


def numbered(count: int = 5) -> dict[str, list[dict[str, Any]]]:
    return {
        "train": [{"prompt": f"p{n}", "completion": f"a{n}"} for n in range(count)],
        "test": [{"prompt": "held", "completion": "out"}],
    }


def test_dropping_takes_the_rows_and_nothing_else() -> None:
    rows = numbered()
    before = copy.deepcopy(rows)
    after, said = apply(rows, Action("drop", "empty_answer", "train", (1, 3)))
    assert [row["prompt"] for row in after["train"]] == ["p0", "p2", "p4"] and after["test"] == rows["test"]
    assert said == "Dropped 2 rows of train (empty answers)." and rows == before


def test_masking_changes_text_and_turns_but_no_roles() -> None:
    turns = [{"role": "user", "content": "I am a@b.org"}, {"role": "assistant", "content": "Hello a@b.org"}]
    rows = {"train": [{"messages": turns, "id": 7}, {"messages": json.dumps(turns), "id": 8}]}
    after, _ = apply(rows, Action("mask", "email", "train", (0, 1)))
    masked = [{"role": "user", "content": "I am [email]"}, {"role": "assistant", "content": "Hello [email]"}]
    assert after["train"][0] == {"messages": masked, "id": 7}
    assert json.loads(after["train"][1]["messages"]) == masked
    assert rows["train"][0]["messages"][0]["content"] == "I am a@b.org"


def test_masking_one_kind_leaves_the_others() -> None:
    rows = {"train": [{"prompt": "a@b.org +49 30 901820", "completion": "ok"}]}
    assert apply(rows, Action("mask", "phone", "train", (0,)))[0]["train"][0]["prompt"] == "a@b.org [phone]"


def test_moving_puts_rows_beside_what_they_resemble() -> None:
    after, said = apply(numbered(), Action("move", "near_overlap", "train", (2,), (("test", 0),)))
    assert sorted(row["prompt"] for row in after["test"]) == ["held", "p2"]
    assert len(after["train"]) == 4 and "Moved" in said


@pytest.mark.parametrize(
    ("row", "columns", "answer"),
    [
        ({"prompt": "q", "completion": "no"}, PAIR, lambda row: row["completion"]),
        (
            {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "no"}]},
            {"messages": "messages"},
            lambda row: row["messages"][1]["content"],
        ),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "no"}]},
            {"messages": "conversations"},
            lambda row: row["conversations"][1]["value"],
        ),
    ],
)
def test_relabelling_writes_the_answer_in_every_format(row: Any, columns: dict[str, str], answer: Any) -> None:
    action = Action("relabel", "conflicting_answers", "train", (0,), columns=columns, answer="yes")
    assert answer(apply({"train": [row]}, action)[0]["train"][0]) == "yes" and answer(row) == "no"


def test_conflicts_take_the_answer_of_most_rows() -> None:
    rows = {"train": [{"prompt": "q", "completion": answer} for answer in ("no", "yes ", "yes", "Yes")]}
    matches = (("train", 1), ("train", 1), ("train", 1), ("train", 1))
    action = Action("relabel", "conflicting_answers", "train", (0, 1, 2, 3), matches, PAIR)
    after, said = apply(rows, action)
    assert {row["completion"] for row in after["train"]} == {"yes "} and "3 rows" in said


def test_shortening_cuts_the_prompt_at_a_space_and_keeps_the_answer() -> None:
    long = " ".join(f"word{n}" for n in range(200))
    action = Action("shorten", "too_long", "train", (0,), columns=PAIR, keep=(0.25,))
    row = apply({"train": [{"prompt": long, "completion": "the answer"}]}, action)[0]["train"][0]
    assert row["completion"] == "the answer" and row["prompt"].endswith(" …") and long.startswith(row["prompt"][:-2])
    assert 0.2 * len(long) < len(row["prompt"]) <= 0.26 * len(long)


def test_indices_are_those_of_the_source_whatever_the_order_of_the_actions() -> None:
    actions = [
        Action("drop", "empty_answer", "train", (0, 1)),
        Action("relabel", "conflicting_answers", "train", (4,), columns=PAIR, answer="new"),
        Action("deduplicate", "exact_duplicate", "train", (1, 3)),
    ]
    after, said = apply_all(numbered(), actions)
    assert [row["completion"] for row in after["train"]] == ["a2", "new"]
    assert said[1] == "Removed 1 row of train (exact duplicates)."


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (Action("burn", "email", "train", (0,)), "no such remedy"),
        (Action("drop", "email", "dev", (0,)), "no such split"),
        (Action("drop", "email", "train", (99,)), "no such row"),
        (Action("move", "email", "train", (0,)), "where these rows should go"),
        (Action("relabel", "email", "train", (0,)), "which answer is right"),
    ],
)
def test_what_cannot_be_done_is_said(action: Action, words: str) -> None:
    with pytest.raises(InputError, match=words):
        apply(numbered(), action)


def test_only_a_remedy_that_fits_is_taken() -> None:
    finding = Finding("exact_duplicate", "train", [1])
    assert action_for(finding, PAIR).remedy == "deduplicate"
    with pytest.raises(InputError, match="no remedy for this finding"):
        action_for(finding, PAIR, "mask")
    with pytest.raises(InputError, match="nothing can be done"):
        action_for(Finding("not_covered", "test", [1]), PAIR)
    assert all(about.remedy not in about.others for about in KINDS.values())


def test_all_remedies_together_leave_a_version_without_errors_and_the_source_untouched(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "workspace")
    version = create("messy_tickets", workspace, who="Ada")
    report = check(DataConfig(source=version.source), workspace=workspace)
    actions = [action_for(finding, report.roles) for finding in report.findings if finding.remedy != "none"]
    mended = mend(version, actions, who="Ada", why="practice")
    after = check(DataConfig(source=mended.source), workspace=workspace)
    left = {(finding.kind, finding.split) for finding in after.findings}
    # Two answers to one prompt without a majority need a person, and so does what to teach about boats. A row that was
    # moved stands beside the held-out row that it resembles.
    assert left == {("conflicting_answers", "train"), ("not_covered", "test"), ("near_duplicate", "test")}
    assert sum(mended.rows.values()) == sum(version.rows.values()) - mended.excluded and mended.parent == version.id
    assert [row.cells for row in rows_of(version)] == [
        row for split in ("train", "test") for row in _source_rows(split)
    ]


def _source_rows(split: str) -> list[dict[str, Any]]:
    from ftlab.data.load import load_rows

    return list(load_rows(DataConfig(source="messy_tickets")).splits[split])
