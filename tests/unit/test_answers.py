"""What a prompt or another model does, put into the weights: answers to training prompts become rows to tune on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ftlab.cli.main import main
from ftlab.config import build_config
from ftlab.core.endpoint import WRITER
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.data.curation import accept_unread
from ftlab.data.splits import freeze, read_split
from ftlab.data.version_store import find, history, rows_of
from ftlab.data.versions import MADE_BY
from ftlab.errors import InputError
from ftlab.evaluation.compare import evaluate_run
from ftlab.evaluation.remedies import Answers, against_better, commands
from ftlab.evaluation.request import Request
from ftlab.report.facts import written_rows
from ftlab.synthesis.answers import answer_work
from ftlab.synthesis.make import CUT, make
from ftlab.synthesis.plan import build_settings, plan
from ftlab.synthesis.writing import EMPTY
from ftlab.training.gate import prepare_data
from tests.judge_server import judge_server, reply, without_proxies
from tests.small_runs import make_run, save_result

SYSTEM = "Name the colour of the thing."


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WRITER.key_variable, "sk-test-9aPq71xW-secret")
    without_proxies(monkeypatch)


@pytest.fixture
def run(tmp_path, base_folder):
    file = tmp_path / "colours.jsonl"
    rows = [{"prompt": f"Which colour has thing {i}?", "completion": "red", "shop": "north"} for i in range(80)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = make_run(tmp_path / "runs", base_folder, "none", source=str(file), system_prompt=SYSTEM)
    save_result(run, base_folder)
    return run


def questions(run, split: str) -> set[str]:
    return {row["messages"][-2]["content"] for row in read_split(run, split)}


def blue(request: dict[str, Any], _: int):
    """Blue; nothing for things that end in 3, half a word for 4, and what the data say for 5."""
    number = int(request["body"]["messages"][-1]["content"].split()[-1].rstrip("?"))
    if number % 10 == 3:
        return reply("")
    if number % 10 == 5:
        return reply("red")
    return reply("blu", finish="length") if number % 10 == 4 else reply("<think>hm</think> blue")


def settings(server, **more: Any):
    return build_settings(url=server.url, model="big-one", **more)


def test_a_model_elsewhere_answers_the_training_prompts_and_held_out_rows_keep_their_answers(run, tmp_path):
    workspace, trained, held = Workspace(tmp_path), questions(run, "train"), questions(run, "test")
    with judge_server(blue) as server:
        work = answer_work(run, workspace, settings(server, price_in=1, price_out=2))
        planned = plan(work, workspace)
        assert server.requests == [] and planned.open == len(trained) and planned.price
        assert "The prompts of your training rows" in " ".join(planned.lines())
        made = make(work, workspace, who="Ada")
        sent = [request["body"]["messages"] for request in server.requests]
        again = answer_work(run, workspace, settings(server))
        assert plan(again, workspace).open == 0 and make(again, workspace).version.id == made.version.id
        assert len(server.requests) == len(sent)
    # As in the evaluation: the system prompt of the data, and no answer.
    assert {turns[0]["content"] for turns in sent} == {SYSTEM} and {len(turns) for turns in sent} == {2}
    assert {turns[-1]["content"] for turns in sent} == trained and not trained & held
    rows = list(rows_of(made.version))
    new = [row for row in rows if row.cells.get(MADE_BY)]
    assert {row.split for row in new} == {"train"} and len(new) == len(trained)
    assert {row.cells["shop"] for row in new} == {"north"}
    kept = [row for row in new if row.excluded is None]
    assert {row.cells["completion"] for row in kept} == {"blue", "red"}
    alike = sum(row.cells["prompt"].endswith("5?") for row in kept)
    assert f"{alike} of the {len(kept)} kept answers equal those of your data." in made.notes
    assert {row.excluded for row in new} == {None, EMPTY, CUT} and made.kept < made.written
    old = [row for row in rows if not row.cells.get(MADE_BY)]
    assert {row.cells["completion"] for row in old} == {"red"}
    assert {row.cells["prompt"] for row in old if row.excluded} == trained
    # The same rows are held out, and nothing is trained on before a person has looked.
    data = {"source": made.version.source, "system_prompt": SYSTEM}
    with pytest.raises(InputError, match="nobody has read"):
        prepare_data(build_config({"data": data}), workspace, records=True)
    accepted = accept_unread(made.version, workspace, who="Ada")
    prepared = prepare_data(build_config({"data": data | {"source": accepted.source}}), workspace, records=True)
    assert {row["messages"][-2]["content"] for row in prepared.splits["test"]} == held
    assert {row["messages"][-1]["content"] for row in prepared.splits["test"]} == {"red"}
    assert {row["messages"][-1]["content"] for row in prepared.splits["train"]} == {"blue", "red"}
    assert prepared.manifest["made"]["rows"] == {"train": made.kept}
    # The report and the card: the prompts are still those of people.
    later = RunDirectory(tmp_path / "runs" / "later")
    freeze(prepared, later)
    assert written_rows(later).startswith("Answered by big-one at 127.0.0.1")


def test_the_base_answers_with_the_prompt_of_the_evaluation_and_never_sees_the_answer(run, tmp_path, base_folder):
    workspace, mine = Workspace(tmp_path), build_settings(base=str(base_folder))
    with pytest.raises(InputError, match=r"not evaluated with a prompt.*--prompted"):
        answer_work(run, workspace, mine)
    with pytest.raises(InputError, match="its own base"):
        answer_work(run, workspace, build_settings(base="starter"))
    comparison = evaluate_run(run, Request(settings={"prompted": True, "system_prompt": "One word.", "examples": 2}))
    examples = {turns[0]["content"] for turns in comparison["settings"]["prompted"]["examples"]}
    work = answer_work(run, workspace, mine)
    assert len(work.tasks) == len(questions(run, "train"))
    for task in work.tasks:
        turns = task.messages
        assert turns[0] == {"role": "system", "content": "One word."}
        assert turns[-1] == {"role": "user", "content": task.examples[0].prompt}
        shown = {turn["content"] for turn in turns[1:-1] if turn["role"] == "user"}
        assert shown == examples - {task.examples[0].prompt}
    version = make(work, workspace).version
    new = [row.cells for row in rows_of(version) if row.cells.get(MADE_BY)]
    assert len(new) == len(work.tasks) and len({cells["completion"] for cells in new}) > 1


def test_the_command_shows_the_cost_and_makes_no_second_split(run, tmp_path, capsys):
    more = ["--workspace", str(tmp_path)]
    with judge_server(blue) as server:
        command = ["data", "make", "--answers", run.id, "--url", server.url, "--model", "big-one", *more]
        assert main(command) != 0
        shown = capsys.readouterr().err
        assert "Nothing was sent" in shown and "Held-out rows keep their answers" in shown and server.requests == []
        assert main([*command, "--yes"]) == 0
        sent = len(server.requests)
        source = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("version:"))
        assert main(command) == 0
        assert len(server.requests) == sent
    assert find(source, Workspace(tmp_path)).details["made"]["kind"] == "answers"
    assert len(history(Workspace(tmp_path))) == 3  # the data, split, answered
    assert main(["data", "make", "my.csv", "--answers", run.id, *more]) != 0
    assert main(["data", "make", *more]) != 0
    assert "--answers RUN" in capsys.readouterr().err


def test_the_remedy_is_offered_where_another_is_clearly_better(run):
    url = "https://api.example.com/v1"
    sides: list[dict[str, Any]] = [{"name": "base"}, {"name": "prompted", "title": "Base, prompted"}]
    sides += [{"name": "big@api", "title": "big", "outside": {"url": url, "model": "big"}}]
    sides += [{"name": "old@file", "title": "old", "outside": {"url": None, "model": None}}]

    def offered(*better: bool | None) -> list[str]:
        names = ("prompted", "big@api", "old@file")
        verdicts = {f"adapted_vs_{name}": {"better": one} for name, one in zip(names, better, strict=True)}
        comparison: Any = {"run": run.id, "sides": sides, "verdicts": verdicts, "verdict": {}}
        config = build_config({"model": {"base": "starter"}})
        return [command for _, command in commands(comparison, config, run.config_file)]

    assert offered(True, None, False) == []
    prompted, address = offered(False, False, False)
    assert prompted.startswith(f"python -m ftlab data make --answers {run.id}\n")
    assert f"--answers {run.id} --url {url} --model big\n" in address and "--set data.source=" in address
    verdicts = {"adapted_vs_prompted": {"better": False}}
    picked = against_better({"run": run.id, "sides": sides, "verdicts": verdicts})  # type: ignore[typeddict-item]
    assert picked[0].first == Answers(run.id) and picked[0].first.command in prompted
