"""Keep the runs and data versions of a Space, whose disk is lost at each restart, in a private data set on the Hub.

FTLAB_SPACE_STORE=owner/name   the data set; created if missing, rejected if public
restore(workspace, name)       bring back everything that the workspace lacks
start(workspace, name)         push additions, changes and deletions every minute
waiting(workspace)             what has not been pushed yet

A run is stored without its checkpoints, apart from the last one of a run that can be resumed. Each run (or version) is
one atomic commit, which includes the list of its files; whatever does not match that list is not restored. Votes go to
the same data set separately (see arena.backup).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ftlab.core import hub_sync
from ftlab.core.files import read_cached, write_json
from ftlab.core.hub import check_name
from ftlab.core.hub_sync import commit, make, refuse_public, writing
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError
from ftlab.training import supervisor
from ftlab.training.checkpoints import last_checkpoint

EVERY_SECONDS = 60.0
LIST = "ftlab-files.json"
_ROOMS = {"runs": 2, "data": 3, "sweeps": 1, "drafts": 1}  # path components of one item
_IN_MEMORY = 5_000_000  # bytes; smaller files are read first, as they may change during the upload
_CARD = """---
viewer: false
tags: [ftlab]
---
# Storage of an ftlab Space

Runs, data versions and votes. Written by ftlab, which restores them when its Space restarts. Keep it private.
"""

Files = dict[str, tuple[int, int]]  # by path within the item: bytes, and modification time in nanoseconds


@dataclass(frozen=True)
class Thing:
    """An item that is pushed and restored as a unit: a run, a data version, the sweeps, the drafts."""

    name: str  # its folder in the workspace and in the data set: "runs/20260101-..."
    folder: Path
    files: Files
    settled: bool = True  # False for an active run, whose log and status keep changing


@dataclass(frozen=True)
class Restored:
    """The items that were restored, and those that were not because files were missing."""

    names: list[str]
    broken: list[str]


def start(workspace: Workspace, repository: str, every_seconds: float = EVERY_SECONDS) -> Callable[[], None]:
    """Push periodically, in a thread. Returns a function that pushes a last time and stops it."""
    return hub_sync.every(every_seconds, lambda: push(workspace, repository))


def push(workspace: Workspace, repository: str) -> bool:
    """Update the data set; returns whether everything succeeded. Failures are in `status`, and are retried."""
    try:
        with hub_sync.recorded(_status_file(workspace), repository, "Some runs or versions"):
            _push(workspace, repository)
    except (FtlabError, OSError):  # OSError: a file that was deleted meanwhile
        return False
    return True


def status(workspace: Workspace) -> hub_sync.Push | None:
    """The last push; None if there was none."""
    return hub_sync.last_push(_status_file(workspace))


def waiting(workspace: Workspace) -> list[str]:
    """The names of the items that are not in the data set yet, or have changed since."""
    pushed = _pushed(workspace)
    return [thing.name for thing in things(workspace) if _differs(thing, pushed.get(thing.name))]


def things(workspace: Workspace) -> Iterator[Thing]:
    """All items of `workspace` that are stored."""
    for run in reversed(workspace.runs()):
        yield _run(run)
    for file in sorted(workspace.versions_folder.glob("*/*/version.json")):
        yield Thing(f"data/{file.parent.parent.name}/{file.parent.name}", file.parent, _files(file.parent))
    for name in ("sweeps", "drafts"):
        folder = workspace.root / name
        if files := _files(folder):
            yield Thing(name, folder, files)


def restore(workspace: Workspace, repository: str) -> Restored:
    """Restore the items of the data set that `workspace` lacks. Raises InputError when the data set is public or cannot
    be reached."""
    check_name(repository, "data set")
    fetched = workspace.root / ".restoring"
    shutil.rmtree(fetched, ignore_errors=True)
    with writing("dataset", repository, f"keep runs in {repository}") as api:
        refuse_public(api, repository, "dataset", try_="set FTLAB_SPACE_STORE to another name, or make it private")
        if hub_sync.fetch_if_there(api, repository, [f"{room}/*" for room in _ROOMS], fetched) is None:
            return Restored([], [])
    restored = _take(workspace, fetched)
    shutil.rmtree(fetched, ignore_errors=True)
    return restored


def _take(workspace: Workspace, fetched: Path) -> Restored:
    """Move complete items from `fetched` into `workspace`."""
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
        for path in set(here) - set(sizes):  # the list itself, and files that are not on it
            (listed.parent / path).unlink()
        (workspace.root / name).parent.mkdir(parents=True, exist_ok=True)
        listed.parent.rename(workspace.root / name)
        names.append(name)
        pushed[name] = _files(workspace.root / name)
    _keep(workspace, pushed)
    return Restored(names, broken)


def _push(workspace: Workspace, repository: str) -> None:
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
            commit(api, repository, "What this is", {"README.md": _CARD.encode()})
        for thing in changed:
            before = pushed.get(thing.name, {})
            fresh = [path for path, stamp in thing.files.items() if stamp != before.get(path)]
            sent = {path: _content(thing.folder / path) for path in fresh}
            sizes = {path: size for path, (size, _) in thing.files.items()}
            sizes |= {path: len(content) for path, content in sent.items() if isinstance(content, bytes)}
            added = {f"{thing.name}/{path}": content for path, content in (sent | {LIST: _listed(sizes)}).items()}
            deleted = [f"{thing.name}/{path}" for path in before if path not in thing.files]
            commit(api, repository, thing.name, added, deleted)
            pushed[thing.name] = thing.files
            _keep(workspace, pushed)
        for name in gone:
            commit(api, repository, f"{name} was deleted", {}, [f"{name}/{path}" for path in (*pushed[name], LIST)])
            del pushed[name]
            _keep(workspace, pushed)


def _run(run: RunDirectory) -> Thing:
    current = supervisor.status(run)
    kept = last_checkpoint(run) if current.state != "completed" else None
    unneeded = (f"{run.exports.name}/", f"{run.checkpoints.name}/")  # exports are made again on request
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
    """The files of `folder`, without hidden files, locks and unfinished files."""
    files: Files = {}
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in path.parts)
        if hidden or file.suffix in (".lock", ".unfinished") or file.is_symlink() or not file.is_file():
            continue
        about = file.stat()
        files[path.as_posix()] = (about.st_size, about.st_mtime_ns)
    return files


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
