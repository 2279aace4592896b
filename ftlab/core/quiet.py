"""How the libraries are set in every process of ftlab: quiet (their remarks tell nobody what to do), and with caches
that do not grow."""

from __future__ import annotations

import logging
import os
import warnings

_LIBRARIES = "transformers|trl|peft|accelerate|datasets|huggingface_hub|bitsandbytes|torch"
# Bars of files and weights that load in a moment, and that a part of TRL may change.
_SETTINGS = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
# oneDNN and torch keep what they compiled for each shape of a product: 1,024 of them, about 1 MB each under bf16, which
# batches of unlike lengths fill within a hundred steps. A step needs some twenty.
CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}


def quieten() -> None:
    """Call it before the libraries are imported; what a person has set in the environment is kept.

    Only progress bars, deprecations and missing extras go. Warnings that a result may be wrong (UserWarning of torch,
    "silently incorrect") and those of transformers' own log stay.
    """
    for name, value in (_SETTINGS | CACHES).items():
        os.environ.setdefault(name, value)
    # That a faster 4-bit kernel could be downloaded.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # That the Hub was not reached and is tried again; what comes of it is said by the error in the end.
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)
    for kind in (FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", category=kind, module=rf"({_LIBRARIES})(\.|$)")
