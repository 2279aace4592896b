"""A result as files that load without ftlab: adapter, merged weights, or at another strength."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ftlab.config import RunConfig, load_config
from ftlab.config.methods import METHODS, titles
from ftlab.core.files import disk_full, read_json, replacing, sizes_in
from ftlab.core.run_directory import EXPORT_RECORD, RunDirectory
from ftlab.core.words import byte_size
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.batches import Progress
from ftlab.export import files as export_files
from ftlab.export.shape import BASE_FOLDER, Kind, Shape
from ftlab.export.verify import VerificationJson, verify
from ftlab.models.identity import check_result
from ftlab.models.strength import AS_TRAINED, check_strength, chosen_strength, set_strength

FORMATS = ("float32", "float16", "bfloat16")
_BYTES_A_WEIGHT = 4.3  # float32, and room for one more matrix


def check_mergeable(config: RunConfig) -> None:
    """Raise InputError when the result of the method cannot be merged into the weights of the base."""
    name = config.method.name
    why = METHODS[name].not_merged
    if not why:
        return
    raise InputError(
        f"{METHODS[name].title.capitalize()} cannot be merged into the base: {why}",
        given=f"method.name: {name}",
        allowed=titles(method for method in METHODS if not METHODS[method].not_merged),
        try_="export the adapter instead (without --merge; its README shows how to load it), or train with "
        "method.name=lora for a single merged model",
    )


def write_merged(
    run: RunDirectory, config: RunConfig, dtype: str, folder: Path, tell: Progress, *, strength: float = AS_TRAINED
) -> None:
    """Write config and weights of the whole model at `strength` to `folder`, as safetensors in `dtype`.

    The merge is computed in float32 on the unquantized base, to avoid the rounding of a quantized one. Raises
    FtlabError when the memory does not suffice.
    """
    import torch

    from ftlab.config import ModelConfig
    from ftlab.evaluation.batches import free_memory
    from ftlab.models.load import load_base

    whole = config.method.is_full
    source = ModelConfig(base=str(run.model), dtype="float32") if whole else _float32(config.model)
    between = whole and strength != AS_TRAINED
    _check_memory(source, copies=2 if between else 1)
    tell("loading the base at full precision", 0, 0)
    model: Any = load_base(source, device="cpu")
    if between:
        tell("interpolating with the base", 0, 0)
        set_strength(model, strength, base=load_base(_float32(config.model), device="cpu"))
    if not whole:
        from peft import PeftModel

        tell("merging the adapter into the base", 0, 0)
        model = set_strength(PeftModel.from_pretrained(model, str(run.adapter)), strength)
        model = model.merge_and_unload(safe_merge=True)
    model.to(getattr(torch, dtype))
    tell("writing the weights", 0, 0)
    model.save_pretrained(folder)
    del model
    free_memory()


def _float32(model: Any) -> Any:
    return model.model_copy(deep=True, update={"dtype": "float32"})


def _check_memory(source: Any, copies: int = 1) -> None:
    import psutil
    import torch
    from transformers import AutoModelForCausalLM

    from ftlab.models.load import load_config_of

    with torch.device("meta"):
        shape = AutoModelForCausalLM.from_config(load_config_of(source))
    needed = sum(parameter.numel() for parameter in shape.parameters()) * _BYTES_A_WEIGHT * copies
    free = psutil.virtual_memory().available
    if needed > free:
        raise FtlabError(
            "There is not enough memory to merge this model",
            why=f"It takes {byte_size(needed)} (4 bytes per weight), and {byte_size(free)} are free.",
            try_="close other programs, merge on a larger machine, or export the adapter instead (without --merge)",
        )


@dataclass(frozen=True)
class Exported:
    """An export. `files` are sizes in bytes by path; `verification` is the result of `verify.verify`."""

    run: str
    kind: Kind
    folder: Path
    dtype: str
    files: dict[str, int]
    verification: VerificationJson
    notes: list[str]

    @property
    def size(self) -> int:
        return sum(self.files.values())

    def as_dict(self) -> dict[str, Any]:
        return vars(self) | {"folder": str(self.folder), "bytes": self.size}


def export_run(
    run: RunDirectory,
    target: Path,
    *,
    kind: Kind = "adapter",
    dtype: str | None = None,
    strength: float | None = None,
    licence: str | None = None,
    gguf: str | None = None,
    tell: Progress = lambda *_: None,
) -> Exported:
    """Write the result of `run` to the folder `target` and verify it; an earlier export there is replaced.

    `dtype` is for whole models (default: the dtype in which the run was evaluated). `gguf` is the type of a GGUF file
    (`to_gguf.TYPES`), for `kind` gguf. `strength` scales the change made
    by training (default: the one chosen for the run). Raises InputError for anything that cannot be exported, and
    FtlabError when the export answers differently from the run's own model: it is then left in a folder beside `target`
    whose name ends in `-differs`.
    """

    config = load_config(run.config_file).resolved()
    shape = plan(run, config, kind, dtype, strength, gguf)
    target = target.expanduser().absolute()
    _check_target(target)
    part = target.with_name(f".{target.name}.unfinished")
    differs = target.with_name(f"{target.name}-differs")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        write_files(run, config, shape, part, tell)
        try:
            finding = verify(run, part, shape, tell=tell)
        except FtlabError as error:
            shutil.rmtree(differs, ignore_errors=True)
            os.replace(part, differs)
            raise FtlabError(error.what, why=error.why, try_=error.try_ or f"inspect it in {differs}") from None
        if shape.gguf and shape.proven_file != shape.gguf_file:
            (part / shape.proven_file).unlink()
        tell("writing the model card", 0, 0)
        notes = export_files.write_records(run, config, shape, part, finding, licence)
        return _finished(run, shape, part, target, finding, notes)
    except OSError as error:
        raise disk_full(error, target) or FtlabError(
            f"The export cannot be written: {error.strerror or error}",
            why=str(target),
            try_="choose a writable folder with enough free space",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def plan(
    run: RunDirectory,
    config: RunConfig,
    kind: Kind,
    dtype: str | None,
    strength: float | None = None,
    gguf: str | None = None,
) -> Shape:
    """The shape of an export before it is made. Raises InputError and FtlabError if it is not possible."""
    from ftlab.export.to_gguf import check_type, plain_dtype
    from ftlab.training import supervisor

    if not run.has_result:
        raise FtlabError(f"The run {run.id} has no trained model to export", try_="finish its training first")
    if supervisor.status(run).is_active:
        raise FtlabError(f"The run {run.id} is still active", try_="wait until it has finished, or stop it")
    check_result(run)
    whole = config.method.is_full
    if whole and kind == "adapter":
        kind = "merged"
    # First what rules out every form: a type or a format that is mended in vain misleads.
    if kind == "gguf" and config.is_starter:
        raise InputError(
            "llama.cpp does not support the tokenizer of the starter, so there is no GGUF file of it",
            try_="train on a real base, such as smollm2",
        )
    if kind != "adapter":
        check_mergeable(config)
        if config.is_reward_model:
            raise InputError(
                f"The run {run.id} is a reward model, whose scoring head cannot be merged",
                given="a merged model was requested",
                try_="export the adapter instead (without --merge)" if not whole else "another run",
            )
    if kind == "gguf":
        check_type(gguf or "")
        if dtype is not None:
            raise InputError("A GGUF file has its type (--to-gguf), not a number format", given=f"dtype {dtype}")
    if kind == "adapter" and dtype is not None:
        raise InputError(
            "A number format can be chosen only for merged and fully tuned models",
            given=f"dtype {dtype} for an adapter",
            try_="leave it out, as an adapter adopts the format of its base, or merge it (--merge)",
        )
    if dtype is not None and dtype not in FORMATS:
        raise InputError("This number format is not supported", given=dtype, allowed=", ".join(FORMATS))
    at = check_strength(config, chosen_strength(run) if strength is None else strength)
    if at == 0:
        raise InputError("At strength 0 there is nothing to export: it is the base", given="strength 0")
    shape = _shape(run, config, "merged" if kind == "gguf" else kind, dtype, at)
    if kind != "gguf":
        return shape
    dtype = plain_dtype(str(gguf), shape.own_dtype)
    load = dtype if shape.device == "cuda" else "float32"
    return replace(shape, kind="gguf", gguf=gguf, dtype=dtype, load_dtype=load)


def _shape(run: RunDirectory, config: RunConfig, kind: Kind, dtype: str | None, strength: float) -> Shape:
    from ftlab.evaluation.sides import base_identity
    from ftlab.models.bottleneck import is_saved_bottleneck
    from ftlab.models.load import base_path, is_hub_id, pick_device, pick_dtype

    device = pick_device(config.launcher.device)
    comparison = run.comparison()
    settings = comparison["settings"] if comparison else {}
    own = str(pick_dtype(config.model, device)).removeprefix("torch.")
    evaluated = str(settings.get("dtype") or own)
    quantised = config.method.is_quantised
    if kind == "merged":
        dtype = dtype or (own if quantised else evaluated)
        return Shape(
            kind="merged",
            dtype=dtype,
            # 16-bit formats can be a hundred times slower on a CPU; float32 shows the rounding of the weights as well.
            load_dtype=dtype if device == "cuda" else "float32",
            own_dtype=own,
            evaluated_dtype=evaluated,
            device=device,
            merged_from_quantised=quantised,
            strength=strength,
        )
    on_hub = is_hub_id(config.model.base)
    commit = base_identity(config.model)[2] if on_hub else None
    return Shape(
        kind="adapter",
        dtype=own,
        load_dtype=own,
        own_dtype=own,
        evaluated_dtype=evaluated,
        device=device,
        base=base_path(config.model.base) if on_hub else BASE_FOLDER,
        base_on_hub=on_hub,
        revision=config.model.revision or (commit if isinstance(commit, str) else None),
        quantisation=export_files.quantisation_settings(config, own),
        needs_ftlab=is_saved_bottleneck(run.adapter),
        scores=config.is_reward_model,
        strength=strength,
    )


def write_files(run: RunDirectory, config: RunConfig, shape: Shape, folder: Path, tell: Progress) -> None:
    """Weights, tokenizer, chat template and generation settings: everything that determines the answers."""
    result = run.result
    if shape.is_adapter:
        tell("copying the adapter", 0, 0)
        export_files.copy_adapter(run, config, shape, folder)
    elif shape.gguf:
        from ftlab.export.to_gguf import write_gguf

        with tempfile.TemporaryDirectory(dir=folder) as place:
            write_merged(run, config, shape.dtype, Path(place), tell, strength=shape.strength)
            export_files.copy_tokenizer(result, Path(place))
            write_gguf(Path(place), shape, folder, config.name or run.id, tell)
    else:
        write_merged(run, config, shape.dtype, folder, tell, strength=shape.strength)
    if not shape.gguf:  # it holds its tokenizer
        export_files.copy_tokenizer(result, folder)
    if not shape.scores:
        export_files.write_generation_config(run, config, folder)


def read_shape(folder: Path) -> Shape:
    """The shape of the export in `folder`. Raises InputError when there is none."""
    record = read_json(folder / EXPORT_RECORD)
    if record is None:
        raise InputError("This folder is not an ftlab export", given=folder, allowed=f"a folder with {EXPORT_RECORD}")
    return Shape(**record["shape"])


def fresh_export(
    run: RunDirectory,
    kind: Kind,
    *,
    dtype: str | None = None,
    strength: float | None = None,
    licence: str | None = None,
    tell: Progress = lambda *_: None,
) -> Exported:
    """The export of `kind` stored in the run; made if missing or older than weights or evaluation."""
    kept = None if licence else kept_export(run, kind, dtype, strength)
    settings: dict[str, Any] = {"kind": kind, "dtype": dtype, "strength": strength, "licence": licence}
    return kept or export_run(run, run.export_folder(kind), **settings, tell=tell)


def kept_export(
    run: RunDirectory, kind: Kind, dtype: str | None = None, strength: float | None = None
) -> Exported | None:
    """The export stored in the run; None if there is none of this shape, or if weights or evaluation are newer.

    Raises as `plan` does.
    """
    shape = plan(run, load_config(run.config_file).resolved(), kind, dtype, strength)
    folder = run.export_folder(kind)
    record = read_json(folder / EXPORT_RECORD)
    if record is None or Shape(**record["shape"]) != shape or record["created"] < _changed(run):
        return None
    return Exported(run.id, shape.kind, folder, shape.dtype, sizes_in(folder), record["verification"], record["notes"])


def _changed(run: RunDirectory) -> float:
    """The time of the last change to weights, evaluation or votes, in Unix seconds."""
    result = run.result
    database = Workspace(run.path.parent.parent).arena_database
    files = [*result.glob("*"), run.comparison_file, run.preferences_file, run.before_after_file, database]
    return max(file.stat().st_mtime for file in files if file.exists())


def pack(folder: Path, target: Path) -> Path:
    """A zip of the export in `folder`; made again when outdated."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    if target.exists() and target.stat().st_mtime >= max(path.stat().st_mtime for path in files):
        return target
    # Trained weights barely compress: that would take minutes for a large model and save a few percent.
    with replacing(target) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for path in files:
            archive.write(path, Path(target.stem) / path.relative_to(folder))
    return target


def _check_target(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise InputError("The export target is a file, not a folder", given=target)
    if target.exists() and any(target.iterdir()) and not (target / EXPORT_RECORD).exists():
        raise InputError(
            "The target folder contains other files",
            given=target,
            allowed="a new or empty folder, or an earlier export, which is replaced",
        )


def _finished(
    run: RunDirectory, shape: Shape, part: Path, target: Path, finding: VerificationJson, notes: list[str]
) -> Exported:
    shutil.rmtree(target, ignore_errors=True)
    os.replace(part, target)
    shutil.rmtree(target.with_name(f"{target.name}-differs"), ignore_errors=True)
    return Exported(run.id, shape.kind, target, shape.dtype, sizes_in(target), finding, notes)
