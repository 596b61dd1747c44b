"""Configures each process of the local profile, and starts, watches and stops them: one `configure` per process."""
