"""A demo takes its run from the Hub, as a run directory or as what was exported of one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftlab.config import build_config
from tests.fake_hub import ROOT, FakeHub

SHOW = """
import json, sys
from pathlib import Path
from ftlab.config import load_config
from ftlab.errors import FtlabError
from ftlab.report.showcase import report_of, run_to_show
try:
    run = run_to_show(Path(sys.argv[1]))
    config = load_config(run.config_file)
    files = sorted(path.name for path in (run.adapter if run.adapter.exists() else run.model).iterdir())
    print(json.dumps([run.has_result, config.method.name, config.model.base, report_of(run), files]))
except FtlabError as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    yield hub
    hub.close()


def show(hub: FakeHub, folder: Path, **environment: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", SHOW, str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=hub.environment(folder / "home") | environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_demo_without_a_run_says_how_to_name_one(hub, tmp_path):
    assert "--run" in show(hub, tmp_path) and "FTLAB_DEMO_REPO" in show(hub, tmp_path)


def test_a_run_directory_an_adapter_and_a_merged_model_are_shown(hub, tmp_path):
    config = build_config({"model": {"base": "starter"}}).to_yaml().encode()
    adapter = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"w", "tokenizer.json": b"{}"}
    run = {"config.yaml": config, "evaluation/report.html": b"<p>R</p>"} | {
        f"adapter/{n}": d for n, d in adapter.items()
    }
    hub.add("me/run", files=run)
    hub.add("me/exported", files=adapter | {"ftlab/config.yaml": config, "report.html": b"<p>E</p>", "x.py": b"evil"})
    merged = {"config.json": b"{}", "model.safetensors": b"w", "ftlab/config.yaml": config}
    hub.add("me/merged", files=merged | {"base/config.json": b"{}"})
    hub.add("me/foreign", files={"config.json": b"{}"})
    assert show(hub, tmp_path, FTLAB_DEMO_REPO="me/run")[:4] == [True, "lora", "starter", "<p>R</p>"]
    exported = show(hub, tmp_path, FTLAB_DEMO_REPO="me/exported")
    assert exported[:4] == [True, "lora", "starter", "<p>E</p>"] and "x.py" not in exported[4]
    # Its base is loaded beside it: there is no adapter to switch off.
    assert show(hub, tmp_path, FTLAB_DEMO_REPO="me/merged")[:4] == [True, "full", "starter", None]
    assert "holds no run of ftlab" in show(hub, tmp_path, FTLAB_DEMO_REPO="me/foreign")
    assert "no model me/gone" in show(hub, tmp_path, FTLAB_DEMO_REPO="me/gone")
