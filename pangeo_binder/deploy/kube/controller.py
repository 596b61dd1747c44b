"""Configures our dask-gateway controller on Kubernetes; the chart runs it in place of the stock one."""

from __future__ import annotations

from typing import Any

from .values import GATEWAY_API_PORT, read_values


def configure(c: Any) -> None:
    """Configure the controller."""
    values = read_values()
    site = values.site
    controller = c.LaunchController
    controller.address = f":{GATEWAY_API_PORT}"
    controller.api_url = f"{values.gateway_api_url}/api"
    controller.gateway_instance = site.gateway_instance
    controller.proxy_prefix = site.gateway_prefix
    controller.proxy_web_middlewares = [{"name": site.gateway_middleware, "namespace": site.namespace}]
    # dask-gateway's traefik uses one port for pages and schedulers
    controller.proxy_tcp_entrypoint = "web"
    controller.start_seconds = float(values.dask.start_seconds)
    controller.log_level = values.log_level
