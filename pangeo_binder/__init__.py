"""pangeo-binder: one link to JupyterLab with your own Dask cluster and your own slice of object storage.

The architecture stands in docs/design.md. Importing this package imports nothing else, so the command line stays quick.
"""

__version__ = "0.1.0"
