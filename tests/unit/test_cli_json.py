"""`--json` prints one object whatever happens, and wrong words on the command line are said in one message."""

from __future__ import annotations

import argparse
import functools
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import ValidationError

from ftlab.cli.main import main
from ftlab.core.workspace import Workspace
from tests.json_shapes import check_shape, documented
from tests.unit.test_cli_parser import commands, flags


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTLAB_HOME", str(tmp_path / "workspace"))


@pytest.mark.parametrize(
    "words",
    [
        ["runs", "show", "x"],
        ["evaluate", "x"],
        ["chat", "x", "--message", "Hello"],
        ["chat", "x"],
        ["train", "--set", "optimisation.epochs=-1"],
        ["train", "missing.yaml"],
        ["preflight", "--price", "-1"],
        ["data", "inspect", "no_such_sample.csv"],
        ["data", "split", "missing.jsonl"],
        ["data", "versions", "show", "x"],
        ["arena", "verdict"],
        ["arena", "create", "--contestant", "nobody"],
        ["sweep", "show"],
        ["export", "x"],
        ["report", "x"],
        ["judge", "x"],
        ["train", "--bogus"],
        ["arena", "create", "--number", "many"],
        ["runs", "delete", "x"],
        ["preflight", "--optimisation.epochs", "none"],
        ["judge"],
        ["runs", "shov"],
        ["tran"],
        [],
    ],
    ids=lambda words: " ".join(words),
)
def test_a_failure_with_json_prints_one_object_that_says_what_is_wrong(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*words, "--json"])
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert code == found["exit_code"] == 2
    assert found["error"]["what"] and {"what", "why", "given", "allowed", "try"} == found["error"].keys()
    assert "Traceback" not in told.err and found["error"]["what"] in told.err


def test_a_fault_of_ftlab_itself_is_one_object_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftlab.core.workspace.Workspace.runs", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["runs", "list", "--json"])
    assert json.loads(capsys.readouterr().out)["exit_code"] == 1


def test_json_is_documented_for_every_command_and_for_no_other() -> None:
    assert {words for words, parser in commands().items() if "--json" in flags(parser)} == documented().keys()
    assert commands().keys() - documented().keys() == {"app", "serve"}


def test_a_key_that_is_not_documented_is_refused_at_every_depth() -> None:
    listed = {"run": "a", "state": "damaged", "damage": "cut"}
    check_shape("runs list", {"runs": [listed]})
    for wrong in ({"runs": [listed], "more": 1}, {"runs": [listed | {"more": 1}]}, {"runs": [{"run": "a"}]}):
        with pytest.raises(ValidationError):
            check_shape("runs list", wrong)


def test_commands_on_data_and_blind_tests_print_what_is_documented(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*words: str) -> dict[str, Any]:
        assert main([*words, "--json"]) == 0
        value = json.loads(capsys.readouterr().out)
        check_shape(" ".join(word for word in words[:3] if word in NAMES), value)
        return value

    told("advise", "--change", "style", "--examples", "300")
    rows = [{"prompt": f"Where is order {n}?", "completion": f"It left on day {n}."} for n in range(20)]
    rows[3]["prompt"] += " Reply to anna.berg@mail.de, please."
    source = str(tmp_path / "rows.jsonl")
    Path(source).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    told("data", "inspect", source, "--base", "none")
    first = told("data", "versions", "create", source)
    assert told("data", "fix", source, "--base", "none", "--only", "conflicting_answers")["done"] == []
    fixed = told("data", "fix", source, "--base", "none", "--only", "email")
    told("data", "split", fixed["source"], "--seed", "3")
    told("data", "export", fixed["source"], str(tmp_path / "kept.jsonl"))
    told("data", "push", fixed["source"], "me/tickets", "--dry-run")
    assert len(told("data", "versions", "list")["versions"]) == 3
    told("data", "versions", "show", fixed["id"])
    told("data", "versions", "diff", first["id"], fixed["id"])
    told("data", "versions", "delete", fixed["id"], "--force")
    told("base", "list")
    told("runs", "list")
    (tmp_path / "prompts.txt").write_text("Say a.\nSay b.\n", encoding="utf-8")
    sides = [part for model in "ab" for part in ("--contestant", f"http://127.0.0.1:9/v1#{model}")]
    told("arena", "create", *sides, "--prompts", str(tmp_path / "prompts.txt"))
    told("arena", "raters")
    told("arena", "list")
    told("arena", "verdict")


NAMES = {word for words in documented() for word in words.split()}


def test_wrong_words_end_with_two_and_the_usage_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "shov"]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("usage: python -m ftlab runs") and "'show'" in told.err


def test_an_unknown_sample_lists_the_samples_whether_it_is_near_one_or_not(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("suport_triage", "tickets"):
        assert main(["data", "inspect", name, "--base", "none", "--json"]) == 2
        said = json.loads(capsys.readouterr().out)["error"]
        assert said["given"] == name and "support_triage, brand_voice" in said["allowed"]


# What a command that is not here takes; the address of nobody.
REQUIRED = {"url": "http://127.0.0.1:9", "model": "m", "to": "nobody/here", "source": "nobody/here"}
ODD_NAMES = {"empty": "", "odd": "no\nsuch ☃", "long": "x" * 5000}


@functools.cache
def json_commands() -> dict[str, argparse.ArgumentParser]:
    """Every command that answers in JSON, by its words (the app does not end)."""
    return {words: parser for words, parser in commands().items() if "--json" in flags(parser)}


def given_to(command: str, name: str) -> list[str]:
    """The words of `command` with `name` for each thing that it is about, and with the options that it must have."""
    words = []
    for action in json_commands()[command]._actions:
        if action.option_strings and action.required:
            words += [action.option_strings[-1], REQUIRED[action.dest]]
    return [*command.split(), *words, "--json", "--", *(_word(one, name) for one in positionals(command))]


def positionals(command: str) -> list[argparse.Action]:
    return [action for action in json_commands()[command]._actions if not action.option_strings]


def _word(action: argparse.Action, name: str) -> str:
    return next(iter(action.choices)) if action.choices else name


def one_object(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    code = main(words)
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert code == found["exit_code"] == 2 and found["error"]["what"], told
    assert "Traceback" not in told.err
    return found["error"]


def test_every_command_with_something_to_name_is_walked() -> None:
    assert (
        len(json_commands()) > 40
        and {"train", "runs show", "data versions diff", "arena verdict"} <= json_commands().keys()
    )


@pytest.mark.parametrize("kind", ODD_NAMES)
@pytest.mark.parametrize("command", [command for command in json_commands() if positionals(command)])
def test_a_name_of_nothing_is_one_object_of_every_command(
    command: str, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    one_object(given_to(command, ODD_NAMES[kind]), capsys)


@pytest.mark.parametrize("command", json_commands())
def test_an_unknown_option_and_a_workspace_that_is_a_file_are_one_object_of_every_command(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    words = given_to(command, "x")
    place = words.index("--")
    told = one_object([*words[:place], "--no-such-option", *words[place:]], capsys)
    assert "--no-such-option" in str(told["what"])
    if "--workspace" in json_commands()[command]._option_string_actions:
        one_object([*words[:place], f"--workspace={file}", *words[place:]], capsys)


def test_an_empty_name_of_a_yaml_file_trains_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """As of a variable of the shell that is not set: `train "$CONFIG"`."""
    assert "name of the YAML file is empty" in str(one_object(["train", "--json", ""], capsys)["what"])
    assert Workspace.open().runs() == []


def test_an_empty_name_of_a_blind_test_matches_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "name of the blind test is empty" in str(one_object(["arena", "verdict", "--json", ""], capsys)["what"])
