"""The command line. Each command lives in its own file and imports what it needs only when it runs."""


def main() -> None:
    """Run the command line."""
    raise SystemExit("not yet")
