from pangeo_binder.deploy.kube.culler import configure

configure(c)  # noqa: F821
