"""Plain technical English: retired words and turns stay out of the package, docs and templates.

The table names a better one for each. The test reads line by line; rewrite the sentence if it finds a correct one.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENDINGS = {".py", ".md", ".html", ".js", ".yaml", ".tpl", ".txt", ""}
FOLDERS = ("pangeo_binder", "session", "templates", "docs", "helm-chart", "images", "examples")

RETIRED = {
    r"\bvend(s|ed|ing|or)?\b": "issue",
    r"\bwhoever\b": "the role: a user, the client, the process that …",
    r"\bnobody's\b": "unused, unowned, or the role",
    r"\b(is|are|was|were|be|being) told\b": "gets, receives, sees, is shown",
    r"\btells\b": "reports, shows, says",
    r"(?<!there )\bis no (?!longer\b|such\b|more than\b|less than\b|seat\b|Dask\b)[a-z]+": "is not a …",
    r"\bthat (is|are) none\b": "that is not one; invalid",
    r"\bwhere (it|there|that|one|this) (is|are) (none|no|not|there|one)\b": "if absent, otherwise",
    r"\bNone where\b": "None if",
    r"\bRaises? \w+ where\b": "Raises … if",
    r"\bwhat is (no|none)\b": "anything that is not …; invalid",
    r"\bbeside\b(?!s)": "next to, also, as well as",
    r"\bin all(?=[.,;:)])": "in total",
    r"\b(waits?|waiting|place|position|stands?|are) in line\b": "in the queue",
    r"\bgoes on\b": "continues",
    r"\b(is|are) led to\b": "reaches, gets",
    r"\bas (HTTP|S3|git|Kubernetes|JupyterHub) has it\b": "as HTTP defines",
    r"\bkeep(s|ing)?[ _]house\b": "prune",
    r"\bsurroundings\b": "objects, manifests",
    r"\bpatience\b": "backoff",
    r"\bwish(es|ed)?\b": "request",
    r"\b(at )?the door('s)?\b": "limits",
    r"\b(def|class) _?(told|gone|among|silent|cut|keep_house|tells\w*)\b": "a verb of the field",
}
"""What is not written, and what is written instead."""


def _files() -> list[Path]:
    found = []
    for name in (*FOLDERS, "README.md", "CONTRIBUTING.md"):
        path = ROOT / name
        found += [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sorted(each for each in found if each.suffix in ENDINGS and "__pycache__" not in each.parts)


def test_retired_words_stay_out() -> None:
    patterns = {re.compile(pattern, re.IGNORECASE): instead for pattern, instead in RETIRED.items()}
    files, found = _files(), []
    assert len(files) > 200
    for path in files:
        for number, line in enumerate(path.read_text(errors="ignore").splitlines(), 1):
            for pattern, instead in patterns.items():
                if hit := pattern.search(line):
                    found.append(f"{path.relative_to(ROOT)}:{number}: `{hit[0]}`; write: {instead}")
    assert found == []
