"""Dask clusters as pods of a Kubernetes cluster: the backend of the API server, and the controller."""
