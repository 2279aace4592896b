"""Remedies give new rows and say what they did; the rows they are given stay as they are."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from ftlab.config import DataConfig
from ftlab.core.workspace import Workspace
from ftlab.data.checks import KINDS, check
from ftlab.data.checks.finding import Finding
from ftlab.data.remedies import Action, action_for, is_mended, mend
from ftlab.data.version_store import rows_of
from ftlab.data.versions import create
from ftlab.errors import InputError
from tests.mended import apply, apply_all

PAIR = {"prompt": "prompt", "completion": "completion"}


def numbered(count: int = 5) -> dict[str, list[dict[str, Any]]]:
    return {
        "train": [{"prompt": f"p{n}", "completion": f"a{n}"} for n in range(count)],
        "test": [{"prompt": "held", "completion": "out"}],
    }


def test_dropping_takes_the_rows_and_nothing_else() -> None:
    rows = numbered()
    before = copy.deepcopy(rows)
    after, sentences = apply(rows, Action("drop", "empty_answer", "train", (1, 3)))
    assert [row["prompt"] for row in after["train"]] == ["p0", "p2", "p4"] and after["test"] == rows["test"]
    assert sentences == "Dropped 2 rows of train (empty answers)." and rows == before


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
    after, sentences = apply(numbered(), Action("move", "near_overlap", "train", (2,), (("test", 0),)))
    assert sorted(row["prompt"] for row in after["test"]) == ["held", "p2"]
    assert len(after["train"]) == 4 and "Moved" in sentences


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
    after, sentences = apply(rows, action)
    assert {row["completion"] for row in after["train"]} == {"yes "} and "3 rows" in sentences


STORY = (
    "Read the report about the old harbor before you answer. "
    "The harbor lies behind a long wall of grey granite blocks. "
    "Fishermen mend their nets there in the early morning light. "
    "A painter came to this coast for a whole summer once. "
    "The lighthouse keeper was called Hendrik van Loon by everybody. "
    "It had 14 boats in the spring of that year. "
    "Gulls circle over the roofs whenever the market opens its doors. "
    "Bakers sell warm bread (e.g. rye. It keeps longer) along the narrow street. "
    "Who kept the lighthouse above the harbor?"
)


def _words(row: dict[str, Any]) -> int:
    return sum(len(str(row[name]).split()) for name in ("prompt", "completion"))


def _characters(row: dict[str, Any]) -> int:
    return len(str(row))


def _shorten(row: dict[str, Any], max_length: int) -> tuple[dict[str, Any], list[str]]:
    action = Action("shorten", "too_long", "train", (0,), columns=PAIR, max_length=max_length, tokens=_words)
    after, sentences = apply_all({"train": [row]}, [action])
    return after["train"][0], sentences


def test_only_sentences_that_a_prompt_can_spare_are_cut_and_what_was_lost_is_told() -> None:
    row = {"prompt": STORY, "completion": "Hendrik van Loon kept it."}
    short, sentences = _shorten(row, _words(row) - 20)
    assert short["completion"] == row["completion"] and _words(short) <= _words(row) - 20
    # The question, the number, what the answer draws on and what leads into it are there; gulls and bread are not.
    for kept in ("Who kept the lighthouse above the harbor?", "14 boats", "A painter", "Hendrik van Loon", "Read the"):
        assert kept in short["prompt"]
    assert short["prompt"].endswith("of that year. … Who kept the lighthouse above the harbor?")
    assert sentences[0].startswith("Shortened 1 row") and "Row 0 lost" in sentences[1]
    assert "Gulls circle" in sentences[1]


@pytest.mark.parametrize(
    "answer",
    [
        "False",  # a label may rest on any sentence
        "not enough information",
        "A quiet morning at the seaside",  # a title, a summary
        "Hendrik van Loon, a lighthouse keeper, watched fishermen, gulls and bakers.",  # drawn from all of it
        "Der Leuchtturmwärter hieß Hendrik van Loon.",
    ],
)
def test_a_prompt_stays_whole_where_its_answer_does_not_show_which_sentences_it_needs(answer: str) -> None:
    row = {"prompt": STORY, "completion": answer}
    after, sentences = _shorten(row, _words(row) - 12)
    assert after == row and len(sentences) == 1
    assert sentences[0].startswith("Left 1 row of train unchanged: no sentence")


def test_what_another_turn_or_the_rejected_answer_speaks_of_is_not_cut() -> None:
    def cut(row: dict[str, Any], columns: dict[str, str]) -> dict[str, Any]:
        fits = _characters(row) - 60
        action = Action("shorten", "too_long", "train", (0,), columns=columns, max_length=fits, tokens=_characters)
        return apply({"train": [row]}, action)[0]["train"][0]

    chat = [{"role": "user", "content": STORY}, {"role": "assistant", "content": "Hendrik van Loon kept it."}]
    later = [{"role": "user", "content": "What is sold?"}, {"role": "assistant", "content": "Warm bread and fruit."}]
    [asked, _] = cut({"messages": chat}, {"messages": "messages"})["messages"]
    assert "Bakers" not in asked["content"]
    assert cut({"messages": chat + later}, {"messages": "messages"}) == {"messages": chat + later}
    pair = {"prompt": STORY, "good": "Hendrik van Loon kept it.", "bad": "The bakers did."}
    short = cut(pair, {"prompt": "prompt", "chosen": "good", "rejected": "bad"})
    assert "Bakers" in short["prompt"] and "Gulls" not in short["prompt"]


@pytest.mark.parametrize(
    "prompt",
    [
        "Describe a process of making crepes.",
        "Hello there, dear support team. Why is my card not working in any of the shops of this town?",
        " ".join(f"word{n}" for n in range(200)),
        "Which is it?\n(A) The first coin is silver as well.\n(B) The last coin is golden, too.\nChoose one of them.",
        "Sort the rows of this table.\n| name | town |\n| Ada | London |\n| Alan | Wilmslow |\nKeep the header row.",
    ],
)
def test_a_prompt_that_can_spare_nothing_stays_as_it_is_and_counts_as_not_shortened(prompt: str) -> None:
    row = {"prompt": prompt, "completion": "A long answer. " * 20}
    after, sentences = _shorten(row, 30)
    assert after == row and len(sentences) == 1
    assert sentences[0].startswith("Left 1 row of train unchanged: no sentence")


def test_a_row_that_would_be_too_long_even_without_what_it_can_spare_stays_as_it_is() -> None:
    row = {"prompt": STORY, "completion": "Hendrik van Loon kept it."}
    after, sentences = _shorten(row, 20)
    assert after == row and sentences == [
        "Left 1 row of train unchanged: it is still too long without the unnecessary sentences."
    ]


def test_a_longer_max_length_comes_before_leaving_rows_out_where_the_base_reads_more() -> None:
    reads_more = Finding("too_long", "train", [3], detail={"max_length": 512, "tokens": [600], "raise_to": 640})
    assert reads_more.remedies == ("raise", "drop", "shorten") and reads_more.as_dict()["remedy"] == "raise"
    assert not is_mended(reads_more) and is_mended(reads_more, remedies={"too_long": "drop"})
    with pytest.raises(InputError, match="is a training setting") as caught:
        action_for(reads_more, PAIR)
    assert "optimisation.max_length=640" in caught.value.try_
    assert Finding("too_long", "train", [3], detail={"max_length": 512, "tokens": [600]}).remedies == (
        "drop",
        "shorten",
    )


def test_masking_leaves_a_row_out_whose_answer_would_become_a_placeholder() -> None:
    rows = {
        "train": [
            {"prompt": "Make up a phone number.", "completion": "+49 30 901820"},
            {"prompt": "Whose is +49 30 901821?", "completion": "+49 30 901821 is that of Ada."},
            {"prompt": "How do I reach you?", "completion": "Call +49 30 901822, please."},
            {"prompt": "Who can help me?", "completion": "We can: +49 30 901822."},
        ]
    }
    after, sentences = apply_all(rows, [Action("mask", "phone", "train", (0, 1, 2, 3), columns=PAIR)])
    assert [row["completion"] for row in after["train"]] == [
        "[phone] is that of Ada.",
        "Call [phone], please.",
        "We can: [phone].",
    ]
    assert sentences == [
        "Left out 1 row of train: the answer itself would be masked. Masked 3 rows of train (phone numbers).",
    ]


def test_two_good_sentences_for_one_prompt_are_not_overwritten_but_labels_are(tmp_path: Path) -> None:
    def matches(answers: list[str]) -> list[tuple[str, int]]:
        rows = [{"prompt": f"What is number {n}?", "completion": f"Number {n} it is."} for n in range(20)]
        rows += [{"prompt": "Can you order a pizza?", "completion": answer} for answer in answers]
        file = tmp_path / f"{len(answers[0])}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        finding = next(finding for finding in check(str(file)).findings if finding.kind == "conflicting_answers")
        return finding.matches

    no = "I am sorry, but I cannot order a pizza for you."
    assert matches([no, no.lower(), "Ordering food is beyond what I can do for you."]) == [
        ("train", n) for n in (20, 21, 22)
    ]
    assert matches(["no", "No", "yes"]) == [("train", 20)] * 3


def test_a_chosen_answer_that_is_one_turn_keeps_its_form() -> None:
    row = {"conversations": [], "chosen": {"from": "gpt", "value": "no"}, "rejected": {"from": "gpt", "value": "?"}}
    columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}
    action = Action("relabel", "conflicting_answers", "train", (0,), columns=columns, answer="yes")
    assert apply({"train": [row]}, action)[0]["train"][0]["chosen"] == {"from": "gpt", "value": "yes"}


def test_indices_are_those_of_the_source_whatever_the_order_of_the_actions() -> None:
    actions = [
        Action("drop", "empty_answer", "train", (0, 1)),
        Action("relabel", "conflicting_answers", "train", (4,), columns=PAIR, answer="new"),
        Action("deduplicate", "exact_duplicate", "train", (1, 3)),
    ]
    after, sentences = apply_all(numbered(), actions)
    assert [row["completion"] for row in after["train"]] == ["a2", "new"]
    assert sentences[1] == "Removed 1 row of train (exact duplicates)."


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (Action("burn", "email", "train", (0,)), "no such remedy"),
        (Action("drop", "email", "dev", (0,)), "no such split"),
        (Action("drop", "email", "train", (99,)), "no such row"),
        (Action("move", "email", "train", (0,)), "The target split of these rows is missing"),
        (Action("relabel", "email", "train", (0,)), "The right answer is missing"),
    ],
)
def test_what_cannot_be_done_is_said(action: Action, words: str) -> None:
    with pytest.raises(InputError, match=words):
        apply(numbered(), action)


def test_only_a_remedy_that_fits_is_taken() -> None:
    finding = Finding("exact_duplicate", "train", [1])
    assert action_for(finding, PAIR).remedy == "deduplicate"
    with pytest.raises(InputError, match="not a remedy for this finding"):
        action_for(finding, PAIR, "mask")
    with pytest.raises(InputError, match="no automatic remedy"):
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
    assert left == {
        ("conflicting_answers", "train"),
        ("not_covered", "test"),
        ("near_duplicate", "test"),
        ("suspicious_label", "train"),
    }
    assert sum(mended.rows.values()) == sum(version.rows.values()) - mended.excluded and mended.parent == version.id
    assert [row.cells for row in rows_of(version)] == [
        row for split in ("train", "test") for row in _source_rows(split)
    ]


def _source_rows(split: str) -> list[dict[str, Any]]:
    from ftlab.data.load import load_rows

    return list(load_rows(DataConfig(source="messy_tickets")).splits[split])
