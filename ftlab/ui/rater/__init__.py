"""The raters' app: no endpoint that trains, reads runs or names a model."""
