"""Find out which files of a run are damaged, after an unexpected error.

Libraries that load models or read Parquet can raise anything when a file is damaged, so their calls are not wrapped:
the command line and the app, which show errors, ask here for the cause of an unexpected one.
"""

from __future__ import annotations

import errno
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

from ftlab.core.files import DamagedFile, read_json, read_jsonl
from ftlab.core.run_directory import RunDirectory
from ftlab.errors import FtlabError, InputError, sentence, shorten

_APART = ("checkpoints", "exports", "tracking")  # copies, and files that other programs write
_WRITTEN_AT_ONCE = ("predictions.jsonl", "probes.jsonl", "before_after.jsonl", "reward_answers.jsonl", "columns.jsonl")
_READ = (".json", ".jsonl", ".parquet", ".safetensors")


def explained(error: BaseException) -> FtlabError | None:
    """The message for an unexpected `error` while ftlab worked with runs; None when no run was involved.

    Names the damaged file if there is one. Otherwise the traceback is saved to a file, which the message names. A file
    name that is too long is an input error, with or without a run.
    """
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return InputError("A file name is too long", given=shorten(error.filename or "", 120))
    runs = _runs_of(error)
    for run in runs:
        if damaged := examine(run):
            names = ", ".join(dict.fromkeys(str(damage.path.relative_to(run.path)) for damage in damaged))
            why = f"{damaged[0].how[0].upper()}{damaged[0].how[1:]} ({damaged[0].path})"
            what = f"The run {run.id} is damaged: {names}"
            return FtlabError(what, why=why, try_=damaged[0].try_)
    if not runs:
        return None
    with tempfile.NamedTemporaryFile("w", prefix="ftlab-error-", suffix=".txt", delete=False, encoding="utf-8") as file:
        file.writelines(traceback.format_exception(error))
    return FtlabError(
        f"An unexpected error occurred with the run {runs[0].id}",
        why=sentence(f"{type(error).__name__}: {shorten(error)}") + f" The traceback is in {file.name}",
        try_="if files of the run were changed, restore them or train again; otherwise report the error with that file",
    )


def _runs_of(error: BaseException) -> list[RunDirectory]:
    """The runs in the local variables of the traceback of `error`, innermost first."""
    runs: list[RunDirectory] = []
    for frame, _ in traceback.walk_tb(error.__traceback__):
        runs += [value for value in list(frame.f_locals.values()) if isinstance(value, RunDirectory)]
    return list(dict.fromkeys(reversed(runs)))


def examine(run: RunDirectory) -> list[DamagedFile]:
    """The files of `run` that are unreadable or missing, apart from checkpoints and exports."""
    return list(_examined(run))


def _examined(run: RunDirectory) -> Iterator[DamagedFile]:
    if not run.path.is_dir():
        yield DamagedFile(run.path, "the folder of the run is gone")
        return
    for file in _expected(run):
        if not file.exists():
            yield DamagedFile(file, "it is missing")
    for path in sorted(run.path.rglob("*")):
        if path.suffix in _READ and path.relative_to(run.path).parts[0] not in _APART:
            try:
                _read(path)
            except DamagedFile as error:
                yield error
            except Exception as error:  # what pyarrow and safetensors raise
                yield DamagedFile(path, f"it cannot be read ({shorten(error, 120)})")


def _expected(run: RunDirectory) -> list[Path]:
    """The files that every run has, and all files of a result once part of it is there."""
    files = [run.config_file, run.status_file, run.manifest_file]
    for folder, config, weights in (
        (run.adapter, "adapter_config.json", "adapter_model"),
        (run.model, "config.json", "model"),
    ):
        if folder.is_dir():
            files += [folder / name for name in (config, "tokenizer.json", "tokenizer_config.json")]
            if not (folder / f"{weights}.safetensors.index.json").exists():
                files.append(folder / f"{weights}.safetensors")
    return files


def _read(path: Path) -> None:
    if path.suffix == ".json":
        read_json(path)
    elif path.suffix == ".jsonl":
        read_jsonl(path, whole=path.name in _WRITTEN_AT_ONCE)
    elif path.is_dir():
        raise DamagedFile(path, "a folder is in its place")
    elif path.suffix == ".parquet":
        import pyarrow.parquet as pq

        pq.read_table(path)
    else:
        from safetensors import safe_open

        with safe_open(path, framework="numpy") as file:
            file.keys()
