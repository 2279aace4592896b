"""Rows that a model writes, against a server on this machine that writes from the passage it is given."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

import pytest

from ftlab.cli.main import main
from ftlab.config import DataConfig, build_config
from ftlab.core.endpoint import WRITER
from ftlab.core.files import write_jsonl
from ftlab.core.jobs import Stopped
from ftlab.core.workspace import Workspace
from ftlab.data.curation import Change, accept_unread, apply, unread
from ftlab.data.documents import Passage, read_passages
from ftlab.data.version_store import find, history, rows_of
from ftlab.data.versions import MADE_BY
from ftlab.errors import FtlabError, InputError
from ftlab.synthesis.make import make
from ftlab.synthesis.plan import build_settings, document_work, examples_of, plan, row_work
from ftlab.synthesis.writing import (
    ABOUT_TEXT,
    CASES,
    CHANGED,
    COPY,
    DOCUMENTS,
    EMPTY,
    NO_ANSWER,
    NUMBERS,
    PARAPHRASES,
    SAME,
    UNSUPPORTED,
    Task,
    Written,
    read_judgment,
    read_pairs,
    why_not,
)
from ftlab.training.gate import prepare_data
from tests.json_shapes import check_output
from tests.judge_server import judge_server, reply, without_proxies
from tests.unit.test_documents import documents

KEY = "sk-test-9Gh2kk31-secret"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WRITER.key_variable, KEY)
    without_proxies(monkeypatch)


@pytest.fixture
def manuals(tmp_path):
    folder = tmp_path / "manuals"
    folder.mkdir()
    for number, text in enumerate(documents(12)):
        (folder / f"{number}.md").write_text(text)
    return folder


def last(request: dict[str, Any]) -> str:
    return request["body"]["messages"][-1]["content"]


def writes(request: dict[str, Any], _: int):
    """Two right rows and a wrong one about the passage; as a judge it refuses what costs 1000 euros."""
    text = last(request)
    if '"keep"' in text:
        keep = "desk" not in re.search(r"<question \w+>\n(.*?)\n<", text, re.DOTALL)[1] or "desk 0" in text
        return reply(json.dumps({"reason": "well asked" if keep else "nobody asks this", "keep": keep}))
    topic = re.search(r"About (\w+) number", text)[1]
    euros, desk = re.search(r"pays (\d+) euros", text)[1], re.search(r"desk (\d+)", text)[1]
    return reply(
        f"**Question 1:** What does {topic} cost?\n**Answer:** It costs {euros} euros for every day of a stay.\n\n"
        f"2. Question: Which desk do I ask for {topic}?\n   Answer: You ask at desk {desk}.\n\n"
        f"Q: Who invented {topic}?\nA: Archibald Winterbottom, in 1723."
    )


def settings(url: str, **more: Any):
    return build_settings(url=url, model="writer-1", **more)


def test_documents_become_rows_with_their_passage_and_no_document_is_in_two_splits(workspace, manuals):
    with judge_server(writes) as server:
        work = document_work([manuals], settings(server.url))
        planned = plan(work, workspace)
        assert server.requests == [] and (planned.open, planned.rows, planned.documents) == (12, 36, 12)
        made = make(work, workspace, who="Ada")
        sent = len(server.requests)
        again = make(work, workspace)
        assert len(server.requests) == sent and again.version.id == made.version.id
    assert sent == 12 + 24
    assert (made.written, made.kept) == (36, 13)
    # One desk (0) is accepted by the judge; 1723 is in no passage.
    assert made.left_out == {NUMBERS: 12, "rejected by the judge": 11}
    assert {request["headers"]["Authorization"] for request in server.requests} == {f"Bearer {KEY}"}
    rows = list(rows_of(made.version))
    places: dict[str, set[str]] = {}
    for row in rows:
        assert row.cells["passage"] in (manuals / row.cells["document"]).read_text()
        assert row.cells[MADE_BY] == f"writer-1 at {server.url.split('/')[2]}, from a document"
        places.setdefault(row.cells["document"], set()).add(row.split)
    assert all(len(splits) == 1 for splits in places.values())
    assert {row.split for row in rows if not row.excluded} == {"train", "validation", "test"}
    assert {row.excluded for row in rows if "1723" in row.cells["answer"]} == {NUMBERS}
    assert made.version.who == "Ada" and KEY not in json.dumps(made.version.as_dict())


def test_nobody_trains_on_rows_that_nobody_has_read(workspace, manuals, capsys):
    with judge_server(writes) as server:
        version = make(document_work([manuals], settings(server.url, judged=False)), workspace).version

    def prepared(source: str):
        return prepare_data(build_config({"data": {"source": source}}), workspace, records=True).manifest

    with pytest.raises(InputError, match=r"nobody has read them.*data accept"):
        prepared(version.source)
    kept = [row.id for row in rows_of(version) if row.excluded is None]
    read = apply(version, {kept[0]: Change(mark="good"), kept[1]: Change(cells={"answer": "Three euros."})}, who="Ada")
    assert unread(read) == kept[2:]
    # What is derived later knows of the reading, too.
    assert unread(apply(read, {kept[2]: Change(mark="bad")}, who="Ada")) == kept[3:]
    accepted = accept_unread(read, workspace, who="Ada", why="a sample was fine")
    assert unread(accepted) == [] and unread(accepted, accepted=True) == kept[2:]
    assert main(["data", "accept", accepted.source, "--workspace", str(workspace.root)]) != 0
    assert "no unreviewed row" in capsys.readouterr().err
    made = prepared(accepted.source)["made"]
    assert sum(made["rows"].values()) == len(kept) and sum(made["unread"].values()) == len(kept) - 2
    assert made["by"] == f"writer-1 at {server.url.split('/')[2]}" and made["rows"]["test"] > 0


def test_a_split_of_documents_cannot_be_made_anew(workspace, manuals, capsys):
    with judge_server(writes) as server:
        version = make(document_work([manuals], settings(server.url, judged=False)), workspace).version
    assert main(["data", "split", version.source, "--seed", "7", "--workspace", str(workspace.root)]) != 0
    assert "is split already" in capsys.readouterr().err


def test_a_stop_keeps_what_was_written_and_the_same_call_continues(workspace, manuals):
    answered = threading.Event()

    def slow(request: dict[str, Any], number: int):
        if number == 4:
            answered.set()
        return writes(request, number)

    with judge_server(slow) as server:
        work = document_work([manuals], settings(server.url, at_once=1))
        with pytest.raises(Stopped):
            make(work, workspace, should_stop=answered.is_set)
        first = len(server.requests)
        assert 5 <= first < 12 and not history(workspace)
        assert plan(work, workspace).open == 12 - first
        made = make(work, workspace)
        asked = [last(request) for request in server.requests if '"keep"' not in last(request)]
    assert made.kept == 13 and len(asked) == len(set(asked)) == 12


def test_a_writer_that_fails_is_explained_and_makes_nothing(workspace, manuals):
    answers = {
        "rejected the key": (401, {}, {"error": {"message": f"bad key {KEY}"}}),
        "wrote no readable row": reply("I cannot help with that."),
        "too long for me": (400, {}, {"error": {"message": "too long for me"}}),
    }
    for what, answer in answers.items():
        with (
            judge_server(lambda request, n, answer=answer: answer) as server,
            pytest.raises(FtlabError, match=what) as e,
        ):
            make(document_work([manuals], settings(server.url)), workspace)
        assert KEY not in str(e.value)
    with pytest.raises(InputError, match="No model is named"):
        build_settings()
    with pytest.raises(InputError, match="not both"):
        build_settings(url="http://127.0.0.1:1/v1", model="x", base="starter")
    with pytest.raises(InputError, match=r"Rows per request.*0"):
        settings("http://127.0.0.1:1/v1", each=0)
    assert not history(workspace)


PASSAGE = Passage(
    "house.md", 0, ("House",), "Check-in is from 3 pm. A dog costs 12 euros a night and stays on ground floors."
)


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("From when can I check in?", "From 3 pm.", ""),
        ("What does a dog cost?", "Twelve euros a night.", ""),
        ("May my dog come?", "Yes.", ""),
        ("What does a dog cost?", "15 euros a night.", NUMBERS),
        ("Where do dogs stay?", "On the ground.", ""),
        ("Where do dogs stay?", "Within outside kennels beside stables.", UNSUPPORTED),
        ("Where do dogs stay?", "They must always have the ground.", ""),
        ("What does the passage say of dogs?", "A dog costs 12 euros.", ABOUT_TEXT),
        ("What do cats cost?", "The text does not mention cats.", NO_ANSWER),
        ("Dogs?", "dogs?", SAME),
        ("", "12 euros", EMPTY),
        ("???", "12 euros", EMPTY),
    ],
)
def test_what_a_passage_does_not_say_is_left_out(question, answer, reason):
    assert why_not(Written(Task(DOCUMENTS, 1, PASSAGE), question, answer)) == reason


def test_replies_are_read_in_the_forms_that_models_write():
    task = Task(DOCUMENTS, 5, PASSAGE)
    pairs = [("When is check-in?", "From 3 pm.\nNot earlier."), ("What does a dog cost?", "12 euros.")]
    forms = [
        "Question: {}\nAnswer: {}\n\nQuestion: {}\nAnswer: {}",
        "**Question 1:** {}\n**Answer 1:** {}\n\n---\n\n**Question 2:** {}\n**Answer 2:** {}",
        "Sure! Here they are.\n\n1. Q: {}\n   A: {}\n\n2. Q: {}\n   A: {}",
        "<think>Question: no\nAnswer: no</think>### Question: {}\n### Answer: {}\n### Question: {}\n### Answer: {}",
        '- Question: "{}"\n- Answer: "{}"\n- Question: "{}"\n- Answer: "{}"',
    ]
    for form in forms:
        text = form.format(*pairs[0], *pairs[1])
        assert [(row.prompt, row.answer) for row in read_pairs(text, task)] == pairs, form
        assert len(read_pairs(text, task, cut=True)) == 1
    assert read_pairs("Question: only\nQuestion: these", task) == []
    assert read_judgment('{"reason": "fine", "keep": true}') == (True, "fine")
    assert read_judgment("<think>keep: true</think>{'keep': 'no'}")[0] is False
    assert read_judgment("I would keep it")[0] is None


def rows_file(tmp_path, count: int = 40):
    lines = [
        {"question": f"Order {n * 37} of a {thing} is late, where is it?", "answer": f"The {thing} comes on day {n}."}
        for n, thing in zip(range(count), ["chair", "table", "lamp", "sofa", "shelf"] * count, strict=False)
    ]
    write_jsonl(tmp_path / "orders.jsonl", lines)
    return DataConfig(source=str(tmp_path / "orders.jsonl"))


def test_new_cases_go_to_training_alone_and_copy_no_row(workspace, tmp_path):
    def more(request: dict[str, Any], number: int):
        shown = re.findall(r"Question: (Order.*)\nAnswer: (.*)", last(request))
        assert 1 <= len(shown) <= 5
        copy = "Question: {}\nAnswer: {}".format(*shown[0])
        return reply(
            f"Question: My wardrobe number {number} arrived broken\nAnswer: Send it back by day {number}.\n\n{copy}"
        )

    data = rows_file(tmp_path)
    with judge_server(more) as server:
        work = row_work(data, workspace, CASES, settings(server.url, rows=12, each=2, judged=False))
        made = make(work, workspace)
    assert work.parent.rows.keys() == {"train", "validation", "test"}
    new = [row for row in rows_of(made.version) if row.cells.get(MADE_BY)]
    assert {row.split for row in new} == {"train"}
    assert {row.excluded for row in new if "wardrobe" not in row.cells["question"]} == {COPY}
    held = [(row.id, row.cells) for row in rows_of(made.version) if row.split != "train"]
    assert held == [(row.id, row.cells) for row in rows_of(work.parent) if row.split != "train"]
    # Where nothing is left to be written, what a model wrote does not serve as an example.
    later = row_work(
        DataConfig(source=made.version.source), workspace, CASES, settings("http://127.0.0.1:1/v1", rows=4)
    )
    assert not any("wardrobe" in example.prompt for task in later.tasks for example in task.examples)


def test_a_paraphrase_keeps_the_numbers_and_the_answer(workspace, tmp_path):
    def reword(request: dict[str, Any], number: int):
        order = re.search(r"Order (\d+)", last(request))[1]
        return reply(f"Question: I still wait for {order}, any news of it?\n\nQuestion: Any news of order 1{order}?")

    with judge_server(reword) as server:
        work = row_work(rows_file(tmp_path), workspace, PARAPHRASES, settings(server.url, rows=6, each=2, judged=False))
        made = make(work, workspace)
    new = [row for row in rows_of(made.version) if row.cells.get(MADE_BY)]
    assert len(new) == 6 and made.left_out[CHANGED] == 3
    known = {row.cells["question"]: row.cells["answer"] for row in rows_of(work.parent)}
    for row in new:
        if not row.excluded:
            order = re.search(r"\d+", row.cells["question"])[0]
            asked = next(question for question in known if f"Order {order} " in question)
            assert row.cells["answer"] == known[asked]


def test_rows_in_any_form_get_new_rows_in_that_form(workspace, tmp_path):
    def more(request: dict[str, Any], number: int):
        return reply(f"Question: a brand new text {number}\nAnswer: {'late' if number % 2 else 'unheard of'}")

    forms: dict[str, Any] = {
        "chat.jsonl": lambda q, a: {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]},
        "share.jsonl": lambda q, a: {"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]},
        "alpaca.jsonl": lambda q, a: {"instruction": "Sort it.", "input": q, "output": a},
        "label.jsonl": lambda q, a: {"text": q, "label": a},
    }
    for name, form in forms.items():
        write_jsonl(tmp_path / name, [form(f"text {n} of parcel {n * n}", ("late", "lost")[n % 2]) for n in range(40)])
        with judge_server(more) as server:
            work = row_work(
                DataConfig(source=str(tmp_path / name)),
                workspace,
                CASES,
                settings(server.url, rows=4, each=1, judged=False),
            )
            made = make(work, workspace)
        new = [row for row in rows_of(made.version) if row.cells.get(MADE_BY) and not row.excluded]
        assert len(new) == (2 if name == "label.jsonl" else 4), name
        for row in new:
            text = json.dumps(row.cells)
            assert "brand new text" in text and "parcel" not in text
            assert name != "alpaca.jsonl" or row.cells["instruction"] == "Sort it."


def test_examples_of_the_person_are_followed(workspace, tmp_path, manuals):
    with judge_server(writes) as server:
        examples = examples_of(rows_file(tmp_path), workspace)
        make(document_work([manuals], settings(server.url), examples), workspace)
    first = last(server.requests[0])
    assert first.count("Answer: The ") == 5 and "form, length and style" in first
    assert len(server.requests[0]["body"]["messages"]) == 1


def test_a_base_on_this_machine_writes_without_a_judge_or_an_address(workspace, manuals):
    work = document_work([manuals], build_settings(base="starter", each=1, rows=2))
    planned = plan(work, workspace)
    assert (planned.open, planned.host, planned.judged) == (2, None, False)
    assert "Nothing leaves this machine" in "\n".join(planned.lines())
    # The starter has never seen such a task.
    with pytest.raises(FtlabError, match="starter wrote no readable row"):
        make(work, workspace)
    assert plan(work, workspace).open == 0


def test_the_command_shows_its_cost_before_anything_is_sent(workspace, manuals, capsys):
    with judge_server(writes) as server:
        command = ["data", "make", str(manuals), "--url", server.url, "--model", "writer-1", "--workspace"]
        command += [str(workspace.root), "--price-in", "1", "--price-out", "4"]
        assert main([*command, "--json"]) == 0
        planned = check_output(command, capsys.readouterr().out)["plan"]
        assert planned["requests"] == 12 and planned["price"] > 0
        assert main(command) != 0
        assert "add --yes" in capsys.readouterr().err and server.requests == []
        assert main([*command, "--yes"]) == 0
        out = capsys.readouterr().out
        assert main([*command, "--yes", "--json"]) == 0  # every reply is kept
        assert check_output(command, capsys.readouterr().out)["kept"] == 13
    assert "36 rows were written, 13 of them kept." in out and "data accept version:manuals-1" in out
    assert find("manuals", workspace).total == 13


@pytest.mark.parametrize("broken", ["writer", "judge", "refusing"])
def test_after_a_server_was_corrected_the_same_command_goes_on(workspace, manuals, capsys, broken):
    corrected = threading.Event()

    def server_of(request: dict[str, Any], count: int):
        is_judge = '"keep"' in last(request)
        if corrected.is_set() or is_judge != (broken == "judge"):
            return writes(request, count)
        return (400, {}, {"error": {"message": "no template"}}) if broken == "refusing" else reply("I am a teapot.")

    with judge_server(server_of) as server:
        command = ["data", "make", str(manuals), "--url", server.url, "--model", "writer-1", "--yes"]
        command += ["--workspace", str(workspace.root)]
        assert main(command) != 0
        error = capsys.readouterr().err
        assert "Traceback" not in error and not history(workspace)
        sent = len(server.requests)
        corrected.set()
        assert main(command[:-3] + command[-2:]) != 0  # nothing is sent without consent
        assert "add --yes" in capsys.readouterr().err and len(server.requests) == sent
        assert main(command) == 0
        out, error = capsys.readouterr()
        again = len(server.requests) - sent
        assert main(command) == 0  # it is made: nothing is open any more
        assert len(server.requests) == sent + again and "without a readable row" not in capsys.readouterr().err
    assert "36 rows were written, 13 of them kept." in out
    if broken == "judge":
        assert again == 24 and "0 requests to writer-1" in error
        assert "At most 36 rows written before and judged now." in error
    else:
        assert again == 12 + 24 and "12 requests to writer-1" in error
        assert "12 were answered before without a readable row and are sent again" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["orders.jsonl"], "These are rows, not documents"),
        (["orders.jsonl", "--cases", "2", "--paraphrases", "2"], "Only one of"),
        (["nowhere.md"], "There is no file nowhere.md"),
        (["manuals/"], "There is no file manuals"),
        (["orders.jsonl", "--cases", "-1"], "Rows cannot take this value"),
        (["orders.jsonl", "--cases", "2", "--name", "more"], "next version, under its name"),
        (["orders.jsonl", "--cases", "2", "--examples", "x.jsonl"], "take its own rows as examples"),
        (["orders.jsonl", "--cases", "2", "--model", "x"], "--model has no use"),
    ],
)
def test_a_wrong_command_is_answered_with_what_is_right(workspace, tmp_path, capsys, monkeypatch, arguments, message):
    rows_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    command = ["data", "make", *arguments, "--base", "starter", "--workspace", str(workspace.root)]
    assert main(command) != 0
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_the_workspace_is_not_touched_where_nothing_is_planned(workspace: Workspace, manuals):
    plan(document_work([manuals], settings("http://127.0.0.1:1/v1")), workspace)
    assert not workspace.made_folder.exists() and not history(workspace)


def test_two_uploaded_documents_of_one_name_are_both_kept(workspace, tmp_path):
    from ftlab.ui.tabs.data.sources import keep_copy

    kept = []
    for number, text in enumerate(documents(2)):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "read me.md").write_text(text)
        kept.append(keep_copy(tmp_path / str(number) / "read me.md", workspace.documents))
    assert [file.name for file in kept] == ["read me.md"] * 2
    assert [file.read_text() for file in kept] == documents(2)
    passages, _ = read_passages(kept, [])
    assert len({passage.document for passage in passages}) == 2
