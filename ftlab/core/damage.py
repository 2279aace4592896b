"""What is wrong with the files of a run, found when something went wrong with it.

Libraries that load a model or read Parquet raise anything at all over a damaged file. So no call of theirs is wrapped:
whoever shows errors (the command line, the app) asks here what an unexpected one was about.
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

_APART = ("checkpoints", "exports", "tracking")  # copies, and what others write
_WRITTEN_AT_ONCE = ("predictions.jsonl", "probes.jsonl", "before_after.jsonl", "reward_answers.jsonl", "columns.jsonl")
_READ = (".json", ".jsonl", ".parquet", ".safetensors")


def explained(error: BaseException) -> FtlabError | None:
    """What to say of an unexpected `error` that came while ftlab worked with runs; None where no run was involved.

    Names the damaged file where there is one. Else the traceback is kept in a file, which the sentence names. A name
    that is too long for a file is the fault of whoever gave it, run or not.
    """
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return InputError("A name is too long for a file", given=shorten(error.filename or "", 120))
    runs = _runs_of(error)
    for run in runs:
        if damaged := examine(run):
            names = ", ".join(dict.fromkeys(str(damage.path.relative_to(run.path)) for damage in damaged))
            why = f"{damaged[0].how[0].upper()}{damaged[0].how[1:]} ({damaged[0].path})"
            what = f"The run {run.id} cannot be used for this: {names} {'is' if len(damaged) == 1 else 'are'} damaged"
            return FtlabError(what, why=why, try_=damaged[0].try_)
    if not runs:
        return None
    with tempfile.NamedTemporaryFile("w", prefix="ftlab-error-", suffix=".txt", delete=False, encoding="utf-8") as file:
        file.writelines(traceback.format_exception(error))
    return FtlabError(
        f"The run {runs[0].id} cannot be used for this",
        why=sentence(f"{type(error).__name__}: {shorten(error)}") + f" The traceback is in {file.name}",
        try_="if nothing has changed files of this run, report it with that file; else copy them back, or train again",
    )


def _runs_of(error: BaseException) -> list[RunDirectory]:
    """The runs that the functions under `error` were at work with, the innermost first."""
    runs: list[RunDirectory] = []
    for frame, _ in traceback.walk_tb(error.__traceback__):
        runs += [value for value in list(frame.f_locals.values()) if isinstance(value, RunDirectory)]
    return list(dict.fromkeys(reversed(runs)))


def examine(run: RunDirectory) -> list[DamagedFile]:
    """The files of `run` that cannot be read, and those that are missing; checkpoints and exports are left out."""
    return list(_examined(run))


def _examined(run: RunDirectory) -> Iterator[DamagedFile]:
    if not run.path.is_dir():
        yield DamagedFile(run.path, "the folder of the run is gone")
        return
    for file in _expected(run):
        if not file.exists():
            yield DamagedFile(file, "it is gone")
    for path in sorted(run.path.rglob("*")):
        if path.suffix in _READ and path.relative_to(run.path).parts[0] not in _APART:
            try:
                _read(path)
            except DamagedFile as error:
                yield error
            except Exception as error:  # what pyarrow and safetensors raise
                yield DamagedFile(path, f"it cannot be read ({shorten(error, 120)})")


def _expected(run: RunDirectory) -> list[Path]:
    """What every run has; and of a result, where there is any of it, the rest."""
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
