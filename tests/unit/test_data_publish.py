"""A data set goes to the Hub as the dry run said it would, sent by the real library to a stand-in on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftlab.config import DataConfig
from ftlab.core.workspace import Workspace
from ftlab.data import curation, versions
from ftlab.data.export import push
from ftlab.errors import InputError
from tests.fake_hub import ROOT, TOKEN, FakeHub

ASK = """
import json, sys
from ftlab.config import DataConfig
from ftlab.data.export import push
from ftlab.errors import FtlabError
for repository, private in json.loads(sys.argv[2]):
    try:
        print(json.dumps(push(DataConfig(source=sys.argv[1]), repository, private=private).as_dict()))
    except FtlabError as error:
        print(json.dumps(error.message()))
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    yield hub
    hub.close()


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "tickets.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"q{n}", "completion": f"a{n}"}) + "\n" for n in range(30)))
    return str(path)


def ask(source: str, cases: list[Any], environment: dict[str, str]) -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-c", ASK, source, json.dumps(cases)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", '"'))]


def test_what_is_sent_is_what_the_dry_run_showed(hub: FakeHub, source: str, tmp_path: Path) -> None:
    cases = [["me/data", True], ["other/data", True]]
    sent, refused = ask(source, cases, hub.environment(tmp_path / "home"))
    pushed = push(DataConfig(source=source), "me/data", dry_run=True)
    assert (
        sent["files"] == pushed.files and sent["card"] == pushed.card and sent["address"].endswith("/datasets/me/data")
    )
    assert "does not let you write to other/data" in refused
    arrived = hub.repo("me/data", "dataset")
    assert arrived.private and len(arrived.commits) == 1
    assert {name: len(data) for name, data in arrived.files.items()} == pushed.files
    assert arrived.files["README.md"].decode() == pushed.card and arrived.files["data/train.parquet"][:4] == b"PAR1"
    assert {call.authorization for call in hub.asked if call.authorization} == {f"Bearer {TOKEN}"}


def test_private_rows_do_not_go_into_a_public_data_set(hub: FakeHub, source: str, tmp_path: Path) -> None:
    there = hub.add("me/data", "dataset", private=False)
    cases = [["me/data", True], ["me/data", False]]
    refused, sent = ask(source, cases, hub.environment(tmp_path / "home"))
    assert "already exists on the Hub and is public" in refused and sent["private"] is False
    assert len(there.commits) == 1


def test_a_hub_that_does_not_answer_is_told(hub: FakeHub, source: str, tmp_path: Path) -> None:
    environment = hub.environment(tmp_path / "home") | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    (message,) = ask(source, [["me/data", True]], environment)
    assert message.startswith("The Hugging Face Hub cannot be reached") and "--dry-run" in message


def test_the_card_tells_splits_source_and_steps_without_markup_of_others(source: str, workspace: Workspace) -> None:
    first = versions.create(source, workspace, who="Ada")
    second = curation.apply(
        first, dict.fromkeys((1, 2), curation.Change(excluded="spam")), who="Ada", why="<script>[spam](http://x)"
    )
    pushed = push(DataConfig(source=second.source), "me/data", workspace, dry_run=True, licence="cc-by-4.0")
    head = yaml.safe_load(pushed.card.split("---")[1])
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "data/train.parquet"}]
    assert head["license"] == "cc-by-4.0" and head["size_categories"] == ["n<1K"] and pushed.private
    assert "| train | 28 |" in pushed.card and second.content in pushed.card
    assert "taken from the source: 30 rows" in pushed.card and "excluded 2 rows: 28 rows" in pushed.card
    assert "<script>" not in pushed.card and "Ada" not in pushed.card
    for wrong in ("data", "me/da ta", "me/data/x", "../x"):
        with pytest.raises(InputError, match="not the id of a data set"):
            push(DataConfig(source=source), wrong, dry_run=True)
