"""Dask clusters by the dask-kubernetes operator: the hub writes their objects, the operator makes the pods."""
