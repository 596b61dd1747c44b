"""Servers as processes of this machine, and the proxy in front of them. Runs in the hub of the local profile."""
