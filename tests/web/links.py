"""The table of links and pasted addresses, with what each of them means. Hostile ones mean a refusal.

`test_links.py` runs it through the pages, the commands and the form in a browser.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple
from urllib.parse import quote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Means(NamedTuple):
    """What a good link means."""

    kind: str
    url: str
    ref: str
    opens: str = "lab"


_REPOSITORIES = {
    "gh/org/repo": ("gh", "https://github.com/org/repo"),
    "gh/Org-1/re.po_x.git": ("gh", "https://github.com/Org-1/re.po_x"),
    "gl/group%2Fproject": ("gl", "https://gitlab.com/group/project"),
    "gl/group%2Fsub%2Fpro.ject": ("gl", "https://gitlab.com/group/sub/pro.ject"),
    "gl/group%252Fproject": ("gl", "https://gitlab.com/group/project"),
    "gist/user/0123abcd": ("gist", "https://gist.github.com/user/0123abcd"),
    "git/https%3A%2F%2Fexample.org%2Forg%2Frepo.git": ("git", "https://example.org/org/repo.git"),
    "git/https%253A%252F%252Fexample.org%252Forg%252Frepo": ("git", "https://example.org/org/repo"),
    "git/HTTPS%3A%2F%2FExample.ORG%3A443%2F~a%2Frepo": ("git", "https://example.org/~a/repo"),
    "git/git%40example.org%3Aorg%2Frepo.git": ("git", "git@example.org:org/repo.git"),
    "git/ssh%3A%2F%2Fgit%40example.org%2Forg%2Frepo": ("git", "ssh://git@example.org/org/repo"),
    "git/https%3A%2F%2Fxn--bcher-kva.example%2Frepo": ("git", "https://xn--bcher-kva.example/repo"),
}
_REFS = {
    "": "HEAD",
    "/": "HEAD",
    "/HEAD": "HEAD",
    "/main": "main",
    "/feature/x": "feature/x",
    "/feature%2Fx": "feature/x",
    "/feature%252Fx": "feature/x",
    "/v1.0-rc.1": "v1.0-rc.1",
    f"/{COMMIT}": COMMIT,
    "/refs%2Fpull%2F7%2Fhead": "refs/pull/7/head",
    "/m%C3%A4rz": "märz",
    "/issue%2312": "issue#12",
}
_RECORD = "8f7c2f0341ef4180b0dbe97f59130756"
_SITE = "https://demo.ckan.org"
_HARVARD = "https://dataverse.harvard.edu"


def _ids(kind: str, url: str, *specs: str, ref: str = "") -> dict[str, Means]:
    """Return the rows of links of `kind` that name one record; the parts of an address after `<` are quoted."""
    return {f"{kind}/{_quoted(spec)}": Means(kind, url, ref) for spec in specs}


def _quoted(spec: str) -> str:
    plain, _, address = spec.partition("<")
    return plain + quote(address, safe="")


RECORDS: dict[str, Means] = {
    **_ids(
        "zenodo",
        "https://zenodo.org/records/3242074",
        *("10.5281/zenodo.3242074", "10.5281/zenodo.3242074/", "10.5281%2Fzenodo.3242074", "10.5281/Zenodo.3242074"),
        *("10.5281%252Fzenodo.3242074", "3242074", "doi:10.5281/zenodo.3242074", "https:/zenodo.org/records/3242074"),
        *("<https://zenodo.org/records/3242074", "<http://www.zenodo.org/record/3242074/files/a.ipynb?download=1"),
        *("<https://doi.org/10.5281/zenodo.3242074", "<https://zenodo.org/doi/10.5281/zenodo.3242074"),
    ),
    **_ids(
        "figshare",
        "https://figshare.com/articles/_/9782777",
        *("10.6084/m9.figshare.9782777", "10.25401%2Fm9.figshare.9782777", "<https://figshare.com/articles/a/9782777"),
        "<https://university.figshare.com/articles/dataset/A_title/9782777",
    ),
    **_ids(
        "figshare",
        "https://figshare.com/articles/_/9782777",
        *("10.6084/m9.figshare.9782777.v3", "<https://figshare.com/articles/dataset/A_title/9782777/3"),
        ref="3",
    ),
    **_ids(
        "hydroshare",
        f"https://www.hydroshare.org/resource/{_RECORD}",
        *(_RECORD, f"{_RECORD}/", f"10.4211/hs.{_RECORD}", f"10.4211%252Fhs.{_RECORD}"),
        *(f"<https://www.hydroshare.org/resource/{_RECORD}/", f"<https://doi.org/10.4211/hs.{_RECORD}"),
    ),
    **_ids(
        "dataverse",
        "https://doi.org/10.7910/DVN/TJCLKP",
        *("10.7910/DVN/TJCLKP", "doi:10.7910/DVN/TJCLKP", "<https://doi.org/10.7910/DVN/TJCLKP"),
    ),
    **_ids(
        "dataverse",
        f"{_HARVARD}/doi:10.7910/DVN/TJCLKP",
        f"<{_HARVARD}/dataset.xhtml?persistentId=doi:10.7910/DVN/TJCLKP&version=2.0",
        f"<{_HARVARD}/citation?persistentId=doi%3A10.7910%2FDVN%2FTJCLKP",
    ),
    **_ids("dataverse", f"{_HARVARD}/hdl:1902.1/21919", f"<{_HARVARD}/dataset.xhtml?persistentId=hdl:1902.1/21919"),
    **_ids(
        "ckan",
        f"{_SITE}/dataset/my-data",
        *(
            f"<{_SITE}/dataset/my-data",
            f"<{_SITE}/dataset/my-data/resource/0a-1b",
            "<HTTPS://Demo.CKAN.org:443/dataset/my-data/",
        ),
        quote(quote(f"{_SITE}/dataset/my-data", safe=""), safe=""),
    ),
    **_ids(
        "ckan",
        f"{_SITE}/open/en/dataset/my-data",
        *(f"<{_SITE}/open/en/dataset/my-data?activity_id=0a-1b", f"<{_SITE}/open/en/dataset/my-data/history/0a-1b"),
        ref="0a-1b",
    ),
    **_ids("ckan", "https://xn--bcher-kva.example/dataset/x", "<https://xn--bcher-kva.example/dataset/x"),
    **_ids(
        "doi",
        "https://doi.org/10.7910/DVN/TJCLKP",
        *("10.7910/DVN/TJCLKP", "10.7910%2FDVN%2FTJCLKP", "<https://dx.doi.org/10.7910/DVN/TJCLKP"),
    ),
    **{
        f"swh/swh:1:{kind}:{COMMIT}{more}": Means(
            "swh", f"https://archive.softwareheritage.org/swh:1:{kind}:{COMMIT}", ""
        )
        for kind, more in (
            *(("dir", ""), ("rev", "/"), ("rel", ";origin=https://example.org/r;path=/a%20b;lines=1-2"), ("snp", "")),
            ("dir", f"%3Borigin%3Dhttps%3A%2F%2Fexample.org%2Fr%3Banchor%3Dswh:1:rev:{COMMIT}"),
        )
    },
    **_ids("swh", f"https://archive.softwareheritage.org/swh:1:dir:{COMMIT}", f"swh%253A1%253Adir%253A{COMMIT}"),
}
"""Links to records of archives, which have no refs; the ref here is the version or activity that the link names."""

_QUERIES = {
    "": "lab",
    "?": "lab",
    "?urlpath=": "lab",
    "?urlpath=/": "lab",
    "?urlpath=lab": "lab",
    "?urlpath=/lab": "lab",
    "?urlpath=tree": "tree",
    "?urlpath=lab/tree/a.ipynb": "lab/tree/a.ipynb",
    "?urlpath=lab%2Ftree%2Fa.ipynb": "lab/tree/a.ipynb",
    "?urlpath=%2Flab%2Ftree%2Fa.ipynb": "lab/tree/a.ipynb",
    "?urlpath=lab%252Ftree%252Fa%2520b.ipynb": "lab/tree/a b.ipynb",
    "?urlpath=%252Fnotebooks%252Fa.ipynb": "notebooks/a.ipynb",
    "?urlpath=lab/tree/a%20b.ipynb": "lab/tree/a b.ipynb",
    "?urlpath=lab/tree/a+b.ipynb": "lab/tree/a b.ipynb",
    "?urlpath=lab/tree/a%2Bb.ipynb": "lab/tree/a+b.ipynb",
    "?urlpath=lab/tree/a%2520b.ipynb": "lab/tree/a%20b.ipynb",
    "?urlpath=lab/tree/m%C3%A4rz.ipynb": "lab/tree/märz.ipynb",
    "?urlpath=lab/tree/%E6%B5%B7.ipynb": "lab/tree/海.ipynb",
    "?urlpath=lab/tree/a.ipynb%23Section-2": "lab/tree/a.ipynb#Section-2",
    "?urlpath=lab/tree/a.ipynb%3Freset": "lab/tree/a.ipynb?reset",
    "?urlpath=lab/workspaces/x/tree/a.ipynb": "lab/workspaces/x/tree/a.ipynb",
    "?urlpath=notebooks/a.ipynb": "notebooks/a.ipynb",
    "?urlpath=doc/tree/a.ipynb": "doc/tree/a.ipynb",
    "?urlpath=rstudio": "rstudio",
    "?urlpath=%2Frstudio%2F": "rstudio/",
    "?urlpath=rstudio/?a=1": "rstudio/?a=1",
    "?urlpath=shiny/app%20one/": "shiny/app one/",
    "?urlpath=vscode": "vscode",
    "?urlpath=vscode/%3Ffolder%3D/home/jovyan": "vscode/?folder=/home/jovyan",
    "?urlpath=code-server/": "code-server/",
    "?urlpath=voila/render/a.ipynb": "voila/render/a.ipynb",
    "?urlpath=voila%2Frender%2Fa%20b.ipynb%3Fvoila-theme%3Ddark": "voila/render/a b.ipynb?voila-theme=dark",
    "?urlpath=panel/app": "panel/app",
    "?urlpath=proxy/8501/": "proxy/8501/",
    "?urlpath=proxy/localhost:8787/status": "proxy/localhost:8787/status",
    "?urlpath=desktop/": "desktop/",
    "?urlpath=desktop/%3Fresize%3Dremote": "desktop/?resize=remote",
    "?urlpath=vnc/vnc_lite.html": "vnc/vnc_lite.html",
    "?urlpath=git-pull%3Frepo%3Dhttps%253A%252F%252Fgithub.com%252Fo%252Fr%26branch%3Dmain%26urlpath%3Dlab%252Fr": (
        "git-pull?repo=https%3A%2F%2Fgithub.com%2Fo%2Fr&branch=main&urlpath=lab%2Fr"
    ),
    "?urlpath=git-pull?repo=https%3A%2F%2Fgithub.com%2Fo%2Fr&branch=main&urlpath=lab%2Ftree%2Fr%2Fa.ipynb": (
        "git-pull?repo=https%3A%2F%2Fgithub.com%2Fo%2Fr&branch=main&urlpath=lab%2Ftree%2Fr%2Fa.ipynb"
    ),
    "?urlpath=git-pull?repo=https://github.com/o/r&branch=main&urlpath=lab/tree/r/a.ipynb&ask=true": (
        "git-pull?repo=https://github.com/o/r&branch=main&urlpath=lab/tree/r/a.ipynb"
    ),
    "?urlpath=git-pull%253Frepo%253Dhttps%25253A%25252F%25252Fa.example%25252Fr": (
        "git-pull?repo=https%3A%2F%2Fa.example%2Fr"
    ),
    "?urlpath=/git-pull?repo=https%3A%2F%2Fa.example%2Fr&subPath=x": (
        "git-pull?repo=https%3A%2F%2Fa.example%2Fr&subPath=x"
    ),
    "?labpath=a.ipynb": "lab/tree/a.ipynb",
    "?labpath=dir%2Fa.ipynb": "lab/tree/dir/a.ipynb",
    "?labpath=%2Fdir%2Fa.ipynb": "lab/tree/dir/a.ipynb",
    "?labpath=dir%252Fa%2520b.ipynb": "lab/tree/dir/a%20b.ipynb",
    "?labpath=a%20b.ipynb": "lab/tree/a%20b.ipynb",
    "?labpath=a+b.ipynb": "lab/tree/a%20b.ipynb",
    "?labpath=m%C3%A4rz.ipynb": "lab/tree/m%C3%A4rz.ipynb",
    "?labpath=a%3Fb%23c.ipynb": "lab/tree/a%3Fb%23c.ipynb",
    "?labpath=a%25b.ipynb": "lab/tree/a%25b.ipynb",
    "?labpath=drive:a.ipynb": "lab/tree/drive%3Aa.ipynb",
    "?filepath=index.ipynb": "lab/tree/index.ipynb",
    "?filepath=notebooks%2FIndex.ipynb": "lab/tree/notebooks/Index.ipynb",
    "?filepath=notebooks%252FMy%2520Index.ipynb": "lab/tree/notebooks/My%20Index.ipynb",
    "?filepath=%2F": "lab/tree/",
    "?filepath=b.md&labpath=a.md": "lab/tree/a.md",
    "?filepath=b.md&urlpath=tree": "tree",
    "?urlpath=&filepath=b.md": "lab/tree/b.md",
    "?urlpath=tree&urlpath=rstudio": "tree",
    "?other=1&urlpath=tree&more=2": "tree",
    "?urlpath": "lab",
}
GOOD: dict[str, Means] = {
    **{f"{repo}{ref}": Means(*_REPOSITORIES[repo], _REFS[ref]) for repo, ref in product(_REPOSITORIES, _REFS)},
    **{
        f"gh/org/repo/main{query}": Means("gh", "https://github.com/org/repo", "main", opens)
        for query, opens in _QUERIES.items()
    },
    **RECORDS,
    "zenodo/10.5281/zenodo.1?labpath=a.ipynb": Means("zenodo", "https://zenodo.org/records/1", "", "lab/tree/a.ipynb"),
}
"""Links after `/v2/`, and what they mean."""

OLD = {
    "org/repo": "gh/org/repo/HEAD",
    "org/repo/": "gh/org/repo/HEAD",
    "org/repo/main": "gh/org/repo/main",
    "org/repo/feature/x": "gh/org/repo/feature/x",
    "org/repo?urlpath=rstudio%3Fa%3D1%26b%3D2": "gh/org/repo/HEAD?urlpath=rstudio%3Fa%3D1%26b%3D2",
    "org/repo/main?filepath=a%20b.ipynb": "gh/org/repo/main?filepath=a%20b.ipynb",
    "org/re%20po%0d%0aX-Evil:1/main": "gh/org/re%20po%0D%0AX-Evil%3A1/main",
    "%2F%2Fevil.example/x": "gh///evil.example/x/HEAD",
}
"""Links after `/repo/`, and the links after `/v2/` to which they redirect."""

_BAD_URLS = [
    *("-x", "--upload-pack=touch x", "-oProxyCommand=x", "-oProxyCommand=x@example.org:r", "git@-oProxyCommand=x:r"),
    *(
        "ext::sh -c x",
        "fd::17",
        "git://example.org/r",
        "ftp://example.org/r",
        "javascript:alert(1)",
        "data:text/html,x",
    ),
    *("file:///etc", "/etc", "file://localhost/etc", "../r", "example.org/r", "", "https://", "https:///r", "http:r"),
    *("https://example.org/../r", "https://example.org/a/../../r", "https://example.org//r", "https://example.org/./r"),
    *(
        "https://example.org/a b",
        "https://example.org/a\nb",
        "https://example.org/a\r\nX: y",
        "https://example.org/a\tb",
    ),
    *(
        "https://example.org/a\x00b",
        "https://example.org/a\x1b[2J",
        "https://example.org/a\x7f",
        "https://example.org/a\u202eb",
    ),
    *("https://example.org/r?x=protocol.ext.allow", "https://example.org/r#x", "https://example.org\\@evil.example/r"),
    *("https://me:secret@example.org/r", "https://secret@example.org/r", "ssh://me:secret@example.org/r"),
    *("https://bücher.example/r", "https://example.org。/r", "https://example.org./r", "https://-example.org/r"),
    *(
        "https://example.org:port/r",
        "https://[::1/r",
        "https://example.org%2f@evil.example/r",
        "https://example.org%00/r",
    ),
    *("https://gist.github.com/user/0123", "git@gist.github.com:0123.git", "https://" + "a" * 3000 + ".example/r"),
    *(
        "ssh://-oProxyCommand=x/r",
        "git@example.org:-r",
        "git@example.org::r",
        "https://example.org/$(id)",
        "https://example.org/`id`",
    ),
    *("https://example.org/r;id", "https://example.org/r|id", "https://example.org/<script>", 'https://example.org/"x'),
]
_BAD_REFS = [
    *("-x", "--upload-pack=x", "-", "../x", "x/../y", "a%20b", "a%00b", "a%0Ab", "a%0D%0AX-Y:z", "a%09b"),
    *(
        "a@{1}",
        "a~1",
        "a^",
        "a:b",
        "a%3Fb",
        "a*b",
        "a[b",
        "a%5Cb",
        "x.lock",
        "x.lock/y",
        "a%2F%2Fb",
        ".x",
        "x.",
        "x/.y",
    ),
    *("%2D%2Dupload-pack=x", "%252D%252Dx", "x%1B[2J", "a" * 256, "a%E2%80%AEb", "a%7Fb", "$(id)", "`id`", "x;id"),
]
_BAD_SPECS = [
    *(
        "gh/org",
        "gh/org/",
        "gh//repo",
        "gh/-org/repo",
        "gh/org/..",
        "gh/org/.",
        "gh/..%2F..%2Fetc/repo",
        "gh/org%2Fx/repo",
    ),
    *(
        "gh/o rg/repo",
        "gh/org/re%20po",
        "gh/org/repo%0A",
        "gh/me:secret@org/repo",
        f"gh/{'a' * 101}/repo",
        f"gh/org/{'a' * 101}",
    ),
    *(
        "gh/org/repo%00",
        "gh/%6frg%40x/repo",
        "gh/ORG%E2%80%AE/repo",
        "gl/group",
        "gl/-g%2Fp",
        "gl/g%2F-%2Fp",
        "gl/g%2F..%2Fp",
    ),
    *(
        "gl/g%2F%2Fp",
        "gl/g%2Fp%0A",
        f"gl/{'%2F'.join('abcdefghijklmnopqrstuvw')}",
        "gist/user",
        "gist/user/xyz",
        "gist/us%20er/01",
    ),
    *("gist/user/..", "gist/-user/01", "zenodo-none/10.5281/zenodo.1", "nothing/x/y", "gh%2Forg/repo/x", "GH/org/repo"),
]
_PERSISTENT = "dataset.xhtml?persistentId=doi:10.7910/DVN/X"
_BAD_RECORDS = {
    "zenodo": [
        *("--x", "-1", "0x1", "%EF%BC%91", "1" * 13, "10.5281", "10.5281/", "10.5281/zenodo.1/..", "10.5281/../x"),
        *("3242074%00", "1%1B[2J", "10.5281/zenodo.1%0D%0AX-Y:z", "10.5281/zenodo.1%E2%80%AE", "9" * 3000),
        *("<https://zenodo.org.evil.example/records/1", "<https://zenodo.org@evil.example/records/1", "nothing/x"),
        *(
            "<https://me:secret@zenodo.org/records/1",
            "<https://zenodo.org/records/1?token=secret",
            "<file:///records/1",
        ),
        *("<ssh://zenodo.org/records/1", "<https://zenodo.org:8443/records/1", "<https://zenodo.org/../records/1"),
        *("<https://xn--zenod-8yb.org/records/1", "<https://zen\u043edo.org/records/1", "<https://127.0.0.1/records/1"),
    ],
    "figshare": [
        *(
            "9782777",
            "--x",
            "10.6084/..",
            "10.6084/m9.figshare.1%0A2",
            "<https://evilfigshare.com/articles/dataset/a/1",
        ),
        *("<https://figshare.com/articles/dataset/a/1?private_link=secret", "<https://x@figshare.com/articles/a/1"),
        *("<https://evil.example/x.figshare.com/articles/a/1", "<https://figshare.com.evil.example/articles/a/1"),
        *("<https://evil.example#.figshare.com/articles/a/1", "<https://figshare.com/articles/../../etc/1"),
        "<https://127.0.0.1\\.figshare.com/articles/a/1",
    ],
    "hydroshare": [
        *(
            _RECORD[1:],
            f"{_RECORD}0",
            _RECORD.upper(),
            f"--{_RECORD}",
            f"../{_RECORD}",
            f"{_RECORD}%00",
            f"x/{_RECORD}",
        ),
        *(f"<https://evil.example/resource/{_RECORD}", f"<ftp://www.hydroshare.org/resource/{_RECORD}"),
        *(f"<https://www.hydroshare.org/resource/{_RECORD}/?api_key=secret", f"{_RECORD}%0D%0AX:y"),
    ],
    "dataverse": [
        *(f"<https://{host}/{_PERSISTENT}" for host in ("127.0.0.1", "localhost", "[::1]", "10.0.0.1", "evil.example")),
        *(f"<http://169.254.169.254/{_PERSISTENT}", f"<{_HARVARD}@evil.example/{_PERSISTENT}", "hdl:1902.1/21919"),
        *(
            f"<{_HARVARD}:8443/{_PERSISTENT}",
            f"<file:///{_PERSISTENT}",
            f"<ssh://git@dataverse.harvard.edu/{_PERSISTENT}",
        ),
        *(f"<{_HARVARD}/{_PERSISTENT}/../../x", f"<{_HARVARD}/{_PERSISTENT}&key=secret", f"<{_HARVARD}/", "--x"),
        *(f"<{_HARVARD}/{_PERSISTENT}\r\nX: y", f"<{_HARVARD}/{_PERSISTENT}%0D%0AX: y", f"10.7910/{'A' * 201}"),
        *(f"<{_HARVARD}/dataset.xhtml?persistentId=--x", f"<{_HARVARD}/dataset.xhtml?persistentId=../../etc"),
    ],
    "ckan": [
        *("x", "--x", "<file:///dataset/x", "<ssh://demo.ckan.org/dataset/x", "<javascript:alert(1)/dataset/x"),
        *(f"<{_SITE}/dataset/../x", f"<{_SITE}/../dataset/x", f"<{_SITE}/a/./dataset/x", f"<{_SITE}//dataset/x"),
        *(
            f"<{_SITE}/dataset/x\r\nX: y",
            f"<{_SITE}/dataset/x\x00",
            f"<{_SITE}/dataset/x\x1b[2J",
            f"<{_SITE}/dataset/x%0D%0A",
        ),
        *(
            f"<{_SITE}/dataset/{'x' * 101}",
            f"<{_SITE}/dataset/x/history/{'1' * 61}",
            f"<{_SITE}/dataset/x?token=secret",
        ),
        *(
            f"<{_SITE}/dataset/x?activity_id=../y",
            f"<{_SITE}/dataset/x/resource/../../y",
            f"<https://{'a' * 3000}/dataset/x",
        ),
        *(
            f"<https://{host}/dataset/x"
            for host in (
                *(
                    "",
                    ".",
                    "-x.example",
                    "bücher.example",
                    "demo.ckan.org。",
                    "demo.ckan.org.",
                    "demo.ckan.org%00",
                ),
                *("demo ckan.org", "demo.ckan.org:port", "demo.ckan.org:99999", "demo.ckan.org:", "[::1", "[::1]%"),
                *(
                    "me:secret@demo.ckan.org",
                    "secret@demo.ckan.org",
                    "demo.ckan.org\\@evil.example",
                    "a%2f@evil.example",
                ),
                *("<script>", 'demo.ckan.org"x', "$(id)", "a;id", "`id`"),
            )
        ),
    ],
    "doi": [
        *(
            "--x",
            "10.5281",
            "10.1/x",
            "11.5281/x",
            "10.5281/../x",
            "10.5281/a%2F..%2Fb",
            "10.5281/a%20b",
            "10.5281/a%00",
        ),
        *(
            "10.5281/a%0D%0AX:y",
            "10.5281/a%3Fb",
            "10.5281/a%5Cb",
            "10.5281/<script>",
            "10.5281/$(id)",
            "10.5281/m%C3%A4rz",
        ),
        *(
            "<https://evil.example/10.5281/x",
            "<https://doi.org@evil.example/10.5281/x",
            "<https://me:secret@doi.org/10.5281/x",
        ),
        *(
            "<file:///10.5281/x",
            "<http://127.0.0.1/10.5281/x",
            f"10.5281/{'a' * 201}",
            "10.5281/a%E2%80%AEb",
            "hdl:1902.1/1",
        ),
    ],
    "swh": [
        *(f"swh:1:{kind}:{COMMIT}" for kind in ("cnt", "ori", "DIR", "dir:dir")),
        *(f"swh:2:dir:{COMMIT}", f"swh:1:dir:{COMMIT[1:]}", f"swh:1:dir:{COMMIT}0", f"swh:1:dir:{COMMIT.upper()}"),
        *("--x", "swh:1:dir:../../x", f"swh:1:dir:{COMMIT}%00", f"swh:1:dir:{COMMIT}%0A", f"swh:1:dir:{COMMIT}/../x"),
        *(
            f"swh:1:dir:{COMMIT}%0D%0AX:y",
            f"swh:1:dir:{COMMIT};origin=https://me:secret@a.example/r",
            f"x/swh:1:dir:{COMMIT}",
        ),
        *(f"<https://evil.example/swh:1:dir:{COMMIT}", f"<file:///swh:1:dir:{COMMIT}", COMMIT),
    ],
}
BAD: list[str] = [
    *(f"git/{quote(url, safe='')}/HEAD" for url in _BAD_URLS),
    *(
        f"{repo}/{ref}"
        for repo in ("gh/org/repo", "gl/g%2Fp", "git/https%3A%2F%2Fexample.org%2Fr")
        for ref in _BAD_REFS
    ),
    *_BAD_SPECS,
    *(f"{kind}/{_quoted(spec)}" for kind, specs in _BAD_RECORDS.items() for spec in specs),
    "gh/org/repo/" + "a" * 9000,
]
"""Links after `/v2/` that are refused."""

BAD_PATHS = [
    *(
        "//evil.example",
        "///evil.example",
        "//evil.example/%2f..",
        "/%0a//evil.example",
        "%09//evil.example",
        "/%09/evil.example",
    ),
    *(
        "%5C%5Cevil.example",
        "/%5Cevil.example",
        "lab%5C..%5Cx",
        "%5Cevil.example",
        "https://evil.example",
        "http:evil.example",
    ),
    *(
        "HTTPS:evil.example",
        "https:%2F%2Fevil.example",
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "java%0ascript:alert(1)",
    ),
    *("data:text/html,x", "vbscript:x", "file:///etc/passwd", "ftp://x", "mailto:x@y", "x-evil%2B1.2:3"),
    *(
        "..",
        "../",
        "../hub/logout",
        "lab/../../hub",
        "lab/%2e%2e/%2e%2e/hub",
        "%2e%2e/hub",
        ".%2e/hub",
        "lab/..",
        "..%2Fhub",
    ),
    *(
        "%252e%252e%252Fhub",
        "lab%252F..%252F..%252Fhub",
        "%252F%252Fevil.example",
        "%255C%255Cevil.example%252F",
        "https%253A%252F%252Fevil.example",
    ),
    *(
        "lab%00",
        "lab%0d%0aX-Evil:1",
        "lab%0aSet-Cookie:x",
        "lab%7f",
        "lab%1b[2J",
        "lab%09x",
        "a" * 4097,
        "%ff",
        "lab%c3%28",
    ),
]
"""Values of `urlpath` that are refused."""

BAD_FILES = [
    *(
        "../x",
        "a/../../x",
        "..%2F..%2Fhub",
        "%252e%252e%252Fx",
        "a%00",
        "a%0d%0aX:1",
        "a%5Cb",
        "//evil.example",
        "%2F%2Fevil.example",
    ),
    *("a" * 4097, "%ff"),
]
"""Values of `labpath` and `filepath` that are refused."""

INTERNAL = [
    *(
        "http://127.0.0.1/r",
        "https://127.0.0.1:8081/hub/api",
        "http://127.9.9.9/r",
        "http://0.0.0.0/r",
        "http://localhost/r",
    ),
    *(
        "http://169.254.169.254/latest/meta-data",
        "http://168.63.129.16/r",
        "http://100.100.100.200/r",
        "http://100.64.0.1/r",
    ),
    *(
        "http://10.0.0.1/r",
        "http://172.16.5.4/r",
        "http://172.31.255.255/r",
        "http://192.168.0.1/r",
        "http://198.18.0.1/r",
    ),
    *(
        "http://224.0.0.1/r",
        "http://255.255.255.255/r",
        "http://240.0.0.1/r",
        "http://192.0.2.1/r",
        "http://198.51.100.7/r",
    ),
    *(
        "http://[::1]/r",
        "http://[::]/r",
        "http://[fe80::1]/r",
        "http://[fd00::1]/r",
        "http://[fd00:ec2::254]/r",
        "http://[ff02::1]/r",
    ),
    *(
        "http://[::ffff:7f00:1]/r",
        "http://[::ffff:a9fe:a9fe]/r",
        "http://[64:ff9b::7f00:1]/r",
        "http://[2002:7f00:1::]/r",
    ),
    *(
        "http://2130706433/r",
        "http://0x7f000001/r",
        "http://0177.0.0.1/r",
        "http://127.1/r",
        "http://0x7f.1/r",
        "http://0/r",
    ),
    *(
        "ssh://git@127.0.0.1/r",
        "ssh://git@10.0.0.1:2222/r",
        "git@127.0.0.1:r.git",
        "git@localhost:r.git",
        "git@2130706433:r",
    ),
]
"""Repositories in private networks: the links are well formed, and git contacts none of them."""

PASTED = {
    "https://github.com/org/repo": "gh/org/repo/HEAD",
    "http://github.com/org/repo/": "gh/org/repo/HEAD",
    "https://www.github.com/org/repo.git": "gh/org/repo/HEAD",
    "https://github.com/org/repo?tab=readme-ov-file#usage": "gh/org/repo/HEAD",
    "github.com/org/repo/tree/dev": "gh/org/repo/dev",
    "git@github.com:org/repo.git": "gh/org/repo/HEAD",
    "ssh://git@github.com/org/repo": "gh/org/repo/HEAD",
    "git+https://github.com/org/repo.git": "gh/org/repo/HEAD",
    "https://github.com/org/repo/tree/dev": "gh/org/repo/dev",
    "https://github.com/org/repo/tree/refs/heads/dev": "gh/org/repo/dev",
    "https://github.com/org/repo/tree/dev/notebooks/": "gh/org/repo/dev?labpath=notebooks",
    "https://github.com/org/repo/tree/feature%2Fx": "gh/org/repo/feature/x",
    "https://github.com/org/repo/blob/main/a%20b/c.ipynb?raw=1#L3": "gh/org/repo/main?labpath=a%20b%2Fc.ipynb",
    "https://github.com/org/repo/blob/m%C3%A4rz/%E6%B5%B7.ipynb": "gh/org/repo/m%C3%A4rz?labpath=%E6%B5%B7.ipynb",
    "https://github.com/org/repo/blame/main/c.py": "gh/org/repo/main?labpath=c.py",
    "https://github.com/org/repo/edit/main/c.md": "gh/org/repo/main?labpath=c.md",
    "https://github.com/org/repo/raw/refs/tags/v1/c.ipynb": "gh/org/repo/v1?labpath=c.ipynb",
    "https://github.com/org/repo/commits/main/": "gh/org/repo/main",
    f"https://github.com/org/repo/commit/{COMMIT}": f"gh/org/repo/{COMMIT}",
    f"https://github.com/org/repo/commit/{COMMIT}#diff-0": f"gh/org/repo/{COMMIT}",
    "https://github.com/org/repo/compare/main...dev": "gh/org/repo/dev",
    "https://github.com/org/repo/compare/dev": "gh/org/repo/dev",
    "https://github.com/org/repo/compare/main..v1.0": "gh/org/repo/v1.0",
    "https://github.com/org/repo/compare/main...user:dev?expand=1": "gh/user/repo/dev",
    "https://github.com/org/repo/compare/main...user:fork:feature/x": "gh/user/fork/feature/x",
    "https://github.com/org/repo/pull/7": "gh/org/repo/refs/pull/7/head",
    "https://github.com/org/repo/pull/7/files#diff-1": "gh/org/repo/refs/pull/7/head",
    f"https://github.com/org/repo/pull/7/commits/{COMMIT}": f"gh/org/repo/{COMMIT}",
    "https://github.com/org/repo/releases/tag/v1.0": "gh/org/repo/v1.0",
    "https://github.com/org/repo/releases/latest": "gh/org/repo/HEAD",
    "https://github.com/org/repo/archive/refs/heads/dev.zip": "gh/org/repo/dev",
    "https://github.com/org/repo/archive/v1.0.tar.gz": "gh/org/repo/v1.0",
    "https://github.com/org/repo/issues/3": "gh/org/repo/HEAD",
    "https://github.com/org/repo/actions/runs/1?pr=2": "gh/org/repo/HEAD",
    "https://raw.githubusercontent.com/org/repo/main/d/c.ipynb": "gh/org/repo/main?labpath=d%2Fc.ipynb",
    "https://raw.githubusercontent.com/org/repo/refs/heads/main/c.ipynb": "gh/org/repo/main?labpath=c.ipynb",
    "https://github.dev/org/repo/blob/main/c.py": "gh/org/repo/main?labpath=c.py",
    "https://vscode.dev/github/org/repo/tree/dev": "gh/org/repo/dev",
    "https://codespaces.new/org/repo": "gh/org/repo/HEAD",
    "https://nbviewer.org/github/org/repo/blob/v1/c.ipynb": "gh/org/repo/v1?labpath=c.ipynb",
    "https://nbviewer.org/github/org/repo/tree/v1/d/": "gh/org/repo/v1?labpath=d",
    "https://nbviewer.jupyter.org/github/org/repo/blob/v1/c.ipynb": "gh/org/repo/v1?labpath=c.ipynb",
    "https://nbviewer.org/gist/user/0123abcd": "gist/user/0123abcd/HEAD",
    "https://nbviewer.org/gist/user/0123abcd/c.ipynb": "gist/user/0123abcd/HEAD?labpath=c.ipynb",
    f"https://nbviewer.org/gist/user/0123abcd/{COMMIT}/c.ipynb": f"gist/user/0123abcd/{COMMIT}?labpath=c.ipynb",
    "https://nbviewer.org/urls/raw.githubusercontent.com/org/repo/main/c.ipynb": "gh/org/repo/main?labpath=c.ipynb",
    "https://nbviewer.org/urls/gist.githubusercontent.com/user/01ab/raw/c.ipynb": "gist/user/01ab/HEAD?labpath=c.ipynb",
    "https://nbviewer.org/url/gitlab.com/g/p/-/raw/main/c.ipynb": "gl/g%2Fp/main?labpath=c.ipynb",
    "https://colab.research.google.com/github/org/repo/blob/v1/c.ipynb": "gh/org/repo/v1?labpath=c.ipynb",
    "https://colab.research.google.com/gist/user/0123abcd/c.ipynb": "gist/user/0123abcd/HEAD?labpath=c.ipynb",
    "https://gist.github.com/user/0123abcd": "gist/user/0123abcd/HEAD",
    "https://gist.github.com/user/0123abcd#file-c-ipynb": "gist/user/0123abcd/HEAD",
    f"https://gist.github.com/user/0123abcd/{COMMIT}": f"gist/user/0123abcd/{COMMIT}",
    "https://gist.github.com/user/0123abcd/revisions": "gist/user/0123abcd/HEAD",
    f"https://gist.githubusercontent.com/user/01ab/raw/{COMMIT}/c.ipynb": f"gist/user/01ab/{COMMIT}?labpath=c.ipynb",
    "https://gitlab.com/group/project": "gl/group%2Fproject/HEAD",
    "git@gitlab.com:group/sub/project.git": "gl/group%2Fsub%2Fproject/HEAD",
    "https://gitlab.com/group/sub/project/-/tree/dev/x": "gl/group%2Fsub%2Fproject/dev?labpath=x",
    "https://gitlab.com/group/project/-/tree/dev?ref_type=heads": "gl/group%2Fproject/dev",
    "https://gitlab.com/group/project/-/blob/main/c%20d.ipynb": "gl/group%2Fproject/main?labpath=c%20d.ipynb",
    "https://gitlab.com/group/project/-/raw/main/c.ipynb?inline=false": "gl/group%2Fproject/main?labpath=c.ipynb",
    f"https://gitlab.com/group/project/-/commit/{COMMIT}": f"gl/group%2Fproject/{COMMIT}",
    "https://gitlab.com/group/project/-/commits/dev": "gl/group%2Fproject/dev",
    "https://gitlab.com/group/project/-/tags/v1": "gl/group%2Fproject/v1",
    "https://gitlab.com/group/project/-/releases/v1": "gl/group%2Fproject/v1",
    "https://gitlab.com/group/project/-/compare/main...dev": "gl/group%2Fproject/dev",
    "https://gitlab.com/group/project/-/merge_requests/3/diffs": "gl/group%2Fproject/refs/merge-requests/3/head",
    "https://gitlab.com/group/project/-/issues/4": "gl/group%2Fproject/HEAD",
    "gitlab.com/group/project/-/tree/dev": "gl/group%2Fproject/dev",
    "https://bitbucket.org/org/repo/src/main/c.md": "git/https%3A%2F%2Fbitbucket.org%2Forg%2Frepo/main?labpath=c.md",
    "https://codeberg.org/org/repo/src/branch/dev/c.md": "git/https%3A%2F%2Fcodeberg.org%2Forg%2Frepo/dev?labpath=c.md",
    "https://codeberg.org/org/repo/src/tag/v1": "git/https%3A%2F%2Fcodeberg.org%2Forg%2Frepo/v1",
    "https://codeberg.org/org/repo/pulls/3": "git/https%3A%2F%2Fcodeberg.org%2Forg%2Frepo/refs/pull/3/head",
    "https://git.example.org/g/p/-/tree/dev": "git/https%3A%2F%2Fgit.example.org%2Fg%2Fp/dev",
    "https://example.org/org/repo.git": "git/https%3A%2F%2Fexample.org%2Forg%2Frepo.git/HEAD",
    "https://example.org/org/repo/tree/dev": "git/https%3A%2F%2Fexample.org%2Forg%2Frepo/dev",
    "git@example.org:org/repo.git": "git/git%40example.org%3Aorg%2Frepo.git/HEAD",
    "ssh://git@example.org:2222/org/repo": "git/ssh%3A%2F%2Fgit%40example.org%3A2222%2Forg%2Frepo/HEAD",
    "https://mybinder.org/v2/gh/org/repo": "gh/org/repo/HEAD",
    "https://mybinder.org/v2/gh/org/repo/": "gh/org/repo/HEAD",
    "https://mybinder.org/v2/gh/org/repo/a/b?labpath=c.ipynb": "gh/org/repo/a/b?labpath=c.ipynb",
    "https://mybinder.org/v2/gh/org/repo/v1?filepath=d%2Fc.ipynb": "gh/org/repo/v1?labpath=d%2Fc.ipynb",
    "https://mybinder.org/v2/gh/org/repo/v1?urlpath=rstudio%3Fa%3D1": "gh/org/repo/v1?urlpath=rstudio%3Fa%3D1",
    "https://mybinder.org/v2/gh/org/repo/v1?urlpath=git-pull?repo=https://a.example/r&branch=x": (
        "gh/org/repo/v1?urlpath=git-pull%3Frepo%3Dhttps%3A%2F%2Fa.example%2Fr%26branch%3Dx"
    ),
    "https://mybinder.org/v2/gl/group%2Fproject/main": "gl/group%2Fproject/main",
    "https://mybinder.org/v2/gl/group%252Fproject/main": "gl/group%2Fproject/main",
    "https://mybinder.org/v2/git/https%253A%252F%252Fexample.org%252Fr/v1": "git/https%3A%2F%2Fexample.org%2Fr/v1",
    "https://mybinder.org/v2/gist/user/0123abcd": "gist/user/0123abcd/HEAD",
    "https://mybinder.org/v2/git/https%3A%2F%2Fexample.org%2Fr/v1": "git/https%3A%2F%2Fexample.org%2Fr/v1",
    "https://notebooks.gesis.org/binder/v2/gh/org/repo/main": "gh/org/repo/main",
    "http://127.0.0.1:8585/v2/gh/org/repo/main#x": "gh/org/repo/main",
    "https://mybinder.org/repo/org/repo": "gh/org/repo/HEAD",
    "https://beta.mybinder.org/repo/org/repo/dev?filepath=a.ipynb": "gh/org/repo/dev?labpath=a.ipynb",
    "[![Binder](https://mybinder.org/badge_logo.svg)](https://mybinder.org/v2/gh/org/repo/HEAD?labpath=a%20b.ipynb)": (
        "gh/org/repo/HEAD?labpath=a%20b.ipynb"
    ),
    ".. image:: https://mybinder.org/badge.svg   :target: https://mybinder.org/v2/gh/org/repo/v1": "gh/org/repo/v1",
    '<a href="https://mybinder.org/v2/gh/org/repo/v1?urlpath=tree&amp;x=1"><img src="https://x.example/b.svg"></a>': (
        "gh/org/repo/v1?urlpath=tree"
    ),
    "[![Launch](https://a.example/badge.svg)](https://a.example/about)": "",
    "https://mybinder.org/v2/zenodo/10.5281/zenodo.1/": "zenodo/10.5281/zenodo.1",
    "https://mybinder.org/v2/nothing/x/y": "",
    "10.5281/zenodo.3242074": "zenodo/10.5281/zenodo.3242074",
    "doi:10.5281/zenodo.3242074": "zenodo/10.5281/zenodo.3242074",
    "https://doi.org/10.5281/zenodo.3242074": "zenodo/10.5281/zenodo.3242074",
    "javascript:alert(1)": "",
    "data:text/html,x": "",
    "https://me:secret@github.com/org/repo": "",
    "https://me:secret@example.org/org/repo": "",
    "https://gist.github.com/0123abcd/": "",
    "ext::sh -c x": "",
    "--upload-pack=x:y": "",
    "https://": "",
    "https://github.com": "",
}
"""Addresses that people paste, and the link after `/v2/` that form and commands make of each; empty for none."""
