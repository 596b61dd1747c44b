"""Configures each process of the Kubernetes profile from the chart's values: one `configure(c)` per process."""
