"""What only the local profile needs: its processes, their ports, and the writable layer over an environment."""
