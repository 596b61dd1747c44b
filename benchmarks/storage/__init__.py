"""Measures the speed of the storage service's S3 front, over loopback and a local directory."""
