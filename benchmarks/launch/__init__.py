"""The cost of a launch and our own share of it, measured on a real stack and compared with the hub's API alone."""
