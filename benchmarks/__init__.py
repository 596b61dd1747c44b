"""Measurements of the whole product; each has its method in a README. Not part of the distribution."""
