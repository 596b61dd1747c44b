"""The commands check, explain and badge, as a person runs them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pangeo_binder.cli.badge import badge
from pangeo_binder.cli.check import check
from pangeo_binder.cli.explain import explain
from pangeo_binder.cli.reporef import build_link, link, local_hub, parse_repo
from pangeo_binder.cli.status import rule_text
from pangeo_binder.errors import BadLink
from pangeo_binder.model import Launch, RepoRef
from pangeo_binder.policy.match import FOREIGN
from pangeo_binder.policy.model import Policy
from pangeo_binder.repos.registry import make_providers, provider_for

HUB = "https://binder.example.org/"


@pytest.fixture
def path(policy_file: Callable[[str], Path], example_text: str) -> str:
    """A policy file without mistakes."""
    return str(policy_file(example_text))


def test_check_says_that_there_are_no_problems(path: str) -> None:
    result = CliRunner().invoke(check, [path])
    assert result.exit_code == 0
    assert result.output == f"{path}: no problems. 2 tiers, 4 rules.\n"


def test_check_prints_every_problem_and_fails(policy_file: Callable[[str], Path], example_text: str) -> None:
    path = policy_file(example_text.replace("cpu: 1", "cpu: x").replace("tier: anonymous", "tier: nobody"))
    result = CliRunner().invoke(check, [str(path)])
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        f"{path}:6: tiers.anonymous.server.cpu: This is a number.",
        f"{path}:16: rule 4.tier: There is no tier `nobody`. There is: anonymous, pangeo.",
    ]


def _explain(*args: str) -> Result:
    return CliRunner().invoke(explain, args, catch_exceptions=False)


def test_explain_tells_grant_rule_and_reason(path: str) -> None:
    lines = _explain("gh/pangeo-gallery/ocean/main", "--policy", path).output.splitlines()
    assert lines[0] == "Repository  git/https://github.com/pangeo-gallery/ocean at main"
    assert lines[1] == "Tier        pangeo"
    assert "Server      2 CPU, 8G; ends 15m after the last activity, and at the age of 8h" in lines
    assert any(line.endswith("workers: 20, together 40 cores and 160G") for line in lines)
    assert any(line.endswith("reads: cmip6, sst") for line in lines)
    assert any("3 servers at a time, 80 Dask cores at a time" in line for line in lines)
    assert lines[-2:] == [
        "Reason      Rule 2 (gh/pangeo-gallery/*, gl/pangeo/*) gives the tier pangeo.",
        f"Otherwise   Rule 4 (*) gives the tier anonymous. {FOREIGN}",
    ]


def test_explain_knows_that_a_record_is_always_its_own(policy_file: Callable[[str], Path], example_text: str) -> None:
    path = str(policy_file(example_text.replace("gl/pangeo/*", "git/https://demo.ckan.org/dataset/*")))
    shown = _explain("ckan/https%3A%2F%2Fdemo.ckan.org%2Fdataset%2Fx", "--policy", path).output
    assert "Tier        pangeo" in shown and "Otherwise" not in shown


def test_explain_knows_who_asks(path: str) -> None:
    anonymous = _explain("https://example.org/a/b", "--policy", path, "--network", "203.0.113.7").output
    assert "Otherwise" not in anonymous, "whose commit it is makes no difference"
    assert "Tier        anonymous" in anonymous and "2 servers from your network (203.0.113.7)" in anonymous
    assert "Tier        pangeo" in _explain("https://example.org/a/b", "--user", "ada", "--policy", path).output


def test_explain_says_how_running_launches_are_counted(
    path: str, policy_file: Callable[[str], Path], example_text: str
) -> None:
    output = _explain("gh/pangeo-gallery/ocean/main", "--policy", path).output
    assert "Rule        number 2, shared by all its launches" in output
    assert "running launches count for it by what it says (sha256:" in output
    assert "launches whose rule is no longer in the policy count for the totals only" in output
    named = policy_file(
        example_text.replace("- {repo: [gh/pangeo-gallery", "- {name: gallery, repo: [gh/pangeo-gallery")
    )
    output = _explain("gh/pangeo-gallery/ocean/main", "--policy", str(named)).output
    assert "running launches count for it by its name, gallery" in output
    assert "Reason      Rule 2, gallery (gh/pangeo-gallery/*, gl/pangeo/*) gives the tier pangeo." in output


def test_status_marks_launches_of_a_rule_that_is_gone(policy: Policy, launch_with: Callable[..., Launch]) -> None:
    rules = (policy.rules[1].model_copy(update={"name": "gallery"}), *policy.rules[2:])
    policy = policy.model_copy(update={"rules": rules})
    assert rule_text("gallery", policy) == "gallery"
    assert rule_text(policy.rules[0].content, policy) == "gallery", "started before the rule got its name"
    assert rule_text(policy.rules[2].identity, policy) == "number 3"
    assert rule_text("pangeo", policy) == "pangeo (no longer in the policy)"
    assert rule_text("pangeo", None) == "pangeo (the policy file has mistakes)"


def test_explain_tells_a_denial(path: str) -> None:
    output = _explain("git@github.com:CryptoKing/x.git", "--policy", path).output
    assert "Denied      This repository is not allowed here." in output
    assert "Reason      Rule 1 (gh/cryptoking/*) denies this launch." in output
    assert "Tier" not in output


def test_explain_without_a_policy_uses_the_local_one(tmp_path: Path) -> None:
    assert "Tier        laptop" in _explain(str(tmp_path)).output


@pytest.mark.parametrize(
    ("text", "url", "ref"),
    [
        ("gh/org/repo", "https://github.com/org/repo", "HEAD"),
        ("gh/org/repo/feature/x", "https://github.com/org/repo", "feature/x"),
        ("gh/org/repo.git/v1", "https://github.com/org/repo", "v1"),
        ("gl/org%2Fsub%2Frepo/v1", "https://gitlab.com/org/sub/repo", "v1"),
        ("gl/org/repo/v1", "https://gitlab.com/org/repo", "v1"),
        ("gist/user/0123abcd", "https://gist.github.com/user/0123abcd", "HEAD"),
        ("gist/user/0123abcd/4567", "https://gist.github.com/user/0123abcd", "4567"),
        ("git/https%3A%2F%2FExample.org%2Fa.git/v1", "https://example.org/a.git", "v1"),
        ("git/https://example.org/a/b", "https://example.org/a/b", "HEAD"),
        ("https://example.org/a/b", "https://example.org/a/b", "HEAD"),
        ("git@example.org:a/b.git", "git@example.org:a/b.git", "HEAD"),
    ],
)
def test_a_repository_is_read_as_people_type_it(text: str, url: str, ref: str) -> None:
    kind = text.partition("/")[0]
    assert parse_repo(text) == RepoRef(kind if kind in ("gh", "gist", "gl") else "git", url, ref)
    assert parse_repo(text, "other").ref == "other"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("https://zenodo.org/records/5", "zenodo/https://zenodo.org/records/5"),
        ("https://doi.org/10.5281/zenodo.5", "zenodo/https://zenodo.org/records/5"),
        ("doi:10.7910/DVN/TJCLKP", "doi/https://doi.org/10.7910/DVN/TJCLKP"),
        ("https://uni.figshare.com/articles/dataset/a/7/2", "figshare/https://figshare.com/articles/_/7"),
        ("ckan/https://demo.ckan.org/dataset/x", "ckan/https://demo.ckan.org/dataset/x"),
        ("https://demo.ckan.org/dataset/x", "ckan/https://demo.ckan.org/dataset/x"),
    ],
)
def test_a_record_is_read_as_people_type_it(text: str, key: str) -> None:
    assert parse_repo(text).key == key
    with pytest.raises(BadLink, match="no branch or tag"):
        parse_repo(text, "main")


@pytest.mark.parametrize("text", ["", "gh/org", "nowhere", "gh//", "git/", "ext::sh -c x", "https://u:p@h/x", "-x:y"])
def test_what_names_no_repository_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadLink):
        parse_repo(text)


@pytest.mark.parametrize(
    "text",
    [
        "gh/org/repo/feature/x",
        "gist/user/0123abcd",
        "gl/org%2Fsub%2Frepo/v1",
        "git@example.org:a/b.git",
        "https://example.org/~a/b+c.git",
        "zenodo/10.5281/zenodo.5",
        "figshare/10.6084/m9.figshare.7.v1",
        "dataverse/10.7910/DVN/TJCLKP",
        "ckan/https%3A%2F%2Fdemo.ckan.org%2Fdataset%2Fx%3Factivity_id%3D1",
        f"swh/swh:1:dir:{'a' * 40}",
    ],
)
def test_the_binder_reads_from_a_link_what_was_put_in(text: str) -> None:
    repo = parse_repo(text)
    for address in (link(HUB, repo), build_link(HUB, repo)):
        _, provider, spec = address.removeprefix(HUB).split("/", 2)
        assert provider_for(make_providers(), provider).parse(spec) == repo


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("markdown", "[![Launch]({hub}badge_logo.svg)]({link})"),
        ("rst", ".. image:: {hub}badge_logo.svg\n   :alt: Launch\n   :target: {link}"),
        ("html", '<a href="{link}"><img src="{hub}badge_logo.svg" alt="Launch"></a>'),
    ],
)
@pytest.mark.parametrize("hub", [HUB, HUB.rstrip("/")])
def test_a_badge_leads_to_the_launch_link(form: str, text: str, hub: str) -> None:
    args = ["gh/org/repo", "--ref", "main", "--hub", hub, "--urlpath", "lab/tree/a (1).ipynb", "--format", form]
    target = f"{HUB}v2/gh/org/repo/main?urlpath=lab%2Ftree%2Fa%20%281%29.ipynb"
    result = CliRunner().invoke(badge, args, catch_exceptions=False)
    assert result.output == text.format(hub=HUB, link=target) + "\n"


def test_a_badge_of_an_unknown_form_is_refused() -> None:
    assert CliRunner().invoke(badge, ["gh/org/repo", "--format", "pdf"]).exit_code == 2


def test_without_a_stack_the_local_binder_is_where_up_puts_it(tmp_path: Path) -> None:
    assert local_hub(tmp_path) == "http://127.0.0.1:8585/"


@pytest.mark.parametrize("command", [check, explain, badge])
def test_help_shows_an_example(command: object) -> None:
    result = CliRunner().invoke(command, ["--help"])  # type: ignore[arg-type]  # each is a click.Command
    assert result.exit_code == 0 and "pangeo-binder " in result.output


def test_the_commands_import_what_is_slow_only_when_they_run() -> None:
    slow = {"pydantic", "yaml", "asyncio", "aiohttp", "rich"}
    program = "import sys; import pangeo_binder.cli.badge, pangeo_binder.cli.check, pangeo_binder.cli.explain"
    command = [sys.executable, "-c", f"{program}; print(*sys.modules)"]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    assert not slow & set(told.stdout.split())
