"""When the chat and live blind tests give the memory of their models back to a run that starts."""

from __future__ import annotations

import pytest
import torch

from ftlab.arena.asking import Writer
from ftlab.evaluation import duet, loaded
from ftlab.ui import background


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch):
    monkeypatch.setattr(loaded, "_loaded", {})


def load(device: str) -> set[str]:
    """Two models in the chat's memory, and one in that of live tests; returns the uses that have some. The device
    `meta` is, like a GPU, one that is not the CPU."""
    models = [torch.nn.Linear(2, 2, device=device) for _ in range(3)]
    with loaded.device:
        loaded.models_of("chat", "a run", lambda: duet.Duet(*models[:2], tokenizer=None, context=None))
        loaded.models_of("live tests", "a base", lambda: Writer(models[2], None, None))
    return held()


def held() -> set[str]:
    return {use for use, models in loaded._loaded.items() if models}


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
def test_the_chat_gives_way_only_to_a_run_on_the_device_it_sits_on(run_on, models_on, released):
    assert load(models_on) == {"chat", "live tests"}
    background.release_models(run_on).join(30)
    assert held() == (set() if released else {"chat", "live tests"})


def test_an_answer_that_is_being_written_is_finished_first():
    load("meta")
    with loaded.device:
        waiting = background.release_models("auto")
        waiting.join(0.3)
        assert waiting.is_alive() and held()
    waiting.join(30)
    assert not held()


def test_with_nothing_loaded_nothing_is_given_back():
    assert held() == set()
    assert loaded.release_for("cuda") is False


def test_of_what_one_use_has_loaded_only_what_it_still_needs_stays():
    with loaded.device:
        for run in ("first", "second"):
            loaded.models_of("chat", run, lambda: Writer(None, None, None))
        for base, among in (("a", {"a", "b"}), ("b", {"a", "b"}), ("c", {"b", "c"})):
            loaded.models_of("live tests", base, lambda: Writer(None, None, None), beside=among)
    assert {use: set(models) for use, models in loaded._loaded.items()} == {
        "chat": {"second"},
        "live tests": {"b", "c"},
    }
