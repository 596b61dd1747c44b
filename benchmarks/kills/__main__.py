"""`python -m benchmarks.kills`: kills at random moments of launches; fails if anything is left that no server owns."""

from __future__ import annotations

import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import click

from tests.stack.kills import KINDS, Kill, Killing, count, kills
from tests.stack.local import LocalStack


@click.command()
@click.option("--kills", "number", type=click.IntRange(1, 1000), default=30, show_default=True, help="How many.")
@click.option("--seed", type=int, default=1, show_default=True, help="Chooses victims, moments and times.")
def main(number: int, seed: int) -> None:
    """Kill processes of a stack of its own, and check after each launch that nothing is left."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    folder, chosen = Path(tempfile.mkdtemp(prefix="pangeo-binder-kills-")), random.Random(seed)
    killing = Killing(LocalStack(folder / "state"), chosen)
    try:
        killing.start()
        done = _rounds(killing, chosen, number)
        killing.finish()
    finally:
        killing.stack.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(done)} kills; nothing was left.")
    for what, times in sorted(count(done).items()):
        print(f"  {what}: {times}")
    print(f"Never killed: {', '.join(sorted(set(KINDS) - {kill.kind for kill in done})) or 'none'}")


def _rounds(killing: Killing, chosen: random.Random, number: int) -> list[Kill]:
    done: list[Kill] = []
    for planned in kills(chosen):
        began = time.monotonic()
        done += killing.round(planned)
        names = ", ".join(f"{each.kind} at {each.moment}" for each in planned.values())
        print(f"{len(done):>4}  {names}: {time.monotonic() - began:.0f} s", flush=True)
        if len(done) >= number:
            break
    return done


if __name__ == "__main__":
    main()
