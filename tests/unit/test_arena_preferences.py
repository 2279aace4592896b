"""Votes become data, prompts stay fresh, and the report tells what happened."""

from __future__ import annotations

import json
import random
import re
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import update

from ftlab.arena import blind_tests, links, trials
from ftlab.arena.asking import ContestantSpec, PromptSpec, TestSettings
from ftlab.arena.preferences import CUT, VotesAsData, collect, export, flip_rate
from ftlab.arena.store import Store, answers, open_store
from ftlab.arena.tally import count, evaluate, fresh_only, keep_watch, stale_prompts, watch
from ftlab.config import DataConfig, RunConfig
from ftlab.core.files import write_json
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.data.splits import freeze, prepare
from ftlab.errors import InputError
from ftlab.report.arena import write_arena_report

BASE, TUNED = "Base", "Tuned <b>voice</b>"
GENERATION = {"max_new_tokens": 32, "temperature": 0}
# Of sixteen prompts: both for the tuned, both for the base, one each, both good, both bad, then all for the tuned.
ANN = ["tuned", "base", "tuned", "both_good", "both_bad", *["tuned"] * 11]
BOB = ["tuned", "base", "base", "both_good", "both_bad", *["tuned"] * 10, "skip"]


def question(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"What is the answer to number {number}?"}]


def made(store: Store, prompts: int = 16, planned: int = 31, **specs: str) -> str:
    """An open test whose answers say whose they are; `specs` are those of the tuned contestant."""
    test = blind_tests.create_test(
        store,
        "Second round",
        [
            ContestantSpec(BASE, {"kind": "base", "base": "starter"}),
            ContestantSpec(TUNED, {"kind": "run", "run": "r1", "adapter_sha256": "ab12", "api_key": "secret", **specs}),
        ],
        [PromptSpec(question(number), topic=f"topic {number % 2}") for number in range(prompts)],
        TestSettings(generation=GENERATION, votes_per_prompt=2),
        planned,
    )
    blind_tests.start_generating(store, test)
    among = blind_tests.list_contestants(store, test)
    for prompt in blind_tests.list_prompts(store, test):
        for one in among:
            blind_tests.save_answer(store, prompt.id, one.id, f"{'tuned' if one.title == TUNED else 'base'}, said well")
    blind_tests.mark_ready(store, test)
    blind_tests.open_test(store, test)
    return test


def vote(store: Store, rater: str, wanted: list[str], comment: str = "") -> None:
    """Let a rater say what is `wanted` of each prompt, by its number."""
    while (trial := trials.next_trial(store, rater)) is not None:
        said = wanted[int(re.findall(r"\d+", trial.messages[-1]["content"])[0])]
        choice = said if said not in ("tuned", "base") else "left" if trial.left.startswith(said) else "right"
        trials.vote(store, rater, trial.id, choice, comment=comment, seconds=2.0)


@pytest.fixture
def voted(tmp_path: Path) -> tuple[Store, str]:
    store = open_store(Workspace.open(tmp_path))
    test = made(store)
    ann, bob = links.create_raters(store, test, ["Ann", "Bob"])
    vote(store, ann.rater_id, ANN, "warmer <i>tone</i>")
    vote(store, bob.rater_id, BOB)
    return store, test


def test_pairs_are_what_most_raters_preferred_and_ties_become_judged_answers(voted):
    store, test = voted
    found = collect(store, test)
    by_number = {int(re.findall(r"\d+", row["prompt"][0]["content"])[0]): row for row in found.pairs}
    assert sorted(by_number) == [0, 1, *range(5, 16)]
    assert by_number[0]["chosen"][0]["content"].startswith("tuned")
    assert by_number[1]["chosen"][0]["content"].startswith("base")
    assert all(row["chosen"] != row["rejected"] for row in found.pairs)
    assert found.conflicts == 1 and sum(found.left_out.values()) == 1
    # 13 prompts have two votes for an answer, and on one of them they differ.
    assert Counter(map(sum, found.preferences)) == {2: 13, 1: 1, 0: 2} and sorted(found.ahead) == [1, *[2] * 12]
    assert flip_rate(found.preferences) == pytest.approx((1 - (1 - 2 / 13) ** 0.5) / 2)
    labels = {number: [row["label"] for row in found.judged if row["prompt"] == question(number)] for number in (3, 4)}
    assert labels == {3: [True, True], 4: [False, False]}
    assert len(found.judged) == 2 * 13 + 2 + 2


def test_answers_that_were_cut_are_learned_from_only_when_asked(voted):
    store, test = voted
    whole = collect(store, test)
    pair = whole.pair_origins[0]["prompt"]
    with store.writing() as connection:
        connection.execute(update(answers).where(answers.c.prompt_id == pair).values(cut=True))
    data = collect(store, test)
    assert data.left_out[CUT] == 1 and len(data.pairs) == len(whole.pairs) - 1
    assert "cut at the length limit" in data.text()
    assert all(origin["prompt"] != pair for origin in [*data.pair_origins, *data.judged_origins])
    assert collect(store, test, with_cut=True) == whole


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.35])
@pytest.mark.parametrize("raters", [2, 3, 5])
def test_how_often_votes_and_pairs_are_wrong_is_found_from_how_raters_agree(rate, raters):
    rng, data, wrong = random.Random(1), VotesAsData(), 0
    for _ in range(4000):
        right = sum(rng.random() >= rate for _ in range(raters))
        data.preferences.append((right, raters - right))
        if right * 2 != raters:  # an even split becomes no pair
            data.ahead.append(abs(2 * right - raters))
            wrong += right * 2 < raters
    assert flip_rate(data.preferences) == pytest.approx(rate, abs=0.03)
    assert data.wrong == pytest.approx(wrong / len(data.ahead), abs=0.03)


def test_a_share_of_wrong_pairs_is_learned_from_only_where_votes_tell():
    one_vote_each = VotesAsData(preferences=[(1, 0)] * 50, ahead=[1] * 50)
    assert one_vote_each.wrong is None and one_vote_each.settings() == {}
    agreed = VotesAsData(preferences=[(2, 0)] * 50, ahead=[2] * 50)
    assert agreed.wrong == 0 and agreed.settings() == {}
    # Two of ten times they differ: f is 11.3%, and of two votes that agree both are wrong in 1.6%.
    differ = VotesAsData(preferences=[(2, 0)] * 40 + [(1, 1)] * 10, ahead=[2] * 40)
    differ.pairs = [{}] * 40  # type: ignore[typeddict-item]
    assert differ.settings() == {"loss": "robust", "label_smoothing": 0.02}
    assert differ.settings("kto") == {"label_smoothing": 0.02}
    assert "about 1.6% of the pairs are the wrong way round" in differ.text()
    chance = VotesAsData(preferences=[(2, 0), (1, 1)] * 25, ahead=[2] * 25)
    chance.pairs = [{}] * 25  # type: ignore[typeddict-item]
    assert chance.settings() == {} and "hardly agree more than by chance" in chance.text()


def test_every_row_tells_where_it_comes_from_and_no_secret(voted):
    store, test = voted
    folder, found = export(store, test)
    origins = [json.loads(line) for line in (folder / "provenance.jsonl").read_text().splitlines()]
    pairs = [origin for origin in origins if origin["file"] == "dpo.jsonl"]
    rows = [json.loads(line) for line in (folder / "dpo.jsonl").read_text().splitlines()]
    assert len(pairs) == len(rows) == len(found.pairs)
    first = pairs[0]
    assert first["generation"] == GENERATION and first["chosen"]["adapter_sha256"] == "ab12"
    assert [one["rater"] for one in first["votes"]] == ["Ann", "Bob"]
    assert first["votes"][0]["comment"] == "warmer <i>tone</i>" and first["votes"][0]["preferred"] == TUNED
    assert {one["trial"] for origin in origins for one in origin["votes"]} <= {one.trial for one in count(store, test)}
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:]{8}\+00:00", one["time"]) for one in first["votes"])
    assert "secret" not in (folder / "provenance.jsonl").read_text()


def test_the_rows_can_be_trained_on_as_they_are(voted):
    store, test = voted
    folder, _ = export(store, test)
    pairs = prepare(DataConfig(source=str(folder / "dpo.jsonl")), stage="dpo")
    assert pairs.manifest["format"] == "preference" and not pairs.manifest["dropped"]
    judged = prepare(DataConfig(source=str(folder / "kto.jsonl")), stage="kto")
    assert judged.manifest["format"] == "kto" and not judged.manifest["dropped"]


def test_nothing_is_told_while_the_tally_is_hidden(tmp_path):
    store = open_store(Workspace.open(tmp_path))
    test = made(store, planned=32)
    (ann,) = links.create_raters(store, test, ["Ann"])
    vote(store, ann.rater_id, ANN)
    for tell in (collect, export, write_arena_report):
        with pytest.raises(InputError, match="hidden"):
            tell(store, test)
    blind_tests.open_early(store, test)
    report = write_arena_report(store, test).read_text()
    assert "opened early, after 16 of 32 planned votes" in report and "Not enough votes" in report


def trained(workspace: Workspace, label: str, data: DataConfig, start: str | None = None) -> RunDirectory:
    """The directory of a run as training leaves it, as far as prompts go."""
    run = workspace.create_run(label)
    config = RunConfig(data=data, stage="dpo", model={"base": "starter", "start": start})
    run.config_file.write_text(config.to_yaml())
    run.data.mkdir()
    write_json(run.manifest_file, prepare(data, stage="dpo").manifest)
    return run


def test_a_prompt_whose_vote_trained_a_model_does_not_count_in_its_next_test(voted):
    store, test = voted
    folder, _ = export(store, test)
    data = DataConfig(source=str(folder / "dpo.jsonl"), test_fraction=0, validation_fraction=0)
    run = trained(store.workspace, "dpo", data)
    # A run that starts from it knows these prompts too, though its own data are others.
    other = store.workspace.root / "other.jsonl"
    turn = [{"role": "assistant", "content": "yes"}], [{"role": "assistant", "content": "no"}]
    rows = [{"prompt": question(100 + n), "chosen": turn[0], "rejected": turn[1]} for n in range(12)]
    kind = {"role": "system", "content": "Be kind."}
    rows.append({"prompt": [kind, *question(3)], "chosen": turn[0], "rejected": turn[1]})
    other.write_text("\n".join(map(json.dumps, rows)))
    data = DataConfig(source=str(other), test_fraction=0, validation_fraction=0)
    later = trained(store.workspace, "later", data, start=run.id)
    for contestant in (run, later):
        second = made(store, prompts=20, planned=40, run=contestant.id)
        asked = {prompt.id: prompt.number for prompt in blind_tests.list_prompts(store, second)}
        # Thirteen prompts became pairs; those with ties and the one that divided did not.
        assert sorted(asked[prompt] - 1 for prompt in stale_prompts(store, second)) == [0, 1, *range(5, 16)]
        ann, bob = links.create_raters(store, second, ["Ann", "Bob"])
        for rater in (ann, bob):
            vote(store, rater.rater_id, ["tuned"] * 16 + ["base"] * 4)
        found = evaluate(store, second)
        assert (found["wins"], found["decided"]) == (6, 14) and found["verdict"] != "better"
        assert any("13 prompts were left out" in note for note in found["notes"])
        specs = [{"kind": "run", "run": contestant.id}]
        assert fresh_only(store.workspace, specs, [question(n) for n in range(18)]) == [2, 3, 4, 16, 17]
        with pytest.raises(InputError, match="memory, not skill"):
            fresh_only(store.workspace, specs, [question(0), question(7)])
    # The data hold the system prompt, the test has it in the contestant.
    spec = {"kind": "run", "run": later.id, "system_prompt": kind["content"]}
    assert fresh_only(store.workspace, [spec], [question(3), question(2)]) == [1]


def test_a_variant_of_what_trained_a_contestant_is_not_fresh(tmp_path):
    workspace = Workspace.open(tmp_path)
    asked = [
        "Where is my lamp?",
        "How do I cancel order 12?",
        "Which chair is the cheapest?",
        *(f"Ask {n}" for n in range(12)),
    ]
    data = DataConfig(source=str(tmp_path / "rows.jsonl"), test_fraction=0, validation_fraction=0)
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"prompt": text, "completion": "x"}) for text in asked))
    run = workspace.create_run("sft")
    run.config_file.write_text(RunConfig(data=data, model={"base": "starter"}).to_yaml())
    freeze(prepare(data), run)
    prompts = ["Where is my lamp", "Please where is my lamp today?", "where is MY\u200b lamp??", "Where is my chair?"]
    prompts += ["How do I cancel order 13?", "How do I cancel order 12"]
    messages = [[{"role": "user", "content": text}] for text in prompts]
    spec = {"kind": "run", "run": run.id}
    assert fresh_only(workspace, [spec], messages) == [3, 4]
    assert fresh_only(workspace, [{"kind": "base", "base": "starter"}], messages) == list(range(6))
    store = open_store(workspace)
    specs = [ContestantSpec(BASE, {"kind": "base", "base": "starter"}), ContestantSpec(TUNED, spec)]
    test = blind_tests.create_test(
        store, "Variants", specs, [PromptSpec(turns) for turns in messages], TestSettings(GENERATION), 6
    )
    numbers = {prompt.id: prompt.number for prompt in blind_tests.list_prompts(store, test)}
    found = stale_prompts(store, test)
    assert sorted(numbers[prompt] for prompt in found) == [1, 2, 3, 6] and set(map(tuple, found.values())) == {(TUNED,)}
    # Where the rows are gone, copies are still known by their fingerprints.
    run.split_file("train").unlink()
    assert fresh_only(workspace, [spec], [*messages, [{"role": "user", "content": "where is my lamp?"}]]) == list(
        range(6)
    )


def test_strong_evidence_ends_the_wait_and_tells_nobody_for_whom(tmp_path):
    store = open_store(Workspace.open(tmp_path))
    test = made(store, prompts=20, planned=40)
    ann, bob = links.create_raters(store, test, ["Ann", "Bob"])
    # Eleven prompts with both votes in, all for one: 2^11 / 12.
    rater, other = ann.rater_id, bob.rater_id
    while not watch(store, test):
        trial = trials.next_trial(store, rater)
        trials.vote(store, rater, trial.id, "left" if trial.left.startswith("tuned") else "right")
        rater, other = other, rater
    assert blind_tests.revealed(store, test) == "evidence"
    found = evaluate(store, test)
    assert found["verdict"] == "better" and found["evidence"]["prompts"] == 11
    assert "tuned" not in json.dumps(blind_tests.progress(store, test)).lower()


def test_a_test_ends_on_its_evidence_with_no_owner_looking(tmp_path):
    store = open_store(Workspace.open(tmp_path))
    test = made(store, prompts=20, planned=40)
    raters = [one.rater_id for one in links.create_raters(store, test, ["Ann", "Bob"])]
    watching = keep_watch(store, every_seconds=0.05)
    assert blind_tests.revealed(store, test) is None
    for voted in range(36):  # fewer than planned
        rater = raters[voted % 2]
        trial = trials.next_trial(store, rater)
        trials.vote(store, rater, trial.id, "left" if trial.left.startswith("tuned") else "right")
    deadline = time.monotonic() + 20
    while blind_tests.revealed(store, test) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    watching.set()
    assert blind_tests.revealed(store, test) == "evidence"


def test_the_report_is_one_file_whose_pictures_and_names_are_no_markup(voted):
    store, test = voted
    page = write_arena_report(store, test).read_text()
    assert evaluate(store, test)["text"].replace("<", "&lt;").replace(">", "&gt;").split("(")[0] in page
    assert "<b>voice" not in page and "<i>tone" not in page and "<script" not in page and "://" not in page
    drawn = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(drawn) == 3
    for svg in drawn:
        assert TUNED in ElementTree.fromstring(svg).attrib["aria-label"] or "Evidence" in svg
