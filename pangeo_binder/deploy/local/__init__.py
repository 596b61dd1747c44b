"""Configures the processes of the local profile with one `configure` each, and starts, watches and stops them."""
