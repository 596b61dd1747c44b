"""Repository providers: resolve a link's text to a revision. One file per kind. Run in the binder; they never build."""
