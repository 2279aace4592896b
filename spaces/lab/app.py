"""The whole app in a Space: for its owner; everybody else may chat with the run that is shown, and vote."""

from ftlab.core.workspace import Workspace
from ftlab.ui.space.lab import serve_lab

serve_lab(Workspace.open())
