"""Every change of data makes a new version; the source stays; what a run used cannot vanish silently."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftlab.config import DataConfig
from ftlab.core.files import write_text
from ftlab.core.workspace import Workspace
from ftlab.data import curation, version_store, versions
from ftlab.data.curation import Change
from ftlab.data.load import load_rows
from ftlab.data.splits import freeze, prepare
from ftlab.data.version_store import VersionRow
from ftlab.errors import InputError

ROWS = [{"prompt": f"ask {n}", "completion": f"answer {n}"} for n in range(30)]


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def first(tmp_path: Path, workspace: Workspace) -> version_store.Version:
    return versions.create(write(tmp_path / "tickets.jsonl", ROWS), workspace, who="Ada", why="to begin")


def test_the_first_version_holds_the_source_and_is_made_once(
    first: version_store.Version, tmp_path: Path, workspace: Workspace
) -> None:
    assert (first.name, first.number, first.parent, first.rows) == ("tickets", 1, None, {"train": 30})
    assert first.who == "Ada" and first.why == "to begin" and first.when.endswith("+00:00")
    assert [row.cells for row in version_store.rows_of(first)] == ROWS
    assert first.origin[0]["sha256"] == load_rows(DataConfig(source=str(tmp_path / "tickets.jsonl"))).files[0].sha256
    assert versions.create(str(tmp_path / "tickets.jsonl"), workspace).id == first.id
    assert first.folder == workspace.root / "data" / "tickets" / first.id


def test_cells_of_every_kind_come_back_as_they_were(tmp_path: Path, workspace: Workspace) -> None:
    odd = [
        {"a": "x", "b": 1, "c": [{"role": "user", "content": "é😀"}]},
        {"a": None, "b": 1.5, "c": "text"},
        {"b": True, "late": {"deep": [None]}, "d": "half \ud83d"},
        {"a": "", "b": None, "c": [], "d": "e"},
    ]
    made = versions.create(write(tmp_path / "odd.jsonl", odd * 3), workspace)
    odd[2]["d"] = "half \ufffd"  # no file of text takes half a character; it is replaced where rows are read
    assert [row.cells for row in version_store.rows_of(made)] == odd * 3
    loaded = load_rows(DataConfig(source=made.source), workspace)
    assert list(loaded.splits["train"]) == odd * 3 and loaded.splits["train"][-1] == odd[-1]


def test_a_change_makes_a_new_version_and_leaves_the_old_one(
    first: version_store.Version, workspace: Workspace
) -> None:
    edited = curation.apply(first, {3: Change({"completion": "better"})}, who="Bea", why="was wrong")
    fewer = curation.apply(edited, dict.fromkeys((0, 1), Change(excluded="not ours")), who="Bea")
    marked = curation.apply(fewer, {5: Change(mark="good")}, who="Cy")
    noted = curation.apply(marked, {6: Change(notes=("ask legal",))}, who="Cy")
    chain = version_store.history(workspace, "tickets")
    assert [version.parent for version in chain] == [None, first.id, edited.id, fewer.id, marked.id]
    assert [version.number for version in chain] == [1, 2, 3, 4, 5] and len({version.id for version in chain}) == 5
    assert list(version_store.rows_of(first))[3].cells == ROWS[3]
    assert fewer.rows == {"train": 28} and fewer.excluded == 2
    rows = list(version_store.rows_of(noted))
    assert rows[5].mark == "good" and rows[6].notes == ("Cy: ask legal",) and rows[0].excluded == "not ours"
    assert marked.content == fewer.content  # marks are remarks, not data
    assert version_store.ids_of(noted) == list(range(2, 30)) and version_store.ids_of(noted, "test") == []
    assert curation.apply(noted, {0: Change(excluded="")}, who="Bea").rows == {"train": 29}
    assert load_rows(DataConfig(source=noted.source), workspace).rows == 28


def test_a_diff_says_what_was_added_removed_and_changed(first: version_store.Version, workspace: Workspace) -> None:
    rows = [row for row in version_store.rows_of(first) if row.id != 2]
    rows[0] = rows[0].with_(cells={"prompt": "other", "completion": "answer 0"})
    rows[4] = rows[4].with_(split="test")
    rows.append(VersionRow(30, {"prompt": "n", "completion": "m", "extra": "e"}))
    second = versions.derive(first, rows, "rewritten", who="Ada")
    difference = curation.diff(first, second)
    assert (difference.added, difference.removed, difference.changed, difference.moved) == ([30], [2], [0], [5])
    assert str(difference).endswith("1 added, 1 removed, 1 changed, 1 moved")
    assert curation.changed_cells(first, second, [0]) == {0: {"prompt": ("ask 0", "other")}}
    assert second.columns == ["prompt", "completion", "extra"] and second.rows == {"train": 29, "test": 1}
    other = versions.create("brand_voice", workspace)
    assert len(curation.diff(first, other).removed) == 30


def test_a_run_names_the_version_it_used_and_keeps_it_from_vanishing(
    first: version_store.Version, workspace: Workspace
) -> None:
    run = workspace.create_run("used")
    freeze(prepare(DataConfig(source=first.source), workspace=workspace), run)
    write_text(run.config_file, "name: used\n")
    assert run.manifest()["sources"][0]["version"] == first.id
    assert versions.used_by(first, workspace) == [run.id]
    with pytest.raises(InputError, match=run.id):
        versions.delete(first, workspace)
    versions.delete(first, workspace, force=True, who="Ada", why="space")
    with pytest.raises(InputError, match=r"deleted by Ada"):
        load_rows(DataConfig(source=first.source), workspace)
    assert version_store.history(workspace)[0].deleted["why"] == "space"
    with pytest.raises(InputError, match=r"deleted by Ada"):
        curation.apply(first, {1: Change(excluded="old")}, who="Bea")  # what she holds is from before


def test_what_is_not_there_is_named(first: version_store.Version, workspace: Workspace) -> None:
    cases = [
        (lambda: version_store.find("version:tickts-1-abc", workspace), "did you mean version:tickets-1"),
        (lambda: load_rows(DataConfig(source="version:nothing"), workspace), "no such version of data"),
        (lambda: curation.apply(first, {3: Change({"complection": "x"})}, who="A"), "did you mean completion"),
        (lambda: curation.apply(first, {77: Change(excluded="x")}, who="A"), "no such row"),
        (lambda: curation.apply(first, {}, who="A"), "No row is given"),
        (lambda: curation.apply(first, {1: Change(mark="great")}, who="A"), "good, bad"),
        (lambda: curation.apply(first, dict.fromkeys(range(30), Change(excluded="x")), who="A"), "No row is left"),
        (lambda: versions.derive(first, [VersionRow(1, {}), VersionRow(1, {})], "x"), "same id"),
    ]
    for act, message in cases:
        with pytest.raises(InputError, match=message):
            act()
    assert (
        version_store.pinned("version:tickets", workspace) == first.source and version_store.pinned("a.csv") == "a.csv"
    )
    assert len(version_store.history(workspace)) == 1 and not list(first.folder.parent.glob(".part-*"))
    assert version_store.find("tickets", workspace) == first and version_store.find("tickets-1", workspace) == first
