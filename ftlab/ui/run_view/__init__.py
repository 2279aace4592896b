"""Views of a run for every tab: state, figures and curves; the stages in words."""
