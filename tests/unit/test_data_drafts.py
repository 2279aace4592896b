"""Judgements are kept until they are saved, by person and data set; many of them make one version."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftlab.config import DataConfig
from ftlab.core.workspace import Workspace
from ftlab.data import curation, version_store, versions
from ftlab.data import curation as drafts
from ftlab.data.curation import Change, editable, read_edited, was_json
from ftlab.data.inspection import every_row
from ftlab.errors import InputError

ROWS = [{"prompt": f"ask {n}", "completion": f"answer {n}"} for n in range(30)]


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    file = tmp_path / "tickets.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return DataConfig(source=str(file))


def judge(data: DataConfig, workspace: Workspace, who: str, **changes: Change) -> drafts.Draft:
    """`row_3=Change(...)` judges row 3."""
    rows = every_row(data, workspace)
    draft = drafts.load(data, workspace, who)
    for name, edit in changes.items():
        draft = drafts.change(draft, rows[int(name.removeprefix("row_"))], edit)
    return draft


def test_many_changes_make_one_version_that_says_what_was_done(data: DataConfig, workspace: Workspace) -> None:
    first = versions.create(data, workspace)
    made = curation.apply(
        first,
        {
            0: Change(cells={"completion": "better"}, mark="good"),
            1: Change(cells={"prompt": "other"}),
            2: Change(mark="good"),
            3: Change(excluded="not ours"),
            4: Change(notes=("ask legal", "or not")),
            5: Change(),
        },
        who="Ada",
        why="first look",
    )
    assert made.action == "edited 2 rows, marked 2 good, excluded 1, annotated 1"
    assert (made.number, made.parent, made.who, made.why) == (2, first.id, "Ada", "first look")
    rows = list(version_store.rows_of(made))
    assert rows[0].cells == {"prompt": "ask 0", "completion": "better"} and rows[0].mark == "good"
    assert rows[3].excluded == "not ours" and rows[4].notes == ("Ada: ask legal", "Ada: or not")
    assert rows[5:] == list(version_store.rows_of(first))[5:]
    assert made.details["by_row"]["0"] == "edited, marked good" and made.details["row_ids"] == [0, 1, 2, 3, 4]
    back = curation.apply(made, {3: Change(excluded="", mark="bad"), 0: Change(mark="none")}, who="Bea")
    assert back.action == "marked 1 row bad, took the mark off 1, brought back 1"
    rows = list(version_store.rows_of(back))
    assert (rows[3].excluded, rows[3].mark, rows[0].mark) == (None, "bad", None)
    assert curation.diff(made, back).added == [3]


def test_what_cannot_be_applied_is_named_and_makes_no_version(data: DataConfig, workspace: Workspace) -> None:
    first = versions.create(data, workspace)
    for changes, message in [
        ({77: Change(mark="good")}, "no such row"),
        ({1: Change(cells={"complection": "x"})}, "did you mean completion"),
        ({1: Change(mark="great")}, "good, bad, none"),
        ({1: Change()}, "No row is given"),
    ]:
        with pytest.raises(InputError, match=message):
            curation.apply(first, changes, who="Ada")
    with pytest.raises(InputError, match=r"Row 2 of .* has changed since"):
        curation.apply(first, {2: Change(mark="good")}, who="Ada", judged={2: curation.fingerprint({"prompt": "x"})})
    assert len(version_store.history(workspace)) == 1


def test_a_draft_survives_and_its_first_save_makes_version_1_and_2(data: DataConfig, workspace: Workspace) -> None:
    judge(data, workspace, "Ada", row_0=Change(mark="good"), row_7=Change(cells={"completion": "é \ud83d"}))
    again = drafts.load(data, Workspace(workspace.root), " ada ")  # after a restart, typed in another way
    assert again.count == 2 and again.words == "edited 1 row, marked 1 good" and again.at == 7
    assert again.changes[7].cells == {"completion": "é \ufffd"}, "half a character, which no file takes"
    made = drafts.save(again, data, workspace, why="checked")
    assert [(version.number, version.action) for version in version_store.history(workspace)] == [
        (1, "taken from the source"),
        (2, "edited 1 row, marked 1 good"),
    ]
    assert list(version_store.rows_of(made))[7].cells["completion"] == "é \ufffd"
    assert drafts.load(data, workspace, "Ada").count == 0 and drafts.unsaved(workspace) == []
    with pytest.raises(InputError, match="nothing to save"):
        drafts.save(drafts.load(data, workspace, "Ada"), data, workspace)


def test_two_people_have_a_draft_each_and_none_loses_to_the_other(data: DataConfig, workspace: Workspace) -> None:
    first = versions.create(data, workspace)
    data = DataConfig(source=first.source)
    ada = judge(data, workspace, "Ada", row_0=Change(mark="good"))
    bea = judge(data, workspace, "Bea", row_0=Change(mark="bad"), row_1=Change(excluded="spam"))
    assert drafts.load(data, workspace, "Ada").changes[0].mark == "good"
    assert {draft.who for draft in drafts.unsaved(workspace)} == {"Ada", "Bea"}
    assert [draft.who for draft in drafts.unsaved(workspace, "bea")] == ["Bea"]
    second = drafts.save(bea, data, workspace)
    assert drafts.later(data, workspace) == second
    third = drafts.save(ada, data, workspace, onto=second)
    rows = list(version_store.rows_of(third))
    assert third.parent == second.id and rows[0].mark == "good" and rows[1].excluded == "spam"


def test_a_row_that_somebody_else_rewrote_is_not_judged_unseen(data: DataConfig, workspace: Workspace) -> None:
    data = DataConfig(source=versions.create(data, workspace).source)
    ada = judge(data, workspace, "Ada", row_4=Change(mark="good"))
    bea = judge(data, workspace, "Bea", row_4=Change(cells={"completion": "quite another"}))
    second = drafts.save(bea, data, workspace)
    with pytest.raises(InputError, match=r"Row 4 .* has changed since"):
        drafts.save(ada, data, workspace, onto=second)
    assert drafts.load(data, workspace, "Ada").changes[4].mark == "good"
    assert drafts.save(ada, data, workspace).parent == data.source.removeprefix("version:")


def test_two_windows_of_one_person_add_up(data: DataConfig, workspace: Workspace) -> None:
    rows = every_row(data, workspace)
    draft = drafts.load(data, workspace, "Ada")
    other = drafts.load(data, workspace, "Ada")
    drafts.change(draft, rows[0], Change(mark="good"))
    drafts.change(other, rows[1], Change(mark="bad"))
    both = drafts.load(data, workspace, "Ada")
    assert set(both.changes) == {0, 1}
    assert set(drafts.change(both, rows[0], None).changes) == {1}
    # What is judged while the version is written is still there afterwards.
    drafts.save(both, data, workspace, why="")
    assert drafts.load(data, workspace, "Ada").changes == {}


def test_the_draft_of_a_version_that_was_deleted_says_so_and_can_be_discarded(
    data: DataConfig, workspace: Workspace
) -> None:
    first = versions.create(data, workspace)
    data = DataConfig(source=first.source)
    draft = judge(data, workspace, "Ada", row_0=Change(mark="good"))
    versions.delete(first, workspace, who="Bea", why="space")
    with pytest.raises(InputError, match="deleted by Bea"):
        drafts.save(draft, data, workspace)
    (kept,) = drafts.unsaved(workspace, "Ada")
    assert kept.count == 1
    drafts.discard(kept)
    assert drafts.unsaved(workspace) == []


def test_a_draft_wants_a_name() -> None:
    assert drafts.person_named("  Ada   Lovelace ") == "Ada Lovelace"
    for name in ("", "  ", None, "x" * 81):
        with pytest.raises(InputError, match="name"):
            drafts.person_named(name)


def test_rows_of_a_source_are_numbered_as_version_1_numbers_them(tmp_path: Path, workspace: Workspace) -> None:
    folder = tmp_path / "both"
    folder.mkdir()
    for split, count in (("train", 12), ("test", 3)):
        lines = [{"completion": f"{split} {n}", "prompt": "p", "n": n} for n in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = DataConfig(source=str(folder))
    source = every_row(data, workspace)
    first = versions.create(data, workspace)
    stored = every_row(DataConfig(source=first.source), workspace)
    expected = list(version_store.rows_of(first))
    assert len(source) == len(stored) == 15
    for place, row in enumerate(expected):
        assert (source[place].id, source[place].split) == (stored[place].id, stored[place].split) == (row.id, row.split)
        assert curation.fingerprint(source[place].cells) == curation.fingerprint(row.cells)


def test_a_changed_file_is_read_again_and_data_in_no_known_format_can_be_judged(
    tmp_path: Path, workspace: Workspace
) -> None:
    file = tmp_path / "odd.jsonl"
    file.write_text("".join(json.dumps({"left": n, "right": [n]}) + "\n" for n in range(12)))
    data = DataConfig(source=str(file))
    draft = judge(data, workspace, "Ada", row_3=Change(mark="bad"))
    assert every_row(data, workspace)[3].cells == {"left": 3, "right": [3]}
    file.write_text("".join(json.dumps({"left": n, "right": ["new"]}) + "\n" for n in range(13)))
    assert len(every_row(data, workspace)) == 13 and every_row(data, workspace)[3].cells["right"] == ["new"]
    with pytest.raises(InputError, match=r"Row 3 .* has changed since"):
        drafts.save(draft, data, workspace)
    file.write_text('{"left": 1}\n{broken\n')
    with pytest.raises(InputError, match="line 2"):
        every_row(data, workspace)


def test_marks_remarks_and_words_are_found_in_a_version_of_several_pieces(tmp_path: Path, workspace: Workspace) -> None:
    file = tmp_path / "many.jsonl"
    lines = [{"prompt": f"Ask {n}", "completion": {"said": f'"É{n}"'}} for n in range(6000)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    first = versions.create(str(file), workspace)
    changes = {5500: Change(mark="good"), 3: Change(excluded="x"), 4: Change(notes=("n",), mark="bad")}
    made = curation.apply(first, changes, who="Ada")
    rows = every_row(DataConfig(source=made.source), workspace)
    places = {name: mask.nonzero()[0].tolist() for name, mask in rows.flags.items()}
    assert places == {"good": [5500], "bad": [4], "excluded": [3], "noted": [4]}
    assert rows[5500].cells["prompt"] == "Ask 5500" and rows[3].excluded == "x" and len(rows) == 6000
    assert rows.holding("ASK 55")[5500] and rows.holding("ask 5999").nonzero()[0].tolist() == [5999]
    assert rows.holding("é5998").nonzero()[0].tolist() == [5998]
    assert rows.position(5999) == 5999 and rows.position(6000) is None


@pytest.mark.parametrize(
    ("before", "text", "after"),
    [
        ("old", "", ""),
        (None, "", None),
        (None, "new", "new"),
        ([1], "[1, 2]", [1, 2]),
        ({"a": 1}, '{"a": null}', {"a": None}),
        (3, "4.5", 4.5),
        (True, "false", False),
    ],
)
def test_an_edited_cell_stays_of_its_kind(before: object, text: str, after: object) -> None:
    assert read_edited("c", text, before) == after
    assert read_edited("c", editable(before), before) == before


@pytest.mark.parametrize(
    ("before", "text"),
    [
        ([1], "[1"),
        ([1], '{"a": 1}'),
        ({"a": 1}, "a: 1"),
        (3, "true"),
        (3, "NaN"),
        (True, "1"),
        (3, ""),
        ([], "[" * 9999),
    ],
)
def test_an_edited_cell_of_another_kind_is_refused(before: object, text: str) -> None:
    with pytest.raises(InputError, match=r"The column c (is no longer|changed its type)"):
        read_edited("c", text, before)


def test_an_answer_that_was_json_and_no_longer_is_gets_a_warning() -> None:
    assert was_json('{"a": 1}', '{"a": 1') and not was_json('{"a": 1}', '{"a": 2}') and not was_json("{x", "y")
