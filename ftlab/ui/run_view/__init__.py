"""How a run is shown, on every tab that shows one: its state, figures and curves; the stages in words."""
