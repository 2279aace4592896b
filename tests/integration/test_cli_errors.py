"""Wrong input on the command line: exit code 2, one sentence, no traceback, nothing left behind."""

from __future__ import annotations

import json

import pytest

from tests.conftest import run_cli

GOOD = [{"prompt": f"Say {n}.", "completion": f"{n}"} for n in range(40)]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def cases():
    mixed = GOOD[:20] + [{"question": "a", "reply": "b"}] * 20
    return [
        ("missing.jsonl", None, [], ["missing.jsonl"]),
        ("empty.jsonl", "", [], ["empty"]),
        ("broken.jsonl", lines(GOOD[:3]) + '{"prompt": \n', [], ["line 4"]),
        ("mixed.jsonl", lines(mixed), [], ["prompt", "20"]),
        ("columns.jsonl", lines([{"foo": "a", "bar": "b"}] * 20), [], ["foo", "bar", "prompt"]),
        ("few.jsonl", lines(GOOD[:5]), [], ["5", "10"]),
        ("good.jsonl", lines(GOOD), ["model.base=./no/such/model"], ["no/such/model", "config.json"]),
        ("good.jsonl", lines(GOOD), ["model.base=some/base-on-the-hub"], ["Hub", "some/base-on-the-hub"]),
        ("good.jsonl", lines(GOOD), ["optimisation.learning_rate=5"], ["Learning rate", "5", "0.1"]),
        ("good.jsonl", lines(GOOD), ["optimisation.learning_rat=5"], ["did you mean 'learning_rate'"]),
        ("good.jsonl", lines(GOOD), ["trainer.optin=sgd"], ["optin", "did you mean 'optim'"]),
    ]


@pytest.mark.parametrize("name, text, settings, words", cases(), ids=lambda value: str(value)[:30])
def test_wrong_input_is_one_message(tmp_path, name, text, settings, words):
    file = tmp_path / name
    if text is not None:
        file.write_text(text)
    arguments = [part for one in [f"data.source={file}", *settings] for part in ("--set", one)]
    done = run_cli("train", *arguments, "--workspace", str(tmp_path / "w"), timeout=120)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("ftlab: ")
    for word in words:
        assert word in message
    assert not list((tmp_path / "w" / "runs").glob("*/config.yaml"))


def test_an_unknown_key_in_a_yaml_names_the_nearest(tmp_path):
    (tmp_path / "run.yaml").write_text("optimisation: {epoch: 3}\n")
    done = run_cli("train", str(tmp_path / "run.yaml"), "--workspace", str(tmp_path / "w"))
    assert done.returncode == 2
    assert "did you mean 'epochs'" in done.stderr


def test_a_data_set_on_an_unreachable_hub_is_said_within_seconds(tmp_path):
    done = run_cli("train", "--set", "data.source=some/data-set", "--workspace", str(tmp_path / "w"), timeout=60)
    assert done.returncode == 2
    assert "Hub" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.train
@pytest.mark.parametrize(
    "settings, words",
    [
        (["optimisation.max_length=4096"], ["4096 tokens", "at most 512"]),
        (["optimisation.max_length=16"], ["longer than 16 tokens", "the longest has"]),
        (["method.targets=no_such_layer"], ["no_such_layer", "q_proj"]),
    ],
)
def test_what_only_the_model_can_tell_is_one_message_too(tmp_path, settings, words):
    rows = [{"prompt": f"Please repeat the number {n} for me.", "completion": f"The number is {n}."} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text(lines(rows))
    arguments = [p for one in [f"data.source={tmp_path / 'rows.jsonl'}", *settings] for p in ("--set", one)]
    done = run_cli("train", *arguments, "--workspace", str(tmp_path / "w"))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_an_unknown_run_is_named(tmp_path):
    for command in (["evaluate", "x"], ["chat", "x"], ["runs", "show", "x"], ["runs", "stop", "x"]):
        done = run_cli(*command, "--workspace", str(tmp_path / "w"))
        assert done.returncode == 2
        assert "There is no run called 'x'" in done.stderr
