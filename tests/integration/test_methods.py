"""Every method trains for real on the starter, is saved, comes back in a fresh load, and leaves the base as it was."""

from __future__ import annotations

import json

import pytest
import torch

from ftlab.config import build_config
from ftlab.data.rendering import encode
from ftlab.data.splits import read_split
from ftlab.models.load import adapter_disabled, load_base, load_run, load_trained_base
from ftlab.training import supervisor

pytestmark = pytest.mark.train


@pytest.fixture(scope="module", params=["lora", "qlora", "full"])
def trained(request, tmp_path_factory):
    """A short run of each method on eighty made-up rows."""
    from ftlab.workspace import Workspace

    folder = tmp_path_factory.mktemp(request.param)
    rows = [{"prompt": f"Code of item {n}?", "completion": f"ITEM-{n % 7}-OK"} for n in range(80)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = build_config(
        {
            "data": {"source": str(folder / "rows.jsonl")},
            "method": {"name": request.param},
            "optimisation": {"max_steps": 24, "evaluations_per_epoch": 1},
            "evaluation": {"after_training": False},
        }
    )
    run = supervisor.submit(config, Workspace.open(folder / "workspace"))
    status = supervisor.wait(run)
    assert status.state == "completed", status.error
    return run, config.resolved(), status


def test_it_learns_and_says_how_much_it_trains(trained):
    run, config, status = trained
    losses = [row["eval_loss"] for row in run.metrics() if "eval_loss" in row]
    assert min(losses) < losses[0]
    share = status.trained_parameters / status.total_parameters
    assert share == 1 if config.method.name == "full" else 0 < share < 0.2


def test_the_saved_result_is_the_trained_one_and_not_the_base(trained):
    run, config, _ = trained
    finding = run.verification()
    assert finding["changes_logits"]
    # A 4-bit base on a CPU goes through another kernel of bitsandbytes once it has been trained on (seen: 0.13).
    allowed = 0.1 * finding["largest_change"] if config.method.name == "qlora" else 1e-4
    assert finding["reload_difference"] < allowed


def test_the_base_comes_back_bit_for_bit_when_the_adapter_is_off(trained):
    run, config, _ = trained
    model, tokenizer = load_run(run)
    row = encode(read_split(run, "test")[0]["messages"], tokenizer)
    ids = torch.tensor([row.input_ids])
    if config.method.name == "full":
        with pytest.raises(TypeError, match="no adapter to switch off"), adapter_disabled(model):
            pass
        return
    base = load_trained_base(config)
    with torch.no_grad():
        alone = base(ids).logits
        with adapter_disabled(model) as switched_off:
            assert torch.equal(switched_off(ids).logits, alone)
        assert not torch.equal(model(ids).logits, alone)


def test_only_the_answers_are_trained_and_the_stop_token_is(trained):
    run, _, _ = trained
    _, tokenizer = load_run(run)
    for row in read_split(run, "train")[:5]:
        encoded = encode(row["messages"], tokenizer)
        kept = [token for token, trained in zip(encoded.input_ids, encoded.trained, strict=True) if trained]
        assert tokenizer.decode(kept) == row["messages"][-1]["content"] + tokenizer.eos_token
        assert kept[-1] == tokenizer.eos_token_id


def test_the_best_weights_are_kept_and_the_disk_is_not_filled(trained):
    run, _, _ = trained
    assert 1 <= len(list(run.checkpoints.glob("checkpoint-*"))) <= 2
    weights = list((run.adapter if run.adapter.exists() else run.model).glob("*.safetensors"))
    assert len(weights) == 1


def test_the_base_on_disk_is_untouched(trained):
    _, config, _ = trained
    again = load_base(config.model)
    assert again.dtype == torch.float32
