"""Data of prompts alone, for the stages in which the model answers itself."""

from __future__ import annotations

import json

import pytest

from ftlab.config import DataConfig
from ftlab.data.splits import prepare
from ftlab.errors import InputError

OPEN = {"role": "assistant", "content": ""}


def prepared(tmp_path, row, stage="rloo", **settings):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row(n)) + "\n" for n in range(30)))
    return prepare(DataConfig(source=str(file), **settings), stage=stage)


@pytest.mark.parametrize(
    ("row", "settings"),
    [
        (lambda n: {"prompt": f"Question {n}"}, {}),
        (lambda n: {"question": f"Question {n}", "id": n}, {}),
        (lambda n: {"prompt": [{"role": "user", "content": f"Question {n}"}]}, {}),
        (lambda n: {"messages": [{"role": "user", "content": f"Question {n}"}]}, {}),
        (lambda n: {"letter": f"Question {n}", "id": n}, {"columns": {"prompt": "letter"}}),
    ],
)
def test_prompts_without_answers_are_read_with_an_answer_left_open(tmp_path, row, settings):
    data = prepared(tmp_path, row, **settings)
    examples = [example["messages"] for split in data.splits.values() for example in split]
    assert len(examples) == 30
    assert all(turns[0]["role"] == "user" and turns[-1] == OPEN for turns in examples)
    assert {turns[0]["content"] for turns in examples} == {f"Question {n}" for n in range(30)}
    with pytest.raises(InputError):
        prepared(tmp_path, row, stage="sft", **settings)


def test_a_system_prompt_stands_before_prompts_alone_too(tmp_path):
    data = prepared(tmp_path, lambda n: {"prompt": f"Question {n}"}, system_prompt="Be kind.")
    assert [turn["role"] for turn in data.splits["train"][0]["messages"]] == ["system", "user", "assistant"]


def test_answers_that_are_there_stay_as_references(tmp_path):
    data = prepared(tmp_path, lambda n: {"prompt": f"Question {n}", "chosen": f"Good {n}", "rejected": f"Bad {n}"})
    assert data.splits["train"][0]["messages"][-1]["content"].startswith("Good")
    assert any("serve only as references" in note for note in data.manifest["notes"])


def test_text_without_prompts_is_still_refused(tmp_path):
    with pytest.raises(InputError):
        prepared(tmp_path, lambda n: {"text": f"A text {n}"})
    with pytest.raises(InputError):
        prepared(tmp_path, lambda n: {"number": n})
