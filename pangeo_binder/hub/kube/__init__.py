"""Servers as pods of a Kubernetes cluster, and the objects that bound them there. Runs in the hub."""
