"""Test the path that a link opens: it must stay inside the server."""

from __future__ import annotations

import pytest

from pangeo_binder.web.urlpath import BadPath, notebook_of, urlpath_of, validate

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
def test_refuses_paths_out_of_the_server(path: str) -> None:
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
def test_precedence_of_urlpath_labpath_and_filepath(
    urlpath: str, labpath: str, filepath: str, opens: str | None
) -> None:
    assert urlpath_of(urlpath, labpath, filepath) == (urlpath if opens is None else opens)


def test_removes_one_leading_slash() -> None:
    assert validate("/tree") == "tree"


@pytest.mark.parametrize(
    ("urlpath", "notebook"),
    [
        ("lab/tree/a%20b/c.ipynb", "a b/c.ipynb"),
        ("lab/workspaces/x/tree/c.ipynb?reset", "c.ipynb"),
        ("doc/tree/c.ipynb#part", "c.ipynb"),
        ("notebooks/k%C3%B6ppen.ipynb", "köppen.ipynb"),
        ("tree/c.ipynb", "c.ipynb"),
        ("voila/render/c.ipynb", "c.ipynb"),
        ("lab", ""),
        ("lab/tree/readme.md", ""),
        ("lab/tree/", ""),
        ("rstudio", ""),
        ("git-pull?repo=x&urlpath=lab/tree/c.ipynb", ""),
    ],
)
def test_the_notebook_that_a_path_opens(urlpath: str, notebook: str) -> None:
    assert notebook_of(urlpath) == notebook
