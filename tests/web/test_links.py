"""Run the table of links through the pages, the commands, and the form in a browser."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import aiohttp
import pytest
from click.testing import CliRunner, Result

from pangeo_binder.cli.badge import badge
from pangeo_binder.cli.explain import explain
from pangeo_binder.cli.launch import LaunchFailed, _addresses, _print_event
from pangeo_binder.cli.reporef import read_repo
from pangeo_binder.cli.terminal import make_console
from pangeo_binder.errors import HostUnavailable, RepoNotFound, UserError
from pangeo_binder.git import Git, GitAccess
from pangeo_binder.model import RepoRef
from pangeo_binder.policy.address import canonical
from pangeo_binder.repos.ckan import CkanProvider
from pangeo_binder.repos.pasted import read_address, repository_in
from pangeo_binder.repos.registry import make_providers
from tests.web.links import BAD, BAD_FILES, BAD_PATHS, GOOD, INTERNAL, OLD, PASTED, RECORDS, Means
from tests.web.webapp import SmallLaunch, WebApp, exactly

HUB = "http://hub.example"
ARCHIVES = {means.kind for means in RECORDS.values()}


def test_the_table_is_large() -> None:
    assert len(GOOD) + len(OLD) + len(BAD) + len(BAD_PATHS) + 2 * len(BAD_FILES) + len(INTERNAL) + len(PASTED) > 500


@pytest.fixture
def url(web: WebApp) -> str:
    """The address of a binder with all kinds of repositories."""
    return web.start(SmallLaunch([]), providers=make_providers())


async def page(http: aiohttp.ClientSession, address: str) -> tuple[int, str]:
    """Return the status and the text of a page; `address` goes out as it is written."""
    async with http.get(exactly(address), allow_redirects=False) as response:
        assert not response.headers.get("Location")
        return response.status, await response.text()


async def test_pages_read_good_links(url: str, http: aiohttp.ClientSession) -> None:
    for link, means in GOOD.items():
        status, text = await page(http, f"{url}/v2/{link}")
        opens = re.search(r'data-urlpath="([^"]*)"', text)
        assert status == 200 and opens and html.unescape(opens[1]) == means.opens, link
        assert f">{html.escape(means.url)}<" in text, link
        assert (f"at <code>{html.escape(means.ref)}</code>" in text) is (means.kind not in ARCHIVES), link


async def test_pages_refuse_bad_links(url: str, http: aiohttp.ClientSession) -> None:
    for link in BAD:
        status, text = await page(http, f"{url}/v2/{link}")
        assert status in (400, 404) and "data-stream" not in text and "secret" not in text, link


async def test_pages_lead_out_of_no_session(url: str, http: aiohttp.ClientSession) -> None:
    queries = [f"urlpath={path}" for path in BAD_PATHS]
    queries += [f"{name}={path}" for name in ("labpath", "filepath") for path in BAD_FILES]
    for query in queries:
        status, text = await page(http, f"{url}/v2/gh/org/repo/main?{query}")
        assert status == 400 and "data-stream" not in text, query


async def test_old_links_redirect_to_new_ones(url: str, http: aiohttp.ClientSession) -> None:
    for link, new in OLD.items():
        async with http.get(exactly(f"{url}/repo/{link}"), allow_redirects=False) as response:
            assert response.status == 302 and response.headers["Location"] == f"/v2/{new}", link


def run(command: Any, *arguments: str) -> Result:
    result = CliRunner().invoke(command, list(arguments))
    assert result.exit_code == 0 or isinstance(result.exception, UserError | SystemExit), result.exception
    return result


def test_commands_read_good_links() -> None:
    for link, means in GOOD.items():
        stream, path = _addresses(f"{HUB}/v2/{link}", "", "", "")
        assert stream == f"{HUB}/build/{link.partition('?')[0]}" and path == means.opens, link
        named = read_repo(f"{HUB}/v2/{link}")
        assert Means(named.repo.provider, named.repo.url, named.repo.ref, means.opens) == means, link
        # the binder reads the rewritten link in the same way
        stream, path = _addresses(f"{HUB}/v2/{link}", "", HUB, "")
        assert _meaning(stream) == means[:3] and path == means.opens, link
        shown = named.link(HUB)
        assert _meaning(shown) == means[:3] and _addresses(shown, "", "", "")[1] == means.opens, link


@pytest.mark.usefixtures("elsewhere")
def test_badge_and_explain_read_good_links() -> None:
    for link, means in GOOD.items():
        explained = run(explain, "--", f"{HUB}/v2/{link}")
        shown = " at ".join(filter(None, (canonical(RepoRef(*means[:3])), means.ref)))
        assert explained.exit_code == 0 and f" {shown}\n" in explained.stdout, link
        target = re.search(r"\]\(([^)]*)\)$", run(badge, "--hub", HUB, "--", f"{HUB}/v2/{link}").stdout.strip())
        assert target and _meaning(target[1]) == means[:3], link
        assert _addresses(target[1], "", "", "")[1] == means.opens, link


def _meaning(address: str) -> tuple[str, str, str]:
    _, _, kind, spec = address.removeprefix(HUB).partition("?")[0].split("/", 3)
    provider = next(each for each in make_providers() if each.name == kind)
    ref = provider.parse(spec)
    return ref.provider, ref.url, ref.ref


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty current directory, because the commands also read folders."""
    monkeypatch.chdir(tmp_path)
    yield


@pytest.mark.usefixtures("elsewhere")
def test_commands_refuse_bad_links() -> None:
    local = {link for link in BAD if link.startswith(("git/file%3A%2F%2F", "git/%2F"))}  # folders are the user's own
    for link in BAD:
        if link in local:
            continue
        for command, options in ((badge, ("--hub", HUB)), (explain, ())):
            for text in (link, f"{HUB}/v2/{link}"):
                result = run(command, *options, "--", text)
                assert result.exit_code == 1 and not result.stdout and "secret" not in str(result.exception), (
                    command.name,
                    text,
                )
        with pytest.raises(UserError):
            _addresses(f"{HUB}/v2/{link}", "", HUB, "")


def test_commands_lead_out_of_no_session() -> None:
    queries = [f"urlpath={path}" for path in BAD_PATHS]
    queries += [f"{name}={path}" for name in ("labpath", "filepath") for path in BAD_FILES]
    for query in queries:
        link = f"{HUB}/v2/gh/org/repo/main?{query}"
        for hub in ("", HUB):
            with pytest.raises(UserError):
                _addresses(link, "", hub, "")
        assert run(badge, "--hub", HUB, "--", link).exit_code == 1, query
    for path in ("//evil.example", "\\\\evil.example", "http:evil", "javascript:x", "../hub", "a\tb", "\n//evil"):
        assert run(badge, "--hub", HUB, "--urlpath", path, "gh/org/repo").exit_code == 1, path


@pytest.mark.usefixtures("elsewhere")
def test_commands_read_pasted_addresses() -> None:
    for text, link in PASTED.items():
        result = run(badge, "--hub", HUB, "--", text)
        target = re.search(r"\]\(([^)]*)\)$", result.stdout.strip())
        assert (target[1] if target else "") == (f"{HUB}/v2/{link}" if link else ""), text
        explained = run(explain, "--", text)
        assert (explained.exit_code == 0) is bool(link), text
        if link and "/v2/" not in text:
            assert _addresses(text, "", HUB, "")[0] == f"{HUB}/build/{link.partition('?')[0]}", text


async def test_git_contacts_no_private_network() -> None:
    for address in INTERNAL:
        with pytest.raises(HostUnavailable, match="cannot be reached from this binder"):
            await Git(address, GitAccess()).reach()


async def test_no_site_in_a_private_network_is_asked_for_a_dataset() -> None:
    for address in INTERNAL:
        if address.startswith("http"):
            ckan = CkanProvider()
            with pytest.raises(RepoNotFound, match="not at a public address"):
                await ckan.resolve(ckan.parse(quote(f"{address}/dataset/x", safe="")))


ARCHIVED = {
    "10.5281/zenodo.3242074": ("zenodo", "10.5281/zenodo.3242074"),
    "doi:10.5281/zenodo.3242074": ("zenodo", "10.5281/zenodo.3242074"),
    "https://doi.org/10.5281/zenodo.3242074": ("zenodo", "10.5281/zenodo.3242074"),
    "https://zenodo.org/records/3242074": ("zenodo", "3242074"),
    "https://zenodo.org/record/3242074#x": ("zenodo", "3242074"),
    "https://dx.doi.org/10.7910/DVN/TJCLKP": ("doi", "10.7910/DVN/TJCLKP"),
    "10.6084/m9.figshare.9782777.v3": ("figshare", "10.6084/m9.figshare.9782777.v3"),
    "https://mybinder.org/v2/zenodo/10.5281/zenodo.3242074/": ("zenodo", "10.5281/zenodo.3242074"),
    "https://mybinder.org/v2/zenodo/10.5281/zenodo.3242074/?labpath=a.ipynb": ("zenodo", "10.5281/zenodo.3242074"),
    "https://github.com/org/repo": ("gh", "org/repo"),
    "https://gitlab.com/10.5281/zenodo.1": ("gl", "10.5281/zenodo.1"),
}
"""Addresses of records, which kinds without refs detect."""


def test_kinds_without_refs_detect_records() -> None:
    forms = {provider.name: provider.form for provider in make_providers()}
    for text, (kind, repo) in ARCHIVED.items():
        found = read_address(text, forms)
        assert found and (found.kind, repository_in(found.repo, forms[found.kind])) == (kind, repo), text


@pytest.mark.usefixtures("elsewhere")
def test_commands_read_addresses_of_records() -> None:
    providers = {provider.name: provider for provider in make_providers()}
    for text, (kind, repo) in ARCHIVED.items():
        ref = "" if kind in ARCHIVES else "/HEAD"
        meant = providers[kind].parse(f"{quote(repo, safe='') if kind == 'gl' else repo}{ref}")
        named = read_repo(text)
        assert named.repo == meant, text
        for address in (named.link(HUB), _addresses(text, "", HUB, "")[0]):
            assert _meaning(address) == (meant.provider, meant.url, meant.ref), text
        assert f" {canonical(meant)}" in run(explain, "--", text).stdout, text
        assert f"{HUB}/v2/{kind}/" in run(badge, "--hub", HUB, "--", text).stdout, text


@pytest.mark.browser
async def test_the_form_detects_records(url: str, chromium: Any) -> None:
    forms = [(provider.name, provider.form) for provider in make_providers()]
    kinds = [
        {"id": name, "detect": form.detect, "pattern": form.pattern, "ref": form.default_ref, "encode": form.url_encode}
        for name, form in forms
    ]
    script = """async ([texts, kinds]) => {
        const { read } = await import("/static/address.js");
        return texts.map((text) => {
            const found = read(text, kinds);
            const { detect } = kinds.find(({ id }) => id === found?.kind) ?? {};
            return [found?.kind, found?.repo.match(new RegExp(detect))?.groups?.repo ?? found?.repo];
        });
    }"""
    found = await evaluated(chromium, url, script, [list(ARCHIVED), kinds])
    assert dict(zip(ARCHIVED, map(tuple, found), strict=True)) == ARCHIVED


@pytest.mark.browser
async def test_the_browser_opens_the_path_unchanged_and_inside_the_session(url: str, chromium: Any) -> None:
    good = sorted({means.opens for means in GOOD.values()})
    bad = [unquote(path, errors="replace") for path in (*BAD_PATHS, *BAD_FILES)]
    script = """async (paths) => {
        const { inside, serverOf } = await import("/static/enter.js");
        return paths.map((path) => inside(serverOf("/user/x"), path).href);
    }"""
    session = f"{url}/user/x/"
    opened = await evaluated(chromium, url, script, [*good, *bad])
    assert [unquote(each.removeprefix(session)) for each in opened[: len(good)]] == [unquote(path) for path in good]
    assert all(each.startswith(session) for each in opened)


async def evaluated(chromium: Any, url: str, script: str, given: Any) -> Any:
    """Return what `script` returns for `given` on the landing page."""
    context = await chromium.new_context()
    try:
        tab = await context.new_page()
        await tab.goto(url)
        return await tab.evaluate(script, given)
    finally:
        await context.close()


@pytest.mark.browser
async def test_the_form_reads_pasted_addresses(url: str, chromium: Any) -> None:
    script = """async (texts) => {
        const form = document.getElementById("maker");
        const made = [];
        for (const text of texts) {
            form.reset();
            form.elements.repo.value = text;
            form.elements.repo.dispatchEvent(new Event("change", { bubbles: true }));
            made.push(document.getElementById("made-url").value);
        }
        return made;
    }"""
    made = await evaluated(chromium, url, script, list(PASTED))
    wrong = {
        text: (found, link)
        for (text, link), found in zip(PASTED.items(), made, strict=True)
        if found != (f"{url}/v2/{link}" if link else "")
    }
    assert not wrong, json.dumps(wrong, indent=1)


def test_a_link_is_launched_at_its_own_binder_unless_another_is_named() -> None:
    link = "https://mybinder.org/v2/gh/org/repo/dev?labpath=a.ipynb"
    assert _addresses(link, "", "", "") == ("https://mybinder.org/build/gh/org/repo/dev", "lab/tree/a.ipynb")
    assert _addresses(link, "", HUB, "") == (f"{HUB}/build/gh/org/repo/dev", "lab/tree/a.ipynb")
    assert _addresses(link, "HEAD", "", "")[0] == "https://mybinder.org/build/gh/org/repo/HEAD"


def test_the_command_says_how_to_launch_the_default_branch() -> None:
    event = {"phase": "failed", "message": "No branch.\n", "hint": "Its branches are: dev.", "reason": "ref_not_found"}
    with pytest.raises(LaunchFailed, match=r"branches are: dev\. Or launch its default branch with --ref HEAD"):
        _print_event(make_console(stderr=True), event)
