"""Data sets of the Hugging Face Hub: by their id, never with a script of theirs, and quick to say when offline."""

from __future__ import annotations

from typing import Any

from ftlab.data.split_names import SPLITS, split_name
from ftlab.errors import InputError, shorten
from ftlab.hub import is_offline, newest_commit, unreachable

_MEDIA = ("Image", "Audio", "Video", "Pdf", "Nifti", "Mesh")


def load_hub(name: str, subset: str | None, split: str | None) -> tuple[dict[str, Any], str | None, list[str]]:
    """The splits (datasets.Dataset) of a Hub data set, the commit they are from (None when offline), and notes.

    `split` may be a slice such as train[:1000]. With HF_HUB_OFFLINE=1 only what was loaded before is used.
    Raises InputError when the Hub cannot be reached, or has no such data set, configuration or split.
    """
    offline = is_offline()
    revision = None if offline else newest_commit("dataset", name)

    import datasets

    if not offline:
        datasets.utils.logging.set_verbosity_error()
    try:
        found = datasets.load_dataset(name, subset, split=split, revision=revision)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise InputError(f"The Hub has no data set {name}: {shorten(error)}", given=name) from None
    except (ConnectionError, TimeoutError) as error:
        raise unreachable("data set", name, error) from None
    except (ValueError, RuntimeError, OSError, datasets.exceptions.DatasetsError) as error:
        # A missing configuration or split, a script, files that no reader knows: the library says which.
        raise InputError(
            f"The data set {name} cannot be loaded: {shorten(error, 400)}",
            given=f"{name}, configuration {subset or 'default'}, split {split or 'all'}",
            try_="choose a configuration and a split on the page of the data set",
        ) from None
    if isinstance(found, datasets.Dataset):
        found = {"train": found}
    notes: list[str] = [] if revision else [f"{name} is the copy that was downloaded before; the Hub was not asked."]
    return _known_splits(name, found, notes), revision, notes


def _known_splits(name: str, found: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    splits: dict[str, Any] = {}
    for key, dataset in found.items():
        split = split_name(key)
        if split and split not in splits:
            splits[split] = _without_media(dataset, notes)
        elif len(found) == 1:
            splits["train"] = _without_media(dataset, notes)
        else:
            notes.append(f"The split {key} of {name} is not used.")
    if not splits:
        raise InputError(
            f"None of the splits of {name} is called train",
            given=", ".join(found),
            try_="name one of them as data.split",
        )
    return {split: splits[split] for split in SPLITS if split in splits}


def _without_media(dataset: Any, notes: list[str]) -> Any:
    media = [column for column, feature in dataset.features.items() if type(feature).__name__ in _MEDIA]
    if media:
        notes.append(f"Columns that are not text were left out: {', '.join(media)}.")
    dataset = dataset.remove_columns(media) if media else dataset
    return _with_label_names(dataset)


def _with_label_names(dataset: Any) -> Any:
    """Labels as their names instead of their numbers."""
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
