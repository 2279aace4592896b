"""Memory is free again after a run and after a chat: measured in a process that does as the app."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from ftlab.models.starter import starter_path
from tests.conftest import ROOT, last_json, offline_environment

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(sys.platform != "linux", reason="resident memory means something else elsewhere"),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A Llama with random weights, large beside what Python itself gains and loses; its folder and bytes in float32."""
    folder = tmp_path_factory.mktemp("memory") / "base"
    tokenizer = AutoTokenizer.from_pretrained(starter_path())
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=640,
        intermediate_size=2304,
        num_hidden_layers=10,
        num_attention_heads=10,
        max_position_embeddings=1024,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder, 4 * sum(one.numel() for one in model.parameters())


@pytest.mark.long
def test_what_a_run_and_a_chat_took_is_free_afterwards(base, rows_file, tmp_path):
    folder, size = base
    assert size > 200e6
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.memory_process", str(folder), str(rows_file), str(tmp_path / "ws")],
        cwd=ROOT,
        env=offline_environment() | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = last_json(done.stdout)
    assert found["state"] == "completed"
    # To start a run brings some more libraries in; a model would be seen here.
    assert found["after_run"] - found["rest"] < 0.5 * size
    # The first answers bring in what all later ones need. Without malloc_trim the second time gave half back.
    for loaded, released in zip(found["loaded"], found["released"], strict=True):
        assert loaded - released > 0.7 * size
    assert found["released"][2] - found["released"][1] < 0.2 * size
