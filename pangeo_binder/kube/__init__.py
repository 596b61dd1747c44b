"""What hub, gateway and builds all know of Kubernetes: the client, labels and placement, refusals, pod status."""
