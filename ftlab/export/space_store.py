"""The disk of a Space is lost at each restart: runs and versions of data live on in a private data set on the Hub.

FTLAB_SPACE_STORE=owner/name   the data set; made when missing, refused when everybody can read it
restore(workspace, name)       what it holds comes back into a workspace that does not have it
start(workspace, name)         what is new or changed goes there every minute, and what was deleted is deleted there
waiting(workspace)             what is not there yet

A run goes there without its checkpoints, save the last one of a run that can be resumed. One run (or version) is one
commit, which the Hub takes as a whole or not at all; the list of its files goes with it, and what does not agree with
that list is not restored. Hence commits of our own: CommitScheduler only adds files and sends a run half, and
upload_folder deletes nothing that was deleted here. Votes go to the same data set by themselves (see arena.backup).
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.core.files import read_cached, write_json
from ftlab.core.hub import check_name, fetch, make, refuse_public, writing
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, shorten
from ftlab.training import supervisor
from ftlab.training.checkpoints import last_checkpoint

EVERY_SECONDS = 60.0
LIST = "ftlab-files.json"
_ROOMS = {"runs": 2, "data": 3, "sweeps": 1, "drafts": 1}  # how many names deep one thing lies
_IN_MEMORY = 5_000_000  # bytes; smaller files may change while they are sent
_CARD = """---
viewer: false
tags: [ftlab]
---
# What a Space of ftlab keeps

Runs, versions of data and votes. Written by ftlab, which reads it back when its Space starts again. Keep it private.
"""

log = logging.getLogger(__name__)

Files = dict[str, tuple[int, int]]  # by path within the thing: bytes, and nanoseconds of its last change


@dataclass(frozen=True)
class Thing:
    """What is pushed and restored as one: a run, a version of data, the sweeps, the drafts."""

    name: str  # its folder in the workspace and in the data set: "runs/20260101-..."
    folder: Path
    files: Files
    settled: bool = True  # off for a run at work, whose log and status change all the time


@dataclass(frozen=True)
class Restored:
    """What came back, and what did not because files were missing."""

    names: list[str]
    broken: list[str]


def start(workspace: Workspace, repository: str, every_seconds: float = EVERY_SECONDS) -> Callable[[], None]:
    """Push every so often, in a thread. Returns what pushes a last time and ends it."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(every_seconds):
            push(workspace, repository)

    thread = threading.Thread(target=work, daemon=True, name="space store")
    thread.start()

    def end() -> None:
        ended.set()
        thread.join()
        push(workspace, repository)

    return end


def push(workspace: Workspace, repository: str) -> bool:
    """Bring the data set up to date; tells whether all of it went well. Failures are in `status`, and tried again."""
    error = None
    try:
        _push(workspace, repository)
    except FtlabError as told_:
        error = str(told_)
    except OSError as gone:  # a file that went away meanwhile
        error = shorten(gone, 200)
    if error:
        log.error("Not everything could be kept in %s: %s", repository, error)
    write_json(_status_file(workspace), {"repository": repository, "at": time.time(), "error": error})
    return error is None


def status(workspace: Workspace) -> dict[str, Any] | None:
    """The last push: {"repository", "at", "error"}; None when there was none."""
    return read_cached(_status_file(workspace))


def waiting(workspace: Workspace) -> list[str]:
    """What is not in the data set yet, or no longer as it is here, by name."""
    pushed = _pushed(workspace)
    return [thing.name for thing in things(workspace) if _differs(thing, pushed.get(thing.name))]


def things(workspace: Workspace) -> Iterator[Thing]:
    """All that is kept of `workspace`."""
    for run in reversed(workspace.runs()):
        yield _run(run)
    for file in sorted(workspace.versions_folder.glob("*/*/version.json")):
        yield Thing(f"data/{file.parent.parent.name}/{file.parent.name}", file.parent, _files(file.parent))
    for name in ("sweeps", "drafts"):
        folder = workspace.root / name
        if found := _files(folder):
            yield Thing(name, folder, found)


def restore(workspace: Workspace, repository: str) -> Restored:
    """Bring back what the data set holds and `workspace` does not have. Raises InputError when everybody can read it,
    or when it cannot be reached."""
    from huggingface_hub.errors import RepositoryNotFoundError

    check_name(repository, "data set")
    fetched = workspace.root / ".restoring"
    shutil.rmtree(fetched, ignore_errors=True)
    with writing("dataset", repository, f"keep runs in {repository}") as api:
        refuse_public(api, repository, "dataset", try_="another name in FTLAB_SPACE_STORE, or make it private there")
        try:
            fetch(api, repository, [f"{room}/*" for room in _ROOMS], fetched)
        except RepositoryNotFoundError:
            return Restored([], [])
    found = _take(workspace, fetched)
    shutil.rmtree(fetched, ignore_errors=True)
    return found


def _take(workspace: Workspace, fetched: Path) -> Restored:
    """Move whole things from `fetched` into `workspace`."""
    names, broken, pushed = [], [], _pushed(workspace)
    for listed in sorted(fetched.rglob(LIST)):
        name = listed.parent.relative_to(fetched).as_posix()
        if _ROOMS.get(name.split("/")[0]) != len(name.split("/")) or (workspace.root / name).exists():
            continue
        sizes = (read_cached(listed) or {}).get("files", {})
        here = {path: size for path, (size, _) in _files(listed.parent).items()}
        if any(here.get(path) != size for path, size in sizes.items()):
            broken.append(name)
            continue
        for path in set(here) - set(sizes):  # the list itself, and what is not on it
            (listed.parent / path).unlink()
        (workspace.root / name).parent.mkdir(parents=True, exist_ok=True)
        listed.parent.rename(workspace.root / name)
        names.append(name)
        pushed[name] = _files(workspace.root / name)
    _keep(workspace, pushed)
    return Restored(names, broken)


def _push(workspace: Workspace, repository: str) -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    pushed = _pushed(workspace)
    current = {thing.name: thing for thing in things(workspace)}
    changed = [thing for thing in current.values() if _differs(thing, pushed.get(thing.name))]
    gone = [name for name in pushed if name not in current]
    if not changed and not gone:
        return
    with writing("dataset", repository, f"keep runs in {repository}") as api:
        refuse_public(api, repository, "dataset")
        if not api.repo_exists(repository, repo_type="dataset"):
            make(api, repository, "dataset")
            api.create_commit(
                repository,
                [CommitOperationAdd("README.md", _CARD.encode())],
                commit_message="What this is",
                repo_type="dataset",
            )
        for thing in changed:
            before = pushed.get(thing.name, {})
            fresh = [path for path, stamp in thing.files.items() if stamp != before.get(path)]
            sent = {path: _content(thing.folder / path) for path in fresh}
            sizes = {path: size for path, (size, _) in thing.files.items()}
            sizes |= {path: len(content) for path, content in sent.items() if isinstance(content, bytes)}
            operations: list[Any] = [CommitOperationAdd(f"{thing.name}/{path}", sent[path]) for path in sent]
            operations += [CommitOperationDelete(f"{thing.name}/{path}") for path in before if path not in thing.files]
            operations.append(CommitOperationAdd(f"{thing.name}/{LIST}", _listed(sizes)))
            api.create_commit(repository, operations, commit_message=thing.name, repo_type="dataset")
            pushed[thing.name] = thing.files
            _keep(workspace, pushed)
        for name in gone:
            operations = [CommitOperationDelete(f"{name}/{path}") for path in (*pushed[name], LIST)]
            api.create_commit(repository, operations, commit_message=f"{name} was deleted", repo_type="dataset")
            del pushed[name]
            _keep(workspace, pushed)


def _run(run: RunDirectory) -> Thing:
    current = supervisor.status(run)
    kept = last_checkpoint(run) if current.state != "completed" else None
    unneeded = (f"{run.exports.name}/", f"{run.checkpoints.name}/")  # exports are made again when they are asked for
    resumed_from = f"{run.checkpoints.name}/{kept.path.name}/" if kept else None
    files = {
        path: stamp
        for path, stamp in _files(run.path).items()
        if not path.startswith(unneeded) or (resumed_from and path.startswith(resumed_from))
    }
    for sign in (run.stop_file, run.queue_file):
        files.pop(sign.name, None)
    return Thing(f"runs/{run.id}", run.path, files, settled=not current.is_active)


def _differs(thing: Thing, pushed: Files | None) -> bool:
    if pushed is None or thing.settled:
        return thing.files != pushed

    def checkpoints(files: Files) -> set[str]:
        return {path for path in files if path.startswith("checkpoints/")}

    return checkpoints(thing.files) != checkpoints(pushed)


def _files(folder: Path) -> Files:
    """The files of `folder`, without hidden ones, locks, and what is only being written."""
    found: Files = {}
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in path.parts)
        if hidden or file.suffix in (".lock", ".unfinished") or file.is_symlink() or not file.is_file():
            continue
        about = file.stat()
        found[path.as_posix()] = (about.st_size, about.st_mtime_ns)
    return found


def _content(file: Path) -> bytes | Path:
    return file.read_bytes() if file.stat().st_size < _IN_MEMORY else file


def _listed(sizes: dict[str, int]) -> bytes:
    return json.dumps({"files": sizes}, indent=1).encode()


def _pushed(workspace: Workspace) -> dict[str, Files]:
    kept = read_cached(workspace.space_store / "pushed.json") or {}
    return {name: {path: (stamp[0], stamp[1]) for path, stamp in files.items()} for name, files in kept.items()}


def _keep(workspace: Workspace, pushed: dict[str, Files]) -> None:
    write_json(workspace.space_store / "pushed.json", pushed)


def _status_file(workspace: Workspace) -> Path:
    return workspace.space_store / "status.json"
