"""What a link may open: only what lies inside the server."""

from __future__ import annotations

import pytest

from pangeo_binder.web.urlpath import BadPath, checked, urlpath_of

HOSTILE = [
    "//evil.example",
    "///evil.example",
    "https://evil.example",
    "javascript:alert(1)",
    "\\\\evil.example",
    "/\\evil.example",
    "lab\\..\\x",
    "../../hub/logout",
    "lab/../../x",
    "lab/%2e%2e/%2E./x",
    "lab/..%2fx",
    "java\tscript:alert(1)",
    "lab\r\nSet-Cookie: a=b",
    "\x00lab",
]


@pytest.mark.parametrize("path", HOSTILE)
def test_nothing_leaves_the_server(path: str) -> None:
    for given in ((path, "", ""), ("", path, ""), ("", "", path)):
        if path in ("https://evil.example", "javascript:alert(1)") and given[0] == "":
            assert urlpath_of(*given).startswith("lab/tree/")
        else:
            with pytest.raises(BadPath):
                urlpath_of(*given)


@pytest.mark.parametrize(
    ("urlpath", "labpath", "filepath", "opens"),
    [
        ("", "", "", "lab"),
        ("/", "", "", "lab"),
        ("/lab/tree/a b.ipynb", "x", "y", "lab/tree/a b.ipynb"),
        ("", "dir/a b.ipynb", "y", "lab/tree/dir/a%20b.ipynb"),
        ("", "", "/x.md", "lab/tree/x.md"),
        ("git-pull?repo=https%3A%2F%2Fa.example/../b&urlpath=lab", "", "", None),
        ("lab?reset#x", "", "", "lab?reset#x"),
        ("", "a?b#c", "", "lab/tree/a%3Fb%23c"),
        ("tree/..foo/a..b", "", "", "tree/..foo/a..b"),
    ],
)
def test_which_of_the_three_wins(urlpath: str, labpath: str, filepath: str, opens: str | None) -> None:
    assert urlpath_of(urlpath, labpath, filepath) == (urlpath if opens is None else opens)


def test_one_leading_slash_is_forgiven() -> None:
    assert checked("/tree") == "tree"
