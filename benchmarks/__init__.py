"""Measurements of the whole product; README.md describes their methods. Not part of the distribution."""
