"""Keep what libraries remark about themselves out of a terminal, a log and an error: it tells nobody what to do."""

from __future__ import annotations

import logging
import os
import warnings

_LIBRARIES = "transformers|trl|peft|accelerate|datasets|huggingface_hub|bitsandbytes|torch"
# Bars of files and weights that load in a moment, and that a part of TRL may change.
_SETTINGS = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}


def quieten() -> None:
    """Call it before the libraries are imported; what a person has set in the environment is kept.

    Only progress bars, deprecations and missing extras go. Warnings that a result may be wrong (UserWarning of torch,
    "silently incorrect") and those of transformers' own log stay.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    # That a faster 4-bit kernel could be downloaded.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    for kind in (FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", category=kind, module=rf"({_LIBRARIES})(\.|$)")
