"""`python -m tests.benchmarks.no_worse [--draws 2000]`: how often "no worse within a margin" is false, and how often it
is told where two sides are alike.

Rows are right or wrong on two sides; the second side loses exactly the margin, so every "no worse" is an error. Rows of
a cluster share their outcome in part: each takes that of its cluster with the chance `alike`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from ftlab.evaluation.margins import no_worse
from ftlab.evaluation.metrics.table import BUILT_IN, of_rows

CASES = (  # rows, clusters (None: independent), margin in points, share right before, share of rows that differ
    (100, None, 10, 0.8, 0.12),
    (200, None, 5, 0.9, 0.08),
    (200, None, 10, 0.6, 0.3),
    (400, None, 5, 0.8, 0.1),
    (400, None, 3, 0.97, 0.04),
    (400, 80, 5, 0.8, 0.15),
    (300, 30, 10, 0.7, 0.2),
)


def draw(
    rng: np.random.Generator, rows: int, clusters: int | None, loss: float, right: float, differing: float, alike: float
) -> tuple[list[float], list[float], list[int] | None]:
    """The rows of two sides whose shares differ by `loss` (0 to 1) in the population."""
    lost, gained = (differing + loss) / 2, (differing - loss) / 2
    kinds = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    chances = np.array([lost, gained, right - lost, 1 - right - gained])
    assert (chances >= 0).all(), chances
    own = rng.choice(4, size=rows, p=chances)
    if clusters is not None:
        place = np.arange(rows) % clusters
        own = np.where(rng.random(rows) < alike, rng.choice(4, size=clusters, p=chances)[place], own)
    table = kinds[own].astype(float)
    return table[:, 0].tolist(), table[:, 1].tolist(), None if clusters is None else place.tolist()


def rate(draws: int, case: tuple[int, int | None, float, float, float], *, loss: float, alike: float = 0.5) -> float:
    """The share of `draws` in which the second side is called no worse; it loses `loss` of the margin."""
    rows, clusters, margin, right, differing = case
    rng = np.random.default_rng(0)

    def told() -> Iterator[bool]:
        for _ in range(draws):
            drawn = draw(rng, rows, clusters, loss * margin / 100, right, differing, alike)
            before, after, keys = drawn
            measure = of_rows(BUILT_IN["exact_match"], {"a": before, "b": after}, clusters=keys)
            yield no_worse(measure, "b", before, after, margin, clusters=keys)["no_worse"] is True

    return sum(told()) / draws


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=2000)
    draws = parser.parse_args().draws
    print("rows  clusters  margin  right  differ   false at the margin   told where alike")
    for case in CASES:
        rows, clusters, margin, right, differing = case
        wrong, shown = rate(draws, case, loss=1), rate(draws, case, loss=0)
        print(f"{rows:<6}{clusters or '-':<10}{margin:<8}{right:<7}{differing:<9}{wrong:<22.1%}{shown:.1%}", flush=True)


if __name__ == "__main__":
    main()
