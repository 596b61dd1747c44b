"""A rule cannot be dodged by writing a repository's address in another way, nor won by making one look alike."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pangeo_binder.model import RepoRef
from pangeo_binder.policy.address import address_of, canonical, pattern_of

SAME = [
    "https://github.com/cryptoking/miner",
    "https://GitHub.COM/CryptoKing/Miner",
    "http://github.com/cryptoking/miner",
    "HTTPS://github.com:443/cryptoking/miner",
    "https://github.com:0443/cryptoking/miner",
    "http://github.com:80/cryptoking/miner.git",
    "https://github.com/cryptoking/miner/",
    "https://github.com/cryptoking/miner.git/",
    "https://github.com/cryptoking/miner.git.git",
    "https://github.com//cryptoking///miner",
    "https://github.com/./cryptoking/x/../miner",
    "https://github.com/x/%2e%2e/cryptoking/miner",
    "https://github.com/%63ryptoking/miner",
    "https://github.com/%2563ryptoking/miner",
    "https://github.com/cryptoking/miner?x=1",
    "https://github.com/cryptoking/miner#x",
    "https://github.com./cryptoking/miner",
    "https://%67ithub.com/cryptoking/miner",
    "https://\uff47ithub.com/cryptoking/miner",
    "https://someone@github.com/cryptoking/miner",
    "https://a:b@github.com/cryptoking/miner",
    "https://www.github.com/cryptoking/miner",
    "https::https://github.com/cryptoking/miner",
    "git://github.com/cryptoking/miner",
    "ssh://git@github.com/cryptoking/miner",
    "ssh://git@github.com:22/cryptoking/miner",
    "ssh://git@ssh.github.com:443/cryptoking/miner",
    "git@github.com:cryptoking/miner.git",
    "github.com:/cryptoking/miner",
    "  https://github.com/cryptoking/miner  ",
]
OTHERS = [
    "https://github.com.example.org/cryptoking/miner",
    "https://github.com@example.org/cryptoking/miner",
    "https://github.com%2F@example.org/cryptoking/miner",
    "https://github.com%2Fcryptoking/miner",
    "https://github.com%23.example.org/cryptoking/miner",
    "https://example.org/github.com/cryptoking/miner",
    "https://example.org/?https://github.com/cryptoking/miner",
    "https://example.org#@github.com/cryptoking/miner",
    "git@example.org:github.com/cryptoking/miner",
    "https://github.com/cryptoking2/miner",
    "https://github.com/x/cryptoking/miner",
    "/github.com/cryptoking/miner",
    "file:///github.com/cryptoking/miner",
]


@pytest.mark.parametrize("url", SAME)
@pytest.mark.parametrize("rule", ["gh/cryptoking/*", "gh/CryptoKing/miner", "git/git@github.com:cryptoking/*"])
def test_every_spelling_is_one_repository(url: str, rule: str) -> None:
    assert canonical(RepoRef("git", url, "HEAD")) == "git/https://github.com/cryptoking/miner"
    assert pattern_of(rule).matches(address_of(url))


@pytest.mark.parametrize("url", OTHERS)
@pytest.mark.parametrize("rule", ["gh/cryptoking/*", "git/https://github.com/cryptoking/*", "gh/cryptoking/miner"])
def test_what_only_looks_alike_is_another_repository(url: str, rule: str) -> None:
    assert not pattern_of(rule).matches(address_of(url))


@pytest.mark.parametrize(
    ("pattern", "url", "matches"),
    [
        ("git/https://*.example.org/*", "https://git.example.org/a/b", True),
        ("git/https://*.example.org/*", "https://evil.net/x.example.org/b", False),
        ("git/https://example.org/*", "https://example.org:8443/a/b", False),
        ("git/https://example.org:8443/*", "https://example.org:8443/a/b", True),
        ("git/https://[::1]:8080/*", "http://[::1]:8080/a", True),
        ("git/https://[::1]:8080/*", "http://1:8080/a", False),
        ("gl/group/*", "https://gitlab.com/group/sub/repo", True),
        ("gl/group/*", "ssh://git@altssh.gitlab.com:443/group/repo", True),
        ("git//home/ada/*", "file:///home/ada/course", True),
        ("git/file:///home/ada/*", "/home/ada/../ada/course/.git", True),
        ("git//home/ada/*", "/home/Ada/course", False),
        ("git//home/ada/*", "/home/ada/../eve/course", False),
        ("*miner*", "https://example.org/a/Miner-2", True),
        ("*miner*", "https://example.org/a/b", False),
        ("*", "/anything", True),
    ],
)
def test_a_wildcard_reaches_as_far_as_it_says(pattern: str, url: str, matches: bool) -> None:
    assert pattern_of(pattern).matches(address_of(url)) is matches


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            " gh/a/b",
            "gh/a?/b",
            "gh/a",
            "gh/",
            "gh",
            "gl/a",
            "github.com/a/b",
            "https://github.com/a/*",
            "a/b",
        ),
        *(
            "git/github.com/a/*",
            "git/https://github.com",
            "git/https://github.com*",
            "gh/a/",
            "git/",
            "zenodo/10.5281/1",
        ),
    ],
)
def test_a_pattern_that_would_never_match_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"pattern|names no"):
        pattern_of(text)


_TEXT = st.text(alphabet=st.characters(codec="utf-8"), max_size=30)
_URLISH = st.one_of(
    _TEXT,
    st.builds("{}://{}/{}".format, st.sampled_from(["https", "ssh", "git", "file", "x"]), _TEXT, _TEXT),
    st.text(alphabet="abAB.:/@%2FEe?#[]~-*git", max_size=40),
)


@given(_URLISH)
def test_the_one_form_of_a_one_form_is_itself(url: str) -> None:
    once = address_of(url)
    assume(once.host)
    assert address_of(str(once).removeprefix("git/")) == once


@given(_URLISH)
def test_only_a_local_address_is_under_a_local_rule(url: str) -> None:
    is_local = url.strip().lower().startswith("file://") or "://" not in url
    assert is_local or not pattern_of("git//*").matches(address_of(url))


@given(st.text(alphabet=st.characters(codec="ascii", categories=["L", "N"]), min_size=1), st.data())
def test_no_encoding_and_no_case_dodges_a_rule(name: str, data: st.DataObject) -> None:
    spelled = "".join(
        data.draw(st.sampled_from([char, char.swapcase(), f"%{ord(char):02x}", quote(f"%{ord(char):02X}")]))
        for char in name
    )
    assert pattern_of(f"gh/{name}/*").matches(address_of(f"https://github.com/{spelled}/x"))
    assert not pattern_of(f"gh/{name}1/*").matches(address_of(f"https://github.com/{spelled}/x"))


@pytest.mark.parametrize(
    ("rule", "url", "other"),
    [
        ("zenodo/102", "https://zenodo.org/records/102", "https://zenodo.org/records/1021"),
        ("zenodo/*", "https://zenodo.org/records/102", "https://zenodo.org.example.org/records/102"),
        ("figshare/7", "https://figshare.com/articles/_/7", "https://figshare.com/articles/_/8"),
        ("hydroshare/*", f"https://www.hydroshare.org/resource/{'a' * 32}", "https://example.org/resource/a"),
        ("git/https://hydroshare.org/*", f"https://www.hydroshare.org/resource/{'a' * 32}", "https://example.org/x"),
        (
            f"swh/swh:1:dir:{'a' * 40}",
            f"https://archive.softwareheritage.org/swh:1:dir:{'a' * 40}",
            "https://x.org/swh",
        ),
        (
            "git/https://dataverse.harvard.edu/doi:10.7910/*",
            "https://dataverse.harvard.edu/doi:10.7910/DVN/ABC",
            "https://dataverse.harvard.edu/doi:10.5072/DVN/ABC",
        ),
    ],
)
def test_records_of_archives_are_named_by_kind_or_address(rule: str, url: str, other: str) -> None:
    assert pattern_of(rule).lets_in(address_of(url))
    assert not pattern_of(rule).matches(address_of(other))


@pytest.mark.parametrize(
    "rule", ["zenodo", "zenodo/", "zenodo/10.5281/zenodo.102", "doi/10.5281/x", "dataverse/*", "ckan/*"]
)
def test_a_rule_that_could_match_no_record_is_refused(rule: str) -> None:
    with pytest.raises(ValueError, match="names no"):
        pattern_of(rule)
