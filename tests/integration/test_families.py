"""Every family of bases goes the whole way with LoRA: sizes, training, evaluation, chat, both exports."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from ftlab.config import MethodConfig, ModelConfig, RunConfig, build_config
from ftlab.core.files import write_text
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.data.rendering import encode, encode_prompt, stop_token_ids
from ftlab.data.splits import freeze, prepare, read_split
from ftlab.errors import InputError
from ftlab.evaluation.compare import evaluate_run
from ftlab.evaluation.duet import load_duet
from ftlab.evaluation.generate import generate_answers
from ftlab.evaluation.loaded import release
from ftlab.evaluation.losses import score_losses
from ftlab.export import outside
from ftlab.export.export import plan, write_files
from ftlab.export.verify import verify
from ftlab.models.adapters import adapter_disabled
from ftlab.models.estimate import estimate
from ftlab.models.load import load_base, load_run
from ftlab.models.methods import size_of
from ftlab.training.sft import train_sft
from ftlab.training.status import RunStatus, StatusWriter
from ftlab.training.verify import verify_saved
from tests.families import FAMILIES, make_family

pytestmark = pytest.mark.train

TOKENS = 12
# Of very different lengths, so that batches are padded.
MESSAGES = ["Code of item 3?", "What is the code of item 12, please? I need it today, and of item 13 as well.", "Code?"]


# As ftlab/docs/bases.md says. All other pairs of a method and a family find their place.
REFUSED = {
    "dora": {"Qwen3-MoE"},
    "ia3": {"Phi-3", "LFM2", "Qwen3-MoE", "Mamba"},
    "bottleneck": {"LFM2", "Mamba"},
    "prefix_tuning": {"Gemma 3", "Mistral", "Phi-3", "LFM2", "Mamba"},
    "prompt_tuning": {"Gemma 3", "Mistral", "Phi-3", "LFM2", "Mamba"},
    "full": set(),
}


@dataclass(frozen=True)
class Trained:
    family: str
    run: RunDirectory
    config: RunConfig
    status: RunStatus


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace.open(tmp_path_factory.mktemp("families"))


@pytest.fixture(scope="module", params=FAMILIES)
def trained(request: pytest.FixtureRequest, workspace: Workspace) -> Iterator[Trained]:
    """A run of three steps with LoRA and its usual targets, evaluated."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    base = make_family(request.param, workspace.root / "bases" / request.param)
    yield train(workspace, request.param, base)
    torch.set_num_threads(threads)


def train(workspace: Workspace, family: str, base: Path) -> Trained:
    file = workspace.root / "rows.jsonl"
    lines = [{"prompt": f"Code of item {n}{', please' * (n % 4)}?", "completion": f"IT-{n % 7}"} for n in range(40)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    probes = workspace.root / "probes.jsonl"
    probes.write_text('{"prompt": "What is water?", "completion": "Wet."}\n')
    config = build_config(
        {
            "model": {"base": str(base)},
            "data": {"source": str(file)},
            "optimisation": {"max_steps": 3, "batch_size": 4, "learning_rate": 0.01, "warmup_fraction": 0},
            "evaluation": {
                "max_rows": 4,
                "max_new_tokens": TOKENS,
                "batch_size": 4,
                "probes": str(probes),
                "memorisation": False,
                "after_training": False,
            },
            "launcher": {"device": "cpu", "threads": 1},
        }
    ).resolved()
    run = workspace.create_run("families")
    freeze(prepare(config.data, workspace=workspace), run)
    write_text(run.config_file, config.to_yaml())
    writer = StatusWriter(run.status_file)
    try:
        train_sft(run, config, writer)
        verify_saved(run, config, writer)
        writer.update(state="completed", phase="")
    finally:
        writer.close()
    return Trained(family, run, config, writer.status)


def plain_answer(model: Any, tokenizer: Any, prompt: list[int], stops: list[int]) -> str:
    """What transformers alone answers to one prompt without padding."""
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        made = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=TOKENS,
            do_sample=False,
            eos_token_id=stops,
            pad_token_id=tokenizer.pad_token_id,
        )
    return tokenizer.decode(made[0, len(prompt) :], skip_special_tokens=True)


def plain_loss(model: Any, encoded: Any) -> float:
    """The summed loss of one row by transformers' own labels, in nats."""
    labels = torch.tensor([encoded.labels])
    with torch.inference_mode():
        loss = model(input_ids=torch.tensor([encoded.input_ids]), labels=labels).loss
    return loss.item() * int((labels[:, 1:] != -100).sum())


def conversation(message: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": message}, {"role": "assistant", "content": ""}]


@pytest.mark.parametrize("method", REFUSED)
def test_a_method_that_does_not_suit_a_family_is_refused_before_anything_is_loaded(method: Any, tmp_path: Path) -> None:
    refused = set()
    for family in FAMILIES:
        base = ModelConfig(base=str(make_family(family, tmp_path / family)))
        try:
            assert size_of(MethodConfig(name=method), base).trained > 0
        except InputError:
            refused.add(family)
    assert refused == REFUSED[method]


def test_sizes_are_known_before_anything_is_loaded(trained: Trained) -> None:
    known = size_of(trained.config.method, trained.config.model)
    assert known.weights_bytes == next(trained.run.adapter.glob("*.safetensors")).stat().st_size
    assert (known.trained, known.total) == (trained.status.trained_parameters, trained.status.total_parameters)
    need = estimate(trained.config, torch.float32)
    assert need.total_parameters == known.total and need.peak_bytes > 4 * known.total


def test_training_changes_the_answers_and_saves_what_it_trained(trained: Trained) -> None:
    finding = trained.run.verification()
    assert finding["changes_logits"] and finding["reload_difference"] < 1e-4
    losses = [row["eval_loss"] for row in trained.run.metrics() if "eval_loss" in row]
    assert min(losses) < losses[0]


def test_every_adapter_learns_and_the_base_under_it_is_left_as_it_was(trained: Trained) -> None:
    model, tokenizer = load_run(trained.run)
    still = [name for name, weight in model.named_parameters() if "lora_B" in name and not weight.any()]
    assert not still, "an adapter whose output nobody reads stays at zero"
    ids = torch.tensor([encode_prompt(conversation(MESSAGES[1]), tokenizer)])
    base = load_base(ModelConfig(base=trained.config.model.base), device="cpu")
    with torch.inference_mode():
        expected = base(input_ids=ids).logits
        with adapter_disabled(model) as off:
            assert torch.equal(off(input_ids=ids).logits, expected)
        assert not torch.allclose(model(input_ids=ids).logits, expected, atol=1e-3)


def test_the_loss_that_training_reports_is_that_of_each_row_alone(trained: Trained) -> None:
    model, tokenizer = load_run(trained.run)
    encoded = [encode(row["messages"], tokenizer) for row in read_split(trained.run, "validation")]
    alone = [plain_loss(model, one) for one in encoded]
    losses = score_losses(model, encoded, pad_token_id=tokenizer.pad_token_id, batch_rows=4)
    assert losses.nll == pytest.approx(alone, rel=1e-4)
    reported = min(row["eval_loss"] for row in trained.run.metrics() if "eval_loss" in row)
    assert reported == pytest.approx(math.log(losses.perplexity), rel=1e-3)


def test_answers_in_batches_are_those_of_each_prompt_alone(trained: Trained) -> None:
    model, tokenizer = load_run(trained.run)
    prompts = [encode_prompt(conversation(message), tokenizer) for message in MESSAGES]
    stops = stop_token_ids(tokenizer, model.generation_config)

    def answered() -> list[str]:
        found = generate_answers(model, tokenizer, prompts, max_new_tokens=TOKENS, stop_ids=stops, batch_rows=2)
        return [answer.text for answer in found.answers]

    assert answered() == [plain_answer(model, tokenizer, prompt, stops) for prompt in prompts]
    with adapter_disabled(model):
        assert answered() == [plain_answer(model, tokenizer, prompt, stops) for prompt in prompts]


def test_the_evaluation_compares_it_with_its_base_and_the_chat_answers_alike(trained: Trained) -> None:
    comparison = evaluate_run(trained.run)
    assert comparison["adapted"]["perplexity"] < comparison["base"]["perplexity"]
    duet = load_duet(trained.run)
    try:
        for row in trained.run.predictions():
            message = row["messages"][0]["content"]
            last = list(duet.stream(message, max_new_tokens=TOKENS))[-1]
            assert (last.base, last.adapted) == (row["base"], row["adapted"])
    finally:
        release()


def asked_here(folder: Path, shape: Any, questions: Any, tell: Any) -> Any:
    """As a fresh process would answer: by the lines of the README, in this process to save its start."""
    from safetensors.torch import load_file

    from ftlab.export.verify import Outside

    place = folder.parent / f"{folder.name}-asked"
    place.mkdir()
    (place / "job.json").write_text(json.dumps(shape.job(folder) | {"prompts": questions.job()}))
    finders = list(sys.meta_path)
    try:
        outside.main(str(place / "job.json"), str(place))
    finally:
        sys.meta_path[:] = finders
    found = json.loads((place / "found.json").read_text())
    tensors = load_file(place / "logits.safetensors")
    return Outside(found["prompts"], found["stops"], [tensors[str(i)] for i in range(len(found["prompts"]))])


@pytest.mark.parametrize("kind", ["adapter", "merged"])
def test_exports_say_what_the_run_says(trained: Trained, kind: Any, tmp_path: Path) -> None:
    shape = plan(trained.run, trained.config, kind, None)
    folder = tmp_path / "export"
    folder.mkdir()
    write_files(trained.run, trained.config, shape, folder, lambda *_: None)
    finding = verify(trained.run, folder, shape, ask=asked_here)
    assert finding["same_answers"] == finding["prompts"] > 0
