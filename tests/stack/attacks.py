"""What the page of one session tries against another session in the same browser."""

from __future__ import annotations

from typing import Any, Protocol

from playwright.sync_api import Browser, Page

from .local import Answer

_ATTACKS = """async ({ victim, terminal, binder }) => {
    const tries = async (attempt) => {
        const late = new Promise((_, no) => setTimeout(() => no(new Error("late")), 20000));
        try { return String(await Promise.race([attempt(), late])); } catch (error) { return "refused"; }
    };
    const done = {};
    done.file = await tries(async () => {
        const options = { credentials: "include" };
        return (await (await fetch(`${victim}api/contents/secret.txt?content=1`, options)).json()).content.trim();
    });
    done.terminal = await tries(() => new Promise((yes, no) => {
        const socket = new WebSocket(`${victim.replace("http", "ws")}terminals/websocket/${terminal}`);
        socket.onopen = () => yes("open");
        socket.onerror = () => no(new Error("closed"));
    }));
    done.frame = await tries(() => new Promise((yes, no) => {
        const frame = document.createElement("iframe");
        frame.onload = () => {
            try {
                yes(frame.contentDocument.getElementById("jupyter-config-data") ? "read" : "empty");
            } catch (error) {
                no(error);
            }
        };
        frame.src = `${victim}lab`;
        document.body.append(frame);
    }));
    done.window = await tries(async () => {
        const opened = window.open(`${victim}lab`);
        for (let left = 50; left; left -= 1) {
            await new Promise((yes) => setTimeout(yes, 300));
            if (opened.closed) throw new Error("cut off"); // by its opener policy, which browsers heed over https
            if (opened.document.getElementById("jupyter-config-data")) return "read";
        }
    });
    done.binder = await tries(async () => {
        return (await (await fetch(binder)).text()).includes('id="maker"') ? "read" : "other";
    });
    done.cookies = document.cookie;
    return done;
}"""

REFUSED = {"file": "refused", "terminal": "refused", "frame": "refused", "window": "refused", "binder": "refused"}
DONE = {"file": "secret", "terminal": "open", "frame": "read", "window": "read", "binder": "read"}
"""What `attack` returns if the browser keeps the sessions apart, and if both have one origin."""


class Signable(Protocol):
    """A launched session of either profile."""

    url: str
    token: str

    def request(self, path: str, method: str = "GET", body: Any = None) -> Answer:
        """Send a request to the server, with its token."""


def sign_in(page: Page, session: Signable) -> None:
    """Open the session's own page; from now on its cookie is in the browser."""
    # JupyterLab's own code would choose a workspace and move to its address
    page.route("**/static/**", lambda route: route.abort())
    page.goto(f"{session.url}lab?token={session.token}", wait_until="domcontentloaded")
    assert page.evaluate("(url) => fetch(url).then((answer) => answer.status)", f"{session.url}api/status") == 200


def attack(chromium: Browser, one: Signable, other: Signable, binder: str) -> dict[str, str]:
    """Open the binder and both sessions in one browser; return what the page of `one` could do to the other two."""
    terminal = other.request("api/terminals", "POST").json["name"]
    secret = {"type": "file", "format": "text", "content": "secret"}
    assert other.request("api/contents/secret.txt", "PUT", secret).status in (200, 201)
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(binder)
        sign_in(page, other)
        (theirs,) = {each["value"] for each in context.cookies(f"{other.url}lab") if each["name"] == "_xsrf"}
        sign_in(page, one)
        asked = {"victim": other.url, "terminal": terminal, "binder": binder.partition("?")[0]}
        told: dict[str, str] = page.evaluate(_ATTACKS, asked)
    assert theirs not in told.pop("cookies"), "the cookies have their session's path in either case"
    return told
