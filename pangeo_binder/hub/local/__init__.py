"""Servers as processes of this machine, and the proxy in front of them. Runs in the local profile's hub."""
