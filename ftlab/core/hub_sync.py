"""Write to the Hugging Face Hub and bring back what was written: the one place for commits, uploads, schedules and the
check that a repository is private.

    with writing("dataset", "me/data", "keep runs in me/data") as api:      errors become one clear message
        make(api, "me/data", "dataset")                                     private unless requested otherwise
        commit(api, "me/data", "A run", {"runs/1/config.yaml": b"..."})     all of it, or nothing
    fetch(api, "me/data", ["runs/*"])                                       all files from one commit

huggingface_hub does the requests and their retries. Blind tests go by its CommitScheduler, which suits a folder whose
files only change. Runs need commits of our own: CommitScheduler deletes nothing and may send half a run.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ftlab.core.files import read_cached, write_json
from ftlab.core.hub import told
from ftlab.errors import FtlabError, InputError, shorten

if TYPE_CHECKING:
    from huggingface_hub import CommitScheduler, HfApi

Kind = Literal["model", "dataset", "space"]
# The advice for uploads without a network.
OFFLINE_TRY = "check the network; a dry run (--dry-run) shows what would be uploaded"

_KINDS = {"model": "model", "dataset": "data set", "space": "Space"}

log = logging.getLogger(__name__)


@contextlib.contextmanager
def writing(
    kind: Kind,
    name: str,
    doing: str = "",
    *,
    token: str | None = None,
    offline_try: str | None = None,
) -> Iterator[HfApi]:
    """An HfApi for writing to `name`; errors of the Hub become one clear message. `doing` as in `hub.explain`."""
    from huggingface_hub import HfApi

    with told(_KINDS[kind], name, doing=doing or f"write to {name}", offline_try=offline_try):
        yield HfApi(token=token)


def refuse_public(api: HfApi, name: str, kind: Kind, *, try_: str | None = None) -> None:
    """Raise InputError when `name` exists on the Hub and is public."""
    from huggingface_hub.errors import RepositoryNotFoundError

    what = _KINDS[kind]
    with contextlib.suppress(RepositoryNotFoundError):
        if api.repo_info(name, repo_type=kind).private is False:
            raise InputError(
                f"The {what} {name} already exists on the Hub and is public",
                given=f"a private {what} was requested",
                try_=try_ or "choose another name, or publish openly with --public",
            )


def make(api: HfApi, name: str, kind: Kind, *, private: bool = True) -> str:
    """The address of the repository `name`, created if missing. Raises InputError when a private one is requested and
    the existing one is public."""
    if private:
        refuse_public(api, name, kind)
    sdk = "gradio" if kind == "space" else None
    return str(api.create_repo(name, repo_type=kind, private=private, exist_ok=True, space_sdk=sdk))


def commit(
    api: HfApi,
    name: str,
    message: str,
    added: Mapping[str, bytes | Path],
    deleted: Iterable[str] = (),
    *,
    parent: str | None = None,
) -> None:
    """Add and delete files of the data set `name`, all in one commit. `parent`: the commit that must be the newest one,
    so that nothing that came in between is lost."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        *(CommitOperationAdd(path, content) for path, content in added.items()),
        *(CommitOperationDelete(path) for path in deleted),
    ]
    api.create_commit(name, operations, commit_message=message, repo_type="dataset", parent_commit=parent)


def upload(api: HfApi, name: str, kind: Kind, folder: Path, message: str, *, replaced: list[str] | None = None) -> None:
    """Upload the files of `folder` in one commit. Files there that match `replaced` and are not uploaded again are
    deleted; all others are kept."""
    api.upload_folder(
        repo_id=name, repo_type=kind, folder_path=folder, commit_message=message, delete_patterns=replaced
    )


def fetch(api: HfApi, name: str, patterns: Sequence[str], folder: Path | None = None) -> tuple[Path, str]:
    """The matching files of the data set `name` (in `folder`, else in the cache), all from one commit, and that commit.

    Raises huggingface_hub's RepositoryNotFoundError when there is no such data set.
    """
    from huggingface_hub import snapshot_download

    newest = str(api.dataset_info(name).sha)
    path = snapshot_download(name, repo_type="dataset", revision=newest, allow_patterns=[*patterns], local_dir=folder)
    return Path(path), newest


def fetch_if_there(api: HfApi, name: str, patterns: Sequence[str], folder: Path | None = None) -> Path | None:
    """The folder of `fetch`; None when there is no such data set yet."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return fetch(api, name, patterns, folder)[0]
    except RepositoryNotFoundError:
        return None


@dataclass(frozen=True)
class Push:
    """A push that was made repeatedly: the last time (Unix seconds), what went wrong, and the last time that went
    well."""

    repository: str
    at: float
    error: str | None = None
    saved_at: float | None = None


def last_push(file: Path) -> Push | None:
    """What `recorded` wrote to `file`; None when nothing was pushed."""
    values = read_cached(file)
    return Push(**{field.name: values.get(field.name) for field in fields(Push)}) if values else None


@contextlib.contextmanager
def recorded(file: Path, repository: str, what: str) -> Iterator[None]:
    """Within it `what` is pushed: write the outcome to `file`, and log a failure, which is raised."""
    # Before the push: what changes while it goes on is not in it.
    at, last, error = time.time(), last_push(file), None
    try:
        yield
    except Exception as failure:
        error = str(failure) if isinstance(failure, FtlabError) else shorten(failure, 300)
        log.error("%s could not be stored in %s: %s", what, repository, error)
        raise
    finally:
        saved_at = at if error is None else last.saved_at if last else None
        write_json(file, asdict(Push(repository, at, error, saved_at)))


def every(seconds: float, push: Callable[[], Any]) -> Callable[[], None]:
    """Call `push`, which reports its own failures, periodically in a thread. Returns a function that calls it a last
    time and ends the thread."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(seconds):
            push()

    thread = threading.Thread(target=work, daemon=True, name="Hub")
    thread.start()

    def end() -> None:
        ended.set()
        thread.join()
        push()

    return end


def scheduled(
    folder: Path,
    repository: str,
    prepare: Callable[[HfApi], None],
    *,
    path_in_repo: str,
    every_minutes: float,
    status_file: Path,
    what: str,
) -> CommitScheduler:
    """huggingface_hub's CommitScheduler, which pushes `folder` to a private data set from now on. `prepare` writes the
    folder before each push; the outcome goes to `status_file`."""
    from huggingface_hub import CommitScheduler

    class Scheduler(CommitScheduler):
        def push_to_hub(self) -> Any:
            with recorded(status_file, repository, what):
                prepare(self.api)
                return super().push_to_hub()

    return Scheduler(
        repo_id=repository,
        repo_type="dataset",
        folder_path=folder,
        path_in_repo=path_in_repo or None,
        every=every_minutes,
        private=True,
    )


def finish(scheduler: CommitScheduler | None) -> None:
    """A last push, and no more: what CommitScheduler does at the end of the process comes too late for its threads."""
    if scheduler is None:
        return
    wait([scheduler.trigger()])  # what goes wrong is in the log and in `last_push`
    scheduler.stop()
