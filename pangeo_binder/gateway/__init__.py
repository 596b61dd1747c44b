"""The parts that run inside dask-gateway-server: authentication, limits per launch, backends and the reaper."""
