"""How often the verdicts of the evaluation are false, and how often they find what is there, by the number of rows.

    python -m tests.benchmarks.calibration [--quick] [--draws 400] [--only bleu]

Each cell draws many comparisons of two models whose true difference is known, and lets the functions judge that judge
a real one. A false alarm is "better", "worse", "lost" or a finding where nothing changed, or "kept" where the true loss
is as large as the margin (5 points, or 5% more bits): at most 5% of draws may be that. Power: how often a true change,
as the row says, is told. With 400 draws a rate of 5% is measured to within 2.2 points; 1,000 rows get a tenth of them.
`--quick` takes 40 draws of up to 100 rows and leaves the votes out: a minute or two.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ftlab.evaluation import margins, significance
from ftlab.evaluation.before_after import _figures
from ftlab.evaluation.forgetting import gain_loss
from ftlab.evaluation.metrics.measures import MeasureOptions, measure_answers, measure_losses
from ftlab.evaluation.verdict import judge
from tests.comparisons import score_forgetting

ROWS = (10, 20, 50, 100, 200, 1000)
WORDS = np.array([f"w{place}" for place in range(60)])
Rng = np.random.Generator
# Of one draw: whether the verdict says that something changed (or was kept).
Draw = Callable[[Rng, int], bool]


def exact_match(rng: Rng, rows: int, *, gain: float = 0.0, clusters: int = 1) -> bool:
    """The verdict by right and wrong: half of what the base knows is hard; `gain` is the rise of the share."""
    right = _right(rng, rows, (0.6, 0.6 + gain), clusters)
    references = [f"answer {row}" for row in range(rows)]
    answers = {side: [ref if ok else "no" for ref, ok in zip(references, right[side], strict=True)] for side in right}
    return _decided(["exact_match"], answers, references, _keys(rows, clusters))


def free_text(rng: Rng, rows: int, *, name: str = "bleu", gain: float = 0.0, clusters: int = 1) -> bool:
    """The overlap of free text with its reference: words kept with the same chance on both sides, or a higher one."""
    kept = {"base": 0.45, "adapted": 0.45 + gain}
    references, answers = [], {side: [] for side in kept}
    # Rows of a cluster are as easy as each other, for both sides.
    easy = {side: np.repeat(rng.normal(0, 0.15, -(-rows // clusters)), clusters)[:rows] for side in kept}
    for row in range(rows):
        words = _words(rng, 4, 30)
        references.append(" ".join(words))
        for side, chance in kept.items():
            stay = rng.random(len(words)) < np.clip(chance + easy[side][row], 0.02, 0.98)
            answers[side].append(" ".join(np.where(stay, words, rng.choice(WORDS, size=len(words)))))
    [found], _ = measure_answers([name], answers, references, options=_options(rows, clusters))
    return found["differences"]["adapted"]["p"] < significance.LEVEL


def perplexity(rng: Rng, rows: int, *, change: float = 0.0) -> bool:
    """The verdict on documents: losses of rows of very different length; `change` is the change of the true loss."""
    tokens = np.exp(rng.normal(4, 1, rows)).astype(int) + 2
    hard = tokens * np.exp(rng.normal(0.5, 0.4, rows))
    sides = {"base": 1.0, "adapted": 1.0 + change}
    losses = {side: (hard * scale * np.exp(rng.normal(0, 0.08, rows))).tolist() for side, scale in sides.items()}
    measures = measure_losses(losses, dict.fromkeys(sides, tokens.tolist()), (4 * tokens).tolist())
    return judge(measures)["better"] is not None


def mean_error(rng: Rng, rows: int, *, refuses: float = 0.0, gain: float = 0.0) -> bool:
    """The verdict by the distance of numbers. `refuses`: the adapted model answers only that share of the easiest rows
    less; what counts is "better"."""
    wanted = rng.integers(0, 100, rows)
    noise = {side: rng.laplace(0, 12 * scale, rows) for side, scale in (("base", 1.0), ("adapted", 1.0 - gain))}
    answers = {side: [f"{value:.0f}" for value in wanted + error] for side, error in noise.items()}
    silent = np.argsort(-abs(noise["adapted"]))[: int(refuses * rows)]
    for row in silent:
        answers["adapted"][row] = "I cannot say"
    better = _verdict(["mean_absolute_error"], answers, [str(value) for value in wanted])["better"]
    return better is True if refuses else better is not None


def kept_shares(rng: Rng, rows: int, *, says: str, loss: float = 0.0, gained: float = 0.03, clusters: int = 1) -> bool:
    """Forgetting by questions: 85% known, `gained` of all are new and `gained` + `loss` are lost."""
    kind = np.repeat(rng.random(-(-rows // clusters)), clusters)[:rows]
    lost, new = kind < gained + loss, (kind >= 0.5) & (kind < 0.5 + gained)
    base = np.where(lost, True, np.where(new, False, rng.random(rows) < 0.9))
    adapted = np.where(lost, False, np.where(new, True, base))
    if clusters > 1:
        found = margins.kept(base, adapted, margin=0.05, binary=True, clusters=_keys(rows, clusters))
        return found.answer == says
    scored = score_forgetting({"base": base.tolist(), "adapted": adapted.tolist()})
    return bool(scored) and scored["answer"] == says


def kept_bits(rng: Rng, rows: int, *, says: str, rise: float = 0.0, spread: float = 0.05, skew: bool = False) -> bool:
    """Forgetting by general text: documents of different length; with `skew` a few carry most of the rise."""
    sizes = np.exp(rng.normal(6, 0.7, rows)).astype(int) + 20
    base = sizes * np.exp(rng.normal(-0.3, 0.3, rows))
    ratio = 1 + rise * rng.exponential(1, rows) if skew else (1 + rise) * np.ones(rows)
    adapted = base * ratio * np.exp(rng.normal(0, spread, rows) - spread**2 / 2)
    scored = score_forgetting(None, {"base": base.tolist(), "adapted": adapted.tolist()}, sizes.tolist())
    return bool(scored) and scored["answer"] == says


def a_list(rng: Rng, rows: int, *, gain: float = 0.0) -> bool:
    """Whether "gained and lost" names anything among seven measures of the same answers."""
    kept = {"base": 0.5, "adapted": 0.5 + gain}
    references, answers = [], {side: [] for side in kept}
    for _ in range(rows):
        words = _words(rng, 2, 9)
        references.append(" ".join(words))
        for side, chance in kept.items():
            answers[side].append(" ".join(words if rng.random() < chance else _words(rng, 1, 12)))
    names = ["exact_match", "normalised_match", "token_f1", "bleu", "chrf", "rouge_l", "repetition"]
    measures, _ = measure_answers(names, answers, references)
    found = gain_loss(measures)
    return bool(found["gained"] or found["lost"])


def preferences(rng: Rng, rows: int, *, wins: float = 0.5, ties: float = 0.0, per_prompt: int = 1) -> bool:
    """Whether held-out preferences are told from a coin; pairs of one prompt are alike."""
    sign = np.where(rng.random(-(-rows // per_prompt)) < wins, 1.0, -1.0).repeat(per_prompt)[:rows]
    chosen = np.where(rng.random(rows) < ties, 0.0, sign)
    prompts = [str(row // per_prompt) for row in range(rows)]
    return _figures(chosen.tolist(), [0.0] * rows, "reward", prompts)["p"] < significance.LEVEL


def means(rng: Rng, rows: int, *, rare: float = 0.0, loses: float = 0.0, gain: float = 0.0) -> bool:
    """A mean of rows in 0 to 1. A share `rare` of them loses `loses` and the others gain what makes up for it; or a
    share `gain` of them becomes right."""
    base = rng.beta(2, 3, rows)
    adapted = np.where(rng.random(rows) < gain, 1.0, np.clip(base + 0.15 * rng.normal(size=rows), 0, 1))
    if rare:
        fell = rng.random(rows) < rare
        base = np.where(fell, rng.uniform(loses, 1, rows), rng.uniform(0, 0.75, rows))
        adapted = base + np.where(fell, -loses, loses * rare / (1 - rare))
    return significance.row_difference(base, adapted, binary=False, span=1.0)["p"] < significance.LEVEL


def differences(rng: Rng, rows: int, *, skewed: bool) -> bool:
    """Paired differences of mean 0 of which nothing else is known: lognormal ones, or 19 of 20 at 1 and one at -19."""
    values = rng.lognormal(size=rows) - np.exp(0.5) if skewed else np.where(rng.random(rows) < 0.95, 1.0, -19.0)
    return significance.mean_p(values) < significance.LEVEL


def rare_loss(rng: Rng, rows: int, *, gain: float, rises: float) -> bool:
    """Losses of rows: 19 of 20 lose the share `gain` of theirs, one in 20 takes the share `rises` more."""
    base = 50 * rng.lognormal(0, 0.5, rows)
    change = np.where(rng.random(rows) < 0.05, rises, -gain + 0.02 * rng.normal(size=rows))
    return significance.loss_difference(base, base * (1 + change)) < significance.LEVEL


def clustered_mean(rng: Rng, rows: int, *, clusters: int) -> bool:
    """Whether the 95% interval of the mean of rows in so many clusters leaves out the true one."""
    keys = np.arange(rows) % clusters
    values = rng.normal(size=clusters)[keys] + rng.normal(size=rows)
    low, high = significance.mean_interval(values, keys.tolist()) or (-np.inf, np.inf)
    return not low <= 0 <= high


CELLS: dict[str, tuple[str, Draw]] = {
    "exact match, no difference": ("false", exact_match),
    "exact match, 60% to 75%": ("power", lambda rng, n: exact_match(rng, n, gain=0.15)),
    "exact match, rows in fives, no difference": ("false", lambda rng, n: exact_match(rng, n, clusters=5)),
    "BLEU, no difference": ("false", free_text),
    "BLEU, 45% to 55% of words kept": ("power", lambda rng, n: free_text(rng, n, gain=0.1)),
    "BLEU, rows in fives, no difference": ("false", lambda rng, n: free_text(rng, n, clusters=5)),
    "chrF, no difference": ("false", lambda rng, n: free_text(rng, n, name="chrf")),
    "ROUGE-L, no difference": ("false", lambda rng, n: free_text(rng, n, name="rouge_l")),
    "perplexity, no difference": ("false", perplexity),
    "perplexity, loss 5% lower": ("power", lambda rng, n: perplexity(rng, n, change=-0.05)),
    "mean in 0 to 1, one row in 20 loses .95": ("false", lambda rng, n: means(rng, n, rare=0.05, loses=0.95)),
    "mean in 0 to 1, one row in 10 loses .9": ("false", lambda rng, n: means(rng, n, rare=0.1, loses=0.9)),
    "mean in 0 to 1, no difference": ("false", means),
    "mean in 0 to 1, 60% of rows become right": ("power", lambda rng, n: means(rng, n, gain=0.6)),
    "differences of no known span, one row in 20 at -19": ("false", lambda rng, n: differences(rng, n, skewed=False)),
    "differences of no known span, lognormal": ("false", lambda rng, n: differences(rng, n, skewed=True)),
    "losses, 2.5% lower, one in 20 47.5% higher": ("false", lambda rng, n: rare_loss(rng, n, gain=0.025, rises=0.475)),
    "losses, 5% lower, one in 20 95% higher": ("false", lambda rng, n: rare_loss(rng, n, gain=0.05, rises=0.95)),
    "losses, 30% lower": ("power", lambda rng, n: perplexity(rng, n, change=-0.3)),
    "interval of a mean, 3 clusters, misses": ("false", lambda rng, n: clustered_mean(rng, n, clusters=3)),
    "interval of a mean, 6 clusters, misses": ("false", lambda rng, n: clustered_mean(rng, n, clusters=6)),
    "MAE, no difference": ("false", mean_error),
    "MAE, error a third smaller": ("power", lambda rng, n: mean_error(rng, n, gain=0.33)),
    "MAE, three quarters refused, says better": ("false", lambda rng, n: mean_error(rng, n, refuses=0.75)),
    "forgetting by questions, none, says lost": ("false", lambda rng, n: kept_shares(rng, n, says="lost")),
    "forgetting by questions, 5 points, says kept": (
        "false",
        lambda rng, n: kept_shares(rng, n, says="kept", loss=0.05),
    ),
    "forgetting by questions, 5 points and nothing gained, says kept": (
        "false",
        lambda rng, n: kept_shares(rng, n, says="kept", loss=0.05, gained=0),
    ),
    "forgetting by questions, 5 points, says lost": (
        "power",
        lambda rng, n: kept_shares(rng, n, says="lost", loss=0.05, gained=0.01),
    ),
    "forgetting by questions, 15 points, says lost": (
        "power",
        lambda rng, n: kept_shares(rng, n, says="lost", loss=0.15),
    ),
    "forgetting by questions, none, says kept": ("power", lambda rng, n: kept_shares(rng, n, says="kept", gained=0.01)),
    "kept, rows in fives, 5 points, says kept": (
        "false",
        lambda rng, n: kept_shares(rng, n, says="kept", loss=0.05, gained=0, clusters=5),
    ),
    "forgetting by bits, none, says lost": ("false", lambda rng, n: kept_bits(rng, n, says="lost")),
    "forgetting by bits, 5% more, says kept": ("false", lambda rng, n: kept_bits(rng, n, says="kept", rise=0.05)),
    "forgetting by bits, 5% more in a few texts, says kept": (
        "false",
        lambda rng, n: kept_bits(rng, n, says="kept", rise=0.05, skew=True),
    ),
    "forgetting by bits, 5% more, says lost": ("power", lambda rng, n: kept_bits(rng, n, says="lost", rise=0.05)),
    "forgetting by bits, none, says kept": ("power", lambda rng, n: kept_bits(rng, n, says="kept")),
    "gained and lost, nothing changed": ("false", a_list),
    "gained and lost, right 50% to 75%": ("power", lambda rng, n: a_list(rng, n, gain=0.25)),
    "preferences, a coin": ("false", preferences),
    "preferences, a coin and half ties": ("false", lambda rng, n: preferences(rng, n, ties=0.5)),
    "preferences, five pairs a prompt, a coin": ("false", lambda rng, n: preferences(rng, n, per_prompt=5)),
    "preferences, 65% won": ("power", lambda rng, n: preferences(rng, n, wins=0.65)),
}


def rate(name: str, rows: int, draws: int, *, seed: int = 0) -> float:
    """The share of `draws` in which the verdict of the cell `name` says something, at `rows` rows."""
    draw = CELLS[name][1]
    return sum(draw(np.random.default_rng([seed, rows, number]), rows) for number in range(draws)) / draws


def table(draws: int, only: str = "", sizes: tuple[int, ...] = ROWS) -> Iterator[str]:
    """The lines of the table, in Markdown, as they are measured."""
    yield "| verdict | | " + " | ".join(f"{rows:,} rows" for rows in sizes) + " |"
    yield "|---|---|" + "---|" * len(sizes)
    for name, (kind, _) in CELLS.items():
        if only.lower() not in name.lower():
            continue
        # A thousand rows cost more than all others together.
        shares = [rate(name, rows, draws if rows < 1000 else max(20, draws // 10)) for rows in sizes]
        yield f"| {name} | {kind} | " + " | ".join(_share(share) for share in shares) + " |"


def _words(rng: Rng, least: int, most: int) -> Any:
    return rng.choice(WORDS, size=int(rng.integers(least, most)))


def _share(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.1 or not share else f"{100 * share:.1f}%"


def _right(rng: Rng, rows: int, shares: tuple[float, float], clusters: int) -> dict[str, Any]:
    """Right and wrong of two sides that mostly agree; rows of a cluster are right or wrong together."""
    count = -(-rows // clusters)
    hard = rng.random(count)
    found = {}
    for side, share in zip(("base", "adapted"), shares, strict=True):
        own = np.where(rng.random(count) < 0.5, rng.random(count), hard)
        found[side] = np.repeat(own < share, clusters)[:rows]
    return found


def _keys(rows: int, clusters: int) -> tuple[int, ...] | None:
    return tuple(row // clusters for row in range(rows)) if clusters > 1 else None


def _options(rows: int, clusters: int) -> MeasureOptions:
    return MeasureOptions(clusters=_keys(rows, clusters))


def _verdict(names: list[str], answers: Any, references: list[str], clusters: Any = None) -> dict[str, Any]:
    measures, _ = measure_answers(names, answers, references, options=MeasureOptions(clusters=clusters))
    return judge(measures)


def _decided(names: list[str], answers: Any, references: list[str], clusters: Any) -> bool:
    return _verdict(names, answers, references, clusters)["better"] is not None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, help="of a cell; 400, with --quick 40")
    parser.add_argument("--quick", action="store_true", help="few draws, up to 100 rows, without the votes")
    parser.add_argument("--only", default="", help="only verdicts whose name holds this")
    given = parser.parse_args()
    sizes = tuple(rows for rows in ROWS if rows <= 100) if given.quick else ROWS
    for line in table(given.draws or (40 if given.quick else 400), given.only, sizes):
        print(line, flush=True)
    if given.quick or given.only:
        return
    from tests.benchmarks import calibration_votes

    print()
    print(calibration_votes.table())


if __name__ == "__main__":
    main()
