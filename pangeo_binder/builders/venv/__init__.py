"""Virtual environments made with uv on this machine: the builder of the local profile. Runs in the binder."""
