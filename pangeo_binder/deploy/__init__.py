"""Turns deployment values into each process's traitlets configuration: one `configure(c, values)` per process."""
