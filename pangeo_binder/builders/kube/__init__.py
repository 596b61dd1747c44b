"""Container images made by Kubernetes Jobs: the part of a build that runs in the binder."""
