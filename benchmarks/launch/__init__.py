"""What a launch costs, and what of it is our own: measured on a real stack beside the hub's API alone."""
