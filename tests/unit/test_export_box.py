"""The box that hands a run over: whose token is used, and that nothing is uploaded which was not shown."""

from __future__ import annotations

import gradio as gr
import pytest
from gradio.utils import oauth_token_requirement

from ftlab.errors import InputError
from ftlab.ui import export_box
from ftlab.workspace import Workspace


def test_in_a_space_the_visitors_token_is_used_and_never_the_spaces_own(monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = gr.OAuthToken(token="hf_visitor", scope="manage-repos", expires_at=4_000_000_000)
    assert export_box._token(None) is None  # on one's own machine: that of hf auth login
    monkeypatch.setenv("SPACE_ID", "me/space")
    monkeypatch.setenv("HF_TOKEN", "hf_space")
    assert export_box._token(visitor) == "hf_visitor"
    with pytest.raises(InputError, match="not logged in"):
        export_box._token(None)


def test_the_upload_gets_the_token_of_whoever_is_logged_in_and_nothing_that_was_not_shown(workspace: Workspace) -> None:
    with gr.Blocks() as app:
        run = gr.Dropdown([])
        panel = export_box.build()
        export_box.wire(panel, run, workspace)
    (send,) = (fn.fn for fn in app.fns.values() if fn.fn and fn.fn.__name__ == "send")
    assert oauth_token_requirement(send) == "optional"
    said = send(None, "run", "adapter", "", "me/model", "", False, True)
    assert "no longer what you have seen" in said[panel.hub_message]
    shown = ["run", "adapter", "", "me/model", "", False, True]
    said = send(shown, "run", "adapter", "", "me/model", "", False, False)  # private when it was shown
    assert "no longer what you have seen" in said[panel.hub_message]
