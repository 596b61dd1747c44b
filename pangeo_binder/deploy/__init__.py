"""Translates deployment values into each process's traitlets configuration: one `configure` per process."""
