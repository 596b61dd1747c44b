"""The labels and annotations by which every Kubernetes object of a launch can be attributed to it. Pure."""

from __future__ import annotations

from typing import Final

from .. import names
from ..model import Launch

COMPONENT_LABEL: Final = "app.kubernetes.io/component"
SERVER_ANNOTATION: Final = f"{names.LABEL}/server"
"""The user and server of the launch, as `user/server`: by it the reapers ask the hub about the server."""
_ANNOTATION_CHARACTERS: Final = 500


def launch_labels(launch: Launch) -> dict[str, str]:
    """Return the labels of every object of `launch`."""
    return {names.LAUNCH_LABEL: launch.id, names.TIER_LABEL: launch.grant.tier, **names.MANAGED_LABELS}


def server_annotation(launch: Launch) -> dict[str, str]:
    """Return the annotation that names the launch's server."""
    return {SERVER_ANNOTATION: f"{launch.user}/{launch.server}"}


def launch_annotations(launch: Launch) -> dict[str, str]:
    """Return what an operator wants to read about a launch."""
    ref = launch.repo.ref
    texts = {"repo": ref.url, "ref": ref.ref, "commit": launch.repo.revision, "rule": launch.grant.rule}
    annotations = {f"{names.LABEL}/{name}": annotation_text(text) for name, text in texts.items()}
    return {**annotations, **server_annotation(launch)}


def annotation_text(text: str, characters: int = _ANNOTATION_CHARACTERS) -> str:
    """Return a stranger's `text` on one line, at most `characters` long, with `?` for what a terminal does not show."""
    return "".join(each if each.isprintable() else "?" for each in text[:characters])
