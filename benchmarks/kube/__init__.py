"""The cost of a launch at the Kubernetes API: requests and bytes, with few and with many launches running."""
