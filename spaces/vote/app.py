"""The raters' page in a Space."""

from ftlab.ui.space_vote import serve_vote
from ftlab.workspace import Workspace

serve_vote(Workspace.open())
