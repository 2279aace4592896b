"""How long an answer of the chat takes while a run trains on the same cores, and how long alone.

    python -m tests.benchmarks.chat_beside --repeats 15              # the starter
    python -m tests.benchmarks.chat_beside --model m80 --repeats 9   # a random Llama of about 75 million weights

The answers are made in a process of their own by the app's own generation (chat/duet): 64 greedy tokens of each side.
The run is a real one, started by the supervisor, and held still while the chat answers alone: so the kinds take turns,
and what else the machine does hits all alike. `all threads` is what the chat would do if it did not give way.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.train import ROOT, build_model

TOKENS = 64
PAUSE_SECONDS = 1.0  # until a run that was held still trains again
# kind: (whether the run trains meanwhile, whether the chat limits its threads as the app does)
KINDS = {"alone": (False, False), "beside a run": (True, True), "beside a run, all threads": (True, False)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["starter", "m80"], default="starter")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--data", default="support_triage")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        answer_on_demand(given.child)
        return
    # Who ends it early ends the run, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before its time"))
    with tempfile.TemporaryDirectory() as folder:
        compare(given, Path(folder))


def compare(given: argparse.Namespace, folder: Path) -> None:
    """Let the kinds take turns and print the medians."""
    from ftlab.core.workspace import Workspace
    from ftlab.training import supervisor

    build_model(given.model, folder / "model")
    workspace = Workspace.open(folder / "workspace")
    partner = supervisor.submit(configured(given, folder, steps=1), workspace)
    if supervisor.wait(partner).state != "completed":
        raise SystemExit(partner.log_tail())
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with chat(partner.path) as answer, training(configured(given, folder, steps=10**6), workspace) as run:
        answer(limited=False)  # loads the models
        before = supervisor.status(run).step
        for turn in range(given.repeats):
            for kind, (beside, limited) in KINDS.items():
                with contextlib.nullcontext() if beside else held_still(supervisor.status(run).pid):
                    found[kind].append(answer(limited=limited))
            print(f"  turn {turn + 1}: " + ", ".join(f"{s[-1]:.2f} s {k}" for k, s in found.items()), file=sys.stderr)
        steps = supervisor.status(run).step - before
    if steps == 0:
        raise SystemExit("The run made no step: nothing was measured beside it.")
    print(f"{given.model}, {TOKENS} tokens of each side, {given.repeats} repeats; the run made {steps} steps meanwhile")
    alone = statistics.median(found["alone"])
    for kind, seconds in found.items():
        middle = statistics.median(seconds)
        print(f"{kind:<28} {middle:6.2f} s ({min(seconds):.2f} to {max(seconds):.2f})   {middle / alone:5.2f} times")


def configured(given: argparse.Namespace, folder: Path, *, steps: int) -> Any:
    from ftlab.config import build_config

    return build_config(
        {
            "model": {"base": str(folder / "model")},
            "data": {"source": given.data, "replay": ""},
            "optimisation": {"max_steps": steps, "early_stopping": 0},
            "evaluation": {"after_training": False},
        }
    )


@contextlib.contextmanager
def training(config: Any, workspace: Any) -> Iterator[Any]:
    """A run that is in the middle of its training, and is killed afterwards."""
    from ftlab.training import supervisor

    run = supervisor.submit(config, workspace)
    try:
        while (status := supervisor.status(run)).step < 3:
            if not status.is_active:
                raise SystemExit(run.log_tail())
            time.sleep(0.2)
        yield run
    finally:
        supervisor.stop(run)
        supervisor.stop(run)


@contextlib.contextmanager
def held_still(pid: int) -> Iterator[None]:
    os.killpg(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(pid, signal.SIGCONT)
        time.sleep(PAUSE_SECONDS)


@contextlib.contextmanager
def chat(run: Path) -> Iterator[Any]:
    """A process that answers as the app does; yields a function that has it answer once and returns the seconds."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.chat_beside", "--child", str(run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )

    def answer(*, limited: bool) -> float:
        process.stdin.write(f"{int(limited)}\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    try:
        yield answer
    finally:
        process.stdin.close()
        process.wait()


def answer_on_demand(folder: Path) -> None:
    """For each line of the input (1: with the app's limit of threads) answer once and print the seconds."""
    from ftlab.core.run_directory import RunDirectory
    from ftlab.evaluation import duet

    # Nothing ends an answer before its last token.
    duet.stop_token_ids = lambda *_: []
    models = duet.load_duet(RunDirectory(folder))
    for line in sys.stdin:
        threads = duet.threads_beside_a_run() if int(line) else None
        began = time.perf_counter()
        for _ in models.stream("Tell me about the sea.", max_new_tokens=TOKENS, threads=threads):
            pass
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main()
