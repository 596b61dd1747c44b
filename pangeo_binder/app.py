"""PangeoBinderHub: the binder process."""
