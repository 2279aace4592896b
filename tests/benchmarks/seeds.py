"""How often the verdict on several seeds is false, and how often it finds a gain: `python -m tests.benchmarks.seeds`.

Right-or-wrong rows by a logistic model: a row has a difficulty (1 logit), the base and the trained models each their
own deviation in it (1 logit), a run its own skill (`between`, in logits) and its own deviation in a row (0.5 logits).
Without a gain every verdict is false. `rows alone` is the usual test, which takes the runs that were trained for all
that could have been.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import t

from ftlab.evaluation.seeds import both_sources


def verdicts(rows: int, runs: int, between: float, gain: float, repeats: int, seed: int = 3) -> tuple[float, float]:
    """The shares of `repeats` experiments in which the interval, and in which rows alone, exclude no gain."""
    rng = np.random.default_rng(seed)
    both = alone = 0
    for _ in range(repeats):
        difficulty = rng.normal(0, 1, rows)
        base = _right(rng, difficulty + rng.normal(0, 1, rows))
        skill = gain + rng.normal(0, between, (runs, 1)) + rng.normal(0, 0.5, (runs, rows))
        adapted = _right(rng, difficulty + rng.normal(0, 1, rows) + skill)
        low, high = both_sources([(base.tolist(), one.tolist()) for one in adapted])
        both += low > 0 or high < 0
        means = (adapted - base).mean(axis=0)
        alone += abs(means.mean()) > t.ppf(0.975, rows - 1) * means.std(ddof=1) / rows**0.5
    return both / repeats, alone / repeats


def _right(rng: np.random.Generator, logits: np.ndarray) -> np.ndarray:
    return (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--repeats", type=int, default=1000)
    repeats = parser.parse_args().repeats
    print("rows  runs  between   false: verdict  rows alone   found (1.5 logits): verdict")
    for rows in (10, 20, 50, 200, 500):
        for runs in (2, 3, 5):
            for between in (0.0, 0.5, 1.0):
                both, alone = verdicts(rows, runs, between, 0.0, repeats)
                found, _ = verdicts(rows, runs, between, 1.5, repeats // 4)
                print(f"{rows:4}  {runs:4}  {between:7.1f}  {both:14.1%}  {alone:10.1%}  {found:22.0%}", flush=True)


if __name__ == "__main__":
    main()
