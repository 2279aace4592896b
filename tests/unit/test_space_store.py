"""What a Space keeps on the Hub comes back on an empty disk, whole or not at all: the real library, a stand-in Hub."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ftlab.arena import backup, trials
from ftlab.arena.store import open_store
from ftlab.core.files import write_text
from ftlab.core.jobs import write_status
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.data import versions
from ftlab.training.status import RunStatus
from tests.arena import everything, opened
from tests.fake_hub import ROOT, FakeHub

GO = """
import json, sys
from ftlab.errors import FtlabError
from ftlab.export import space_store
from ftlab.training import supervisor
from ftlab.core.workspace import Workspace
workspace = Workspace.open(sys.argv[1])
for verb in sys.argv[2:]:
    try:
        if verb == "restore":
            found = space_store.restore(workspace, "me/store")
            print(json.dumps({"names": found.names, "broken": found.broken}))
        elif verb == "votes":
            from ftlab.arena import backup
            from ftlab.arena.store import open_store
            scheduler = backup.start(open_store(workspace))
            scheduler.trigger().result()
            scheduler.stop()
        else:
            well = space_store.push(workspace, "me/store")
            status = vars(space_store.status(workspace))
            print(json.dumps({"well": well, "waiting": space_store.waiting(workspace)} | status))
    except FtlabError as error:
        print(json.dumps({"error": str(error)}))
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    yield hub
    hub.close()


def go(workspace: Workspace, hub: FakeHub, *verbs: str, **environment: str) -> list[dict[str, Any]]:
    """What a process says of `verbs`, done one after the other."""
    done = subprocess.run(
        [sys.executable, "-c", GO, str(workspace.root), *verbs],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=hub.environment(workspace.root.parent / f"home-{workspace.root.name}") | environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def make_run(workspace: Workspace, state: str, *checkpoints: int) -> RunDirectory:
    run = workspace.create_run("kept")
    write_text(run.config_file, "name: kept\n")
    write_status(run.status_file, RunStatus(state=state, created=1.0, started=1.0, finished=2.0, step=4, total_steps=8))
    write_text(run.metrics_file, '{"step": 4, "loss": 1.5}\n')
    write_text(run.adapter / "adapter_config.json", "{}")
    (run.adapter / "adapter_model.safetensors").write_bytes(b"weights " * 99)
    for step in checkpoints:
        folder = run.checkpoints / f"checkpoint-{step}"
        for name in ("optimizer.bin", "scheduler.pt"):
            write_text(folder / name, "")
            import zipfile

            with zipfile.ZipFile(folder / name, "w") as archive:
                archive.writestr("x", "x")
        header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
        (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
        write_text(folder / "trainer_state.json", json.dumps({"global_step": step}))
    write_text(run.path / "train.lock", "")
    return run


def content(workspace: Workspace) -> dict[str, bytes]:
    """What is kept of a workspace."""
    rooms = ("runs", "data", "sweeps", "drafts")
    files = [path for room in rooms for path in (workspace.root / room).rglob("*") if path.is_file()]
    return {path.relative_to(workspace.root).as_posix(): path.read_bytes() for path in files if path.suffix != ".lock"}


def test_runs_versions_and_votes_come_back_on_an_empty_disk(hub, tmp_path, rows_file):
    here, there = Workspace.open(tmp_path / "here"), Workspace.open(tmp_path / "there")
    run, stopped = make_run(here, "completed", 2, 4), make_run(here, "stopped", 2, 4)
    versions.create(str(rows_file), here, who="Ada")
    store = open_store(here)
    _, (ana, _) = opened(store)
    trial = trials.next_trial(store, ana)
    assert trial is not None
    trials.vote(store, ana, trial.id, "left")
    assert backup.unsaved(store) == 1
    [said] = go(here, hub, "push", "votes", FTLAB_SPACE_STORE="me/store")
    assert said["well"] and said["waiting"] == [] and backup.unsaved(store) == 0
    repo = hub.repo("me/store", "dataset")
    assert repo.private and not [path for path in repo.files if f"{run.id}/checkpoints" in path or "lock" in path]
    assert sum(path.endswith("/trainer_state.json") for path in repo.files) == 1, "the last one of the run to resume"

    [back] = go(there, hub, "restore", "votes", FTLAB_SPACE_STORE="me/store")
    assert len(back["names"]) == 3 and back["broken"] == []
    whole = content(here)
    for path in list(whole):
        if "checkpoints" in path and f"{stopped.id}/checkpoints/checkpoint-4/" not in path:
            del whole[path]
    assert content(there) == whole
    assert everything(open_store(there)) == everything(store)
    commits = len(repo.commits)
    [again] = go(there, hub, "push")
    assert again["well"] and len(repo.commits) == commits, "what came back is not sent again"


def test_a_run_of_which_a_file_is_missing_does_not_come_back(hub, tmp_path):
    here, there = Workspace.open(tmp_path / "here"), Workspace.open(tmp_path / "there")
    whole, half = make_run(here, "completed"), make_run(here, "completed")
    assert go(here, hub, "push")[0]["well"]
    files = hub.repo("me/store", "dataset").files
    files[f"runs/{half.id}/adapter/adapter_model.safetensors"] = b"cut"
    [back] = go(there, hub, "restore")
    assert back == {"names": [f"runs/{whole.id}"], "broken": [f"runs/{half.id}"]}
    assert [run.id for run in there.runs()] == [whole.id]


def test_each_run_is_one_commit_and_changes_and_deletions_follow(hub, tmp_path):
    here = Workspace.open(tmp_path / "here")
    first, second = make_run(here, "completed"), make_run(here, "completed")
    assert go(here, hub, "push")[0]["well"]
    repo = hub.repo("me/store", "dataset")
    of_runs = [{path.split("/")[1] for path in commit} for commit in repo.commits[1:]]
    assert of_runs == [{first.id}, {second.id}] or of_runs == [{second.id}, {first.id}]
    write_text(first.report_file, "<p>better</p>")
    here.delete_run(second)
    [said] = go(here, hub, "push")
    assert said["well"] and repo.files[f"runs/{first.id}/evaluation/report.html"] == b"<p>better</p>"
    assert set(repo.commits[-2]) == {f"runs/{first.id}/evaluation/report.html", f"runs/{first.id}/ftlab-files.json"}
    assert not [path for path in repo.files if second.id in path]


def test_what_could_not_be_kept_is_said_and_tried_again(hub, tmp_path):
    here = Workspace.open(tmp_path / "here")
    run = make_run(here, "completed")
    [said] = go(here, hub, "push", HF_ENDPOINT="http://127.0.0.1:9")
    assert not said["well"] and said["waiting"] == [f"runs/{run.id}"] and "cannot be reached" in said["error"]
    [said] = go(here, hub, "push")
    assert said["well"] and said["error"] is None and said["waiting"] == []


def test_nothing_is_kept_where_everybody_can_read_it(hub, tmp_path):
    here = Workspace.open(tmp_path / "here")
    make_run(here, "completed")
    hub.add("me/store", "dataset", private=False)
    back, said = go(here, hub, "restore", "push")
    public = "already exists on the Hub and is public"
    assert public in back["error"] and public in said["error"]
    assert hub.repo("me/store", "dataset").files == {}
