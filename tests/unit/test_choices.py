"""Multiple choice: the choices stand in the prompt and the right one, with its letter, is the answer."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from ftlab.config import DataConfig
from ftlab.core.workspace import Workspace
from ftlab.data.conversion import to_messages
from ftlab.data.formats import detect
from ftlab.data.inspection import inspect
from ftlab.data.partition import prompt_fingerprint
from ftlab.data.shapes import Detected, UnusableRow
from ftlab.errors import InputError

COLORS = ["red", "green", "blue", "gray"]
ENDING = "\nA. red\nB. green\nC. blue\nD. gray"


def asked(rows: list[dict[str, Any]], **settings: Any) -> list[tuple[str, str]]:
    """The prompt and answer of each row as they are trained."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    detected = detect(columns, rows, **settings)
    turns = [to_messages(row, detected) for row in rows]
    assert all(turn[-1]["role"] == "assistant" for turn in turns)
    return [(turn[-2]["content"], turn[-1]["content"]) for turn in turns]


def object_of(letters: str) -> list[dict[str, str]]:
    return [{"label": letter, "text": color} for letter, color in zip(letters, COLORS, strict=True)]


# The rows of public data sets, each with the same four choices; the right ones are green, gray and red.
LAYOUTS: dict[str, list[dict[str, Any]]] = {
    "MMLU on the Hub": [{"question": "Q?", "choices": COLORS, "answer": number} for number in (1, 3, 0)],
    "numbers as text": [{"question": "Q?", "options": COLORS, "answer": number} for number in "130"],
    "pandas, one answer missing": [
        {"question": "Q?", "choices": COLORS, "answer": number} for number in (1.0, 3.0, 0.0)
    ],
    "from 1": [{"question": "Q?", "choices": COLORS, "answer": number} for number in (2, 4, 1)],
    "ARC": [
        {"question": "Q?", "choices": {"text": COLORS, "label": list(labels)}, "answerKey": key}
        for labels, key in (("ABCD", "B"), ("1234", "4"), ("ABCD", "A"))
    ],
    "MMLU as CSV": [
        {"question": "Q?", "A": "red", "B": "green", "C": "blue", "D": "gray", "answer": letter} for letter in "BDA"
    ],
    "CommonsenseQA": [
        {"id": "x", "question": {"stem": "Q?", "choices": object_of("ABCD")}, "answerKey": key} for key in "BDA"
    ],
    "HellaSwag": [{"ctx": "Q?", "endings": COLORS, "label": label, "split": "train"} for label in "130"],
    "MedMCQA": [
        {"question": "Q?", "opa": "red", "opb": "green", "opc": "blue", "opd": "gray", "cop": place}
        for place in (1, 3, 0)
    ],
    "MedQA": [
        {"question": "Q?", "answer": color, "options": dict(zip("ABCD", COLORS, strict=True)), "answer_idx": letter}
        for color, letter in (("green", "B"), ("gray", "D"), ("red", "A"))
    ],
    "AQuA": [
        {"question": "Q?", "options": [f"{a}){b}" for a, b in zip("ABCD", COLORS, strict=True)], "correct": key}
        for key in "BDA"
    ],
    "MathQA": [
        {"Problem": "Q?", "options": "a ) red , b ) green , c ) blue , d ) gray", "correct": key} for key in "bda"
    ],
    "printed by NumPy": [
        {"question": "Q?", "choices": "['red' 'green' 'blue' 'gray']", "answer": number} for number in "130"
    ],
    "printed by pandas": [
        {
            "question": "Q?",
            "choices": "{'text': array(['red', 'green', 'blue', 'gray'], dtype=object), "
            "'label': array(['A', 'B', 'C', 'D'], dtype=object)}",
            "answerKey": key,
        }
        for key in "BDA"
    ],
    "texts": [{"question": "Q?", "choices": COLORS, "answer": color} for color in ("green", "Gray ", "red")],
    "letters and lines": [{"question": "Q?", "choices": COLORS, "answer": text} for text in ("B. green", "(d)", "A")],
    "headers that no tool writes": [{"Frage": "Wie ist es?", "Farben": COLORS, "Antwort": n} for n in (1, 3, 0)],
    "a table without a header": [
        {
            "column 1": "Q?",
            "column 2": "red",
            "column 3": "green",
            "column 4": "blue",
            "column 5": "gray",
            "column 6": a,
        }
        for a in "BDA"
    ],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_choices_end_the_prompt_and_the_answer_is_the_letter_and_text_of_the_right_one(layout):
    pairs = asked(LAYOUTS[layout])
    assert {prompt for prompt, _ in pairs} <= {"Q?" + ENDING, "Wie ist es?" + ENDING}
    assert [answer for _, answer in pairs] == ["B. green", "D. gray", "A. red"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_roles_that_the_data_tab_writes_read_the_rows_alike(layout):
    rows = LAYOUTS[layout]
    assert asked(rows, mapping=detect(list(rows[0]), rows).columns) == asked(rows)


def test_a_passage_stands_before_the_choices():
    rows = [{"article": "Long ago.", "question": "Q?", "options": ["x", "y"], "answer": a} for a in "AB"]
    assert asked(rows)[0] == ("Q?\n\nLong ago.\nA. x\nB. y", "A. x")


def test_a_question_that_lists_its_choices_gets_no_second_list():
    rows = [{"question": "Q?\nA) x\nB) y", "choices": ["x", "y"], "answer": a} for a in "AB"]
    assert asked(rows)[1] == ("Q?\nA) x\nB) y", "B. y")


def test_a_template_says_where_the_choices_stand():
    rows = [{"question": "Q?", "choices": ["x", "y"], "answer": a} for a in (0, 1)]
    assert asked(rows, template="Choose.\n{choices}\n{question}")[1] == ("Choose.\nA. x\nB. y\nQ?", "B. y")
    assert asked(rows, template="Quiz: {question}")[1] == ("Quiz: Q?\nA. x\nB. y", "B. y")


def test_a_number_among_numbers_is_a_text_and_among_texts_the_place_of_a_choice():
    sums = [{"question": f"{n} + 1?", "choices": [n + 1, n + 2, n + 3], "answer": n + 1} for n in range(5)]
    assert [answer for _, answer in asked(sums)] == [f"A. {n + 1}" for n in range(5)]
    places = [{"question": f"{n} + 1?", "choices": ["2", "1", "0"], "answer": n} for n in range(3)]
    assert [answer for _, answer in asked(places)] == ["A. 2", "B. 1", "C. 0"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (4, "none of its choices"),
        (-1, "none of its choices"),
        ("Z", "none of its choices"),
        ("B. red", "none of its choices"),
        ("purple", "none of its choices"),
        ({"a": 1}, "none of its choices"),
        ("", "empty answer"),
        (None, "empty answer"),
        ([], "empty answer"),
        ([0, 2], "more than one right answer"),
        ("A, C", "more than one right answer"),
    ],
)
def test_an_answer_that_is_no_choice_is_refused_with_the_reason(answer, reason):
    rows: list[dict[str, Any]] = [{"question": "Q?", "choices": COLORS, "answer": n} for n in (0, 1, 2)]
    detected = detect(list(rows[0]), rows)
    with pytest.raises(UnusableRow, match=reason):
        to_messages(rows[0] | {"answer": answer}, detected)


@pytest.mark.parametrize("choices", [[], None, ["red"], ["red", ""], "red", 7])
def test_a_row_without_choices_is_refused(choices):
    rows: list[dict[str, Any]] = [{"question": "Q?", "choices": COLORS, "answer": n} for n in (0, 1, 2)]
    with pytest.raises(UnusableRow, match="no choices"):
        to_messages(rows[0] | {"choices": choices}, detect(list(rows[0]), rows))


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_all_rows_decide_whether_numbers_count_from_0_or_from_1(tmp_path: Path, workspace: Workspace):
    numbers = [1 + place % 3 for place in range(3000)]
    numbers[1501] = 0  # in no sample of the rows
    rows = [{"question": f"Question {n}?", "choices": COLORS, "answer": a} for n, a in enumerate(numbers)]
    read = inspect(DataConfig(source=written(tmp_path / "q.jsonl", rows), near_duplicates="apart"), workspace)
    assert "counted from 0" in read.why and "counted from 0" in "".join(read.notes)
    assert read.messages(0)[-1]["content"] == "B. green"


def test_numbers_that_may_count_from_0_or_1_are_refused_and_can_be_trained_as_they_are(
    tmp_path: Path, workspace: Workspace
):
    rows = [{"question": f"Question {n}?", "choices": COLORS, "answer": 1 + n % 3} for n in range(40)]
    source = written(tmp_path / "q.jsonl", rows)
    with pytest.raises(InputError, match="the rows do not tell whether from 0 or from 1"):
        inspect(source, workspace)
    named = inspect(DataConfig(source=source, columns={"prompt": "question", "completion": "answer"}), workspace)
    assert named.messages(0)[-1]["content"] == "1"
    assert any('set --column choices="choices"' in note for note in named.notes)


def test_bad_rows_are_counted_and_the_note_says_what_is_trained(tmp_path: Path, workspace: Workspace):
    path = tmp_path / "quiz.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow("question A B C D answer".split())
        for place in range(40):
            table.writerow([f"Question {place}?", *COLORS, "ABCDE"[place % 5] if place > 2 else ""])
    read = inspect(str(path), workspace)
    assert read.dropped == {"an answer that is none of its choices": 8, "empty answer": 3}
    assert read.notes[0].startswith("Multiple choice: each prompt lists the choices in A, B, C and D")
    assert "'D. gray'" in read.notes[0]


@pytest.mark.parametrize("numbers", [[0, 1, 2, 3, 4], [1, 2, 3]])
def test_no_base_is_guessed_from_a_tie(numbers):
    rows = [{"question": "Q?", "choices": COLORS, "answer": n} for n in numbers]
    detected = detect(list(rows[0]), rows)
    with pytest.raises(UnusableRow, match="from 0 or from 1"):
        to_messages(rows[1], detected)


def test_answers_that_most_rows_do_not_offer_are_said_to_hide_the_choices():
    rows = [{"question": "Q?", "choices": COLORS, "answer": answer} for answer in ("Q", "Q", "A")]
    assert "answers only number or letter the choices in choices" in detect(list(rows[0]), rows).notes()[-1]


def test_judged_answers_stay_judged_but_not_by_a_column_that_repeats_the_answer():
    rows = [
        {"prompt": "Q?", "options": ["yes", "no"], "completion": ("yes", "no")[n % 2], "label": n % 2, "liked": n < 2}
        for n in range(4)
    ]
    judged = [{key: value for key, value in row.items() if key != "label"} for row in rows]
    assert detect(list(judged[0]), judged).columns["label"] == "liked"
    assert asked(judged[:1] + judged[:1])[0] == ("Q?\nA. yes\nB. no", "A. yes")
    with pytest.raises(UnusableRow, match="marked as bad"):
        to_messages(judged[3], detect(list(judged[0]), judged))
    repeated = [{key: value for key, value in row.items() if key != "liked"} for row in rows]
    assert detect(list(repeated[0]), repeated).format == "multiple_choice"


def test_backslashes_that_a_person_typed_stay():
    rows = [{"question": "Q?", "choices": r"['\frac{1}{2}', '\pi']", "answer": n} for n in (0, 1)]
    assert asked(rows)[0] == ("Q?\nA. \\frac{1}{2}\nB. \\pi", "A. \\frac{1}{2}")


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Who?", "answers": ["NYC", "New York"], "answer": "NYC"},  # two right answers
        {"question": "Who?", "answer1": "NYC", "answer2": "New York", "answer": "NYC"},
        {"prompt": "Who?", "options": ["formal", "short"], "completion": "It was me, as you know."},
        {"prompt": "Sort this.", "tags": ["billing", "login"], "completion": "billing"},
    ],
)
def test_lists_that_are_no_choices_leave_the_answer_alone(row):
    assert asked([row] * 4)[0][1] in (row.get("answer"), row.get("completion"))


def test_columns_named_as_choices_that_hold_none_are_refused():
    rows = [{"question": "Q?", "choices": COLORS, "note": "It is green."} for _ in range(4)]
    with pytest.raises(InputError, match="The column question holds no choices"):
        detect(list(rows[0]), rows, {"choices": "question"})
    with pytest.raises(InputError, match="No column of answers points at the choices in choices"):
        detect(list(rows[0]), rows, {"choices": "choices", "prompt": "question", "completion": "note"})
    with pytest.raises(InputError, match="Columns of choices cannot be combined"):
        detect(list(rows[0]), rows, {"choices": "choices", "text": "question"})


def test_columns_of_any_name_are_choices_if_a_person_names_the_first():
    rows = [{"Was": "Q?", "Wahl 1": "x", "Wahl 2": "y", "Wahl 3": "z", "gut": a} for a in "CAB"]
    mapping = {"prompt": "Was", "completion": "gut", "choices": "Wahl 1"}
    assert asked(rows, mapping=mapping)[0] == ("Q?\nA. x\nB. y\nC. z", "C. z")


def test_a_question_whose_choices_are_shuffled_is_the_same_question_for_the_split():
    def print_of(choices: list[str], question: str = "Q?") -> str:
        rows = [{"question": question, "choices": choices, "answer": n} for n in (0, 1)]
        return prompt_fingerprint(to_messages(rows[0], detect(list(rows[0]), rows)))

    assert print_of(["x", "y", "z"]) == print_of(["z", "x", "y"])
    assert len({print_of(["x", "y", "z"]), print_of(["x", "y"]), print_of(["x", "y", "z"], "R?")}) == 3


def test_no_choices_are_looked_for_where_there_are_votes():
    rows = [{"prompt": "Q?", "answer_a": "x", "answer_b": "y", "winner": side} for side in "abab"]
    detected: Detected = detect(list(rows[0]), rows)
    assert detected.format == "comparison" and detected.choices is None
