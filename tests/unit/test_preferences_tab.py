"""The Preferences tab without a browser: what it starts, what it hides, and what it says of a run."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("gradio")

from ftlab.arena import links
from ftlab.arena.store import open_store
from ftlab.config import DataConfig, Reward, build_config
from ftlab.config.preferences import PreferenceConfig
from ftlab.core.files import append_jsonl, write_json, write_jsonl, write_text
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from ftlab.report.report import write_report
from ftlab.ui import run_files
from ftlab.ui.page import Look, remember_choice
from ftlab.ui.run_stages import STAGES, is_read
from ftlab.ui.run_view import preference_curves as preference_view
from ftlab.ui.run_view import reward_curves as reward_view
from ftlab.ui.run_view import run as run_view
from ftlab.ui.tabs.chat.votes import PAIRS, THUMBS
from ftlab.ui.tabs.evaluate import tab as evaluate
from ftlab.ui.tabs.preferences import lessons, rewards_form
from ftlab.ui.tabs.preferences import tab as preferences
from ftlab.ui.tabs.runs import listing
from ftlab.ui.tabs.runs import tab as runs
from ftlab.ui.tabs.train import tab as train
from tests.unit.test_arena_preferences import ANN, BOB, made, vote
from tests.unit.test_ui import ATTACK, a_run


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    import gradio as gr

    with gr.Blocks():
        yield preferences.build(Workspace.open(tmp_path_factory.mktemp("tab")))


def listed(tab, workspace, begin, newest=""):
    """What one look at the files draws, for a page that says `begin` and saw `newest` as the newest start."""
    return preferences.list_runs(tab, Look(workspace, None, {tab.begin: begin}, {"newest start": newest}))


def started(tab, workspace, typed=None, rewards=None):
    """The configuration that the form gives when `typed` stands in it; `rewards` in the rows of rewards."""
    values = {path: component.value for path, component in tab.form.components.items()} | (typed or {})
    rows, _ = rewards_form.rows_of([])
    asked = preferences.settings(tab, list(values.values()), list((rows | (rewards or {})).values()), workspace)
    return build_config(asked)


def a_result(workspace, label, **settings):
    run = a_run(workspace, label, **settings)
    run.adapter.mkdir()
    adapter = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 16, "lora_alpha": 32, "use_rslora": False}
    write_text(run.adapter / "adapter_config.json", json.dumps(adapter))
    (run.adapter / "adapter_model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")  # no tensors
    return run


def test_the_untouched_form_is_dpo_from_the_base_with_the_defaults(tab, workspace):
    assert started(tab, workspace) == build_config({"stage": "dpo"})


def test_every_setting_of_preferences_is_read_by_some_stage():
    assert {name for stage in STAGES.values() for name in stage.reads} == set(PreferenceConfig.model_fields)


def test_what_the_stage_does_not_read_is_not_asked_for_and_does_not_reach_the_run(tab, workspace):
    typed = {"stage": "reward", "preference.beta": "0.5", "reinforcement.generations": "4"}
    config = started(tab, workspace, typed)
    assert config == build_config({"stage": "reward"})
    assert not is_read("preference.beta", "reward", "lora", start="base")
    assert is_read("preference.simpo_margin", "cpo", "lora", start="base")
    assert not is_read("preference.simpo_margin", "dpo", "lora", start="base")
    assert not any(is_read("optimisation.loss", stage, "lora", start="base") for stage in STAGES)


def test_a_run_that_goes_on_from_an_adapter_takes_base_and_method_from_it(tab, workspace):
    sft = a_result(workspace, "sft", method={"name": "dora"})
    config = started(tab, workspace, {"model.start": sft.id})
    assert config.model.model_fields_set == {"start"} and "name" not in config.method.model_fields_set

    from ftlab.training.gate import resolve_start

    assert resolve_start(config, workspace)[0].method.name == "dora"


def test_the_newest_run_on_examples_is_preset_until_somebody_chooses(tab, workspace):
    old, reward = a_result(workspace, "a"), a_result(workspace, "c", stage="reward")
    new = a_result(workspace, "b")
    starts = [value for _, value in lessons.start_choices(workspace)]
    assert set(starts) == {old.id, new.id} and reward.id not in starts
    preset = preferences.newest_start(workspace)
    assert listed(tab, workspace, "")[tab.begin]["value"] == preset
    assert listed(tab, workspace, "", preset)[tab.begin]["value"] == ""
    models = listed(tab, workspace, "")[tab.reward_model]["choices"]
    assert [value for _, value in models] == ["", reward.id]


def test_rewards_come_from_simple_rows_and_further_ones_from_yaml(tab, workspace):
    rows = {"length.longest": "30", "length.weight": "0.5", "json.on": True, "json.keys": "queue, priority"}
    typed = {"stage": "grpo", "reinforcement.rewards": "- {kind: regex, pattern: 'x', name: second}"}
    config = started(tab, workspace, typed, rows)
    assert config.reinforcement.rewards == [
        Reward(kind="length", longest=30, weight=0.5),
        Reward(kind="json", keys=["queue", "priority"]),
        Reward(kind="regex", pattern="x", name="second"),
    ]


def test_a_run_started_again_has_the_rewards_of_the_first(tab, workspace):
    first = build_config(
        {
            "stage": "rloo",
            "reinforcement": {
                "generations": 4,
                "rewards": [
                    {"kind": "regex", "pattern": "^Hi", "weight": -1},
                    {"kind": "regex", "pattern": "bye$"},
                    {"kind": "exact_match", "name": "right"},
                    {"kind": "model", "model": "some-run"},
                ],
            },
        }
    )
    updates = preferences.fill(tab, first)
    typed = {path: updates[component] for path, component in tab.form.components.items()}
    typed["reinforcement.rewards"] = updates[tab.rewards.more]
    rows = {name: updates[component] for name, component in tab.rewards.cells.items()}
    again = started(tab, workspace, typed, rows)
    assert again.reinforcement.generations == 4
    assert sorted(map(repr, again.reinforcement.rewards)) == sorted(map(repr, first.reinforcement.rewards))


@pytest.mark.parametrize(
    ("typed", "rows", "said"),
    [
        ({"preference.beta": "strong"}, {}, "Beta (preference.beta)"),
        ({"preference.beta": "0"}, {}, "above 0"),
        ({"stage": "rloo"}, {"length.longest": "many"}, "longest"),
        ({"stage": "rloo"}, {"regex.pattern": "x", "regex.weight": "1000"}, "at most 100"),
        ({"stage": "rloo", "reinforcement.rewards": "kind: json"}, {}, "takes a list"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(tab, workspace, typed, rows, said):
    with pytest.raises(InputError) as raised:
        started(tab, workspace, typed, rows)
    assert said in raised.value.message()


def test_the_data_are_judged_for_the_stage_before_the_start(workspace, tmp_path):
    def look(stage, source):
        return preferences.about_data(build_config({"stage": stage, "data": {"source": source}}), workspace)

    said, suits = look("dpo", "support_triage")
    assert not suits and "DPO learns from pairs of answers" in said and "ft-bad" not in said
    said, suits = look("dpo", preferences.SAMPLE)
    assert suits and "220 pairs to learn from, 40 to check, 40 to test" in said
    assert look("rloo", "support_triage")[1]

    pairs = [{"prompt": f"Q{n}?", "chosen": f"A {n}, {ATTACK}" * 2, "rejected": f"B {n}"} for n in range(60)]
    pairs[3]["rejected"] = pairs[3]["chosen"]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in pairs))
    said, suits = look("dpo", str(file))
    assert suits and "equal chosen and rejected answers" in said and "is the longer one" in said
    assert "<script" not in said


def a_dpo_run(workspace, **settings):
    run = a_run(workspace, "dpo", stage="dpo", **settings)
    for step in range(1, 25):
        values = {"accuracy": 0.5 + step / 60, "margin": step / 10, "reward_chosen": -step / 20}
        values |= {"reward_rejected": -step / 5, "logp_chosen": -40 - 2.0 * step, "logp_rejected": -45 - 4 * step}
        append_jsonl(run.metrics_file, {"step": step, "loss": 0.69 - step / 100} | values)
    return run


def test_the_charts_of_preferences_stand_in_the_order_in_which_to_read_them(workspace):
    shown = run_view.live(a_dpo_run(workspace))
    titles = ["Preference accuracy", "Reward margin", "Rewards (training)", "Log probabilities (training)"]
    places = [shown.index(f"<strong>{title}</strong>") for title in titles]
    assert places == sorted(places)
    assert shown.count('class="ft-how"') == len(titles)
    # What goes wrong is said under the chart on which one sees it.
    assert shown.index("while the chosen answers become unlikely") > places[3]


def test_ties_before_the_first_step_are_no_accuracy():
    rows = [{"step": 0, "eval_accuracy": 0.0, "eval_margin": 0.0}, {"step": 5, "eval_accuracy": 0.75, "eval_margin": 1}]
    shown, _ = preference_view.pictures(rows, "dpo")
    assert "validation from 75 to 75 at step 5" in shown


def test_the_result_on_held_out_pairs_is_a_sentence_with_its_interval(workspace):
    # 35 of 40: the 95% Wilson interval is 0.739 to 0.945.
    found = {"accuracy": 0.875, "interval": [0.739, 0.945], "rows": 40, "margin": 1.5, "reward_chosen": 0.5}
    found |= {"reward_rejected": -1.0, "measure": "score of the reward model", "notes": []}
    shown = preference_view.result(found)
    assert "wins in 87.5% of 40 held-out pairs (95% interval 73.9% to 94.5%)" in shown
    assert "more than chance" in shown
    assert "may be chance" in preference_view.result(found | {"interval": [0.45, 0.9]})
    # 32 of 50: Wilson's interval begins at .501, and the exact test says .065.
    edge = found | {"accuracy": 0.64, "rows": 50, "interval": [0.501, 0.759], "p": 0.065, "ties": 0}
    assert "may be chance" in preference_view.result(edge)
    ties = found | {"accuracy": 0.0, "interval": [0.0, 0.09], "p": 1.0, "ties": 40}
    shown = preference_view.result(ties)
    assert "with 40 ties" in shown and "swapped" not in shown


def test_answers_that_a_run_tries_are_text_and_never_markup():
    rows = [
        {"step": step, "prompt": [{"role": "user", "content": ATTACK}], "completion": ATTACK, "reward": step / 8}
        for step in range(8)
    ]
    for row in rows:
        row["rewards"] = {ATTACK: 1.0, "length": 0.5}
    shown = reward_view.answers(rows)
    assert "<script" not in shown and "<img" not in shown and "&lt;script&gt;alert(1)" in shown
    # The mean of the first and of the last two of the eight rewards 0, 1/8, ... 7/8.
    assert "mean <b>0.0625</b>" in shown and "mean <b>0.8125</b>" in shown


def test_the_lineage_leads_from_the_base_over_examples_to_preferences(workspace):
    sft, other = a_result(workspace, "sft"), a_result(workspace, "other")
    dpo = a_result(workspace, "dpo", stage="dpo", model={"start": sft.id})
    reward = a_result(workspace, "reward", stage="reward", model={"start": sft.id})
    rewards = [{"kind": "model", "model": reward.id}]
    rl = a_result(workspace, "rl", stage="rloo", model={"start": dpo.id}, reinforcement={"rewards": rewards})
    every = workspace.runs()
    drawn = listing.lineage_tree(every, dpo.id)
    assert other.id not in drawn
    places = [drawn.index(name) for name in ("starter", sft.id, f'data-pick="{dpo.id}"', f'data-pick="{rl.id}"')]
    assert places == sorted(places)
    assert "rewarded by" in drawn and "rewards" in drawn
    assert listing.lineage_tree(every, other.id) == ""
    assert listing.relatives({"a": None, "b": "a", "c": "b", "x": "gone", "y": "gone"}, "y") == {"gone", "x", "y"}


def test_a_lineage_that_runs_in_a_circle_ends():
    assert listing.relatives({"a": "b", "b": "a"}, "a") >= {"a"}


def test_a_reward_model_is_shown_by_its_scores_and_not_offered_for_a_chat(workspace):
    run = a_result(workspace, "reward", stage="reward")
    found = {"accuracy": 0.825, "interval": [0.68, 0.91], "rows": 40, "margin": 1, "reward_chosen": 1}
    write_json(run.preferences_file, found | {"reward_rejected": 0, "measure": "score", "notes": []})
    assert run_files.runs_that_answer(workspace) == [] and run_files.runs_with_result(workspace) == [run]
    with pytest.raises(InputError, match="scores answers and writes none"):
        run_files.chosen_run(workspace, run.id, answers=True)
    with pytest.raises(FtlabError, match="writes no answers to compare"):
        write_report(run)
    assert "82.5%" in runs.runs_table([run], None) and "Reward model" in runs.runs_table([run], None)

    import gradio as gr

    with gr.Blocks():
        tab = evaluate.build(workspace)
    assert "82.5% of 40 held-out pairs" in evaluate.show(tab, run.id, [], None, None, workspace)[tab.result]


def test_preferences_have_data_of_their_own_until_others_are_chosen_on_the_data_tab(workspace, tmp_path):
    def of(source):
        return DataConfig(source=str(source)).model_dump_json()

    pairs = tmp_path / "pairs.jsonl"
    write_jsonl(pairs, [{"prompt": f"p{n}", "chosen": "a", "rejected": f"b{n}"} for n in range(20)])
    assert preferences.kept_own(workspace) is None
    own = preferences.own_data(DataConfig(source=preferences.SAMPLE), workspace)
    for on_data_tab, learned in [
        (of("support_triage"), of(preferences.SAMPLE)),
        (of("brand_voice"), of(preferences.SAMPLE)),
        (of(pairs), of(pairs)),
        (None, of(preferences.SAMPLE)),
    ]:
        assert preferences.data_of(own, on_data_tab, workspace) == learned
        assert preferences.data_of(None, on_data_tab, workspace) == on_data_tab
    # Chosen while pairs are on the Data tab: the later choice counts.
    remember_choice(workspace, data=str(pairs))
    votes = preferences.own_data(DataConfig(source=preferences.SAMPLE), workspace)
    assert preferences.data_of(votes, of(pairs), workspace) == of(preferences.SAMPLE)
    for kept, restored in ((own, own), ("{", None), (own.replace(preferences.SAMPLE, "/gone.csv"), None)):
        remember_choice(workspace, preferences=kept)
        assert preferences.kept_own(workspace) == restored


def test_each_tab_shows_its_own_runs(workspace):
    sft, dpo = a_run(workspace, "sft"), a_dpo_run(workspace)
    assert train.run_to_show(None, workspace) == sft
    assert preferences.run_to_show(None, workspace) == dpo


def test_votes_are_offered_where_they_can_be_learned_from_and_may_be_seen(workspace):
    assert lessons.voted(workspace) == [] and not workspace.arena_database.exists()
    store = open_store(workspace)
    test = made(store)
    for name, wanted in zip(("Ann", "Bob"), (ANN, BOB), strict=True):
        vote(store, links.create_raters(store, test, [name])[0].rater_id, wanted)
    hidden = made(store, planned=32)
    vote(store, links.create_raters(store, hidden, ["Cem"])[0].rater_id, ANN)
    # Ann voted on all sixteen prompts and Bob skipped one; a skip is no vote.
    assert lessons.voted(workspace) == [lessons.Voted(test, "Second round", "vote", 31, 13)]


def test_votes_in_the_chat_are_offered_as_pairs_or_thumbs(workspace):
    run = a_result(workspace, "sft")
    rows = [{"prompt": f"p{n}", "chosen": "a", "rejected": "b", "run": run.id, "vote": str(n)} for n in range(12)]
    workspace.uploads.mkdir(parents=True, exist_ok=True)
    write_jsonl(workspace.uploads / PAIRS, rows)
    write_jsonl(workspace.uploads / THUMBS, [{"prompt": "p", "completion": "a", "label": True, "run": run.id}] * 3)
    assert lessons.voted(workspace)[0] == lessons.Voted(PAIRS, "Chat", "pair", 12, 12)
    found = lessons.of_chat(PAIRS, workspace)
    assert (found.stage, found.start, found.message) == ("dpo", run.id, "12 pairs from Chat.")
    few = lessons.of_chat(THUMBS, workspace)
    assert few.stage == "kto" and "A run needs at least" in few.message
