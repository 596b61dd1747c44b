"""Archives of research data: which files a record has, by the public API of its kind."""
