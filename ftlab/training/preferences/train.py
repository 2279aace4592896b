"""Preference training: tokenizes pairs, builds the trainer, and saves the result."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from ftlab.config import RunConfig, filled
from ftlab.config.methods import FOR_PREFERENCES, METHODS
from ftlab.config.stages import LOSSES, PREFERENCE_STAGES
from ftlab.core.files import write_json
from ftlab.core.run_directory import RunDirectory
from ftlab.data.preferences import balanced_weights, cuts_long_answers, equal_answers
from ftlab.data.rendering import Completion, encode_completions
from ftlab.errors import InputError
from ftlab.models.peft_methods import CHANGES_BASE
from ftlab.training.arguments import stage_arguments
from ftlab.training.setup import begin, chat_tokenizer, load_model, note_environment, progress_callbacks, unrounded
from ftlab.training.sft import Training, context_of
from ftlab.training.status import StatusWriter

if TYPE_CHECKING:
    import datasets

_FEWEST_ROWS = 10
# Why an example is left out or changed, by the name that the manifest counts it under.
_SAID = {
    "prompt_too_long": "have a prompt that fills {limit} tokens, which leaves no room for an answer, and were left out",
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
            remarks.update(note for side in encoded for note in set(side.notes))
            lengths.append(max(len(side.whole.input_ids) for side in encoded))
            every.append((encoded, row.get("label"), equal_answers(row)))
        longest, most = max(lengths), sorted(lengths)[3 * len(lengths) // 4]
        if split == "train":
            cut = cuts_long_answers(config.stage, sum(length <= limit for length in lengths), len(rows))
        made = [_example(config.stage, *row, limit, counts, cut=cut) for row in every]
        examples = [example for example in made if example is not None]
        counted = {name: counts[name] for name in _SAID if counts[name]}
        columns = [column for example in examples for column in example.items()]
        tokens = sum(len(ids) for name, ids in columns if name.endswith("_ids"))
        trained = sum(sum(on) for name, on in columns if name.endswith("_trained"))
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
    too_long = any(len(side.whole.input_ids) > limit for side in encoded)
    if too_long and not cut:
        counts["too_long"] += 1
        return None
    room = limit - len(encoded[0].prompt_ids)
    ids = [side.completion_ids[:room] for side in encoded]
    trained = [side.trained[:room] for side in encoded]
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


_SMOOTHED = {"dpo": ("robust", "exo_pair", "aot", "aot_unpaired"), "cpo": ("sigmoid", "simpo", "alphapo")}
_EXO_SMOOTHING = 1e-3  # what the paper of EXO recommends (Ji et al. 2024, arXiv 2402.00856)


def check_preferences_config(config: RunConfig) -> None:
    """Raise InputError for settings that the stage of `config` cannot do; nothing for other stages."""
    stage, preference = config.stage, config.preference
    if stage not in PREFERENCE_STAGES:
        return
    if config.method.name not in FOR_PREFERENCES:
        raise InputError(
            f"The stage {stage} cannot train {METHODS[config.method.name].title}",
            given=f"method.name: {config.method.name}",
            allowed=", ".join(FOR_PREFERENCES),
            try_="method.name=lora",
        )
    if config.method.initialisation in CHANGES_BASE:
        raise InputError(
            "This initialization rewrites the base, which is what answers are compared with",
            given=f"method.initialisation: {config.method.initialisation}",
            allowed="default, gaussian, orthogonal",
        )
    losses = LOSSES.get(stage)
    if losses and preference.loss is not None and preference.loss not in losses:
        raise InputError(
            f"There is no loss of this name for the stage {stage}",
            given=f"preference.loss: {preference.loss}",
            allowed=", ".join(losses),
            try_="leave it empty for the usual one",
        )
    if stage == "kto" and filled(config.optimisation.batch_size) < 2:
        raise InputError(
            "KTO compares answers within a batch, so it needs at least two rows",
            given="optimisation.batch_size: 1",
            allowed="2 or more",
            try_="optimisation.batch_size=2 with a shorter optimisation.max_length if memory is short",
        )
    if stage == "kto" and preference.watch == "accuracy":
        raise InputError(
            "KTO has single answers instead of pairs, so there is no accuracy to watch",
            given="preference.watch: accuracy",
            allowed="loss",
        )


def _remarks(config: RunConfig) -> list[str]:
    """Remarks on settings of the section preference that have no effect."""
    preference, stage = config.preference, config.stage
    remarks = []
    if preference.loss == "robust" and not preference.label_smoothing:
        remarks.append("The loss robust without a share of wrong votes is sigmoid: set preference.label_smoothing.")
    if preference.label_smoothing and preference.loss not in _SMOOTHED.get(stage, ()):
        remarks.append(f"preference.label_smoothing was set, and {stage} with loss {preference.loss} does not use it.")
    if stage != "kto" and (preference.good_weight is not None or preference.bad_weight is not None):
        remarks.append(f"preference.good_weight and bad_weight are for kto; {stage} does not use them.")
    if preference.precompute_reference and stage not in ("dpo", "kto"):
        remarks.append(f"preference.precompute_reference was set, and {stage} has no reference.")
    return remarks


def prepare_preferences(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> Training:
    """Tokenize the frozen preferences of `run`, load what it starts from and build the trainer of its stage.

    Raises InputError and FtlabError for what a person can mend.
    """
    from ftlab.models import fused_lora
    from ftlab.training.log_probs import use_small_tiles
    from ftlab.training.preferences.trainers import forget_reference

    check_preferences_config(config)
    device, checkpoint = begin(run, config, writer)
    use_small_tiles()
    writer.update(phase="preparing the examples")
    tokenizer = chat_tokenizer(run, config, writer)
    for remark in _remarks(config):
        writer.warn(remark)
    for finding in run.manifest().get("findings", []):
        if finding["kind"] != "info":
            writer.warn(f"{finding['what']} {finding['try']}")
    splits = tokenised_preferences(run, config, tokenizer, writer)
    model = load_model(run, config, tokenizer, device, writer, scores=config.stage == "reward")
    # Before TRL puts its reference adapter beside the one that is trained; without gradients PEFT's own code runs.
    computing = [fused_lora.IN_WORDS] if fused_lora.use(model) else []
    note_environment(run, computing=computing)
    more = _settings(run, config, splits, writer)
    validation = "validation" in splits
    arguments = stage_arguments(run, config, device, rows=len(splits["train"]), validation=validation, more=more)
    if checkpoint:
        arguments.eval_on_start = False  # it was evaluated at this step already
    callbacks = progress_callbacks(run, config, writer, checkpoint, validation=validation)
    if config.preference.precompute_reference and config.stage in ("dpo", "kto"):
        writer.update(phase="scoring the rows with the reference")
    with unrounded(model):
        trainer = _trainer(config, device, model, arguments, splits, tokenizer, callbacks)
    if not run.start.exists():
        # A fresh adapter changes nothing, so the bare base is the same reference and is computed faster.
        forget_reference(trainer.model)
    return Training(trainer, model, tokenizer, callbacks[0], checkpoint, None, computing)


def train_preferences(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> str:
    """Train `run` on its frozen preferences and leave adapter/ (or model/) behind. Returns completed or stopped.

    The weights that did best on the validation split are kept where there is one. Raises InputError and FtlabError for
    what a person can mend.
    """
    from ftlab.models import fused_lora
    from ftlab.training.preferences.trainers import forget_reference
    from ftlab.training.setup import save_result

    training = prepare_preferences(run, config, writer)
    trainer, checkpoint = training.trainer, training.checkpoint
    trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
    fused_lora.leave(training.model)
    forget_reference(trainer.model)
    save_result(run, config, trainer, training.tokenizer, writer, start=None)
    return "stopped" if training.report.stop_asked else "completed"


def _settings(run: RunDirectory, config: RunConfig, splits: dict[str, Any], writer: StatusWriter) -> dict[str, Any]:
    """What the trainer of the stage is told beside the settings that every stage has; mixes the rows of kto."""
    preference, batch = config.preference, filled(config.optimisation.batch_size)
    held = len(splits.get("validation", ()))
    # Batches of nearly the same size: TRL takes the mean over batches, whatever their size.
    together = math.ceil(held / math.ceil(held / batch)) if held else batch
    values: dict[str, Any] = {
        "per_device_eval_batch_size": together,
        "remove_unused_columns": False,
    }
    watched = {"reward": "eval_accuracy"}.get(config.stage, "eval_rewards/accuracies")
    if preference.watch == "accuracy" and held:
        values |= {"metric_for_best_model": watched, "greater_is_better": True}
    match config.stage:
        case "dpo":
            smoothing = preference.label_smoothing
            if preference.loss == "exo_pair" and not smoothing:
                smoothing = _EXO_SMOOTHING
            values |= {
                "max_length": None,
                "beta": preference.beta,
                "loss_type": [preference.loss],
                "label_smoothing": smoothing,
                "precompute_ref_log_probs": preference.precompute_reference,
            }
        case "kto":
            labels = list(splits["train"]["label"])
            good, bad = kto_weights(config, labels)
            weights = {"good": sum(labels), "bad": len(labels) - sum(labels), "good_weight": good, "bad_weight": bad}
            write_json(run.manifest_file, run.manifest() | {"judged": weights})
            if good != bad:
                writer.warn(f"Good answers count {good:g} and bad ones {bad:g}: there are {weights['good']} good and "
                            f"{weights['bad']} bad.")  # fmt: skip
            for split, size in (("train", batch), ("validation", together)):
                if split in splits:
                    splits[split] = mismatched(splits[split], size, config.optimisation.seed)
            values |= {
                "max_length": None,
                "beta": preference.beta,
                "loss_type": preference.loss,
                "precompute_ref_log_probs": preference.precompute_reference,
                "desirable_weight": good,
                "undesirable_weight": bad,
                # In the order of `mismatched`, batch by batch.
                "train_sampling_strategy": "sequential",
            }
        case "orpo":
            values |= {"max_length": config.optimisation.max_length, "beta": preference.beta}
        case "cpo":
            values |= {
                "max_length": config.optimisation.max_length,
                "beta": preference.beta,
                "loss_type": preference.loss,
                "label_smoothing": preference.label_smoothing,
                "simpo_gamma": preference.simpo_margin,
                # SimPO has no term that keeps to the chosen answer; CPO has (TRL's cpo_alpha).
                "cpo_alpha": 0.0 if preference.loss in ("simpo", "alphapo") else 1.0,
            }
        case "reward":
            values |= {"max_length": None}
    return values


def _trainer(
    config: RunConfig, device: str, model: Any, arguments: Any, splits: dict[str, Any], tokenizer: Any, callbacks: Any
) -> Any:
    common = {
        "model": model,
        "args": arguments,
        "train_dataset": splits["train"],
        "eval_dataset": splits.get("validation"),
        "processing_class": tokenizer,
        "callbacks": callbacks,
    }
    if config.stage in ("orpo", "cpo"):
        from ftlab.training.preferences import trainers as experimental

        for name in ("train_dataset", "eval_dataset"):
            if common[name] is not None:
                common[name] = experimental.for_trainer(common[name])
        return (experimental.OddsTuner if config.stage == "orpo" else experimental.ContrastTuner)(**common)
    from ftlab.training.preferences import trainers

    if config.stage == "reward":
        return trainers.RewardTuner(**common)
    if config.method.name == "full" and not config.preference.precompute_reference:
        from ftlab.models.load import load_base

        # TRL would load it by its name alone, and then perhaps another revision.
        same = config.model.model_copy(update={"dtype": str(model.dtype).removeprefix("torch.")})
        common["ref_model"] = load_base(same, device=device)
    if config.stage == "dpo":
        return trainers.PairTuner(data_collator=trainers.PairCollator(tokenizer.pad_token_id), **common)
    return trainers.JudgedTuner(data_collator=trainers.JudgedCollator(tokenizer.pad_token_id), **common)
