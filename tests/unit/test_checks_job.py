"""A check in a process of its own: progress, stop, a process that dies, and a report that is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from ftlab.config import DataConfig
from ftlab.core.files import read_json, write_json
from ftlab.core.workspace import Workspace
from ftlab.data.checks import job
from ftlab.data.checks.job import Job, Request
from ftlab.errors import InputError
from tests.benchmarks.data_checks import rows

pytestmark = pytest.mark.timeout(300)


def finished(check: Job, each: Callable[[job.Status], None] = lambda status: None) -> job.Status:
    end = time.monotonic() + 240
    while (status := job.status(check)).is_active:
        assert time.monotonic() < end, status
        each(status)
        time.sleep(0.05)
    return status


def at_work(check: Job) -> None:
    """Wait until the process itself has said what it is doing, and looks at the rows."""
    end = time.monotonic() + 120
    while (current := job.status(check)).pid is None or current.phase in ("starting", "loading the tokenizer"):
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def twins(tmp_path: Path) -> Path:
    """Thirty rows, the last of which repeats the first."""
    file = tmp_path / "twins.jsonl"
    lines = [{"prompt": f"What is {n} and {n}?", "completion": f"It is {2 * n}, of course."} for n in range(29)]
    file.write_text("".join(json.dumps(line) + "\n" for line in [*lines, lines[0]]), encoding="utf-8")
    return file


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """Enough rows that a check of them can be interrupted."""
    file = tmp_path / "long.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(20_000)), encoding="utf-8")
    return file


def test_a_check_says_how_far_it_is_and_leaves_a_report_that_is_found_again(workspace: Workspace, twins: Path) -> None:
    request = Request(DataConfig(source=str(twins)))
    assert job.find(request, workspace) is None
    phases: list[str] = []
    started = job.start(request, workspace)
    assert finished(started, lambda status: phases.append(status.phase)).state == "done"
    assert "loading the tokenizer" in phases
    report = started.report()
    assert report["rows"] == report["checked"] == 30 and report["tokens"]["base"] == "starter"
    assert [(finding["kind"], finding["rows"]) for finding in report["findings"]] == [("exact_duplicate", [29])]

    ended = started.status_file.stat().st_mtime_ns
    assert job.find(request, workspace) == started
    assert job.start(request, workspace) == started and job.status(started).state == "done"
    assert started.status_file.stat().st_mtime_ns == ended
    # Another split of the same rows changes nothing that is checked; another length is told apart, and found as well.
    assert job.job_for(Request(DataConfig(source=str(twins), seed=7)), workspace) == started
    longer = Request(request.data, max_length=1024)
    assert job.job_for(longer, workspace) != started and job.find(longer, workspace) == started


def test_a_changed_file_is_not_taken_for_the_one_that_was_checked(workspace: Workspace, twins: Path) -> None:
    request = Request(DataConfig(source=str(twins)))
    done = job.job_for(request, workspace)
    write_json(done.folder / "request.json", request.as_dict())
    write_json(done.status_file, {"state": "done"})
    assert job.find(request, workspace) == done
    twins.write_text(twins.read_text() + '{"prompt": "One more?", "completion": "Yes, one more."}\n')
    assert job.find(request, workspace) is None


def test_stopping_keeps_what_was_found_so_far(
    workspace: Workspace, long: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTLAB_NICE", "7")
    started = job.start(Request(DataConfig(source=str(long))), workspace)
    at_work(started)
    assert psutil.Process(job.status(started).pid).nice() == 7
    assert "Stopping" in job.stop(started).message
    assert job.status(started).state in ("stopping", "stopped")
    assert finished(started).state == "stopped"
    report = started.report()
    assert report["stopped"] and "stopped" in report["notes"][-1]
    assert job.stop(started).message == "No check is running."
    again = job.start(Request(DataConfig(source=str(long))), workspace)
    assert again == started and job.status(again).is_active and not again.stop_file.exists()
    job.stop(again)
    assert job.stop(again).message == "Stopped at once."
    assert job.status(again).state == "stopped"


def test_a_check_that_is_stopped_while_it_loads_ends_at_once_with_nothing_found(
    workspace: Workspace, twins: Path
) -> None:
    started = job.start(Request(DataConfig(source=str(twins))), workspace)
    end = time.monotonic() + 120
    while job.status(started).phase != "loading the tokenizer":
        assert time.monotonic() < end
        time.sleep(0.01)
    job.stop(started)
    assert finished(started).state == "stopped" and started.report() is None


def test_a_process_that_was_killed_is_told_as_failed_with_a_remedy(workspace: Workspace, long: Path) -> None:
    started = job.start(Request(DataConfig(source=str(long))), workspace)
    at_work(started)
    os.kill(job.status(started).pid, signal.SIGKILL)
    status = finished(started)
    assert status.state == "failed"
    assert "ended before" in status.error["what"] and "memory" in status.error["try"]
    assert started.report() is None
    assert read_json(started.status_file)["state"] == "failed"


def test_an_app_that_was_started_anew_sees_that_a_check_is_dead(workspace: Workspace, twins: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    check = job.job_for(Request(DataConfig(source=str(twins))), workspace)
    write_json(check.folder / "request.json", Request(DataConfig(source=str(twins))).as_dict())
    write_json(check.status_file, {"state": "running", "phase": "languages", "pid": gone.pid, "created": time.time()})
    status = job.status(check)
    assert status.state == "failed" and "languages" in status.error["why"]


def test_what_cannot_be_checked_is_one_message(workspace: Workspace, twins: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        job.start(Request(DataConfig(source=str(tmp_path / "nowhere.csv"))), workspace)
    with pytest.raises(InputError, match="16 tokens"):
        Request(DataConfig(source=str(twins)), max_length=3)
    status = finished(job.start(Request(DataConfig(source=str(twins)), base="./nowhere"), workspace))
    assert status.state == "failed" and "no such model folder" in status.error["what"]


def test_only_the_newest_checks_are_kept(workspace: Workspace, twins: Path) -> None:
    for number in range(30):
        folder = workspace.checks_folder / f"{number:016d}-00000000"
        write_json(folder / "status.json", {"state": "done"})
        os.utime(folder / "status.json", (number, number))
    started = job.start(Request(DataConfig(source=str(twins))), workspace)
    left = {check.id for check in job.jobs(workspace)}
    assert len(left) == job.KEPT == 20 and started.id in left
    assert f"{29:016d}-00000000" in left and f"{0:016d}-00000000" not in left
    job.stop(started)
    job.stop(started)
