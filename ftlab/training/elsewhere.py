"""A run that trains on another machine: sent there, followed from here like any other, copied back and checked.

`place.json` in the folder of a run names its place. The worker of such a run does not train: it sends the folder, has
ftlab start the run there (`training/there.py`), and writes what it hears into the files of the run here, so that
everything that shows runs shows this one. The run does not need the connection: it is taken up again when it is back.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ftlab.config import STARTER, RunConfig, load_config
from ftlab.core.files import read_json, sizes_in, write_json, write_text
from ftlab.core.jobs import Stopped, ended_by
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import byte_size, counted, listed
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from ftlab.models.bases.known import KNOWN
from ftlab.training.place import Event, LostConnection, Place, PlaceJson
from ftlab.training.ssh import SshPlace
from ftlab.training.status import RunStatus, StatusWriter

_LONGEST_PAUSE = 30.0
# What the status here takes over from that of the run there.
_COPIED: tuple[str, ...] = (
    "phase",
    "step",
    "total_steps",
    "epoch",
    "tokens_per_second",
    "done",
    "total",
    "eta_seconds",
)
_COPIED += ("trained_parameters", "total_parameters", "peak_bytes")


def place_at(on: str, settings: dict[str, str] | None = None) -> Place:
    """The place that `on` names. Raises InputError if it names none."""
    kind, _, rest = on.partition(":")
    if kind != "ssh" or not rest:
        raise InputError("--on names no machine", given=on, allowed="ssh:HOST or ssh:HOST:FOLDER")
    return SshPlace.named(rest, settings or {})


def place_of(run: RunDirectory) -> Place | None:
    """Where `run` trains; None: here."""
    stored = read_json(run.place_file)
    return place_at(stored["on"], stored["settings"]) if stored else None


@dataclass(frozen=True)
class Transfer:
    """What would leave this machine: rows by split, files and bytes, and the data that they come from."""

    place: str
    data: str
    rows: dict[str, int]
    files: int
    bytes: int
    removal: str

    def lines(self) -> list[str]:
        rows = listed([f"{count:,} {split}" for split, count in self.rows.items() if count])
        return [
            f"sends      the run and its data to {self.place}: {rows} rows of {self.data}, "
            f"{counted(self.files, 'file')}, {byte_size(self.bytes)}",
            f"           They stay there until you delete them: {self.removal}",
        ]


def transfer_of(run: RunDirectory, place: Place) -> Transfer:
    sizes = sizes_in(run.path)
    source, rows = load_config(run.config_file).data.source, run.manifest().get("splits", {})
    return Transfer(place.name, source, rows, len(sizes), sum(sizes.values()), place.removal(run))


def submit_elsewhere(
    config: RunConfig, workspace: Workspace, on: str, agreed: Callable[[Transfer, list[str]], bool]
) -> RunDirectory | None:
    """As `supervisor.submit`, on the machine `on`; None if sending was not `agreed` to, which gets what would be sent
    and remarks on the place."""
    from ftlab.training import supervisor

    place = place_at(on)
    remarks = place.check([])
    if named := _base_here(config):  # there, a relative path would lead elsewhere
        config = config.model_copy(deep=True)
        config.model.base = str(named)
    run, config = supervisor.create(config, workspace)
    try:
        if named := _base_here(config):  # only now known where the run starts from an earlier one
            place.check([named])
        if not agreed(transfer_of(run, place), remarks):
            workspace.delete_run(run)
            return None
        kept: PlaceJson = {"on": on, "settings": place.settings, "log": 0}
        write_json(run.place_file, kept)
    except BaseException:
        workspace.delete_run(run)
        raise
    supervisor.start(run, workspace, config)
    return run


def _base_here(config: RunConfig) -> Path | None:
    """The folder or file of the base, which is not sent; None for a base that ftlab fetches."""
    base = Path(config.model.base).expanduser()
    return base.absolute() if base.exists() and config.model.base not in (STARTER, *KNOWN) else None


def train_elsewhere(run: RunDirectory, place: Place, writer: StatusWriter) -> str:
    """Train `run` at `place`, and copy the result back. Returns completed or stopped; raises FtlabError with the error
    of a run that failed there."""
    from ftlab.models.identity import check_result

    writer.update(state="running", started=time.time(), phase=f"sending the run to {place.name}")
    try:
        with ended_by(run.stop_file.exists, Stopped):
            place.send(run)
    except Stopped:
        raise Stopped("stopped before it started") from None
    status = _until_its_end(run, place, writer)
    if status.state not in ("completed", "stopped"):
        raise FtlabError.from_json(status.error or {"what": f"The run failed at {place.name}"})
    writer.update(phase=f"copying the result from {place.name}", eta_seconds=None, tokens_per_second=None)
    _patiently(lambda: place.fetch(run), place, run, writer)
    if run.has_result:
        check_result(run)
    return status.state


def _until_its_end(run: RunDirectory, place: Place, writer: StatusWriter) -> RunStatus:
    """Start `run` there and follow it; returns its last status."""
    current: RunStatus | None = None
    warned, pause, asked = list(writer.status.warnings), 0.0, False
    while True:
        try:
            log_from = read_json(run.place_file)["log"]
            with contextlib.closing(place.follow(run, start=current is None, log_from=log_from)) as events:
                for event in events:
                    if current is not None and not asked and run.stop_file.exists():
                        place.stop(run)
                        asked = True
                    if "error" in event:
                        raise FtlabError.from_json(event["error"])
                    if "file" in event:
                        _take(run, event)
                    if "status" in event:
                        pause, current = 0.0, _read(event["status"])
                        _show(current, warned, place, writer)
                    if "ended" in event and current is not None:
                        return current
        except LostConnection as lost:
            if current is None:
                raise  # it was never reached: a wrong name or key does not mend itself
            pause = _wait(lost, pause, place, run, writer)


def _patiently(fetch: Callable[[], None], place: Place, run: RunDirectory, writer: StatusWriter) -> None:
    pause = 0.0
    while True:
        try:
            return fetch()
        except LostConnection as lost:
            if run.stop_file.exists():
                raise Stopped(f"its result is still at {place.name}: resume the run to copy it") from None
            pause = _wait(lost, pause, place, run, writer)


def _wait(lost: LostConnection, pause: float, place: Place, run: RunDirectory, writer: StatusWriter) -> float:
    """Wait before the next try to reach `place`, longer each time; returns for how long (seconds)."""
    pause = min(max(1.0, 2 * pause), _LONGEST_PAUSE)
    print(f"{lost} Next try in {pause:.0f} s.", flush=True)
    stopping = ", Stop reaches it then" if run.stop_file.exists() else ""
    phase = f"no connection to {place.name}: the run goes on there, and is taken up again{stopping}"
    writer.update(phase=phase, eta_seconds=None, tokens_per_second=None)
    time.sleep(pause)
    return pause


def _read(values: dict[str, Any]) -> RunStatus:
    known = {item.name for item in fields(RunStatus)}
    return RunStatus(**{name: value for name, value in values.items() if name in known})


def _show(there: RunStatus, warned: list[str], place: Place, writer: StatusWriter) -> None:
    """Write the progress of the run into its status here."""
    values = {name: getattr(there, name) for name in _COPIED}
    if there.state == "queued":
        values["phase"] = f"at {place.name}: {there.phase}"
    if not there.is_active:
        del values["phase"]  # the run here goes on: its result is copied
    values["warnings"] = [*warned, *(text for text in there.warnings if text not in warned)]
    writer.update(**values)


def _take(run: RunDirectory, event: Event) -> None:
    """Add what is new to the file here. The log goes to the output of this process, which is the log of the run."""
    if event["file"] == run.log_file.name:
        print(event["text"], end="", flush=True)
        write_json(run.place_file, read_json(run.place_file) | {"log": event["next"]})
        return
    file = {path.name: path for path in (run.metrics_file, run.samples_file)}[event["file"]]
    if event["at"]:
        with file.open("a", encoding="utf-8") as stream:
            stream.write(event["text"])
    else:
        write_text(file, event["text"])
