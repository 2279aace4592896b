"""The one gate for every run: wherever it is started, its starting point and its settings are checked here first."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab.config import AUTO, STARTER, RunConfig, filled, load_config
from ftlab.config.methods import CONTINUED, FOR_PREFERENCES, METHODS, titles
from ftlab.config.stages import JUDGED_STAGES, PREFERENCE_STAGES, REWARD_STAGES, SFT, STAGES
from ftlab.core.hub import is_offline
from ftlab.core.parsing import parse_json
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError, shorten
from ftlab.models.bases.known import KNOWN, home
from ftlab.models.identity import check_result
from ftlab.models.methods import check_method, method_of_adapter
from ftlab.models.starter import starter_path
from ftlab.models.strength import chosen_strength, strength_name
from ftlab.training.arguments import check_tracking, check_trainer_settings
from ftlab.training.launcher import check_launcher, shards

if TYPE_CHECKING:
    from ftlab.data.splits import Prepared


@dataclass(frozen=True)
class Start:
    """`adapter` is the folder of the adapter that is trained further, None when the earlier run trained a whole model,
    which is then the base. `run` is the id of that run, None for a folder."""

    adapter: Path | None
    run: str | None


def resolve_start(config: RunConfig, workspace: Workspace) -> tuple[RunConfig, Start | None]:
    """`config` with the base and method of its starting point, and that starting point; None if it is the base.

    Raises InputError when there is no such run or adapter, or when it contradicts `config`.
    """
    if not config.model.start:
        return config, None
    named = config.model.start
    folder = Path(named).expanduser()
    if (folder / "adapter_config.json").is_file():
        return _from_adapter(config, folder.absolute(), None, None)
    if folder.is_dir() and not (folder / "config.yaml").is_file():
        raise InputError(
            "The folder to start from (model.start) holds no adapter",
            given=named,
            allowed="a folder with adapter_config.json and adapter_model.safetensors, or the id of a run",
            try_="for a whole model set model.base instead",
        )
    parent = workspace.run(str(folder.absolute()) if folder.is_dir() else named)
    if not parent.has_result:
        raise InputError(
            f"The run {parent.id} has no trained model to start from",
            given=f"model.start: {named}",
            try_="wait until it has ended, or train it again",
        )
    check_result(parent)
    earlier = load_config(parent.config_file)
    if earlier.is_reward_model:
        raise InputError(
            f"The run {parent.id} is a reward model: it scores answers and writes none, so nothing can start from it",
            given=f"model.start: {named}",
            try_="name the run that the reward model itself was started from",
        )
    config = config.model_copy(deep=True)
    config.model.start = parent.id if Workspace.of(parent) == workspace else str(parent.path)
    if parent.adapter.exists():
        return _from_adapter(config, parent.adapter, parent.id, earlier)
    _check_base(config, earlier.model.base, parent.id, also=str(parent.model))
    # A fully tuned model is a base of its own, with its own number format.
    config.model.base, config.model.revision = str(parent.model), None
    config.model.thinking = earlier.model.thinking
    if "name" not in config.method.model_fields_set:
        config.method.name = earlier.method.name
    if earlier.is_starter:
        # The starter under another name.
        like = config.model_copy(deep=True)
        like.model.base = earlier.model.base
        usual, settings = like.resolved().optimisation, config.optimisation
        settings.learning_rate, settings.epochs = usual.learning_rate, usual.epochs
        settings.batch_size = settings.batch_size or usual.batch_size
    return config, Start(None, parent.id)


def remarks_on(start: Start | None, workspace: Workspace) -> list[str]:
    """Remarks on the starting point of a run: a strength chosen for it is not part of its weights."""
    if start is None or start.run is None:
        return []
    try:
        parent = workspace.run(start.run)
    except FtlabError:
        return []
    if not (at := strength_name(chosen_strength(parent))):
        return []
    return [
        f"The run {parent.id} is used at {at}. This run starts from its full adapter, as at strength 1: a strength "
        "does not change the adapter."
    ]


def freeze_start(start: Start | None, run: RunDirectory) -> None:
    """Copy the adapter that `run` starts from into its directory, so that the other run can be deleted."""
    if start is not None and start.adapter is not None:
        target = run.start
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for file in start.adapter.iterdir():
            if file.name == "adapter_config.json" or file.suffix == ".safetensors":
                shutil.copy2(file, target / file.name)


def _from_adapter(
    config: RunConfig, folder: Path, run_id: str | None, earlier: RunConfig | None
) -> tuple[RunConfig, Start]:
    name = f"the run {run_id}" if run_id else f"the adapter {folder}"
    if not (folder / "adapter_model.safetensors").is_file():
        raise InputError(
            "The adapter to start from (model.start) has no safetensors weights",
            given=folder,
            allowed="adapter_model.safetensors (pickled .bin files can run code and are refused)",
        )
    saved = _read(folder)
    if saved.get("task_type") not in (None, "CAUSAL_LM"):
        raise InputError(
            "The adapter to start from (model.start) is not for a language model",
            given=f"{saved.get('task_type')} in {folder / 'adapter_config.json'}",
            allowed="CAUSAL_LM",
        )
    method = earlier.method.name if earlier else method_of_adapter(saved, quantised=config.method.is_quantised)
    if method not in CONTINUED:
        title = METHODS[method].title if method in METHODS else method
        raise InputError(
            f"{name.capitalize()} was trained with {title}, which cannot be trained further",
            given=f"model.start: {config.model.start}",
            allowed=titles(CONTINUED),
        )
    if "name" in config.method.model_fields_set and config.method.name != method:
        hint = "leave method.name empty"
        if config.method.is_full:
            hint += ", or start from a run with the same method: full training cannot continue an adapter"
        raise InputError(
            f"A run continues with the method of its starting point, and {name} was trained with {method}",
            given=f"method.name: {config.method.name}",
            allowed=method,
            try_=hint,
        )
    base = earlier.model.base if earlier else str(saved.get("base_model_name_or_path") or "")
    if earlier is None and Path(base) == starter_path():
        base = STARTER
    elif earlier is None and Path(base).parent == home() and Path(base).name in KNOWN:
        base = Path(base).name
    _check_base(config, base, name)
    config = config.model_copy(deep=True)
    config.model.base = base
    if earlier is not None:
        config.model.revision, config.model.dtype = earlier.model.revision, earlier.model.dtype
        config.model.thinking = earlier.model.thinking
        config.method = earlier.method.model_copy(deep=True)
    config.method = config.method.model_copy(update={"name": method})
    if "rank" in METHODS[method].fields:
        if not all(isinstance(saved.get(name), (int, float)) for name in ("r", "lora_alpha")):
            raise InputError(
                "The adapter to start from (model.start) does not say how large it is",
                given=folder / "adapter_config.json",
                allowed="r and lora_alpha, as PEFT writes them",
            )
        config.method.rank, config.method.alpha = saved["r"], round(saved["lora_alpha"])
        config.method.rank_stabilised = bool(saved.get("use_rslora"))
    # The initialization is over: an adapter saved from pissa or olora is a plain one.
    config.method.initialisation = "default"
    return config, Start(folder, run_id)


def _read(folder: Path) -> dict[str, Any]:
    try:
        return parse_json((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"The adapter to start from cannot be read: {shorten(error, 200)}", given=folder) from None


def _check_base(config: RunConfig, base: str, name: str, also: str | None = None) -> None:
    """Raise InputError when `config` names another base than the one it starts from (the default is no name)."""
    if "base" in config.model.model_fields_set and config.model.base not in (base, also):
        raise InputError(
            f"{name[0].upper() + name[1:]} was trained on another base",
            given=f"model.base: {config.model.base}",
            allowed=f"{base}, the base of model.start",
            try_="leave model.base empty, or start from another run",
        )


def checked(config: RunConfig, workspace: Workspace, *, needs_base: bool = True) -> tuple[RunConfig, Start | None]:
    """`config` complete and checked, and its starting point. Without `needs_base` the base need not be available here:
    preflight estimates what it would need.

    Raises InputError for any setting that would stop the run later.
    """
    from ftlab.models.load import check_base, shape_of
    from ftlab.training.rewards import pin_rewards

    config, start = resolve_start(config, workspace)
    if config.data.replay == AUTO and shards(config.launcher):
        config.data.replay = None
    if needs_base:
        check_base(config.model)
    as_set = config.evaluation
    config = config.resolved(shape_of(config.model, fetch=needs_base and not is_offline()))
    if not config.is_starter:
        # The amounts depend on the data: see settle_measuring.
        config.evaluation.probes = as_set.probes
        config.evaluation.general_text = as_set.general_text
    if config.stage in REWARD_STAGES:
        pin_rewards(config, workspace)
    check_stored(config, workspace)
    check_code(config)
    return config, start


def prepare_data(config: RunConfig, workspace: Workspace, *, records: bool = False) -> Prepared:
    """The data of `config`, split and checked as the run needs them. Completes the sections data and evaluation: the
    version of the data, how their rows were read, and the amounts that depend on them.

    With `records` the configuration and later commands say how the rows were read. Raises InputError as `checked` does.
    """
    from ftlab.data.curation import check_read
    from ftlab.data.load import as_read, load_rows, remember, settled
    from ftlab.data.preferences import record_findings
    from ftlab.data.splits import prepare
    from ftlab.data.version_store import PREFIX, pinned, resolve
    from ftlab.training.rewards import check_references

    config.data.source = pinned(config.data.source, workspace)
    if config.data.source.startswith(PREFIX):
        check_read(resolve(config.data.source, workspace))
    loaded, data = load_rows(config.data, workspace), config.data
    # Prompts alone have no answers to guess.
    guessed = records and config.stage not in REWARD_STAGES
    config.data = as_read(data, loaded) if guessed else settled(data, loaded.named)
    prepared = prepare(config.data, loaded, workspace, stage=config.stage)
    if records:
        remember(data, workspace)
    if config.stage in REWARD_STAGES:
        check_references(config, prepared.splits["train"])
    settle_measuring(config, prepared)
    check_evaluation(config, prepared.splits)
    record_findings(prepared, config)
    return prepared


def settle_measuring(config: RunConfig, prepared: Prepared) -> None:
    """Set how much `config` asks to measure forgetting, where that is auto, from the `prepared` data."""
    from ftlab.evaluation.probes import MOST_PASSAGES, MOST_PROMPTS, affordable

    settings = config.evaluation
    if "auto" not in (settings.probes, settings.general_text):
        return
    prompts, passages = MOST_PROMPTS, MOST_PASSAGES
    if config.stage not in REWARD_STAGES:  # whose steps consist mostly of writing answers
        replay = prepared.manifest.get("replay") if prepared.replay_prompts else None
        prompts, passages = affordable(config, prepared.splits, replay["rows"] if replay else 0)
    if settings.probes == "auto":
        settings.probes = f"self:{prompts}" if prompts < MOST_PROMPTS else "self"
    if settings.general_text == "auto":
        settings.general_text = f"general_reading:{passages}" if passages < MOST_PASSAGES else "general_reading"


def check_stored(config: RunConfig, workspace: Workspace, *, kept: Path | None = None) -> None:
    """Raise InputError for settings that cannot be trained, of a new run or of an existing one (with a copy `kept` of
    its accelerate configuration), whose folder may come from another machine."""
    check_method(config)
    if config.stage in REWARD_STAGES:
        from ftlab.training.rewards import check_reinforcement, check_rewards

        check_reinforcement(config)
        check_rewards(config, workspace)
    check_preference(config)
    check_trainer_settings(config.trainer, config.stage)
    check_launcher(config, kept=kept)
    if config.tracking.report_to:
        check_tracking(config)


def check_preference(config: RunConfig) -> None:
    """Raise InputError for settings that the preference stage of `config` does not support; does nothing for other
    stages."""
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
    if config.method.changes_base:
        raise InputError(
            "This initialization rewrites the base, which is what answers are compared with",
            given=f"method.initialisation: {config.method.initialisation}",
            allowed="default, gaussian, orthogonal",
        )
    losses = STAGES[stage].losses
    if losses and preference.loss is not None and preference.loss not in losses:
        raise InputError(
            f"The stage {stage} has no loss of this name",
            given=f"preference.loss: {preference.loss}",
            allowed=", ".join(losses),
            try_="leave it empty for the usual one",
        )
    if stage in JUDGED_STAGES and filled(config.optimisation.batch_size) < 2:
        raise InputError(
            f"{STAGES[stage].title} compares answers within a batch, so it needs at least two rows",
            given="optimisation.batch_size: 1",
            allowed="2 or more",
            try_="optimisation.batch_size=2 with a shorter optimisation.max_length if memory is short",
        )
    if "watch" not in STAGES[stage].reads and preference.watch == "accuracy":
        raise InputError(
            f"{STAGES[stage].title} has single answers instead of pairs, so there is no accuracy to watch",
            given="preference.watch: accuracy",
            allowed="loss",
        )


def check_code(config: RunConfig) -> None:
    """Raise InputError if `config` names a file of code that this command does not name: the run or a later evaluation
    would execute it."""
    from ftlab.config.evaluation import names
    from ftlab.evaluation.metrics.own import check_may_run

    for path in names(config.evaluation.own_metrics):
        check_may_run(path)


def check_evaluation(config: RunConfig, splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Raise InputError for settings that would stop the comparison of this run, now or later."""
    from ftlab.evaluation.measuring import check_settings

    if config.is_reward_model:
        return
    held_out = splits["test"] or splits["validation"] if config.stage == SFT else []
    check_settings(config, [row["messages"][-1]["content"].strip() for row in held_out])
