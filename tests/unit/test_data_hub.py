"""Data sets of the Hub, loaded by the real library from a stand-in for the Hub on this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_hub import ROOT, FakeHub

FILES = {
    f"{split}.jsonl": "".join(json.dumps({"question": f"{split} {n}", "answer": str(n)}) + "\n" for n in range(count))
    for split, count in (("train", 30), ("test", 12))
}
ASK = """
import json, sys
from ftlab.config import DataConfig
from ftlab.data.splits import prepare
from ftlab.errors import InputError
for settings in json.loads(sys.argv[1]):
    try:
        print(json.dumps(prepare(DataConfig(**settings)).manifest))
    except InputError as error:
        print(json.dumps(error.message()))
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    hub.add("me/data", "dataset", files={name: text.encode() for name, text in FILES.items()})
    hub.add("gated/data", "dataset").gated = True
    yield hub
    hub.close()


def ask(cases: list[dict[str, Any]], home: Path, **environment: str) -> list[Any]:
    """The manifest or the message for each case, in a process of its own: the library reads its settings once."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    done = subprocess.run(
        [sys.executable, "-c", ASK, json.dumps(cases)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=inherited | {"PYTHONPATH": str(ROOT), "HF_HOME": str(home), "NO_PROXY": "127.0.0.1"} | environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_hub_data_set_comes_with_its_splits_and_commit_and_later_from_the_copy(hub: FakeHub, tmp_path: Path) -> None:
    cases = [
        {"source": "me/data"},
        {"source": "me/data", "split": "train[:12]"},
        {"source": "me/data", "subset": "other"},
        {"source": "gated/data"},
        {"source": "unknown/data"},
    ]
    commit = hub.repo("me/data", "dataset").sha
    whole, part, no_subset, gated, unknown = ask(cases, tmp_path, HF_ENDPOINT=hub.url)
    assert whole["splits"] == {"train": 27, "validation": 3, "test": 12} and whole["format"] == "question_answer"
    assert whole["sources"] == [
        {"name": "me/data", "kind": "hub", "path": None, "sha256": None, "rows": 42, "revision": commit}
    ]
    assert part["splits"] == {"train": 10, "validation": 1, "test": 1}
    assert "'other' not found" in no_subset and "Available: ['default']" in no_subset
    assert "needs permission on the Hub" in gated and "There is no data set unknown/data" in unknown

    again, missing = ask([{"source": "me/data"}, {"source": "me/other"}], tmp_path, HF_HUB_OFFLINE="1")
    assert again["splits"] == whole["splits"] and any("from the cache" in note for note in again["notes"])
    assert "HF_HUB_OFFLINE is set and me/other has not been downloaded" in missing


def test_without_a_network_one_clear_message_comes_quickly(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
    (message,) = ask([{"source": "me/data"}], tmp_path, HF_ENDPOINT=closed)
    assert message.startswith("The Hugging Face Hub cannot be reached") and "me/data" in message


def test_labels_of_a_hub_data_set_come_as_their_names() -> None:
    import datasets

    from ftlab.data.load import _with_label_names

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, None]}, features=features)
    assert list(_with_label_names(rows)["label"]) == ["yes", "no", None]
