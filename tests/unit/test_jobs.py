"""Work in a process of its own: what its status says when it dies, is stopped, or is damaged."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from ftlab.arena import answers as answering
from ftlab.core import jobs
from ftlab.core.files import DamagedFile
from ftlab.core.workspace import Workspace
from ftlab.data.checks import job as checks
from ftlab.data.checks.job import Job as Check
from ftlab.data.checks.job import Status as CheckStatus
from ftlab.training.status import RunStatus

SLEEPS = "import time; time.sleep(60)"


@pytest.fixture
def job(tmp_path: Path) -> jobs.Job:
    return jobs.Job(
        tmp_path / "status.json", tmp_path / ".work.lock", tmp_path / "log.txt", (tmp_path,), tmp_path / "stop"
    )


def started(job: jobs.Job, code: str) -> None:
    jobs.begin(job, jobs.Status(state="running", phase="at work", created=time.time(), eta_seconds=9.0))
    jobs.start(job, [sys.executable, "-c", code], jobs.environment({}, online=False))


def settled(job: jobs.Job, seen: list) -> jobs.Status:
    def explain(current: jobs.Status, code: int | None) -> dict:
        seen.append((current.phase, code))
        return {"what": "It is gone", "why": None, "try": None}

    return jobs.settled(job, jobs.Status, explain)


def test_a_process_that_ends_without_a_word_has_failed_with_its_exit_code(job):
    seen: list = []
    started(job, "print('the last word'); raise SystemExit(7)")
    end = time.monotonic() + 60
    while (status := settled(job, seen)).is_active:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert seen == [("at work", 7)]
    assert (status.state, status.phase, status.error["what"]) == ("failed", "", "It is gone")
    assert job.log_file.read_text() == "the last word\n"
    assert settled(job, seen) == status and len(seen) == 1, "the finding is kept"


def test_the_first_stop_asks_and_the_second_kills(job):
    seen: list = []
    started(job, SLEEPS)
    assert jobs.stop(job, settled(job, seen)).outcome == "asked"
    asked = settled(job, seen)
    assert asked.state == "stopping" and job.is_asked_to_stop
    assert jobs.stop(job, asked).outcome == "killed"
    ended = settled(job, seen)
    assert (ended.state, ended.eta_seconds, seen) == ("stopped", None, [])
    assert jobs.stop(job, ended).outcome == "idle"
    started(job, SLEEPS)
    again = settled(job, seen)
    assert again.state == "running", "that it was asked to stop before is forgotten"
    jobs.stop(job, again)
    jobs.stop(job, again)


class Ended(Exception):
    pass


@pytest.fixture
def ctrl_c():
    """The usual handler of SIGINT: a shell starts what runs in its background without one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_stop_reaches_work_that_never_looks_for_it(tmp_path, ctrl_c):
    asked = tmp_path / "stop"
    threading.Timer(0.2, asked.touch).start()
    began = time.monotonic()
    with pytest.raises(Ended), jobs.ended_by(asked.exists, Ended):
        with contextlib.suppress(Ended):  # as a library may that tries one thing and then another
            time.sleep(60)
        time.sleep(60)
    assert time.monotonic() - began < 20
    time.sleep(3)  # over: nothing comes after it
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_stop_stays_one_where_a_library_wraps_every_error_and_comes_to_nothing_where_the_work_has_ended(tmp_path):
    asked = tmp_path / "stop"
    asked.touch()
    with pytest.raises(Ended), jobs.ended_by(asked.exists, Ended):
        try:
            time.sleep(60)
        except Exception as error:
            raise RuntimeError("The metric failed") from error
    before = signal.getsignal(signal.SIGINT)
    for looks in (0.0002, 0.001, 0.002) * 20:
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Ended):
            patch.setattr(jobs, "_LOOK_SECONDS", looks)
            with jobs.ended_by(asked.exists, Ended):
                time.sleep(0.001)
        assert signal.getsignal(signal.SIGINT) is before


def test_work_that_nobody_stops_ends_as_ever_and_ctrl_c_stays_ctrl_c(tmp_path, ctrl_c):
    with pytest.raises(KeyboardInterrupt), jobs.ended_by((tmp_path / "stop").exists, Ended):
        signal.raise_signal(signal.SIGINT)
    with jobs.ended_by((tmp_path / "stop").exists, Ended):
        done = sum(range(10))
    assert done == 45


@pytest.mark.parametrize("kind", [jobs.Status, RunStatus, CheckStatus])
@pytest.mark.parametrize(
    "damage",
    [{"state": "asleep"}, {"state": 3}, {"pid": "12"}, {"created": "today"}, {"created": 1e300}, {"error": "x"}],
)
def test_a_status_with_a_value_that_nobody_writes_is_damaged(kind, damage, tmp_path):
    file = tmp_path / "status.json"
    jobs.write_status(file, kind(state="running", created=1.7e9))
    assert jobs.read_status(file, kind) == kind(state="running", created=1.7e9)
    file.write_text(json.dumps(json.loads(file.read_text()) | damage))
    with pytest.raises(DamagedFile):
        jobs.read_status(file, kind)


def test_a_damaged_status_of_a_check_or_of_answers_stops_nobody_from_starting_it_again(tmp_path):
    workspace = Workspace.open(tmp_path / "home")
    check = Check(workspace.checks_folder / "0-0")
    file = workspace.answers_folder("test") / "status.json"
    for damaged in (check.status_file, file):
        damaged.parent.mkdir(parents=True)
        damaged.write_text('{"state": "running", "created": "today", "pid": null}')
    assert checks.status(check).state == "failed"
    assert answering.status(workspace, "test") is None
