"""Services' tokens are recognized without a query, until they are deleted; all others are JupyterHub's to check."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace

import pytest
from jupyterhub import orm
from jupyterhub.objects import Hub
from sqlalchemy import event
from sqlalchemy.orm import Session
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.web import Application

from pangeo_binder.hub.tokens import ServiceHandler

TOKEN = "0123456789abcdef"


@pytest.fixture
def db() -> Iterator[Session]:
    with orm.new_session_factory()() as session:
        session.add(orm.OAuthClient(identifier="jupyterhub"))  # which issues all tokens
        session.add(orm.Service(name="binder"))
        session.add(orm.User(name="ada"))
        session.commit()
        yield session


@pytest.fixture
def queries(db: Session) -> list[str]:
    """The statements that were sent to the database."""
    sent: list[str] = []
    event.listen(db.get_bind(), "before_cursor_execute", lambda *args: sent.append(args[2]))
    return sent


def token_of(db: Session, token: str) -> orm.APIToken | None:
    """Return what a new request with `token` is recognized by."""
    connection = SimpleNamespace(set_close_callback=lambda callback: None)
    headers = HTTPHeaders({"Authorization": f"token {token}"})
    start = RequestStartLine("POST", "/", "HTTP/1.0")
    request = HTTPServerRequest(headers=headers, connection=connection, start_line=start)
    return ServiceHandler(Application(db=db, hub=Hub()), request).get_token()


def service(db: Session) -> orm.Service:
    return db.query(orm.Service).one()


def test_a_services_token_is_looked_up_once(db: Session, queries: list[str]) -> None:
    service(db).new_api_token(TOKEN)
    assert token_of(db, TOKEN).service.name == "binder"
    queries.clear()
    assert token_of(db, TOKEN).service.name == "binder"
    assert queries == []


@pytest.mark.parametrize("given", ["", TOKEN[:-1], f"{TOKEN[:-1]}X", f"{TOKEN}0"])
def test_another_token_is_refused(db: Session, given: str) -> None:
    service(db).new_api_token(TOKEN)
    assert token_of(db, TOKEN)
    assert token_of(db, given) is None


def test_a_deleted_token_is_refused(db: Session) -> None:
    service(db).new_api_token(TOKEN)
    db.delete(token_of(db, TOKEN))
    db.commit()
    assert token_of(db, TOKEN) is None


def test_the_token_of_a_deleted_service_is_refused(db: Session) -> None:
    service(db).new_api_token(TOKEN)
    assert token_of(db, TOKEN)
    db.delete(service(db))
    db.commit()
    assert token_of(db, TOKEN) is None


def test_a_token_of_another_hub_is_refused(db: Session) -> None:
    service(db).new_api_token(TOKEN)
    assert token_of(db, TOKEN)
    with orm.new_session_factory()() as other:
        assert token_of(other, TOKEN) is None


def test_a_token_that_expired_is_refused(db: Session) -> None:
    service(db).new_api_token(TOKEN, expires_in=60)
    found = token_of(db, TOKEN)
    found.expires_at -= timedelta(seconds=61)
    db.commit()
    assert token_of(db, TOKEN) is None


def test_users_tokens_are_looked_up_for_each_request(db: Session, queries: list[str]) -> None:
    db.query(orm.User).one().new_api_token(TOKEN)
    assert token_of(db, TOKEN)
    queries.clear()
    assert token_of(db, TOKEN)
    assert queries
