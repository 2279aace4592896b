"""Whatever people call their columns, a row becomes the same conversation."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from ftlab.config import DataConfig
from ftlab.data.conversion import to_messages
from ftlab.data.formats import detect
from ftlab.data.load import load_rows
from ftlab.data.preferences import pair_of_row
from ftlab.data.splits import detect_format, prepare
from ftlab.errors import InputError


def turns(*texts: str) -> list[dict[str, str]]:
    """user, assistant, user ... with these texts."""
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


def from_value(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]


SYSTEM = {"role": "system", "content": "Be brief."}

KNOWN = [
    ("prompt_completion", {"prompt": "q", "completion": "a"}, turns("q", "a")),
    ("prompt_completion", {"Prompt ": "q", "Response": "a"}, turns("q", "a")),
    ("prompt_completion", {"input": "q", "output": "a", "id": 3}, turns("q", "a")),
    (
        "prompt_completion",
        {"prompt": turns("q", "x", "r"), "completion": turns("", "a")[1:]},
        turns("q", "x", "r", "a"),
    ),
    ("prompt_completion", {"system": "Be brief.", "prompt": "q", "completion": "a"}, [SYSTEM, *turns("q", "a")]),
    ("question_answer", {"question": "q", "answer": "a"}, turns("q", "a")),
    ("question_answer", {"question": "q", "context": "c", "answer": "a"}, turns("q\n\nc", "a")),
    ("alpaca", {"instruction": "q", "input": "", "output": "a"}, turns("q", "a")),
    ("alpaca", {"instruction": "q", "input": "more", "output": "a"}, turns("q\n\nmore", "a")),
    ("alpaca", {"instruction": "q", "context": "more", "response": "a", "category": "z"}, turns("q\n\nmore", "a")),
    ("messages", {"messages": [SYSTEM, *turns("q", "a", "r", "b")]}, [SYSTEM, *turns("q", "a", "r", "b")]),
    ("messages", {"messages": turns("q", "a", "thanks")}, turns("q", "a")),
    ("messages", {"messages": json.dumps(turns("q", "a"))}, turns("q", "a")),
    ("messages", {"log": turns("q", "a"), "id": "7"}, turns("q", "a")),
    (
        "messages",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, turns("", "a")[1]]},
        turns("q", "a"),
    ),
    ("sharegpt", {"conversations": from_value("q", "a", "r", "b")}, turns("q", "a", "r", "b")),
    ("sharegpt", {"system": "Be brief.", "conversations": from_value("q", "a")}, [SYSTEM, *turns("q", "a")]),
    ("preference", {"prompt": "q", "chosen": "a", "rejected": "b"}, turns("q", "a")),
    (
        "preference",
        {"conversations": from_value("q"), "chosen": from_value("", "a")[1], "rejected": from_value("", "b")[1]},
        turns("q", "a"),
    ),
    ("preference", {"chosen": turns("q", "a"), "rejected": turns("q", "b")}, turns("q", "a")),
    ("preference", {"prompt": "q", "chosen": turns("q", "a"), "rejected": turns("q", "b")}, turns("q", "a")),
    (
        "preference",
        {
            "chosen": "\n\nHuman: q\n\nAssistant: x\n\nHuman: r\n\nAssistant: a",
            "rejected": "\n\nHuman: q\n\nAssistant: b",
        },
        turns("q", "x", "r", "a"),
    ),
    (
        "openai_preference",
        {
            "input": {"messages": [SYSTEM, *turns("q")], "tools": [], "parallel_tool_calls": True},
            "preferred_output": turns("", "a")[1:],
            "non_preferred_output": turns("", "b")[1:],
        },
        [SYSTEM, *turns("q", "a")],
    ),
    ("kto", {"prompt": "q", "completion": "a", "label": True}, turns("q", "a")),
    ("kto", {"prompt": turns("q"), "completion": turns("", "a")[1:], "label": "TRUE"}, turns("q", "a")),
    (
        "classification",
        {"text": "q", "label": "billing"},
        turns("Which label fits the text? Answer with the label only.\n\nq", "billing"),
    ),
    (
        "classification",
        {"review": "q", "sentiment": 1},
        turns("Which label fits the text? Answer with the label only.\n\nq", "1"),
    ),
    (
        "alpaca",
        {"instruction": "r", "input": "", "output": "a", "history": [["q", "x"]]},
        turns("q", "x", "r", "a"),
    ),
]


@pytest.mark.parametrize(("name", "row", "expected"), KNOWN)
def test_a_format_is_recognised_and_converted(name: str, row: dict, expected: list) -> None:
    detected = detect(list(row), [row])
    assert (detected.format, to_messages(row, detected)) == (name, expected)
    assert 0.5 < detected.confidence <= 1 and detected.why


def test_the_mapping_of_a_person_wins_over_the_names() -> None:
    row = {"prompt": "not this", "completion": "nor this", "ticket": "q", "triage": "a", "tone": "Be brief."}
    detected = detect(list(row), [row], {"prompt": "ticket", "completion": "triage", "system": "tone"})
    assert to_messages(row, detected) == [SYSTEM, *turns("q", "a")]
    assert (
        detected.confidence == 1
        and "columns set: prompt: ticket" in detected.why
        and detected.unused == ["prompt", "completion"]
    )
    assert to_messages(row, detect(list(row), [row], {"completion": "triage"})) == turns("not this", "a")
    chat = {"log": from_value("q", "a"), "prompt": "x", "completion": "y"}
    assert to_messages(chat, detect(list(chat), [chat], {"messages": "log"})) == turns("q", "a")


def test_several_columns_that_could_be_the_answer_lower_the_confidence() -> None:
    row = {"question": "q", "answer": "a", "solution": "s"}
    detected = detect(list(row), [row])
    assert detected.columns["completion"] == "answer" and detected.confidence < 0.8 and "solution" in detected.why


def test_a_system_prompt_is_put_in_front_and_replaces_none() -> None:
    own = {"messages": [{"role": "system", "content": "Mine."}, *turns("q", "a")]}
    assert to_messages(own, detect(list(own), [own]), "Yours.")[0]["content"] == "Mine."
    plain = {"messages": turns("q", "a")}
    assert to_messages(plain, detect(list(plain), [plain]), "Yours.")[0] == {"role": "system", "content": "Yours."}


def test_text_is_kept_as_it_is() -> None:
    row = {"prompt": "  [{not json} \n", "completion": "    return <b>1</b>\n"}
    assert to_messages(row, detect(list(row), [row])) == turns(row["prompt"], row["completion"])


def test_half_a_character_does_not_reach_the_tokenizer() -> None:
    row = {"prompt": "x \ud83d\ude00 \ud83d", "completion": "a"}
    assert to_messages(row, detect(list(row), [row]))[0]["content"] == "x 😀 \ufffd"


def test_a_format_without_answers_is_refused() -> None:
    with pytest.raises(InputError, match="No usable column"):
        detect(["story"], [{"story": "a long story"}])
    with pytest.raises(InputError, match="no columns"):
        detect([], [])


def test_a_classification_asks_for_one_of_all_labels(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": ("billing", "returns {x}")[n % 2]} for n in range(40)]
    rows.append({"text": "odd one", "label": "rare"})
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepared = prepare(DataConfig(source=str(path)))
    first = prepared.splits["train"][0]["messages"]
    assert first[0]["content"].startswith("Which label fits the text: billing, rare or returns {x}? Answer with")
    assert {row["messages"][-1]["content"] for row in prepared.splits["train"]} <= {"billing", "returns {x}", "rare"}


def test_of_judged_answers_the_good_ones_are_learned(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"prompt": f"q{n}", "completion": f"a{n}", "label": n % 3 == 0} for n in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = prepare(DataConfig(source=str(path))).manifest
    assert manifest["format"] == "kto" and sum(manifest["splits"].values()) == 20
    assert manifest["dropped"] == {"an answer marked as bad": 40}


def test_a_stage_that_does_not_suit_the_data_is_refused_with_the_one_that_does(tmp_path: Path) -> None:
    texts, answers = tmp_path / "texts.jsonl", tmp_path / "answers.jsonl"
    texts.write_text("".join(json.dumps({"text": f"A long story, number {n}."}) + "\n" for n in range(40)))
    answers.write_text("".join(json.dumps({"prompt": f"q {n}", "completion": f"a {n}"}) + "\n" for n in range(40)))
    with pytest.raises(InputError, match=r"plain text \(text\).*--set stage=pretraining"):
        prepare(DataConfig(source=str(texts)), stage="sft")
    with pytest.raises(InputError, match=r"holds prompts and answers.*--set stage=sft.*\{text: completion\}"):
        prepare(DataConfig(source=str(answers)), stage="pretraining")
    learned = prepare(DataConfig(source=str(answers), columns={"text": "completion"}), stage="pretraining").splits
    assert {row["messages"][0]["content"] for rows in learned.values() for row in rows} == {f"a {n}" for n in range(40)}


def test_a_template_makes_the_prompt(tmp_path: Path) -> None:
    row = {"q": "why", "facts": ["a", 1], "said": "because", "none": None}
    template = "Question: {q}\nFacts: {facts} {{sic}} {none}"
    detected = detect(list(row), [row], {"completion": "said"}, template=template)
    assert to_messages(row, detected) == turns('Question: why\nFacts: ["a", 1] {sic} ', "because")
    assert "template" in detected.why and detected.unused == []
    named = detect(["q", "answer"], [{"q": "x", "answer": "y"}], template="Q: {q}")
    assert to_messages({"q": "{answer}", "answer": "y"}, named) == turns("Q: {answer}", "y")
    for wrong, message in [
        ("{quest}", "uses 'quest', which is not a column"),
        ("{qq}", "did you mean {q}"),
        ("no column", "uses no column"),
        ("{q", "unmatched brace"),
        ("{q.__class__}", "not a column of the data"),
    ]:
        with pytest.raises(InputError, match=re.escape(message)):
            detect(list(row), [row], {"completion": "said"}, template=wrong)
    with pytest.raises(InputError, match="cannot be combined"):
        detect(["m", "q"], [{"m": turns("q", "a"), "q": "x"}], {"messages": "m"}, template="{q}")


@pytest.mark.parametrize("columns", [{}, {"label": "category"}, {"label": "category", "prompt": "text"}])
def test_labels_are_found_where_there_are_many_of_them(columns: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "intents.csv"  # sorted by label, as banking77 is
    rows = [f"How is case {label} {number}?,intent_{label}" for label in range(80) for number in range(12)]
    file.write_text("text,category\n" + "\n".join(rows) + "\n", encoding="utf-8")
    detected = detect_format(load_rows(data := DataConfig(source=str(file), columns=columns)), data)
    assert detected.format == "classification" and detected.columns == {"text": "text", "label": "category"}


def test_turns_of_the_arena_in_cells_are_read_as_conversations(tmp_path: Path) -> None:
    """The layout of lmsys-arena-human-preference-55k: JSON lists of prompts and answers, and three flags."""
    cells = ["prompt", "response_a", "response_b", "winner_model_a", "winner_model_b", "winner_tie"]
    rows = []
    for n in range(30):
        asked = [f"Where is lamp {n}?", "And the chair?"][: 1 + n % 2]
        first, second = ([f"{side} {n}", f"{side} again"][: 1 + n % 2] for side in ("Here", "There"))
        flags = [int(n % 3 == vote) for vote in range(3)]
        rows.append([*map(json.dumps, (asked, first, second)), *flags])
    path = tmp_path / "arena.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([cells, *rows])
    loaded = load_rows(DataConfig(source=str(path)))
    detected = detect_format(loaded, DataConfig(source=str(path)))
    read = to_messages(loaded.splits[loaded.main][1], detected)
    assert read == turns("Where is lamp 1?", "There 1", "And the chair?", "There again")
    prompt, chosen, rejected, _ = pair_of_row(loaded.splits[loaded.main][3], detected)
    assert prompt == turns("Where is lamp 3?")
    assert [chosen[0]["content"], rejected[0]["content"]] == ["Here 3", "There 3"]


def test_lists_that_a_prompt_is_about_stay_lists() -> None:
    row = {"prompt": '["pear", "apple"]', "completion": '["apple", "pear"]'}
    assert to_messages(row, detect(list(row), [row])) == turns('["pear", "apple"]', '["apple", "pear"]')
