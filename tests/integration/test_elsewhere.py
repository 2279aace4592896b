"""A run on another machine by ssh and rsync, against a real sshd on this one."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from ftlab.config import build_config
from ftlab.core.files import read_json
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from ftlab.models.identity import damaged_result
from ftlab.training import supervisor
from ftlab.training.elsewhere import place_at, submit_elsewhere
from ftlab.training.ssh import SshPlace
from ftlab.training.there import Tail
from tests.conftest import last_json, run_cli, write_easy_rows
from tests.ssh_server import MISSING, ssh_server

needs_sshd = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (openssh-server, rsync)")
PLAIN = {"probes": "none", "general_text": "none", "memorisation": False, "max_rows": 4, "before_training": False}


@pytest.fixture
def server(tmp_path, monkeypatch):
    at = tmp_path / "box"
    at.mkdir()
    with ssh_server(at) as server:
        server.install()
        monkeypatch.setenv("FTLAB_SSH", server.command)
        yield server


def config_of(tmp_path, steps, **evaluation):
    data = {"source": str(write_easy_rows(tmp_path / "easy.jsonl"))}
    optimisation = {"max_steps": steps, "early_stopping": 0}
    values = {"data": data, "optimisation": optimisation, "evaluation": PLAIN | evaluation, "launcher": {"threads": 1}}
    return build_config(values)


def until(holds, seconds=120):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def start(server, config, workspace):
    run = submit_elsewhere(config, workspace, f"ssh:box:{server.folder}", lambda transfer, remarks: True)
    assert run is not None
    (server.at.parent / "easy.jsonl").unlink()  # the other machine has only what was sent
    return run


@needs_sshd
@pytest.mark.train
def test_a_run_there_is_a_run_like_any_other_and_data_wait_for_a_yes(server, tmp_path):
    home, rows = tmp_path / "home", write_easy_rows(tmp_path / "easy.jsonl")
    settings = {"data.source": rows, "optimisation.max_steps": 6, "evaluation.max_rows": 4, "evaluation.probes": "none"}
    settings |= {"evaluation.general_text": "none", "evaluation.memorisation": "false", "launcher.threads": 1}
    sets = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    on = ["--workspace", str(home), "--on", f"ssh:box:{server.folder}"]
    asked = run_cli("train", *on, *sets, FTLAB_SSH=server.command)
    assert asked.returncode == 2 and "--yes" in asked.stderr
    assert "120 train, 15 validation and 15 test rows of" in asked.stderr and f"box:{server.folder}" in asked.stderr
    assert not Workspace(home).runs() and not (server.folder / "runs").exists()

    planned = run_cli("train", *on, *sets, "--json", FTLAB_SSH=server.command)
    assert planned.returncode == 0 and last_json(planned.stdout)["sends"]["rows"]["train"] == 120
    assert not Workspace(home).runs()

    trained = run_cli("train", *on, *sets, "--yes", "--json", FTLAB_SSH=server.command)
    assert trained.returncode == 0, trained.stderr
    result = last_json(trained.stdout)
    run = Workspace(home).run(result["run"])
    assert result["state"] == "completed" and supervisor.status(run).step == 6
    there = server.folder / "runs" / run.id
    assert run.adapter.exists() and damaged_result(run) == [] and run.verification()["changes_logits"]
    assert run.comparison()["base"]["rows"] == 4
    assert run.metrics() and run.metrics_file.read_text() == (there / "metrics.jsonl").read_text()
    # The whole log came over, once.
    log, original = run.log_file.read_text(), (there / "train.log").read_text()
    assert original.strip() and log.count(original) == 1
    assert not run.checkpoints.exists() and read_json(there / "status.json")["pid"] != supervisor.status(run).pid
    listed = run_cli("runs", "show", run.id, "--workspace", str(home))
    assert f"box:{server.folder}" in listed.stdout and "completed" in listed.stdout
    again = run_cli("evaluate", run.id, "--workspace", str(home), "--json")
    assert again.returncode == 0, again.stderr


@needs_sshd
@pytest.mark.train
@pytest.mark.long
def test_a_run_outlives_the_connection_and_its_process_here_and_is_taken_up_again(server, tmp_path):
    workspace = Workspace.open(tmp_path / "home")
    run = start(server, config_of(tmp_path, 120, after_training=False), workspace)
    until(lambda: supervisor.status(run).step >= 3)
    there = server.folder / "runs" / run.id / "status.json"
    pid, before = read_json(there)["pid"], read_json(there)["step"]
    server.cut()
    until(lambda: "no connection to box" in supervisor.status(run).phase)
    until(lambda: read_json(there)["step"] > before)
    server.start()
    until(lambda: supervisor.status(run).phase == "training" or not supervisor.status(run).is_active)
    os.kill(supervisor.status(run).pid, signal.SIGKILL)
    until(lambda: supervisor.status(run).state == "failed")
    assert read_json(there)["pid"] == pid and read_json(there)["state"] in ("running", "completed")
    supervisor.resume(run, workspace)
    end = supervisor.wait(run)
    assert (end.state, end.step) == ("completed", 120), end.error
    steps = [row["step"] for row in run.metrics() if "loss" in row]
    assert steps == sorted(set(steps)) and steps[-1] == 120
    assert damaged_result(run) == [] and read_json(there)["pid"] == pid


@needs_sshd
@pytest.mark.train
@pytest.mark.long
def test_stop_and_death_there_are_told_here_and_resume_continues_it_there(server, tmp_path):
    workspace = Workspace.open(tmp_path / "home")
    run = start(server, config_of(tmp_path, 120, after_training=False), workspace)
    there = server.folder / "runs" / run.id / "status.json"
    until(lambda: supervisor.status(run).step >= 3)
    assert supervisor.stop(run).outcome == "asked"
    end = supervisor.wait(run)
    assert end.state == "stopped" and 3 <= end.step < 120 and run.has_result, end
    assert read_json(there)["state"] == "stopped"

    assert supervisor.resume(run, workspace) == end.step
    until(lambda: supervisor.status(run).step > end.step)
    os.kill(read_json(there)["pid"], signal.SIGKILL)
    dead = supervisor.wait(run)
    assert dead.state == "failed" and "kill" in str(dead.error).lower(), dead

    supervisor.resume(run, workspace)
    done = supervisor.wait(run)
    assert (done.state, done.step) == ("completed", 120), done.error
    # The first step was trained once: it went on from the checkpoint of the stop.
    assert [row["step"] for row in run.metrics() if "loss" in row][-1] == 120
    assert run.log_file.read_text().count("'epoch': '0.125'") == 1

    # A copy that was damaged here is copied again: nothing is trained twice.
    pid = read_json(there)["pid"]
    (run.adapter / "adapter_model.safetensors").write_bytes(b"damaged")
    supervisor.resume(run, workspace)
    assert supervisor.wait(run).state == "completed" and damaged_result(run) == []
    assert read_json(there)["pid"] == pid


@needs_sshd
def test_every_failure_before_the_start_says_what_to_do(server, tmp_path, monkeypatch):
    def message(on):
        with pytest.raises(FtlabError) as caught:
            place_at(on).check([])
        return str(caught.value)

    box = f"ssh:box:{server.folder}"
    assert place_at(box).check([]) == []
    assert "ssh-copy-id closed" in message("ssh:closed")
    assert "log in once by hand" in message("ssh:stranger")
    assert "check the name" in message("ssh:no-such-host.invalid")
    with pytest.raises(FtlabError, match="is not on box") as caught:
        place_at(box).check([tmp_path / "base"])
    assert "rsync" in str(caught.value)
    (tmp_path / "base").mkdir()
    assert place_at(box).check([tmp_path / "base"]) == []
    (tmp_path / "file").touch()
    assert "cannot be created on box" in message(f"ssh:box:{tmp_path / 'file' / 'folder'}")
    server.install("echo 0.0.1; echo abc")
    assert "version 0.0.1" in message(box) and "pip install" in message(box)
    server.install("exit 1")
    for name in ("python", "python3"):
        server.install("exit 1", server.at / "bin" / name)
    assert "ftlab is not installed there" in message(box)
    for name in ("python", "python3"):
        server.install(file=server.at / "bin" / name)
    assert place_at(box).check([]) == []  # of the path, where the folder has none of its own
    server.cut()
    assert "cannot be reached" in message(box)
    monkeypatch.setenv("FTLAB_SSH", "no-such-ssh")
    assert "no-such-ssh is not installed here" in message(box)


def test_a_name_cannot_smuggle_options_or_shell(tmp_path):
    for on in (
        "ssh:-oProxyCommand=x",
        "ssh:box;ls",
        "ssh:box:$(ls)",
        "ssh:box:-x",
        "ssh:box: x",
        "hf:a10g-small",
        "box",
    ):
        with pytest.raises(InputError):
            place_at(on)
    place = place_at("ssh:me@box.example:~/runs/")
    assert isinstance(place, SshPlace) and (place.host, place.folder) == ("me@box.example", "runs")


def test_a_tail_tells_what_is_new_once_and_a_file_written_anew_as_a_whole(tmp_path):
    file = tmp_path / "metrics.jsonl"
    tail = Tail(file)
    assert tail.read(whole=True) is None
    file.write_text("one\ntw")
    assert tail.read(whole=False) == {"file": file.name, "at": 0, "next": 4, "text": "one\n"}
    assert tail.read(whole=False) is None
    with file.open("a") as stream:
        stream.write("o\nthree")
    assert tail.read(whole=False)["text"] == "two\n"
    assert tail.read(whole=True) == {"file": file.name, "at": 8, "next": 13, "text": "three"}
    other = tmp_path / "other"
    other.write_text(json.dumps({"step": 1}) + "\n" * 20)
    other.replace(file)
    assert tail.read(whole=True)["at"] == 0
