"""A data source is found and read whatever its form, and what is broken is named in one message."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from pathlib import Path

import pytest

from ftlab.config import DataConfig
from ftlab.core.workspace import Workspace
from ftlab.data.load import find_source, load_rows
from ftlab.data.readers import keep_pasted, read_pasted
from ftlab.data.splits import prepare
from ftlab.errors import InputError
from tests.conftest import zipped

ROWS = [{"prompt": f"ask {n}, please", "completion": f"answer {n}"} for n in range(20)]


def lines(rows: list) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(rows: list[dict], separator: str = ",") -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def parquet(rows: list[dict]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def arrow(rows: list[dict], stream: bool = False) -> bytes:
    import pyarrow as pa

    out, held = io.BytesIO(), pa.Table.from_pylist(rows)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(out, held.schema) as writer:
        writer.write_table(held)
    return out.getvalue()


READABLE = {
    "a.jsonl": lines(ROWS),
    "a.ndjson": lines(ROWS),
    "crlf.jsonl": lines(ROWS).replace("\n", "\r\n"),
    "gaps.jsonl": "\n" + lines(ROWS).replace("\n", "\n\n"),
    "bom.jsonl": b"\xef\xbb\xbf" + lines(ROWS).encode(),
    "utf16.jsonl": lines(ROWS).encode("utf-16"),
    "array.json": json.dumps(ROWS),
    "array_in.jsonl": json.dumps(ROWS, indent=1),
    "lines_in.json": lines(ROWS),
    "one_list.json": json.dumps({"version": 2, "data": ROWS}),
    "columns.json": json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]}),
    "pandas.json": json.dumps({key: {str(n): row[key] for n, row in enumerate(ROWS)} for key in ROWS[0]}),
    "comma.csv": table(ROWS),
    "semicolon.csv": table(ROWS, ";"),
    "bar.csv": table(ROWS, "|"),
    "tab.tsv": table(ROWS, "\t"),
    "bom.csv": b"\xef\xbb\xbf" + table(ROWS).encode(),
    "utf16.csv": table(ROWS).encode("utf-16"),
    "rows.parquet": parquet(ROWS),
    "UPPER.JSONL": lines(ROWS),
    "rows.arrow": arrow(ROWS),
    "rows.feather": arrow(ROWS, stream=True),
    "one.zip": zipped({"folder/mine.csv": table(ROWS), "folder/README.md": "hello", "__MACOSX/._mine.csv": "x"}),
}


@pytest.mark.parametrize("name", READABLE)
def test_every_form_of_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, READABLE[name])
    loaded = load_rows(DataConfig(source=str(path)))
    assert list(loaded.splits["train"]) == ROWS
    assert loaded.splits["train"][7] == ROWS[7] and loaded.splits["train"][-1] == ROWS[-1]
    assert list(loaded.splits["train"][3:9:2]) == ROWS[3:9:2]
    assert loaded.columns == ["prompt", "completion"]
    assert loaded.files[0].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.files[0].path == name  # no folder of the person's machine goes into a manifest


def test_cells_keep_their_line_feeds_quotes_and_windows_letters(tmp_path: Path) -> None:
    rows = [{"prompt": f'Zoë sagt: "{n}"\nund mehr – ja, ja', "completion": "grün"} for n in range(12)]
    loaded = load_rows(DataConfig(source=str(write(tmp_path, "old.csv", table(rows).encode("cp1252")))))
    assert list(loaded.splits["train"]) == rows
    assert any("cp1252" in note for note in loaded.notes)


def test_a_line_separator_inside_a_text_does_not_end_a_json_line(tmp_path: Path) -> None:
    rows = [{"prompt": f"one\u2028two {n}", "completion": "x"} for n in range(10)]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert list(load_rows(DataConfig(source=str(write(tmp_path, "a.jsonl", text)))).splits["train"]) == rows


def test_a_folder_and_a_json_object_bring_their_splits(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    write(folder, "train.jsonl", lines(ROWS))
    write(folder, "dev.csv", table(ROWS[:3]))
    write(folder, "notes.txt", "not data")
    loaded = load_rows(DataConfig(source=str(folder)))
    assert {split: len(rows) for split, rows in loaded.splits.items()} == {"train": 20, "validation": 3}
    assert [file.path for file in loaded.files] == ["train.jsonl", "dev.csv"]
    assert list(load_rows(DataConfig(source=str(folder), split="dev")).splits) == ["train"]
    both = write(tmp_path, "both.json", json.dumps({"train": ROWS, "test": ROWS[:4]}))
    assert {s: len(r) for s, r in load_rows(DataConfig(source=str(both))).splits.items()} == {"train": 20, "test": 4}


def test_a_zip_brings_its_splits_and_says_what_it_did_not_read(tmp_path: Path) -> None:
    files = {"d/train.jsonl": lines(ROWS), "d/dev.csv": table(ROWS[:3]), "notes.txt": "x", "d/run.py": "x"}
    path = write(tmp_path, "all.zip", zipped(files))
    loaded = load_rows(DataConfig(source=str(path)))
    assert {split: len(rows) for split, rows in loaded.splits.items()} == {"train": 20, "validation": 3}
    assert any("notes.txt, d/run.py" in note for note in loaded.notes) and len(loaded.files) == 1
    broken = write(tmp_path, "broken.zip", zipped({"a.jsonl": lines(ROWS) + "{oops"}))
    with pytest.raises(InputError, match=r"broken\.zip/a\.jsonl, line 21"):
        load_rows(DataConfig(source=str(broken)))


def test_cells_of_a_table_that_are_neither_text_nor_numbers_become_text(tmp_path: Path) -> None:
    import datetime

    rows = [
        {**row, "day": datetime.date(2026, 1, n + 1), "raw": b"\xff", "m": {"a": [n]}} for n, row in enumerate(ROWS)
    ]
    loaded = load_rows(DataConfig(source=str(write(tmp_path, "a.parquet", parquet(rows)))))
    assert loaded.splits["train"][2] == {**ROWS[2], "day": "2026-01-03", "m": {"a": [2]}}
    assert any("left out: raw" in note for note in loaded.notes)


@pytest.mark.parametrize("text", [lines(ROWS), json.dumps(ROWS), table(ROWS), table(ROWS, "\t"), table(ROWS, ";")])
def test_pasted_rows_are_read_whatever_they_are(text: str, workspace: Workspace) -> None:
    assert list(read_pasted(f"\n{text}\n").splits["train"]) == ROWS
    kept = keep_pasted(text, workspace)
    assert (
        list(load_rows(DataConfig(source=str(kept))).splits["train"]) == ROWS and keep_pasted(text, workspace) == kept
    )
    with pytest.raises(InputError, match=r"pasted rows.*line 21"):
        read_pasted(text.rstrip() + "\n[broken" if text[0] == "{" else "a,b\n" + "1,2\n" * 19 + "1\n")
    with pytest.raises(InputError, match="Nothing was pasted"):
        read_pasted(" \n")


def test_a_sample_is_found_by_its_name_before_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "support_triage", "a file of that name")
    loaded = load_rows(DataConfig(source="support_triage"))
    assert loaded.kind == "sample" and loaded.name == "support_triage" and len(loaded.splits["train"]) >= 100


@pytest.mark.parametrize(
    ("source", "kind", "place"),
    [
        ("owner/name", "hub", "owner/name"),
        ("tatsu-lab/alpaca", "hub", "tatsu-lab/alpaca"),
        ("org/data-v1.5", "hub", "org/data-v1.5"),
        ("imdb", "hub", "imdb"),
        ("https://huggingface.co/datasets/owner/name?row=1", "hub", "owner/name"),
    ],
)
def test_what_is_no_file_and_no_sample_is_a_hub_id(source: str, kind: str, place: str) -> None:
    assert find_source(source) == (kind, place)


BROKEN = [
    ("empty.jsonl", "", ["empty.jsonl is empty", "0 bytes"]),
    ("blank.csv", " \n \n", ["blank.csv is empty"]),
    ("a.jsonl", lines(ROWS[:2]) + '{"prompt": "x", "completion": \n', ["line 3", "not valid JSON", '"completion":']),
    ("a.jsonl", lines(ROWS)[:-9], ["line 20", "Unterminated string", "ask 19, please"]),
    ("a.jsonl", lines([*ROWS, [1, 2]]), ["line 21", "a list, not an object", "[1, 2]"]),
    (
        "a.jsonl",
        '{"prompt": "grün"}\n{"prompt": "Größe"}\n'.encode() + b'{"prompt": "gr\xfc"}',
        ["line 3", "not UTF-8"],
    ),
    ("a.jsonl", '{"a":' + "[" * 100_000, ["line 1", "nested more than 100"]),
    ("a.json", json.dumps(ROWS, indent=1)[:-30], ["line 80", "not valid JSON", "download it again"]),
    ("a.json", '"hello"', ["holds text, not rows", "a list of objects"]),
    ("a.json", "[1, 2, 3]", ["3 of its 3 items are not rows", "item 1 is a number: 1"]),
    ("a.json", "[]", ["no rows"]),
    ("a.json", '{"name": "x", "size": 3}', ["one object, not rows", "name, size"]),
    ("a.json", json.dumps({"prompt": ["a"] * 12, "completion": ["b"] * 11}), ["differ in length", "prompt: 12"]),
    ("a.csv", table(ROWS) + "a,b,c\n", ["line 22", "3 cells, but the header has 2 columns", "a,b,c"]),
    ("a.csv", table(ROWS) + "a\n", ["line 22", "1 cells"]),
    ("a.csv", table(ROWS) + '"a,b\nc,d\n', ["line 22", "never closed"]),
    ("a.csv", "prompt,completion\n", ["a header but no rows"]),
    ("a.csv", "prompt,prompt\n" + "a,b\n" * 12, ["duplicate column names", "prompt"]),
    ("a.csv", b"PK\x03\x04\x00\x00\x00\xff" * 9, ["a.csv is not text"]),
    ("a.parquet", "hello", ["not a complete Parquet file", "b'hello'"]),
    ("a.parquet", parquet(ROWS)[:-40] + b"PAR1", ["cannot be read as Parquet"]),
    ("a.parquet", "version https://git-lfs.github.com/spec/v1\noid 1", ["Git LFS pointer", "git lfs pull"]),
    ("a.json", "<!DOCTYPE html><html>", ["a web page, not data", "download the raw file"]),
    ("a.docx", "hi", ["with the extension .docx cannot be read", ".jsonl", ".csv", ".parquet"]),
    ("a.pkl", b"\x80\x04.", [".pkl cannot be read", "never opened"]),
    ("a.jsonl.gz", b"\x1f\x8b", [".gz cannot be read", "decompress"]),
]


@pytest.mark.parametrize(("name", "content", "parts"), BROKEN, ids=[f"{n}-{s[0][:25]}" for n, _, s in BROKEN])
def test_a_broken_file_is_refused_in_words(tmp_path: Path, name: str, content: str | bytes, parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        load_rows(DataConfig(source=str(write(tmp_path, name, content))))
    for part in [name, *parts]:
        assert part in caught.value.message()
    assert len(caught.value.message()) < 600


def test_a_missing_file_names_the_nearest_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "tickets.jsonl", lines(ROWS))
    cases = {
        str(tmp_path / "tickts.jsonl"): "tickets.jsonl",
        str(tmp_path / "nowhere" / "a.jsonl"): f"no folder {tmp_path / 'nowhere'}",
        "./zzz.csv": "the folder holds tickets.jsonl",
        "suport_triage": "support_triage",
        "https://example.com/data.jsonl": "download the file",
        "two words": "There is no file two words",
        os.devnull: "neither a file nor a folder",
        " ": "No data source is given",
        "x" * 5000: "cannot be found",
    }
    monkeypatch.chdir(tmp_path)
    for source, message in cases.items():
        with pytest.raises(InputError) as caught:
            load_rows(DataConfig(source=source))
        assert message in caught.value.message()


def test_a_folder_without_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file called train"):
        load_rows(DataConfig(source=str(tmp_path)))
    write(tmp_path, "train.jsonl", lines(ROWS))
    write(tmp_path, "train.csv", table(ROWS))
    with pytest.raises(InputError, match=r"more than one file for train.*train\.csv, train\.jsonl"):
        load_rows(DataConfig(source=str(tmp_path)))


def test_an_unknown_split_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such split.*Given: tset.*Allowed: train"):
        load_rows(DataConfig(source=str(write(tmp_path, "a.jsonl", lines(ROWS))), split="tset"))


ROW_PROBLEMS = [
    (ROWS[:9], {}, ["too few rows", "9 rows", "at least 10"]),
    (ROWS[:10], {}, ["8 rows to train on, plus 1 for validation and 1 for test"]),
    (
        ROWS + [{"question": "a", "answer": "b"}] * 7,
        {},
        ["mixed columns", "7 of 27 rows have no column 'completion'", "rows 21, 22", "7 rows hold question, answer"],
    ),
    (
        [{"id": n, "body": "x"} for n in range(12)],
        {},
        ["No usable column", "columns id, body", "prompt + completion", "conversations", "body"],
    ),
    ([{"a": "x", "b": "y"}] * 12, {}, ["No usable column", "{prompt: a, completion: b}"]),
    ([{"messages": "hello"}] * 12, {}, ["No usable column", "messages must hold lists", '"hello"']),
    ([*ROWS, {"prompt": "x", "completion": [{"role": 4}]}], {}, ["'completion'", "(dict) in row 21"]),
    ([{**row, "completion": ""} for row in ROWS], {}, ["20 of 20 rows", "empty answer: 20"]),
    (
        [{"messages": [{"role": "teacher", "content": "a"}]}] * 12,
        {},
        ["have unknown roles", "'teacher': 12", "user: user, human"],
    ),
    ([{"messages": [{"role": "user", "content": "a"}]}] * 12, {}, ["have no assistant turn: 12 of 12"]),
    ([{"prompt": "same", "completion": str(n)} for n in range(20)], {}, ["Too few different prompts"]),
    (ROWS, {"columns": {"prompt": "promt", "completion": "completion"}}, ["no column 'promt'", "did you mean prompt"]),
    (ROWS, {"columns": {"promt": "prompt"}}, ["no such column role", "did you mean prompt"]),
    (
        [{"q": "a", "b": "c"}] * 12,
        {"columns": {"prompt": "q"}},
        ["No column is set as the completion", "completion: b"],
    ),
    (ROWS, {"columns": {"messages": "prompt", "completion": "completion"}}, ["cannot be combined"]),
]


@pytest.mark.parametrize(("rows", "settings", "parts"), ROW_PROBLEMS, ids=[case[2][0] for case in ROW_PROBLEMS])
def test_rows_that_cannot_be_trained_on_are_named(tmp_path: Path, rows: list, settings: dict, parts: list[str]) -> None:
    path = write(tmp_path, "mine.jsonl", lines(rows))
    with pytest.raises(InputError) as caught:
        prepare(DataConfig(source=str(path), **settings))
    for part in parts:
        assert part in caught.value.message()


def test_pairs_that_all_answer_one_prompt_are_named(tmp_path: Path) -> None:
    rows = [{"prompt": "same", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(20)]
    with pytest.raises(InputError, match="Too few different prompts"):
        prepare(DataConfig(source=str(write(tmp_path, "pairs.jsonl", lines(rows)))), stage="dpo")
