"""Servers as pods of a Kubernetes cluster, and what bounds them there. Runs in the hub."""
