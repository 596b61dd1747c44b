"""The S3 front: the S3 protocol over obstore, bounded by a launch's scope. Knows nothing of launches' lives."""
