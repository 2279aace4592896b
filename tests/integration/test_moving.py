"""Moving from a hosted fine-tune, as docs/moving.md tells it: JSONL in, the old model compared, verdict, export out."""

from __future__ import annotations

import json

import pytest

from ftlab.config import DataConfig
from ftlab.core.workspace import Workspace
from ftlab.data.load import load_rows
from ftlab.data.splits import detect_format, read_split
from ftlab.report.report import contents
from tests.conftest import last_json, run_cli
from tests.judge_server import judge_server, reply

pytestmark = [pytest.mark.train, pytest.mark.long]

COLOURS = ("red", "green", "blue")
SYSTEM = "Name the colour of the thing in one word."


def row(number: int) -> dict:
    """One line of OpenAI's training file; the first answer of a conversation has weight 0."""
    turns = [{"role": "system", "content": SYSTEM}]
    if number % 10 == 0:
        turns += [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello!", "weight": 0}]
    turns.append({"role": "user", "content": f"Which colour has thing {number}?"})
    return {"messages": [*turns, {"role": "assistant", "content": COLOURS[number % 3], "weight": 1}]}


def test_the_other_files_of_openai_are_read_as_what_they_are(tmp_path):
    tool = {"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}
    call = {"id": "1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    asked = [{"role": "user", "content": "Find it."}]
    lines = {
        "tools": {"messages": [*asked, {"role": "assistant", "tool_calls": [call]}], "tools": [tool]},
        "pairs": {
            "input": {"messages": asked},
            "preferred_output": [{"role": "assistant", "content": "Here it is."}],
            "non_preferred_output": [{"role": "assistant", "content": "No."}],
        },
    }
    found = {}
    for name, line in lines.items():
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for _ in range(5)), encoding="utf-8")
        data = DataConfig(source=str(file))
        found[name] = detect_format(load_rows(data, Workspace(tmp_path)), data).format
    assert found["pairs"] == "openai_preference" and found["tools"] != found["pairs"]


def test_a_hosted_model_is_compared_and_the_run_goes_out(tmp_path):
    data, home = tmp_path / "hosted.jsonl", tmp_path / "home"
    data.write_text("".join(json.dumps(row(n)) + "\n" for n in range(120)), encoding="utf-8")
    where = ["--workspace", str(home)]
    sets = ["data.source=" + str(data), "optimisation.max_steps=4", "evaluation.margin=5", "evaluation.probes=none"]
    sets += ["evaluation.general_text=none", "evaluation.memorisation=false"]
    trained = run_cli("train", *where, *[part for value in sets for part in ("--set", value)])
    assert trained.returncode == 0, trained.stderr
    [run] = Workspace(home).runs()
    rows = read_split(run, "test")
    assert all(each["messages"][0]["content"] == SYSTEM for each in rows)
    weights = {turn.get("weight") for each in read_split(run, "train") for turn in each["messages"]}
    assert weights == {None, 0}

    def old_model(request, _):
        number = int(request["body"]["messages"][-1]["content"].split()[-1].rstrip("?"))
        return reply(COLOURS[number % 3], prompt_tokens=30, completion_tokens=1)

    name = "ft:gpt-4o-mini-2024-07-18:acme::abc123"
    prices = ["--price-in", "0.3", "--price-out", "1.2", "--price", "0.4"]
    with judge_server(old_model) as server:
        asked = ["evaluate", run.id, *where, "--against", f"{server.url}#{name}", *prices]
        unsure = run_cli(*asked)
        assert unsure.returncode != 0 and "--yes" in unsure.stderr and not server.requests
        compared = run_cli(*asked, "--yes")
        assert compared.returncode == 0, compared.stderr
    assert len(server.requests) == len(rows) and server.requests[0]["body"]["messages"][0]["content"] == SYSTEM
    # Four steps teach nothing: the verdict must say that the old model is better, and not within the margin.
    assert f"Adapted against {name}: The adapted model is worse than {name}" in compared.stdout
    assert "Not shown to be no worse" in compared.stdout and "Cost of 1,000 answers" in compared.stdout
    prompted = run_cli("evaluate", run.id, *where, "--prompted", "--system-prompt", SYSTEM, "--retrieved", "2")
    assert prompted.returncode == 0, prompted.stderr
    checked = dict(contents(run)["checked"])
    assert f"Against {name}" in checked and "Prompting, retrieval or tuning" in checked
    exported = run_cli("export", run.id, *where, "--to", str(tmp_path / "out"), "--json")
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "out" / "README.md").exists() and last_json(exported.stdout)
