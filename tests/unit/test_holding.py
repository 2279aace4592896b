"""Self replay: what the base says by itself is frozen before training, and held while a run trains."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch

from ftlab.config import DataConfig, build_config, load_config, with_settings
from ftlab.config.methods import METHODS
from ftlab.core.files import limited_to, read_jsonl, write_text
from ftlab.core.jobs import write_status
from ftlab.core.run_directory import RunDirectory
from ftlab.data.splits import freeze, prepare, read_split
from ftlab.errors import InputError
from ftlab.training.self_replay import NEW_TOKENS, ensure_answers, mixed_in_words, read_answers
from ftlab.training.status import RunStatus, StatusWriter
from tests.small_runs import make_base

PROMPTS = [
    {"prompt": f"{what} {n}?", "kind": what}
    for what in ("Count to", "Name a colour for", "Greet guest")
    for n in ("one", "two", "three", "four")
]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("base"))


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def make_run(folder, base, method=None, **settings):
    """A frozen run on 40 rows with eight prompts for the base, its status, and its configuration."""
    source = write(
        folder / "rows.jsonl", [{"prompt": f"Say {n}", "completion": f"{n * 7 % 13} it is"} for n in range(40)]
    )
    data = {"source": source, "replay": f"self:{write(folder / 'prompts.jsonl', PROMPTS)}", "replay_fraction": 0.25}
    values = {
        "model": {"base": str(base), "dtype": "float32"},
        "data": data | settings.pop("data", {}),
        "method": method or {"name": "lora"},
        "optimisation": {"batch_size": 4, "max_steps": 2, "learning_rate": 1e-2} | settings.pop("optimisation", {}),
        "launcher": {"device": "cpu"},
    }
    config = build_config(values | settings).resolved()
    run = RunDirectory(folder / "run")
    freeze(prepare(config.data, stage=config.stage), run)
    write_text(run.config_file, config.to_yaml())
    write_status(run.status_file, RunStatus(created=0.0))
    return run, config, StatusWriter(run.status_file)


def prepared(run, config, writer):
    from ftlab.training.sft import prepare_training

    return prepare_training(run, config, writer).trainer


def move(model):
    """Away from the base, so that there is something to measure."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.05 * torch.randn(weight.shape, generator=generator))


def batch_of(trainer, places):
    trainer._set_signature_columns_if_needed()
    return trainer.data_collator([trainer.train_dataset[place] for place in places])


def loss_of(trainer, batches):
    """The loss of one step that accumulates `batches`, as the Trainer asks for it."""
    trainer.model.train()
    items = trainer._get_num_items_in_batch(batches, torch.device("cpu"))
    return sum(trainer.compute_loss(trainer.model, dict(one), num_items_in_batch=items) for one in batches)


def plain_loss(trainer, base, places, most=256, loss="nll"):
    """The same from whole logits, row by row: the words beyond the `most` likeliest count as one. With another `loss`
    tokens of the task are weighted, and those that are held are not."""
    from transformers import AutoModelForCausalLM

    teacher = AutoModelForCausalLM.from_pretrained(base)
    total, tokens = 0.0, 0
    for place in places:
        row = trainer.train_dataset[place]
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])[1:]
        on = labels != -100
        tokens += int(on.sum())
        q = trainer.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -len(row["labels"]) : -1][on]
        if row["held"] < 0:
            each = torch.nn.functional.cross_entropy(q, labels[on], reduction="none")
            top = q.detach().topk(20).values.softmax(-1)
            weights = {
                "nll": torch.ones_like(each),
                "dft": torch.exp(-each.detach()),
                "eaft": -(top * top.log()).sum(-1) / math.log(20),
            }
            total += (weights[loss] * each).sum()
            continue
        with torch.no_grad():
            p = teacher(input_ids=ids).logits[0, :-1][on].softmax(-1)
        order = p.argsort(-1, descending=True)
        p, q = p.gather(-1, order), q.softmax(-1).gather(-1, order)
        p, q = (torch.cat([one[:, :most], one[:, most:].sum(-1, keepdim=True)], -1) for one in (p, q))
        total += (p * (p / q).log()).sum()
    return total / tokens


# Some of the task and some of the answers of the base, in no order.
def mixed_places(trainer):
    held = trainer.train_dataset["held"]
    own = [place for place, number in enumerate(held) if number >= 0]
    return [0, own[0], 1, own[2], own[1], 2]


@pytest.mark.parametrize(
    "layout, loss",
    [(layout, "nll") for layout in ("packed", "packed, by TRL", "padded")]
    + [(layout, loss) for layout in ("packed", "packed, by TRL") for loss in ("dft", "eaft")],
)
def test_the_loss_is_the_divergence_on_what_is_held_and_that_of_the_labels_elsewhere(
    tmp_path, base, layout, loss, monkeypatch
):
    from ftlab.training import speed as varlen
    from ftlab.training import trainer as head

    trainer = prepared(*make_run(tmp_path, base, optimisation={"loss": loss}))
    move(trainer.model)
    places = mixed_places(trainer)
    if layout == "packed, by TRL":
        monkeypatch.setattr(head, "MOST_BYTES", 0)
    if layout == "padded":
        varlen.leave(trainer.model)
        trainer.data_collator.padding_free = False
    losses = [
        loss_of(trainer, [batch_of(trainer, places)]),
        loss_of(trainer, [batch_of(trainer, places[:3]), batch_of(trainer, places[3:])]),
    ]
    gradients = []
    for found in losses:
        trainer.model.zero_grad()
        found.backward()
        gradients.append(torch.cat([one.grad.flatten() for one in trainer.model.parameters() if one.requires_grad]))
    varlen.leave(trainer.model)
    trainer.model.zero_grad()
    expected = plain_loss(trainer, base, places, loss=loss)
    expected.backward()
    wanted = torch.cat([one.grad.flatten() for one in trainer.model.parameters() if one.requires_grad])
    assert float(trainer._metrics["train"]["kl"][0]) > 0.05  # it has moved
    for found, gradient in zip(losses, gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("logits_fit", [True, False])
def test_dft_is_the_loss_of_that_name_in_trl_and_validation_stays_the_likelihood(
    tmp_path, base, logits_fit, monkeypatch
):
    from ftlab.training import trainer as head

    trainer = prepared(*make_run(tmp_path, base, data={"replay": "none"}, optimisation={"loss": "dft"}))
    move(trainer.model)
    batches = [batch_of(trainer, [0, 1, 2])]
    if not logits_fit:
        monkeypatch.setattr(head, "MOST_BYTES", 0)
    ours = loss_of(trainer, batches)
    trainer.model.eval()
    validation = trainer.compute_loss(trainer.model, dict(batches[0]))
    trainer._plain_loss, trainer._token_loss = False, "nll"
    plain = loss_of(trainer, batches)
    trainer.args.loss_type = "dft"
    torch.testing.assert_close(ours, loss_of(trainer, batches))
    torch.testing.assert_close(validation, plain)
    assert float(ours) < float(plain)


def test_eaft_is_refused_where_the_logits_are_not_those_of_the_head_alone(tmp_path, base, monkeypatch):
    from ftlab.errors import FtlabError
    from ftlab.training import trainer as head
    from ftlab.training import trainer as holding

    trainer = prepared(*make_run(tmp_path, base, data={"replay": "none"}, optimisation={"loss": "eaft"}))
    monkeypatch.setattr(head, "MOST_BYTES", 0)
    plain = holding.head_logits
    monkeypatch.setattr(holding, "head_logits", lambda *given: plain(*given) * 3)  # a scale that nobody told it of
    with pytest.raises(FtlabError, match="cannot be computed on this base"):
        loss_of(trainer, [batch_of(trainer, [0, 1])])


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"stage": "dpo", "optimisation": {"loss": "eaft"}}, ["eaft", "the stage dpo", "sft"]),
        (
            {"optimisation": {"loss": "dft"}, "trainer": {"label_smoothing_factor": 0.1}},
            ["Label smoothing", "dft", "remove one of the two"],
        ),
    ],
)
def test_a_loss_is_refused_where_it_would_not_be_what_its_name_says(settings, words):
    from ftlab.models.methods import check_method

    with pytest.raises(InputError) as caught:
        check_method(build_config(settings).resolved())
    for word in words:
        assert word in str(caught.value)


def test_only_rows_of_the_task_make_the_loss_that_chooses_the_best_weights(tmp_path, base):
    trainer = prepared(*make_run(tmp_path, base))
    assert "held" not in trainer.eval_dataset.column_names and len(trainer.eval_dataset) == 4
    assert trainer.train_dataset["held"][-8:] == list(range(8))


# Virtual tokens stand before the text from the start, and 4 bits are those of the run's own base.
@pytest.mark.parametrize("method", [*METHODS, "pissa"])
def test_every_method_is_held_and_starts_where_the_base_is(tmp_path, base, method):
    chosen = {"name": "lora", "initialisation": "pissa"} if method == "pissa" else {"name": method}
    trainer = prepared(*make_run(tmp_path, base, chosen))
    held = [place for place, number in enumerate(trainer.train_dataset["held"]) if number >= 0][:3]

    def held_loss():
        loss = loss_of(trainer, [batch_of(trainer, held)])
        trainer.model.zero_grad()
        loss.backward()
        slopes = [one.grad.abs().max().item() for one in trainer.model.parameters() if one.grad is not None]
        return float(loss.detach()), max(slopes)

    loss, slope = held_loss()
    if method in ("prefix_tuning", "prompt_tuning"):
        assert loss > 1e-3 and slope > 1e-4
    else:
        assert abs(loss) < 1e-4 and slope < 2e-3
    move(trainer.model)
    moved, pull = held_loss()
    assert moved > 1e-3 and pull > max(1e-3, 2 * slope if loss < 1e-4 else 0)


@pytest.mark.parametrize("kind", ["Llama", "Gemma2", "Granite", "Cohere"])
def test_the_head_is_computed_as_each_family_does(kind):
    import transformers

    from ftlab.training.trainer import head_logits, hidden_states

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    families = {
        "Gemma2": {"final_logit_softcapping": 5.0, "head_dim": 8},
        "Granite": {"logits_scaling": 4.0},
        "Cohere": {"logit_scale": 0.5, "pad_token_id": 0},
    }
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=50, num_key_value_heads=2, initializer_range=0.5, **sizes, **families.get(kind, {})
    )
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with torch.no_grad(), hidden_states(model) as seen:
        logits = model(input_ids=torch.arange(12)[None]).logits[0]
        torch.testing.assert_close(head_logits(model, seen[-1][0]), logits)


def test_the_divergence_from_some_words_is_a_part_of_the_whole_one():
    from ftlab.training.trainer import divergence, shortened

    generator = torch.Generator().manual_seed(0)
    of_base = 3 * torch.randn(5, 400, generator=generator)
    model = of_base + torch.randn(5, 400, generator=generator)
    p, q = of_base.double().log_softmax(-1), model.double().log_softmax(-1)
    whole = float((p.exp() * (p - q)).sum())
    parts = [float(divergence(model, *shortened(of_base, most))) for most in (8, 64, 256, 1000)]
    assert parts == sorted(parts) and parts[-1] == pytest.approx(whole, rel=1e-5) and parts[2] > 0.9 * whole
    assert abs(float(divergence(of_base, *shortened(of_base, 64)))) < 1e-5


def test_answers_are_made_once_and_a_run_that_goes_on_takes_the_same(tmp_path, base):
    own = tmp_path / "base"
    shutil.copytree(base, own)
    run, config, writer = make_run(tmp_path, own)
    assert ensure_answers(run, config, writer) > 0
    first = [file.read_bytes() for file in (run.self_replay_file, run.teacher_file)]
    shutil.rmtree(own)  # nobody can ask it again
    assert ensure_answers(run, config, writer) == 0
    assert [file.read_bytes() for file in (run.self_replay_file, run.teacher_file)] == first


def test_an_answer_that_the_limit_cut_does_not_teach_to_stop_there(tmp_path, base):
    from ftlab.data.rendering import stop_token_ids
    from ftlab.models.load import load_tokenizer

    run, config, writer = make_run(tmp_path, base)
    ensure_answers(run, config, writer)
    stops = stop_token_ids(load_tokenizer(str(base)))
    held = read_answers(run, 512)
    trained = [[label for label in row["labels"] if label != -100] for row in held.rows]
    cut = [labels for labels in trained if len(labels) >= NEW_TOKENS - 8]
    assert cut and not any(set(labels) & set(stops) for labels in cut)  # a random base never ends
    assert held.teacher.starts[-1] == sum(map(len, trained)) == len(held.teacher.top)
    shortest = min(len(row["input_ids"]) for row in held.rows)
    few = read_answers(run, shortest)
    assert 0 < len(few.rows) < len(held.rows) and few.teacher.starts[-1] == len(few.teacher.log_probs)


def test_a_measurement_answers_some_prompts_for_all(tmp_path, base):
    run, config, writer = make_run(tmp_path, base)
    assert ensure_answers(run, config, writer, sample=2) > 0
    held = read_answers(run, 512)
    assert len(held.rows) == 8 and held.rows[0] == held.rows[6]
    assert torch.equal(held.teacher.top[held.teacher.of(1)], held.teacher.top[held.teacher.of(7)])


def test_the_prompts_are_frozen_with_the_data_and_none_is_a_held_out_one(tmp_path, base):
    run, config, _ = make_run(tmp_path, base)
    told, prompts = run.manifest()["replay"], read_jsonl(run.replay_prompts_file)
    assert told["rows"] == len(prompts) == 8 and set(told["kinds"]) == {one["kind"] for one in prompts}
    assert (told["answers"], told["loss"]) == ("the base's own", "kl")
    assert all(turns[-1]["role"] == "user" for turns in (one["messages"] for one in prompts))
    assert all(row["source"] != "replay" for row in read_split(run, "train"))
    source = write(tmp_path / "same.jsonl", [{"prompt": one["prompt"], "completion": "-"} for one in PROMPTS * 2])
    data = DataConfig(source=source, replay=config.data.replay, near_duplicates="apart", test_fraction=0.4)
    found = prepare(data)
    held_out = {row["messages"][0]["content"] for row in found.splits["test"]}
    assert held_out and not held_out & {one["messages"][-1]["content"] for one in found.replay_prompts}


def test_where_prompts_are_fewer_than_the_share_each_is_held_more_often(tmp_path, base):
    run, config, writer = make_run(tmp_path, base, data={"replay_fraction": 1.0})
    told = run.manifest()["replay"]
    assert (told["wanted"], len(read_jsonl(run.replay_prompts_file)), told["times"], told["rows"]) == (32, 12, 3, 36)
    trainer = prepared(run, config, writer)
    assert trainer.train_dataset["held"] == [-1] * 32 + list(range(12)) * 3
    first = trainer.train_dataset["held"].index(0)
    once, again = (float(loss_of(trainer, [batch_of(trainer, [place])]).detach()) for place in (first, first + 12))
    assert once == again


def test_plain_text_is_learned_beside_what_the_base_says_in_a_chat(tmp_path, base):
    texts = write(tmp_path / "texts.jsonl", [{"text": f"Story {n}. Once there was a {n}."} for n in range(40)])
    trainer = prepared(*make_run(tmp_path, base, stage="pretraining", data={"source": texts}))
    assert trainer.train_dataset["held"] == [-1] * 32 + list(range(8))
    move(trainer.model)
    places = [0, 32, 1, 33]
    loss = loss_of(trainer, [batch_of(trainer, places)])
    from ftlab.training import speed as varlen

    varlen.leave(trainer.model)
    torch.testing.assert_close(loss, plain_loss(trainer, base, places), rtol=1e-4, atol=1e-5)


def test_by_default_a_real_base_is_held_and_nothing_is_mixed_in_where_that_does_not_work(tmp_path):
    def settled(**values):
        return build_config(values).resolved().data.replay

    real = {"model": {"base": "smollm2"}}
    assert settled(**real) == settled(**real, stage="pretraining") == "self"
    assert settled() is None and settled(**real, stage="dpo") is None and settled(**real, stage="grpo") is None
    assert settled(**real, data={"replay": "none"}) is None and settled(**real, data={"replay": None}) is None
    assert settled(**real, data={"replay": "general.jsonl"}) == "general.jsonl"
    with pytest.raises(InputError, match="has no rejected answers"):
        prepare(DataConfig(source="brand_voice_preferences", replay="self"), stage="dpo")
    with pytest.raises(InputError, match="the model writes the answers itself"):
        prepare(DataConfig(source="support_triage", replay="self"), stage="grpo")


def test_a_stored_configuration_that_says_nothing_is_replayed_still_means_it(tmp_path):
    stored = tmp_path / "config.yaml"
    for said in ("null", "none", "''"):
        stored.write_text(f"model: {{base: smollm2}}\ndata: {{replay: {said}, replay_text: {said}}}\n")
        data = load_config(stored).resolved().data
        assert data.replay is None and data.replayed == []


def test_prompts_of_ones_own_are_a_path_like_any_other(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out.jsonl"
    inside.mkdir()
    with limited_to([inside]):
        build_config({"data": {"replay": f"self:{inside / 'prompts.jsonl'}"}})
        for values in ({"data": {"replay": f"self:{outside}"}}, {"data": {"replay": " self:../out.jsonl"}}):
            with pytest.raises(InputError, match="its workspace"):
                build_config(values)
        with pytest.raises(InputError, match="its workspace"):
            with_settings(build_config(), {"data.replay": f"self:{outside}"})


def test_of_the_shipped_prompts_at_least_thirty_are_answered_and_it_is_said(tmp_path, base):
    _, config, _ = make_run(tmp_path, base, data={"replay": "self"})
    manifest = prepare(config.data, stage="sft").manifest
    assert (manifest["replay"]["rows"], manifest["replay"]["times"]) == (30, 1)
    assert mixed_in_words(config, manifest) == "30 of the base's own answers are mixed in against forgetting"
    config.data.replay = None
    assert "data.replay is none" in mixed_in_words(config, prepare(config.data, stage="sft").manifest)
    for stage, beta in (("dpo", "preference.beta"), ("orpo", None)):
        said = mixed_in_words(build_config({"stage": stage, "model": {"base": "smollm2"}}).resolved(), {})
        assert f"the stage {stage} has no rows" in said and ("reference model" in said) == bool(beta)
        assert "measured after training" in said


def test_a_base_that_answered_for_one_run_is_not_asked_again_by_the_next(tmp_path, base):
    own = tmp_path / "base"
    shutil.copytree(base, own)
    (tmp_path / "one").mkdir()
    run, config, _ = make_run(tmp_path / "one", own)
    runs = tmp_path / "runs"
    shutil.move(run.path, runs / "first")
    first = RunDirectory(runs / "first")
    ensure_answers(first, config, StatusWriter(first.status_file))
    second = RunDirectory(runs / "second")
    config.data.replay_fraction = 0.2  # six of the same eight, and in another order
    prepared_data = prepare(config.data, stage="sft")
    prepared_data.replay_prompts = read_jsonl(first.replay_prompts_file)[:6][::-1]
    freeze(prepared_data, second)
    write_status(second.status_file, RunStatus(created=0.0))
    assert ensure_answers(second, config, StatusWriter(second.status_file)) == 0
    all_of, some = read_answers(first, 512), read_answers(second, 512)
    for place, row in enumerate(some.rows):
        other = 5 - place
        assert row == all_of.rows[other]
        one, two = some.teacher, all_of.teacher
        assert torch.equal(one.log_probs[one.of(place)], two.log_probs[two.of(other)])


def test_with_nll_the_answers_are_learned_like_all_others(tmp_path, base):
    run, config, writer = make_run(tmp_path, base, data={"replay_loss": "nll"})
    trainer = prepared(run, config, writer)
    assert not run.teacher_file.exists()
    places = mixed_places(trainer)
    move(trainer.model)
    loss = float(loss_of(trainer, [batch_of(trainer, places)]).detach())
    assert "kl" not in trainer._metrics["train"] and math.isfinite(loss)
    nats = 0.0
    for place in places:
        row = trainer.train_dataset[place]
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])[1:]
        from ftlab.training import speed as varlen

        varlen.leave(trainer.model)
        logits = trainer.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, :-1]
        nats += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum").detach())
    tokens = sum(label != -100 for place in places for label in trainer.train_dataset[place]["labels"][1:])
    assert loss == pytest.approx(nats / tokens, rel=1e-4)
