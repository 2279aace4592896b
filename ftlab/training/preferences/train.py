"""Learning from preferences: DPO, KTO, ORPO, CPO and SimPO, and reward models, through TRL's trainers."""

from __future__ import annotations

import math
from typing import Any

from ftlab.config import RunConfig
from ftlab.config_preferences import LOSSES
from ftlab.data.preferences import PREFERENCE_STAGES
from ftlab.errors import InputError
from ftlab.files import write_json
from ftlab.method_table import FOR_PREFERENCES, METHODS
from ftlab.models.peft_methods import CHANGES_BASE
from ftlab.run_directory import RunDirectory
from ftlab.training.arguments import stage_arguments
from ftlab.training.environment import note_environment
from ftlab.training.preferences.examples import kto_weights, mismatched, tokenised_preferences
from ftlab.training.setup import begin, chat_tokenizer, load_model, progress_callbacks, unrounded
from ftlab.training.sft import Training
from ftlab.training.status import StatusWriter

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
            "This initialisation rewrites the base, which is what an answer is compared with",
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
    if stage == "kto" and config.optimisation.batch_size < 2:
        raise InputError(
            "KTO compares answers within a batch, so one row at a time is not enough",
            given="optimisation.batch_size: 1",
            allowed="2 or more",
            try_="optimisation.batch_size=2 with a shorter optimisation.max_length if memory is short",
        )
    if stage == "kto" and preference.watch == "accuracy":
        raise InputError(
            "KTO has single answers and no pairs, so there is no accuracy to watch",
            given="preference.watch: accuracy",
            allowed="loss",
        )


def _remarks(config: RunConfig) -> list[str]:
    """Settings of the preference section that do nothing as they are."""
    preference, stage = config.preference, config.stage
    found = []
    if preference.loss == "robust" and not preference.label_smoothing:
        found.append("The loss robust without a share of wrong votes is sigmoid: set preference.label_smoothing.")
    if preference.label_smoothing and preference.loss not in _SMOOTHED.get(stage, ()):
        found.append(f"preference.label_smoothing was set, and {stage} with loss {preference.loss} does not use it.")
    if stage != "kto" and (preference.good_weight is not None or preference.bad_weight is not None):
        found.append(f"preference.good_weight and bad_weight are for kto; {stage} does not use them.")
    if preference.precompute_reference and stage not in ("dpo", "kto"):
        found.append(f"preference.precompute_reference was set, and {stage} has no reference.")
    return found


def prepare_preferences(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> Training:
    """Tokenise the frozen preferences of `run`, load what it starts from and build the trainer of its stage.

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
    from ftlab.training.result import save_result

    training = prepare_preferences(run, config, writer)
    trainer, checkpoint = training.trainer, training.checkpoint
    trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
    fused_lora.leave(training.model)
    forget_reference(trainer.model)
    save_result(run, config, trainer, training.tokenizer, writer, start=None)
    return "stopped" if training.report.stop_asked else "completed"


def _settings(run: RunDirectory, config: RunConfig, splits: dict[str, Any], writer: StatusWriter) -> dict[str, Any]:
    """What the trainer of the stage is told beside the settings that every stage has; mixes the rows of kto."""
    preference, batch = config.preference, config.optimisation.batch_size
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
        from ftlab.training.preferences import experimental

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
