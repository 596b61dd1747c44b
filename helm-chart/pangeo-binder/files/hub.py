from pangeo_binder.deploy.kube.hub import configure

configure(c)  # noqa: F821
