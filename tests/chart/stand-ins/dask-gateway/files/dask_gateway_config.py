"""What the official chart's configuration does that pangeo-binder's meets."""

import os

c.DaskGateway.address = ":8000"  # noqa: F821
c.DaskGateway.backend_class = "dask_gateway_server.backends.kubernetes.KubeBackend"  # noqa: F821
c.DaskGateway.authenticator_class = "dask_gateway_server.auth.JupyterHubAuthenticator"  # noqa: F821
c.KubeBackend.api_url = os.environ["API_URL"]  # noqa: F821
c.KubeBackend.gateway_instance = os.environ["INSTANCE"]  # noqa: F821
c.KubeClusterConfig.image = "dask/dask-gateway:2026.3.0"  # noqa: F821
c.KubeClusterConfig.image_pull_secrets = []  # noqa: F821
hub = f"{os.environ['HUB_SERVICE_HOST']}:{os.environ['HUB_SERVICE_PORT']}"
c.JupyterHubAuthenticator.jupyterhub_api_url = f"http://{hub}/hub/api"  # noqa: F821
c.JupyterHubAuthenticator.jupyterhub_service_name = os.environ["HUB_SERVICE_NAME"]  # noqa: F821
