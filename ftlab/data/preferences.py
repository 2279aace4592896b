"""Preference data: pairs and judged answers, and the checks on them."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ftlab.config import RunConfig
from ftlab.config.stages import JUDGED_STAGES, PAIR_STAGES, PREFERENCE_STAGES, PRETRAINING, REWARD_STAGES, STAGES
from ftlab.data.cells import judgement
from ftlab.data.conversion import NO_WINNER, convert, decided, usable_turns
from ftlab.data.formats import FORMATS, PREFERENCES, example_of
from ftlab.data.partition import no_text, only_text
from ftlab.data.shapes import Detected, Example, Message, MissingColumn, UnusableRow
from ftlab.data.votes import TIE
from ftlab.errors import InputError

EMPTY_SIDE = "an empty side"
NO_JUDGEMENT = "no judgement (true or false)"
Reader = Callable[[Mapping[str, Any]], tuple[list[Example], list[str]]]


def reader(stage: str, detected: Detected, system_prompt: str | None = None) -> Reader:
    """The function that turns one row into the examples of `stage`, with remarks on what was changed.

    It raises UnusableRow like `convert`. An example holds messages (sft; rloo and grpo, possibly with an empty answer),
    or prompt, chosen and rejected (dpo, orpo, cpo, reward), or prompt, completion and label (kto; a pair gives two
    examples). All but the label are lists of turns.
    """
    if stage in PAIR_STAGES:

        def pair(row: Mapping[str, Any]) -> tuple[list[Example], list[str]]:
            prompt, chosen, rejected, remarks = pair_of_row(row, detected, system_prompt)
            return [{"prompt": prompt, "chosen": chosen, "rejected": rejected}], remarks

        return pair
    if stage in JUDGED_STAGES:

        def judged(row: Mapping[str, Any]) -> tuple[list[Example], list[str]]:
            if detected.format in PREFERENCES:
                prompt, chosen, rejected, remarks = pair_of_row(row, detected, system_prompt)
                sides = ((chosen, True), (rejected, False))
                return [{"prompt": prompt, "completion": side, "label": good} for side, good in sides], remarks
            label = judgement(row.get(detected.columns["label"]), detected.scale)
            if label is None:
                raise UnusableRow(NO_JUDGEMENT)
            messages, remarks = usable_turns(row, detected, system_prompt)
            return [{"prompt": messages[:-1], "completion": messages[-1:], "label": label}], remarks

        return judged

    take = example_of if stage in REWARD_STAGES else convert

    def messages_of(row: Mapping[str, Any]) -> tuple[list[Example], list[str]]:
        messages, remarks = take(row, detected, system_prompt)
        return [{"messages": messages}], remarks

    return messages_of


def pair_of_row(
    row: Mapping[str, Any], detected: Detected, system_prompt: str | None = None
) -> tuple[list[Message], list[Message], list[Message], list[str]]:
    """Prompt, chosen and rejected of `row` as turns, and remarks.

    The prompt is the common prefix of both conversations in whole turns, up to an assistant turn: opening words that
    the two answers share stay in the answers, and identical answers stay answers. Raises UnusableRow, also for answers
    with equal scores.
    """
    detected = decided(row, detected)
    columns = detected.columns
    if detected.scores is not None and detected.scores.winner(row) == TIE:
        raise UnusableRow(NO_WINNER)
    for side in ("chosen", "rejected"):
        if columns[side] not in row:
            raise MissingColumn(columns[side])
        if row[columns[side]] in (None, "", [], {}):
            raise UnusableRow(EMPTY_SIDE)
    sides, remarks = [], []
    for side in ("chosen", "rejected"):
        read_as = replace(detected, columns=columns | {"chosen": columns[side]})
        try:
            messages, changed = usable_turns(row, read_as, system_prompt)
        except UnusableRow as problem:
            if problem.reason == "empty answer":
                raise UnusableRow(EMPTY_SIDE) from None
            raise
        sides.append(messages)
        remarks += [remark for remark in changed if remark not in remarks]
    chosen, rejected = sides
    start = _first_answer(chosen, rejected)
    return chosen[:start], chosen[start:], rejected[start:], remarks


def check_format(stage: str, detected: Detected, name: str, columns: list[str]) -> None:
    """Raise InputError if `stage` cannot use data of this format."""
    pairs = detected.format == "comparison" or (detected.format in PREFERENCES and "rejected" in detected.columns)
    if stage in PREFERENCE_STAGES and not pairs and not (stage in JUDGED_STAGES and detected.format == "kto"):
        raise _no_preferences(stage, detected, name, columns)
    if detected.format == "text" and stage != PRETRAINING:
        raise only_text(name, columns, detected, stage)
    if detected.format != "text" and stage == PRETRAINING:
        raise no_text(name, columns, detected)


def _no_preferences(stage: str, detected: Detected, name: str, columns: list[str]) -> InputError:
    layout = f"{detected.format.replace('_', ' ')} ({', '.join(detected.columns.values())})"
    if detected.format == "kto":
        return InputError(
            f"The stage {stage} trains on pairs of answers, and {name} holds single answers marked good or bad",
            given=f"columns {', '.join(columns)}, read as {layout}",
            allowed=f"{FORMATS['preference']}; {FORMATS['openai_preference']}",
            try_="set stage: kto, which trains on single answers",
        )
    if detected.format in PREFERENCES:
        return InputError(
            f"{name} has no column of rejected answers, and the stage {stage} compares chosen with rejected ones",
            given=f"columns {', '.join(columns)}",
            allowed=FORMATS["preference"],
            try_="set the columns, such as data.columns={chosen: ..., rejected: ...}, or set stage: sft",
        )
    wanted = FORMATS["kto"] + "; " if stage in JUDGED_STAGES else ""
    return InputError(
        f"The stage {stage} trains on preferences, and {name} holds none: there is no rejected answer",
        given=f"columns {', '.join(columns)}, read as {layout}",
        allowed=f"{wanted}{FORMATS['preference']}; {FORMATS['openai_preference']}",
        try_="set stage: sft, which trains on examples of good answers, or use preference data such as "
        "brand_voice_preferences",
    )


def chat_of(example: Mapping[str, Any]) -> list[Message]:
    """The whole conversation of an example with its chosen or judged answer."""
    side = "chosen" if "chosen" in example else "completion"
    return [*example["prompt"], *example[side]]


def _first_answer(chosen: list[Message], rejected: list[Message]) -> int:
    """The number of turns in the prompt that two conversations share."""
    most = min(len(chosen), len(rejected)) - 1  # each side keeps its last turn, which is an answer
    shared = next((i for i in range(most) if not _says_the_same(chosen[i], rejected[i])), most)
    while shared and not (chosen[shared]["role"] == rejected[shared]["role"] == "assistant"):
        shared -= 1
    if shared == 0:
        raise UnusableRow("chosen and rejected answer different prompts")
    return shared


def _says_the_same(message: Message, other: Message) -> bool:
    """Whether two turns are equal up to white space and Unicode form."""
    return message == other or (message["role"] == other["role"] and alike(message["content"], other["content"]))


def alike(text: str, other: str) -> bool:
    """Whether two texts are equal up to white space and Unicode form."""
    return text == other or _seen(text) == _seen(other)


def _seen(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split())


def balanced_weights(good: float, bad: float) -> tuple[float, float]:
    """Weights that make good and bad answers count equally; the larger side gets 1.

    Ethayarajh et al. 2024 (arXiv 2402.01306, section 4.2): weight times number should be in a ratio of 1 to 4/3.
    Raises InputError if one side has no answers.
    """
    if not good or not bad:
        raise InputError(
            f"All answers are marked as {'good' if good else 'bad'}",
            given=f"{good} good and {bad} bad answers",
            allowed="some of each",
            try_="add answers of the other kind" + ("; use stage: sft for good answers alone" if good else ""),
        )
    return (round(bad / good, 4), 1.0) if good < bad else (1.0, round(good / bad, 4))


def cuts_long_answers(stage: str, whole: int, rows: int) -> bool:
    """Whether answers that are too long are cut; `whole` of `rows` rows fit with all their answers.

    By default, rows with a longer answer are left out, as in SFT, unless that would leave half of them or fewer. A cut
    answer has no stop token: if the chosen answers are the longer ones, pairs of a cut and a complete answer teach the
    model not to stop. A reward model never trains on a cut answer.
    """
    return STAGES[stage].answers and whole <= rows / 2


_SURE = 0.05  # of the 95% Wilson interval
_FEW_SIDES = 0.75  # above this share, one label is an imbalance
_FEWEST_ROWS = 10
_LOOKED_AT_LENGTH = 30  # the fewest pairs of different length to report on


@dataclass(frozen=True)
class PreferenceFinding:
    """A finding about the data. `kind`: bad stops or ruins a run, warn harms it, info is good to know; the texts are
    sentences. `count` of `total` rows; `rows` are the first of them in the source, `figures` the numbers behind it."""

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


def check_preferences(prepared: Any, config: RunConfig, *, tokenizer: Any = None) -> list[PreferenceFinding]:
    """Findings about the training preferences of `prepared` (`splits.prepare` with the stage of `config`), the most
    harmful first; empty for other stages.

    With a `tokenizer`, prompts and answers are counted against optimisation.max_length.
    """
    if config.stage not in PREFERENCE_STAGES:
        return []
    rows = prepared.splits["train"]
    dropped = prepared.manifest.get("dropped", {})
    findings = _about_empty_sides(dropped, prepared.manifest.get("rows_in", 0))
    if config.stage in JUDGED_STAGES:
        findings += _about_labels(rows, config)
        findings += _about_judged_twice(rows)
    else:
        findings += _about_identical(rows)
        findings += _about_white_space(rows)
        findings += _about_swapped(rows)
        findings += _about_length(rows)
    if tokenizer is not None:
        findings += _about_tokens(rows, config, tokenizer, config.optimisation.max_length)
    return sorted(findings, key=lambda finding: ("bad", "warn", "info").index(finding.kind))


def _about_empty_sides(dropped: Mapping[str, int], rows_in: int) -> list[PreferenceFinding]:
    findings = []
    for code, reason, what in (
        ("empty_side", EMPTY_SIDE, "have no chosen or no rejected answer"),
        ("no_judgement", NO_JUDGEMENT, "are judged neither true nor false"),
    ):
        if count := dropped.get(reason, 0):
            findings.append(
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
    return findings


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
            "Remove these rows; if there are many, check that the columns are right.",
            len(same),
            len(rows),
            _places(same),
        )
    ]


def _about_white_space(rows: Sequence[Mapping[str, Any]]) -> list[PreferenceFinding]:
    same = [
        row
        for row in rows
        if not equal_answers(row) and "chosen" in row and alike(_text(row["chosen"]), _text(row["rejected"]))
    ]
    if not same:
        return []
    return [
        PreferenceFinding(
            "alike_pairs",
            "warn",
            f"{len(same):,} of {len(rows):,} pairs have answers that differ only in white space or Unicode form.",
            "The model would learn line breaks and spaces from them, not which answer is better.",
            "Remove these rows, unless the form of the text is what you want to teach.",
            len(same),
            len(rows),
            _places(same),
        )
    ]


def _about_swapped(rows: Sequence[Mapping[str, Any]]) -> list[PreferenceFinding]:
    """Pairs that occur in the data in both orders."""
    seen: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    swapped = []
    for row in rows:
        prompt, chosen, rejected = _key(row["prompt"]), _text(row["chosen"]), _text(row["rejected"])
        if chosen != rejected and (prompt, rejected, chosen) in seen:
            swapped += [seen[prompt, rejected, chosen], row]
        seen[prompt, chosen, rejected] = row
    if not swapped:
        return []
    return [
        PreferenceFinding(
            "swapped_pairs",
            "warn",
            f"{len(swapped) // 2:,} pairs occur both ways round: the answer chosen in one row is rejected in another.",
            "Raters disagreed, or columns were swapped; the model learns only noise from such rows.",
            "Keep the correct row, or set preference.loss=robust with the share of wrong votes.",
            len(swapped) // 2,
            len(rows),
            _places(swapped),
        )
    ]


def _about_length(rows: Sequence[Mapping[str, Any]]) -> list[PreferenceFinding]:
    """How often the chosen answer is the longer one, in characters."""
    from scipy.stats import binomtest

    differing = [(len(_text(row["chosen"])), len(_text(row["rejected"]))) for row in rows]
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
                f"Length alone almost predicts which answer is chosen, so the model may learn only to write {side} "
                "answers (Singhal et al. 2023, arXiv 2310.03716).",
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
            "Length alone does not explain the choices." if low <= 0.5 else "Length explains some of the choices.",
            "No action needed.",
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
    weighted = config.preference.good_weight is not None or config.preference.bad_weight is not None
    used = (
        f"The weights that you set are used: {config.preference.good_weight or 1:g} for good and "
        f"{config.preference.bad_weight or 1:g} for bad."
        if weighted
        else f"No action needed: the weights {weights[0]:g} for good and {weights[1]:g} for bad balance them."
    )
    uneven = max(good, bad) / len(rows) > _FEW_SIDES
    return [
        PreferenceFinding(
            "label_imbalance" if uneven else "labels",
            "warn" if uneven and weighted else "info",
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
        key = (_key(row["prompt"]), _text(row["completion"]))
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
            "The model learns only noise from such rows.",
            "Keep the correct row.",
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
        elif any(len(completion.whole.input_ids) > limit for completion in encoded):
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
    """Findings about rows that do not fit into `limit` tokens: `full` because of the prompt, `cut` of the answer."""
    findings = []
    if full:
        findings.append(
            PreferenceFinding(
                "prompt_fills",
                "bad" if total - full < _FEWEST_ROWS else "warn",
                f"{full:,} of {total:,} rows have a prompt that fills {limit:,} tokens and are left out.",
                "No token of the answer would be left to train on.",
                "Raise optimisation.max_length, or leave these rows out.",
                full,
                total,
                full_rows,
            )
        )
    if cut:
        left_out = not cuts_long_answers(stage, total - full - cut, total)
        findings.append(
            PreferenceFinding(
                "answer_cut",
                "warn",
                f"{cut:,} of {total:,} rows have an answer that ends after {limit:,} tokens and "
                + ("are left out." if left_out else "is cut there."),
                "A cut answer does not teach the model to stop."
                if left_out
                else "Leaving them out would lose at least half of the rows. The model does not learn how these "
                "answers end.",
                "Raise optimisation.max_length, or leave these rows out.",
                cut,
                total,
                cut_rows,
            )
        )
    return findings


def record_findings(prepared: Any, config: RunConfig) -> list[PreferenceFinding]:
    """Run `check_preferences` and store the result in the manifest. Raises InputError if no row can be trained on."""
    findings = check_preferences(prepared, config)
    bad = next((finding for finding in findings if finding.kind == "bad"), None)
    if bad is not None and bad.count == bad.total:
        raise InputError(bad.what.rstrip("."), given=f"stage: {config.stage}", allowed=bad.why, try_=bad.try_)
    if config.stage in PREFERENCE_STAGES:
        prepared.manifest["findings"] = [finding.as_dict() for finding in findings]
    return findings


def equal_answers(row: Mapping[str, Any]) -> bool:
    """Whether both answers of a pair are the same text, ignoring Unicode form."""
    return "chosen" in row and _text(row["chosen"]) == _text(row["rejected"])


def _text(turns: Sequence[Message]) -> str:
    return unicodedata.normalize("NFC", "\n".join(turn["content"].strip() for turn in turns))


def _key(turns: Sequence[Message]) -> str:
    texts = [[turn["role"], " ".join(unicodedata.normalize("NFC", turn["content"]).split())] for turn in turns]
    return json.dumps(texts, ensure_ascii=False)


def _places(rows: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(int(row["row"]) for row in rows))[:20]
