"""A real sshd on 127.0.0.1 with keys of its own, and a folder there in which ftlab is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.conftest import ROOT

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
MISSING = [name for name in (SSHD, "ssh", "ssh-keygen", "rsync") if shutil.which(name) is None]


@dataclass
class SshServer:
    """`command` connects to it, as FTLAB_SSH; `folder` is the workspace of ftlab there."""

    at: Path
    port: int
    processes: list[psutil.Process] = field(default_factory=list)

    @property
    def command(self) -> str:
        return f"ssh -F {self.at / 'ssh_config'}"

    @property
    def folder(self) -> Path:
        return self.at / "there"

    def start(self) -> None:
        command = [SSHD, "-D", "-f", str(self.at / "sshd_config"), "-E", str(self.at / "sshd.log")]
        self.processes.append(psutil.Process(subprocess.Popen(command, stdin=subprocess.DEVNULL).pid))
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.05)
        raise AssertionError((self.at / "sshd.log").read_text())

    def cut(self) -> None:
        """End the server and every connection, as a broken cable would; what runs there goes on."""
        for server in self.processes:
            # Sessions are children of the server, and what they started has left them.
            for process in [*server.children(recursive=True), server]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.name().startswith("sshd"):
                        process.send_signal(signal.SIGKILL)
            server.wait(10)
        self.processes.clear()

    def install(self, python: str = f'PYTHONPATH={ROOT} exec {sys.executable} "$@"', file: Path | None = None) -> None:
        """Put a Python that has ftlab into the folder (or `file`), by the shell line `python`."""
        file = file or self.folder / ".venv" / "bin" / "python"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{python}\n")
        file.chmod(0o755)


@contextlib.contextmanager
def ssh_server(at: Path) -> Iterator[SshServer]:
    """A server that lets this user in as the host `box`, and as nobody the host `closed`."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        server = SshServer(at, taken.getsockname()[1])
    for name in ("host_key", "key", "other_key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(at / name)]
        subprocess.run(command, check=True)
    (at / "authorized_keys").write_text((at / "key.pub").read_text())
    host = (at / "host_key.pub").read_text().split()
    (at / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {host[0]} {host[1]}\n")
    (at / "unknown_hosts").touch()
    lines = ["ListenAddress 127.0.0.1", f"Port {server.port}", f"HostKey {at}/host_key", f"PidFile {at}/pid"]
    lines += [f"AuthorizedKeysFile {at}/authorized_keys", "StrictModes no", "PermitRootLogin yes", "UsePAM no"]
    lines += [f'ForceCommand PATH={at}/bin:/usr/bin:/bin sh -c "$SSH_ORIGINAL_COMMAND"']
    lines += ["PasswordAuthentication no", "KbdInteractiveAuthentication no"]
    (at / "sshd_config").write_text("".join(line + "\n" for line in lines))
    common = f"  HostName 127.0.0.1\n  Port {server.port}\n  IdentitiesOnly yes\n"
    hosts = {
        "box": ("key", "known_hosts"),
        "closed": ("other_key", "known_hosts"),
        "stranger": ("key", "unknown_hosts"),
    }
    (at / "ssh_config").write_text(
        "".join(
            f"Host {name}\n{common}  IdentityFile {at}/{key}\n  UserKnownHostsFile {at}/{known}\n"
            f"  GlobalKnownHostsFile /dev/null\n"
            for name, (key, known) in hosts.items()
        )
    )
    if os.getuid() == 0:  # where sshd separates its privileges
        Path("/run/sshd").mkdir(exist_ok=True)
    server.start()
    try:
        yield server
    finally:
        server.cut()
