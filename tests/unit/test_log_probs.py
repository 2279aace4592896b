"""Log-probabilities in small tiles are TRL's, in values and in gradients, and take no more for a larger batch."""

from __future__ import annotations

import contextlib

import pytest
import torch
from trl.kernels import ChunkedLogProbFunction, chunked_logprob
from trl.trainer import utils

from ftlab.training import speed as log_probs
from ftlab.training.speed import LogProbs, use_small_tiles

OUTPUTS = ("log_probs", "entropy", "mean_logits", "is_top1")
TOKENS, WIDTH, WORDS = 53, 16, 97


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Four tiles for the tokens below; TRL's own names, whatever an earlier test trained in this process."""
    monkeypatch.setattr(utils, "_ChunkedLogProbFunction", ChunkedLogProbFunction)
    monkeypatch.setattr(utils, "_use_triton", chunked_logprob._use_triton)
    monkeypatch.setattr(LogProbs, "elsewhere", ChunkedLogProbFunction)
    monkeypatch.setattr(log_probs, "TILE_BYTES", 16 * 4 * WORDS)


def scored(function, *, trained=False, bias=False, temperature=1.0, softcap=None, scale=1.0, entropy=0.0, short=False):
    """(values, gradients) of a loss that weighs every token differently."""
    made = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, generator=made, requires_grad=True)
    weight = torch.randn(WORDS, WIDTH, generator=made, requires_grad=trained)
    offset = torch.randn(WORDS, generator=made, requires_grad=trained) if bias else None
    targets = torch.randint(WORDS, (TOKENS,), generator=made)
    weights = torch.randn(TOKENS, generator=made)
    with torch.autocast("cpu", torch.bfloat16) if short else contextlib.nullcontext():
        found = function.apply(hidden, weight, offset, targets, temperature, 40, softcap, scale, OUTPUTS)
    loss = (found[0] * weights).sum() + (entropy * found[1].sum() if entropy else 0)
    loss.backward()
    return found, [one.grad for one in (hidden, weight, offset) if one is not None and one.requires_grad]


CASES = {
    "frozen head": {},
    "frozen head, bias, temperature": {"bias": True, "temperature": 0.7},
    "frozen head, soft cap, scale": {"softcap": 3.0, "scale": 0.5},
    "trained head": {"trained": True, "bias": True},
    "trained head, soft cap, scale, temperature": {"trained": True, "softcap": 3.0, "scale": 0.5, "temperature": 1.3},
    "trained entropy": {"entropy": 0.3, "temperature": 0.7},
}


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_trl(case):
    ours, our_gradients = scored(LogProbs, **CASES[case])
    theirs, their_gradients = scored(ChunkedLogProbFunction, **CASES[case])
    for name, one, other in zip(("log_probs", "entropy", "", "mean_logits", "is_top1"), ours, theirs, strict=True):
        if name:
            torch.testing.assert_close(one, other, msg=name, rtol=1e-5, atol=1e-5)
    assert len(our_gradients) == len(their_gradients)
    for one, other in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("trained", [False, True])
def test_under_autocast_they_are_those_of_float32_up_to_the_rounding(trained):
    exact, gradients = scored(ChunkedLogProbFunction, trained=trained)
    rounded, rounded_gradients = scored(LogProbs, trained=trained, short=True)
    assert rounded[0].dtype == torch.float32
    torch.testing.assert_close(rounded[0], exact[0], rtol=0.02, atol=0.05)
    for one, other in zip(rounded_gradients, gradients, strict=True):
        assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.9995


def model_and_batch(rows):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=2000, **sizes))
    ids = torch.randint(2000, (rows, 40), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[:, :25] = -100
    return model, {"input_ids": ids, "labels": labels}


def largest_tensor(rows):
    """Elements of the largest tensor that an operation makes in a step of `rows` rows."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        most = 0

        def __torch_dispatch__(self, operation, types, arguments=(), settings=None):
            made = operation(*arguments, **(settings or {}))
            if torch.is_tensor(made) and made.untyped_storage().nbytes() == made.numel() * made.element_size():
                self.most = max(self.most, made.numel())
            return made

    model, batch = model_and_batch(rows)
    model.lm_head.weight.requires_grad_(False)
    utils.add_fused_lm_head(model, outputs=OUTPUTS)
    with Watch() as watch:
        model(**batch, fused_lm_head=True).log_probs.sum().backward()
    return watch.most


def test_no_tensor_grows_with_batch_times_vocabulary(monkeypatch):
    monkeypatch.setattr(log_probs, "TILE_BYTES", 16 * 4 * 2000)
    theirs = largest_tensor(32)
    use_small_tiles()
    ours = largest_tensor(32)
    assert theirs >= 32 * 39 * 2000, "TRL's tile holds every position; if not, this module may no longer be needed"
    assert ours == max(16 * 2000, 2000 * 32)  # a tile, or the weights of embedding and head


def test_only_the_positions_of_labels_are_scored_and_the_loss_is_that_of_trl(monkeypatch):
    model, batch = model_and_batch(3)
    utils.add_fused_lm_head(model, outputs=OUTPUTS)
    before = model(**batch, fused_lm_head=True)
    before.loss.backward()
    gradient = model.model.layers[0].self_attn.q_proj.weight.grad.clone()
    model.zero_grad()
    use_small_tiles()
    seen = []
    whole = LogProbs.apply
    monkeypatch.setattr(LogProbs, "apply", lambda hidden, *rest: (seen.append(len(hidden)), whole(hidden, *rest))[1])
    after = model(**batch, fused_lm_head=True)
    after.loss.backward()
    assert seen == [3 * 15]
    for name in ("loss", "log_probs", "entropy", "mean_logits"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name), msg=name)
    assert torch.equal(after.is_top1, before.is_top1)
    torch.testing.assert_close(model.model.layers[0].self_attn.q_proj.weight.grad, gradient)


def test_a_batch_without_a_label_still_has_a_gradient_of_zero():
    use_small_tiles()
    model, batch = model_and_batch(2)
    utils.add_fused_lm_head(model, outputs=OUTPUTS)
    batch["labels"][:] = -100
    loss = model(**batch, fused_lm_head=True).log_probs.sum()
    loss.backward()
    assert loss.item() == 0.0


@pytest.mark.parametrize(
    "stage, settings",
    [
        ("orpo", {}),
        ("cpo", {"loss_type": "sigmoid"}),
        ("cpo", {"loss_type": "simpo", "cpo_alpha": 0.0}),
        ("cpo", {"loss_type": "ipo"}),
    ],
)
def test_orpo_and_cpo_have_the_losses_and_gradients_of_trl_without_its_logits(stage, settings, tmp_path):
    from datasets import Dataset
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    from ftlab.models.load import load_tokenizer
    from ftlab.training.arguments import config_class
    from ftlab.training.preferences import ContrastTuner, OddsTuner

    model, _ = model_and_batch(1)
    rows = [
        {
            "prompt_ids": list(range(5, 9 + n)),
            "chosen_ids": [20, 21, 22 + n, 3],
            "rejected_ids": [30 + n, 3],
            "chosen_trained": [True, False, True, True],
            "rejected_trained": [True, True],
        }
        for n in range(4)
    ]
    arguments = config_class(stage)(
        output_dir=str(tmp_path), use_cpu=True, report_to="none", remove_unused_columns=False, max_length=64, **settings
    )
    kind, theirs = (OddsTuner, ORPOTrainer) if stage == "orpo" else (ContrastTuner, CPOTrainer)
    use_small_tiles()
    trainer = kind(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer("starter"),
    )
    batch = next(iter(trainer.get_train_dataloader()))

    def step():
        model.zero_grad()
        loss, figures = trainer.get_batch_loss_metrics(model, batch)
        loss.backward()
        return loss, figures, [one.grad.clone() for one in model.parameters()]

    model.eval()
    loss, figures, gradients = step()
    trainer.concatenated_forward = lambda *given: theirs.concatenated_forward(trainer, *given)
    their_loss, their_figures, their_gradients = step()
    torch.testing.assert_close(loss, their_loss)
    for name, value in their_figures.items():
        if "logits" not in name and not (name == "nll_loss" and settings.get("cpo_alpha") == 0):
            assert figures[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    for one, other in zip(gradients, their_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
