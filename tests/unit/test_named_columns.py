"""Columns named once are part of the data: every command, version, tab and run knows them from then on."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from ftlab.arena import prompt_sources
from ftlab.cli.main import main
from ftlab.config import DataConfig, build_config
from ftlab.core.workspace import Workspace
from ftlab.data import load as named
from ftlab.data import version_store, versions
from ftlab.data.cells import is_id, likely_texts
from ftlab.data.inspection import glance, inspect, look
from ftlab.data.load import load_rows
from ftlab.data.splits import prepare
from ftlab.training import supervisor

# Names that nobody can guess from: neither these nor the cells say which side asks.
SAID = {"prompt": "Zimmer, links", "completion": "Zimmer, rechts"}
FLAGS = [word for role, column in SAID.items() for word in ("--column", f"{role}={column}")]


@pytest.fixture
def guests(tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FTLAB_HOME", str(workspace.root))
    file = tmp_path / "guests.csv"
    with file.open("w", newline="", encoding="utf-8") as opened:
        table = csv.writer(opened)
        table.writerow(["Kennung", *SAID.values()])
        table.writerows([f"G-{n}", f"Ist Zimmer {n} noch frei, bitte.", f"Ja, Zimmer {n} ist frei."] for n in range(40))
    return str(file)


def told(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def test_what_one_command_was_told_all_others_know(
    guests: str, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "inspect", guests, "--base", "none", "--json"]) == 2
    capsys.readouterr()
    assert main(["data", "inspect", guests, "--base", "none", "--json", *FLAGS]) == 0
    assert told(capsys)["roles"] == SAID
    assert main(["data", "split", guests, "--json"]) == 0
    version = told(capsys)
    assert version["details"]["columns"] == SAID
    assert main(["data", "inspect", version["source"], "--base", "none", "--json"]) == 0
    assert told(capsys)["roles"] == SAID
    for show in (look, glance, inspect):
        assert show(guests, workspace).detected.columns == SAID
        assert show("version:guests", workspace).detected.columns == SAID
    assert prompt_sources.held_out(guests, workspace)[0].messages[0]["content"].startswith("Ist Zimmer")
    run, config = supervisor.create(build_config({"data": {"source": guests}}), workspace)
    assert config.data.columns == run.manifest()["columns"] == SAID, "the run says itself how it was read"


def test_one_file_is_known_however_it_is_spelled(
    guests: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(guests)
    (file.parent / "sub").mkdir()
    (file.parent / "link.csv").symlink_to(file)
    monkeypatch.chdir(file.parent / "sub")
    named.remember(DataConfig(source="../guests.csv", columns=SAID), workspace)
    for spelled in (guests, "../guests.csv", "../link.csv", f"{file.parent}/sub/../guests.csv"):
        assert named.recall(DataConfig(source=spelled), workspace).columns == SAID, spelled
    named.forget(DataConfig(source="../link.csv"), workspace)
    assert named.recall(DataConfig(source=guests), workspace) is None


def test_columns_that_an_older_workspace_remembers_by_the_path_as_it_was_given_are_known(
    guests: str, workspace: Workspace
) -> None:
    link = Path(guests).with_name("link.csv")
    link.symlink_to(guests)
    workspace.named_columns_file.write_text(json.dumps({str(link): {"columns": SAID, "prompt_template": None}}))
    assert named.recall(DataConfig(source=str(link)), workspace).columns == SAID
    named.forget(DataConfig(source=str(link)), workspace)
    assert named.recall(DataConfig(source=str(link)), workspace) is None


def test_a_version_carries_its_columns_where_the_workspace_remembers_nothing(guests: str, workspace: Workspace) -> None:
    first = versions.create(DataConfig(source=guests, columns=SAID), workspace)
    second = versions.derive(first, list(version_store.rows_of(first))[:30], "cut", workspace=workspace)
    assert not workspace.named_columns_file.exists()
    assert prepare(DataConfig(source=second.source), workspace=workspace).manifest["columns"] == SAID
    again = versions.create(DataConfig(source=guests, columns=SAID), workspace)
    other = versions.create(DataConfig(source=guests, columns={"text": SAID["prompt"]}), workspace)
    assert again.id == first.id and other.id != first.id


def test_training_remembers_what_it_was_told_and_new_names_replace_the_old(guests: str, workspace: Workspace) -> None:
    supervisor.create(build_config({"data": {"source": guests, "columns": SAID}}), workspace)
    assert named.recall(DataConfig(source=guests), workspace).columns == SAID
    turned = {"prompt": SAID["completion"], "completion": SAID["prompt"]}
    supervisor.create(build_config({"data": {"source": guests, "columns": turned}}), workspace)
    assert named.recall(DataConfig(source=guests), workspace).columns == turned
    named.forget(DataConfig(source=guests), workspace)
    assert load_rows(DataConfig(source=guests), workspace).named is None


def test_a_template_is_remembered_with_the_columns(guests: str, workspace: Workspace) -> None:
    data = DataConfig(
        source=guests, columns={"completion": SAID["completion"]}, prompt_template="Gast: {Zimmer, links}"
    )
    named.remember(data, workspace)
    example = prepare(DataConfig(source=guests), workspace=workspace).splits["train"][0]
    assert example["messages"][0]["content"].startswith("Gast: Ist Zimmer")


def test_names_that_the_file_no_longer_has_are_not_used(guests: str, workspace: Workspace) -> None:
    named.remember(DataConfig(source=guests, columns=SAID), workspace)
    Path(guests).write_text("prompt,completion\n" + "".join(f"ask {n},say {n}\n" for n in range(20)))
    assert look(guests, workspace).detected.columns == {"prompt": "prompt", "completion": "completion"}


def test_a_step_that_fails_leaves_no_version_and_nothing_remembered(
    guests: str, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["split", guests], ["fix", guests, "--base", "none"]):
        assert main(["data", *words, "--column", f"prompt={SAID['prompt']}"]) == 2
        assert version_store.history(workspace) == []
    assert main(["data", "split", guests, "--validation", "0", "--test", "0", *FLAGS]) == 2
    assert version_store.history(workspace) == [] and not workspace.named_columns_file.exists()


def test_columns_can_be_forgotten_on_the_command_line(
    guests: str, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    named.remember(DataConfig(source=guests, columns=SAID), workspace)
    assert main(["data", "inspect", guests, "--base", "none", "--column", "auto"]) == 2
    assert named.recall(DataConfig(source=guests), workspace) is None
    assert main(["data", "inspect", guests, "--column", "prompt"]) == 2
    assert "ROLE=COLUMN" in capsys.readouterr().err


def test_the_advice_never_makes_an_id_the_prompt(guests: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "inspect", guests, "--base", "none", "--json"]) == 2
    advice = told(capsys)["error"]["try"]
    assert '--column prompt="Zimmer, links" --column completion="Zimmer, rechts"' in advice
    assert main(["data", "inspect", guests, "--base", "none", "--json", *FLAGS[:2]]) == 2
    assert '--column completion="Zimmer, rechts"' in told(capsys)["error"]["try"]


def test_ids_are_known_by_their_name_and_by_codes_that_do_not_repeat() -> None:
    for column in ("id", "Nr", "row_id", "ticketId", "uuid", "Order No.", "Nr. alt"):
        assert is_id(column, ["two words", "or more"]), column
    assert is_id("code", ["A1", "A2", "B7"]) and is_id("when", ["2024-01-01", "2024-01-02"])
    assert not is_id("code", ["A1", "A1", "B7"]), "a class"
    assert not is_id("No answer", ["some words", "and more"])
    assert not is_id("question", ["Is room 1 free?", "Is room 2 free?"])
    rows = [{"kind": "a", "said": f"a sentence {n}"} for n in range(3)]
    assert likely_texts(["kind", "said"], rows) == ["said", "kind"], "sentences first"
