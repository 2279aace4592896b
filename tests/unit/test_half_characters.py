"""Half an emoji (a lone surrogate) in any column of any format is replaced and told, and nothing ends on it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftlab.config import DataConfig, build_config, load_config
from ftlab.core.parsing import whole
from ftlab.core.workspace import Workspace
from ftlab.data import curation, version_store, versions
from ftlab.data.checks import check
from ftlab.data.load import load_rows
from ftlab.data.pages import open_pages
from ftlab.data.splits import freeze, prepare, read_split
from ftlab.training import supervisor
from tests.conftest import zipped

HALF = "\ud83d"
CHAT = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "ask"}]


def chat(number: int) -> list[dict[str, str]]:
    return [*CHAT[:1], {"role": "user", "content": f"ask {number}"}, {"role": "assistant", "content": f"say {number}"}]


# Rows of every format, and the stage that they are for.
KINDS: dict[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
    "pairs": ("sft", lambda n: {"system": "Be kind", "prompt": f"ask {n}", "completion": f"say {n}"}),
    "chat": ("sft", lambda n: {"messages": chat(n)}),
    "sharegpt": (
        "sft",
        lambda n: {"conversations": [{"from": "human", "value": f"a{n}"}, {"from": "gpt", "value": "b"}]},
    ),
    "history": (
        "sft",
        lambda n: {"instruction": f"ask {n}", "input": "x", "output": f"say {n}", "history": [["a", "b"]]},
    ),
    "preference": ("dpo", lambda n: {"prompt": f"ask {n}", "chosen": f"good {n}", "rejected": f"bad {n}"}),
    "kto": ("kto", lambda n: {"prompt": f"ask {n}", "completion": f"say {n}", "label": bool(n % 2)}),
    "classes": ("sft", lambda n: {"text": f"words {n}", "label": f"class{n % 2}"}),
    "text": ("pretraining", lambda n: {"text": f"A story of {n}."}),
}
BESIDE = {"tags": "short", "group": "a", "list": ["x"], "nested": {"deep": ["y"]}}


def spoiled(value: Any) -> Any:
    """`value` with half a character at the end of every text but roles."""
    if isinstance(value, str):
        return value + HALF
    if isinstance(value, list):
        return [spoiled(item) for item in value]
    if isinstance(value, dict):
        return {key: item if key in ("role", "from") else spoiled(item) for key, item in value.items()}
    return value


def as_json_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_columns(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps({name: [row[name] for row in rows] for name in rows[0]}).encode()


def as_cells(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows whose lists and objects are cells of JSON text, in which half a character is spelled out."""
    return [
        {
            name: cell if isinstance(cell, bool) else cell if isinstance(cell, str) else json.dumps(cell)
            for name, cell in row.items()
        }
        for row in rows
    ]


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(whole(as_cells(rows))), out)
    return out.getvalue()


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    import csv

    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(whole(as_cells(rows)))
    return out.getvalue().encode()


FORMATS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "a.jsonl": as_json_lines,
    "a.json": lambda rows: json.dumps(rows, indent=1).encode(),
    "b.json": as_columns,
    "c.json": lambda rows: json.dumps({"data": rows}).encode(),
    "a.zip": lambda rows: zipped({"a.jsonl": as_json_lines(rows)}),
    "a.csv": as_csv,
    "a.parquet": as_parquet,
}


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    return (
        [value]
        if isinstance(value, str)
        else [t for item in value for t in texts(item)]
        if isinstance(value, list)
        else []
    )


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_half_an_emoji_in_any_column_of_any_format_is_replaced_and_told(tmp_path: Path, kind: str, name: str) -> None:
    stage, row = KINDS[kind]
    workspace = Workspace(tmp_path / "workspace")
    rows = [row(n) | BESIDE for n in range(24)]
    for number, column in enumerate(rows[0]):
        if isinstance(rows[number][column], str | list | dict):
            rows[number] = rows[number] | {column: spoiled(rows[number][column])}
    file = tmp_path / name
    file.write_bytes(FORMATS[name](rows))
    data = DataConfig(source=str(file), validation_fraction=0.2, test_fraction=0.2)
    loaded = load_rows(data, workspace)
    for text in texts([dict(row) for row in loaded.splits["train"]]):
        text.encode()
    for text in texts(open_pages(data.source, workspace.page_cache).page(0, 24)):
        text.encode()
    prepared = prepare(data, loaded, workspace, stage=stage)
    run = workspace.create_run("halves")
    freeze(prepared, run)
    assert sum(len(read_split(run, split)) for split in ("train", "validation", "test")) >= 20
    # In cells of JSON text they are found when a row is converted: where the column is used.
    noted = any("surrogates" in note or "not valid Unicode" in note for note in prepared.manifest["notes"])
    assert noted or (name in ("a.csv", "a.parquet") and kind not in ("chat", "sharegpt"))
    check(data, workspace=workspace)
    version = versions.create(data.source, workspace)
    assert version.total == 24
    for text in texts([row.cells for row in version_store.rows_of(version)]):
        text.encode()


def test_a_row_that_a_person_spoils_in_the_app_is_kept_whole(tmp_path: Path, workspace: Workspace) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(as_json_lines([{"prompt": f"ask {n}", "completion": "b"} for n in range(12)]))
    first = versions.create(str(file), workspace)
    made = curation.apply(
        first, {3: curation.Change({"completion": f"new {HALF}"})}, who=f"Ada {HALF}", why=f"why {HALF}"
    )
    made = curation.apply(made, {4: curation.Change(excluded=f"reason {HALF}")}, who="Ada")
    rows = {row.id: row for row in version_store.rows_of(made)}
    assert rows[3].cells["completion"] == "new \ufffd" and rows[4].excluded == "reason \ufffd"


def test_whole_emojis_stay_and_halves_are_counted(tmp_path: Path) -> None:
    rows = [{"prompt": f"ask {n} 😀", "completion": "b 🇫🇮"} for n in range(12)]
    rows[3]["completion"] += HALF
    rows[5] |= {f"key{HALF}": 1, "key\ude00": 2}
    file = tmp_path / "a.jsonl"
    file.write_bytes(as_json_lines(rows))
    loaded = load_rows(DataConfig(source=str(file)))
    assert loaded.splits["train"][2] == rows[2]
    assert loaded.splits["train"][3]["completion"] == "b 🇫🇮\ufffd"
    assert list(loaded.splits["train"][5])[2:] == ["key\ufffd", "key\ufffd\ufffd"]
    assert any("In 2 rows of a.jsonl, lone surrogates" in note for note in loaded.notes)


def test_half_an_emoji_in_a_configuration_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text('name: "a \\ud83d"\ndata: {system_prompt: "b \\ude00", columns: {"prompt": "c\\ud83d"}}\n')
    config = load_config(file, ['name="d \\ud83d"'])
    assert (config.name, config.data.system_prompt, config.data.columns["prompt"]) == (
        "d \ufffd",
        "b \ufffd",
        "c\ufffd",
    )
    assert build_config({"name": HALF}).name == "\ufffd"


def test_a_run_that_cannot_be_prepared_leaves_no_folder(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ftlab.data.splits.write_json", full)
    with pytest.raises(OSError, match="No space"):
        supervisor.create(build_config({"data": {"source": "support_triage", "max_rows": 30}}), workspace)
    assert list(workspace.runs_folder.iterdir()) == []
