"""Dask clusters by the dask-kubernetes operator: the hub writes their records, the operator makes the pods."""
