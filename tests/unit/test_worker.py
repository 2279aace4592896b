"""The process of a run, before it does any work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ftlab.training.status import Pace
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


def test_the_time_left_is_not_told_by_the_slow_beginning_of_a_training():
    """The times of a run of SmolLM2 on two busy cores: 84 s of validation and answers, slow first steps, then 4 s."""
    clock = 1000.0
    pace = Pace(clock)
    pace.validated(clock := clock + 20.0)  # answers follow until the first step begins
    clock += 64.0
    told = {}
    for step in range(1, 41):
        pace.step_begins(clock)
        pace.step_ended(clock := clock + {1: 5.3, 2: 6.8, 3: 11.8}.get(step, 4.0))
        told[step] = pace.left(40 - step, 2 - step // 20)
        if step == 20:
            pace.validated(clock := clock + 9.0)
            clock += 1.0
    assert [told[step] for step in range(1, 8)] == [None] * 7
    assert told[8] == pytest.approx(32 * 4.0 + 2 * 20.0)
    assert told[19] == pytest.approx(21 * 4.0 + 2 * 20.0) and told[39] == pytest.approx(4.0 + 10.0)
    # Between two steps it falls, and by less than half, up to the last ones.
    assert all(told[step] / 2 < told[step + 1] < told[step] for step in range(8, 33))
