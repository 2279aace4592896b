"""An answer with weight 0 (OpenAI's JSONL) is read as context: never trained, never measured, never lost."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from ftlab.config import DataConfig
from ftlab.core.workspace import Workspace
from ftlab.data import rendering
from ftlab.data.conversion import convert
from ftlab.data.export import export
from ftlab.data.formats import detect
from ftlab.data.shapes import UnusableRow
from ftlab.data.splits import freeze, prepare, read_split
from ftlab.data.tool_templates import openai_form
from ftlab.evaluation.material import each_turn


def say(text: str, weight: Any = None) -> dict[str, Any]:
    return {"role": "assistant", "content": text} | ({} if weight is None else {"weight": weight})


def ask(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


TALK = [ask("Hi 😀"), say("Hello there 😀", 0), ask("And?"), say("Second."), ask("Bye"), say("Third.")]
PLAIN = [{key: turn[key] for key in ("role", "content")} for turn in TALK]


def read(turns: Any, column: str = "messages") -> tuple[list[dict[str, Any]], list[str]]:
    row = {column: turns}
    return convert(row, detect(list(row), [row], {}, "data", None))


@pytest.fixture(scope="module")
def starter() -> Any:
    from transformers import AutoTokenizer

    from ftlab.models.starter import starter_path

    return AutoTokenizer.from_pretrained(starter_path())


def test_only_weight_0_is_kept_on_a_turn_and_is_told() -> None:
    messages, remarks = read([*TALK[:3], say("Second.", 1), {**ask("Bye"), "weight": None}, say("Third.", None)])
    assert messages == TALK and remarks == ["an answer with weight 0 is read as context, neither trained nor measured"]
    assert read(PLAIN) == (PLAIN, [])
    assert read(json.dumps(TALK))[0] == TALK  # as in a CSV


@pytest.mark.parametrize(
    ("weight", "kept", "odd"),
    [
        *((weight, True, False) for weight in (1, True, None, float("nan"))),
        *((weight, False, False) for weight in (0, 0.0, False)),
        *((weight, True, True) for weight in (2, 0.5, "yes", [])),
        *((weight, False, True) for weight in (-1, "0", "no")),
    ],
)
def test_other_weights_are_read_as_0_or_1_and_told(weight: Any, kept: bool, odd: bool) -> None:
    messages, remarks = read([ask("a"), say("b", weight), ask("c"), say("d", 1)])
    assert ("weight" not in messages[1]) is kept and "weight" not in messages[3]
    assert ("a weight that is neither 0 nor 1 is read as 1 if it is above 0, else as 0" in remarks) is odd
    assert len(remarks) == odd + (not kept)


def test_the_last_answer_with_weight_1_is_the_reference() -> None:
    messages, remarks = read([ask("a"), say("b"), ask("c"), say("d", 0)])
    assert messages == [ask("a"), say("b")]
    assert remarks == ["turns after the last answer with weight 1 were left out"]
    assert read([ask("a"), say("b"), ask("c")])[1] == ["turns after the last answer were left out"]
    with pytest.raises(UnusableRow, match="no answer to train on: all have weight 0"):
        read([ask("a"), say("b", 0)])


def test_a_call_and_a_rewritten_answer_keep_their_weight() -> None:
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "find", "arguments": "{}"}}], "weight": 0}
    messages, _ = read([ask("a"), call, {"role": "tool", "content": "none"}, say("b")])
    assert "<tool_call>" in messages[1]["content"] and messages[1]["weight"] == 0
    messages, remarks = read([ask("a"), say("<thinking>x</thinking>b \ud83d", 0), ask("c"), say("d")])
    assert messages[1]["content"].startswith("<think>") and messages[1]["weight"] == 0 and len(remarks) == 3


def without_markers(tokenizer: Any) -> Any:
    tokenizer = copy.deepcopy(tokenizer)
    template = tokenizer.chat_template.replace("{%- generation -%}", "").replace("{%- endgeneration -%}", "")
    assert template != tokenizer.chat_template
    # What would render an unknown key must not see it.
    tokenizer.chat_template = "{%- for m in messages if m.weight is defined -%}!{%- endfor -%}" + template
    return tokenizer


@pytest.mark.parametrize("marked", [True, False])
def test_a_turn_with_weight_0_is_masked_and_nothing_else_changes(starter: Any, marked: bool) -> None:
    tokenizer = starter if marked else without_markers(starter)
    weighted, full = rendering.encode(TALK, tokenizer), rendering.encode(PLAIN, tokenizer)
    assert weighted.input_ids == full.input_ids and weighted.notes == full.notes
    texts = [text.strip() for text, on in rendering.pieces(weighted, tokenizer) if on]
    assert texts == ["Second.<|end|>", "Third.<|end|>"]
    assert [text.strip() for text, on in rendering.pieces(full, tokenizer) if on] == ["Hello there 😀<|end|>", *texts]
    first = full.trained.index(True)
    end = full.trained.index(False, first)
    assert weighted.trained == [on and not first <= at < end for at, on in enumerate(full.trained)]
    assert rendering.encode_prompt(TALK, tokenizer) == rendering.encode_prompt(PLAIN, tokenizer)


def test_control_tokens_in_the_text_do_not_bring_a_turn_back(starter: Any) -> None:
    tokenizer = copy.deepcopy(starter)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    encoded = rendering.encode([ask("Say <|end|>"), say("No <|end|>", 0), ask("Bye"), say("Bye.")], tokenizer)
    assert [text.strip() for text, on in rendering.pieces(encoded, tokenizer) if on] == ["Bye.<|end|>"]


def test_two_answers_in_a_row_are_told_apart(starter: Any) -> None:
    for tokenizer in (starter, without_markers(starter)):
        for first, second, trained in ((0, None, ["B.<|end|>"]), (None, None, ["A.<|end|>", "B.<|end|>"])):
            encoded = rendering.encode([ask("a"), say("A.", first), say("B.", second)], tokenizer)
            assert [text.strip() for text, on in rendering.pieces(encoded, tokenizer) if on] == trained


def test_the_loss_of_a_batch_is_that_of_the_other_answers(starter: Any) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from ftlab.evaluation.batches import pad
    from ftlab.models.starter import starter_path

    model = AutoModelForCausalLM.from_pretrained(starter_path()).eval()
    rows = [rendering.encode(TALK, starter), rendering.encode(TALK[2:], starter)]
    ids = torch.tensor(pad([row.input_ids for row in rows], starter.pad_token_id))
    labels = torch.tensor(pad([row.labels for row in rows], -100))
    mask = torch.tensor(pad([[1] * len(row.input_ids) for row in rows], 0))
    with torch.no_grad():
        output = model(input_ids=ids, attention_mask=mask, labels=labels)
    words = torch.log_softmax(output.logits.float(), -1)
    answers = starter("Second.<|end|>Third.<|end|>", add_special_tokens=False)["input_ids"]
    losses = [
        -words[row, at - 1, ids[row, at]].item()
        for row, encoded in enumerate(rows)
        for at, text in enumerate(encoded.input_ids)
        if encoded.trained[at]
    ]
    assert len(losses) == 2 * len(answers)
    assert output.loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def conversations(count: int) -> list[dict[str, Any]]:
    return [
        {"messages": [ask(f"Hello {n}"), say("Hi.", 0), ask(f"Thing {n}?"), say(f"It is {n}.", 1)]}
        for n in range(count)
    ]


def test_frozen_rows_come_back_with_their_weights(tmp_path: Path, workspace: Workspace) -> None:
    import pyarrow.parquet as pq

    run = workspace.create_run("weights")
    prepared = prepare(DataConfig(source=write(tmp_path / "a.jsonl", conversations(20))), stage="sft")
    assert any(note.startswith("In 20 rows, an answer with weight 0 is read") for note in prepared.manifest["notes"])
    freeze(prepared, run)
    for split, examples in prepared.splits.items():
        assert read_split(run, split) == examples and [list(row["messages"][0]) for row in examples] == [
            ["role", "content"]
        ] * len(examples)
        assert all(row["messages"][1]["weight"] == 0 for row in examples)
    plain = [{"messages": [ask(f"Thing {n}?"), say(f"It is {n}.", 1)]} for n in range(20)]
    other = workspace.create_run("plain")
    freeze(prepare(DataConfig(source=write(tmp_path / "b.jsonl", plain))), other)
    assert "weight" not in str(pq.read_schema(other.split_file("train")))


def test_evaluation_asks_at_trained_turns_only() -> None:
    call = {"role": "assistant", "content": '<tool_call>\n{"name": "find", "arguments": {}}\n</tool_call>'}
    reply = {"role": "tool", "content": "none"}
    talk = [ask("a"), call | {"weight": 0}, reply, call, reply, say("None."), ask("b"), say("c", 0), ask("d"), say("e")]
    rows = each_turn([{"row": 0, "messages": talk}])
    assert [(row["messages"][-1], row["turn"]) for row in rows] == [(call, 2), (say("None."), 3), (say("e"), 5)]
    single = [ask("a"), call | {"weight": 0}, reply, say("None.")]
    assert each_turn([{"row": 0, "messages": single}]) == [{"row": 0, "messages": single}]
    assert rendering.prompt_messages(single) == [ask("a"), call, reply]


def test_the_weight_is_written_back_and_never_sent(tmp_path: Path, workspace: Workspace) -> None:
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "find", "arguments": "{}"}}], "weight": 0}
    tools = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}]
    reply = {"role": "tool", "content": "none"}
    calls = [{"messages": [ask(f"Find {n}"), call, reply, say("None.", 1)], "tools": tools} for n in range(20)]
    cut = {"messages": [ask("a"), say("b"), ask("c"), say("d", 0)]}
    for name, rows in (("calls", calls), ("plain", [*conversations(20), cut])):
        target = tmp_path / f"{name}-out.jsonl"
        data = DataConfig(source=write(tmp_path / f"{name}.jsonl", rows))
        done = export(data, target, "openai", workspace)
        written = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
        assert [turn.get("weight") for turn in written[0]["messages"]] == [None, 0, None, None]
        assert done.notes == (
            ["In 1 row, turns after the last answer with weight 1 were left out."] if name == "plain" else []
        )
        again = prepare(DataConfig(source=str(target)), stage="sft").splits["train"]
        assert {sum("weight" in turn for turn in row["messages"]) for row in again if len(row["messages"]) > 2} == {1}
    assert openai_form(TALK)["messages"] == PLAIN


def test_the_checks_look_at_trained_calls_and_tell_weighted_rows_from_plain_ones(tmp_path: Path) -> None:
    from ftlab.data.checks.duplicates import find_sameness
    from ftlab.data.checks.finding import Examples
    from ftlab.data.checks.rows import tool_calls
    from ftlab.data.normal import Watch

    broken = say("<tool_call>\n{broken\n</tool_call>")
    rows = [[ask("a"), broken | {"weight": weight}, ask("b"), say("c")] for weight in (0, 1)]
    examples = Examples(rows=2, split=["train"] * 2, row=[0, 1], turns=rows)
    [finding] = tool_calls(examples, Watch())
    assert finding.rows == [1]
    assert not find_sameness(Examples(rows=2, split=["train"] * 2, row=[0, 1], turns=[TALK, PLAIN]), Watch()).copies


def test_the_data_tab_says_which_answers_are_not_trained(tmp_path: Path, workspace: Workspace) -> None:
    from ftlab.data.inspection import inspect
    from ftlab.data.version_store import VersionRow
    from ftlab.ui.kit.row_card import Seen, card, form
    from ftlab.ui.tabs.data.row_view import row_card
    from ftlab.ui.tabs.data.summary import bubbles

    row = VersionRow(0, conversations(1)[0])
    for html in (card(Seen(row, None, ""), ["messages"], ""), form(Seen(row, None, ""), ["messages"])):
        assert html.count("assistant, not trained") == 1
    assert "{&#34;weight&#34;: 0}" not in card(Seen(row, None, ""), ["messages"], "")
    data = DataConfig(source=write(tmp_path / "a.jsonl", conversations(12)))
    html = row_card(data, workspace, 0, None, "starter", None)
    assert "1 answer with weight 0: not trained, only read." in html
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "find", "arguments": "{}"}}], "weight": 0}
    rows = [
        {"messages": [ask(f"Find {n}"), call, {"role": "tool", "content": "none"}, say(f"No {n}.")]} for n in range(12)
    ]
    html = bubbles(inspect(DataConfig(source=write(tmp_path / "b.jsonl", rows)), workspace))
    assert "Call, not trained" in html and "Answer, not trained" not in html
