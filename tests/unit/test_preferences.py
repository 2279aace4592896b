"""Preference data: how pairs are read, split and checked before anything is trained."""

from __future__ import annotations

import json
import math
import unicodedata

import pytest

from ftlab.config import DataConfig, build_config
from ftlab.data.formats import detect
from ftlab.data.preferences import balanced_weights, check_preferences, pair_of_row, record_findings
from ftlab.data.rendering import encode_completions
from ftlab.data.splits import freeze, prepare, read_split
from ftlab.errors import InputError
from ftlab.models.load import load_tokenizer
from ftlab.training.gate import check_preference, resolve_start
from ftlab.training.preferences import kto_weights, mismatched

HH = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: How are you?\n\nAssistant: "


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def pair(row):
    return pair_of_row(row, detect(list(row), [row]))[:3]


@pytest.fixture
def rows(tmp_path):
    """`write(rows)` puts rows into a file and returns its name."""

    def write(rows):
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(file)

    return write


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        ({"prompt": "How are you?", "chosen": "Fine, thanks.", "rejected": "Fine, whatever."}, 1),
        ({"chosen": HH + "Fine, thanks.", "rejected": HH + "Fine, whatever."}, 3),
        (
            {
                "conversations": [{"from": "human", "value": "How are you?"}],
                "chosen": {"from": "gpt", "value": "Fine, thanks."},
                "rejected": {"from": "gpt", "value": "Fine, whatever."},
            },
            1,
        ),
        (
            {
                "input": {"messages": [user("How are you?")]},
                "preferred_output": [assistant("Fine, thanks.")],
                "non_preferred_output": [assistant("Fine, whatever.")],
            },
            1,
        ),
        (
            {
                "chosen": [user("How are you?"), assistant("Fine, thanks.")],
                "rejected": [user("How are you?"), assistant("Fine, whatever.")],
            },
            1,
        ),
    ],
    ids=["explicit prompt", "HH-RLHF", "ShareGPT", "OpenAI", "implicit prompt"],
)
def test_every_form_of_a_pair_is_read_alike_and_shared_openings_stay_in_the_answers(row, turns):
    prompt, chosen, rejected = pair(row)
    assert len(prompt) == turns and prompt[-1] == user("How are you?")
    assert (chosen, rejected) == ([assistant("Fine, thanks.")], [assistant("Fine, whatever.")])


def test_identical_answers_stay_answers():
    prompt, chosen, rejected = pair({"chosen": HH + "Fine.", "rejected": HH + "Fine."})
    assert len(prompt) == 3 and chosen == rejected == [assistant("Fine.")]


def test_sides_of_several_turns_part_at_the_first_answer_that_differs():
    start = [user("Hi"), assistant("Hello."), user("Two and two?")]
    row = {
        "chosen": [*start, assistant("Four."), user("Sure?"), assistant("Yes.")],
        "rejected": [*start, assistant("Five."), user("Sure?"), assistant("Yes.")],
    }
    prompt, chosen, rejected = pair(row)
    assert prompt == start
    assert [turn["content"] for turn in chosen] == ["Four.", "Sure?", "Yes."]
    assert [turn["content"] for turn in rejected] == ["Five.", "Sure?", "Yes."]


def test_a_prompt_is_kept_before_sides_of_several_turns():
    sides = {
        side: [assistant(word), user("Sure?"), assistant("Yes.")] for side, word in (("chosen", "4"), ("rejected", "5"))
    }
    prompt, chosen, _ = pair({"prompt": "Two and two?"} | sides)
    assert prompt == [user("Two and two?")] and len(chosen) == 3


def test_what_others_say_inside_a_completion_is_not_trained():
    tokenizer = load_tokenizer("starter")
    sides = [[assistant("Four."), user("Are you sure?"), assistant("Yes.")], [assistant("Five.")]]
    first, second = encode_completions([user("Two and two?")], sides, tokenizer)
    assert first.prompt_ids == second.prompt_ids
    kept = [token for token, on in zip(first.completion_ids, first.trained, strict=True) if on]
    text = tokenizer.decode(kept, skip_special_tokens=True)
    assert "Four." in text and "Yes." in text and "sure" not in text
    assert second.trained[-1] or second.trained[-2], "the stop token is trained"


def test_the_split_holds_both_sides_and_no_prompt_twice(workspace):
    source = DataConfig(source="brand_voice_preferences", max_rows=60)
    prepared = prepare(source, stage="dpo")
    run = workspace.create_run("pairs")
    freeze(prepared, run)
    row = read_split(run, "train")[0]
    assert row["messages"] == row["prompt"] + row["chosen"] and row["rejected"] != row["chosen"]
    prompts = {split: {json.dumps(row["prompt"]) for row in read_split(run, split)} for split in ("train", "test")}
    assert not prompts["train"] & prompts["test"]


def test_pairs_become_judged_answers_that_stay_on_one_side_of_the_split(rows):
    file = rows([{"prompt": f"Question {n}?", "chosen": f"Good {n}", "rejected": f"Bad {n}"} for n in range(40)])
    splits = prepare(DataConfig(source=file), stage="kto").splits
    assert sum(map(len, splits.values())) == 80
    for split in splits.values():
        assert sum(row["label"] for row in split) * 2 == len(split)
    assert {row["completion"][0]["content"][:4] for row in splits["train"] if row["label"]} == {"Good"}


def test_judged_rows_keep_both_labels(rows):
    judged = [{"prompt": f"Question {n}?", "completion": f"Answer {n}", "label": n % 4 != 0} for n in range(40)]
    splits = prepare(DataConfig(source=rows(judged)), stage="kto").splits
    assert sum(not row["label"] for split in splits.values() for row in split) == 10


@pytest.mark.parametrize(
    ("stage", "row", "message"),
    [
        ("dpo", {"prompt": "a", "completion": "b"}, "set stage: sft"),
        ("reward", {"prompt": "a", "completion": "b", "label": True}, "set stage: kto"),
        ("kto", {"prompt": "a", "completion": "b"}, "prompt + completion + label"),
    ],
)
def test_data_of_another_kind_are_refused_by_name(rows, stage, row, message):
    file = rows(
        [{name: f"{value} {n}" if value is not True else True for name, value in row.items()} for n in range(30)]
    )
    with pytest.raises(InputError) as refused:
        prepare(DataConfig(source=file), stage=stage)
    assert message in str(refused.value) and "columns prompt, completion" in str(refused.value)


def test_defects_of_pairs_are_counted(rows):
    pairs = [{"prompt": f"Question {n}?", "chosen": f"A long answer {n}", "rejected": f"No {n}"} for n in range(100)]
    for row in pairs[:5]:
        # Equal to whoever reads them: accents as letters of their own are the same text.
        row["chosen"] += " café"
        row["rejected"] = unicodedata.normalize("NFD", row["chosen"])
    pairs += [{"prompt": row["prompt"], "chosen": row["rejected"], "rejected": row["chosen"]} for row in pairs[10:13]]
    pairs += [{"prompt": f"Empty {n}?", "chosen": "Something", "rejected": ""} for n in range(4)]
    config = build_config(
        {"stage": "dpo", "data": {"source": rows(pairs), "validation_fraction": 0, "test_fraction": 0}}
    ).resolved()
    findings = {finding.code: finding for finding in check_preferences(prepare(config.data, stage="dpo"), config)}
    assert findings["identical_pairs"].count == 5
    assert findings["swapped_pairs"].count == 3
    assert findings["empty_side"].count == 4
    # 95 pairs with a longer chosen side, 3 the other way round.
    assert findings["length_bias"].figures["chosen_longer"] == pytest.approx(95 / 98)


def test_prompts_that_fill_the_length_are_counted(rows):
    pairs = [
        {"prompt": f"Question {n}? " + "word " * (90 if n < 7 else 1), "chosen": "Yes.", "rejected": "No."}
        for n in range(40)
    ]
    config = build_config(
        {
            "stage": "dpo",
            "data": {"source": rows(pairs), "validation_fraction": 0, "test_fraction": 0},
            "optimisation": {"max_length": 64},
        }
    ).resolved()
    findings = check_preferences(prepare(config.data, stage="dpo"), config, tokenizer=load_tokenizer("starter"))
    assert next(finding for finding in findings if finding.code == "prompt_fills").count == 7


def test_the_samples_choices_are_not_explained_by_length():
    config = build_config({"stage": "dpo", "data": {"source": "brand_voice_preferences"}}).resolved()
    assert [finding.kind for finding in check_preferences(prepare(config.data, stage="dpo"), config)] == ["info"]


def test_weights_balance_the_labels_as_the_paper_asks():
    # Ethayarajh et al. 2024, section 4.2: one good for ten bad answers asks for a weight of 10 to 13.3 on the good.
    assert balanced_weights(1, 10) == (10.0, 1.0)
    assert balanced_weights(30, 10) == (1.0, 3.0)


@pytest.mark.parametrize(("good", "bad", "wrong"), [(700, 300, 0.1), (50, 50, 0.25), (200, 800, 0.05)])
def test_wrong_labels_change_the_loss_of_kto_by_a_constant_alone(good, bad, wrong):
    """Expected over labels of which a share is wrong, and weighted, it is that of the right labels, balanced."""
    labels = [True] * round(good * (1 - wrong) + bad * wrong) + [False] * round(good * wrong + bad * (1 - wrong))
    config = build_config({"stage": "kto", "preference": {"label_smoothing": wrong}}).resolved()
    of_good, of_bad = kto_weights(config, labels)
    right = balanced_weights(good, bad)

    def loss(margin_of_good, margin_of_bad, weights, share):
        total = 0.0
        for number, margin, its in ((good, margin_of_good, 0), (bad, margin_of_bad, 1)):
            each = [
                weights[0] / (1 + math.exp(margin)),
                weights[1] / (1 + math.exp(-margin)),
            ]  # as a good, as a bad one
            total += number * ((1 - share) * each[its] + share * each[1 - its])
        return total

    margins = [(0.0, 0.0), (1.0, -1.0), (-2.0, 0.5), (3.0, 2.0)]
    gaps = [loss(*pair, (of_good, of_bad), wrong) - loss(*pair, right, 0.0) for pair in margins]
    assert gaps == pytest.approx([gaps[0]] * 4, rel=1e-6)


def test_more_wrong_labels_than_there_are_bad_answers_are_refused():
    config = build_config({"stage": "kto", "preference": {"label_smoothing": 0.2}}).resolved()
    with pytest.raises(InputError, match=r"0\.2, with 90 good and 10 bad answers.*below 0\.1"):
        kto_weights(config, [True] * 90 + [False] * 10)


def test_answers_that_are_all_good_are_refused(rows):
    judged = [{"prompt": f"Question {n}?", "completion": f"Answer {n}", "label": True} for n in range(40)]
    config = build_config({"stage": "kto", "data": {"source": rows(judged)}}).resolved()
    with pytest.raises(InputError, match="marked as good"):
        record_findings(prepare(config.data, stage="kto"), config)


def test_the_mismatched_answer_of_a_batch_is_seldom_that_of_the_same_prompt():
    import datasets

    answers = [
        {"prompt_ids": [n // 2], "completion_ids": [n], "completion_trained": [True], "label": n % 2 == 0}
        for n in range(41)
    ]
    made = mismatched(datasets.Dataset.from_list(answers), 8, seed=0)
    assert sorted(row["completion_ids"][0] for row in made) == list(range(41))
    assert all(row["KL_completion_ids"] != row["completion_ids"] for row in made)
    same = sum(row["KL_completion_ids"][0] // 2 == row["prompt_ids"][0] for row in made)
    assert same < 10  # in the order of the pairs it is 21


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stage": "dpo", "method": {"name": "bottleneck"}}, "lora, dora, qlora, full"),
        ({"stage": "dpo", "method": {"initialisation": "pissa"}}, "rewrites the base"),
        ({"stage": "cpo", "preference": {"loss": "robust"}}, "simpo"),
        ({"stage": "kto", "optimisation": {"batch_size": 1}}, "2 or more"),
        ({"stage": "kto", "preference": {"watch": "accuracy"}}, "instead of pairs"),
    ],
)
def test_settings_that_a_stage_cannot_do_are_refused(settings, message):
    with pytest.raises(InputError) as refused:
        check_preference(build_config(settings).resolved())
    assert message in str(refused.value)


@pytest.fixture
def adapter(tmp_path):
    """A folder that looks like a saved LoRA of another base."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    saved = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 4,
        "lora_alpha": 8,
        "base_model_name_or_path": "some/base",
    }
    (folder / "adapter_config.json").write_text(json.dumps(saved))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def test_base_and_method_come_from_what_a_run_starts_from(adapter, workspace):
    config, start = resolve_start(build_config({"model": {"start": str(adapter)}}), workspace)
    assert config.model.base == "some/base" and start.adapter == adapter
    assert (config.method.name, config.method.rank, config.method.alpha) == ("lora", 4, 8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"model": {"base": "other/base"}}, "some/base"), ({"method": {"name": "full"}}, "lora")],
)
def test_a_start_that_contradicts_the_settings_is_refused(adapter, workspace, settings, message):
    values = {"model": {"start": str(adapter)} | settings.get("model", {})} | {"method": settings.get("method", {})}
    with pytest.raises(InputError) as refused:
        resolve_start(build_config(values), workspace)
    assert message in str(refused.value)


def test_an_adapter_without_safe_weights_is_no_start(adapter, workspace):
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(InputError, match="safetensors"):
        resolve_start(build_config({"model": {"start": str(adapter)}}), workspace)


def test_an_adapter_that_does_not_say_its_rank_is_no_start(adapter, workspace):
    saved = json.loads((adapter / "adapter_config.json").read_text())
    del saved["r"]
    (adapter / "adapter_config.json").write_text(json.dumps(saved))
    with pytest.raises(InputError, match="how large"):
        resolve_start(build_config({"model": {"start": str(adapter)}}), workspace)


def tokenised(tmp_path, stage, answers, limit, name="run"):
    """The kept training rows of pairs whose chosen answers have so many words, and what the run was told."""
    from ftlab.core.files import write_text
    from ftlab.core.run_directory import RunDirectory
    from ftlab.training.preferences import tokenised_preferences
    from ftlab.training.status import StatusWriter

    file = tmp_path / f"{name}.jsonl"
    made = [{"prompt": f"Say it {n}.", "chosen": "yes " * count, "rejected": "No."} for n, count in enumerate(answers)]
    file.write_text("".join(json.dumps(row) + "\n" for row in made))
    optimisation = {"max_length": limit}
    values = {"stage": stage, "data": {"source": str(file), "test_fraction": 0}, "optimisation": optimisation}
    config = build_config(values | {"data": values["data"] | {"validation_fraction": 0}}).resolved()
    run = RunDirectory(tmp_path / name)
    freeze(prepare(config.data, stage=stage), run)
    write_text(run.config_file, config.to_yaml())
    writer = StatusWriter(run.status_file)
    try:
        splits = tokenised_preferences(run, config, load_tokenizer("starter"), writer)
        return splits["train"], writer.status.warnings, run.manifest()["tokens"]["train"]
    finally:
        writer.close()


@pytest.mark.parametrize("stage", ["dpo", "reward"])
def test_pairs_with_an_answer_that_is_too_long_are_left_out_as_examples_are(tmp_path, stage):
    kept, warnings, counted = tokenised(tmp_path, stage, [3] * 20 + [400] * 8, 128)
    assert len(kept) == 20 and counted["too_long"] == 8 and "cut" not in counted
    assert any("8 of 28 train rows are longer than 128 tokens and were left out" in line for line in warnings)


def test_where_most_would_go_their_answers_are_cut_and_that_is_said(tmp_path):
    kept, warnings, counted = tokenised(tmp_path, "dpo", [3] * 12 + [400] * 16, 128)
    assert len(kept) == 28 and counted["cut"] == 16 and "too_long" not in counted
    assert max(len(p) + len(c) for p, c in zip(kept["prompt_ids"], kept["chosen_ids"], strict=True)) == 128
    assert any("fewer than half of the rows fit whole" in line for line in warnings)
    kept, _, counted = tokenised(tmp_path, "reward", [3] * 12 + [400] * 16, 128, name="reward")
    assert len(kept) == 12 and counted["too_long"] == 16, "a reward model never sees a cut answer"


@pytest.mark.parametrize(
    ("steps", "message"),
    [(9, "9 steps on 72 rows, learning rate 5e-05). Too few steps"), (40, "three times as high")],
)
def test_a_margin_that_may_be_chance_is_called_that(tmp_path, steps, message):
    from ftlab.core.files import append_jsonl
    from ftlab.core.run_directory import RunDirectory
    from ftlab.evaluation.before_after import _about_effect

    run = RunDirectory(tmp_path)
    append_jsonl(run.metrics_file, {"step": steps, "loss": 0.69})
    optimisation = {"learning_rate": 5e-5, "batch_size": 2, "gradient_accumulation": 4}
    config = build_config({"stage": "dpo", "optimisation": optimisation})
    (note,) = _about_effect(run, config, {"margin": 0.1, "margin_p": 0.2})
    assert "may be chance" in note and message in note
    assert _about_effect(run, config, {"margin": 0.1, "margin_p": 0.01}) == []
    (note,) = _about_effect(run, config, {"margin": -0.2, "margin_p": 0.01})
    assert "below that of the start by more than chance (-0.2)" in note
    simpo = build_config({"stage": "cpo", "optimisation": optimisation})
    assert _about_effect(run, simpo, {"margin": 0.1, "margin_p": 0.2}) == [], "its margin does not start at 0"


def test_ties_are_no_losses_and_pairs_of_one_prompt_count_together():
    from scipy.stats import binomtest

    from ftlab.evaluation.before_after import _figures

    # 12 won, 3 lost, 25 ties: a model that has learned little, and nothing swapped.
    chosen = [1.0] * 12 + [0.0] * 3 + [0.0] * 25
    rejected = [0.0] * 12 + [1.0] * 3 + [0.0] * 25
    alone = _figures(chosen, rejected, "score", [str(place) for place in range(40)])
    assert (alone["accuracy"], alone["ties"]) == (0.3, 25)
    assert alone["p"] == pytest.approx(binomtest(12, 15).pvalue)
    # The same 40 pairs from two prompts are two observations.
    two = _figures(chosen, rejected, "score", ["a"] * 20 + ["b"] * 20)
    assert two["p"] == 1.0 and two["interval"][1] - two["interval"][0] > 0.6
