"""Whatever is in a file: rows or a message, never another error, never a hang, and bounded memory."""

from __future__ import annotations

import io
import json
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftlab.config import DataConfig
from ftlab.data.load import load_rows
from ftlab.data.pages import open_pages
from ftlab.data.readers import SUFFIXES, read_bytes, read_pasted, read_table
from ftlab.data.splits import prepare
from ftlab.errors import InputError
from tests.conftest import zipped

SECONDS = 5.0  # generous: the machine may be busy
FUZZ = settings(
    max_examples=30,
    deadline=None,  # measured below, around the code that is tested
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ROWS = [{"prompt": f"ask {n}", "completion": f"answer {n}", "n": n, "list": [str(n)]} for n in range(12)]


def seeds() -> dict[str, bytes]:
    """A small real file of every kind."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(ROWS)
    parquet, arrow, stream = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pq.write_table(table, parquet)
    with pa.ipc.new_file(arrow, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(table)
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    cells = b"prompt,completion\n" + b'"ask ""1""",answer\nfine,"two\nlines"\n' * 6
    return {
        "a.jsonl": lines,
        "a.ndjson": lines.decode().encode("utf-16"),
        "a.json": json.dumps({"data": ROWS}).encode(),
        "a.csv": cells,
        "a.tsv": cells.replace(b",", b"\t"),
        "a.parquet": parquet.getvalue(),
        "a.arrow": arrow.getvalue(),
        "a.feather": stream.getvalue(),
        "a.zip": zipped({"train.jsonl": lines, "test.csv": cells, "README.md": b"hello"}),
    }


SEEDS = seeds()


def survives(act: Callable[[], Any]) -> None:
    began = time.process_time()
    try:
        act()
    except InputError as error:
        assert error.message() and len(error.message()) < 2000
    assert time.process_time() - began < SECONDS


def all_of(path: Path) -> None:
    """Everything that the Data tab does with a file."""
    survives(lambda: [list(rows) for rows in load_rows(DataConfig(source=str(path))).splits.values()])
    survives(lambda: prepare(DataConfig(source=str(path))))
    survives(lambda: open_pages(path, path.parent / "cache").page(0, 20))


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A real file with some bytes changed, taken out or put in, or cut short."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["set", "cut", "put", "drop", "big"])):
            case "set" if data:
                data[place] = draw(st.integers(0, 255))
            case "cut":
                del data[place:]
            case "put":
                data[place:place] = draw(st.binary(max_size=12))
            case "drop":
                del data[place : place + draw(st.integers(1, 40))]
            case "big":  # a length or an offset out of all proportion
                data[place : place + 8] = struct.pack("<q", draw(st.sampled_from([-1, 2**31 - 1, 2**62, 10**6])))
    return bytes(data)


@pytest.mark.parametrize("name", SEEDS)
def test_a_real_file_of_this_kind_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(SEEDS[name])
    assert load_rows(DataConfig(source=str(tmp_path / name))).rows >= 12


@pytest.mark.parametrize("name", SEEDS)
def test_a_damaged_file_gives_rows_or_a_message(tmp_path: Path, name: str) -> None:
    @FUZZ
    @given(damaged(SEEDS[name]))
    def look(raw: bytes) -> None:
        (tmp_path / name).write_bytes(raw)
        all_of(tmp_path / name)

    look()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_bytes_give_rows_or_a_message(suffix: str) -> None:
    @FUZZ
    @given(st.binary(max_size=300) | st.text('",;\t|\n\r[]{}:aé\\u0\x00\ufeff=1', max_size=80).map(str.encode))
    def look(raw: bytes) -> None:
        if suffix != ".zip":
            survives(lambda: [list(rows) for rows in read_bytes(raw, f"a{suffix}").splits.values()])
        survives(lambda: read_pasted(raw.decode("utf-8", "surrogateescape")))

    look()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    "prompt completion messages conversations chosen rejected text label input output history instruction system "
    "preferred_output non_preferred_output question answer".split()
)
CELLS = JSON | st.lists(
    st.fixed_dictionaries({}, optional={"role": st.sampled_from(["user", "assistant", "x"]) | JSON, "content": JSON})
)


@settings(FUZZ, max_examples=60)
@given(st.lists(st.dictionaries(NAMES | st.text(max_size=3), CELLS, max_size=5), min_size=1, max_size=12))
def test_any_json_rows_give_examples_or_a_message(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 10))
    all_of(tmp_path / "a.jsonl")


EVIL_ZIPS = {
    "out.zip": (zipped({"../../evil.jsonl": b"{}"}), "leads out of the archive"),
    "absolute.zip": (zipped({"/etc/evil.jsonl": b"{}"}), "leads out of the archive"),
    "windows.zip": (zipped({"..\\evil.jsonl": b"{}"}), "leads out of the archive"),
    "drive.zip": (zipped({"C:evil.jsonl": b"{}"}), "leads out of the archive"),
    "nested.zip": (zipped({"inner.zip": zipped({"a.jsonl": b"{}"})}), "another archive"),
    "many.zip": (zipped({f"{n}.jsonl": b"{}" for n in range(201)}), "too many files"),
    "several.zip": (zipped({"a.jsonl": b"{}", "b.jsonl": b"{}"}), "unclear splits"),
    "none.zip": (zipped({"run.py": b"import os", "a.pkl": b"\x80\x04."}), "holds no data file"),
    "empty.zip": (zipped({}), "holds no data file"),
    "bomb.zip": (zipped({"a.jsonl": b" " * (64 << 20)}), "zip bomb"),
    "cut.zip": (SEEDS["a.zip"][:-30], "not a complete zip"),
}


@pytest.mark.parametrize("name", EVIL_ZIPS)
def test_an_archive_that_is_a_trap_is_refused_in_words(tmp_path: Path, name: str) -> None:
    raw, message = EVIL_ZIPS[name]
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]  # nothing was unpacked to the disk


def test_links_passwords_and_lying_sizes_in_an_archive_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a.jsonl")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="a link instead of a file"):
        read_table(tmp_path / "link.zip")
    raw = bytearray(zipped({"a.jsonl": SEEDS["a.jsonl"]}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(mark) + place] |= 1  # says that it is encrypted
    (tmp_path / "locked.zip").write_bytes(raw)
    with pytest.raises(InputError, match="encrypted"):
        read_table(tmp_path / "locked.zip")
    raw = bytearray(zipped({"a.jsonl": b" " * (20 << 20)}))
    for mark, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        raw[raw.index(mark) + place : raw.index(mark) + place + 4] = struct.pack("<I", 10)  # says that it is small
    (tmp_path / "liar.zip").write_bytes(raw)
    survives(lambda: read_table(tmp_path / "liar.zip"))


def test_a_file_larger_than_allowed_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "big.jsonl"
    with path.open("wb") as file:
        file.truncate(3 << 30)  # a hole: it takes no room
    tracemalloc.start()
    for act in (lambda: read_table(path), lambda: open_pages(path, tmp_path / "cache")):
        with pytest.raises(InputError, match=r"big\.jsonl is too large.*3 GB.*at most 2 GB.*FTLAB_MAX_UPLOAD"):
            act()
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()
    monkeypatch.setenv("FTLAB_MAX_UPLOAD", "1K")
    for name, raw in SEEDS.items():
        (tmp_path / name).write_bytes(raw if len(raw) > 1024 else raw + b"\n" * 1024)
        with pytest.raises(InputError, match="too large"):
            read_table(tmp_path / name)
    (tmp_path / "small.zip").write_bytes(zipped({"a.csv": b"a,b\n" + b"1,2\n" * 2000}))
    with pytest.raises(InputError, match="too large when unpacked"):
        read_table(tmp_path / "small.zip")
    monkeypatch.setenv("FTLAB_MAX_UPLOAD", "plenty")
    with pytest.raises(InputError, match="is not a size"):
        read_table(path)


def test_a_small_file_that_unpacks_to_a_huge_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setenv("FTLAB_MAX_UPLOAD", "64M")
    pq.write_table(pa.table({"text": ["x" * 10_000] * 20_000}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 1 << 20
    before = pa.total_allocated_bytes()
    with pytest.raises(InputError, match="too large when unpacked"):
        read_table(tmp_path / "a.parquet")
    assert pa.total_allocated_bytes() - before < 200 << 20
    for packing in ("lz4", "zstd"):
        held = pa.table({"text": ["x" * (100 << 20)]})
        with pa.ipc.new_file(
            tmp_path / "a.arrow", held.schema, options=pa.ipc.IpcWriteOptions(compression=packing)
        ) as writer:
            writer.write_table(held)
        del held
        assert (tmp_path / "a.arrow").stat().st_size < 1 << 20
        peak = pa.default_memory_pool().max_memory()
        with pytest.raises(InputError, match=r"unpacked.*100 MB.*at most 64 MB"):
            read_table(tmp_path / "a.arrow")
        assert pa.default_memory_pool().max_memory() == peak


def test_code_in_data_is_never_run(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    for name in ("a.pkl", "a.pt", "a.jsonl", "a.arrow", "a.parquet", "a.zip"):
        (tmp_path / name).write_bytes(pickle.dumps(Evil()))
        with pytest.raises(InputError):
            read_table(tmp_path / name)
    (tmp_path / "set.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(InputError, match="cannot be read"):
        load_rows(DataConfig(source=str(tmp_path / "set.py")))
    assert not (tmp_path / "ran").exists()
