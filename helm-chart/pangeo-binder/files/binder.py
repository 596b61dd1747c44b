from pangeo_binder.deploy.kube.binder import configure

configure(c)  # noqa: F821
