"""Container images made by Kubernetes Jobs: the side of a build that runs in the binder."""
