"""Container images made by Kubernetes Jobs: the side of a build that runs in its pod, without credentials."""
