"""The journey of a launch, in the binder: resolve, admit, build, issue the ticket, follow the hub until ready."""
