"""Builders: from a commit to an environment. One file per kind. Runs in the binder; never starts servers."""
