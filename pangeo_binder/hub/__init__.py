"""The parts that run inside JupyterHub: ticket-checking spawners, provisioning, roles, and culling."""
