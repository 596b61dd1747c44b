"""Conformance tests of providers that ask an archive: each failure of its API is one sentence, and no repository.

A test of a driver subclasses `ArchiveContract`, defines the fixture `provided`, and imports `file_server`, which has to
be what the provider asks.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from pangeo_binder import peers
from pangeo_binder.archives import api
from pangeo_binder.errors import HostBusy, HostUnavailable, RepoNotFound, UserError
from tests.contracts.provider import SECRET, Provided, ProviderContract
from tests.repos.fileserver import Answer, FileServer, served

BODY = json.dumps({"id": SECRET, "message": SECRET}).encode()
STATUSES = (400, 401, 403, 404, 410, 418, 429, 451, 500, 502, 503, 504)
LATER = ("120", "soon")
NO_JSON = (b"", b"<html>", b"\xff\xfe", b"[" * 100_000, b"1" * 5000, BODY[:-1])
REDIRECTS = (301, 302, 303, 307, 308)
NOWHERE = ("", "file:///etc/passwd", "//169.254.169.254/", "http://[::1]:1/", "http://[", f"?{SECRET}")
ODD = (None, True, -1, 1.5, float("inf"), 10**400, "", "x", "../x", [], [1], {}, {"x": 1})
"""What an archive does not say in any member of an answer."""
FILES = ("files", "resources")
"""Members that only a build reads."""


class ArchiveContract(ProviderContract):
    """The conformance tests of providers that ask an archive."""

    async def test_an_answer_with_an_error_is_one_sentence(self, provided: Provided, file_server: FileServer) -> None:
        await self.fails_with(provided, file_server, *(Answer(status, BODY) for status in STATUSES))
        await self.fails_with(provided, file_server, *(Answer(status) for status in (204, 304)))
        await self.fails_with(provided, file_server, *(Answer(429, BODY, {"Retry-After": each}) for each in LATER))

    async def test_an_answer_that_is_not_json_is_one_sentence(
        self, provided: Provided, file_server: FileServer
    ) -> None:
        await self.fails_with(provided, file_server, *(Answer(body=body) for body in NO_JSON))
        await self.fails_with(
            provided,
            file_server,
            Answer(body=BODY, headers={"Content-Length": "1000", "Connection": "close"}),
            Answer(body=gzip.compress(BODY), headers={"Content-Encoding": "gzip"}),
        )

    async def test_an_answer_of_another_form_is_one_sentence(self, provided: Provided, file_server: FileServer) -> None:
        asked = await self.asked(provided, file_server)
        for path, spec in {file_server.files[path]: (path, spec) for path, spec in asked.items()}.values():
            good = await provided.repo(spec)
            for odd in _odd(json.loads(file_server.files[path])):
                file_server.answers = {path: Answer(body=json.dumps(odd).encode())}
                try:
                    assert await provided.repo(spec) == good, f"{path} answered {odd}"
                except UserError as error:
                    self.check(error)
            file_server.answers = {}

    async def test_redirects_are_followed_within_the_server(self, provided: Provided, file_server: FileServer) -> None:
        for path, spec in (await self.asked(provided, file_server)).items():
            good = await provided.repo(spec)
            file_server.files[f"/moved{path}"] = file_server.files[path]
            file_server.moved[path] = f"/moved{path}"
            file_server.asked.clear()
            assert await provided.repo(spec) == good
            assert any("/moved" in each for each in file_server.asked)
            del file_server.moved[path]

    async def test_redirects_to_another_server_are_not_followed(
        self, provided: Provided, file_server: FileServer
    ) -> None:
        with served(FileServer()) as other:
            moved = (Answer(status, headers={"Location": f"{other.url}/{SECRET}"}) for status in REDIRECTS)
            await self.fails_with(provided, file_server, *moved)
            assert other.asked == []

    async def test_redirects_to_nothing_or_without_end_are_one_sentence(
        self, provided: Provided, file_server: FileServer
    ) -> None:
        await self.fails_with(provided, file_server, *(Answer(302, headers={"Location": each}) for each in NOWHERE))

    async def test_an_archive_that_does_not_answer_is_one_sentence(
        self, provided: Provided, file_server: FileServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, spec = next(iter((await self.asked(provided, file_server)).items()))
        monkeypatch.setattr(api, "_TIMEOUT", aiohttp.ClientTimeout(total=0.1))
        monkeypatch.setattr(peers, "_QUICK_SECONDS", 0)
        file_server.silent.add(path)
        self.check(await self.refused(provided, spec, HostUnavailable))

    @staticmethod
    async def asked(provided: Provided, server: FileServer) -> dict[str, str]:
        """Return the paths that are asked to resolve the specs, each with a spec for which it is asked."""
        found: dict[str, str] = {}
        for spec in provided.own:
            server.asked.clear()
            await provided.repo(spec)
            for each in server.asked:
                found.setdefault(each.partition(" ")[2], spec)
        assert found
        return found

    async def fails_with(self, provided: Provided, server: FileServer, *answers: Answer) -> None:
        """Check that each path that answers like this fails the look-up with a sentence, and only that look-up."""
        for path, spec in (await self.asked(provided, server)).items():
            for answer in answers:
                server.answers, server.asked = {path: answer}, []
                with pytest.raises((RepoNotFound, HostUnavailable, HostBusy)) as refused:
                    await provided.repo(spec)
                    pytest.fail(f"accepted {answer} of {path}")
                self.check(refused.value)
                assert len(server.asked) <= 12
                server.answers = {}
                await provided.repo(spec)

    @staticmethod
    def check(error: UserError) -> None:
        """Check that people can read an error, and that it repeats nothing of an answer."""
        assert error.message.endswith(".") and error.hint
        assert SECRET not in f"{error} {error.message} {error.hint}"


def _odd(value: Any) -> Iterator[Any]:
    """Yield `value` with each of its parts, and itself, replaced by each odd value; of a list its last two parts."""
    yield from (odd for odd in ODD if odd != value)
    if isinstance(value, dict):
        for key, part in value.items():
            yield {name: each for name, each in value.items() if name != key}
            if key not in FILES:
                yield from ({**value, key: odd} for odd in _odd(part))
    if isinstance(value, list):
        for at in range(max(0, len(value) - 2), len(value)):
            yield from ([*value[:at], odd, *value[at + 1 :]] for odd in _odd(value[at]))
