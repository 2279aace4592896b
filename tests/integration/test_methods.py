"""Every method trains for real on the starter, comes back in a fresh process, and leaves the base as it was."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from ftlab.config import ModelConfig, RunConfig, build_config
from ftlab.core.files import write_text
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.data.rendering import encode
from ftlab.data.splits import freeze, prepare, read_split
from ftlab.evaluation.losses import score_losses
from ftlab.export.export import export_run
from ftlab.models.adapters import adapter_disabled
from ftlab.models.load import load_base, load_run
from ftlab.models.methods import size_of
from ftlab.training.sft import train_sft
from ftlab.training.status import RunStatus, StatusWriter
from ftlab.training.verify import verify_saved
from tests.conftest import ROOT, offline_environment
from tests.integration.fresh_process import fixed_text

pytestmark = pytest.mark.train

# The weights that each trains are checked against the papers: see `expected_weights`.
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"name": "lora"},
    "pissa": {"name": "lora", "initialisation": "pissa"},
    "olora on two targets": {
        "name": "lora",
        "initialisation": "olora",
        "targets": "q_proj, v_proj",
        "rank_stabilised": True,
        "alpha": 16,
    },
    "dora": {"name": "dora"},
    "qlora nf4": {"name": "qlora"},
    "qlora int8": {"name": "qlora", "quantisation": "int8"},
    "ia3": {"name": "ia3"},
    "houlsby": {"name": "bottleneck"},
    "pfeiffer": {"name": "bottleneck", "placement": "pfeiffer", "activation": "gelu"},
    "prefix tuning": {"name": "prefix_tuning"},
    "prompt tuning": {"name": "prompt_tuning", "initial_text": "Answer with the code of the item."},
    "full": {"name": "full"},
}
RESUMED = ("pissa", "houlsby", "prompt tuning")
STEPS, FIRST_CHECKPOINT = 8, 4


@dataclass(frozen=True)
class Finished:
    run: RunDirectory
    config: RunConfig
    status: RunStatus


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace.open(tmp_path_factory.mktemp("methods"))


@pytest.fixture(scope="module")
def rows(workspace):
    lines = [{"prompt": f"Code of item {n}?", "completion": f"ITEM-{n % 7}-OK"} for n in range(80)]
    file = workspace.root / "rows.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.fixture(scope="module")
def all_runs(workspace, rows):
    """A run of eight steps by each method, all in this process: only the libraries take long to load."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield {name: train(workspace, rows, settings) for name, settings in METHODS.items()}
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def fresh(all_runs, workspace):
    """What another process, started now, makes of the saved results."""
    output = workspace.root / "fresh.pt"
    folders = {name: str(done.run.path) for name, done in all_runs.items()}
    command = [sys.executable, "-m", "tests.integration.fresh_process", str(output), *folders.values()]
    environment = offline_environment() | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    found = torch.load(output)
    return {name: found[folder] for name, folder in folders.items()}


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


@pytest.fixture
def trained(all_runs, method):
    return all_runs[method]


def train(workspace: Workspace, rows: Path, method: dict[str, Any], checkpoint: Path | None = None) -> Finished:
    config = build_config(
        {
            "data": {"source": str(rows)},
            "method": method,
            "optimisation": {"max_steps": STEPS, "evaluations_per_epoch": 1, "warmup_fraction": 0},
            "evaluation": {"after_training": False},
            "launcher": {"device": "cpu", "threads": 1},
        }
    ).resolved()
    run = workspace.create_run("methods")
    freeze(prepare(config.data, workspace=workspace), run)
    write_text(run.config_file, config.to_yaml())
    if checkpoint:
        shutil.copytree(checkpoint, run.checkpoints / checkpoint.name)
    writer = StatusWriter(run.status_file)
    try:
        train_sft(run, config, writer)
        verify_saved(run, config, writer)
        writer.update(state="completed", phase="")
    finally:
        writer.close()
    return Finished(run, config, writer.status)


def result_file(run: RunDirectory) -> Path:
    return next((run.adapter if run.adapter.exists() else run.model).glob("*.safetensors"))


def expected_weights(method: str) -> int:
    """Trained weights of the starter (6 layers of width 192; feed-forward 512; no bias), from the papers' formulas."""
    layers, width, inner = 6, 192, 512
    shapes = [(width, width)] * 4 + [(width, inner)] * 2 + [(inner, width)]
    lora = layers * sum(16 * (a + b) for a, b in shapes)
    size = width // 8
    one = (width * size + size) + (size * width + width)
    return {
        "olora on two targets": layers * 2 * 16 * 2 * width,
        "dora": lora + layers * sum(b for _, b in shapes),
        "ia3": layers * (2 * width + inner),
        "houlsby": layers * 2 * one,
        "pfeiffer": layers * one,
        "prefix tuning": layers * 2 * 20 * width,
        "prompt tuning": 20 * width,
        "full": 3_040_704,
    }.get(method, lora)


def test_the_loss_falls(trained):
    losses = [row["eval_loss"] for row in trained.run.metrics() if "eval_loss" in row]
    assert min(losses) < 0.95 * losses[0]


def test_held_out_rows_are_answered_as_it_learns(trained):
    held_out, samples = read_split(trained.run, "validation")[:3], trained.run.samples()
    assert samples[0]["step"] == 0 < samples[-1]["step"]
    assert len(samples) % 3 == 0
    for row, sample in zip(held_out, samples[:3], strict=True):
        assert [turn["content"] for turn in row["messages"][-2:]] == [sample["prompt"], sample["reference"]]


def test_it_trains_the_weights_that_its_paper_says(trained, method):
    assert trained.status.trained_parameters == expected_weights(method)


@pytest.mark.parametrize("method, least, most", [("houlsby", 0.02, 0.04), ("lora", 0.1, 0.11), ("full", 1, 1)])
def test_the_share_that_is_trained_is_said(all_runs, method, least, most):
    status = all_runs[method].status
    assert least <= status.trained_parameters / status.total_parameters <= most


def test_size_and_weights_are_known_before_the_run(trained):
    known = size_of(trained.config.method, trained.config.model)
    assert known.weights_bytes == result_file(trained.run).stat().st_size
    assert (known.trained, known.total) == (trained.status.trained_parameters, trained.status.total_parameters)


def test_what_was_saved_is_what_was_trained_and_not_the_base(trained, method):
    finding = trained.run.verification()
    assert finding["changes_logits"]
    assert finding["reload_difference"] < 1e-4


def test_the_evaluation_finds_the_loss_that_training_reported(trained, method):
    """Two ways through the model: TRL's batch with the adapter in training, and ftlab's scoring of the saved one."""
    model, tokenizer = load_run(trained.run)
    encoded = [encode(row["messages"], tokenizer) for row in read_split(trained.run, "validation")]
    losses = score_losses(model, encoded, pad_token_id=tokenizer.pad_token_id, batch_rows=4)
    reported = min(row["eval_loss"] for row in trained.run.metrics() if "eval_loss" in row)
    tolerance = {"qlora nf4": 0.05, "qlora int8": 0.01}.get(method, 1e-3)  # what quantised products round away
    assert math.log(losses.perplexity) == pytest.approx(reported, rel=tolerance)


def test_a_fresh_process_loads_the_same_model(trained, fresh, method):
    model, tokenizer = load_run(trained.run)
    with torch.no_grad():
        here = model(input_ids=fixed_text(trained.run, tokenizer)).logits
    assert (here - fresh[method]["logits"]).abs().max() < 1e-4


def test_the_base_comes_back_bit_for_bit_when_the_adapter_is_off(trained, fresh, method):
    assert not torch.equal(fresh[method]["logits"], fresh[method]["base"])
    if method == "full":
        model, _ = load_run(trained.run)
        with pytest.raises(TypeError, match="no adapter to disable"), adapter_disabled(model):
            pass
    else:
        assert torch.equal(fresh[method]["off"], fresh[method]["base"])


def test_batch_and_chat_with_the_cache_answer_as_one_by_one_without_it(fresh, method):
    answers = fresh[method]
    assert any(answers["uncached"])
    assert answers["batched"] == answers["uncached"] == answers["chat"]


def test_the_chat_answers_as_the_base_on_the_other_side(fresh):
    # The base is the same one, so what it says does not depend on the method beside it.
    said = {tuple(found["chat_base"]) for name, found in fresh.items() if not name.startswith("qlora")}
    assert len(said) == 1


def test_only_the_answers_are_trained_and_the_stop_token_is(all_runs):
    run = all_runs["lora"].run
    _, tokenizer = load_run(run)
    for row in read_split(run, "train")[:5]:
        encoded = encode(row["messages"], tokenizer)
        kept = [token for token, is_trained in zip(encoded.input_ids, encoded.trained, strict=True) if is_trained]
        assert tokenizer.decode(kept) == row["messages"][-1]["content"] + tokenizer.eos_token
        assert kept[-1] == tokenizer.eos_token_id


def test_the_best_weights_are_kept_and_the_disk_is_not_filled(trained):
    checkpoints = list(trained.run.checkpoints.glob("checkpoint-*"))
    assert 1 <= len(checkpoints) <= 2
    known = size_of(trained.config.method, trained.config.model)
    for checkpoint in checkpoints:
        kept = sum(
            (checkpoint / name).stat().st_size for name in os.listdir(checkpoint) if name.startswith("adapter_mod")
        )
        assert kept < 1.01 * known.weights_bytes


@pytest.mark.parametrize("method", RESUMED)
def test_training_goes_on_from_a_checkpoint_as_if_it_had_never_stopped(all_runs, workspace, rows, method):
    from safetensors.torch import load_file

    whole = all_runs[method]
    checkpoint = whole.run.checkpoints / f"checkpoint-{FIRST_CHECKPOINT}"
    resumed = train(workspace, rows, METHODS[method], checkpoint)
    steps = [row["step"] for row in resumed.run.metrics() if "loss" in row]
    assert min(steps) == FIRST_CHECKPOINT + 1
    one, other = load_file(result_file(whole.run)), load_file(result_file(resumed.run))
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.allclose(tensor, other[name], atol=1e-5), name


SHORT = (("qlora nf4", "merged"), ("full", "merged"))
LONG = (
    ("houlsby", "adapter"),
    *(("dora", "merged"), ("ia3", "merged"), ("pissa", "merged"), ("olora on two targets", "merged")),
    *(("qlora nf4", "adapter"), ("qlora int8", "merged"), ("prefix tuning", "adapter"), ("prompt tuning", "adapter")),
)


@pytest.mark.parametrize(("method", "kind"), [*SHORT, *(pytest.param(*case, marks=pytest.mark.long) for case in LONG)])
def test_what_is_handed_over_says_what_the_run_says(all_runs, tmp_path, method, kind):
    made = export_run(all_runs[method].run, tmp_path / "model", kind=kind)
    found = made.verification
    assert found["same_answers"] == found["prompts"] > 0 and found["near_ties"] == 0
    assert found["largest_logit_difference"] <= found["allowed_logit_difference"] < 0.01
    # Only bottleneck adapters, which PEFT has not, need ftlab to be loaded, and their README says how.
    assert found["without_ftlab"] == (method != "houlsby")
    assert ("load_bottlenecks" in (made.folder / "README.md").read_text()) == (method == "houlsby")
    weights = "model.safetensors" if kind == "merged" else "adapter_model.safetensors"
    assert {weights, "tokenizer.json", "README.md", "ftlab/config.yaml"} <= set(made.files)
    assert not any(name.endswith((".bin", ".pt", ".pth")) for name in made.files)


def test_the_base_on_disk_is_untouched(all_runs):
    assert load_base(ModelConfig(), device="cpu").dtype == torch.float32
