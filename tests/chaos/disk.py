"""A small disk of its own, which really gets full."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A tmpfs of `size` (as mount takes it) at `folder`; the test is skipped where this user may not mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk of its own: {mounted.stderr.decode(errors='replace').strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path, *, leave: int) -> Path:
    """A file that takes all but about `leave` bytes (whole pages) of the disk of `folder`."""
    ballast = folder / "ballast"
    disk = os.statvfs(folder)
    with ballast.open("wb") as file:
        left = max(0, disk.f_bavail * disk.f_frsize - leave)
        with contextlib.suppress(OSError):
            while left > 0:
                left -= file.write(b"\1" * min(left, disk.f_frsize))
                file.flush()
    return ballast
