"""How many CPU threads an answer takes."""

from __future__ import annotations

import threading

import torch

from ftlab.evaluation.duet import Duet
from ftlab.models.load import load_base, load_tokenizer
from ftlab.models.starter import starter_path


def in_a_thread_of_its_own(work):
    """What `work` returns, called in a new thread that has done arithmetic before, as the app's have."""
    results = []

    def call():
        torch.randn(64, 64) @ torch.randn(64, 64)
        results.append(work())

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return results[0]


def test_the_limit_of_threads_holds_whichever_thread_of_the_app_goes_on_with_the_answer():
    from ftlab.config import ModelConfig

    models = [load_base(ModelConfig(base=str(starter_path())), device="cpu") for _ in range(2)]
    duet = Duet(*models, load_tokenizer(str(starter_path())), context=512)
    before, used = torch.get_num_threads(), []
    for model in models:
        model.register_forward_pre_hook(lambda *_: used.append(torch.get_num_threads()))
    answers = duet.stream("Tell me a story about a dog.", max_new_tokens=6, threads=before + 2)
    for _ in range(3):  # two tokens of each side are shown at a time
        in_a_thread_of_its_own(lambda: next(answers))
    assert used == [before + 2] * 12
    assert in_a_thread_of_its_own(torch.get_num_threads) == torch.get_num_threads() == before
