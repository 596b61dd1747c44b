"""Providers of repositories: from a link's text to a commit. One file per kind. Runs in the binder; never builds."""
