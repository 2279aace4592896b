"""Choose the Hugging Face Hub account for uploads from the app."""

from __future__ import annotations

import os

import gradio as gr

from ftlab.errors import InputError


def in_a_space() -> bool:
    return bool(os.environ.get("SPACE_ID"))


def upload_token(token: gr.OAuthToken | None) -> str | None:
    """The token to upload with: in a Space, the token of the logged-in user, never the Space's own.

    None elsewhere: huggingface_hub then uses the token of `hf auth login` or HF_TOKEN.
    """
    if token is not None:
        return token.token
    if in_a_space():
        raise InputError(
            "You are not logged in, and the token of this Space is not used for uploads",
            try_="log in with your account on the Hub; the Space needs the scope manage-repos (hf_oauth_scopes)",
        )
    return None


def about_token() -> str:
    if in_a_space():
        return "Uploads use the Hub account you are logged in with. Nothing is sent until you have reviewed it."
    return (
        "ftlab never asks for your token: log in once in a terminal with hf auth login, or set HF_TOKEN before the app "
        "is started. Nothing is sent until you have reviewed it."
    )
