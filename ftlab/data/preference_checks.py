"""What is unusual about preference data, said before anything is trained: with counts, why it matters, what to do."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ftlab.config import RunConfig
from ftlab.data.conversion import Message
from ftlab.data.preferences import EMPTY_SIDE, NO_JUDGEMENT, PREFERENCE_STAGES, balanced_weights, cuts_long_answers
from ftlab.errors import InputError

_SURE = 0.05  # of the 95% Wilson interval
_FEW_SIDES = 0.75  # one label beyond this share is an imbalance
_FEWEST_ROWS = 10
_LOOKED_AT_LENGTH = 30  # pairs of different length below which nothing is said


@dataclass(frozen=True)
class PreferenceFinding:
    """One thing about the data. `kind`: bad stops or spoils a run, warn harms it, info is good to know; the texts are
    sentences. `count` of `total` rows; `rows` are the first of them in the source, `figures` numbers behind it."""

    code: str
    kind: Literal["info", "warn", "bad"]
    what: str
    why: str
    try_: str
    count: int = 0
    total: int = 0
    rows: tuple[int, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        values = asdict(self)
        return {("try" if name == "try_" else name): value for name, value in values.items()}


def check_preferences(
    prepared: Any, config: RunConfig, *, tokenizer: Any = None, limit: int | None = None
) -> list[PreferenceFinding]:
    """What is unusual about the training preferences of `prepared` (`splits.prepare` with the stage of `config`), the
    most harmful first; nothing for other stages.

    With a `tokenizer`, prompts and answers are counted against `limit` tokens (None: optimisation.max_length).
    """
    if config.stage not in PREFERENCE_STAGES:
        return []
    rows = prepared.splits["train"]
    dropped = prepared.manifest.get("dropped", {})
    found = _about_empty_sides(dropped, prepared.manifest.get("rows_in", 0))
    if config.stage == "kto":
        found += _about_labels(rows, config)
        found += _about_judged_twice(rows)
    else:
        found += _about_identical(rows)
        found += _about_swapped(rows)
        found += _about_length(rows)
    if tokenizer is not None:
        found += _about_tokens(rows, config, tokenizer, limit or config.optimisation.max_length)
    return sorted(found, key=lambda one: ("bad", "warn", "info").index(one.kind))


def _about_empty_sides(dropped: Mapping[str, int], rows_in: int) -> list[PreferenceFinding]:
    found = []
    for code, reason, what in (
        ("empty_side", EMPTY_SIDE, "have no chosen or no rejected answer"),
        ("no_judgement", NO_JUDGEMENT, "are judged neither true nor false"),
    ):
        if count := dropped.get(reason, 0):
            found.append(
                PreferenceFinding(
                    code,
                    "warn",
                    f"{count:,} of {rows_in:,} rows {what} and are left out.",
                    "Without both sides there is nothing to compare.",
                    "Fill or remove these rows.",
                    count,
                    rows_in,
                )
            )
    return found


def _about_identical(rows: Sequence[Mapping[str, Any]]) -> list[PreferenceFinding]:
    same = [row for row in rows if equal_answers(row)]
    if not same:
        return []
    return [
        PreferenceFinding(
            "identical_pairs",
            "bad" if len(same) > len(rows) / 2 else "warn",
            f"{len(same):,} of {len(rows):,} pairs have equal chosen and rejected answers and are left out.",
            "Equal answers say nothing about which one is better.",
            "Remove these rows; if there are many, look whether the right columns are taken.",
            len(same),
            len(rows),
            _places(same),
        )
    ]


def _about_swapped(rows: Sequence[Mapping[str, Any]]) -> list[PreferenceFinding]:
    """Pairs that stand in the data both ways round."""
    seen: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    swapped = []
    for row in rows:
        prompt, chosen, rejected = _key(row["prompt"]), _said(row["chosen"]), _said(row["rejected"])
        if chosen != rejected and (prompt, rejected, chosen) in seen:
            swapped += [seen[prompt, rejected, chosen], row]
        seen[prompt, chosen, rejected] = row
    if not swapped:
        return []
    return [
        PreferenceFinding(
            "swapped_pairs",
            "warn",
            f"{len(swapped) // 2:,} pairs stand in the data both ways round: what is chosen in one row is rejected in "
            "another.",
            "Raters disagreed there, or columns were swapped; the model learns nothing from such rows but noise.",
            "Keep the row that is right, or set preference.loss=robust with the share of wrong votes.",
            len(swapped) // 2,
            len(rows),
            _places(swapped),
        )
    ]


def _about_length(rows: Sequence[Mapping[str, Any]]) -> list[PreferenceFinding]:
    """How often the chosen answer is the longer one, in characters."""
    from scipy.stats import binomtest

    differing = [(len(_said(row["chosen"])), len(_said(row["rejected"]))) for row in rows]
    differing = [(a, b) for a, b in differing if a != b]
    if len(differing) < _LOOKED_AT_LENGTH:
        return []
    longer = sum(a > b for a, b in differing)
    share = longer / len(differing)
    guess = max(share, 1 - share)
    low = binomtest(round(guess * len(differing)), len(differing)).proportion_ci(1 - _SURE, "wilson").low
    side = "longer" if share >= 0.5 else "shorter"
    figures = {"chosen_longer": share, "right_by_length": guess}
    what = f"The chosen answer is the {side} one in {guess:.0%} of {len(differing):,} pairs."
    if low > 0.7:
        return [
            PreferenceFinding(
                "length_bias",
                "warn",
                what,
                f"Length alone tells nearly which answer is chosen, so the model may learn to write {side} answers and "
                "nothing else (Singhal et al. 2023, arXiv 2310.03716).",
                "Add pairs in which the better answer is the "
                + ("shorter" if side == "longer" else "longer")
                + " one; for stage cpo, preference.loss=simpo divides by the length.",
                longer,
                len(differing),
                figures=figures,
            )
        ]
    return [
        PreferenceFinding(
            "length",
            "info",
            what,
            "Length alone does not explain the choices." if low <= 0.5 else "Length explains a part of the choices.",
            "Nothing has to be done.",
            longer,
            len(differing),
            figures=figures,
        )
    ]


def _about_labels(rows: Sequence[Mapping[str, Any]], config: RunConfig) -> list[PreferenceFinding]:
    good = sum(bool(row["label"]) for row in rows)
    bad = len(rows) - good
    if not good or not bad:
        return [
            PreferenceFinding(
                "one_label",
                "bad",
                f"All {len(rows):,} answers are marked as {'good' if good else 'bad'}.",
                "KTO learns from the difference between the two.",
                "Add answers of the other kind.",
                len(rows),
                len(rows),
            )
        ]
    weights = balanced_weights(good, bad)
    figures = {"good": good, "bad": bad, "good_weight": weights[0], "bad_weight": weights[1]}
    set_ = config.preference.good_weight is not None or config.preference.bad_weight is not None
    used = (
        f"The weights that you set are used: {config.preference.good_weight or 1:g} for good and "
        f"{config.preference.bad_weight or 1:g} for bad."
        if set_
        else f"Nothing has to be done: the weights {weights[0]:g} for good and {weights[1]:g} for bad balance them."
    )
    uneven = max(good, bad) / len(rows) > _FEW_SIDES
    return [
        PreferenceFinding(
            "label_imbalance" if uneven else "labels",
            "warn" if uneven and set_ else "info",
            f"{good:,} answers are marked as good and {bad:,} as bad.",
            "Without weights the larger side would count more (Ethayarajh et al. 2024, arXiv 2402.01306).",
            used,
            min(good, bad),
            len(rows),
            figures=figures,
        )
    ]


def _about_judged_twice(rows: Sequence[Mapping[str, Any]]) -> list[PreferenceFinding]:
    seen: dict[tuple[str, str], Mapping[str, Any]] = {}
    twice = []
    for row in rows:
        key = (_key(row["prompt"]), _said(row["completion"]))
        if key in seen and seen[key]["label"] != row["label"]:
            twice += [seen[key], row]
        seen.setdefault(key, row)
    if not twice:
        return []
    return [
        PreferenceFinding(
            "judged_both_ways",
            "warn",
            f"{len(twice) // 2:,} answers are marked as good in one row and as bad in another.",
            "The model learns nothing from such rows but noise.",
            "Keep the row that is right.",
            len(twice) // 2,
            len(rows),
            _places(twice),
        )
    ]


def _about_tokens(
    rows: Sequence[Mapping[str, Any]], config: RunConfig, tokenizer: Any, limit: int
) -> list[PreferenceFinding]:
    from ftlab.data.rendering import encode_completions

    full, cut = [], []
    for row in rows:
        sides = [row["completion"]] if "completion" in row else [row["chosen"], row["rejected"]]
        encoded = encode_completions(row["prompt"], sides, tokenizer)
        if len(encoded[0].prompt_ids) >= limit:
            full.append(row)
        elif any(len(one.whole.input_ids) > limit for one in encoded):
            cut.append(row)
    return cut_findings(config.stage, limit, len(full), len(cut), len(rows), _places(full), _places(cut))


def cut_findings(
    stage: str,
    limit: int,
    full: int,
    cut: int,
    total: int,
    full_rows: tuple[int, ...] = (),
    cut_rows: tuple[int, ...] = (),
) -> list[PreferenceFinding]:
    """What is said about rows that do not fit into `limit` tokens: `full` whose prompt does not, `cut` whose answer."""
    found = []
    if full:
        found.append(
            PreferenceFinding(
                "prompt_fills",
                "bad" if total - full < _FEWEST_ROWS else "warn",
                f"{full:,} of {total:,} rows have a prompt that fills {limit:,} tokens and are left out.",
                "No token of the answer would be left to learn from.",
                "Raise the longest example (optimisation.max_length), or leave these rows out.",
                full,
                total,
                full_rows,
            )
        )
    if cut:
        left_out = not cuts_long_answers(stage, total - full - cut, total)
        found.append(
            PreferenceFinding(
                "answer_cut",
                "warn",
                f"{cut:,} of {total:,} rows have an answer that ends after {limit:,} tokens and "
                + ("are left out." if left_out else "is cut there."),
                "An answer without its end teaches no end."
                if left_out
                else "Without them not even half of the rows would be left. The end of these answers, and how they "
                "stop, is not learnt.",
                "Raise the longest example (optimisation.max_length), or leave these rows out.",
                cut,
                total,
                cut_rows,
            )
        )
    return found


def record_findings(prepared: Any, config: RunConfig) -> list[PreferenceFinding]:
    """As `check_preferences`, kept in the manifest as `findings`. Raises InputError when nothing can be learnt."""
    found = check_preferences(prepared, config)
    bad = next((one for one in found if one.kind == "bad"), None)
    if bad is not None and bad.count == bad.total:
        raise InputError(bad.what.rstrip("."), given=f"stage: {config.stage}", allowed=bad.why, try_=bad.try_)
    if config.stage in PREFERENCE_STAGES:
        prepared.manifest["findings"] = [one.as_dict() for one in found]
    return found


def equal_answers(row: Mapping[str, Any]) -> bool:
    """Whether both answers of a pair are the same text, whatever its Unicode form."""
    return "chosen" in row and _said(row["chosen"]) == _said(row["rejected"])


def _said(turns: Sequence[Message]) -> str:
    return unicodedata.normalize("NFC", "\n".join(turn["content"].strip() for turn in turns))


def _key(turns: Sequence[Message]) -> str:
    texts = [[turn["role"], " ".join(unicodedata.normalize("NFC", turn["content"]).split())] for turn in turns]
    return json.dumps(texts, ensure_ascii=False)


def _places(rows: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(int(row["row"]) for row in rows))[:20]
