"""Data sets of the Hugging Face Hub: by their id, never with a script of theirs, and quick to say when offline."""

from __future__ import annotations

import os
import threading
from typing import Any

from ftlab.data.split_names import SPLITS, split_name
from ftlab.errors import InputError, shorten

# `datasets` itself tries six times, 23 seconds in all, before it says that there is no network (measured).
_PATIENCE = 8.0  # seconds
_MEDIA = ("Image", "Audio", "Video", "Pdf", "Nifti", "Mesh")


def load_hub(name: str, subset: str | None, split: str | None) -> tuple[dict[str, Any], str | None, list[str]]:
    """The splits (datasets.Dataset) of a Hub data set, the commit they are from (None when offline), and notes.

    `split` may be a slice such as train[:1000]. With HF_HUB_OFFLINE=1 only what was loaded before is used.
    Raises InputError when the Hub cannot be reached, or has no such data set, configuration or split.
    """
    offline = _is_offline()
    revision = None if offline else _reach(name)

    import datasets

    if not offline:
        datasets.utils.logging.set_verbosity_error()
    try:
        found = datasets.load_dataset(name, subset, split=split, revision=revision)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise InputError(f"The Hub has no data set {name}: {shorten(error)}", given=name) from None
    except (ConnectionError, TimeoutError) as error:
        raise _unreachable(name, error) from None
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


def _is_offline() -> bool:
    return any(
        os.environ.get(key, "").upper() in ("1", "TRUE", "YES", "ON")
        for key in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
    )


def _reach(name: str) -> str:
    """Ask the Hub for the newest commit of the data set, once, for at most `_PATIENCE` seconds."""
    answer: dict[str, Any] = {}

    def ask() -> None:
        try:
            from huggingface_hub import HfApi

            answer["sha"] = HfApi().dataset_info(name, timeout=_PATIENCE - 2).sha
        except Exception as error:  # handed to the thread that waits, which raises it again
            answer["error"] = error

    # In a thread of its own, as looking up a host name cannot be given a time limit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    if "sha" in answer:
        return answer["sha"]
    error = answer.get("error")
    if error is None:
        raise _unreachable(name, TimeoutError(f"no answer within {_PATIENCE:.0f} seconds"))

    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        raise InputError(
            f"The data set {name} is open only to people who were given access",
            given=name,
            try_=f"ask for access at https://huggingface.co/datasets/{name}, then log in with: hf auth login",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        raise InputError(
            f"There is no data set {name} on the Hugging Face Hub, no such file here and no such sample",
            given=name,
            try_="check the spelling (owner/name); for a private data set log in with: hf auth login",
        )
    if isinstance(error, errors.HFValidationError):
        raise InputError("This is not the id of a Hub data set", given=name, allowed="owner/name")
    if isinstance(error, OSError) or type(error).__module__.split(".")[0] in ("httpx", "httpx2", "httpcore"):
        raise _unreachable(name, error)
    raise error


def _unreachable(name: str, error: Exception) -> InputError:
    if _is_offline():
        return InputError(
            f"The Hugging Face Hub cannot be reached: HF_HUB_OFFLINE is set and {name} was not downloaded before",
            given=name,
            allowed="a sample, a local file, or a Hub data set that was loaded before",
            try_="unset HF_HUB_OFFLINE where there is a network",
        )
    return InputError(
        f"The Hugging Face Hub cannot be reached ({shorten(error, 120)})",
        given=f"{name}, which is no sample and no file here, so it is taken for a Hub data set",
        try_="check the network, or use a sample or a local file; "
        "a data set that was downloaded before is used with HF_HUB_OFFLINE=1",
    )


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
    return dataset.remove_columns(media) if media else dataset
