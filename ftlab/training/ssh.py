"""A machine of your own as the place of a run, by the programs ssh and rsync and whatever ~/.ssh/config says.

Nothing is installed there and no password is asked for: ssh must let you in by a key, and ftlab must be there, in
`.venv` of the folder or for the `python3` on the path.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import queue
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ftlab import __version__
from ftlab.core.processes import child_environment
from ftlab.core.run_directory import WORK_LOCK, RunDirectory
from ftlab.errors import FtlabError, InputError, shorten
from ftlab.training.place import Event, LostConnection
from ftlab.training.there import code_of_ftlab

FOLDER = "ftlab-runs"  # in the home folder there
_COMMAND = "FTLAB_SSH"  # such as "ssh -p 2222 -i key"; as GIT_SSH_COMMAND of git
_TICK_SECONDS = 0.5
_CONNECT_SECONDS, _ALIVE_SECONDS = 10, 15
_NO_CONNECTION = 255  # the exit code of ssh itself
# Of this machine alone. What is not copied there decides here, and the other way round.
_OURS = ("/status.json", "/stop", "/place.json", "/queue.json", "/train.log", f"/{WORK_LOCK}", "/config.yaml")
# First a home of its own, then the Python on the path. Each is asked by importing ftlab.
_PROBE = """
mkdir -p {folder} && cd {folder} && pwd || exit 4
command -v rsync >/dev/null || exit 5
for python in .venv/bin/python python3 python; do
  if command -v "$python" >/dev/null && "$python" -c 'import ftlab' >/dev/null 2>&1; then
    echo "$python"
    "$python" -c 'import ftlab; print(ftlab.__version__)
try:
    from ftlab.training.there import code_of_ftlab
    print(code_of_ftlab())
except ImportError:
    print("")'
    break
  fi
done
for needed in {needed}; do [ -e "$needed" ] || {{ echo "missing $needed"; }}; done
"""


@dataclass
class SshPlace:
    """`host` is what `ssh` is called with, `folder` a workspace of ftlab there; `settings` holds its full path and the
    Python that has ftlab."""

    host: str
    folder: str
    settings: dict[str, str] = field(default_factory=dict)

    @classmethod
    def named(cls, text: str, settings: dict[str, str]) -> SshPlace:
        """The place that HOST or HOST:FOLDER names. Raises InputError for characters that a shell could read."""
        host, colon, folder = text.partition(":")
        if not re.fullmatch(r"[A-Za-z0-9_][\w.@-]*", host, re.ASCII):
            raise InputError(
                "This is no name of a host for ssh (--on)",
                given=host,
                allowed="a name or user@name of letters, digits, dots, - and _",
                try_="for a port or a key, give the host a name in ~/.ssh/config",
            )
        if (colon and not _is_plain(folder)) or not all(map(_is_plain, settings.values())):
            raise InputError(
                "This is no folder for runs on the other machine (--on)",
                given=folder or settings,
                allowed="a path of letters, digits, /, dots, - and _, from / or from the home folder there",
            )
        return cls(host, (folder or FOLDER).removeprefix("~/").rstrip("/"), settings)

    @property
    def name(self) -> str:
        return f"{self.host}:{self.settings.get('folder', self.folder)}"

    def check(self, needed: Sequence[Path]) -> list[str]:
        for program in (_ssh()[0], "rsync"):
            if shutil.which(program) is None:
                raise FtlabError(f"{program} is not installed here", try_="install OpenSSH and rsync, 3.1 or newer")
        files = " ".join(shlex.quote(str(path)) for path in needed)
        ended = self._run(_PROBE.format(folder=shlex.quote(self.folder), needed=files))
        if ended.returncode == 4:
            raise self._failure(f"The folder {self.folder} cannot be created on {self.host}", ended)
        if ended.returncode == 5:
            raise FtlabError(f"rsync is not installed on {self.host}", try_=f"ssh {self.host} sudo apt install rsync")
        missing = [line.removeprefix("missing ") for line in ended.stdout.splitlines() if line.startswith("missing ")]
        lines = [line for line in ended.stdout.splitlines() if not line.startswith("missing ")]
        # A login that greets prints before all this.
        at = next((number for number, line in enumerate(lines) if line.startswith("/")), None)
        if at is None:
            raise self._failure(f"{self.host} does not answer as a machine with a POSIX shell", ended)
        if not _is_plain(lines[at]):
            raise InputError(
                "The folder for runs has a name that ftlab cannot use (--on)",
                given=lines[at],
                allowed="letters, digits, /, dots, - and _",
                try_=f"another folder: --on ssh:{self.host}:/FOLDER",
            )
        self.settings = {"folder": lines[at]}
        if len(lines) < at + 3:
            raise self._not_installed("ftlab is not installed there")
        python, version, code = (*lines[at + 1 : at + 4], "")[:3]
        if version != __version__ or not code:
            older = "" if code else ", without --on"
            raise self._not_installed(f"ftlab there has the version {version}{older}, and this one has {__version__}")
        if missing:
            slash = "/" if Path(missing[0]).is_dir() else ""
            raise FtlabError(
                f"The base {missing[0]} is not on {self.host}",
                try_=f"copy it there, to the same path: rsync -r {missing[0]}{slash} {self.host}:{missing[0]}",
            )
        self.settings["python"] = python
        if code != code_of_ftlab():
            return [f"note       ftlab on {self.host} has the same version but not the same code"]
        return []

    def _not_installed(self, what: str) -> FtlabError:
        folder, urls = self.settings["folder"], importlib.metadata.metadata("ftlab").get_all("Project-URL") or []
        address = next((url.partition(", ")[2] for url in urls if url.startswith("Repository,")), "ADDRESS")
        install = f'{folder}/.venv/bin/pip install "ftlab @ git+{address}"'
        return FtlabError(
            f"The run cannot be trained on {self.host}: {what}",
            try_=f"ssh {self.host}, then: python3 -m venv {folder}/.venv && {install}",
        )

    def _path(self, run: RunDirectory) -> str:
        if not _is_plain(run.id):
            raise InputError("The folder of this run has a name that ssh cannot use", given=run.id, try_="rename it")
        return f"{self.settings['folder']}/runs/{run.id}"

    def send(self, run: RunDirectory) -> None:
        # The configuration comes last and makes the folder a run: where it is, everything is.
        there = self._path(run)
        made = self._run(f"[ -e {there}/config.yaml ] || {{ mkdir -p {there} && echo new; }}")
        if made.returncode != 0:
            raise self._failure(f"The folder {there} cannot be created on {self.host}", made)
        if "new" in made.stdout.splitlines():
            hidden = [part for name in _OURS for part in ("--exclude", name)]
            self._copy([*hidden, f"{run.path}/"], f"{self.host}:{there}/")
            self._copy([str(run.config_file)], f"{self.host}:{there}/")

    def follow(self, run: RunDirectory, *, start: bool, log_from: int) -> Generator[Event]:
        there, root = self._path(run), self.settings["folder"]
        program = f"{self.settings['python']} -m ftlab.training.there {there} {root} --log-from {log_from}"
        command = self._command(f"cd {root} && exec {program}{' --start' if start else ''}")
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
            subprocess.Popen(
                command,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                errors="replace",
            ) as process,
        ):

            def read() -> None:
                assert process.stdout is not None
                for line in process.stdout:
                    lines.put(line)
                lines.put(None)

            threading.Thread(target=read, daemon=True, name="ssh").start()
            try:
                while True:
                    try:
                        line = lines.get(timeout=_TICK_SECONDS)
                    except queue.Empty:
                        yield {}
                        continue
                    if line is None:
                        break
                    yield _event(line)
                process.wait()
            finally:
                process.kill()
            errors.seek(0)
            ended = subprocess.CompletedProcess(command, process.returncode, "", errors.read())
        # Where it ended well, the caller has stopped reading.
        if ended.returncode in (_NO_CONNECTION, 0):
            raise self._lost(ended)
        ended.stderr = (ended.stderr.strip().splitlines() or [""])[-1]  # of a traceback, the error
        raise self._failure(f"ftlab on {self.host} ended before its run did", ended)

    def stop(self, run: RunDirectory) -> None:
        ended = self._run(f"touch {self._path(run)}/stop")
        if ended.returncode != 0:
            raise self._failure(f"The run could not be stopped on {self.host}", ended)

    def fetch(self, run: RunDirectory) -> None:
        # Checkpoints stay: they are large, and the run continues there.
        hidden = [part for name in (*_OURS, "/checkpoints", ".*.lock") for part in ("--exclude", name)]
        self._copy([*hidden, f"{self.host}:{self._path(run)}/"], f"{run.path}/")

    def removal(self, run: RunDirectory) -> str:
        return f"ssh {self.host} rm -r {self._path(run)}"

    def _command(self, script: str) -> list[str]:
        return [*_ssh(), self.host, f"sh -c {shlex.quote(script)}"]

    def _run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script there. Raises LostConnection."""
        command = self._command(script)
        ended = _ended(command)
        if ended.returncode == _NO_CONNECTION:
            raise self._lost(ended)
        return ended

    def _copy(self, what: Sequence[str], to: str) -> None:
        # Without -l: a link would lead out of the folder.
        command = ["rsync", "-rt", "--timeout=60", "-e", shlex.join(_ssh()), *what, to]
        ended = _ended(command)
        if ended.returncode == 0:
            return
        # 12 and 30: the connection broke, or was silent; but also a full disk there, of which rsync says so.
        broken = ended.returncode in (_NO_CONNECTION, 10, 12, 30, 35)
        if broken and not re.search("No space left|quota exceeded|Permission denied", ended.stderr):
            raise self._lost(ended)
        raise self._failure("Files could not be copied by rsync", ended)

    def _lost(self, ended: subprocess.CompletedProcess[str]) -> LostConnection:
        why, text = shorten(ended.stderr, 300), ended.stderr
        if "Could not resolve hostname" in text:
            try_ = "check the name, or give it an address in ~/.ssh/config"
        elif "Host key verification failed" in text:
            try_ = f"log in once by hand and compare the key: ssh {self.host}"
        elif "Permission denied" in text:
            try_ = f"ssh must let you in without a password: ssh-copy-id {self.host}, or load your key with ssh-add"
        else:
            try_ = f"see that it is on and lets you in: ssh {self.host}; then: python -m ftlab runs resume RUN"
        return LostConnection(f"{self.host} cannot be reached by ssh", why=why or None, try_=try_)

    def _failure(self, what: str, ended: subprocess.CompletedProcess[str]) -> FtlabError:
        text = ended.stderr or ended.stdout
        if re.search("No space left on device|quota exceeded", text):
            return FtlabError(
                "The disk is full",
                why=f"{what}: {shorten(text, 300)}",
                try_=f"free some space, on {self.host} with: rm -r {self.settings.get('folder', self.folder)}/runs/RUN",
            )
        return FtlabError(what, why=shorten(text, 300) or f"It ended with code {ended.returncode}")


def _is_plain(path: str) -> bool:
    """Whether no shell, neither here nor there, reads anything into this path."""
    return re.fullmatch(r"(~/|/)?[\w.][\w./-]*", path, re.ASCII) is not None


def _ssh() -> list[str]:
    """The command that connects, without questions: nobody is there to answer them."""
    own = shlex.split(os.environ.get(_COMMAND, "")) or ["ssh"]
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": _CONNECT_SECONDS,
        "ServerAliveInterval": _ALIVE_SECONDS,
        "ServerAliveCountMax": 3,
    }
    return [*own, *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]


def _ended(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run `command` here, without a question."""
    return subprocess.run(
        command,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )


def _environment() -> dict[str, str]:
    # Without secrets: a configuration of ssh may send variables there (SendEnv). The agent's socket is no secret.
    return child_environment({}, keep=["SSH_AUTH_SOCK"])


def _event(line: str) -> Event:
    """The event that `line` holds; an empty one for anything else that a login prints."""
    try:
        value: Any = json.loads(line)
    except ValueError:
        return {}
    return cast(Event, value) if isinstance(value, dict) else {}
