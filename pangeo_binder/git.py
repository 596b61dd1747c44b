"""Runs git hardened against hostile links and repositories, and converts its failures to sentences.

Git does not see the operator's configuration, credentials or hooks, never prompts for a password, and uses only allowed
protocols. A repository that the operator shares is read with a token, which only fetches get (`git_token`). Unless all
addresses are allowed, git reaches only the server that `Git.reach` has checked. Used by the binder to resolve (`repos`)
and to check out (`builders`).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from pathlib import Path

from .addresses import EVERYWHERE, PUBLIC, AddressRules
from .command import CAPTURE_BYTES, Captured, Command, CommandTimedOut, OutputTooLarge, capture, inherited, stream
from .errors import HostUnavailable, RepoNotFound, RepoTooLarge, UserError
from .git_target import Target, find_target, follow_redirects, is_redirect
from .git_token import GitToken, TokenFiles, TokenInvalid, no_token, read_token
from .hosts import CANONICAL

log = logging.getLogger(__name__)

_HARDENING = (
    "credential.helper=",
    f"core.hooksPath={os.devnull}",
    "core.fsmonitor=false",
    "protocol.ext.allow=never",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "init.defaultBranch=main",
    "submodule.recurse=false",
    # a fetch ends if nothing arrives for a minute; a server that prepares a pack sends 5 bytes every 5 s:
    # https://git-scm.com/docs/git-config, uploadpack.keepAlive
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
)

_MEMORY_BYTES = 1 << 30
"""The memory of a short git: it keeps all refs that a host lists in memory before it prints the first one."""

_SSH = "ssh -oBatchMode=yes -oConnectTimeout=10 -oServerAliveInterval=20 -oStrictHostKeyChecking=accept-new"
# a public binder's own keys must not give its users access to private repositories
_SSH_WITHOUT_KEYS = f"{_SSH} -F {os.devnull} -oIdentityAgent=none -oIdentitiesOnly=yes -oIdentityFile={os.devnull}"

_FILE_LIMITED = 'ulimit -f "$0" && exec "$@"'
_BLOCK_BYTES = 512  # the unit of `ulimit -f` in POSIX

# `ssh://git@host:22/path` and `git@host:path`; git-clone(1), "Git URLs"
_SSH_URL = re.compile(r"ssh://(?:[^@/]+@)?(?P<host>[\w.-]+)(?P<port>:\d+)?/(?P<path>.+)")
_SCP_URL = re.compile(r"[\w.-]+@(?P<host>[\w.-]+)(?P<port>):/?(?P<path>.+)")


@dataclass(frozen=True, slots=True)
class GitAccess:
    """How git may reach repositories."""

    allow_local: bool = False
    """Whether local paths and the user's own ssh keys may be used, as on a user's own machine."""
    timeout_seconds: float = 30
    """How long one query of a repository may take."""
    addresses: AddressRules = PUBLIC
    """Which servers git may contact."""
    token_files: TokenFiles = no_token
    """Which repositories git reads with a token of the operator."""

    def without_tokens(self) -> GitAccess:
        """Return the same access, but to public repositories only."""
        return replace(self, token_files=no_token)

    @property
    def rules(self) -> AddressRules:
        """The addresses that git may contact: all of them on a user's own machine."""
        return EVERYWHERE if self.allow_local else self.addresses


_NETWORK = frozenset({"fetch", "ls-remote", "remote"})
"""The commands that get the token."""
_LEAST_VERSION = (2, 37)  # of http.curloptResolve, see its release notes
_VERSION = re.compile(r"\d+")
_found: dict[str, tuple[int, ...]] = {}
"""The version of git, once it is known."""


def is_local(url: str) -> bool:
    """Return whether `url` names a directory of this machine."""
    return url.startswith(("/", "file://"))


def https_url(url: str) -> str:
    """Return the https URL of a repository that `url` names by ssh, with the same host and path; else ''."""
    if not (found := _SSH_URL.fullmatch(url) or _SCP_URL.fullmatch(url)):
        return ""
    host = CANONICAL.get(found["host"] + (found["port"] or ""), found["host"])
    return f"https://{host}/{found['path']}"


def limit_files(command: Command, max_bytes: int) -> Command:
    """Return `command` with a limit of the size of each file that it writes; the kernel ends it above the limit."""
    return replace(command, argv=("sh", "-c", _FILE_LIMITED, str(max_bytes // _BLOCK_BYTES), *command.argv))


def exceeds_limit(pack_folder: Path, max_bytes: int) -> bool:
    """Return whether a fetch into `pack_folder` was ended by `limit_files`, which leaves an unfinished pack."""
    largest = max((path.stat().st_size for path in pack_folder.glob("tmp_*")), default=0)
    return largest >= max_bytes // _BLOCK_BYTES * _BLOCK_BYTES


def git_env(url: str, access: GitAccess, targets: tuple[Target, ...] = ()) -> dict[str, str]:
    """Return git's whole environment for reading `url`. For the variables see git(1), "Environment Variables"."""
    ssh = _SSH if access.allow_local else _SSH_WITHOUT_KEYS
    env = inherited() | {
        "LC_ALL": "C",  # read_error parses its messages
        "HOME": os.devnull,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_ALLOW_PROTOCOL": _protocols(url, access, targets),
        "GIT_SSH_COMMAND": ssh + (targets[0].ssh_options() if targets else ""),
    }
    if access.allow_local and "SSH_AUTH_SOCK" in os.environ:
        env["SSH_AUTH_SOCK"] = os.environ["SSH_AUTH_SOCK"]
    return env


def _protocols(url: str, access: GitAccess, targets: tuple[Target, ...]) -> str:
    if targets:
        return ":".join(sorted({target.protocol for target in targets}))
    network = "https:http:ssh" if access.rules.everywhere else ""  # an empty list allows no protocol
    return f"file:{network}" if access.allow_local and is_local(url) else network


async def _check_version() -> None:
    """Refuse to use a git that ignores the setting with checked addresses. Raises HostUnavailable."""
    if "version" not in _found:
        command = Command(("git", "--version"), inherited(), Path("/"), 30)
        _found["version"] = tuple(map(int, _VERSION.findall((await capture(command)).out)[:2]))
    if _found["version"] < _LEAST_VERSION:
        log.error("git is older than %s, so links are not read", ".".join(map(str, _LEAST_VERSION)))
        raise HostUnavailable("This binder cannot read repositories.", "Tell its operator that its git is too old.")


@dataclass(frozen=True, slots=True)
class Git:
    """Git, bound to one repository URL. It contacts a server only after `reach`, unless all addresses are allowed."""

    url: str
    access: GitAccess
    targets: tuple[Target, ...] = ()
    """The servers that it may contact."""
    token: GitToken | None = None
    """The token for its URL."""

    @property
    def follows_redirects(self) -> bool:
        """Whether git itself follows the server's redirects; see `redirected`."""
        return not self.targets and self.token is None

    async def reach(self) -> Git:
        """Return git that may contact the server of its URL, with the token for it if there is one.

        Raises RepoNotFound if it may not, or has no address or no valid token.
        """
        git = replace(self, token=self._read_token())
        if self.access.rules.everywhere:
            return git
        if is_local(self.url):
            raise self._no_repository()
        try:
            target = await find_target(self.url, self.access.rules)
        except OSError as error:
            log.info("Git may not contact %s: %s", self.url, error)
            raise self.unreachable_error() from None
        await _check_version()
        return replace(git, targets=(target,))

    def _read_token(self) -> GitToken | None:
        if not (file := self.access.token_files(self.url)):
            return None
        try:
            return read_token(self.url, file)
        except TokenInvalid:
            log.error("%s holds no token, so %s is not read", file, self.url)
            raise RepoNotFound(
                f"This binder cannot read {self.url} now.", "Tell its operator that the token for it is missing."
            ) from None

    def without_token(self) -> Git:
        """Return git that reads what is public, such as a submodule."""
        return replace(self, access=self.access.without_tokens(), token=None)

    async def redirected(self, said: str) -> Git | None:
        """Return git at the URL to which the server redirects, if git's message `said` reports a redirect; else None.

        It has no token: that is for the URL of the link. Raises RepoNotFound if the URL may not be contacted.
        """
        if self.follows_redirects or not is_redirect(said):
            return None
        try:
            served = await follow_redirects(self.url, self.access.rules)
            moved = replace(self.without_token(), url=served)
            return replace(moved, targets=(await find_target(served, self.access.rules),))
        except OSError as error:
            log.info("Git may not follow the redirect of %s: %s", self.url, error)
            raise self.unreachable_error() from None

    def command(self, *args: str, cwd: Path, timeout_seconds: float) -> Command:
        """Return `git <args>` as a hardened command; `args` must have a `--` before values from a link."""
        settings = [*_HARDENING, *(setting for target in self.targets for setting in target.settings())]
        env = git_env(self.url, self.access, self.targets)
        if self.token is not None and not _NETWORK.isdisjoint(args):
            settings.append("http.followRedirects=false")  # git sends the header to a redirect's target, too
            env |= self.token.env()
        hardening = [word for setting in settings for word in ("-c", setting)]
        return Command(("git", *hardening, *args), env, cwd, timeout_seconds)

    async def run(self, *args: str, cwd: Path = Path("/"), max_bytes: int = CAPTURE_BYTES) -> Captured:
        """Run a short `git <args>` with limits of time, memory and output.

        Raises HostUnavailable if the repository does not answer in time, and RepoTooLarge if it answers too much.
        """
        return await self._capture(self.command(*args, cwd=cwd, timeout_seconds=self.access.timeout_seconds), max_bytes)

    async def ask_local(self, request: bytes, max_bytes: int) -> Captured:
        """Send a request of the protocol's version 2 to the repository, which is local; limits as in `run`.

        One git answers it. A client, such as ls-remote, is a second one, and starts the first by a shell.
        """
        args = ("upload-pack", "--stateless-rpc", "--", self.url.removeprefix("file://"))
        command = self.command(*args, cwd=Path("/"), timeout_seconds=self.access.timeout_seconds)
        env = {**command.env, "GIT_PROTOCOL": "version=2"}
        return await self._capture(replace(command, env=env, request=request), max_bytes)

    async def find_commit(self, short: str, folder: Path) -> str:
        """Return the full id of the one commit in the local repository at `folder` that begins with `short`, else ''.

        Raises HostUnavailable if that takes too long.
        """
        args = ("rev-parse", "--quiet", "--verify", "--end-of-options", f"{short}^{{commit}}")
        command = self.command(*args, cwd=folder, timeout_seconds=self.access.timeout_seconds)
        # git would fetch an object that a partial clone lacks, by a command that the repository's settings name
        env = {**command.env, "GIT_ALLOW_PROTOCOL": "", "GIT_CEILING_DIRECTORIES": str(folder.parent)}
        found = await self._capture(replace(command, env=env), CAPTURE_BYTES)
        return "" if found.code else found.out.strip()

    async def _capture(self, command: Command, max_bytes: int) -> Captured:
        try:
            ended = await capture(replace(command, memory_bytes=_MEMORY_BYTES), max_bytes)
        except CommandTimedOut:
            raise self.timeout_error() from None
        except OutputTooLarge:
            raise self._size_error() from None
        if ended.code and any(words in ended.err.lower() for words in _NO_MEMORY):
            raise self._size_error()
        return ended

    def stream(self, *args: str, cwd: Path, timeout_seconds: float) -> AsyncGenerator[str, None]:
        """Run a long `git <args>` and yield its lines. Raises CommandFailed or CommandTimedOut."""
        return stream(self.command(*args, cwd=cwd, timeout_seconds=timeout_seconds))

    def timeout_error(self) -> UserError:
        """Return the error for a repository that did not answer in time."""
        seconds = f"{self.access.timeout_seconds:.0f} seconds"
        return HostUnavailable(f"{self.url} did not answer within {seconds}.", "Try again in a minute.")

    def unreachable_error(self) -> UserError:
        """Return the error for a server that cannot or may not be contacted; strangers cannot learn which of them."""
        return HostUnavailable(
            f"{self.url} cannot be reached from this binder.",
            "Check the host in the URL. If it is right, try again in a minute.",
        )

    def _size_error(self) -> UserError:
        return RepoTooLarge(
            f"{self.url} lists more branches and tags than this binder reads.",
            "Name the branch or tag in full, such as refs/heads/main, or use a full commit id.",
        )

    def read_error(self, stderr: str) -> UserError:
        """Return the error for a repository that git could not read, from git's message (in English)."""
        said = stderr.lower()
        if any(words in said for words in _LOGIN):
            return RepoNotFound(
                f"{self.url} does not exist or needs a login.",
                "Check the URL. A binder can read only public repositories.",
            )
        if any(words in said for words in _UNREACHABLE):
            return self.unreachable_error()
        return self._no_repository()

    def _no_repository(self) -> RepoNotFound:
        return RepoNotFound(f"There is no git repository at {self.url}.", "Check the URL.")


_LOGIN = (
    "authentication failed",
    "could not read username",
    "could not read password",
    "terminal prompts disabled",
    "permission denied",
    "returned error: 401",
    "returned error: 403",
    "access denied",
)
_NO_MEMORY = ("out of memory", "cannot allocate memory")
_UNREACHABLE = (
    "could not resolve host",
    "connection refused",
    "connection timed out",
    "failed to connect",
    "couldn't connect",
    "network is unreachable",
    "no route to host",
    "operation timed out",
    "host key verification failed",
    "ssl certificate problem",
    "returned error: 5",
    "returned error: 429",
    "connection reset",
    "empty reply from server",
    "recv failure",
    "less than 1 bytes/sec",
)
