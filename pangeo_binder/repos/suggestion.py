"""Suggest branches and tags to somebody whose link names a ref that does not exist. Pure.

Strangers choose how many names there are, how long and how similar, and the comparison of two names takes time with the
cube of their length. So a cheap estimate chooses few names, which are compared. Used by the binder, in a thread.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

SHOWN_NAMES = 5
COMPARED_NAMES = 40
NAME_CHARACTERS = 80
"""Longer names are neither compared nor shown."""
ESTIMATED_NAMES = 20_000

_HEADS, _TAGS = "refs/heads/", "refs/tags/"
_CUTOFF = 0.6  # of difflib.get_close_matches
_SPECIAL = frozenset(" `")


def suggest(wanted: str, refs: Iterable[str]) -> str:
    """Return a sentence for somebody who asked for `wanted`, from the full names of all refs."""
    names = list(refs)
    branches = [name.removeprefix(_HEADS) for name in names if name.startswith(_HEADS)]
    tags = [name.removeprefix(_TAGS) for name in names if name.startswith(_TAGS)]
    close_tags = close_names(wanted, tags)
    shown = [name for name in branches[: SHOWN_NAMES + 1] if _is_shown(name)]
    if branches and len(branches) <= SHOWN_NAMES and len(shown) == len(branches) and not close_tags:
        return f"Its branches are: {', '.join(branches)}."
    close = close_names(wanted, branches) + close_tags
    return f"Similar names: {', '.join(close[:SHOWN_NAMES])}." if close else "Check the name in the repository."


def close_names(wanted: str, names: list[str]) -> list[str]:
    """Return the most similar of `names`, best first, at most `SHOWN_NAMES`."""
    if not _is_shown(wanted):
        return []
    matcher = SequenceMatcher(None, "", wanted, autojunk=False)
    estimates = []
    for name in names[:ESTIMATED_NAMES]:
        if _is_shown(name):
            matcher.set_seq1(name)
            if matcher.real_quick_ratio() >= _CUTOFF and (estimate := matcher.quick_ratio()) >= _CUTOFF:
                estimates.append((estimate, name))
    nearest = [name for _, name in heapq.nlargest(COMPARED_NAMES, estimates)]
    return get_close_matches(wanted, nearest, SHOWN_NAMES)


def _is_shown(name: str) -> bool:
    return len(name) <= NAME_CHARACTERS and name.isprintable() and not _SPECIAL & set(name)
