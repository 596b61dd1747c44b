"""Dask clusters of launches, by dask-gateway or by the Dask operator; the hub asks for them and ends them."""
