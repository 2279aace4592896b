"""Blind tests of conversations: a script of the user's turns, answered turn by turn, and voted on as a whole."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ftlab.arena import answers, asking, blind_tests, links, prompt_sources, trials
from ftlab.arena.judging import judge_test, sides_of_test
from ftlab.arena.preferences import APART, collect, examples, export
from ftlab.arena.store import Store, open_store
from ftlab.arena.store import answers as answer_table
from ftlab.arena.tally import evaluate, fresh_only
from ftlab.config import DataConfig, RunConfig
from ftlab.core.endpoint import CONTESTANT
from ftlab.core.workspace import Workspace
from ftlab.data.splits import freeze, prepare
from ftlab.errors import InputError
from ftlab.evaluation.judge_plan import build_settings
from ftlab.ui.rater.talk import answer as reply_to
from tests.judge_server import judge_server, reply, says, shown

SCRIPT = ("Name a bird.", "Name another one.", "Which of them swims?")


def user(*texts: str, system: str = "") -> list[dict[str, str]]:
    head = [{"role": "system", "content": system}] if system else []
    return head + [{"role": "user", "content": text} for text in texts]


def drafted(store: Store, scripts: list[list[dict[str, str]]], among: Any = None, **settings: Any) -> str:
    among = among or [
        asking.ContestantSpec(f"Contestant {n}", {"kind": "base", "base": f"model-{n}"}) for n in range(2)
    ]
    generation = answers.check_generation({"max_new_tokens": 8, "batch_size": 2})
    how = asking.TestSettings(generation, **{"conversations": True, **settings})
    prompts = [asking.PromptSpec(messages) for messages in scripts]
    return blind_tests.create_test(store, "Talks", among, prompts, how, len(scripts) - how.attention)


def opened(store: Store, talks: list[tuple[list[str], list[str]]], **settings: Any) -> tuple[str, links.RaterLink]:
    """An open test in which both contestants have answered scripts with these texts; and its rater."""
    scripts = [user(*(f"Question {n}.{k}" for k in range(len(first)))) for n, (first, _) in enumerate(talks)]
    test_id = drafted(store, scripts, **settings)
    blind_tests.start_generating(store, test_id)
    among = blind_tests.list_contestants(store, test_id)
    for prompt, sides in zip(blind_tests.list_prompts(store, test_id), talks, strict=True):
        for who, texts in zip(among, sides, strict=True):
            turns = [{"text": text, "tokens": 3, "cut": False} for text in texts]
            blind_tests.save_answer(store, prompt.id, who.id, "\n\n".join(texts), turns=turns)
    blind_tests.mark_ready(store, test_id)
    blind_tests.open_test(store, test_id)
    return test_id, links.create_raters(store, test_id, ["Ana"])[0]


def stored(store: Store, test_id: str) -> list[Any]:
    with store.reading() as connection:
        query = answer_table.select().join(store_prompts()).where(store_prompts().c.test_id == test_id)
        return list(connection.execute(query))


def store_prompts() -> Any:
    from ftlab.arena.store import prompts

    return prompts


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Workspace.open(tmp_path / "workspace"))


def test_a_script_is_the_turns_of_the_user_whatever_the_data_answered(tmp_path: Path) -> None:
    rows = [
        [*user("a", system="Be brief."), {"role": "assistant", "content": "1"}, *user("b")],
        [*user("a", "b", "c")],
        [*user("a"), {"role": "assistant", "content": "1"}, *user("b"), {"role": "assistant", "content": "2"}],
        [*user("alone"), {"role": "assistant", "content": "1"}],
        [*user("a"), {"role": "assistant", "content": "another answer"}, *user("b")],
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps({"messages": messages}) for messages in rows))
    scripts = prompt_sources.from_file(file, Workspace.open(tmp_path), conversations=True)
    assert [script.messages for script in scripts] == [
        user("a", "b", system="Be brief."),
        user("a", "b", "c"),
        user("a", "b"),
        user("alone"),
    ]
    assert {script.reference for script in scripts} == {None}

    call = {"role": "assistant", "tool_calls": [{"function": {"name": "look", "arguments": {}}}]}
    tools = [*user("a"), call, {"role": "tool", "content": "{}"}, {"role": "assistant", "content": "1"}, *user("b")]
    file.write_text(json.dumps({"messages": tools}))
    with pytest.raises(InputError, match="tools cannot be a script"):
        prompt_sources.from_file(file, Workspace.open(tmp_path), conversations=True)


def test_what_cannot_be_a_test_of_conversations_is_said(store: Store) -> None:
    with pytest.raises(InputError, match="None of these prompts is a conversation"):
        drafted(store, [user("one"), user("two")])
    with pytest.raises(InputError, match="Prompt 1 holds answers"):
        drafted(store, [[*user("a"), {"role": "assistant", "content": "1"}, *user("b")]])
    with pytest.raises(InputError, match="live test has no conversations"):
        drafted(store, [], live=True)


def test_each_contestant_answers_every_turn_after_its_own_answers(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONTESTANT.key_variable, "key")

    def parrot(request: dict[str, Any], number: int) -> Any:
        asked = [turn["content"] for turn in request["body"]["messages"] if turn["role"] == "user"]
        return reply(f"{len(asked)}: {asked[-1]}", finish="length" if len(asked) == 2 else "stop")

    with judge_server(parrot) as server:
        among = [asking.base_contestant("starter"), asking.endpoint_contestant(server.url, "parrot")]
        test_id = drafted(store, [user(*SCRIPT, system="Be kind."), user("Say hello."), user("Hi.", "Bye.")], among)
        # Stopped after the first whole conversation, it goes on and asks nothing twice.
        assert not answers.generate(
            store, test_id, device="cpu", should_stop=lambda: blind_tests.progress(store, test_id)["answers"] >= 1
        )
        assert answers.generate(store, test_id, device="cpu")
    sent = [request["body"]["messages"] for request in server.requests]
    assert len(sent) == 3 + 1 + 2
    whole = next(messages for messages in sent if messages[-1]["content"] == SCRIPT[2])
    said = [{"role": "assistant", "content": f"{n}: {SCRIPT[n - 1]}"} for n in (1, 2)]
    asked = user(*SCRIPT)
    assert whole == [{"role": "system", "content": "Be kind."}, asked[0], said[0], asked[1], said[1], asked[2]]

    talk = next(row for row in stored(store, test_id) if row.text.startswith(f"1: {SCRIPT[0]}"))
    assert [turn["text"] for turn in talk.turns] == [f"{n}: {text}" for n, text in enumerate(SCRIPT, 1)]
    assert [turn["cut"] for turn in talk.turns] == [False, True, False] and talk.cut and talk.tokens == 30
    flags = [flag for flag in blind_tests.flags(store, test_id) if flag["contestant"] == "parrot"]
    assert (blind_tests.CUT, f"2: {SCRIPT[1]}") in [(flag["what"], flag["excerpt"]) for flag in flags]

    # The starter's later answers are those to the conversation so far, by the same greedy decoding.
    mine = next(row for row in stored(store, test_id) if not row.text.startswith("1: ") and len(row.turns) == 2)
    before = [*user("Hi."), {"role": "assistant", "content": mine.turns[0]["text"]}, *user("Bye.")]
    plain = drafted(store, [before], [*among[:1], asking.base_contestant("starter", title="b")], conversations=False)
    assert answers.generate(store, plain, device="cpu")
    assert {row.text for row in stored(store, plain)} == {mine.turns[1]["text"]}
    assert {row.turns for row in stored(store, plain)} == {None}


def test_a_conversation_that_no_longer_fits_is_not_cut_and_its_owner_is_told(store: Store) -> None:
    among = [asking.base_contestant("starter"), asking.base_contestant("starter", title="Second")]
    test_id = drafted(store, [user("Say hello.", "word " * 3000)], among)
    assert answers.generate(store, test_id, device="cpu")
    flags = blind_tests.flags(store, test_id)
    assert "Answer 2: The prompt is longer than the model can read" in [flag["what"] for flag in flags]
    assert ("The answer is empty", "answer 2 of the conversation") in [(f["what"], f["excerpt"]) for f in flags]
    assert blind_tests.must_be_looked_at(flags)
    assert all(row.turns[0]["text"] and not row.turns[1]["text"] for row in stored(store, test_id))


def test_a_rater_sees_both_whole_conversations_and_no_name(store: Store) -> None:
    test_id, link = opened(store, [(["4 * 4", "green **leaf**"], ["red", "oak"]), (["one"], ["two"])])
    seen = {}
    for number in (1, 2):
        screen = reply_to(store, {"do": "open", "key": link.token})["screen"]
        trial = re.search(r'data-trial="([\w-]+)"', screen)[1]
        seen[screen.count("rt-person")] = screen
        assert not re.search(r"Contestant|model-\d", screen)
        reply_to(store, {"do": "vote", "key": link.token, "trial": trial, "choice": "left", "number": number})
    assert set(seen) == {4, 2}  # the turns of the user, once for each conversation
    texts = re.sub(r"<pre.*?</pre>|<[^>]+>", "|", seen[4])
    order = [texts.index(text) for text in ("Conversation A", "Conversation B")]
    first, second = texts[order[0] : order[1]], texts[order[1] :]
    for side in (first, second):
        assert side.index("Question 0.0") < side.index("Question 0.1")
    assert ("4 * 4" in first) != ("4 * 4" in second) and "<strong>leaf</strong>" in seen[4]
    votes = evaluate(store, test_id)["votes"]
    assert votes["cast"] == 2


def test_conversations_tie_by_themselves_only_if_every_answer_is_equal(store: Store) -> None:
    test_id, link = opened(store, [(["a", "b"], ["a", "b"]), (["a\n\nb", "c"], ["a", "b\n\nc"])])
    trial = trials.next_trial(store, link.rater_id)
    assert trial.turns in ((["a\n\nb", "c"], ["a", "b\n\nc"]), (["a", "b\n\nc"], ["a\n\nb", "c"]))
    trials.vote(store, link.rater_id, trial.id, "left")
    assert trials.next_trial(store, link.rater_id) is None and evaluate(store, test_id)["votes"]["cast"] == 2


def test_only_conversations_that_share_their_history_become_training_data(store: Store) -> None:
    talks = [(["same", "good"], ["same", "bad"]), (["good", "x"], ["bad", "y"]), (["good"], ["bad"])]
    test_id, link = opened(store, talks)
    while trial := trials.next_trial(store, link.rater_id):
        trials.vote(store, link.rater_id, trial.id, "left" if "good" in trial.left else "right")
    data = collect(store, test_id)
    said = {"role": "assistant", "content": "same"}
    assert data.pairs == [
        {
            "prompt": [*user("Question 0.0"), said, *user("Question 0.1")],
            "chosen": [{"role": "assistant", "content": "good"}],
            "rejected": [{"role": "assistant", "content": "bad"}],
        },
        {
            "prompt": user("Question 2.0"),
            "chosen": [{"role": "assistant", "content": "good"}],
            "rejected": [{"role": "assistant", "content": "bad"}],
        },
    ]
    assert data.left_out == {APART: 1} and f"Left out: 1, because {APART}." in data.text()
    [example] = examples(store, test_id, most=1)
    assert example["prompt"] == "Question 0.0\n\nQuestion 0.1"
    assert example["answers"][0]["text"].startswith("user: Question 0.0\n\nassistant: same\n\nuser: Question 0.1")

    apart, link = opened(store, talks[1:2])
    trials.vote(store, link.rater_id, trials.next_trial(store, link.rater_id).id, "left")
    with pytest.raises(InputError, match="single prompts, not of conversations"):
        export(store, apart)


def test_a_judge_reads_whole_conversations(store: Store) -> None:
    test_id, _ = opened(store, [(["red", "blue"], ["oak", "elm"])])
    with judge_server(lambda request, number: says("A")) as server:
        settings = build_settings(server.url, "judge-1", sides=sides_of_test(store, test_id))
        assert judge_test(store, test_id, settings) == 1
        assert judge_test(store, test_id, settings) == 1 and len(server.requests) == 2
    blocks = shown(server.requests[0]["body"])
    first = "user: Question 0.0\n\nassistant: red\n\nuser: Question 0.1\n\nassistant: blue"
    assert {blocks["answer_a"], blocks["answer_b"]} >= {first}
    assert blocks["prompt"] == "user: Question 0.0\n\nuser: Question 0.1"
    assert "each answer is a whole conversation" in server.requests[0]["body"]["messages"][0]["content"]


def test_attention_items_set_conversations_beside_others_of_as_many_turns(store: Store) -> None:
    words = "amber birch cedar delta ember fjord grove heron islet jetty knoll larch maple north ocean plain".split()

    def texts(number: int, side: int, turns: int) -> list[str]:
        return [f"{words[number]}{side}{turn} {words[-number - 1]}a {words[number]}b" for turn in range(turns)]

    talks = [(texts(n, 0, 2 + n % 2), texts(n, 1, 2 + n % 2)) for n in range(8)]
    _, link = opened(store, talks, attention=3)
    items = 0
    while trial := trials.next_trial(store, link.rater_id):
        assert len(trial.turns[0]) == len(trial.turns[1]) == len(trial.messages)
        items += trial.left.split()[-1] != trial.right.split()[-1]  # answers to two different scripts
        trials.vote(store, link.rater_id, trial.id, "left")
    assert items == 3


def test_a_script_whose_turns_trained_a_contestant_is_not_fresh(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    rows = [
        [*user("Where is my lamp?"), {"role": "assistant", "content": "On its way."}, *user("When does it arrive?")],
        *(
            [*user(f"Tell me about item {n}"), {"role": "assistant", "content": "ok"}, *user(f"And {n}?")]
            for n in "abcdefghijkl"
        ),
    ]
    (tmp_path / "rows.jsonl").write_text(
        "\n".join(json.dumps({"messages": [*turns, {"role": "assistant", "content": "Soon."}]}) for turns in rows)
    )
    data = DataConfig(source=str(tmp_path / "rows.jsonl"), test_fraction=0, validation_fraction=0)
    run = workspace.create_run("sft")
    run.config_file.write_text(RunConfig(data=data, model={"base": "starter"}).to_yaml())
    freeze(prepare(data), run)
    scripts = [
        user("Where is my lamp?", "When does it arrive?"),
        user("where is my lamp", "When does it arrive"),
        user("Do you sell tea?", "Which one is good in the evening?"),
    ]
    assert fresh_only(workspace, [{"kind": "run", "run": run.id}], scripts) == [2]
