"""Any page of any file, without reading it again, and a search that can be stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftlab.config import DataConfig
from ftlab.data import pages
from ftlab.data import pages as line_index
from ftlab.data.load import load_rows
from ftlab.data.pages import open_pages
from ftlab.errors import InputError

from .test_data_load import READABLE, ROWS, lines, write


@pytest.mark.parametrize("name", [*READABLE, "gaps_and_spaces.jsonl"])
def test_pages_show_the_rows_that_training_would_load(tmp_path: Path, name: str) -> None:
    content = READABLE.get(name, "  \n\t\n" + lines(ROWS).replace("\n", "\n \r\n") + "  ")
    path = write(tmp_path, name, content)
    opened = open_pages(path, tmp_path / "cache")
    assert (opened.rows, opened.columns) == (20, ["prompt", "completion"])
    assert opened.page(0, 100) == list(load_rows(DataConfig(source=str(path))).splits["train"])
    assert opened.page(7, 2) == ROWS[7:9] and opened.page(19, 5) == ROWS[19:] and opened.page(20) == []
    assert opened.page(-3, 1) == ROWS[:1]


def test_the_second_look_reads_nothing_but_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "a.csv", READABLE["comma.csv"])
    open_pages(path, tmp_path / "cache")
    monkeypatch.setattr(pages, "_fill_cache", None)
    assert open_pages(path, tmp_path / "cache").page(3, 1) == ROWS[3:4]
    monkeypatch.undo()
    opened = open_pages(path, tmp_path / "cache")
    write(tmp_path, "a.csv", READABLE["comma.csv"] + "new,row\n")
    assert open_pages(path, tmp_path / "cache").rows == 21 and opened.rows == 20


def test_pieces_of_any_size_give_the_same_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "a.jsonl", b"\xef\xbb\xbf" + lines(ROWS).encode()[:-1])
    expected = list(load_rows(DataConfig(source=str(path))).splits["train"])
    for size in (1, 7, 64, 1000):
        monkeypatch.setattr(line_index, "_PIECE", size)
        assert open_pages(path, tmp_path / f"cache{size}").page(0, 50) == expected
        assert open_pages(path, tmp_path / f"cache{size}").search("ASK 1").total == 11


def test_a_search_finds_text_however_it_is_written(tmp_path: Path) -> None:
    rows = [{"prompt": f"row {n}", "completion": 'Zoë said:\n"no/yes"' if n % 10 == 3 else "other"} for n in range(95)]
    raw = "".join(json.dumps(row, ensure_ascii=n % 2 == 0) + "\n" for n, row in enumerate(rows))
    opened = open_pages(write(tmp_path, "a.jsonl", raw), tmp_path / "cache")
    for text in ("zoë", "ZOË SAID", 'said:\n"No', "no/yes"):
        hits = opened.search(text, 0, 4)
        assert (hits.indices, hits.more) == ([3, 13, 23, 33], True)
        hits = opened.search(text, 8, 4)
        assert (hits.indices, hits.more, hits.total) == ([83, 93], False, 10)
    assert opened.search("row 9", 0, 20).indices == [9, 90, 91, 92, 93, 94]
    assert opened.search("prompt").indices == []  # the name of a column is no cell
    assert opened.search("nowhere").total == 0
    with pytest.raises(InputError, match="Nothing to search for"):
        opened.search(" ")


def test_a_search_stops_when_asked_and_goes_on_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_index, "_SEARCHED_ROWS", 5)
    opened = open_pages(write(tmp_path, "a.jsonl", lines(ROWS)), tmp_path / "cache")
    looks = iter([False, True])
    hits = opened.search("answer 7", should_stop=lambda: next(looks))
    assert (hits.indices, hits.more, hits.total) == ([], True, None)
    assert opened.search("answer 7").indices == [7]


def test_a_broken_line_is_shown_as_such_and_hides_no_other(tmp_path: Path) -> None:
    opened = open_pages(write(tmp_path, "a.jsonl", lines(ROWS[:2]) + "{oops\n[1]\n\xff\n" + lines(ROWS[2:])), tmp_path)
    assert opened.rows == 23 and opened.columns == ["prompt", "completion"]
    page = opened.page(1, 5)
    assert page[0] == ROWS[1] and page[4] == ROWS[2]
    assert "row 2: not valid JSON" in page[1]["(broken)"] and "not an object: [1]" in page[2]["(broken)"]


def test_versions_folders_and_splits_have_pages_too(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    write(folder, "train.jsonl", lines(ROWS))
    write(folder, "test.csv", READABLE["comma.csv"])
    assert open_pages(folder, tmp_path / "cache").rows == 20
    assert open_pages(folder, tmp_path / "cache", "test").page(1, 1) == ROWS[1:2]
    both = write(tmp_path, "both.json", json.dumps({"train": ROWS, "test": ROWS[:4]}))
    assert open_pages(both, tmp_path / "cache", "test").rows == 4
    with pytest.raises(InputError, match="no such split"):
        open_pages(folder, tmp_path / "cache", "tset")
    assert open_pages("support_triage", tmp_path / "cache").rows == 600
