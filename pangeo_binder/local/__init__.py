"""Modules of the local profile only: its processes, their ports, and the writable layer over an environment."""
