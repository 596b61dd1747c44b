"""Drivers that issue credentials of one launch. One file per kind of store; they do not know each other."""
