"""Whether prompts of the real world are like those of training, and whether there are enough rows."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from ftlab.cli.main import main
from ftlab.data.checks.personal import find_personal, mask
from ftlab.data.checks.rows import compare_prompts

TRAIN = [f"Please send invoice {n} for the {thing} again" for n in range(20) for thing in ("lamp", "chair", "desk")]
BOATS = ["How do I moor a boat?", "Where can I moor my boat in winter?", "Is a boat licence needed to moor here?"]


def test_a_topic_that_training_never_shows_is_named_with_its_prompts() -> None:
    asked = [TRAIN[3], TRAIN[30], "Please send the invoice for the desk", *BOATS]
    comparison = compare_prompts(TRAIN, asked)
    assert comparison["uncovered"] == [3, 4, 5]
    uncovered = [topic for topic in comparison["topics"] if not topic["covered"]]
    assert len(uncovered) == 1 and {"boat", "moor"} <= set(uncovered[0]["terms"]) and uncovered[0]["prompts"] == 3


def test_prompts_like_those_of_training_are_covered() -> None:
    comparison = compare_prompts(TRAIN, TRAIN[::4])
    assert comparison["uncovered"] == [] and comparison["vocabulary"] == {"covered": 1.0, "new_words": []}
    assert comparison["length"]["train"] == comparison["length"]["asked"] == {"median_words": 8, "p95_words": 8}


def test_share_of_known_words_is_counted_by_occurrence() -> None:
    # 8 words are asked; moor, boat, boat are new, all others are known.
    comparison = compare_prompts(["please send the lamp again"], ["please send the boat", "moor the boat again"])
    assert comparison["vocabulary"] == {"covered": 0.625, "new_words": ["boat", "moor"]}


def test_pasted_prompts_are_compared_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTLAB_HOME", str(tmp_path))
    (tmp_path / "train.jsonl").write_text(
        "".join(json.dumps({"prompt": p, "completion": "Done."}) + "\n" for p in TRAIN)
    )
    (tmp_path / "asked.txt").write_text("\n".join([*BOATS, TRAIN[0]]))
    inspect = ["data", "inspect", str(tmp_path / "train.jsonl"), "--base", "none", "--json"]
    assert main([*inspect, "--prompts", str(tmp_path / "asked.txt")]) == 0
    assert json.loads(capsys.readouterr().out)["coverage"]["uncovered"] == [["asked", n] for n in range(3)]
    assert main([*inspect, "--prompts", str(tmp_path / "none.txt")]) == 2


@pytest.mark.parametrize(
    "text",
    ["1" * 200_000, "1 " * 100_000, "a@" * 100_000, "+1 (" * 50_000, "DE89 " * 40_000, "eyJ" * 70_000, "<p " * 70_000,
     "password: " * 20_000, "a@b.org " * 20_000, "-----BEGIN PRIVATE KEY-----" * 5_000],
)  # fmt: skip
def test_no_text_takes_long(text: str) -> None:
    from ftlab.data.checks.finding import Examples, Watch
    from ftlab.data.checks.rows import html_remains

    began = time.process_time()
    find_personal(text), mask(text)
    html_remains(Examples(["train"], [0], [[{"role": "user", "content": text}]]), Watch())
    assert time.process_time() - began < 5
