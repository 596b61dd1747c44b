"""What runs inside JupyterHub: spawners that take tickets, provisioning, roles, and culling."""
