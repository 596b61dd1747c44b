"""Builders: make the environment of a revision. One file per kind. Run in the binder; they never start servers."""
