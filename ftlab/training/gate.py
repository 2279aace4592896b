"""The one gate of every run: wherever it is started, its starting point and each setting are checked here first."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.config import AUTO, RunConfig, load_config
from ftlab.config.methods import CONTINUED, METHODS, titles
from ftlab.config.stages import PREFERENCE_STAGES, REWARD_STAGES
from ftlab.core.hub import is_offline
from ftlab.core.parsing import parse_json
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError, shorten
from ftlab.models.bases.known import KNOWN, home
from ftlab.models.identity import check_result
from ftlab.models.strength import chosen_strength, strength_name


@dataclass(frozen=True)
class Start:
    """`adapter` is the folder of the adapter that is trained further; None when the base itself holds the result of
    the earlier run. `run` is the id of that run, None for a folder."""

    adapter: Path | None
    run: str | None


def resolve_start(config: RunConfig, workspace: Workspace) -> tuple[RunConfig, Start | None]:
    """`config` with base and method of what it starts from, and where that is; None where it starts from the base.

    Raises InputError when there is no such run or adapter, or when it does not suit what `config` says itself.
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
    if earlier.stage == "reward":
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
        # It is still the starter, under another name.
        like = config.model_copy(deep=True)
        like.model.base = earlier.model.base
        usual, settings = like.resolved().optimisation, config.optimisation
        settings.learning_rate, settings.epochs = usual.learning_rate, usual.epochs
        settings.batch_size = settings.batch_size or usual.batch_size
    return config, Start(None, parent.id)


def remarks_on(start: Start | None, workspace: Workspace) -> list[str]:
    """Remarks for the user about the starting point of a run: a strength chosen for it is not part of its weights."""
    from ftlab.errors import FtlabError

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
    """Copy the adapter that `run` starts from into its directory, so that it does not depend on the other run."""
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
            "The adapter to start from (model.start) is not one of a language model",
            given=f"{saved.get('task_type')} in {folder / 'adapter_config.json'}",
            allowed="CAUSAL_LM",
        )
    method = _method_of(saved, earlier, config)
    if method not in CONTINUED:
        title = METHODS[method].title if method in METHODS else method
        raise InputError(
            f"{name.capitalize()} was trained with {title}, which cannot be trained further",
            given=f"model.start: {config.model.start}",
            allowed=titles(CONTINUED),
        )
    if "name" in config.method.model_fields_set and config.method.name != method:
        hint = "leave method.name empty"
        if config.method.name == "full":
            hint += ", or start from a run with method full: full training cannot continue an adapter"
        raise InputError(
            f"A run continues with the method of its starting point, and {name} was trained with {method}",
            given=f"method.name: {config.method.name}",
            allowed=method,
            try_=hint,
        )
    base = earlier.model.base if earlier else str(saved.get("base_model_name_or_path") or "")
    if earlier is None and _is_starter(base):
        base = "starter"
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
    if method != "ia3":
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


def _method_of(saved: dict[str, Any], earlier: RunConfig | None, config: RunConfig) -> str:
    if earlier is not None:
        return earlier.method.name
    kind = str(saved.get("peft_type", "")).lower()
    if kind != "lora":
        return kind
    if saved.get("use_dora"):
        return "dora"
    # The folder does not say whether its base was quantised.
    return "qlora" if config.method.name == "qlora" else "lora"


def _check_base(config: RunConfig, base: str, name: str, also: str | None = None) -> None:
    """Raise InputError when `config` names another base than the one it starts from (the default is no name)."""
    if "base" in config.model.model_fields_set and config.model.base not in (base, also):
        raise InputError(
            f"{name[0].upper() + name[1:]} was trained on another base",
            given=f"model.base: {config.model.base}",
            allowed=f"{base}, the base of model.start",
            try_="leave model.base empty, or start from another run",
        )


def _is_starter(base: str) -> bool:
    from ftlab.models.starter import starter_path

    return Path(base) == Path(starter_path())


def checked(config: RunConfig, workspace: Workspace, *, needs_base: bool = True) -> tuple[RunConfig, Start | None]:
    """`config` complete and checked, and what it starts from. Without `needs_base` the base need not be available here:
    preflight estimates what it would need.

    Raises InputError for whatever in its settings would stop the run later.
    """
    from ftlab.models.load import check_base, shape_of
    from ftlab.training.launching.check import shards
    from ftlab.training.reinforcement.rewards import pin_rewards

    config, start = resolve_start(config, workspace)
    if config.data.replay == AUTO and shards(config.launcher):
        config.data.replay = None
    if needs_base:
        check_base(config.model)
    as_set = config.evaluation
    config = config.resolved(shape_of(config.model, fetch=needs_base and not is_offline()))
    if not config.is_starter:
        # How much that is follows from the data: see settle_measuring.
        config.evaluation.probes = as_set.probes
        config.evaluation.general_text = as_set.general_text
    if config.stage in REWARD_STAGES:
        pin_rewards(config, workspace)
    check_stored(config, workspace)
    check_code(config)
    return config, start


def settle_measuring(config: RunConfig, prepared: Any) -> None:
    """Set in `config` how much is asked to measure forgetting, where that is auto. Depends on the `prepared` data."""
    from ftlab.evaluation.probes import MOST_PASSAGES, MOST_PROMPTS, affordable

    settings = config.evaluation
    if "auto" not in (settings.probes, settings.general_text):
        return
    prompts, passages = MOST_PROMPTS, MOST_PASSAGES
    if config.stage not in REWARD_STAGES:  # which write their answers in each step
        replay = prepared.manifest.get("replay") or {}
        prompts, passages = affordable(config, prepared.splits, replay["rows"] if prepared.replay_prompts else 0)
    if settings.probes == "auto":
        settings.probes = f"self:{prompts}" if prompts < MOST_PROMPTS else "self"
    if settings.general_text == "auto":
        settings.general_text = f"general_reading:{passages}" if passages < MOST_PASSAGES else "general_reading"


def check_stored(config: RunConfig, workspace: Workspace, *, kept: Path | None = None) -> None:
    """Raise InputError for settings that cannot be trained, of a new run or of an existing one (with a copy `kept` of
    its accelerate configuration), whose folder may have come from anywhere."""
    from ftlab.models.methods import check_method
    from ftlab.training.launching.check import check_launcher

    check_method(config)
    if config.stage in REWARD_STAGES:
        from ftlab.training.reinforcement.rewards import check_reinforcement, check_rewards

        check_reinforcement(config)
        check_rewards(config, workspace)
    if config.stage in PREFERENCE_STAGES:
        from ftlab.training.preferences.train import check_preferences_config

        check_preferences_config(config)
    if config.trainer:
        from ftlab.training.arguments import check_trainer_settings

        check_trainer_settings(config.trainer, config.stage)
    check_launcher(config, kept=kept)
    if config.tracking.report_to:
        from ftlab.training.arguments import check_tracking

        check_tracking(config)


def check_code(config: RunConfig) -> None:
    """Raise InputError if `config` names a file of code that was not named in this command: if not this run, a later
    evaluation will run it."""
    from ftlab.config.evaluation import names
    from ftlab.evaluation.metrics.own import check_may_run

    for path in names(config.evaluation.own_metrics):
        check_may_run(path)


def check_evaluation(config: RunConfig, splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Raise InputError for settings that would stop the comparison of this run, now or whenever it is asked for."""
    from ftlab.evaluation.compare import check_settings

    if config.stage == "reward":
        return
    held_out = splits["test"] or splits["validation"] if config.stage == "sft" else []
    check_settings(config, [row["messages"][-1]["content"].strip() for row in held_out])
