"""One verdict on runs that differ only in the seed: would another such run be better than the base?

The trained models are a sample of possible models, just as the rows are a sample of possible questions. For each
measure, d[r, s] is the gain of run s over the base on row r. The 95% interval of its mean is

    mean +- sqrt((t[n-1] * SE_rows)**2 + (t[k-1] * SE_seeds)**2)

with SE_rows from the n means of rows, SE_seeds from the k means of runs, and t their 97.5% quantiles (the sum of two
sources by Banerjee, 1960, Sankhya 22, 357-358; it covers at least 95% for independent normal parts). For right-or-wrong
rows, the row part is Newcombe's (as in significance.share_difference), averaged over the runs and narrowed by as much
as averaging over runs reduces the spread of row gains. It does not shrink to a point if all rows change alike.
`tests/benchmarks/seeds.py`: 1.2 to 3.8% of verdicts are false at 10 to 200 rows; from rows alone up to 44%.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from ftlab.core.comparison import ComparisonJson, VerdictJson, decided_by, verdict_of
from ftlab.core.files import read_cached, read_jsonl
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError
from ftlab.evaluation.figures import in_sentence, signed, value_text
from ftlab.evaluation.probes import NOT_REPLAYED, REPLAYED, by_replay
from ftlab.evaluation.rows import LOSS, LOSS_MEASURE, OF_CORPUS, row_scores, rows_in_common
from ftlab.evaluation.significance import LEVEL, difference_p, loss_span, mean_interval, p_text, share_difference

FEWEST = 2
_SIDES = ("base", "adapted")
_FITS = ("perplexity", "bits_per_byte")
# For free text, the loss decides together with the first of these.
_OVERLAP = ("rouge_l", "rouge2", "rouge1", "token_f1")


@dataclass(frozen=True)
class SeedMeasure:
    """One measure over all runs: the values of the base and of each run, and the mean, range and standard deviation
    over runs.

    If single `rows` have values: `difference`, the mean gain over the base with its 95% `interval` (rows and seeds are
    both samples), and `p`, the paired permutation of rows for these particular models.
    """

    name: str
    title: str
    kind: str
    unit: str
    better: str | None
    base: float
    values: list[float]
    mean: float
    low: float
    high: float
    deviation: float
    rows: int | None = None
    difference: float | None = None
    interval: list[float] | None = None
    p: float | None = None


@dataclass(frozen=True)
class SeedsVerdict:
    """The verdict on `runs` with these `seeds`. `better`: True, False, or None if the data cannot tell. `decided` names
    the measures that decided. `own` counts the single verdicts: better, worse, cannot tell, forgot."""

    created: float  # unix seconds
    runs: list[str]
    seeds: list[int]
    split: str
    rows: int
    measures: list[SeedMeasure]
    better: bool | None
    decided: list[str]
    own: dict[str, int]
    text: str
    notes: list[str]


def seeds_verdict(runs: Sequence[tuple[int, RunDirectory]]) -> SeedsVerdict:
    """The verdict on `runs` (seed and run) from their stored answers; nothing is asked again.

    Raises FtlabError for fewer than two runs with a comparison, or without rows that all of them were asked.
    """
    compared = [(seed, run, own_comparison) for seed, run in runs if (own_comparison := run.comparison()) is not None]
    if len(compared) < FEWEST:
        raise FtlabError(
            f"{len(compared)} of {len(runs)} runs have been compared with their base: too few for a verdict on seeds",
            try_="wait for the runs, or resume those that stopped: python -m ftlab runs resume RUN",
        )
    comparisons = [own_comparison for _, _, own_comparison in compared]
    keyed, common = rows_in_common([run.predictions() for _, run, _ in compared])
    if not common:
        raise FtlabError("These runs have no evaluated rows in common", try_="evaluate them with the same settings")
    tables = _tables([[of_run[key] for key in common] for of_run in keyed]) | _probes([run for _, run, _ in compared])
    clusters = [keyed[0][key].get("cluster") for key in common]
    # If some rows lack a cluster, as in old results, rows count as independent.
    tied = None if None in clusters else [cluster for cluster in clusters if cluster is not None]
    measures = [_measure(about, comparisons, tables.get(about["name"]), tied) for about in _known(comparisons, tables)]
    own = _own([verdict_of(comparison) for comparison in comparisons])
    decided = _deciding(comparisons, {measure.name: measure for measure in measures if measure.interval})
    directions = {_direction(measure) for measure in decided}
    better = directions.pop() if len(directions) == 1 else None
    if [measure.name for measure in decided] == [LOSS] and own["better" if better else "worse"] < len(compared):
        # A loss says nothing about answers. The single verdicts, which also use BLEU, have to agree.
        better = None
    verdicts = [verdict for comparison in comparisons if (verdict := verdict_of(comparison)) is not None]
    if 2 * sum(verdict.get("opposed") is not None for verdict in verdicts) >= len(compared):
        better = None  # a gain in form that is a loss in knowledge
    notes = [f"{len(runs) - len(compared)} of {len(runs)} runs have no comparison and do not count."]
    notes = notes if len(compared) < len(runs) else []
    asked = max(map(len, keyed))
    notes += [f"These are the {len(common)} rows that all runs answered, of {asked}."] if asked > len(common) else []
    notes += ["Two runs say little about the effect of seeds: train three or more."] if len(compared) == FEWEST else []
    return SeedsVerdict(
        created=time.time(),
        runs=[run.id for _, run, _ in compared],
        seeds=[seed for seed, _, _ in compared],
        split=comparisons[0].get("split", ""),
        rows=len(common),
        measures=measures,
        better=better,
        decided=[measure.name for measure in decided],
        own=own,
        text=_text(better, decided, len(compared), own),
        notes=notes,
    )


def both_sources(
    runs: Sequence[tuple[Sequence[float], Sequence[float]]], clusters: Sequence[int] | None = None
) -> list[float]:
    """The 95% interval of the mean gain of two or more runs, each with the values of base and of adapted on the same
    two or more rows; see the module docstring. With `clusters` (the cluster of each row), the row part is wider."""
    gains = [[new - old for old, new in zip(base, adapted, strict=True)] for base, adapted in runs]
    whole = all(value in (0, 1) for run in runs for side in run for value in side)
    mean = statistics.fmean(map(statistics.fmean, gains))
    seeds = _half([statistics.fmean(run) for run in gains])
    of_rows = [statistics.fmean(values) for values in zip(*gains, strict=True)]
    if whole:
        intervals = [share_difference(base, adapted, clusters) for base, adapted in runs]
        # The mean of several runs is more precise than one of them, by at most the square root of their number.
        single = statistics.fmean(map(statistics.stdev, gains))
        share = max(statistics.stdev(of_rows) / single, len(runs) ** -0.5) if single else 1.0
        below = share * (mean - statistics.fmean(low for low, _ in intervals))
        above = share * (statistics.fmean(high for _, high in intervals) - mean)
        return [max(-1.0, mean - math.hypot(below, seeds)), min(1.0, mean + math.hypot(above, seeds))]
    half = math.hypot(_half_of_clusters(of_rows, clusters) if clusters else _half(of_rows), seeds)
    return [mean - half, mean + half]


def _half_of_clusters(values: Sequence[float], clusters: Sequence[int]) -> float:
    interval = mean_interval(values, clusters)
    return (interval[1] - interval[0]) / 2 if interval else math.inf


def _half(values: Sequence[float]) -> float:
    """Half the width of the 95% t interval of the mean of `values`."""
    from scipy.stats import t

    return float(t.ppf(1 - LEVEL / 2, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5


def read_verdict(values: Mapping[str, Any]) -> SeedsVerdict:
    """A verdict as written by `asdict`."""
    known = {field.name for field in fields(SeedsVerdict)}
    kept = {name: value for name, value in values.items() if name in known}
    return SeedsVerdict(**kept | {"measures": [SeedMeasure(**measure) for measure in values["measures"]]})


def verdict_with(run: RunDirectory) -> SeedsVerdict | None:
    """The newest verdict on seeds that includes `run`."""
    files = Workspace.of(run).sweeps_folder.glob("verdict-*.json")
    verdicts = [read_verdict(values) for file in files if run.id in (values := read_cached(file) or {}).get("runs", [])]
    return max(verdicts, key=lambda verdict: verdict.created, default=None)


def measure_text(measure: SeedMeasure) -> str:
    """One measure as a line: 88% on average of 3 runs (84% to 93%, standard deviation 4.6 points), base 12%."""
    about = asdict(measure)
    low, high, mean, base = (
        value_text(about, value) for value in (measure.low, measure.high, measure.mean, measure.base)
    )
    spread = f"{low} to {high}, standard deviation {_amount(measure, measure.deviation)}"
    runs = f"{len(measure.values)} runs ({spread})"
    return f"{in_sentence(measure.title)} {mean} on average of {runs} against {base} of the base"


def difference_text(measure: SeedMeasure) -> str:
    """The gain over the base and its interval. Empty if single rows have no values."""
    if measure.difference is None or measure.interval is None:
        return ""
    low, high = (signed(_amount(measure, abs(value)), value) for value in measure.interval)
    return f"{signed(_amount(measure, abs(measure.difference)), measure.difference)} ({low} to {high})"


def _amount(measure: SeedMeasure, value: float) -> str:
    return f"{100 * value:.1f} points" if measure.kind == "share" else f"{value:.3g}"


def _tables(rows: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, list[list[list[float]]]]:
    """{measure: per run the values of base and of adapted, by row}, for measures that all rows have."""
    scores = [[row_scores(row, _SIDES) for row in of_run] for of_run in rows]
    tables = {}
    for name in (name for name in scores[0][0] if name not in OF_CORPUS):
        values = [[[row.get(name, {}).get(side) for row in run] for side in _SIDES] for run in scores]
        known = [[[value for value in side if value is not None] for side in run] for run in values]
        if known == values:
            tables[name] = known
    return tables


def _probes(runs: Sequence[RunDirectory]) -> dict[str, list[list[list[float]]]]:
    asked = [{row["row"]: row for row in read_jsonl(run.probes_file)} for run in runs]
    common = [row for row in asked[0] if all(row in of_run for of_run in asked)]
    return {
        name: [[[float(of_run[common[i]][f"{side}_correct"]) for i in places] for side in _SIDES] for of_run in asked]
        for name, places in by_replay([asked[0][row].get("replayed") for row in common]).items()
    }


def _known(comparisons: Sequence[ComparisonJson], tables: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The measures for which all comparisons have a value on both sides, and the loss of rows."""
    listed = [{measure["name"]: measure for measure in comparison.get("measures", [])} for comparison in comparisons]
    names = [name for name in listed[0] if all(_has_values(entry.get(name)) for entry in listed)]
    return [*(listed[0][name] for name in names), *([LOSS_MEASURE] if LOSS in tables else [])]


def _has_values(measure: Mapping[str, Any] | None) -> bool:
    return measure is not None and all(measure["values"].get(side) is not None for side in _SIDES)


def _measure(
    about: Mapping[str, Any],
    comparisons: Sequence[ComparisonJson],
    table: list[list[list[float]]] | None,
    clusters: list[int] | None,
) -> SeedMeasure:
    info = {"name": about["name"], "title": about["title"], "kind": about["kind"], "unit": about["unit"]}
    if table is None:
        measures = [
            measure
            for comparison in comparisons
            for measure in comparison["measures"]
            if measure["name"] == about["name"]
        ]
        base, values = ([v for measure in measures if (v := measure["values"][side]) is not None] for side in _SIDES)
        return SeedMeasure(**info, better=about["better"], base=statistics.fmean(base), **_spread(values))
    base_rows = [statistics.fmean(values) for values in zip(*(run[0] for run in table), strict=True)]
    mean_rows = [statistics.fmean(values) for values in zip(*(run[1] for run in table), strict=True)]
    gain = statistics.fmean(new - old for old, new in zip(base_rows, mean_rows, strict=True))
    more: dict[str, Any] = {"rows": len(base_rows), "difference": gain}
    if len(base_rows) > 1:
        clusters = None if about["name"] in (NOT_REPLAYED, REPLAYED) else clusters
        more["interval"] = both_sources([(base, adapted) for base, adapted in table], clusters)
        more["p"] = difference_p(
            base_rows, mean_rows, clusters, span=loss_span(base_rows) if about.get("kind") == "loss" else None
        )
    spread = _spread([statistics.fmean(run[1]) for run in table])
    return SeedMeasure(**info, better=about["better"], base=statistics.fmean(base_rows), **spread, **more)


def _spread(values: list[float]) -> dict[str, Any]:
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    return {"values": values, "mean": mean, "low": min(values), "high": max(values), "deviation": deviation}


def _own(verdicts: Sequence[VerdictJson | None]) -> dict[str, int]:
    words = {True: "better", False: "worse", None: "cannot tell"}
    counts = Counter(words[verdict.get("better") if verdict else None] for verdict in verdicts)
    forgot = sum(verdict is not None and verdict.get("forgot") is True for verdict in verdicts)
    return {word: counts[word] for word in words.values()} | {"forgot": forgot}


def _deciding(comparisons: Sequence[ComparisonJson], known: Mapping[str, SeedMeasure]) -> list[SeedMeasure]:
    """What decided most of the single verdicts; for free text, the loss and the overlap with the reference together."""
    named = Counter(map(decided_by, comparisons))
    name = named.most_common(1)[0][0]
    if name is not None and name in known and name not in _FITS:
        return [known[name]]
    fit = [known[loss] for loss in (LOSS, *_FITS) if loss in known]
    overlap = [known[measure] for measure in _OVERLAP if measure in known]
    return fit[:1] + overlap[:1]


def _direction(measure: SeedMeasure) -> bool | None:
    """Whether the interval is entirely on the better side, on the worse side, or on neither."""
    assert measure.interval is not None
    low, high = measure.interval
    if measure.better is None or low <= 0 <= high:
        return None
    return (low > 0) == (measure.better == "higher")


def _text(better: bool | None, decided: Sequence[SeedMeasure], runs: int, own: Mapping[str, int]) -> str:
    if not decided:
        return f"Cannot tell over {runs} seeds: no measure has values for single rows."
    lead = {
        True: "A run like these is better than the base: ",
        False: "A run like these is worse than the base: ",
        None: "Cannot tell whether a run like these is better than the base: ",
    }[better]
    sentences = []
    for measure in decided:
        alone = (
            f"for these {runs} models alone {p_text(measure.p)} on {measure.rows} rows" if measure.p is not None else ""
        )
        change = f"a change of {difference_text(measure)}, with both seeds and rows taken as random"
        sentences.append(", ".join(filter(None, [measure_text(measure), change, alone])))
    counts = ", ".join(f"{count} {word}" for word, count in own.items() if count and word != "forgot")
    text = f"{lead}{'; '.join(sentences)}. Each run by itself: {counts}."
    return text + (f" In {own['forgot']} of {runs} something was forgotten." if own["forgot"] else "")
