"""Drivers that issue the credentials of a launch: one file per kind of store, independent of each other."""
