"""The loss at the labels alone is the loss of the whole logits."""

from __future__ import annotations

import math

import pytest
import torch


def _model(kind: str):
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"Gemma2": {"final_logit_softcapping": 5.0, "head_dim": 8}, "Granite": {"logits_scaling": 4.0}}.get(kind, {})
    config = getattr(transformers, f"{kind}Config")(vocab_size=50, num_key_value_heads=2, **sizes, **more)
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


def _row(labelled):
    ids = torch.arange(12)[None] % 50
    labels = torch.where(torch.tensor([[place in labelled for place in range(12)]]), ids, -100)
    return {"input_ids": ids, "position_ids": torch.arange(12)[None], "labels": labels}


@pytest.mark.parametrize("kind", ["Llama", "Gemma2", "Granite"])
def test_labelled_positions_have_the_loss_and_gradients_of_the_whole_logits(kind):
    from ftlab.training.trainer import score_labels

    model, inputs = _model(kind), _row({0, 3, 4, 11})
    total, tokens, _ = score_labels(model, inputs)
    total.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    logits = model(input_ids=inputs["input_ids"], position_ids=inputs["position_ids"]).logits[0]
    expected = -torch.log_softmax(logits, -1)[[2, 3, 10], [3, 4, 11]].sum()  # nothing comes before the first token
    expected.backward()
    assert tokens == 3
    torch.testing.assert_close(total, expected)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, dict(model.named_parameters())[name].grad, msg=name)


def test_dft_weighs_a_token_by_its_probability_and_eaft_by_how_unsure_the_model_is():
    from ftlab.training.trainer import summed_loss

    # Two tokens of four words: probabilities 1/2, 1/4, 1/8, 1/8, and one word that is as good as certain.
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125], [1.0, 1e-9, 1e-9, 1e-9]]).log().requires_grad_()
    targets = torch.tensor([1, 0])
    two = math.log(2)
    nll, dft, eaft = (summed_loss(loss, logits, targets) for loss in ("nll", "dft", "eaft"))
    assert nll.item() == pytest.approx(2 * two)
    assert dft.item() == pytest.approx(0.25 * 2 * two)
    # The entropy is 1.75 bits of the 2 that four words can have; of the second token nothing is unsure.
    assert eaft.item() == pytest.approx(1.75 / 2 * 2 * two, rel=1e-5)
    # The weights are no way to learn: the slope is theirs times that of the likelihood.
    (slope,) = torch.autograd.grad(eaft, logits)
    torch.testing.assert_close(slope[0], 1.75 / 2 * torch.tensor([0.5, -0.75, 0.125, 0.125]), rtol=1e-4, atol=1e-6)


def test_eaft_reads_the_twenty_likeliest_words():
    from ftlab.training.trainer import summed_loss

    # Twenty words as likely as each other and a hundred far below: as unsure as twenty words can be.
    logits = torch.cat([torch.zeros(20), torch.full((100,), -9.0)])[None]
    targets = torch.tensor([3])
    torch.testing.assert_close(summed_loss("eaft", logits, targets), summed_loss("nll", logits, targets))


def test_a_row_without_labels_has_a_loss_of_zero_that_can_be_learned_from():
    from ftlab.training.trainer import score_labels

    for loss in ("nll", "dft", "eaft"):
        total, tokens, correct = score_labels(_model("Llama"), _row(set()), loss)
        total.backward()
        assert (float(total), tokens, correct) == (0.0, 0, 0)


def test_padded_batches_and_logits_too_large_are_left_to_trl():
    from ftlab.training.trainer import MOST_BYTES, fits

    inputs = _row({3})
    assert fits(inputs, 50)
    assert not fits(inputs, MOST_BYTES)
    assert not fits({**inputs, "input_ids": inputs["input_ids"].repeat(2, 1)}, 50)
