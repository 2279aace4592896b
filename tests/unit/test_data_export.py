"""What is saved for others can be read by them, computes nothing, and keeps to the format it says it is."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from ftlab.config import DataConfig
from ftlab.core.workspace import Workspace
from ftlab.data.export import export, neutral, problems_of
from ftlab.data.load import load_rows
from ftlab.errors import InputError
from tests.json_shapes import check_output

ROWS: list[dict[str, Any]] = [
    {"prompt": f"ask {n}", "completion": f"answer {n}\nsecond line", "tags": ["a", n], "n": n} for n in range(20)
]


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_rows_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    rows = [{**row, "tags": [str(n)]} for n, row in enumerate(ROWS)]
    done = export(DataConfig(source=write(tmp_path / "a.jsonl", rows)), tmp_path / "new" / name)
    assert done.files == {str(tmp_path / "new" / name): 20}
    assert list(load_rows(DataConfig(source=str(tmp_path / "new" / name))).splits["train"]) == rows


def test_mixed_cells_and_half_characters_do_not_stop_an_export(tmp_path: Path) -> None:
    odd = [{"a": 1, "b": "x \ud83d"}, {"a": "one", "b": None}, {"a": [1], "b": "é"}]
    source = DataConfig(source=write(tmp_path / "a.jsonl", odd))
    export(source, tmp_path / "b.jsonl")
    mended = [odd[0] | {"b": "x \ufffd"}, *odd[1:]]
    assert list(load_rows(DataConfig(source=str(tmp_path / "b.jsonl"))).splits["train"]) == mended
    export(source, tmp_path / "b.parquet")
    cells = [row["a"] for row in load_rows(DataConfig(source=str(tmp_path / "b.parquet"))).splits["train"]]
    assert cells == ["1", "one", "[1]"]
    export(source, tmp_path / "b.csv")


def test_a_csv_computes_nothing_in_a_spreadsheet(tmp_path: Path) -> None:
    evil = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", " =HYPERLINK(1)", "\r=1", "-1.5", "-", "fine", ""]
    rows = [{"prompt": text, "=column": "x"} for text in evil]
    done = export(DataConfig(source=write(tmp_path / "a.jsonl", rows)), tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["prompt", "'=column"]
    assert [row[0] for row in rows] == [f"'{text}" for text in evil[:7]] + ["-1.5", "'-", "fine", ""]
    assert "In 8 rows of out.csv" in done.notes[0]
    assert neutral("a=b") == "a=b" and neutral("+1e3") == "+1e3"


def test_several_splits_become_several_files(tmp_path: Path) -> None:
    done = export(DataConfig(source="support_triage"), tmp_path / "out.csv")
    assert [Path(path).name for path in done.files] == ["out.train.csv", "out.validation.csv", "out.test.csv"]
    done = export(DataConfig(source="support_triage"), tmp_path / "folder", "openai")
    assert load_rows(DataConfig(source=str(tmp_path / "folder"))).rows == sum(done.files.values()) == 800
    with pytest.raises(InputError, match=r"already exists.*--overwrite"):
        export(DataConfig(source="support_triage"), tmp_path / "out.csv")
    export(DataConfig(source="support_triage"), tmp_path / "out.csv", overwrite=True)
    with pytest.raises(InputError, match="--format jsonl"):
        export(DataConfig(source="support_triage"), tmp_path / "out.xml")
    assert not list(tmp_path.glob(".*"))


def test_openai_chat_is_what_training_sees_and_passes_its_own_check(tmp_path: Path) -> None:
    rows = [*ROWS, {"prompt": "x", "completion": ""}]
    source = DataConfig(source=write(tmp_path / "a.jsonl", rows), system_prompt="Be kind.")
    done = export(source, tmp_path / "out.jsonl", "openai")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert problems_of(lines) == [] and len(lines) == 20 and done.left_out == {"empty answer": 1}
    assert [turn["role"] for turn in lines[0]["messages"]] == ["system", "user", "assistant"]
    with pytest.raises(InputError, match="at least 10"):
        export(DataConfig(source=write(tmp_path / "b.jsonl", ROWS[:5])), tmp_path / "few.jsonl", "openai")
    assert not (tmp_path / "few.jsonl").exists()


def test_openai_chat_says_how_many_answers_lost_their_thoughts(tmp_path: Path) -> None:
    rows = [*ROWS, {"prompt": "x", "completion": "<think>\nHm.\n</think>\n\nYes."}]
    source = DataConfig(source=write(tmp_path / "a.jsonl", rows))
    (note,) = export(source, tmp_path / "out.jsonl", "openai").notes
    assert note == (
        "Without the thoughts of 1 answer: OpenAI's format has no place for them. The format jsonl keeps them."
    )
    assert "Hm." not in (tmp_path / "out.jsonl").read_text()
    assert export(source, tmp_path / "all.jsonl").notes == []


GOOD = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 1}]}
WRONG = [
    ([], "not an object"),
    ({"messages": []}, "no list of messages"),
    ({**GOOD, "id": 3}, "does not know the key 'id'"),
    ({"messages": [{"role": "human", "content": "q"}]}, "role 'human'"),
    ({"messages": [{"role": "user", "value": "q"}]}, "key 'value'"),
    ({"messages": [{"role": "user", "content": " "}]}, "message 1 has no content"),
    ({"messages": GOOD["messages"][:1]}, "last message is not the assistant's"),
    ({"messages": [{"role": "user", "content": "q", "weight": 1}]}, "weight"),
    ({"messages": [{**turn, "weight": 0} if turn["role"] == "assistant" else turn for turn in GOOD["messages"]]}, "0"),
]


@pytest.mark.parametrize(("row", "message"), WRONG, ids=[message for _, message in WRONG])
def test_the_check_of_openai_chat_names_the_row(row: Any, message: str) -> None:
    (problem,) = problems_of([GOOD] * 10 + [row])
    assert problem.startswith("row 11: ") and message in problem
    assert problems_of([GOOD] * 10) == []


def test_the_command_line_splits_exports_and_compares(tmp_path: Path, workspace: Workspace, capsys: Any) -> None:
    from ftlab.cli.main import main

    def ask(*arguments: str) -> dict[str, Any]:
        assert main(["data", *arguments, "--workspace", str(workspace.root), "--json"]) == 0
        return check_output(["data", *arguments], capsys.readouterr().out)

    source = write(tmp_path / "mine.jsonl", [*ROWS * 5, {"prompt": "", "completion": "x", "tags": [], "n": 0}])
    made = ask("split", source, "--test", "0.2", "--seed", "3", "--who", "Ada", "--why", "for the run")
    assert made["rows"] == {"train": 70, "validation": 10, "test": 20} and made["who"] == "Ada"
    assert made["notes"] == ["1 row is excluded: empty prompt."]
    assert ask("split", source, "--test", "0.2", "--seed", "3")["content"] == made["content"]
    listed = ask("versions", "list")["versions"]
    assert [version["action"] for version in listed][:2] == [
        "taken from the source",
        "split into train, validation, test",
    ]
    difference = ask("versions", "diff", listed[0]["id"], made["source"])
    assert len(difference["moved"]) == 30 and len(difference["removed"]) == 1
    files = ask("export", made["source"], str(tmp_path / "out.parquet"))["files"]
    assert sorted(files.values()) == [10, 20, 70]
    assert ask("versions", "show", "mine-2")["runs"] == []
    assert ask("versions", "delete", made["id"], "--why", "done")["deleted"]["why"] == "done"
    assert main(["data", "split", made["source"], "--workspace", str(workspace.root)]) == 2
    assert "were deleted by" in capsys.readouterr().err
    dry = ask("push", source, "me/data", "--dry-run")
    assert dry["private"] and dry["address"] is None and set(dry["files"]) == {"README.md", "data/train.parquet"}
