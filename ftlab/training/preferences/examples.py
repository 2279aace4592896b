"""The frozen preferences of a run as token ids, with what is left out or cut counted and said."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from ftlab.config import RunConfig
from ftlab.data.preference_checks import equal_answers
from ftlab.data.preferences import balanced_weights, cuts_long_answers
from ftlab.data.rendering import Completion, encode_completions
from ftlab.errors import InputError
from ftlab.files import write_json
from ftlab.run_directory import RunDirectory
from ftlab.training.examples import context_of
from ftlab.training.status import StatusWriter

if TYPE_CHECKING:
    import datasets

_FEWEST_ROWS = 10
# Why an example is left out or changed, by the name that the manifest counts it under.
_SAID = {
    "prompt_too_long": "have a prompt that fills {limit} tokens, so no answer is left, and were left out",
    "too_long": "are longer than {limit} tokens and were left out: an answer without its end teaches no end",
    "identical": "have equal chosen and rejected answers (within {limit} tokens), which teach nothing, and were left "
    "out",
    "cut": "are longer than {limit} tokens; the ends of their answers were cut off, because not even half of the rows "
    "fit whole. A higher optimisation.max_length keeps more of them (three quarters: {most})",
}


def tokenised_preferences(
    run: RunDirectory, config: RunConfig, tokenizer: Any, writer: StatusWriter
) -> dict[str, datasets.Dataset]:
    """The frozen train and validation splits, as the trainer of the stage takes them.

    dpo, orpo, cpo: prompt_ids, chosen_ids, rejected_ids, chosen_trained, rejected_trained. kto: prompt_ids,
    completion_ids, completion_trained, label. reward: chosen_ids and rejected_ids, each with its prompt. Raises
    InputError when max_length exceeds the base's context or fewer than 10 training rows are left.
    """
    import datasets

    from ftlab.data.splits import read_split

    limit, context = config.optimisation.max_length, context_of(config)
    splits: dict[str, datasets.Dataset] = {}
    manifest = run.manifest()
    cut = False  # decided on the training rows, for both splits
    for split in ("train", "validation"):
        rows = read_split(run, split)
        if not rows:
            continue
        counts: Counter[str] = Counter()
        remarks: Counter[str] = Counter()
        every, lengths = [], []
        for row in rows:
            sides = [row["completion"]] if "completion" in row else [row["chosen"], row["rejected"]]
            encoded = encode_completions(row["prompt"], sides, tokenizer)
            remarks.update(note for one in encoded for note in set(one.notes))
            lengths.append(max(len(one.whole.input_ids) for one in encoded))
            every.append((encoded, row.get("label"), equal_answers(row)))
        longest, most = max(lengths), sorted(lengths)[3 * len(lengths) // 4]
        if split == "train":
            cut = cuts_long_answers(config.stage, sum(length <= limit for length in lengths), len(rows))
        made = [_example(config.stage, *one, limit, counts, cut=cut) for one in every]
        examples = [one for one in made if one is not None]
        counted = {name: counts[name] for name in _SAID if counts[name]}
        tokens = sum(len(ids) for one in examples for name, ids in one.items() if name.endswith("_ids"))
        trained = sum(sum(on) for one in examples for name, on in one.items() if name.endswith("_trained"))
        numbers = {"rows": len(examples), "longest": longest, "tokens": tokens, "trained_tokens": trained or tokens}
        manifest.setdefault("tokens", {})[split] = numbers | counted
        for remark, count in remarks.items():
            writer.warn(f"In {count} answers of the {len(rows)} {split} rows: {remark}")
        for name, count in counted.items():
            writer.warn(f"{count} of {len(rows)} {split} rows {_SAID[name].format(limit=limit, most=most)}.")
        if split == "train" and len(examples) < _FEWEST_ROWS:
            reasons = ", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in counted.items())
            raise InputError(
                f"Only {len(examples)} of {len(rows)} training rows can be used ({reasons})",
                given=f"the longest has {longest} tokens; the base reads {context or 'an unknown number'}",
                allowed=f"at least {_FEWEST_ROWS} rows within optimisation.max_length = {limit}",
                try_="raise max_length up to the base's context, leave these rows out, or take a base that reads more",
            )
        if examples:
            splits[split] = datasets.Dataset.from_list(examples)
    write_json(run.manifest_file, manifest)
    return splits


def _example(
    stage: str,
    encoded: list[Completion],
    label: bool | None,
    equal: bool,
    limit: int,
    counts: Counter[str],
    *,
    cut: bool,
) -> dict[str, Any] | None:
    """One row for the trainer, or None; why, or what was cut, is added to `counts`."""
    if len(encoded[0].prompt_ids) >= limit:
        counts["prompt_too_long"] += 1
        return None
    too_long = any(len(one.whole.input_ids) > limit for one in encoded)
    if too_long and not cut:
        counts["too_long"] += 1
        return None
    room = limit - len(encoded[0].prompt_ids)
    ids = [one.completion_ids[:room] for one in encoded]
    trained = [one.trained[:room] for one in encoded]
    if len(ids) == 2 and (equal or ids[0] == ids[1]):
        counts["identical"] += 1
        return None
    counts["cut"] += too_long
    prompt = encoded[0].prompt_ids
    if stage == "reward":
        return {"chosen_ids": prompt + ids[0], "rejected_ids": prompt + ids[1]}
    if len(ids) == 1:
        return {"prompt_ids": prompt, "completion_ids": ids[0], "completion_trained": trained[0], "label": label}
    return {
        "prompt_ids": prompt,
        "chosen_ids": ids[0],
        "rejected_ids": ids[1],
        "chosen_trained": trained[0],
        "rejected_trained": trained[1],
    }


def mismatched(examples: datasets.Dataset, batch: int, seed: int) -> datasets.Dataset:
    """`examples` of kto in a random order, each with the answer to another prompt of its batch, as KTO needs them to
    estimate how far the model has moved (Ethayarajh et al. 2024, section 4.1).

    TRL turns the answers of a batch by one in the order of the file, where the two sides of a pair stand side by side:
    the "mismatched" answer would then often belong to the same prompt.
    """
    rows = list(examples)
    random.Random(seed).shuffle(rows)
    made = []
    for start in range(0, len(rows), batch):
        members = rows[start : start + batch]
        # A batch of one has nobody to swap with.
        others = [rows[start - 1]] if len(members) == 1 and start else [members[-1], *members[:-1]]
        for row, other in zip(members, others, strict=True):
            extra = {"KL_completion_ids": other["completion_ids"], "KL_trained": other["completion_trained"]}
            made.append(row | extra)
    return type(examples).from_list(made)


def kto_weights(config: RunConfig, labels: list[bool]) -> tuple[float, float]:
    """The weights of good and bad answers: those that are set, and what balances them where they are empty."""
    good, bad = balanced_weights(sum(labels), len(labels) - sum(labels))
    settings = config.preference
    if settings.good_weight is None and settings.bad_weight is None:
        return good, bad
    return settings.good_weight or 1.0, settings.bad_weight or 1.0
