"""A policy file with mistakes is refused with all of them, each with its line; nothing unenforced is accepted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pangeo_binder.errors import PolicyInvalid
from pangeo_binder.model import CatalogueEntry, StorageGrant
from pangeo_binder.names import new_launch_id
from pangeo_binder.policy.load import default_policy, load_policy
from pangeo_binder.policy.model import Policy
from pangeo_binder.storage.scope import scope_of

Write = Callable[[str | bytes], Path]


def problems(path: Path) -> list[str]:
    """The problems of a file, as `line: text`."""
    with pytest.raises(PolicyInvalid) as invalid:
        load_policy(path)
    assert "Traceback" not in invalid.value.message
    return [line.removeprefix(f"{path}:") for line in invalid.value.message.splitlines()]


def test_a_right_file_loads(policy: Policy) -> None:
    assert len(policy.rules) == 4
    assert policy.tiers["anonymous"].dask is None


def test_the_local_profile_has_a_policy() -> None:
    assert default_policy("local").rules[-1].is_everything


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("idle: 10m, max_age: 3h", "idle: 10m", "6: tiers.anonymous.server: The key `max_age` is missing."),
        ("egress: 200G", "egres: 200G", "11: tiers.pangeo.storage: There is no key `egres`. Did you mean `egress`?"),
        (
            "servers: 4",
            "flavour: 4",
            "16: rule 4: There is no key `flavour`. Known here: name, repo, user, group, tier, ",
        ),
        ("per_network: 2", "dask_core_hours_per_day: 2", "16: rule 4: There is no key `dask_core_hours_per_day`."),
        ("memory: 160G", "memory: 160GB", "10: tiers.pangeo.dask.memory: A size is a number and K, M, G or T"),
        ("memory: 2G", "memory: 2", "6: tiers.anonymous.server.memory: Memory is at least 256M; was a unit forgotten?"),
        ("idle: 15m", "idle: 15", "8: tiers.pangeo.server.idle: A duration is a whole number and s, m, h or d"),
        ("idle: 10m, start", "idle: 0s, start", "10: tiers.pangeo.dask.idle: This duration cannot be 0."),
        ("cpu: 1", "cpu: yes", "6: tiers.anonymous.server.cpu: This is a number."),
        ("cpu: 1", "cpu: 0", "6: tiers.anonymous.server.cpu: This is more than 0."),
        ("cpu: 1", "cpu: .inf", "6: tiers.anonymous.server.cpu: This is a finite number."),
        ("cpu: 1", 'cpu: "1"', "6: tiers.anonymous.server.cpu: This is a number."),
        ("servers: 4", "servers: 0", "16: rule 4.servers: This is at least 1."),
        ("servers: 4", "servers: 1.5", "16: rule 4.servers: This is a whole number."),
        ("servers: 4", "servers:", "16: `servers` has no value."),
        ("dask: none", "dask:", "6: `dask` has no value."),
        ("dask: none", "dask: off", "6: tiers.anonymous.dask: This has keys below it."),
        ("dask: none", "dask: nothing", "6: tiers.anonymous.dask: This is either `none` or has keys below it."),
        ("start: ready", "start: yes", "10: tiers.pangeo.dask.start: This is `none`, `try` or `ready`."),
        ("read: [cmip6, sst]", "read: cmip6", "11: tiers.pangeo.storage.read: This is a list."),
        ("url: gs://sst/v2", "url: ftp://sst/v2", "4: catalogue.sst: The url begins with s3://bucket"),
        ("url: gs://sst/v2", "url: gs://scratch/v2", "4: catalogue.sst: The url names the bucket `scratch`"),
        (
            '  - {repo: "*", tier: anonymous',
            '  - {repo: "*", deny: "x", tier: a',
            "16: rule 4: A rule has either `tier`",
        ),
        ("tier: anonymous, ", "", "16: rule 4: A rule has either `tier` or `deny`."),
        ('deny: "This repository is not allowed here."', 'deny: ""', "13: rule 1: `deny` is the sentence"),
        ('here."}', 'here.", servers: 3}', "13: rule 1: A rule with `deny` lets nobody in, so it has no limits."),
        ("gh/cryptoking/*", "github.com/cryptoking/*", "13: rule 1.repo: `github.com/cryptoking/*` names no place"),
        ("[gh/pangeo-gallery/*, ", '["*/pangeo-gallery/*", ', "14: rule 2: Anybody can host a repository"),
        ("[gh/pangeo-gallery/*, ", "[git/https://*/x/*, ", "14: rule 2: Anybody can host a repository"),
        ('{repo: "*", tier', '{repo: "*", name: A b, tier', "16: rule 4.name: A name has up to 40 small letters"),
        ("  anonymous:", "  Anonymous:", "6: tiers.Anonymous: A name has up to 40 small letters"),
    ],
)
def test_a_mistake_is_told_with_its_line(
    policy_file: Write, example_text: str, old: str, new: str, problem: str
) -> None:
    assert old in example_text
    found = problems(policy_file(example_text.replace(old, new, 1)))
    assert any(line.startswith(problem) for line in found), found


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "tier: anonymous,",
            "tier: anonymus,",
            "16: rule 4.tier: There is no tier `anonymus`. Did you mean `anonymous`?",
        ),
        ("[cmip6, sst]", "[cmip5, sst]", "11: tiers.pangeo.storage.read.0: The catalogue has no `cmip5`. Did you mean"),
        ("user: logged-in, ", "", "16: rule 4: This rule is never reached, because rule 3 matches everything."),
        ('  - {repo: "*", tier', '  - {repo: "gh/a/*", tier', "16: rule 4: The last rule is the default for everybody"),
        (
            "idle: 10m, max_age: 3h",
            "idle: 4h, max_age: 3h",
            "6: tiers.anonymous.server: `idle` is longer than `max_age`",
        ),
        (
            "idle: 10m, start",
            "idle: 9h, start",
            "10: tiers.pangeo.dask.idle: This is longer than the server's `max_age`",
        ),
        ("cores: 40", "cores: 1", "9: tiers.pangeo.dask: No worker would ever start"),
        ("memory: 160G", "memory: 7G", "9: tiers.pangeo.dask: No worker would ever start"),
        ("clusters: 1", "clusters: 21", "9: tiers.pangeo.dask: No worker would ever start"),
        ("start: ready", "start: try, start_workers: 21", "9: tiers.pangeo.dask: `start_workers` is more than the 20"),
        ("start: ready", "start: none, start_workers: 1", "9: tiers.pangeo.dask: `start_workers` needs `start: try`"),
        ("dask_cores: 120", "dask_cores: 30", "10: tiers.pangeo.dask.cores: No launch would be let in"),
        ("dask_cores: 80", "dask_cores: 30", "14: rule 2.dask_cores: No launch would be let in"),
        ("per_network: 2", "dask_cores: 2", "16: rule 4.dask_cores: The tier `anonymous` has no Dask to limit."),
        ("gs://sst/v2}", "s3://cmip6-pds/x}", "4: catalogue.sst: `cmip6` and `sst` are served as one bucket"),
        ("  sst:", "  scratch:", "4: catalogue.scratch: The name `scratch` is taken"),
        (
            'tier: pangeo, servers: 3, dask_cores: 80}\n  - {repo: "*", user: logged-in',
            'tier: pangeo, name: a}\n  - {name: a, repo: "*", user: logged-in',
            "15: rule 3.name: Rule 2 has the name `a` already.",
        ),
        (
            '{repo: "*", user: logged-in, tier: pangeo}',
            "{repo: [gl/Pangeo/*, gh/pangeo-gallery/*], tier: pangeo, name: again}",
            "15: rule 3: This rule never matches, because rule 2 has the same `repo`, `user` and `group`",
        ),
    ],
)
def test_parts_that_do_not_fit_together_are_told(
    policy_file: Write, example_text: str, old: str, new: str, problem: str
) -> None:
    assert old in example_text
    found = problems(policy_file(example_text.replace(old, new, 1)))
    assert any(line.startswith(problem) for line in found), found


def test_all_problems_are_told_at_once_in_the_order_of_lines(policy_file: Write, example_text: str) -> None:
    text = example_text.replace("cpu: 1", "cpu: one").replace("egress", "egres").replace("tier: anonymous", "tier: x")
    found = problems(policy_file(text.replace("us-west-2}", "us-west-2, url: s3://b}")))
    assert [int(line.partition(":")[0]) for line in found] == [3, 6, 11, 16]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "1: The file is empty."),
        ("# only a comment\n", "1: The file is empty."),
        ("- 1\n", "1: This has keys below it."),
        ("tiers: {}\nrules: []\n", "2: rules: This is empty."),
        ("total:\n\tservers: 1\n", "2: There is a tab here; YAML is indented with spaces."),
        ("total: [1\n", "2: This is not YAML: while parsing a flow sequence"),
        ("a: b: c\n", "1: This is not YAML: mapping values are not allowed here."),
        ("rules:\n  - {repo: *, tier: a}\n", "2: A text that begins with `*` needs quotes"),
        ("a: &x 1\nb: *x\n", "2: A text that begins with `*` needs quotes"),
        ("a: 1\n---\nb: 2\n", "2: This is not YAML: expected a single document"),
        ("total: 2024-13-01\n", "1: This is not YAML: this value is malformed"),
        ("a: !!python/object/apply:os.abort []\n", "1: This is not YAML: could not determine a constructor"),
        ("? [a]\n: 1\n", "1: This is not YAML: while constructing a mapping, found unhashable key."),
        ("a: " + "[" * 5000, "1: The file is nested too deeply."),
        (b"a: 1\nb: \xff\n", "2: The file is not UTF-8 from here on."),
        (b"a: 1\nb: \x01\n", "2: There is a control character here."),
        ("1: 2\n", "1: 1: A key is a text; put it in quotes."),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line(policy_file: Write, content: str | bytes, problem: str) -> None:
    found = problems(policy_file(content))
    assert any(line.startswith(problem) for line in found), found


def test_a_byte_order_mark_is_no_mistake(policy_file: Write, example_text: str) -> None:
    assert load_policy(policy_file(b"\xef\xbb\xbf" + example_text.encode()))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PolicyInvalid, match="There is no such file"):
        load_policy(tmp_path / "none.yaml")
    with pytest.raises(PolicyInvalid, match="The file cannot be read"):
        load_policy(tmp_path)


@pytest.mark.parametrize("url", ["s3://a", "gs://a/b/c", "file:///data/x", "s3://a.b-c/d=1"])
def test_storage_serves_every_entry_the_catalogue_accepts(policy_file: Write, example_text: str, url: str) -> None:
    policy = load_policy(policy_file(example_text.replace("gs://sst/v2", url)))
    grant = policy.tiers["pangeo"].storage
    assert grant is not None
    assert scope_of(new_launch_id(), grant.granted(policy.catalogue)).catalogue


@pytest.mark.parametrize(
    "url", ["http://a", "s3://", "file://host/x", "s3://a/../b", "s3://a/b//c", "s3://k@a", "s3://a?b"]
)
def test_what_storage_cannot_serve_the_catalogue_refuses(policy_file: Write, example_text: str, url: str) -> None:
    assert problems(policy_file(example_text.replace("gs://sst/v2", f'"{url}"')))
    if url != "file://host/x":
        with pytest.raises(ValueError, match="catalogue entry"):
            scope_of(new_launch_id(), StorageGrant(1, 1, read=(CatalogueEntry("sst", url),)))
