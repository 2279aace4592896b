"""How often the interval of the preference at equal style holds the truth, on votes drawn from a known model.

    python -m tests.benchmarks.equal_style [--tests 400]

Two styles that matter to raters, two that do not; one contestant's answers lean to one style. The truth is what the
same model says of 20,000 prompts. Printed: the share of intervals that hold it, the share that exclude "no preference"
where there is none, and their median width in points.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.special import expit

from ftlab.arena.style import preference

# prompts, votes on each, preference and effect of style (log-odds), lean of the style, spread of prompts (log-odds)
SITUATIONS = (
    *(
        (20, 1, 0.0, 0.0, 0.0, 0.0),
        (20, 2, 1.0, 1.5, 0.3, 0.0),
        (40, 1, 0.0, 1.5, 0.3, 0.0),
        (40, 1, 1.0, 1.5, 0.5, 0.0),
    ),
    *(
        (40, 2, 0.0, 1.5, 0.3, 0.5),
        (80, 1, 0.5, 1.5, 0.3, 0.0),
        (80, 2, 0.0, 2.5, 0.5, 1.0),
        (150, 1, 0.0, 1.5, 0.6, 0.0),
    ),
)


def drawn(rng: np.random.Generator, situation: tuple[float, ...], prompts: int) -> tuple[np.ndarray, np.ndarray]:
    _, cast, prefers, effect, lean, spread = situation
    style = rng.normal([lean, lean, 0, 0], 0.4, size=(prompts, 4)).clip(-1, 1)
    chance = expit(prefers + style @ [effect, effect / 2, 0, 0] + rng.normal(0, spread, prompts))
    won = rng.binomial(int(cast), chance)
    return np.column_stack([np.ones(prompts), style]), np.column_stack([cast - won, won]).astype(float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=400)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    print("prompts votes preference effect lean spread |  holds  excludes 50%  width")
    for situation in SITUATIONS:
        truth = preference(*drawn(rng, situation, 20_000))[0]
        intervals = np.asarray([preference(*drawn(rng, situation, int(situation[0])))[1] for _ in range(args.tests)])
        low, high = intervals.T
        holds, excludes = np.mean((low <= truth) & (truth <= high)), np.mean((low > 0.5) | (high < 0.5))
        numbers = " ".join(f"{value:6g}" for value in situation)
        print(f"{numbers} | {holds:6.1%} {excludes:12.1%} {100 * np.median(high - low):7.0f}")


if __name__ == "__main__":
    main()
