"""Rows that are too long end a run before its base is asked anything."""

from __future__ import annotations

import json

import pytest

from ftlab.config import build_config
from ftlab.core.workspace import Workspace
from ftlab.data.splits import freeze, prepare
from ftlab.errors import InputError
from ftlab.models.load import load_tokenizer
from ftlab.training.sft import check_lengths


def frozen(tmp_path, long: int, rows: int):
    """A run with `long` rows of some 300 tokens among `rows`."""
    tmp_path.mkdir()
    data = tmp_path / "rows.jsonl"
    texts = ["word " * 300 if n < long else f"word {n}" for n in range(rows)]
    data.write_text("".join(json.dumps({"prompt": f"Case {n}", "completion": t}) + "\n" for n, t in enumerate(texts)))
    config = build_config(
        {
            "data": {"source": str(data), "replay": "none", "replay_text": "none", "validation_fraction": 0},
            "optimisation": {"max_length": 64},
        }
    )
    workspace = Workspace.open(tmp_path / "workspace")
    run = workspace.create_run("long")
    freeze(prepare(config.data, workspace, stage=config.stage), run)
    return run, config


def test_mostly_long_rows_are_refused_at_once_and_some_are_not(tmp_path):
    tokenizer = load_tokenizer("starter", None)
    run, config = frozen(tmp_path / "many", long=30, rows=40)
    with pytest.raises(InputError, match="training rows are longer than 64 tokens"):
        check_lengths(run, config, tokenizer)
    run, config = frozen(tmp_path / "some", long=10, rows=40)
    check_lengths(run, config, tokenizer)
