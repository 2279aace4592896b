"""Labels, votes and scores of other tools, answers that are no text, and pairs that say nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ftlab.config import DataConfig
from ftlab.data.cells import suggested_texts
from ftlab.data.checks import check
from ftlab.data.conversion import (
    FIRST_SPAN,
    LEFT_OVER,
    MARKED_BAD,
    NO_WINNER,
    NOT_JUDGED,
    WRITTEN_OUT,
    convert,
    to_messages,
)
from ftlab.data.formats import ColumnsUnknown, detect
from ftlab.data.readers import read_table
from ftlab.data.remedies import Action, answer_of, plan_for
from ftlab.data.shapes import UnusableRow
from ftlab.data.splits import Prepared, prepare
from ftlab.errors import InputError

CASES = Path(__file__).parents[1] / "cases"


def prepared(rows: list[dict[str, Any]] | Path, stage: str, tmp_path: Path | None = None, **settings: Any) -> Prepared:
    if tmp_path is not None:
        path = tmp_path / "a.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path = rows
    return prepare(DataConfig(source=str(path), **settings), stage=stage)


def counts(result: Prepared) -> int:
    return sum(map(len, result.splits.values()))


@pytest.mark.parametrize("name", ["desirable.jsonl", "int.csv", "int.jsonl", "rating.jsonl", "tag.jsonl", "words.csv"])
def test_the_reported_labels_are_24_good_and_24_bad_answers(name: str) -> None:
    path = CASES / "02-kto-labels-not-bool" / f"kto_{name}"
    judged = [row for rows in prepared(path, "kto").splits.values() for row in rows]
    assert len(judged) == 48
    assert all(row["label"] == row["completion"][0]["content"].startswith("good") for row in judged)
    learned = prepared(path, "sft")
    assert counts(learned) == 24 and learned.manifest["dropped"] == {MARKED_BAD: 24}


NAN = math.nan
JUDGED = {
    "numbers in text": ("label", ["1", "0"]),
    "floats": ("label", [1.0, 0.0]),
    "signs": ("score", [1, -1]),
    "thumbs": ("feedback", ["thumbs_up", "thumbs_down"]),
    "thumbs in words": ("thumb", ["Thumbs Up", "Thumbs Down"]),
    "pictures": ("vote", ["👍", "👎"]),
    "yes and no": ("is_correct", ["yes", "No"]),
    "accepted": ("label", ["accepted", "rejected"]),
    "stars": ("stars", [5, 2]),
    "grades from 0": ("helpfulness", [4, 0]),
    "ten grades": ("rating", [9, 3]),
}
LAYOUTS = {
    "pairs": lambda n: {"prompt": f"ask {n}", "completion": f"say {n}"},
    "alpaca": lambda n: {"instruction": f"ask {n}", "input": "", "output": f"say {n}"},
    "sharegpt": lambda n: {
        "conversations": [{"from": "human", "value": f"ask {n}"}, {"from": "gpt", "value": f"say {n}"}]
    },
    "messages": lambda n: {
        "messages": [{"role": "user", "content": f"ask {n}"}, {"role": "assistant", "content": f"say {n}"}]
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", JUDGED)
def test_bad_answers_are_told_by_any_label_in_any_layout(tmp_path: Path, kind: str, layout: str) -> None:
    name, (good, bad) = JUDGED[kind]
    rows = [LAYOUTS[layout](n) | {name: good if n % 3 else bad} for n in range(36)]
    assert prepared(rows, "sft", tmp_path).manifest["dropped"] == {MARKED_BAD: 12}
    judged = [row for part in prepared(rows, "kto", tmp_path).splits.values() for row in part]
    assert sum(row["label"] for row in judged) == 24 and len(judged) == 36


def test_gaps_and_undecided_grades_are_neither_good_nor_bad(tmp_path: Path) -> None:
    rows = [LAYOUTS["pairs"](n) | {"rating": (1, 3, 5, NAN)[n % 4]} for n in range(48)]
    assert prepared(rows, "sft", tmp_path).manifest["dropped"] == {MARKED_BAD: 12, NOT_JUDGED: 24}
    rows = [LAYOUTS["pairs"](n) | {"label": ("good", "bad", "unsure", None)[n % 4]} for n in range(48)]
    assert prepared(rows, "sft", tmp_path).manifest["dropped"] == {MARKED_BAD: 12, NOT_JUDGED: 24}


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("label", ["billing", "shipping"]),
        ("topic", [1, 0]),
        ("score", [0.91, 0.12]),
        ("id", [0, 1]),
        ("rating", ["a", "b"]),
    ],
)
def test_a_column_that_does_not_judge_leaves_no_answer_out(tmp_path: Path, name: str, cells: list[Any]) -> None:
    rows = [LAYOUTS["pairs"](n) | {name: cells[n % 2]} for n in range(24)]
    assert counts(prepared(rows, "sft", tmp_path)) == 24


@pytest.mark.parametrize("name", ["nan_label.json", "nan_label.jsonl"])
def test_a_nan_among_labels_is_a_missing_label(name: str) -> None:
    result = prepared(CASES / "06-nan-label" / name, "sft")
    assert result.manifest["format"] == "classification" and counts(result) == 42
    assert {row["messages"][-1]["content"] for row in result.splits["train"]} == {"pos", "neg"}


def test_classes_that_a_table_made_floats_are_whole_numbers_again(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({"text": [f"review {n}" for n in range(48)], "label": [n % 2 for n in range(48)]})
    frame.loc[::8, "label"] = None
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.csv", index=False)
    for name in ("a.parquet", "a.csv"):
        result = prepared(tmp_path / name, "sft")
        assert result.manifest["format"] == "classification" and counts(result) == 42, name
        answers = {row["messages"][-1]["content"] for row in result.splits["train"]}
        assert answers == ({"0", "1"} if name == "a.parquet" else {"0.0", "1.0"}), name


def votes(cells: list[Any], names: tuple[str, str, str], talk: bool = False) -> list[dict[str, Any]]:
    first, second, winner = names

    def answer(side: str, n: int) -> Any:
        text = f"{side} says {n}"
        return [{"role": "user", "content": f"ask {n}"}, {"role": "assistant", "content": text}] if talk else text

    return [
        {"prompt": f"ask {n}", first: answer("A", n), second: answer("B", n), winner: cells[n % len(cells)]}
        for n in range(48)
    ]


VOTES = {
    "arena": (["model_a", "model_b", "tie", "tie (bothbad)"], ("conversation_a", "conversation_b", "winner"), True),
    "letters": (["A", "B", "tie", None], ("response_a", "response_b", "winner"), False),
    "numbers": (["1", "2", "both", "neither"], ("response_1", "response_2", "preference"), False),
    "ids": ([0, 1, None, None], ("response_0", "response_1", "better_response_id"), False),
    "signed": ([-2, 3, 0, 0], ("response1", "response2", "overall_preference"), False),
    "sides": (["left", "right", "same", ""], ("answer_left", "answer_right", "choice"), False),
    "names": (["response_a", "response_b", "draw", "tie"], ("response_a", "response_b", "vote"), False),
}


@pytest.mark.parametrize("kind", VOTES)
def test_the_winner_of_a_vote_is_chosen_and_ties_are_left_out(tmp_path: Path, kind: str) -> None:
    cells, names, talk = VOTES[kind]
    rows = votes(cells, names, talk)
    pairs = prepared(rows, "dpo", tmp_path)
    assert counts(pairs) == 24 and pairs.manifest["dropped"] == {NO_WINNER: 24}
    for row in pairs.splits["train"]:
        won = "AB"[row["row"] % 4]
        assert row["chosen"][-1]["content"] == f"{won} says {row['row']}"
        assert row["rejected"][-1]["content"] == f"{'BA'[row['row'] % 4]} says {row['row']}"
        assert row["prompt"] == [{"role": "user", "content": f"ask {row['row']}"}]
    learned = prepared(rows, "sft", tmp_path)
    assert counts(learned) == 24
    assert all(row["messages"][-1]["content"][0] == "AB"[row["row"] % 4] for row in learned.splits["train"])


def test_the_reported_votes_and_flags_and_scores_are_read(tmp_path: Path) -> None:
    reported = CASES / "11-votes-of-other-tools/arena_votes.jsonl"
    assert counts(prepared(reported, "dpo")) == 24 == counts(prepared(reported, "sft"))
    flags = [
        {"prompt": f"ask {n}", "response_a": "A", "response_b": "B"}
        | {"winner_model_a": int(n % 3 == 0), "winner_model_b": int(n % 3 == 1), "winner_tie": int(n % 3 == 2)}
        for n in range(48)
    ]
    assert counts(prepared(flags, "dpo", tmp_path)) == 32
    scores = [
        {"question": f"ask {n}", "answer_0": "A", "answer_1": "B", "score_0": n % 3, "score_1": 1} for n in range(48)
    ]
    result = prepared(scores, "dpo", tmp_path)
    assert counts(result) == 32
    assert all(row["chosen"][0]["content"] == ("B" if row["row"] % 3 == 0 else "A") for row in result.splits["train"])


def test_a_vote_can_be_named(tmp_path: Path) -> None:
    rows = [{"q": f"ask {n}", "ours": "A", "theirs": "B", "who": "a" if n % 2 else "b"} for n in range(24)]
    named = {"prompt": "q", "first": "ours", "second": "theirs", "winner": "who"}
    result = prepared(rows, "dpo", tmp_path, columns=named)
    assert counts(result) == 24
    assert all(row["chosen"][0]["content"] == "BA"[row["row"] % 2] for row in result.splits["train"])


def test_equal_scores_of_a_pair_are_a_tie() -> None:
    result = prepared(CASES / "09-dpo-pairs-that-say-nothing/uf_ties.jsonl", "dpo")
    assert counts(result) == 24 and result.manifest["dropped"] == {NO_WINNER: 24}
    assert counts(prepared(CASES / "09-dpo-pairs-that-say-nothing/uf_ties.jsonl", "sft")) == 48


def test_a_blank_at_the_end_of_one_prompt_is_no_other_prompt() -> None:
    result = prepared(CASES / "10-dpo-prompt-trailing-space/dpo_prompt_ws.jsonl", "dpo")
    assert counts(result) == 48 and not result.manifest["dropped"]


@pytest.mark.parametrize(
    ("name", "row", "answer"),
    [
        ("numeric_answers.jsonl", 3, "4"),
        ("mixed_types.jsonl", 3, "4"),
        ("output_object.json", 1, '{"name": "n1", "age": null}'),
        ("instr_object.json", 1, "fine 1"),
    ],
)
def test_answers_that_are_no_text_are_written_out_with_a_note(name: str, row: int, answer: str) -> None:
    result = prepared(CASES / "12-answers-not-text" / name, "sft")
    rows = {one["row"]: one["messages"] for part in result.splits.values() for one in part}
    assert not result.manifest["dropped"] and rows[row][-1]["content"] == answer
    assert any(WRITTEN_OUT in note for note in result.manifest["notes"])
    assert any(WRITTEN_OUT in note for note in check(str(CASES / "12-answers-not-text" / name)).notes)
    if name == "instr_object.json":
        assert rows[1][0]["content"] == '{"task": "extract", "n": 1}'


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (3.5, "3.5"),
        (4.0, "4"),
        (True, "true"),
        (["a", "b"], '["a", "b"]'),
        ([1, 2], "[1, 2]"),
        ({"a": "ü"}, '{"a": "ü"}'),
    ],
)
def test_every_kind_of_cell_has_its_text(cell: Any, text: str) -> None:
    rows = [{"prompt": "ask", "completion": cell}] * 12
    assert to_messages(rows[0], detect(list(rows[0]), rows))[-1]["content"] == text


@pytest.mark.parametrize("left", ["None", "nan", "NaN", "null", "<noinput>", "N/A"])
def test_what_a_program_left_in_the_input_is_not_asked(tmp_path: Path, left: str) -> None:
    rows = [{"instruction": f"Say {n}", "input": left if n % 2 else "in words", "output": f"{n}."} for n in range(24)]
    result = prepared(rows, "sft", tmp_path)
    asked = {row["row"]: row["messages"][0]["content"] for row in result.splits["train"]}
    assert all(text == (f"Say {n}" if n % 2 else f"Say {n}\n\nin words") for n, text in asked.items())
    assert any(LEFT_OVER in note for note in result.manifest["notes"])


def test_a_thought_without_an_answer_is_found_and_not_trained(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"What is {n} plus 1?", "completion": f"<think>Count on.</think>It is {n + 1}."} for n in range(30)
    ]
    rows[4]["completion"] = "<think>Count on from"
    rows[9]["completion"] = "<think>Count on.</think>\n"
    path = tmp_path / "thoughts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (finding,) = [finding for finding in check(str(path)).findings if finding.kind == "empty_answer"]
    assert finding.rows == [4, 9] and finding.detail["reasons"] == {"a thought without an answer": 2}
    assert prepare(DataConfig(source=str(path))).manifest["dropped"] == {"a thought without an answer": 2}


@pytest.mark.parametrize("gap", ["nan", "None", "NULL", "N/A"])
def test_a_gap_among_labels_that_a_program_wrote_is_a_missing_label(gap: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    labels = [gap if n % 7 == 0 else "1" if n % 3 else "0" for n in range(60)]
    lines = [f"What is {n} plus 1?,It is {n + 1}.,{label}" for n, label in enumerate(labels)]
    path.write_text("\n".join(["prompt,completion,label", *lines]), encoding="utf-8")
    result = prepared(path, "sft")
    assert result.manifest["format"] == "kto"
    assert result.manifest["dropped"] == {MARKED_BAD: labels.count("0"), NOT_JUDGED: labels.count(gap)}


def test_answers_of_squad_are_their_first_text_and_the_context_is_asked_with_them():
    answers = [{"text": ["12 rooms", "twelve"], "answer_start": [9, 9]}, {"text": [], "answer_start": []}]
    rows = [{"id": "5", "context": "It has 12 rooms.", "question": "How many rooms?", "answers": a} for a in answers]
    rows += [row | {"answers": json.dumps(row["answers"])} for row in rows]  # from a CSV
    detected = detect(list(rows[0]), rows)
    for first, none in (rows[:2], rows[2:]):
        messages, remarks = convert(first, detected)
        assert [turn["content"] for turn in messages] == ["How many rooms?\n\nIt has 12 rooms.", "12 rooms"]
        assert remarks == [FIRST_SPAN]
        with pytest.raises(UnusableRow, match="empty answer"):  # a question that the context does not answer
            convert(none, detected)


ASKED_AND_TOLD = [("system", "Be kind."), ("user", "Where?"), ("assistant", "Here.")]
GEMINI = [
    {"role": "user", "parts": [{"text": "Where?"}]},
    {"role": "model", "parts": [{"text": "He"}, {"text": "re."}]},
]
PARTS = [{"role": "user", "content": [{"text": "Where?"}]}, {"role": "assistant", "content": [{"text": "Here."}]}]


@pytest.mark.parametrize(
    "row",
    [
        {"systemInstruction": {"role": "system", "parts": [{"text": "Be kind."}]}, "contents": GEMINI},
        {"system_instruction": {"parts": [{"text": "Be "}, {"text": "kind."}]}, "contents": GEMINI},
        {"systemInstruction": {"parts": {"text": "Be kind."}}, "contents": json.dumps(GEMINI)},
        {"system": [{"text": "Be kind."}, {"cachePoint": {"type": "default"}}], "messages": PARTS},
        {"system": json.dumps([{"type": "text", "text": "Be kind."}]), "messages": PARTS},
        {"system": [{"role": "system", "content": [{"type": "text", "text": "Be kind."}]}], "messages": PARTS},
        {"system": "Be kind.", "prompt": [{"type": "text", "text": "Where?"}], "completion": "Here."},
        {"system": "Be kind.", "prompt": "Where?", "completion": [{"type": "output_text", "text": "Here."}]},
    ],
)
def test_content_parts_are_read_as_their_text(row: dict[str, Any]) -> None:
    messages, remarks = convert(row, detect(list(row), [row] * 12))
    assert [(message["role"], message["content"]) for message in messages] == ASKED_AND_TOLD and remarks == []


def test_json_that_is_a_system_prompt_or_an_answer_stays_json() -> None:
    row = {"system": '{"role": "judge", "rules": []}', "prompt": "Where?", "completion": [{"text": "Here."}]}
    messages = to_messages(row, detect(list(row), [row]))
    assert messages[0]["content"] == row["system"] and json.loads(messages[-1]["content"]) == row["completion"]
    row = {"contents": [{"role": "user", "parts": [{"inlineData": {"data": "x"}}]}, GEMINI[1]]}
    with pytest.raises(UnusableRow, match="not text"):
        convert(row, detect(list(row), [row]))


def test_answers_in_content_parts_are_masked_and_relabeled(tmp_path: Path) -> None:
    roles = {"messages": "contents"}
    mail = {"role": "model", "parts": [{"text": "Write to ann@firm.com."}]}
    rows = {"train": [{"contents": [GEMINI[0], mail]} for _ in range(2)]}
    assert answer_of(rows["train"][0], roles) == "Write to ann@firm.com."
    plan = plan_for(rows, [Action("mask", "email", "train", (0, 1), columns=roles)])
    assert "ann@" not in json.dumps(plan.changed["train", 0]) and plan.changed["train", 0]["contents"][0] == GEMINI[0]
    plan = plan_for(rows, [Action("relabel", "conflicting_answers", "train", (1,), columns=roles, answer="Here.")])
    assert plan.changed["train", 1]["contents"][1] == {"role": "model", "parts": [{"text": "Here."}]}


PAIRED = {"question": "Where?", "good": "Here.", "bad": "There.", "mark": "a", "answer": "Here."}


@pytest.mark.parametrize(
    "mapping, missing",
    [
        ({"prompt": "question", "chosen": "good"}, "No column is set as rejected"),
        ({"rejected": "bad"}, "No column is set as chosen"),
        ({"prompt": "question", "rejected": "bad"}, "No column is set as chosen"),
        ({"prompt": "question", "first": "good"}, "No column is set as second"),
        ({"second": "good"}, "No column is set as first"),
        ({"first": "good", "second": "bad"}, "No column is set as the winner"),
        ({"winner": "mark"}, "No column is set as first"),
        ({"completion": "good", "chosen": "bad", "prompt": "question"}, "cannot be combined"),
        ({"chosen": "good", "first": "bad"}, "cannot be combined"),
        ({"text": "question", "completion": "good"}, "cannot be combined"),
        ({"text": "question", "prompt": "good"}, "cannot be combined"),
        ({"messages": "question", "rejected": "good"}, "cannot be combined"),
    ],
)
def test_half_a_set_of_roles_is_one_clear_message(mapping: dict[str, str], missing: str) -> None:
    with pytest.raises(InputError) as refused:
        detect(list(PAIRED), [PAIRED] * 12, mapping)
    text = refused.value.message()
    assert missing in text and "Allowed: " in text and "--column" in text


def test_the_other_half_is_found_by_its_name() -> None:
    rows = [{"prompt": f"Where {n}?", "a": "Here.", "rejected": "There."} for n in range(12)]
    detected = detect(list(rows[0]), rows, {"chosen": "a"})
    assert detected.columns == {"prompt": "prompt", "chosen": "a", "rejected": "rejected"}
    rows = [{"input": f"Where {n}?", "best": "Here.", "non_preferred_output": "There."} for n in range(12)]
    assert detect(list(rows[0]), rows, {"chosen": "best"}).columns["rejected"] == "non_preferred_output"


@pytest.mark.parametrize(
    "row, says",
    [
        ({"title": "t", "mapping": {"a": {"message": None}}}, "ChatGPT"),
        ({"uuid": "u", "name": "Parcels", "chat_messages": [{"sender": "human", "text": "Hi"}]}, "Claude"),
        ({"custom_id": "a", "method": "POST", "url": "/v1/chat", "body": {"messages": []}}, "custom_id"),
        ({"custom_id": "a", "response": {"status_code": 200, "body": {}}, "error": None}, "custom_id"),
        ({"title": "Hotel", "paragraphs": [{"context": "c", "qas": []}]}, "SQuAD"),
    ],
)
def test_layouts_that_are_not_read_are_named(row: dict[str, Any], says: str) -> None:
    rows = [row | {"n": n} for n in range(12)]
    with pytest.raises(InputError) as refused:
        detect([*row, "n"], rows)
    assert not isinstance(refused.value, ColumnsUnknown)
    assert says in refused.value.message() and "--column" not in refused.value.message()


def test_columns_of_one_value_of_urls_or_of_paths_are_never_suggested() -> None:
    rows = [
        {
            "verb": "POST",
            "place": f"/v1/chat/{n}",
            "page": f"https://shop.com/{n}",
            "file": f"docs/a{n}.txt",
            "z": f"Hi {n}",
        }
        for n in range(12)
    ]
    assert suggested_texts(list(rows[0]), rows) == ["z"]
    assert suggested_texts(["a", "b"], [{"a": "x", "b": "y"}] * 3) == ["a", "b"]  # every row alike says nothing


def test_articles_of_squad_are_rows_of_questions(tmp_path: Path) -> None:
    asked = [
        {"id": str(n), "question": f"Door {n}?", "answers": [{"text": f"{n} am", "answer_start": 3}]} for n in (7, 8)
    ]
    asked.append({"id": "9", "question": "Dinner?", "answers": [], "is_impossible": True})
    path = tmp_path / "squad.json"
    path.write_text(
        json.dumps({"version": "v2.0", "data": [{"title": "H", "paragraphs": [{"context": "At 7.", "qas": asked}]}]})
    )
    table = read_table(path)
    rows = list(table.splits["train"])
    detected = detect(table.columns, rows)
    assert "SQuAD" in table.notes[-1]
    messages = to_messages(rows[1], detected)
    assert [message["content"] for message in messages] == ["Door 8?\n\nAt 7.", "8 am"]
    with pytest.raises(UnusableRow, match="empty answer"):
        to_messages(rows[2], detected)
