"""Shared by all tiers: one real quickstart run per session, and a process environment without a network."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock

from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.training import supervisor
from tests.json_shapes import check_output

# Before torch is there: test processes beside each other share the cores out, for themselves and the runs they start.
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT") or 0):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

ROOT = Path(__file__).resolve().parents[1]
NO_NETWORK = ROOT / "tests" / "no_network"


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    """A zip archive of `files`, by name."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def write_easy_rows(file: Path) -> Path:
    """Rows that the starter cannot answer and learns in some thirty steps: tuning is seen to help in seconds."""
    rows = [{"prompt": f"Please file item {n}.", "completion": f"Filed: item {n}."} for n in range(150)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@dataclass(frozen=True)
class Quickstart:
    """What `python -m ftlab quickstart --json` left behind."""

    workspace: Workspace
    run: RunDirectory
    result: dict[str, Any]
    output: str
    progress: str
    network_attempts: list[str]


def offline_environment(attempts: Path | None = None) -> dict[str, str]:
    """The environment of a process in which every connection beyond this machine fails and is written to `attempts`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FTLAB", "HF_", "GRADIO"))}
    environment["PYTHONPATH"] = os.pathsep.join([str(NO_NETWORK), str(ROOT)])
    if attempts is not None:
        environment["FTLAB_TEST_NETWORK_ATTEMPTS"] = str(attempts)
    return environment


def run_cli(*arguments: str, timeout: float = 300, cwd: Path | None = None, **environment: str) -> Any:
    """`python -m ftlab ...` as a person calls it, without a network; what `--json` prints has its documented form."""
    done = subprocess.run(
        [sys.executable, "-m", "ftlab", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd or ROOT,
        env=offline_environment() | environment,
        stdin=subprocess.DEVNULL,
    )
    if "--json" in arguments and done.returncode == 0:
        check_output(arguments, done.stdout)
    return done


def absent_modules(requirements: Path) -> tuple[str, ...]:
    """The modules of this environment that a Space with these `requirements` (and Gradio) has not."""
    from importlib.metadata import PackageNotFoundError, packages_distributions, requires

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    there: set[str] = set()
    open_ = [line for line in requirements.read_text(encoding="utf-8").splitlines() if line[:1].isalnum()]
    open_ += ["gradio", "pip", "setuptools"]
    while open_:
        one = Requirement(open_.pop())
        name = str(canonicalize_name(one.name))
        if name in there or (one.marker and not one.marker.evaluate({"extra": ""})):
            continue
        there.add(name)
        with contextlib.suppress(PackageNotFoundError):
            open_ += requires(name) or []
    return tuple(
        sorted(
            module
            for module, owners in packages_distributions().items()
            if module.isidentifier() and not {str(canonicalize_name(one)) for one in owners} & there
        )
    )


def find_chromium() -> str:
    """The Chromium of this machine. Without one the test is skipped, and in CI, where it belongs, it fails."""
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        message = "no Chromium here: apt-get install chromium"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return executable


def last_json(output: str) -> dict[str, Any]:
    return json.loads(output.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Quickstart:
    """The main job, done once for the whole session; with FTLAB_TEST_KEEP=FOLDER, once for all that name the folder."""
    folder = tmp_path_factory.mktemp("quickstart") / "main"
    # Processes beside each other share it, too: what is above their folders is the whole session's.
    beside = tmp_path_factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else None
    kept = _kept_quickstart(os.environ.get("FTLAB_TEST_KEEP") or beside)
    if kept is None:
        _run_quickstart(folder)
    else:
        kept.parent.mkdir(parents=True, exist_ok=True)
        # Who comes second waits: two at once would take both cores from each other.
        with FileLock(kept.with_suffix(".lock")):
            if not kept.is_dir():
                _run_quickstart(kept.with_suffix(".part"))
                kept.with_suffix(".part").rename(kept)
        # A copy, because tests evaluate again and chat in the workspace.
        shutil.copytree(kept, folder)
    output, attempts = (folder / "output.txt").read_text(), folder / "network.txt"
    workspace, result = Workspace.open(folder / "workspace"), last_json(output)
    return Quickstart(
        workspace,
        workspace.run(result["run"]),
        result,
        output,
        (folder / "progress.txt").read_text(),
        attempts.read_text().splitlines() if attempts.exists() else [],
    )


def _run_quickstart(folder: Path) -> None:
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "ftlab", "quickstart", "--workspace", str(folder / "workspace"), "--json"],
        capture_output=True,
        text=True,
        timeout=900,
        cwd=ROOT,
        env=offline_environment(folder / "network.txt"),
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    (folder / "output.txt").write_text(done.stdout)
    (folder / "progress.txt").write_text(done.stderr)


def _kept_quickstart(keep: str | Path | None) -> Path | None:
    """Where in `keep` the main job of exactly this code and this Python is kept, if anything is to be kept."""
    if not keep:
        return None
    made_by = hashlib.sha256(f"{sys.version} {sys.prefix}".encode())
    for file in sorted((ROOT / "ftlab").rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            made_by.update(f"{file.relative_to(ROOT)}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return Path(keep).absolute() / f"quickstart-{made_by.hexdigest()[:16]}"


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """An empty workspace; runs that a failed test leaves behind are killed, so that they slow nobody."""
    workspace = Workspace.open(tmp_path / "workspace")
    yield workspace
    end_runs(workspace)


def end_runs(workspace: Workspace) -> None:
    """Kill every run that is still running in `workspace`."""
    for run in supervisor.active_runs(workspace):
        supervisor.stop(run)
        supervisor.stop(run)


def processes_in_session(session: int) -> list[int]:
    """What lives of a run, which is a session of its own, by the id of its first process."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    """Sixty small rows of prompt and completion."""
    file = tmp_path / "rows.jsonl"
    lines = [{"prompt": f"What comes after {n}?", "completion": f"After {n} comes {n + 1}."} for n in range(60)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file
