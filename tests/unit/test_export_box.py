"""What the app uploads: with whose token, and nothing that was not shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.utils import oauth_token_requirement

from ftlab.config import DataConfig
from ftlab.core import jobs
from ftlab.core.files import write_json
from ftlab.core.run_directory import EXPORT_RECORD
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from ftlab.export import job as export_job
from ftlab.ui.kit.hub_account import upload_token
from ftlab.ui.tabs.data import versions as data_versions
from ftlab.ui.tabs.data.sources import DataContext
from ftlab.ui.tabs.runs import export as export_box


def test_in_a_space_the_visitors_token_is_used_and_never_the_spaces_own(monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = gr.OAuthToken(token="hf_visitor", scope="manage-repos", expires_at=4_000_000_000)
    assert upload_token(None) is None  # on one's own machine: that of hf auth login
    monkeypatch.setenv("SPACE_ID", "me/space")
    monkeypatch.setenv("HF_TOKEN", "hf_space")
    assert upload_token(visitor) == "hf_visitor"
    with pytest.raises(InputError, match="not logged in"):
        upload_token(None)


def send_of(app: gr.Blocks) -> Callable[..., Any]:
    """The handler that uploads; its token comes from whoever is logged in."""
    (send,) = (fn.fn for fn in app.fns.values() if fn.fn and fn.fn.__name__ == "send")
    assert oauth_token_requirement(send) == "optional"
    return send


def test_a_model_is_uploaded_with_the_token_of_whoever_is_logged_in_and_as_it_was_shown(workspace: Workspace) -> None:
    with gr.Blocks() as app:
        run = gr.Dropdown([])
        panel = export_box.build()
        export_box.wire(panel, run, workspace)
    send = send_of(app)
    said = send(None, "run", "adapter", "", "me/model", "", False, True)
    assert "changed since you reviewed" in said[panel.hub_message]
    shown = ["run", "adapter", "", "me/model", "", False, True]
    said = send(shown, "run", "adapter", "", "me/model", "", False, False)  # private when it was shown
    assert "changed since you reviewed" in said[panel.hub_message]


def test_data_are_uploaded_with_the_token_of_whoever_is_logged_in_and_as_they_were_shown(
    workspace: Workspace, rows_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gr.Blocks() as app:
        panel = data_versions.build()
        fields = gr.State(), gr.Dropdown([]), gr.Dropdown([]), gr.Textbox()
        data_versions.wire(panel, DataContext(workspace, *fields))
    send = send_of(app)
    data = DataConfig(source=str(rows_file)).model_dump_json()
    said = send([data, "me/data", True, ""], data, "me/data", False, "")
    assert "changed since you reviewed" in said[panel.send_message]
    monkeypatch.setenv("SPACE_ID", "me/space")
    monkeypatch.setenv("HF_TOKEN", "hf_space")
    said = send([data, "me/data", True, ""], data, "me/data", True, "")
    assert "the token of this Space is not used" in said[panel.send_message]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "from ftlab.errors import FtlabError; raise FtlabError('The base is gone', try_='fetch it')",
            "The base is gone",
        ),
        ("raise ValueError('a number')", "The export failed. ValueError: a number"),
        ("print('a library', flush=True); import os; os.abort()", "The last line of its log: a library"),
        ("import os; os._exit(1)", "The last line of its log: it is empty"),
    ],
)
def test_an_export_whose_process_is_gone_has_failed_with_its_last_words(
    workspace: Workspace, code: str, reason: str
) -> None:
    run = workspace.create_run("made")
    job = export_job._job(run, "adapter")
    waits = (
        "import sys, time\nfrom pathlib import Path\nfrom ftlab.core import jobs\n"
        "from ftlab.core.run_directory import RunDirectory\nfrom ftlab.errors import FtlabError\n"
        "from ftlab.export import job as export\n"
        f"def work(writer):\n    time.sleep(1)\n    {code}\n"
        f"job = export._job(RunDirectory(Path({str(run.path)!r})), 'adapter')\n"
        "sys.exit(jobs.run(job, lambda: jobs.Writer(job.status_file, jobs.Status), work))"
    )
    assert export_job.progress(run, "adapter").state == "none"
    jobs.begin(job, jobs.Status(created=time.time()))
    jobs.start(job, [sys.executable, "-c", waits], jobs.environment({}, online=False))
    assert export_job.progress(run, "adapter").state == "working"
    while (found := export_job.progress(run, "adapter")).state == "working":
        time.sleep(0.05)
    assert found.state == "failed"
    with pytest.raises(FtlabError, match=reason):
        export_job.raise_failure(found)


def test_what_an_earlier_version_kept_of_an_export_hides_no_export(workspace: Workspace) -> None:
    """Its file said which process exports, not how that ended."""
    run = workspace.create_run("made")
    write_json(export_job._job(run, "adapter").status_file, {"pid": 1, "pid_started": "x/1", "created": 1.7e9})
    assert export_job.progress(run, "adapter").state == "none"
    write_json(run.export_folder("adapter") / EXPORT_RECORD, {"created": 1.6e9})
    assert export_job.progress(run, "adapter").state == "done"
