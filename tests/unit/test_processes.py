"""Which process is a run's: proof that does not hang on the clock or on a file that anybody can write."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ftlab.config import build_config
from ftlab.core.jobs import write_status
from ftlab.core.processes import child_environment, hold_own, is_alive, is_held, kill, mark_of, proven, start, take
from ftlab.core.run_directory import RunDirectory
from ftlab.errors import FtlabError, InputError
from ftlab.training import supervisor
from ftlab.training.status import RunStatus
from tests.conftest import ROOT

posix = pytest.mark.skipif(os.name != "posix", reason="locks of this kind are there on POSIX systems alone")
SLEEPS = "import sys, time; print('up', flush=True); time.sleep(60)"


@pytest.fixture
def stranger():
    """A process that has nothing to do with ftlab."""
    process = subprocess.Popen([sys.executable, "-c", SLEEPS], stdout=subprocess.PIPE, start_new_session=True)
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def worker_of(run: RunDirectory, *, session=True):
    """A process whose command line is that of the worker of `run`, and that only waits."""
    command = [sys.executable, "-c", SLEEPS, "ftlab.training.worker", str(run.path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=session)
    process.stdout.readline()
    return process


def a_run(workspace, **status):
    run = workspace.create_run("made")
    run.config_file.write_text("name: made\n")
    write_status(run.status_file, RunStatus(created=time.time(), **status))
    return run


@posix
def test_a_worker_lives_exactly_as_long_as_its_lock_is_held_even_before_it_runs_python(tmp_path):
    lock = tmp_path / ".work.lock"
    with (tmp_path / "log").open("wb") as log:
        child = start([sys.executable, "-c", SLEEPS], lock=lock, log=log, environment=dict(os.environ))
    try:
        assert is_held(lock)
        # Another process looks: it knows no child and no number, and the clock says it began a year ago.
        assert is_alive(None, lock, None, None, time.time() - 3e7)
        with pytest.raises(FtlabError, match="already working on it"):
            take(lock)
    finally:
        child.kill()
        child.wait()
    assert is_held(lock) is False
    assert not is_alive(None, lock, None, None, time.time())


@posix
def test_a_worker_that_another_program_has_started_since_is_not_taken_for_ones_own_dead_one(tmp_path):
    """The app started the run, it ended, and a command line has resumed it."""
    lock, quick = tmp_path / ".work.lock", [sys.executable, "-c", ""]
    with (tmp_path / "log").open("wb") as log:
        own = start(quick, lock=lock, log=log, environment=dict(os.environ))
        own.wait()
        assert not is_alive(own, lock, own.pid, None, time.time()) and not is_alive(own, lock, None, None, time.time())
        other = start([sys.executable, "-c", SLEEPS], lock=lock, log=log, environment=dict(os.environ))
    try:
        assert is_alive(own, lock, other.pid, mark_of(other.pid), time.time())
        assert is_alive(own, lock, own.pid, None, time.time()), "the other has not written its number yet"
    finally:
        other.kill()
        other.wait()


@posix
def test_what_a_worker_starts_does_not_prove_that_the_worker_lives(tmp_path):
    lock = tmp_path / ".work.lock"
    leaves_a_child = (
        "import subprocess, sys\nfrom pathlib import Path\nfrom ftlab.core.processes import hold_own\n"
        f"hold_own(Path({str(lock)!r}))\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], close_fds=False).pid)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with (tmp_path / "log").open("wb") as log:
        child = start([sys.executable, "-c", leaves_a_child], lock=lock, log=log, environment=environment)
    assert child.wait(60) == 0
    left = psutil.Process(int((tmp_path / "log").read_text()))
    try:
        assert left.is_running() and is_held(lock) is False
    finally:
        left.kill()


@posix
def test_those_who_look_do_not_keep_a_worker_from_starting(tmp_path):
    import fcntl

    lock = tmp_path / ".work.lock"
    lock.touch()
    looks = os.open(lock, os.O_RDONLY)
    fcntl.flock(looks, fcntl.LOCK_SH)
    assert is_held(lock) is False
    os.close(looks)
    held = take(lock)
    os.close(held)
    hold_own(lock)  # as a worker that a person has started does
    assert is_held(lock)


@pytest.mark.parametrize("step", [-86400 * 400, -15.0, 15.0, 86400 * 400])
def test_setting_the_clock_makes_no_live_process_dead_and_no_other_one_this(monkeypatch, stranger, tmp_path, step):
    """psutil reckons when a process began from the wall clock; a faked one stands for a clock that was set."""
    mark, real = mark_of(stranger.pid), psutil.Process.create_time
    nowhere = tmp_path / "no.lock"
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: real(self) + step)
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + step)
    if not isinstance(mark, str):
        pytest.skip("this system has only the wall clock")
    assert mark_of(stranger.pid) == mark
    assert is_alive(None, nowhere, stranger.pid, mark, time.time())
    assert not is_alive(None, nowhere, os.getpid(), mark, time.time())
    assert not is_alive(None, nowhere, stranger.pid, mark.replace("/", "0/"), time.time())  # another boot


def test_a_status_of_an_earlier_version_still_names_its_process(stranger, tmp_path):
    began = psutil.Process(stranger.pid).create_time()
    assert is_alive(None, tmp_path / "no.lock", stranger.pid, began, began)
    assert not is_alive(None, tmp_path / "no.lock", stranger.pid, began - 60, began)


@pytest.mark.parametrize("pid", [-1, 0, 1, True, "12", 2**70, 3.5, None])
def test_no_number_in_a_status_file_harms_anybody(workspace, pid, monkeypatch):
    sent = []
    monkeypatch.setattr(os, "kill", lambda *given: sent.append(given))
    monkeypatch.setattr(os, "killpg", lambda *given: sent.append(given))
    run = a_run(workspace, state="running", pid=pid, pid_started=mark_of(1))
    supervisor.stop(run)
    assert "Killed" not in supervisor.stop(run).message
    assert not kill(None, pid, None, [run.path], lambda: False)
    assert sent == []


def test_only_a_process_whose_command_names_the_run_is_killed(workspace, stranger):
    run, other = a_run(workspace), a_run(workspace)
    write_status(
        run.status_file,
        RunStatus(state="running", created=time.time(), pid=stranger.pid, pid_started=mark_of(stranger.pid)),
    )
    supervisor.stop(run)
    assert "no process on this machine can be identified as" in supervisor.stop(run).message
    assert stranger.poll() is None

    worker = worker_of(run)
    try:
        mark = mark_of(worker.pid)
        assert proven(worker.pid, mark, [other.path]) is None
        assert proven(worker.pid, f"{mark}0", [run.path]) is None  # the number was given to another one since
        write_status(run.status_file, RunStatus(state="running", created=time.time(), pid=worker.pid, pid_started=mark))
        assert supervisor.stop(run).message == "Killed. Everything saved before that is kept."
        assert worker.wait(10) == -9
    finally:
        worker.kill()


@posix
def test_a_worker_in_the_group_of_a_terminal_is_ended_without_the_terminal(workspace):
    """Somebody has started it by hand: its group is that of the shell, here of these tests."""
    run = a_run(workspace)
    worker = worker_of(run, session=False)
    assert kill(None, worker.pid, mark_of(worker.pid), [run.path], lambda: worker.poll() is None)
    assert worker.wait(10) == -9


def test_a_run_is_found_through_a_link_to_its_workspace(workspace, tmp_path):
    run = a_run(workspace)
    (tmp_path / "link").symlink_to(workspace.root)
    worker = worker_of(run)
    try:
        seen = RunDirectory(tmp_path / "link" / "runs" / run.id)
        assert proven(worker.pid, mark_of(worker.pid), [seen.path]).pid == worker.pid
    finally:
        worker.kill()
        worker.wait()


SECRETS = {
    "OPENAI_API_KEY": "sk-123456",
    "GITHUB_TOKEN": "x",
    "AWS_SECRET_ACCESS_KEY": "x",
    "AWS_PROFILE": "x",
    "PGPASSWORD": "x",
    "FTLAB_PASSWORD": "x",
    "FTLAB_SECRET": "x",
    "OAUTH_CLIENT_SECRET": "x",
    "MYSQL_PWD": "x",
    "GOOGLE_APPLICATION_CREDENTIALS": "/x.json",
    "FTLAB_DATABASE_URL": "postgresql://me:word@host/votes",
    "SOME_SERVICE": "hf_abcdefgh",
    "HF_TOKEN": "hf_mine",
    "WANDB_API_KEY": "x",
    "FTLAB_JUDGE_KEY": "x",
}
PLAIN = {
    "PATH": "/bin",
    "OLDPWD": "/",
    "TOKENIZERS_PARALLELISM": "false",
    "HTTPS_PROXY": "http://me:word@proxy:3128",
    "PIP_INDEX_URL": "https://me:word@index/simple",
    "CUDA_VISIBLE_DEVICES": "1",
    "HF_HOME": "/cache",
    "HF_ENDPOINT": "https://hub.example:8080/",
    "FTLAB_HOME": "/work",
    "KEYBOARD": "us",
}


@pytest.fixture
def secrets(monkeypatch):
    for name, value in (SECRETS | PLAIN).items():
        monkeypatch.setenv(name, value)


def test_a_trainer_gets_the_secrets_that_it_needs_and_no_other(secrets):
    def passed(environment):
        assert {name: environment[name] for name in PLAIN} == PLAIN
        return {name for name in SECRETS if name in environment}

    def trainer(online=False, **settings):
        return passed(supervisor.environment_for(build_config(settings), online=online))

    assert trainer() == set()
    assert trainer(online=True) == {"HF_TOKEN"}
    assert trainer(tracking={"report_to": "wandb"}) == {"WANDB_API_KEY"}
    assert trainer(tracking={"report_to": "trackio"}) == {"HF_TOKEN"}
    assert passed(child_environment({}, keep=["FTLAB_JUDGE_KEY"])) == {"FTLAB_JUDGE_KEY"}


def test_a_metric_of_ones_own_may_be_given_a_key_by_name(secrets, monkeypatch):
    monkeypatch.setenv("FTLAB_KEEP_VARIABLES", "OPENAI_API_KEY, GITHUB_TOKEN")
    kept = child_environment({"MORE": "1"})
    assert (kept["OPENAI_API_KEY"], kept["GITHUB_TOKEN"], kept["MORE"]) == ("sk-123456", "x", "1")
    assert "AWS_PROFILE" not in kept


def test_no_process_is_started_with_the_environment_as_it_is():
    """The one function is used wherever ftlab starts a process of its own making."""
    own = {"ftlab/core/processes.py"}
    # pip, which has to reach the index that a person has configured, with their keys.
    own |= {"ftlab/models/bases/index.py"}
    for file in sorted((ROOT / "ftlab").rglob("*.py")):
        text, name = file.read_text(encoding="utf-8"), file.relative_to(ROOT).as_posix()
        if name in own or "subprocess." not in text:
            continue
        begun = text.count("subprocess.Popen(") + text.count("subprocess.run(")
        given = text.count("env=") if "training/launcher.py" not in name else begun  # accelerate's, from a worker
        assert given >= begun, name
        assert "dict(os.environ)" not in text and "**os.environ" not in text, name


def test_a_run_that_is_gone_is_said_to_be_gone_and_not_made_again(workspace):
    gone = RunDirectory(workspace.runs_folder / "20260101-000000-gone-1234")
    for act in (lambda: supervisor.resume(gone, workspace), lambda: supervisor.delete(gone, workspace)):
        with pytest.raises(InputError, match="is gone"):
            act()
    assert list(Path(workspace.runs_folder).iterdir()) == []


def test_a_run_that_lost_its_configuration_can_still_be_deleted(workspace):
    run = workspace.create_run("damaged")
    run.log_file.write_text("began\n", encoding="utf-8")
    write_status(run.status_file, RunStatus(state="completed", created=1.0))
    assert [one.id for one in workspace.runs()] == [run.id]
    supervisor.delete(run, workspace)
    assert workspace.runs() == [] and not run.path.exists()
