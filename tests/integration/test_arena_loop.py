"""The whole loop on the starter: SFT, blind test, votes, DPO, blind test on fresh prompts, verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftlab.arena import blind_tests
from ftlab.arena.loop import LoopSettings, run_loop
from ftlab.arena.store import open_store
from ftlab.core.files import read_jsonl
from ftlab.data.splits import read_split
from ftlab.samples import sample_path
from tests.conftest import last_json, run_cli
from tests.json_shapes import check_shape

pytestmark = [pytest.mark.train, pytest.mark.long]

PROMPTS = 20
RATERS = 2


@pytest.fixture(scope="module")
def gone_round(voice, train_here, voice_workspace):
    """The loop with the session's instruction-tuned run in place of an SFT of its own."""

    def train(settings):
        return voice.run if settings.get("stage", "sft") == "sft" else train_here(settings).run

    said = []
    settings = LoopSettings(
        prompts=str(sample_path("brand_voice_preferences") / "train.jsonl"),
        prompts_per_test=PROMPTS,
        raters=RATERS,
        dpo={"optimisation": {"epochs": 1, "batch_size": 8, "evaluations_per_epoch": 1}},
    )
    return run_loop(voice_workspace, train, settings, tell=said.append), open_store(voice_workspace), said


def asked(messages):
    return next(turn["content"] for turn in messages if turn["role"] == "user")


def test_raters_who_want_the_house_style_find_the_tuned_model_better_than_its_base(gone_round):
    found, _, said = gone_round
    first = found["verdicts"][0]
    assert first["verdict"] == "better"
    assert first["votes"]["cast"] == PROMPTS * RATERS
    assert any("Tuned is better than Base" in sentence for sentence in said)


def test_the_votes_trained_the_next_model(gone_round, voice_workspace):
    """Every row it learned from is a prompt of the first test, with the answers that were voted on."""
    found, store, _ = gone_round
    run = voice_workspace.run(found["dpo"])
    rows = read_split(run, "train") + read_split(run, "validation")
    exported = read_jsonl(Path(found["export"]) / "dpo.jsonl")
    assert len(rows) == len(exported) == found["pairs"]
    assert {asked(row["prompt"]) for row in rows} <= {
        asked(prompt.messages) for prompt in blind_tests.list_prompts(store, found["first"])
    }
    assert {row["chosen"][0]["content"] for row in rows} == {row["chosen"][0]["content"] for row in exported}


def test_no_prompt_of_the_second_test_trained_one_of_its_contestants(gone_round, voice, voice_workspace):
    found, store, _ = gone_round
    trained = [row for run in (voice.run, voice_workspace.run(found["dpo"])) for row in read_split(run, "train")]
    second = {asked(prompt.messages) for prompt in blind_tests.list_prompts(store, found["second"])}
    assert len(second) == PROMPTS
    assert not second & {asked(row["messages"]) for row in trained}
    learned = {asked(row["messages"]) for row in read_split(voice_workspace.run(found["dpo"]), "train")}
    # Near copies of what was learned are left out with it.
    assert len(learned) <= found["left_out"] <= len(learned) + 3


def test_the_second_verdict_counts_every_vote_and_says_how_sure_it_is(gone_round):
    second = gone_round[0]["verdicts"][1]
    assert second["verdict"] in ("better", "worse", "no_difference", "not_enough")
    assert second["votes"]["cast"] == PROMPTS * RATERS
    won = sum(second["counts"]["wins"].values())
    assert won + sum(second["counts"][name] for name in ("both_good", "both_bad", "tie", "skip")) == PROMPTS * RATERS
    assert second["revealed"] is not None and second["text"]


def test_the_command_line_makes_answers_judges_and_exports_a_test(gone_round, voice, voice_workspace):
    """The steps a person takes, and what is hidden stays hidden."""
    where = ["--workspace", str(voice_workspace.root), "--json"]
    lines = ["--contestant", "base", "--contestant", f"run:{voice.run.id}", "--title", "By hand"]
    made = last_json(run_cli("arena", "create", *lines, "--number", "4", "--max-new-tokens", "16", *where).stdout)
    assert (made["prompts"], made["planned"]) == (4, 4)
    ready = last_json(run_cli("arena", "generate", "By hand", *where).stdout)
    assert (ready["state"], ready["answers"]) == ("ready", 8)
    check_shape("arena generate", ready)
    hidden = run_cli("arena", "verdict", "By hand", *where)
    assert last_json(hidden.stdout)["revealed"] is None
    assert run_cli("arena", "export", "By hand", *where).returncode == 2
    shown = last_json(run_cli("arena", "verdict", gone_round[0]["first"][:8], *where).stdout)
    assert shown["verdict"] == "better"
    check_shape("arena verdict", shown)
