"""`python -m ftlab data inspect` and `data fix`: what a person and a program get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftlab.cli.main import main
from ftlab.core.workspace import Workspace
from ftlab.data.version_store import history
from ftlab.samples import sample_path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FTLAB_HOME", str(tmp_path / "workspace"))
    return tmp_path / "workspace"


def test_inspect_prints_one_json_object_with_the_documented_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "inspect", "messy_tickets", "--base", "none", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["rows"] == 544 and output["format"] == "prompt_completion" and output["confidence"] == 1.0
    assert output["columns"] == ["ticket", "prompt", "completion"] and output["tokens"] is None
    for finding in output["findings"]:
        assert {"kind", "rows", "why", "remedy"} <= finding.keys()
        assert all(isinstance(row, int) for row in finding["rows"])
    documented = Path(__file__).parents[2].joinpath("ftlab/data/checks/README.md").read_text(encoding="utf-8")
    assert all(f"`{field}`" in documented for field in (*output, *output["findings"][0]))


def test_inspect_tells_a_person_what_why_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "inspect", "messy_tickets", "--base", "none"]) == 0
    output = capsys.readouterr().out
    assert "Exact duplicates: 4 in train" in output and "keep the first, remove the copies" in output
    assert "counts twice" in output and "python -m ftlab data fix messy_tickets" in output
    assert "\x07" not in output and "AKIAIOSFODNN7" not in output


def test_cells_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"prompt": "\x1b[31mSay it\x07.", "completion": f"\u202eyou said {n}\x9b2J."} for n in range(20)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["data", "inspect", str(file), "--base", "none"]) == 0
    output = capsys.readouterr().out
    assert "you said 0" in output
    assert not [character for character in "\x1b\x07\x9b\u202e" if character in output]


def test_fix_makes_a_version_and_leaves_the_source_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "tickets.csv"
    file.write_bytes((sample_path("messy_tickets") / "messy_tickets.csv").read_bytes())
    before = file.read_bytes()
    assert main(["data", "fix", str(file), "--base", "none", "--who", "Ada", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert file.read_bytes() == before and output["who"] == "Ada" and output["parent"]
    assert "Removed 4 rows of train (exact duplicates)." in output["done"]
    assert main(["data", "inspect", output["source"], "--base", "none", "--json"]) == 0
    left = {finding["kind"] for finding in json.loads(capsys.readouterr().out)["findings"]}
    # Notes are to be read first: of such rows of real data, most are right.
    assert left == {"conflicting_answers", "html", "language", "length"}


def test_fix_can_be_told_which_and_how(capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "data",
        "fix",
        "messy_tickets",
        "--base",
        "none",
        "--json",
        "--only",
        "email,html",
        "--remedy",
        "email=drop",
    ]
    assert main(command) == 0
    done = json.loads(capsys.readouterr().out)["done"]
    assert "Dropped 3 rows of train (email addresses)." in done and "Dropped 4 rows of train (HTML remnants)." in done
    assert "duplicates" not in done


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fix", "messy_tickets", "--only", "emial"], "did you mean email"),
        (["fix", "messy_tickets", "--remedy", "email"], "KIND=REMEDY"),
        (["fix", "messy_tickets", "--base", "none", "--remedy", "email=burn"], "not a remedy for this finding"),
        (["inspect", "messy_tikets"], "messy_tickets"),
        (["inspect", "messy_tickets", "--max-length", "3"], "16 tokens"),
        (["inspect", "messy_tickets", "--base", "./nowhere"], "no such model folder"),
    ],
)
def test_wrong_input_is_one_message(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error


def with_a_long_answer(file: Path, sentences: int) -> Path:
    """Twenty rows, one of them with an answer of so many more `sentences`."""
    rows = [
        {"prompt": f"Tell me about {n}.", "completion": f"It is {n}." + " More of it." * (sentences * (n == 3))}
        for n in range(20)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_the_tokens_are_those_of_the_base_that_was_trained_last_and_the_output_says_so(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path
) -> None:
    file = with_a_long_answer(tmp_path / "long.jsonl", 150)
    assert main(["data", "inspect", str(file)]) == 0
    assert "Tokens of starter (no run here names a base; --base sets another; longest" in capsys.readouterr().out
    run = Workspace.open(home).create_run("tuned")
    run.config_file.write_text("model: {base: starter}\noptimisation: {max_length: 256}\n", encoding="utf-8")
    assert main(["data", "inspect", str(file)]) == 0
    output = capsys.readouterr().out
    assert f"Tokens of starter (the base of the run {run.id}; --base sets another; longest example: 256)" in output
    assert "too_long: raise max_length (or drop, shorten)" in output or "too_long: drop" in output


def test_fix_leaves_rows_that_a_longer_max_length_holds_and_says_what_it_costs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = with_a_long_answer(tmp_path / "long.jsonl", 25)
    assert (
        main(["data", "fix", str(file), "--base", "starter", "--max-length", "64", "--only", "too_long", "--json"]) == 0
    )
    output = json.loads(capsys.readouterr().out)
    assert output["done"] == [] and output["base"] == "starter"
    assert (
        "1 row of train fit into --set optimisation.max_length=" in output["left"][0]
        and "more time" in output["left"][0]
    )


def test_fix_makes_no_version_where_every_row_stays_as_it_was(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = with_a_long_answer(tmp_path / "long.jsonl", 200)
    flags = ["--base", "starter", "--max-length", "64", "--only", "too_long", "--remedy", "too_long=shorten", "--json"]
    assert main(["data", "fix", str(file), *flags]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["done"] == [] and "No row was changed." in output["left"][0]
    assert "known to be unnecessary" in output["left"][0]
    assert output["version"] is None and history(Workspace.open()) == []
