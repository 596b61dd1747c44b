"""What `helm install` prints about what is open in a release."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chart.conftest import Helm
from tests.chart.test_chart_values import EXAMPLES

Notes = Callable[..., str]
TOGETHER = ("binder.subdomains=false", "jupyterhub.proxy.chp.extraCommandLineFlags=null")
# `helm template` does not print the notes; as a template of their own they become a manifest
_AS_MANIFEST = """kind: Notes
metadata: {name: notes}
text: {{ include (print .Template.BasePath "/NOTES.txt") . | quote }}
"""


@pytest.fixture(scope="module")
def notes(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Notes:
    """Return a function that returns the notes for an example and `--set` values, without line breaks."""
    chart = tmp_path_factory.mktemp("notes") / "pangeo-binder"
    shutil.copytree(helm.chart, chart)
    (chart / "templates" / "notes.yaml").write_text(_AS_MANIFEST)
    with_notes = Helm(helm.tools, chart)

    def text(*values: str, example: Path = EXAMPLES[0]) -> str:
        options = [part for value in values for part in ("--set", value)]
        (found,) = [each["text"] for each in with_notes.template("-f", example, *options) if each["kind"] == "Notes"]
        return " ".join(found.split())

    return text


def test_a_release_with_the_default_values_has_nothing_unsafe_and_says_what_is_open(notes: Notes) -> None:
    text = notes()
    assert "UNSAFE" not in text and "is wide" not in text
    assert "The binder reaches 192.0.2.1/32 on port 443, 6443 (the API server)." in text
    assert "-X POST https://registry.example.org/v2/environments/blobs/uploads/" in text
    assert "Launches reach the internet on TCP port 80, 443, 873, 1094, 1095, 9418." in text
    assert "there is no login" in text and "All sessions have the same origin" not in text
    assert "Each session has a host name of its own below binder.example.org." in text
    assert "Sessions can set cookies for all names below binder.example.org, and for example.org" in text
    assert "without a seccomp profile (`builds.seccompProfile`) and without an AppArmor profile" in text


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (("registry.pushSecret=", "registry.allowAnonymousPush=true"), "UNSAFE: the registry takes images without"),
        (("networkPolicies.apiServer.networks={10.0.0.0/8}",), "10.0.0.0/8 is wide: links can probe these ports"),
        (("networkPolicies.gitNetworks={10.20.0.7/32}",), "Builds and the binder reach every port of 10.20.0.7/32"),
        (("registry.networks={10.20.0.0/28}",), "Builds and the binder reach every port of 10.20.0.0/28"),
        (("registry.namespace=registry",), "reach every pod of the namespace registry"),
        (("launches.internet=false",), "Launches do not reach the internet."),
        (("builds.seccompProfile=builds.json",), "Builds run without an AppArmor profile"),
        (("builds.hostUsers=false",), "Each build pod has its own user namespace."),
        (("builds.runtimeClassName=kata",), "Builds run in the runtime class kata."),
        (("binder.https=false", "ingress.tlsSecret="), "Users reach it without TLS"),
        (("binder.corsAllowOrigin=*",), "Pages of every site may launch"),
        (
            TOGETHER,
            "All sessions have the same origin (binder.example.org): in one browser, the code of one session can",
        ),
    ],
)
def test_a_value_that_opens_or_closes_more_is_named(values: tuple[str, ...], sentence: str, notes: Notes) -> None:
    assert sentence not in notes()
    assert sentence in notes(*values)


def test_without_network_policies_the_notes_name_no_limit_for_builds(notes: Notes) -> None:
    text = notes("networkPolicies.enabled=false", "networkPolicies.apiServer.networks=null")
    assert "UNSAFE: no NetworkPolicy protects binder" in text
    assert "Builds and the binder reach" not in text


def test_with_both_profiles_the_notes_do_not_mention_them(notes: Notes) -> None:
    assert "Builds run without" not in notes("builds.seccompProfile=builds.json", "builds.apparmorProfile=builds")
