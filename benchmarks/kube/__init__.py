"""What a launch asks of Kubernetes' API: requests and bytes, with few and with many launches running."""
