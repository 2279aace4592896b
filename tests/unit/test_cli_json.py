"""`--json` prints one object whatever happens, and wrong words on the command line are said in one message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftlab.cli.main import main


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
    monkeypatch.setattr("ftlab.workspace.Workspace.runs", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["runs", "list", "--json"])
    assert json.loads(capsys.readouterr().out)["exit_code"] == 1


def test_wrong_words_end_with_two_and_the_usage_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "shov"]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("usage: python -m ftlab runs") and "'show'" in told.err


def test_an_unknown_sample_lists_the_samples_whether_it_is_near_one_or_not(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("suport_triage", "tickets"):
        assert main(["data", "inspect", name, "--base", "none", "--json"]) == 2
        said = json.loads(capsys.readouterr().out)["error"]
        assert said["given"] == name and "support_triage, brand_voice" in said["allowed"]
