"""What the official chart's configuration does that pangeo-binder's meets: proxy, addresses, database, pass-through."""

import json
import os
from pathlib import Path

c.ConfigurableHTTPProxy.api_url = "http://proxy-api:8001"  # noqa: F821
c.ConfigurableHTTPProxy.should_start = False  # noqa: F821
c.JupyterHub.cleanup_servers = False  # noqa: F821
c.JupyterHub.last_activity_interval = 60  # noqa: F821
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}  # noqa: F821
c.JupyterHub.db_url = "sqlite:///jupyterhub.sqlite"  # noqa: F821
c.JupyterHub.hub_bind_url = "http://:8081"  # noqa: F821
c.JupyterHub.hub_connect_url = "http://hub:8081"  # noqa: F821
c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"  # noqa: F821
c.JupyterHub.cookie_secret = bytes.fromhex(os.environ["COOKIE_SECRET"])  # noqa: F821
c.JupyterHub.services = []  # noqa: F821
c.JupyterHub.load_roles = []  # noqa: F821
c.KubeSpawner.namespace = os.environ["POD_NAMESPACE"]  # noqa: F821
c.KubeSpawner.mem_guarantee = "1G"  # noqa: F821

values = json.loads(os.environ["HUB_VALUES"])
c.JupyterHub.concurrent_spawn_limit = values["concurrentSpawnLimit"]  # noqa: F821
c.Spawner.consecutive_failure_limit = values["consecutiveFailureLimit"]  # noqa: F821
for section, settings in values["config"].items():
    c[section].update(settings)  # noqa: F821

for path in sorted(Path("/usr/local/etc/jupyterhub/jupyterhub_config.d").glob("*.py")):
    exec(compile(path.read_text(), path, "exec"))
