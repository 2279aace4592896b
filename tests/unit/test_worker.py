"""The process of a run, before it does any work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, offline_environment

AUTOGROUP = Path("/proc/self/autogroup")
GIVE_WAY = (
    "import os; from ftlab.core.processes import give_way; give_way(); "
    f"print(os.nice(0), open('{AUTOGROUP}').read().strip())"
)


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel does not share the CPU by session")
@pytest.mark.parametrize("wanted", ["10", "", "much"])  # without the app nothing is lowered
@pytest.mark.parametrize("own_session", [True, False])
def test_a_run_gives_way_with_its_session_and_takes_no_other_session_along(own_session, wanted):
    before = AUTOGROUP.read_text()
    done = subprocess.run(
        [sys.executable, "-c", GIVE_WAY],
        start_new_session=own_session,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env=offline_environment() | {"FTLAB_NICE": wanted},
    )
    assert done.returncode == 0, done.stderr
    lowered = wanted == "10"
    assert done.stdout.startswith("10 " if lowered else f"{os.nice(0)} ")
    assert done.stdout.strip().endswith("nice 10") == (lowered and own_session and os.cpu_count() <= 4)
    assert AUTOGROUP.read_text() == before
