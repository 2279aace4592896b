"""What the Curate and Versions panels show: text stays text, filters count what is not saved, changes are marked."""

from __future__ import annotations

import json
import re
import zipfile
from html import unescape
from pathlib import Path

import pytest

from ftlab.config import DataConfig
from ftlab.core.files import write_json, write_text
from ftlab.core.workspace import Workspace
from ftlab.data import curation as drafts
from ftlab.data import version_store, versions
from ftlab.data.curation import Change, apply
from ftlab.data.version_store import VersionRow
from ftlab.errors import InputError
from ftlab.ui.kit.row_card import Seen, card, form, with_edits
from ftlab.ui.kit.word_diff import marked
from ftlab.ui.tabs.data import curate_desk
from ftlab.ui.tabs.data import versions_view as version_views
from ftlab.ui.tabs.data.curate import later_version
from ftlab.ui.tabs.data.versions import download, hub_card

EVIL = '</textarea><script>alert(1)</script><img src=x onerror="alert(2)">'


@pytest.fixture
def first(tmp_path: Path, workspace: Workspace) -> version_store.Version:
    rows = [{"prompt": f"ask {n}", "completion": f"answer {n}"} for n in range(30)]
    rows[7]["completion"] = EVIL
    file = tmp_path / "tickets.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return versions.create(str(file), workspace, who=EVIL, why=EVIL)


def shown(version: version_store.Version) -> str:
    return DataConfig(source=version.source).model_dump_json()


def without_tags(html: str) -> str:
    return unescape(re.sub(r"</?(?:del|ins)>", "", html))


@pytest.mark.parametrize(
    "value",
    [EVIL, {EVIL: [EVIL]}, [{"role": EVIL, "content": EVIL}], [{"from": "human", "value": [EVIL], EVIL: 1}]],
    ids=["text", "object", "conversation", "sharegpt with more"],
)
def test_whatever_a_cell_holds_it_is_text_on_the_page(value: object) -> None:
    row = VersionRow(3, {EVIL: value}, excluded=EVIL, notes=(EVIL,))
    seen = Seen(row, Change(cells={EVIL: "other"}, notes=(EVIL,)), EVIL, (EVIL,))
    for html in (card(Seen(row, None, ""), [EVIL], EVIL), card(seen, [EVIL], EVIL), form(seen, [EVIL])):
        assert "<script" not in html and "<img" not in html and html.count("</textarea>") == html.count("<textarea")


def test_text_begins_with_its_own_line_break_in_the_form_and_half_characters_can_be_sent() -> None:
    html = form(Seen(VersionRow(0, {"a": "\nline", "b": "half \ud83d"}), None, ""), ["a", "b"])
    assert ">\n\nline</textarea>" in html  # the parser takes the first one away
    html.encode()


def test_a_conversation_is_shown_as_its_turns() -> None:
    turns = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": None, "tool_calls": [{"id": 7}]}]
    html = card(Seen(VersionRow(0, {"messages": turns[:1]}), None, ""), ["messages"], "")
    assert html.count("ft-turn-of") == 1 and "user" in html and "{" not in html
    html = card(Seen(VersionRow(0, {"messages": [{"role": "a", "content": "b", "x": 1}]}), None, ""), ["messages"], "")
    assert "{&#34;x&#34;: 1}" in html


def test_a_turn_is_edited_as_text_and_the_rest_of_the_conversation_stays() -> None:
    turns = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Here.", "weight": 1}]
    row = VersionRow(0, {"messages": turns, "meta": {"id": 1}})
    html = form(Seen(row, None, ""), ["messages", "meta"])
    assert html.count("data-turn=") == 2 and html.count("data-column=") == 4
    cells = with_edits(row, row.cells, [["messages", "There.", "1"], ["meta", '{"id": 2}', None]])
    assert cells == {
        "messages": [turns[0], {"role": "assistant", "content": "There.", "weight": 1}],
        "meta": {"id": 2},
    }
    assert turns[1]["content"] == "Here."
    shorter = with_edits(row, row.cells, [["messages", '[{"role": "user", "content": "x"}]', None]])
    assert shorter == {"messages": [{"role": "user", "content": "x"}]}
    with pytest.raises(InputError, match="both as turns and as JSON"):
        with_edits(row, row.cells, [["messages", "There.", 1], ["messages", "[]", None]])


@pytest.mark.parametrize(
    ("before", "after", "gone", "come"),
    [
        ("in depot 3.", "in depot 33.", ["3"], ["33"]),
        ("a b c", "a c", ["b "], []),
        ("one two three", "uno due three", ["one two"], ["uno due"]),
        ("", "new", [], ["new"]),
        ("<b>x</b>", "<i>x</i>", ["b", "b"], ["i", "i"]),
    ],
)
def test_only_the_words_that_differ_are_marked(before: str, after: str, gone: list[str], come: list[str]) -> None:
    left, right = marked(before, after)
    assert (without_tags(left), without_tags(right)) == (before, after)
    assert [unescape(one) for one in re.findall("<del>(.*?)</del>", left)] == gone
    assert [unescape(one) for one in re.findall("<ins>(.*?)</ins>", right)] == come


def test_texts_as_long_as_books_are_compared_without_a_wait() -> None:
    before = "word another\n" * 200_000
    left, right = marked(before, before.replace("another", "other", 1))
    assert without_tags(left) == before and "<del>" in left and "<ins>" in right


def test_a_filter_counts_what_is_not_saved_yet(first: version_store.Version, workspace: Workspace) -> None:
    saved = apply(first, {0: Change(mark="good"), 1: Change(excluded="x"), 2: Change(mark="bad")}, who="Ada")

    def places(kind: str, text: str = "") -> list[int]:
        return curate_desk.view(curate_desk.desk(shown(saved), "Ada", kind, text, workspace)).tolist()

    assert (places("Good"), places("Excluded"), places("Bad")) == ([0], [1], [2])
    assert places("Not yet judged") == list(range(3, 30)) and places("Not saved yet") == []
    desk = curate_desk.desk(shown(saved), "Ada", None, None, workspace)
    draft = drafts.change(desk.draft, desk.rows[0], Change(mark="none"))
    draft = drafts.change(draft, desk.rows[1], Change(excluded="", mark="good"))
    drafts.change(draft, desk.rows[5], Change(cells={"completion": "zebra"}, notes=("n",)))
    assert (places("Good"), places("Excluded"), places("With notes")) == ([1], [], [5])
    assert places("Not yet judged")[:2] == [0, 3] and places("Not saved yet") == [0, 1, 5]
    assert places("All rows", "ZEBRA") == [5] and places("All rows", "answer 5") == []
    other = curate_desk.desk(shown(saved), "Bea", "Good", "", workspace)
    assert curate_desk.view(other).tolist() == [0]
    said = curate_desk.status(other, workspace)
    assert "Ada has 5 not saved yet on the same data" in said


def test_next_and_previous_stay_within_the_filter() -> None:
    import numpy as np

    places = np.array([2, 5, 9])
    assert [curate_desk.step(places, at, 1) for at in (None, 0, 2, 4, 9)] == [2, 2, 5, 5, None]
    assert [curate_desk.step(places, at, -1) for at in (2, 3, 9, 20)] == [None, 2, 5, 9]
    assert curate_desk.step(places[:0], 3, 1) is None
    assert curate_desk.place_of(places, 5, "Good", "") == "2 of 3 rows that match"
    assert curate_desk.place_of(places, 4, "All rows", "x").startswith("no longer among the 3")


def test_judging_back_to_what_is_saved_is_no_change(first: version_store.Version, workspace: Workspace) -> None:
    saved = apply(first, {0: Change(mark="good"), 1: Change(excluded="x")}, who="Ada")
    desk = curate_desk.desk(shown(saved), "Ada", None, None, workspace)
    assert curate_desk.judged(desk, desk.rows[0], mark="good") is None
    assert curate_desk.judged(desk, desk.rows[0], mark="none") == Change(mark="none")
    assert curate_desk.judged(desk, desk.rows[2], mark="none") is None
    assert curate_desk.judged(desk, desk.rows[1], excluded="x") is None
    assert curate_desk.judged(desk, desk.rows[2], cells={"prompt": "ask 2"}) is None
    assert curate_desk.judged(desk, desk.rows[2], cells={"prompt": "ask 2", "completion": "y"}) == Change(
        cells={"completion": "y"}
    )


def test_two_who_judge_the_same_file_are_told_of_each_other(tmp_path: Path, workspace: Workspace) -> None:
    file = tmp_path / "both.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"p {n}", "completion": "c"}) + "\n" for n in range(12)))
    data = DataConfig(source=str(file))
    desks = {who: curate_desk.desk(data.model_dump_json(), who, None, None, workspace) for who in ("Ada", "Bea")}
    for who, desk in desks.items():
        drafts.change(desk.draft, desk.rows[len(who)], Change(mark="good"))
    desks = {who: curate_desk.desk(data.model_dump_json(), who, None, None, workspace) for who in desks}
    assert later_version(desks["Ada"], workspace) is None
    second = drafts.save(desks["Ada"].draft, data, workspace)
    assert later_version(desks["Bea"], workspace) == second
    assert f"open:{second.source}" in curate_desk.status(desks["Bea"], workspace)


def test_changes_elsewhere_are_found_again_and_those_of_deleted_rows_can_be_discarded(
    first: version_store.Version, workspace: Workspace
) -> None:
    desk = curate_desk.desk(shown(first), "Ada", None, None, workspace)
    drafts.change(desk.draft, desk.rows[0], Change(mark="good"))
    here = curate_desk.desk(DataConfig(source="brand_voice").model_dump_json(), "Ada", None, None, workspace)
    assert f"open:{first.source}" in curate_desk.status(here, workspace)
    assert "open:" not in curate_desk.status(
        curate_desk.desk(DataConfig(source="brand_voice").model_dump_json(), "Bea", None, None, workspace), workspace
    )
    versions.delete(first, workspace)
    said = curate_desk.status(here, workspace)
    assert "whose rows were deleted" in said and f"discard:{first.id}" in said
    drafts.discard(curate_desk.orphan(first.id, "Ada", workspace))
    with pytest.raises(InputError, match="already gone"):
        curate_desk.orphan(first.id, "Ada", workspace)


def test_the_history_names_who_why_and_the_runs_and_what_differs_is_marked(
    first: version_store.Version, workspace: Workspace
) -> None:
    second = apply(
        first,
        {7: Change(cells={"completion": EVIL + "!"}), 8: Change(excluded=EVIL), 9: Change(mark="bad", notes=(EVIL,))},
        who="Bea",
        why="second look",
    )
    run = workspace.create_run("used")
    write_text(run.config_file, "name: used\n")
    write_json(run.manifest_file, {"sources": [{"version": first.id}, {"version": None}]})
    used = version_views.runs_of(workspace)
    assert used == {first.id: [run.id]}
    html = version_views.history_table([first, second], second.source, used)
    assert f'data-run="{run.id}"' in html and "second look" in html and html.count(">on show<") == 1
    diff = version_views.difference(first.id, second.id, 1, workspace)
    assert "1 row edited, 1 row removed or excluded, 1 row with a changed mark or note" in diff
    assert "<ins>!</ins>" in diff and "none before, bad after" in diff
    for page in (html, diff):
        assert "<script" not in page and "<img" not in page
    many = apply(second, {row: Change(mark="good") for row in range(12)}, who="Cy")
    assert version_views.pages(second.id, many.id, workspace) == 3
    assert 'data-row="11"' in version_views.difference(second.id, many.id, 3, workspace)
    assert version_views.name_of(DataConfig(source=second.source), workspace) == "tickets"
    assert version_views.name_of(DataConfig(source="brand_voice"), workspace) is None


def test_one_split_is_one_file_and_several_are_one_zip_named_after_the_version(
    first: version_store.Version, workspace: Workspace
) -> None:
    offered, said = download(DataConfig(source=first.source), "csv", workspace)
    assert Path(offered["value"]).name == f"{first.id}.csv" and "30 rows of train" in said
    split = apply(first, {1: Change(excluded="x")}, who="Ada")
    split = versions.derive(
        split, [row.with_(split="test" if row.id > 25 else "train") for row in version_store.rows_of(split)], "split"
    )
    offered, said = download(DataConfig(source=split.source), "jsonl", workspace)
    assert Path(offered["value"]).name == f"{split.id}.zip" and "25 rows of train, 4 rows of test" in said
    with zipfile.ZipFile(offered["value"]) as archive:
        assert sorted(archive.namelist()) == ["test.jsonl", "train.jsonl"]
        assert len(archive.read("test.jsonl").splitlines()) == 4


def test_what_would_go_to_the_hub_is_shown_before_anything_goes(
    first: version_store.Version, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "")
    data = DataConfig(source=first.source)
    said = hub_card(data, "me/tickets", True, "cc-by-4.0", workspace=workspace)
    assert "private data set me/tickets" in said and "data/train.parquet" in said and "license: cc-by-4.0" in said
    assert "Anyone can read it" in hub_card(data, "me/tickets", False, "", workspace=workspace)
    for name in ("", "tickets", "a/b/c"):
        with pytest.raises(InputError, match="owner/name"):
            hub_card(data, name, True, "", workspace=workspace)
