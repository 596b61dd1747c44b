"""How fast the storage service's S3 front is, over loopback and its own directory."""
