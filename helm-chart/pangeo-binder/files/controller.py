from pangeo_binder.deploy.kube.controller import configure

configure(c)  # noqa: F821
