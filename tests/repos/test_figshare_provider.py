"""Test links to figshare against a server that answers as its API does (https://docs.figshare.com/#public_article)."""

from __future__ import annotations

import pytest

from pangeo_binder.archives.base import list_files
from pangeo_binder.errors import HostUnavailable, RepoNotFound
from pangeo_binder.model import Click
from pangeo_binder.repos.figshare import FigshareProvider
from tests.contracts.archive import ArchiveContract
from tests.contracts.provider import SECRET, Provided
from tests.repos.recordserver import RecordServer, file_server, records, resolved

__all__ = ["file_server", "records"]


@pytest.fixture
def figshare(records: RecordServer) -> FigshareProvider:
    return FigshareProvider(records.url, f"{records.url}/v2", records.url)


class TestFigshareProvider(ArchiveContract):
    """Articles of figshare."""

    @pytest.fixture
    def provided(self, records: RecordServer, figshare: FigshareProvider) -> Provided:
        page = records.url
        return Provided(
            provider=figshare,
            typed=f"{page}/articles/dataset/Some_title/7/2",
            own=(
                *("10.6084/m9.figshare.7", "10.6084/m9.figshare.7.v1", "10.6084%2Fm9.figshare.7.v2"),
                *(
                    f"{page}/articles/dataset/Some_title/7",
                    f"{page}/articles/Some_title/7/1",
                    f"{page}/articles/new_type/a/7",
                ),
                *(
                    f"{page}/account/articles/x/7",
                    f"{page}/articles/code/2024/7/2?file=1",
                    "doi:10.6084/M9.figshare.7.v1",
                ),
            ),
            foreign=(),
            bad=(
                "7",
                "figshare",
                f"{page}/articles/x",
                f"{page}/s/0123456789abcdef",
                "https://example.org/articles/x/7",
            ),
            secret=(f"http://me:{SECRET}@127.0.0.1/articles/x/7", f"{page}/articles/x/7?private_link={SECRET}"),
            unknown_ref="",
            unknown_repository="10.6084/m9.figshare.404",
            revision="7[.]v[12]",
        )


@pytest.mark.parametrize(
    ("spec", "revision"),
    [
        ("10.6084/m9.figshare.7", "7.v2"),
        ("10.1234/article", "7.v2"),
        ("10.6084/m9.figshare.7.v1", "7.v1"),
    ],
)
async def test_a_link_without_a_version_leads_to_the_newest(
    records: RecordServer, figshare: FigshareProvider, spec: str, revision: str
) -> None:
    repo = await resolved(figshare, spec)
    assert (repo.ref.url, repo.revision) == (f"{records.url}/articles/_/7", revision)
    assert repo.files_url == f"{records.url}/v2/articles/7/versions/{revision[-1]}"
    link = figshare.link(Click("figshare", spec, "192.0.2.1", "/hub/"), repo)
    assert link.persistent_request == f"v2/figshare/10.6084/m9.figshare.{revision}"
    assert link.ref_url == f"{records.url}/articles/_/7/{revision[-1]}"


def test_the_pages_of_institutions_are_articles_of_figshare() -> None:
    ref = FigshareProvider().parse("https://uni.figshare.com/articles/dataset/Some_title/7/2")
    assert (ref.url, ref.ref) == ("https://figshare.com/articles/_/7", "2")


async def test_files_that_are_only_links_are_left_out(figshare: FigshareProvider) -> None:
    first, second = [await list_files(await resolved(figshare, f"10.6084/m9.figshare.7.v{n}")) for n in (1, 2)]
    assert (first.unpack, [(each.path, each.checksum) for each in first.files]) == (True, [("a.zip", "")])
    assert (second.unpack, [each.path for each in second.files]) == (False, ["a.csv"])
    assert second.files[0].checksum.startswith("md5:")


async def test_a_version_that_the_article_does_not_have_is_refused(figshare: FigshareProvider) -> None:
    with pytest.raises(RepoNotFound, match="Figshare does not have"):
        await resolved(figshare, "10.6084/m9.figshare.7.v3")


@pytest.mark.parametrize("answer", [{}, [1], [{"version": "x"}], 5, None])
async def test_bad_answers_are_one_sentence(records: RecordServer, figshare: FigshareProvider, answer: object) -> None:
    records.say("/v2/articles/7/versions", answer)
    with pytest.raises((HostUnavailable, RepoNotFound), match="Figshare"):
        await resolved(figshare, "10.6084/m9.figshare.7")
