"""Dask clusters of launches, by dask-gateway or by the Dask operator; the hub requests and ends them."""
