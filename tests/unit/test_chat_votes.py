"""Thumbs and "which is better" in the chat, as data for the Preferences tab."""

from __future__ import annotations

import pytest

pytest.importorskip("gradio")

from ftlab.config import DataConfig
from ftlab.core.files import read_jsonl, write_jsonl
from ftlab.data.formats import detect
from ftlab.data.preferences import reader
from ftlab.errors import InputError
from ftlab.ui.kit.conversation import conversation
from ftlab.ui.tabs.chat import tab as chat
from ftlab.ui.tabs.chat import votes
from ftlab.ui.tabs.data import rows as data_rows
from ftlab.ui.tabs.data import sources
from tests.unit.test_ui import ATTACK, a_run


def answered(run, before=(), text="Where is my parcel?", **said):
    given = votes.prompts(run, list(before), text, as_trained=False, system="Be brief.")
    turn = {"user": text, "base": "I am a bot.", "adapted": "On its way.", "note": "", "strength": 0.5}
    return turn | {"id": text, "run": run.id, "temperature": 0.0, "prompts": given} | said


def test_the_better_answer_becomes_a_pair_that_preferences_can_be_learned_from(workspace):
    run = a_run(workspace)
    turn = votes.choose(answered(run), "adapted", workspace)
    votes.choose(answered(run, text="And now?"), "base", workspace)
    file = workspace.uploads / votes.PAIRS
    assert str(file) in [value for _, value in sources.source_choices(workspace)]
    first, _ = rows = read_jsonl(file)
    assert (first["run"], first["strength"], first["chosen_from"]) == (run.id, 0.5, "adapted") and first["date"]
    found = detect(list(first), rows)
    assert found.format == "preference"
    (pair,), _ = reader("dpo", found)(first)
    assert [one["role"] for one in pair["prompt"]] == ["system", "user"]
    assert pair["chosen"] == [{"role": "assistant", "content": "On its way."}]
    assert pair["rejected"] == [{"role": "assistant", "content": "I am a bot."}]
    assert data_rows.inspected(DataConfig(source=str(file)), workspace).format == "preference"
    # The other one after all, then neither.
    turn = votes.choose(turn, "base", workspace)
    assert [row["chosen"] for row in read_jsonl(file) if row["vote"] == turn["id"]] == ["I am a bot."]
    votes.choose(turn, "base", workspace)
    assert len(read_jsonl(file)) == 1


def test_thumbs_become_judged_answers_with_the_turns_that_each_side_was_given(workspace):
    run = a_run(workspace)
    first = answered(run)
    second = answered(run, [first], "Why?")
    votes.thumb(second, "adapted", True, workspace)
    down = votes.thumb(second, "base", False, workspace)
    rows = read_jsonl(workspace.uploads / votes.THUMBS)
    found = detect(list(rows[0]), rows)
    assert found.format == "kto"
    (good,), _ = reader("kto", found)(rows[0])
    assert good["label"] is True and good["prompt"][2] == {"role": "assistant", "content": "On its way."}
    (bad,), _ = reader("kto", found)(rows[1])
    assert bad["label"] is False and bad["prompt"][2] == {"role": "assistant", "content": "I am a bot."}
    votes.thumb(down, "base", False, workspace)
    assert votes.counts(workspace) == (0, 1)
    # After answers that differ, the two were given different turns: neither can be called the better.
    with pytest.raises(InputError, match="cannot be compared"):
        votes.choose(second, "adapted", workspace)
    assert "better:" not in conversation([first, second], votes=True).split("Why?")[1]


def test_three_held_out_prompts_can_be_pressed_and_stay_text(workspace):
    run = a_run(workspace)
    rows = [{"row": n, "prompt": prompt, "base": "a"} for n, prompt in enumerate([ATTACK, "b", "b", "c", "d"])]
    write_jsonl(run.predictions_file, rows)
    assert chat.suggestions(run) == [ATTACK, "b", "c"]
    shown = chat.drawn(run, [])
    assert shown.count("data-act=") == 3 and "<script" not in shown and "<img" not in shown
    write_jsonl(run.predictions_file, [{"row": 0, "document": "The mill."}])
    assert chat.suggestions(run) == [] and "Both models are ready" in chat.drawn(run, [])


def test_only_the_last_message_is_edited_or_answered_again_and_nothing_while_answers_come(workspace):
    run = a_run(workspace)
    turns = [answered(run), answered(run, text="And now?")]
    shown = conversation(turns, votes=True)
    assert shown.count('data-act="again"') == shown.count('data-act="edit"') == 1
    assert "data-act" not in conversation(turns, busy=True, votes=True)
    assert "data-act" not in conversation(turns)


def test_a_page_that_is_loaded_again_has_its_conversation_and_no_other(monkeypatch):
    monkeypatch.setattr(chat, "_kept", {})
    turns = [{"user": str(n)} for n in range(chat._MOST_TURNS + 1)]
    chat.keep_conversation("mine", "run", turns)
    assert chat.kept_conversation("mine", "run") == turns[1:]
    for key, run in (("mine", "other run"), ("another", "run"), (None, "run"), ("", None)):
        assert chat.kept_conversation(key, run) == []
    chat.keep_conversation("", "run", turns)
    for n in range(chat._MOST_KEPT - 1):
        chat.keep_conversation(f"browser {n}", "run", turns)
    assert chat.kept_conversation("mine", "run") and len(chat._kept) == chat._MOST_KEPT
    chat.keep_conversation("one more", "run", turns)
    assert not chat.kept_conversation("mine", "run") and len(chat._kept) == chat._MOST_KEPT
    chat.keep_conversation("one more", None, [])  # New chat
    assert not chat.kept_conversation("one more", "run")
