"""The whole journey in the binder, with real collaborators and a small hub: the order, the refusals, and who leaves."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from pangeo_binder.binderhub_metrics import BINDERHUB
from pangeo_binder.errors import (
    BadLink,
    HubUnavailable,
    NotAllowed,
    QuotaExceeded,
    RefNotFound,
    SpawnFailed,
    TicketExpired,
    UserError,
)
from pangeo_binder.events import Event, Phase
from pangeo_binder.launch import admission as module
from pangeo_binder.launch import hub
from pangeo_binder.launch.builds import SharedBuilds
from pangeo_binder.launch.pipeline import Collaborators, Pipeline
from pangeo_binder.launch.turns import BuildShares
from pangeo_binder.model import Click, Repo, RepoRef
from pangeo_binder.policy.model import Policy
from pangeo_binder.repos.git import GitProvider
from pangeo_binder.ticket import read, server_token
from tests.launch.conftest import NewAdmission, QuickBuilder, click_on
from tests.launch.hubserver import KEYS, SmallHub
from tests.launch.test_admission import happens
from tests.repos.gitrepo import git
from tests.stack.repository import repository


async def journey(pipeline: Pipeline, click: Click) -> list[Event]:
    async with aclosing(pipeline.run(click)) as events:
        return [event async for event in events]


async def test_a_server_whose_token_nobody_takes_is_stopped(pipeline: Pipeline, rest: SmallHub, click: Click) -> None:
    await up_to(pipeline, click, "Server running at")
    await happens(lambda: any(call.startswith("DELETE /users/") for call in rest.calls))


def launches(status: str, click: Click) -> float:
    labels = {"status": status, "provider": "Git", "repo": unquote(click.spec.partition("/")[0])}
    return BINDERHUB.get_sample_value("binderhub_launch_count_total", labels) or 0


async def test_binderhubs_series_count_a_launch_and_its_build(pipeline: Pipeline, click: Click) -> None:
    built = {"status": "success", "provider": "Git", "repo": unquote(click.spec.partition("/")[0])}
    await journey(pipeline, click)
    assert launches("success", click) == 1 and launches("failure", click) == 0
    assert BINDERHUB.get_sample_value("binderhub_build_count_total", built) == 1
    with pytest.raises(QuotaExceeded):
        await journey(pipeline, click)
    assert launches("repo_quota", click) == 1


async def up_to(pipeline: Pipeline, click: Click, message: str) -> None:
    """Follow a launch until it says `message`, and leave."""
    async with aclosing(pipeline.run(click)) as events:
        async for event in events:
            if event.message.startswith(message):
                return
    raise AssertionError(f"it never said {message}")


async def deleted(rest: SmallHub) -> None:
    await asyncio.wait_for(rest.deleted.wait(), 20)


async def test_the_steps_come_in_order(pipeline: Pipeline, click: Click, rest: SmallHub) -> None:
    events = await journey(pipeline, click)
    assert [event.phase for event in events] == [
        "waiting",
        "waiting",
        "building",
        "built",
        "launching",
        "launching",
        "ready",
    ]
    ready = events[-1]
    assert ready.launch is not None and events[1].grant == ready.launch.grant
    assert ready.url == f"https://binder.example.org/user/{ready.launch.user}/"
    assert ready.token == server_token(KEYS[0], ready.launch.id)
    link, spec = ready.launch.link, click.spec.partition("/")[0]
    requests = (f"v2/git/{spec}/main", f"v2/git/{spec}/{ready.launch.repo.revision}")
    assert (link.request, link.persistent_request) == requests
    assert read(rest.servers[ready.launch.user], KEYS) == ready.launch


async def test_no_secret_is_in_the_ticket(pipeline: Pipeline, click: Click, rest: SmallHub) -> None:
    events = await journey(pipeline, click)
    ticket = next(iter(rest.servers.values()))
    assert events[-1].token not in ticket and not any(key in ticket for key in KEYS)


async def test_a_second_launch_builds_nothing(
    pipeline: Pipeline, click: Click, rest: SmallHub, builder: QuickBuilder
) -> None:
    await journey(pipeline, click)
    rest.servers.clear()
    assert Phase.BUILDING not in {event.phase for event in await journey(pipeline, click)}
    assert builder.made == 1


@pytest.mark.parametrize(
    ("folder", "ref", "error"), [("denied", "main", NotAllowed), ("sea", "none", RefNotFound), ("sea", "a..b", BadLink)]
)
async def test_what_is_refused_reaches_neither_builder_nor_hub(
    pipeline: Pipeline, tmp_path: Path, rest: SmallHub, builder: QuickBuilder, folder: str, ref: str, error: type
) -> None:
    repository(tmp_path / folder, {"README.md": "Sea"})
    with pytest.raises(error):
        await journey(pipeline, click_on(tmp_path / folder, ref))
    assert builder.made == 0 and not any(call.startswith("POST") for call in rest.calls)


async def test_a_wrong_request_of_the_repository_ends_the_launch(
    pipeline: Pipeline, click: Click, rest: SmallHub, builder: QuickBuilder
) -> None:
    async with aclosing(pipeline.run(click)) as events:
        with pytest.raises(UserError, match=r"pangeo\.yaml"):
            async for event in events:
                if event.phase is Phase.BUILT:
                    checkout = next(builder.settings.cache_dir.iterdir())
                    (checkout / "binder").mkdir()
                    (checkout / "binder" / "pangeo.yaml").write_text("sevrer: {}\n")
    assert not rest.servers


@pytest.mark.parametrize(
    ("says", "error"),
    [
        ({"failed": True, "message": "Spawn failed: [ticket_expired] Too old.\nAgain."}, TicketExpired),
        ({"failed": True, "message": "KeyError: 'a secret'"}, SpawnFailed),
        ({"progress": 1, "message": "and then the stream ends"}, HubUnavailable),
    ],
)
async def test_a_server_that_does_not_come_up_is_ended(
    pipeline: Pipeline, click: Click, rest: SmallHub, says: dict, error: type[UserError]
) -> None:
    rest.says = (says,)
    with pytest.raises(error) as caught:
        await journey(pipeline, click)
    assert "secret" not in str(caught.value)
    await deleted(rest)
    assert not rest.servers and not rest.users


async def test_a_hub_that_is_too_busy_keeps_no_user(
    pipeline: Pipeline, click: Click, rest: SmallHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_BUSY_SECONDS", 0)
    rest.busy = True
    with pytest.raises(HubUnavailable, match="as many servers as it can"):
        await journey(pipeline, click)
    await deleted(rest)
    assert not rest.users


async def test_leaving_while_it_starts_ends_the_server(pipeline: Pipeline, click: Click, rest: SmallHub) -> None:
    rest.says, rest.ends = rest.says[:1], False
    await up_to(pipeline, click, "Half way")
    await deleted(rest)
    assert not rest.servers
    assert any(call.startswith("DELETE") and call.endswith("/server") for call in rest.calls)


async def test_a_server_that_is_still_ending_keeps_its_seat(pipeline: Pipeline, click: Click, rest: SmallHub) -> None:
    rest.says, rest.ends = rest.says[:1], False
    rest.may_stop.clear()
    await up_to(pipeline, click, "Half way")
    with pytest.raises(QuotaExceeded):
        await journey(pipeline, click)
    rest.may_stop.set()
    await deleted(rest)


async def test_who_is_ready_keeps_the_server(pipeline: Pipeline, click: Click, rest: SmallHub) -> None:
    await journey(pipeline, click)
    await asyncio.sleep(0.1)
    assert rest.servers and not any(call.startswith("DELETE") and "/users/" in call for call in rest.calls)


async def test_leaving_during_a_build_ends_the_launch_alone(
    pipeline: Pipeline, click: Click, rest: SmallHub, builder: QuickBuilder
) -> None:
    builder.go_on.clear()
    await up_to(pipeline, click, "Making it")
    builder.go_on.set()
    assert (await journey(pipeline, click))[-1].phase is Phase.READY
    assert (builder.made, builder.discarded) == (1, 0)
    assert len([call for call in rest.calls if call.endswith("/server")]) == 1


async def test_full_is_refused_at_once_without_a_queue(pipeline: Pipeline, click: Click) -> None:
    await journey(pipeline, click)
    with pytest.raises(QuotaExceeded, match="The one seat"):
        await journey(pipeline, click)


async def collect(pipeline: Pipeline, click: Click, events: list[Event]) -> None:
    async for event in pipeline.run(click):
        events.append(event)


async def reports(events: list[Event], position: int) -> None:
    async with asyncio.timeout(20):
        while not events or events[-1].position != position:  # noqa: ASYNC110 (only the launch could set an event)
            await asyncio.sleep(0.01)


async def test_the_queue_reports_positions_and_moves_up(
    collaborators: Collaborators,
    click: Click,
    rest: SmallHub,
    policy: Policy,
    new_admission: NewAdmission,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    pipeline = Pipeline(replace(collaborators, admission=new_admission(policy, 60)))
    await journey(pipeline, click)
    first: list[Event] = []
    second: list[Event] = []
    async with asyncio.TaskGroup() as waiting:
        waiting.create_task(collect(pipeline, click, first))
        await reports(first, 1)
        waiting.create_task(collect(pipeline, click, second))
        await reports(second, 2)
        rest.servers.clear()
        await reports(second, 1)
        assert first[-1].phase is Phase.READY
        rest.servers.clear()
    assert second[-1].phase is Phase.READY


async def test_the_queue_is_left_when_its_time_is_over(
    collaborators: Collaborators,
    click: Click,
    policy: Policy,
    new_admission: NewAdmission,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    pipeline = Pipeline(replace(collaborators, admission=new_admission(policy, 0.3)))
    await journey(pipeline, click)
    with pytest.raises(QuotaExceeded, match="The one seat"):
        await journey(pipeline, click)


async def test_a_launch_that_leaves_the_queue_frees_its_position(
    collaborators: Collaborators, click: Click, rest: SmallHub, policy: Policy, new_admission: NewAdmission
) -> None:
    pipeline = Pipeline(replace(collaborators, admission=new_admission(policy, 60)))
    await journey(pipeline, click)
    await up_to(pipeline, click, "The one seat")
    rest.servers.clear()
    assert (await journey(pipeline, click))[-1].phase is Phase.READY


async def test_a_launch_asks_for_its_environment_once(click: Click, pipeline: Pipeline, builder: QuickBuilder) -> None:
    """On Kubernetes, this is a request to the registry."""
    await journey(pipeline, click)
    assert (builder.made, builder.found) == (1, 1)


async def test_only_a_build_takes_no_seat_and_starts_no_server(
    pipeline: Pipeline, click: Click, rest: SmallHub, builder: QuickBuilder
) -> None:
    for count in range(2):
        events = await journey(pipeline, replace(click, build_only=True))
        assert (events[-1].phase, events[-1].launch) == (Phase.READY, None)
        assert events[-1].environment is not None and events[-1].environment.id == "e1"
        assert (Phase.BUILDING in {event.phase for event in events}) == (count == 0)
        assert Phase.BUILT not in {event.phase for event in events}
    assert builder.made == 1
    assert not rest.servers and not rest.users and not any(call.endswith("/reservations") for call in rest.calls)
    assert (await journey(pipeline, click))[-1].url, "the one seat is free"
    assert (await journey(pipeline, replace(click, build_only=True)))[-1].phase is Phase.READY, "and needs none"


async def test_only_a_build_is_under_the_policy_and_the_limits_of_builds(
    collaborators: Collaborators, builder: QuickBuilder, tmp_path: Path
) -> None:
    shares = BuildShares(concurrent=1, per_network=1, per_repository=1, waiting=1)
    builds = SharedBuilds(builder, shares)
    pipeline = Pipeline(replace(collaborators, builds=builds))
    clicks = []
    for name in ("denied", "sea", "lake", "pond"):
        repository(tmp_path / name, {"README.md": name})
        clicks.append(replace(click_on(tmp_path / name), build_only=True))
    with pytest.raises(NotAllowed):
        await journey(pipeline, clicks[0])
    builder.go_on.clear()
    async with asyncio.TaskGroup() as group:
        events: tuple[list[Event], list[Event]] = ([], [])
        group.create_task(collect(pipeline, clicks[1], events[0]))
        while not builder.made:  # noqa: ASYNC110 (only the builder could set an event)
            await asyncio.sleep(0.01)
        group.create_task(collect(pipeline, clicks[2], events[1]))
        await reports(events[1], 1)
        with pytest.raises(QuotaExceeded):
            await journey(pipeline, clicks[3])
        builder.go_on.set()
    await builds.stop()
    assert builder.made == 2


@pytest.mark.parametrize(("asked", "default"), [("master", "main"), ("main", "trunk")])
async def test_a_missing_former_default_branch_is_the_default_branch(
    pipeline: Pipeline, tmp_path: Path, asked: str, default: str
) -> None:
    repository(tmp_path / "sea", {"README.md": "Sea"})
    git("branch", "-m", default, cwd=tmp_path / "sea")
    events = await journey(pipeline, click_on(tmp_path / "sea", asked))
    (note,) = [event.message for event in events if "default branch" in event.message]
    assert f"no branch or tag `{asked}`" in note and note.endswith("Please update the link.\n")
    launch = events[-1].launch
    assert launch is not None and launch.repo.revision == git("rev-parse", "HEAD", cwd=tmp_path / "sea")


class Renaming(GitProvider):
    """Provider whose host says that the branch `old` was renamed to `main`."""

    async def resolve(self, ref: RepoRef) -> Repo:
        return await super().resolve(replace(ref, ref="main") if ref.ref == "old" else ref)


async def test_a_renamed_branch_is_named(collaborators: Collaborators, tmp_path: Path) -> None:
    repository(tmp_path / "sea", {"README.md": "Sea"})
    pipeline = Pipeline(replace(collaborators, providers=(Renaming(allow_local=True),)))
    events = await journey(pipeline, click_on(tmp_path / "sea", "old"))
    (note,) = [event.message for event in events if "renamed" in event.message]
    assert "renamed its branch `old` to `main`. Please update the link." in note
    assert events[-1].launch is not None and events[-1].launch.repo.ref.ref == "main"


async def test_a_branch_master_is_launched_if_there_is_one(pipeline: Pipeline, tmp_path: Path) -> None:
    repository(tmp_path / "sea", {"README.md": "Sea"})
    git("branch", "master", cwd=tmp_path / "sea")
    old = git("rev-parse", "HEAD", cwd=tmp_path / "sea")
    (tmp_path / "sea" / "new").touch()
    repository(tmp_path / "sea", {"README.md": "New"})
    events = await journey(pipeline, click_on(tmp_path / "sea", "master"))
    assert events[-1].launch is not None and events[-1].launch.repo.revision == old
    assert not any("default branch" in event.message for event in events)


async def test_a_repository_without_a_default_branch_has_no_master_either(pipeline: Pipeline, tmp_path: Path) -> None:
    repository(tmp_path / "sea", {"README.md": "Sea"})
    git("symbolic-ref", "HEAD", "refs/heads/none", cwd=tmp_path / "sea")
    with pytest.raises(RefNotFound, match="no branch or tag `master`"):
        await journey(pipeline, click_on(tmp_path / "sea", "master"))
