"""How often the interval of a judge that votes correct holds the true win rate, for judges of every kind.

    python -m tests.benchmarks.corrected_judge [--tests 400]

`perfect` says what people say, `good` errs on 15%, `rare` favors the second on 5% of what it should not, `biased` on
60%, `coin` says nothing. Printed: the share of intervals that hold the truth, their mean width in points, and the width
without the judge.
"""

from __future__ import annotations

import argparse

import numpy as np

from ftlab.arena.corrected import corrected

SIZES = ((20, 200), (50, 200), (100, 400))  # prompts with votes, and without


def opinion(kind: str, people: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    draw = rng.random(len(people))
    if kind == "good":
        return np.where(draw < 0.85, people, 1 - people)
    if kind in ("rare", "biased"):
        return np.where((people == 0) & (draw < (0.05 if kind == "rare" else 0.6)), 1.0, people)
    return (draw < 0.5).astype(float) if kind == "coin" else people


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=400)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    print("truth judge    votes others |  holds  width  alone")
    for truth in (0.5, 0.7, 0.9):
        for kind in ("perfect", "good", "rare", "biased", "coin"):
            for votes, others in SIZES:
                rows = []
                for _ in range(args.tests):
                    people = (rng.random(votes + others) < truth).astype(float)
                    judge = opinion(kind, people, rng)
                    low, high = corrected(people[:votes], judge[:votes], judge[votes:]).interval
                    below, above = corrected(people[:votes], np.zeros(votes), np.zeros(0)).interval
                    rows.append((low <= truth <= high, high - low, above - below))
                holds, width, alone = np.mean(rows, axis=0)
                print(
                    f"{truth:5.1f} {kind:8} {votes:5} {others:6} | {holds:6.1%} {100 * width:6.1f} {100 * alone:6.1f}"
                )


if __name__ == "__main__":
    main()
