"""`python -m ftlab.training.there RUN WORKSPACE [--start]`: what `training/elsewhere.py` runs on the other machine.

It starts the run there like any other, in a process of its own, and prints what changes as JSON lines until the run has
ended. When the connection is lost this program ends and the run goes on. Not to be called by hand.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError

_LOOK_SECONDS = 1.0
_QUIET_SECONDS = 10.0  # so often a line is printed in any case: printing is how a lost connection is noticed


def code_of_ftlab() -> str:
    """A hash of the code of this copy of ftlab: versions between two releases have the same number."""
    root = Path(__file__).parents[1]
    whole = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        whole.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return whole.hexdigest()


class Tail:
    """What is new in a file of text since the last look: what was appended, or all of a file that was written anew."""

    def __init__(self, path: Path, at: int = 0):
        self._path, self._at = path, at
        self._inode: int | None = None  # another one: the file was written anew

    def read(self, *, whole: bool) -> dict[str, Any] | None:
        """What is new, in whole lines, and where it begins; with `whole` also the line that has not ended yet."""
        try:
            with self._path.open("rb") as stream:
                stat = os.fstat(stream.fileno())
                if self._inode not in (None, stat.st_ino) or stat.st_size < self._at:
                    self._at = 0
                self._inode = stat.st_ino
                stream.seek(self._at)
                content = stream.read()
        except FileNotFoundError:
            return None
        content = content if whole else content[: content.rfind(b"\n") + 1]
        if not content:
            return None
        at, self._at = self._at, self._at + len(content)
        text = content.decode("utf-8", errors="replace")
        return {"file": self._path.name, "at": at, "next": self._at, "text": text}


def start(run: RunDirectory, workspace: Workspace) -> None:
    """Start `run`, or let it continue, unless it is at work or done. Raises FtlabError like `supervisor.resume`."""
    from ftlab.models.identity import damaged_result
    from ftlab.training import supervisor

    current = supervisor.status(run)
    if not current.is_active and (current.state != "completed" or damaged_result(run)):
        supervisor.resume(run, workspace)


def follow(run: RunDirectory, log_from: int) -> None:
    """Print what changes until `run` has ended: lines of its curve, samples and log (from byte `log_from`), its
    status."""
    from ftlab.training import supervisor

    files = [Tail(run.metrics_file), Tail(run.samples_file), Tail(run.log_file, log_from)]
    last, printed = None, 0.0
    while True:
        # Before the files: what a run wrote before it ended is then in them.
        status = dataclasses.asdict(supervisor.status(run))
        ended = not supervisor.RunStatus(**status).is_active
        for file in files:
            if (news := file.read(whole=ended)) is not None:
                _print(news)
        shape = {name: value for name, value in status.items() if name != "heartbeat"}
        if shape != last or time.monotonic() - printed > _QUIET_SECONDS:
            last, printed = shape, time.monotonic()
            _print({"status": status})
        if ended:
            _print({"ended": True})
            return
        time.sleep(_LOOK_SECONDS)


def _print(event: dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ftlab.training.there")
    parser.add_argument("run", type=Path)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--start", action="store_true")
    parser.add_argument("--log-from", type=int, default=0)
    args = parser.parse_args(arguments)
    run = RunDirectory(args.run)
    try:
        if not run.config_file.exists():
            raise FtlabError(f"The run {run.id} is gone there: {run.path} was deleted or moved", try_="train it again")
        if args.start:
            start(run, Workspace.open(args.workspace))
        follow(run, args.log_from)
    except FtlabError as error:
        _print({"error": error.as_dict()})
    except BrokenPipeError:
        sys.stderr.close()  # nobody reads any more
    return 0


if __name__ == "__main__":
    sys.exit(main())
