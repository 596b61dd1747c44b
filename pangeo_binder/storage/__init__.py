"""The storage service: credentials for one launch's scratch and the operator's catalogue, and the S3 front."""
