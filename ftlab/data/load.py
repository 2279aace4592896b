"""Load rows by source: a file, a sample, a version or a Hub data set, with the column roles that a person set for
it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from typing_extensions import TypedDict

from ftlab.config import DataConfig
from ftlab.core.files import check_reach, locked, read_json, write_json
from ftlab.core.hub import is_offline, newest_commit, unreachable
from ftlab.core.workspace import Workspace
from ftlab.data.prompt_template import check_template
from ftlab.data.readers import SUFFIXES, read_table, read_text_files
from ftlab.data.shapes import SPLITS, split_name
from ftlab.data.sheets import SHEETS
from ftlab.data.tabular import Row
from ftlab.data.version_store import PREFIX, SourceJson, StoredRows, pinned, resolve
from ftlab.errors import InputError, nearest, shorten


class NamedJson(TypedDict, total=False):
    """`Named` as stored in workspaces and versions."""

    columns: dict[str, str]
    prompt_template: str | None
    encoding: str | None


@dataclass(frozen=True)
class Named:
    """What a person set for a data source: the column of each role, the prompt template, and the encoding."""

    columns: dict[str, str]
    prompt_template: str | None = None
    encoding: str | None = None

    def as_dict(self) -> NamedJson:
        return {"columns": self.columns, "prompt_template": self.prompt_template, "encoding": self.encoding}

    def fits(self, columns: Sequence[str]) -> bool:
        """Whether these settings fit data with these `columns`: a file may have changed since."""
        try:
            asked = check_template(self.prompt_template, columns) if self.prompt_template else []
        except InputError:
            return False
        return set(asked) | set(self.columns.values()) <= set(columns)


def named_in(data: DataConfig) -> Named | None:
    """The columns, template and encoding in `data` itself; None if it has none of them."""
    if not (data.columns or data.prompt_template or data.encoding):
        return None
    return Named(dict(data.columns), data.prompt_template, data.encoding)


def encoding_of(data: DataConfig, workspace: Workspace | None) -> str | None:
    """The encoding set in `data`, or remembered for its source; None to detect it."""
    if data.encoding or data.source.strip().startswith(PREFIX):
        return data.encoding
    return named.encoding if (named := recall(data, workspace)) else None


def remember(data: DataConfig, workspace: Workspace) -> None:
    """Remember the columns and template, and the encoding, in `data` for its source. Settings it leaves open stay as
    they were; for a version, they replace the ones it was made with."""
    known = recall(data, workspace)
    if named_in(data) and (named := named_in(settled(data, known))) != known:
        _rewrite(data, workspace, named)


def forget(data: DataConfig, workspace: Workspace) -> None:
    """Forget the settings of the source of `data`. It is detected again, or read from the version."""
    _rewrite(data, workspace, None)


def forget_encoding(data: DataConfig, workspace: Workspace) -> None:
    """Forget only the encoding set for the source of `data`."""
    if (known := recall(data, workspace)) is not None and known.encoding:
        left = replace(known, encoding=None)
        _rewrite(data, workspace, left if left.columns or left.prompt_template else None)


def recall(data: DataConfig, workspace: Workspace | None) -> Named | None:
    """The columns and template remembered for the source of `data`; None if there are none. Raises InputError for an
    unknown version.

    Without a `workspace`, only versions in the default workspace have any.
    """
    if workspace is not None:
        known = _kept(workspace)
        if kept := known.get(_key(data, workspace)) or known.get(_spelled(data)):
            return Named(**kept)
    if data.source.strip().startswith(PREFIX):
        details = resolve(data.source, workspace).details
        if details.get("columns") or details.get("prompt_template"):
            return Named(details.get("columns") or {}, details.get("prompt_template"))
    return None


def settled(data: DataConfig, named: Named | None) -> DataConfig:
    """`data` with the remembered encoding, and the remembered columns and template `named` unless it sets its own,
    which replace all of them."""
    if named is None:
        return data
    update: dict[str, Any] = {}
    if not (data.columns or data.prompt_template):
        update = {"columns": named.columns, "prompt_template": named.prompt_template}
    if named.encoding and not data.encoding:
        update["encoding"] = named.encoding
    return data.model_copy(update=update) if update else data


_LOOKED_AT = 1000  # enough to see classes recur in a column with hundreds of them


def looked_at(loaded: Loaded) -> list[dict[str, Any]]:
    """The sample of rows used to detect the columns of `loaded`."""
    rows = loaded.splits[loaded.main]
    # Evenly spaced: the first rows of a file are often of one kind.
    step = max(1, len(rows) // _LOOKED_AT)
    return [rows[index] for index in range(0, len(rows), step)[:_LOOKED_AT]]


def as_read(data: DataConfig, loaded: Loaded) -> DataConfig:
    """`data` with the column roles used to read its rows, if they do not follow from names that tools use: set,
    remembered, or guessed. Anything made from the rows (a version, a run) keeps them."""
    from ftlab.data.formats import detect

    read = settled(data, loaded.named)
    if not (read.columns or read.prompt_template):
        with contextlib.suppress(InputError):
            detected = detect(loaded.columns, looked_at(loaded), {}, loaded.name)
            if detected.is_guess:
                return read.model_copy(update={"columns": dict(detected.columns)})
    return read


def _kept(workspace: Workspace) -> dict[str, NamedJson]:
    return read_json(workspace.named_columns_file, {})


def _rewrite(data: DataConfig, workspace: Workspace, named: Named | None) -> None:
    file, key = workspace.named_columns_file, _key(data, workspace)
    with locked(file.with_suffix(".lock")):
        kept = {other: value for other, value in _kept(workspace).items() if other not in (key, _spelled(data))}
        write_json(file, kept | ({key: named.as_dict()} if named else {}))


def _key(data: DataConfig, workspace: Workspace) -> str:
    source = data.source.strip()
    if source.startswith(PREFIX):
        return pinned(source, workspace)
    path = Path(source).expanduser()
    # One key per file, however its path is written: relative, through a link, from another folder.
    name = os.path.realpath(path) if os.path.exists(path) else source
    return f"{name} {data.subset}" if data.subset else name


def _spelled(data: DataConfig) -> str:
    """The key in older workspaces: the path as written."""
    name = str(Path(data.source.strip()).expanduser().absolute())
    return f"{name} {data.subset}" if data.subset else name


_MEDIA = ("Image", "Audio", "Video", "Pdf", "Nifti", "Mesh")


def load_hub(name: str, subset: str | None, split: str | None) -> tuple[dict[str, Any], str | None, list[str]]:
    """The splits (datasets.Dataset) of a Hub data set, their commit (None offline), and notes.

    `split` may be a slice such as train[:1000]. With HF_HUB_OFFLINE=1, only the cache is used. Raises InputError if the
    Hub cannot be reached, or has no such data set, configuration or split.
    """
    offline = is_offline()
    revision = None if offline else newest_commit("dataset", name)

    import datasets

    if not offline:
        datasets.utils.logging.set_verbosity_error()
    try:
        loaded = datasets.load_dataset(name, subset, split=split, revision=revision)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise InputError(f"The Hub has no data set {name}: {shorten(error)}", given=name) from None
    except (ConnectionError, TimeoutError) as error:
        raise unreachable("data set", name, error) from None
    except (ValueError, RuntimeError, OSError, datasets.exceptions.DatasetsError) as error:
        # A missing configuration or split, a script, unknown file formats: the library's message says which.
        raise InputError(
            f"The data set {name} cannot be loaded: {shorten(error, 400)}",
            given=f"{name}, configuration {subset or 'default'}, split {split or 'all'}",
            try_="choose a configuration and a split on the page of the data set",
        ) from None
    if isinstance(loaded, datasets.Dataset):
        loaded = {"train": loaded}
    notes: list[str] = [] if revision else [f"{name} is from the cache; the Hub was not contacted."]
    return _known_splits(name, loaded, notes), revision, notes


def _known_splits(name: str, datasets: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    splits: dict[str, Any] = {}
    for key, dataset in datasets.items():
        split = split_name(key)
        if split and split not in splits:
            splits[split] = _without_media(dataset, notes)
        elif len(datasets) == 1:
            splits["train"] = _without_media(dataset, notes)
        else:
            notes.append(f"The split {key} of {name} is not used.")
    if not splits:
        raise InputError(
            f"None of the splits of {name} is called train",
            given=", ".join(datasets),
            try_="set data.split to one of them",
        )
    return {split: splits[split] for split in SPLITS if split in splits}


def _without_media(dataset: Any, notes: list[str]) -> Any:
    media = [column for column, feature in dataset.features.items() if type(feature).__name__ in _MEDIA]
    if media:
        notes.append(f"Non-text columns were left out: {', '.join(media)}.")
    dataset = dataset.remove_columns(media) if media else dataset
    return _with_label_names(dataset)


def _with_label_names(dataset: Any) -> Any:
    """Replace label numbers with their names."""
    import datasets

    classes = {name: kind for name, kind in dataset.features.items() if isinstance(kind, datasets.ClassLabel)}
    if not classes:
        return dataset
    features = dataset.features.copy()
    for name in classes:
        features[name] = datasets.Value("string")

    def named(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {
            name: [None if cell is None or cell < 0 else kind.int2str(cell) for cell in batch[name]]
            for name, kind in classes.items()
        }

    return dataset.map(named, batched=True, features=features)


_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_HUB_ADDRESS = re.compile(r"(https?://(www\.)?huggingface\.co/datasets/|hf://datasets/)")
# A source with one of these extensions is treated as a file, even if it does not exist.
_FILE_SUFFIX = re.compile(
    r"\.(jsonl|ndjson|json|csv|tsv|parquet|txt|md|xlsx?|ods|docx?|pdf|html|xml|ya?ml|pkl|pickle|pt|npy|npz|arrow|feather"
    r"|db|sqlite|zip|gz|bz2|xz|zst|tar|7z)",
    re.IGNORECASE,
)


# Metadata files that tools write next to the data.
_ABOUT_DATA = ("manifest.json", "dataset_info.json", "dataset_infos.json", "state.json")


@dataclass
class SourceFile:
    """One file, Hub data set or version that rows come from; `revision` is the commit of a Hub data set, `version` the
    id of a version in the workspace."""

    name: str
    kind: str
    path: str | None
    sha256: str | None
    rows: int
    revision: str | None = None
    version: str | None = None

    def as_dict(self) -> SourceJson:
        entry: SourceJson = {
            "name": self.name,
            "kind": self.kind,
            "path": self.path,
            "sha256": self.sha256,
            "rows": self.rows,
        }
        if self.revision:
            entry["revision"] = self.revision
        if self.version:
            entry["version"] = self.version
        return entry


@dataclass
class Loaded:
    """A data source in memory: rows by split, as dicts of column to cell."""

    name: str
    kind: Literal["sample", "file", "hub", "version"]
    splits: dict[str, Sequence[Row]]
    columns: list[str]
    files: list[SourceFile]
    notes: list[str] = field(default_factory=list)
    named: Named | None = None  # columns and template remembered for this source

    @property
    def main(self) -> str:
        """The split to train on: train, or the only one."""
        return "train" if "train" in self.splits else next(iter(self.splits))

    @property
    def rows(self) -> int:
        return sum(len(rows) for rows in self.splits.values())


def load_rows(data: DataConfig, workspace: Workspace | None = None) -> Loaded:
    """The unconverted rows of `data.source`. `workspace` is where versions (default: the default workspace) and
    remembered columns are looked up.

    Raises InputError if there is no such source, it cannot be read, or the Hub cannot be reached.
    """
    source = data.source.strip()
    kind, place = find_source(source, workspace)
    if kind == "version":
        loaded = _load_version(source, workspace)
        if data.split:
            _keep_split(loaded, data.split)
    elif kind == "hub":
        try:
            splits, revision, notes = load_hub(str(place), data.subset, data.split)
        except InputError as error:
            if "/" in str(place):
                raise
            # A single word is more often a misspelled sample than one of the few data sets without an owner.
            raise no_sample(source, why=f"no data set on the Hub could be loaded: {error.what}") from None
        files = [SourceFile(str(place), "hub", None, None, sum(map(len, splits.values())), revision)]
        loaded = Loaded(str(place), "hub", splits, list(next(iter(splits.values())).column_names), files, notes)
    else:
        path = Path(place)
        name, encoding = source if kind == "sample" else path.name, encoding_of(data, workspace)
        loaded = _load_local(name, kind, path, encoding, data.split)
        if data.split and not _is_sheet(path, data.split):
            _keep_split(loaded, data.split)
    named = recall(data, workspace)
    loaded.named = named if named and named.fits(loaded.columns) else None
    return loaded


def find_source(
    source: str, workspace: Workspace | None = None
) -> tuple[Literal["sample", "file", "hub", "version"], Path | str]:
    """What `source` refers to, without reading it: a sample (its folder), a file or folder (its path), a Hub id, or a
    version (`version:<id>`; its Parquet file).

    Raises InputError suggesting the nearest name if it is none of them.
    """
    from ftlab import samples

    check_reach(source)
    if not source:
        raise InputError("No data source is given", allowed=_ALLOWED)
    if source.startswith(PREFIX):
        return "version", resolve(source, workspace).rows_file
    known = [sample.name for sample in samples.list_samples()]
    if source in known:
        return "sample", samples.sample_path(source)
    path = Path(source).expanduser()
    try:
        if path.exists():
            return "file", path
    except OSError as error:
        raise InputError(f"The data cannot be found: {error.strerror}", given=source) from None
    if _HUB_ADDRESS.match(source):
        source = "/".join(_HUB_ADDRESS.sub("", source).split("?")[0].split("/")[:2])
    elif "://" in source:
        raise InputError(
            "URLs are not supported", given=source, allowed=_ALLOWED, try_="download the file and give its path"
        )
    close = nearest(source, known)
    looks_like_a_path = (
        _FILE_SUFFIX.fullmatch(path.suffix)
        or source.startswith((".", "/", "~", "\\"))
        or ("/" in source and path.parent.is_dir())
        or not _HUB_ID.fullmatch(source)
    )
    if looks_like_a_path:
        raise _missing_file(source, path, close)
    if "/" not in source and close:
        raise no_sample(source, close)
    return "hub", source


def no_sample(source: str, close: str | None = None, why: str | None = None) -> InputError:
    """The error for a plain word that is not a sample; `why` is what else was tried."""
    from ftlab import samples

    names = ", ".join(sample.name for sample in samples.list_samples())
    return InputError(
        "There is no sample data set with this name" + (f", and {why}" if why else ""),
        given=source,
        allowed=f"{names}; or a file, or a Hub id such as owner/name",
        try_=f"{close!r}" if close else None,
    )


_ALLOWED = f"a sample, a file ({', '.join(SUFFIXES)}), a folder with train.jsonl, or a Hub id such as owner/name"


def _missing_file(source: str, path: Path, close_sample: str | None) -> InputError:
    folder = path.parent
    if not folder.is_dir():
        return InputError(f"There is no folder {folder}", given=source, allowed=_ALLOWED, try_="check the path")
    files = [entry.name for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES]
    names = files if path.suffix else files + [entry.name for entry in folder.iterdir() if entry.is_dir()]
    close = nearest(path.name, names)
    if close:
        hint = f"did you mean {folder / close}?"
    elif close_sample:
        hint = f"did you mean the sample {close_sample}?"
    else:
        hint = f"the folder holds {', '.join(sorted(files)[:5])}" if files else "check the path"
    return InputError(f"There is no file {path.name} in {folder.absolute()}", given=source, try_=hint)


def _load_version(source: str, workspace: Workspace | None) -> Loaded:
    version = resolve(source, workspace)
    splits: dict[str, Sequence[Row]] = {
        split: StoredRows(version.rows_file, split) for split in SPLITS if version.rows.get(split)
    }
    file = SourceFile(version.name, "version", None, version.content, version.total, version=version.id)
    which = "1 row of this version is" if version.excluded == 1 else f"{version.excluded:,} rows of this version are"
    notes = [f"{which} excluded."] if version.excluded else []
    return Loaded(version.source, "version", splits, list(version.columns), [file], notes)


def _is_sheet(path: Path, split: str) -> bool:
    """Whether `split` names a sheet of a spreadsheet, which `read_table` then reads alone."""
    return path.suffix.lower() in SHEETS and split_name(split) is None


def _load_local(
    name: str,
    kind: Literal["sample", "file"],
    path: Path,
    encoding: str | None = None,
    split_wanted: str | None = None,
) -> Loaded:
    if path.is_dir():
        texts = text_files(path)
        if texts:
            table = read_text_files(texts, encoding)
            file = SourceFile(name, kind, path.name, table.sha256, table.rows)
            return Loaded(name, kind, table.splits, table.columns, [file], table.notes)
        paths = split_files(path)
    elif path.is_file():
        paths = {"train": path}
    else:
        raise InputError("This is neither a file nor a folder", given=path, allowed=_ALLOWED)
    loaded = Loaded(name, kind, {}, [], [])
    for split, part in paths.items():
        sheet = split_wanted if split_wanted and _is_sheet(part, split_wanted) else None
        table = read_table(part, encoding, sheet)
        loaded.splits |= table.splits if len(paths) == 1 and path.is_file() else {split: table.splits["train"]}
        loaded.columns += [column for column in table.columns if column not in loaded.columns]
        loaded.files.append(SourceFile(name, kind, part.name, table.sha256, table.rows))
        loaded.notes += table.notes
    return loaded


def text_files(folder: Path) -> list[Path]:
    """The files of a folder of plain-text files, one document each. Empty for any other folder."""
    files = _data_files(folder)
    are_texts = len(files) > 1 and all(file.suffix.lower() == ".txt" for file in files)
    return files if are_texts and not any(split_name(file.stem) for file in files) else []


def _data_files(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.suffix.lower() in SUFFIXES)
    files = [file for file in files if file.name not in _ABOUT_DATA]
    # Next to other data, a text file is documentation.
    return [file for file in files if file.suffix.lower() != ".txt"] or files


def split_files(folder: Path) -> dict[str, Path]:
    """The data files of a folder by the split in their names; a single file with any name is the training data."""
    files = _data_files(folder)
    paths: dict[str, Path] = {}
    for file in files:
        split = split_name(file.stem)
        if split in paths:
            raise InputError(
                f"The folder {folder.absolute().name} holds more than one file for {split}",
                given=f"{paths[split].name}, {file.name}",
                allowed="one file for each of train, validation and test",
                try_="merge them into one file, or give the path of one of them",
            )
        if split:
            paths[split] = file
    unnamed = [file for file in files if not split_name(file.stem)]
    if "train" not in paths and len(unnamed) == 1:
        paths["train"] = unnamed[0]  # tickets.csv alone, or next to a test.csv
    if not paths:
        raise InputError(
            f"The folder {folder.absolute().name} holds no file called train, validation or test",
            given=", ".join(file.name for file in files[:8]) or "no data file",
            allowed=f"train, validation and test, ending in {', '.join(SUFFIXES)}",
            try_="give the path of one file",
        )
    return {split: paths[split] for split in SPLITS if split in paths}


def _keep_split(loaded: Loaded, wanted: str) -> None:
    split = wanted if wanted in loaded.splits else split_name(wanted)
    if split not in loaded.splits:
        close = nearest(wanted, loaded.splits)
        raise InputError(
            f"{loaded.name} has no such split",
            given=wanted,
            allowed=", ".join(loaded.splits),
            try_=close and f"{close!r}",
        )
    loaded.splits = {"train": loaded.splits[split]}
    loaded.notes.append(f"Only the split {split} of {loaded.name} is used.")
