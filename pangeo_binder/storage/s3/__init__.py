"""The S3 front: the S3 protocol over obstore, limited to a launch's scope. Not for granting or revoking."""
