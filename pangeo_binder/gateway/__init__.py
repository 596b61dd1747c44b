"""What runs inside dask-gateway-server: who asks, what a launch may have, and the reaper of what a launch left."""
