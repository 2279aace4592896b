"""When the chat gives the memory of its models back to a run that starts."""

from __future__ import annotations

import pytest
import torch

from ftlab.evaluation import duet
from ftlab.ui import background


def loaded(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """Two models in the chat's memory. The device `meta` is, like a GPU, one that is not the CPU."""
    models = [torch.nn.Linear(2, 2, device=device) for _ in range(2)]
    monkeypatch.setitem(duet._loaded, "a run", duet.Duet(*models, tokenizer=None, context=None))


@pytest.mark.parametrize(
    ("run_on", "models_on", "released"),
    [
        ("auto", "meta", True),
        ("cuda", "meta", True),
        ("cpu", "meta", False),  # it trains on the CPU: the GPU is the chat's
        ("auto", "cpu", False),  # no GPU here
        ("cuda", "cpu", False),
    ],
)
def test_the_chat_gives_way_only_to_a_run_on_the_device_it_sits_on(monkeypatch, run_on, models_on, released):
    loaded(monkeypatch, models_on)
    background.release_chat(run_on).join(30)
    assert ("a run" not in duet._loaded) == released


def test_an_answer_that_is_being_written_is_finished_first(monkeypatch):
    loaded(monkeypatch, "meta")
    with duet._device:
        waiting = background.release_chat("auto")
        waiting.join(0.3)
        assert waiting.is_alive() and duet._loaded
    waiting.join(30)
    assert not duet._loaded


def test_with_nothing_loaded_nothing_is_given_back():
    assert duet._loaded == {}
    assert duet.release_for("cuda") is False
