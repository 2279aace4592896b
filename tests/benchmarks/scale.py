"""A blind test with 100,000 votes and a workspace with 2,000 runs: how long what a person waits for takes.

    python -m tests.benchmarks.scale [--prompts 1000 --raters 100] [--runs 2000 --of WORKSPACE]

Votes are written straight into the database (votes.py measures raters who vote); the last rater has some left, and
casts them as a rater would. Runs are copies of a finished run of WORKSPACE without its weights.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select

from ftlab.arena import blind_tests, preferences, tally, trials
from ftlab.arena import store as tables
from ftlab.arena.store import Store, open_store
from ftlab.core.workspace import Workspace
from tests.arena import opened


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--raters", type=int, default=100)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--of", type=Path, help="a workspace with a finished run")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        many_votes(Path(folder) / "votes", args.prompts, args.raters)
        if args.of:
            many_runs(Path(folder) / "runs", Workspace.open(args.of), args.runs)


def timed(what: str, work: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    result = work()
    print(f"{what:<24} {time.perf_counter() - began:8.3f} s", flush=True)
    return result


def many_votes(root: Path, prompts: int, raters: int) -> None:
    store = open_store(Workspace.open(root))
    names = [f"Rater {number}" for number in range(raters)]
    test_id, people = opened(store, names=names, prompts=prompts, votes_per_prompt=raters)
    print(f"\n{fill(store, test_id, people):,} votes of {raters} raters on {prompts:,} prompts")
    for _ in range(3):
        trial = timed("the next comparison", lambda: trials.next_trial(store, people[-1]))
        timed("a vote", lambda trial=trial: trials.vote(store, people[-1], trial.id, "left"))
    timed("progress", lambda: blind_tests.progress(store, test_id))
    timed("the evidence", lambda: tally.watch(store, test_id))
    timed("the verdict", lambda: tally.evaluate(store, test_id))
    blind_tests.open_early(store, test_id)
    timed("votes as training data", lambda: preferences.collect(store, test_id))


def fill(store: Store, test_id: str, people: Sequence[str], left: int = 20) -> int:
    """Votes of all raters on all prompts but the last `left` of the last rater; the second contestant wins a little
    more. Returns how many."""
    rng = random.Random(0)
    with store.reading() as connection:
        asked = [
            row.id for row in connection.execute(select(tables.prompts).where(tables.prompts.c.test_id == test_id))
        ]
        among = select(tables.contestants.c.id).where(tables.contestants.c.test_id == test_id)
        order = list(connection.execute(among.order_by(tables.contestants.c.position)).scalars())
        answers = {(row.prompt_id, row.contestant_id): row.id for row in connection.execute(select(tables.answers))}
    rates = {prompt: min(0.95, max(0.05, rng.gauss(0.55, 0.2))) for prompt in asked}
    handed, cast = [], []
    for rater in people:
        own = rng.sample(asked, len(asked))
        for place, prompt in enumerate(own[: len(own) - (left if rater == people[-1] else 0)], 1):
            swapped, number = rng.random() < 0.5, len(cast)
            sides = [answers[prompt, contestant] for contestant in (order[::-1] if swapped else order)]
            wins = (rng.random() < rates[prompt]) == swapped
            handed.append(
                {
                    "id": f"trial{number}",
                    "test_id": test_id,
                    "rater_id": rater,
                    "prompt_id": prompt,
                    "pair": "0-1",
                    "left_answer_id": sides[0],
                    "right_answer_id": sides[1],
                    "swapped": swapped,
                    "place": place,
                    "created": time.time(),
                }
            )
            cast.append(
                {
                    "id": f"vote{number}",
                    "trial_id": f"trial{number}",
                    "rater_id": rater,
                    "choice": "both_good" if rng.random() < 0.15 else "left" if wins else "right",
                    "ratings": {},
                    "comment": "",
                    "seconds": 9.0,
                    "created": time.time(),
                    "automatic": False,
                }
            )
    with store.writing() as connection:
        for start in range(0, len(cast), 5000):
            connection.execute(tables.trials.insert(), handed[start : start + 5000])
            connection.execute(tables.votes.insert(), cast[start : start + 5000])
    return len(cast)


def many_runs(root: Path, of: Workspace, count: int) -> None:
    from ftlab.ui import run_names
    from ftlab.ui.tabs.runs.listing import runs_table

    source = of.run("last")
    skipped = shutil.ignore_patterns("*.safetensors", "checkpoint*", "*.log")
    for number in range(count):
        name = f"{source.id[:-4]}{number:04x}"
        shutil.copytree(source.path, root / "runs" / name, copy_function=os.link, ignore=skipped)
    workspace = Workspace.open(root)
    print(f"\n{count:,} runs")
    for what in ("first", "again"):
        runs = timed(f"found, {what}", workspace.runs)
        timed(f"as choices, {what}", lambda runs=runs: run_names.choices(runs))
        timed(f"the Runs tab, {what}", lambda runs=runs: runs_table(runs, runs[0].id))
        timed(f"all listed, {what}", lambda runs=runs: runs_table(runs, runs[0].id, whole=True))


if __name__ == "__main__":
    main()
