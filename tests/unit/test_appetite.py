"""Small files cannot make whoever reads them take gigabytes or minutes; real data are far from every limit."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftlab.config import DataConfig
from ftlab.core.workspace import Workspace
from ftlab.data import limits
from ftlab.data.inspection import inspect
from ftlab.data.load import load_rows
from ftlab.data.pages import open_pages
from ftlab.data.prompt_template import fill
from ftlab.data.readers import read_bytes
from ftlab.errors import InputError
from tests.conftest import zipped

LONG = "x" * 1_000_000


def parquet(columns: dict[str, Any], **settings: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, **settings)
    return out.getvalue()


def arrow(column: Any) -> bytes:
    import pyarrow as pa

    out, table = io.BytesIO(), pa.table({"prompt": column})
    with pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def repeated(times: int, value: Any) -> Any:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), pa.array([value]))


def turns(times: int) -> Any:
    import pyarrow as pa

    turn = pa.StructArray.from_arrays([repeated(times, "user"), repeated(times, LONG)], ["role", "content"])
    return pa.ListArray.from_arrays(pa.array(range(times + 1), pa.int32()), turn)


def views(times: int) -> Any:
    import pyarrow as pa

    _, view, text = pa.array([LONG], pa.string_view()).buffers()
    return pa.Array.from_buffers(pa.string_view(), times, [None, pa.py_buffer(bytes(view)[:16] * times), text])


def nulls_in_a_list() -> Any:
    import pyarrow as pa

    return pa.ListArray.from_arrays(pa.array([0, 2**31 - 1], pa.int32()), pa.nulls(2**31 - 1))


def runs() -> Any:
    import pyarrow as pa

    return pa.RunEndEncodedArray.from_arrays(pa.array([900_000], pa.int32()), pa.array([LONG]))


def nulls() -> Any:
    import pyarrow as pa

    return pa.nulls(10**9)


def loose(piece: str, size: int) -> str:
    """`size` characters that zip packs 30 to 150 times, which is not yet called a bomb."""
    import random

    chance = random.Random(0)
    block = piece * 150
    return "".join(
        block + piece.replace("a", f"{chance.getrandbits(24):06x}") + piece * chance.randrange(9)
        for _ in range(size // len(block))
    )


# What real files of these sizes took before: 1.7 to 4.2 GB, or minutes.
BOMBS: dict[str, Callable[[], bytes]] = {
    "text.parquet": lambda: parquet({"prompt": repeated(3000, LONG), "completion": ["b"] * 3000}),
    "turns.parquet": lambda: parquet({"messages": turns(3000)}),
    "text.arrow": lambda: arrow(repeated(3000, LONG * 2)),
    "views.arrow": lambda: arrow(views(3000)),
    "nulls.arrow": lambda: arrow(nulls()),
    "list.arrow": lambda: arrow(nulls_in_a_list()),
    "cells.zip": lambda: zipped({"a.csv": "prompt,completion\n" + loose("a,b\n", 12_000_000)}),
    "rows.zip": lambda: zipped({"a.jsonl": loose('{"a":1}\n', 16_000_000)}),
    "items.zip": lambda: zipped({"a.json": "[" + loose('{"a":1},', 16_000_000) + "{}]"}),
    "lists.zip": lambda: zipped({"a.json": '{"data":[' + loose("[],", 40_000_000) + "[]]}"}),
    "lines.zip": lambda: zipped({"a.txt": loose("a\n", 12_000_000)}),
    "commas.csv": lambda: b"," * 100_000 + b"\n" + b"," * 100_000,
    "keys.jsonl": lambda: b"".join(
        json.dumps({f"k{row}_{n}": "a" for n in range(1000)}).encode() + b"\n" for row in range(40)
    ),
    "line.jsonl": lambda: b'{"prompt": "' + b"a" * 40_000_000 + b'"}',
    "line.csv": lambda: b"prompt,completion\n" + b"a" * 40_000_000,
    "lists.jsonl": lambda: b'{"prompt": [' + b"[]," * 10_000_000 + b"[]]}",
    "deep.json": lambda: b"[" * 1_000_000,
    "deep.jsonl": lambda: b'{"prompt": ' + b"[" * 200 + b"]" * 200 + b"}",
}
READ = """
import json, sys, time
from pathlib import Path
import numpy, pyarrow.parquet, pyarrow.compute
from ftlab.data.readers import read_table
from ftlab.errors import InputError

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) >> 10

before = peak()
for file in sorted(Path(sys.argv[1]).iterdir()):
    begun = time.process_time()
    try:
        read_table(file)
        said = ""
    except InputError as error:
        said = str(error)
    print(json.dumps([file.name, said, time.process_time() - begun, peak() - before]), flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read in /proc")
def test_small_files_that_grow_are_stopped_early(tmp_path: Path) -> None:
    for name, made in BOMBS.items():
        (tmp_path / name).write_bytes(made())
    done = subprocess.run([sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True, timeout=300)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [name for name, *_ in results] == sorted(BOMBS), done.stderr[-2000:]
    for name, message, seconds, peak in results:
        assert message and "Traceback" not in message, name
        assert seconds < 10, f"{name}: {seconds:.1f} s"
        assert peak < 700, f"{name}: {peak} MB"  # of all so far


def test_columns_whose_runs_could_be_any_size_are_left_out() -> None:
    table = read_bytes(arrow(runs()), "a.arrow")
    assert table.columns == [] and "left out: prompt" in table.notes[0]


def test_limits_are_above_real_data(monkeypatch: pytest.MonkeyPatch) -> None:
    # 60,000 rows that share a system prompt of 2 kB: 120 MB of text in a Parquet file of less than a megabyte.
    rows = 60_000
    raw = parquet({"system": ["s" * 2000] * rows, "prompt": [str(n) for n in range(rows)], "completion": ["b"] * rows})
    assert len(raw) < 1 << 20 and read_bytes(raw, "a.parquet").rows == rows
    # A book in one row, and a sheet with all columns of Excel.
    assert read_bytes(json.dumps({"text": "word " * 1_000_000}).encode(), "a.jsonl").rows == 1
    wide = ",".join(f"c{n}" for n in range(16_384)) + "\n" + "\n".join("," * 16_383 for _ in range(3))
    assert len(read_bytes(wide.encode(), "a.csv").columns) == 16_384
    # The owner raises them all at once.
    monkeypatch.setattr(limits, "GROWTH_COUNTS_FROM", 1 << 20)
    with pytest.raises(InputError, match="too large when unpacked"):
        read_bytes(parquet({"prompt": [LONG] * 5}, use_dictionary=False, compression="zstd"), "a.parquet")
    with pytest.raises(InputError, match="FTLAB_MAX_UPLOAD"):
        read_bytes(raw, "a.parquet")
    monkeypatch.setenv("FTLAB_MAX_UPLOAD", "1G")
    assert read_bytes(raw, "a.parquet").rows == rows


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt", "a.zip", "a.parquet", "b.json"])
def test_rows_without_number_are_refused_in_every_format(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ROWS_COUNT_FROM", 100)
    raw = {
        "a.jsonl": b'{"a":1}\n' * 30_000,
        "a.json": b"[" + b'{"a":1},' * 30_000 + b"{}]",
        "b.json": json.dumps({"a": [1] * 30_000, "b": [1] * 30_000}).encode(),
        "a.csv": b"a,b\n" * 30_000,
        "a.txt": b"a\n" * 30_000,
        "a.zip": b"",
        "a.parquet": parquet({"a": ["a"] * 30_000}),
    }[name]
    if name == "a.zip":
        raw, name = b"a,b\n" * 30_000, "a.zip/a.csv"
    with pytest.raises(InputError, match="too many rows"):
        read_bytes(raw, name, 1000 if "zip" in name else None)


def test_the_time_is_linear_in_the_number_of_columns(tmp_path: Path) -> None:
    def seconds(columns: int) -> float:
        file = tmp_path / f"{columns}.csv"
        names = ["prompt", "completion", *(f"c{n}" for n in range(columns - 2))]
        rows = [f"ask {n},say {n}" + ",x" * (columns - 2) for n in range(20)]
        file.write_text("\n".join([",".join(names), *rows]))
        begun = time.process_time()
        inspect(DataConfig(source=str(file)), Workspace(tmp_path / "w"))
        return time.process_time() - begun

    seconds(10)
    assert seconds(6_000) < 12 * max(0.2, seconds(1_500))


def test_pages_meet_the_same_limits(tmp_path: Path) -> None:
    for name in ("commas.csv", "keys.jsonl", "text.parquet", "line.csv"):
        file = tmp_path / name
        file.write_bytes(BOMBS[name]())
        with pytest.raises(InputError):
            open_pages(file, tmp_path / "cache")
        with pytest.raises(InputError):
            load_rows(DataConfig(source=str(file)))


@pytest.mark.parametrize("settings", [{}, {"row_group_size": 7}, {"use_dictionary": False, "compression": "zstd"}])
def test_parquet_gives_the_cells_that_were_written_and_leaves_pictures_and_maps_out(settings: dict[str, Any]) -> None:
    import pyarrow as pa

    rows = 30
    turns = [[{"role": "user", "content": f"{n} " * 100}, {"role": "assistant", "content": None}] for n in range(rows)]
    columns = {
        "image": [{"bytes": b"\xff\x00" * 100, "path": "a.png"}] * rows,
        "map": pa.array([[("k", "v")]] * rows, pa.map_(pa.string(), pa.string())),
        "turns": turns,
        "a.b": pa.array(["text"] * rows, pa.string_view()),
        "class": pa.array(["x", "y", None] * 10).dictionary_encode(),
        "nested": [{"deep": {"list": ["c"]}}] * rows,
    }
    table = read_bytes(parquet(columns, **settings), "a.parquet")
    assert "left out: image, map." in table.notes[0]
    rows = list(table.splits["train"])
    assert [row["turns"] for row in rows] == turns
    assert rows[1] == {"turns": turns[1], "a.b": "text", "class": "y", "nested": {"deep": {"list": ["c"]}}}


def test_a_prompt_template_cannot_make_a_prompt_longer_than_a_row() -> None:
    with pytest.raises(InputError, match="The prompt from the template is too long"):
        fill("{a}" * 10_000, {"a": "x" * 10_000})
    assert fill("{a}: {b}", {"a": "word " * 100_000, "b": "x"})[1]
