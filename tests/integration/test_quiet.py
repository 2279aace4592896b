"""What libraries remark about themselves reaches nobody; what says that a result may be wrong does."""

from __future__ import annotations

import warnings

from ftlab.core.processes import quieten
from ftlab.models.load import base_path
from tests.conftest import run_cli
from tests.small_runs import make_run, save_result


def test_a_chat_says_nothing_but_its_own_lines(tmp_path):
    run = make_run(tmp_path / "workspace" / "runs", base_path("starter"), "none")
    save_result(run, base_path("starter"))
    done = run_cli("chat", run.id, "--message", "Hello", "--workspace", str(tmp_path / "workspace"))
    assert done.returncode == 0
    assert done.stderr == "Loading the models ...\n"
    base, adapted, *cut = done.stdout.splitlines()
    assert base.startswith("base     ") and adapted.startswith("adapted  ")
    assert all(line.startswith("cut      ") for line in cut)
    lost = run_cli("chat", "no-such-run", "--message", "Hello", "--workspace", str(tmp_path / "workspace"))
    assert lost.returncode == 2 and len(lost.stderr.splitlines()) == 1 and lost.stderr.startswith("ftlab: ")


def test_a_warning_of_a_wrong_result_stays_and_one_of_a_deprecation_goes():
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        quieten()
        for kind, module in ((UserWarning, "torch.autograd.graph"), (FutureWarning, "transformers.modeling_utils")):
            warnings.warn_explicit("may be silently incorrect", kind, "file.py", 1, module=module)
    assert [one.category for one in shown] == [UserWarning]
