"""Whether limits hold exactly over several binder processes."""
