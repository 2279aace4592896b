"""Tool calls from rows to a verdict: with a tiny random base in seconds, and on the starter, which learns two tools."""

from __future__ import annotations

from pathlib import Path

import pytest

import ftlab
from ftlab.config import load_config
from ftlab.core.files import read_json
from ftlab.data.rendering import TOOLS_ADDED
from ftlab.data.tool_templates import writes_tools
from ftlab.evaluation.compare import evaluate_run
from ftlab.training.setup import chat_tokenizer
from ftlab.training.status import StatusWriter
from tests.small_runs import make_base, make_run, save_result


def test_each_turn_of_a_conversation_with_tools_is_asked_and_measured(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    run = make_run(tmp_path / "runs", base, "none", source="shop_tools", max_rows=40)
    tokenizer = chat_tokenizer(run, load_config(run.config_file), StatusWriter(run.status_file))
    assert writes_tools(tokenizer.chat_template) and writes_tools(run.template_file.read_text(encoding="utf-8"))
    assert read_json(run.status_file)["warnings"] == [TOOLS_ADDED]
    save_result(run, base)
    tokenizer.save_pretrained(run.adapter)
    comparison = evaluate_run(run)
    predictions = run.predictions()
    with_calls = sum("turn" in row for row in predictions)
    assert with_calls % 2 == 0 and 0 < with_calls < len(predictions)
    measures = {measure["name"]: measure for measure in comparison["measures"]}
    assert measures["tool_decision"]["rows"] == len(predictions)
    assert measures["tool_name"]["rows"] == measures["tool_valid"]["rows"] == with_calls // 2
    assert measures["tool_spared"]["rows"] == len(predictions) - with_calls // 2
    first, second = [row for row in predictions if "turn" in row][:2]
    assert "<tool_call>" in first["reference"] and "tool: {" in second["prompt"] and first["row"] == second["row"]
    assert first["cluster"] == second["cluster"]


@pytest.mark.train
@pytest.mark.long
def test_the_starter_learns_to_call_two_tools(tmp_path: Path) -> None:
    run = ftlab.train(
        data={"source": "shop_tools", "replay": "none"},
        optimisation={"epochs": 3},
        evaluation={"probes": "none", "general_text": "none", "memorisation": False},
        workspace=tmp_path,
    ).wait(show=False)
    measures = {measure["name"]: measure["values"] for measure in run.comparison()["measures"]}
    assert measures["tool_name"]["base"] < 0.1 and measures["tool_name"]["adapted"] > 0.8
    assert measures["tool_valid"]["adapted"] > 0.7
    assert measures["tool_decision"]["adapted"] > measures["tool_decision"]["base"] + 0.1
