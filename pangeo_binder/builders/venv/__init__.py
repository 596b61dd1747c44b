"""The local profile's builder: makes virtual environments with uv on this machine. Runs in the binder."""
