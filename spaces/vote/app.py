"""The raters' page in a Space."""

from ftlab.core.workspace import Workspace
from ftlab.ui.space.vote import serve_vote

serve_vote(Workspace.open())
