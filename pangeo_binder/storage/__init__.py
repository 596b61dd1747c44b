"""The storage service: credentials for a launch's scratch and the operator's catalogue, and the S3 front."""
