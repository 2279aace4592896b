"""Chat on the command line: tokens as they come, and what was cut or left out."""

from __future__ import annotations

import json

import pytest

from ftlab.cli import chat as cli_chat
from ftlab.cli.main import main
from ftlab.evaluation.duet import Answers, Duet
from ftlab.models.load import load_base, load_tokenizer
from tests.json_shapes import check_shape


def printed(answers: list[Answers], capsys: pytest.CaptureFixture[str]) -> tuple[list[str], str]:
    """What stood on the terminal before each update was asked for, and in the end."""
    seen = []

    def stream():
        for one in answers:
            yield one
            seen.append(capsys.readouterr().out)

    cli_chat.show(stream(), 8)
    rest = capsys.readouterr().out
    return seen, "".join(seen) + rest


def test_the_base_streams_first_then_the_adapted_model(capsys: pytest.CaptureFixture[str]) -> None:
    base, adapted = ["a", "ab", *["ab"] * 12], ["x" * n for n in range(1, 15)]
    answers = [Answers(b, a, n == 13) for n, (b, a) in enumerate(zip(base, adapted, strict=True))]
    seen, whole = printed(answers, capsys)
    assert seen[:2] == ["base     a", "b"]
    assert seen[-3:] == ["x", "x", "x"], "the adapted model's come as they are made too"
    assert whole == f"base     ab\nadapted  {'x' * 14}\n"


def test_what_comes_late_or_was_changed_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    late = [*[Answers("a", "x" * n, False) for n in range(1, 9)], Answers("a late", "x" * 9, True)]
    assert printed(late, capsys)[1] == f"base     a\nadapted  {'x' * 9}\nbase     a late\n"
    changed = [Answers("one two", "", False), Answers("one, two", "y", True)]
    assert printed(changed, capsys)[1] == "base     one two\nbase     one, two\nadapted  y\n"


def test_cut_answers_and_notes_are_said_and_controls_are_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    last = Answers("one\x1b[2J", "two", True, ("adapted",), ("Its oldest turns were left out.",))
    whole = printed([last], capsys)[1]
    assert "cut      adapted: cut after 8 tokens: --max-new-tokens" in whole
    assert "note     Its oldest turns were left out." in whole and "\x1b" not in whole


def test_json_says_what_was_cut_and_left_out(tmp_path, monkeypatch, capsys) -> None:
    from ftlab.config import ModelConfig, build_config
    from ftlab.core.files import write_text
    from ftlab.core.workspace import Workspace

    run = Workspace.open(tmp_path).create_run("talk")
    write_text(run.config_file, build_config({}).to_yaml())
    models = [load_base(ModelConfig(base="starter"), device="cpu") for _ in range(2)]
    duet = Duet(*models, load_tokenizer("starter"), context=512)
    monkeypatch.setattr("ftlab.evaluation.duet.load_duet", lambda _: duet)
    words = ["chat", run.id, "--message", "Hello", "--max-new-tokens", "2", "--workspace", str(tmp_path), "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    check_shape("chat", told)
    assert told["cut"] == ["base", "adapted"]
