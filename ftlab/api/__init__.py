"""The notebook API. It calls the same code as the app and the command line.

run.py: the handle on a run; verbs.py: one function per pipeline step; series.py: helpers for a series of notebooks;
blind.py: a blind test; display.py: how results appear in Jupyter. The names for users are in `ftlab.__all__`.
"""

from __future__ import annotations

from ftlab.api.blind import BlindTest, blind_test
from ftlab.api.display import BlindVerdict, Compared, Comparison, expect, suit_jupyter
from ftlab.api.run import Run, compare_metrics, raise_failure, same_data, same_versions
from ftlab.api.series import blind_verdict, compare, rater_links, resume_interrupted, trained, workspace_folder
from ftlab.api.verbs import (
    accept,
    as_read,
    chat,
    check,
    evaluate,
    find_rate,
    fix,
    get_base,
    inspect,
    launch,
    preflight,
    show,
    train,
    write,
)

suit_jupyter()
