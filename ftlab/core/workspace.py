"""The layout of a workspace. With `run_directory`, the only module that builds paths inside one."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from ftlab.core.files import check_reach
from ftlab.core.run_directory import RunDirectory
from ftlab.errors import InputError, nearest, shorten

_ENVIRONMENT_VARIABLE = "FTLAB_HOME"


def default_root() -> Path:
    """`$FTLAB_HOME`, else `./workspace`."""
    return Path(os.environ.get(_ENVIRONMENT_VARIABLE) or "workspace").expanduser().absolute()


@dataclass(frozen=True)
class Workspace:
    """A folder for runs, data versions and uploads."""

    root: Path

    @classmethod
    def open(cls, root: str | os.PathLike[str] | None = None) -> Workspace:
        """The workspace at `root` (default: `default_root()`), created if missing.

        Raises InputError when the folder cannot be created or written to.
        """
        path = Path(root).expanduser().absolute() if root else default_root()
        try:
            (path / "runs").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"The workspace folder cannot be created: {error.strerror}",
                given=path,
                try_="choose a writable folder with --workspace or FTLAB_HOME",
            ) from error
        if not os.access(path / "runs", os.W_OK):
            raise InputError(
                "The workspace folder cannot be written to",
                given=path,
                try_="choose another folder with --workspace or FTLAB_HOME",
            )
        return cls(path)

    @classmethod
    def of(cls, run: RunDirectory) -> Workspace:
        """The workspace of `run`."""
        return cls(run.path.parents[1])

    @property
    def flag(self) -> str:
        """The option that selects this workspace in a printed command: " --workspace FOLDER", "" for the default."""
        return "" if self.root == default_root() else f" --workspace {shlex.quote(str(self.root))}"

    @property
    def runs_folder(self) -> Path:
        return self.root / "runs"

    @property
    def uploads(self) -> Path:
        return self.root / "uploads"

    @property
    def versions_folder(self) -> Path:
        """Versions of data sets: `<name>/<version id>/rows.parquet` and `version.json`."""
        return self.root / "data"

    def version_folder(self, name: str, version_id: str) -> Path:
        return self.versions_folder / name / version_id

    @property
    def named_columns_file(self) -> Path:
        """The roles of the columns of a data source, as assigned by the user: {source: {...}}."""
        return self.root / "columns.json"

    @property
    def drafts(self) -> Path:
        """Judgments that are not part of a version yet: `<version id or source>/<person>.json`."""
        return self.root / "drafts"

    @property
    def page_file(self) -> Path:
        """What was chosen in the app, so that it survives a reload and a restart."""
        return self.root / "page.json"

    @property
    def metrics_folder(self) -> Path:
        """Metric files that the app may run; not writable through the app."""
        return self.root / "metrics"

    @property
    def sweeps_folder(self) -> Path:
        """One file per sweep, listing its runs."""
        return self.root / "sweeps"

    @property
    def page_cache(self) -> Path:
        """Row offsets of large files. Safe to delete."""
        return self.root / "cache" / "pages"

    @property
    def made_folder(self) -> Path:
        """One folder per request for rows that a model writes, with its replies."""
        return self.root / "made"

    @property
    def documents(self) -> Path:
        """Documents that were uploaded for a model to write about."""
        return self.made_folder / "documents"

    @property
    def checks_folder(self) -> Path:
        """One folder per data check, with its report. Safe to delete."""
        return self.root / "cache" / "checks"

    @property
    def arena_database(self) -> Path:
        """The blind tests with their votes, unless FTLAB_DATABASE_URL names another database."""
        return self.root / "arena.sqlite"

    @property
    def arena_secret(self) -> Path:
        """The key that signs the raters' links, unless FTLAB_SECRET is set."""
        return self.root / "arena.secret"

    @property
    def arena_lock(self) -> Path:
        """Held while the tables of the blind tests are created."""
        return self.root / "arena.lock"

    @property
    def arena_folder(self) -> Path:
        """Files of the blind tests besides the database."""
        return self.root / "arena"

    def judged_file(self, test_id: str) -> Path:
        """What a judge model said of the answers of a blind test, one request a line."""
        return self.arena_folder / test_id / "judged.jsonl"

    def answers_folder(self, test_id: str) -> Path:
        """The progress of the answers of a blind test, and the log of the process that generates them."""
        return self.arena_folder / test_id

    @property
    def new_test_file(self) -> Path:
        """The form of a blind test that has not been created yet."""
        return self.arena_folder / "new_test.json"

    @property
    def raters_page_file(self) -> Path:
        """The last address of the raters' page, so that links keep working after a restart."""
        return self.arena_folder / "raters_page.json"

    def votes_folder(self, test_id: str) -> Path:
        """The votes of a blind test as training data, with their provenance."""
        return self.root / "votes" / test_id

    @property
    def arena_backup(self) -> Path:
        """The tables as last sent to the Hub, and the outcome. Safe to delete."""
        return self.root / "arena-backup"

    @property
    def space_store(self) -> Path:
        """What of this workspace is on the Hub already, and the outcome of the last push. Safe to delete."""
        return self.root / "space-store"

    @property
    def device_lock(self) -> Path:
        """Held by the one run that may use the device."""
        return self.root / "device.lock"

    @property
    def queue_lock(self) -> Path:
        """Held while the order of the queue changes."""
        return self.root / "queue.lock"

    def runs(self) -> list[RunDirectory]:
        """All runs, newest first."""
        paths = [path for path in self.runs_folder.iterdir() if is_run(path)]
        return [RunDirectory(path) for path in sorted(paths, key=lambda path: path.name, reverse=True)]

    def run(self, run_id: str) -> RunDirectory:
        """The run with `run_id`: an id, an unambiguous prefix or suffix of one, `last`, or the path of a run.

        Raises InputError naming the closest known run.
        """
        # Without a look at all runs: lists of thousands ask for each.
        if (
            run_id not in ("", "..")
            and run_id == Path(run_id).name
            and "\0" not in run_id
            and is_run(self.runs_folder / run_id)
        ):
            return RunDirectory(self.runs_folder / run_id)
        known = {run.id: run for run in self.runs()}
        if run_id in ("last", "latest") and known:
            return next(iter(known.values()))
        check_reach(run_id)
        if os.sep in run_id and is_run(Path(run_id)):
            return RunDirectory(Path(run_id).absolute())
        matches = [run for name, run in known.items() if run_id and (name.startswith(run_id) or name.endswith(run_id))]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise InputError(
                f"More than one run matches {run_id!r}",
                given=run_id,
                allowed=", ".join(run.id for run in matches[:5]),
                try_="use more characters of the id",
            )
        close = nearest(run_id, known)
        raise InputError(
            f"There is no run called {shorten(run_id, 100)!r} in {self.root}",
            allowed=(", ".join(list(known)[:5]) + (" …" if len(known) > 5 else "")) if known else "no runs exist yet",
            try_=f"did you mean {close}?" if close else "list them with: python -m ftlab runs list",
        )

    def create_run(self, label: str) -> RunDirectory:
        """A new, empty run directory whose id starts with the time, so that names sort by age."""
        slug = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:40] or "run"
        path = self.runs_folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{slug}-{secrets.token_hex(2)}"
        path.mkdir(parents=True)
        return RunDirectory(path)

    def delete_run(self, run: RunDirectory) -> None:
        """Permanently delete a run. The caller has made sure that it is not running."""
        # Renamed first: a half-deleted folder must not look like a run.
        doomed = self.root / f".deleted-{run.id}"
        run.path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def is_run(path: Path) -> bool:
    """Whether `path` is a run. Its configuration is written last and its log after that, so a run that has lost its
    configuration is still recognized and can be deleted."""
    return any(os.path.lexists(path / name) for name in ("config.yaml", "train.log"))
