"""What a server's response means: KFP's own errors, a wanted sign-in, or something that is not KFP at all."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from ....http.client import Response
from ....http.faults import shown
from .connection import ApiError

Json = dict[str, Any]

_UNAUTHENTICATED, _INTERNAL = 16, 13


def wants_sign_in(response: Response) -> str:
    """In which words the response asks for (another) sign-in; "" when it does not.

    KFP says 401 itself only rarely: it wraps what it finds in an internal error, HTTP 500 (kubeflow/pipelines issue
    7777). Proxies in front of it say 401, redirect to a sign-in page, or show one, with 403, or with 200 where JSON was
    asked for.
    """
    status = response.status
    if 300 <= status < 400:
        return f"HTTP {status} that leads to {shown(response.location or response.url)}"
    page = page_title(response)
    if page is not None and (status in (401, 403) or (status == 200 and "/apis/" in response.url)):
        return f"HTTP {status} with a web page" + (f", {page!r}" if page else "")
    if status == 401:
        return f"HTTP 401: {message_of(response)[0] or 'Unauthorized'}"
    if status == 500:
        message, code = message_of(response)
        if code in (0, _INTERNAL, _UNAUTHENTICATED) and "Unauthenticated" in message:
            return f"HTTP 500: {message}"
    return ""


def page_title(response: Response) -> str | None:
    """The title of a web page; None when the response is not a page, though it may say so: KFP's UI does of texts."""
    if not response.headers.get("Content-Type", "").lower().startswith("text/html"):
        return None
    if response.content and not response.text.lstrip("\ufeff \t\r\n").startswith("<"):
        return None
    found = re.search(r"<title[^>]*>([^<]*)", response.text[:20_000], re.IGNORECASE)
    return " ".join(found[1].split())[:80] if found else ""


def message_of(response: Response) -> tuple[str, int]:
    """The server's words without a Go stack trace, and gRPC's code."""
    body = response.json()
    if not isinstance(body, dict):
        text = "" if page_title(response) is not None else response.text
        return " ".join(text[:300].split()), 0
    text = str(body.get("message") or body.get("error_message") or body.get("error") or "")
    code = body.get("code")
    return _without_stack(text), code if isinstance(code, int) else 0


def error_of(response: Response, doing: str, who: str, namespace: str) -> ApiError:
    """The error that a response is.

    Args:
        response: not 2xx.
        doing: the request, such as `GET /apis/v2beta1/runs`.
        who: as whom it was sent, for people.
        namespace: that was asked for.
    """
    message, code = message_of(response)
    status, facts = response.status, {**response.facts, "code": code, "message": message}
    host = f"{urlsplit(response.url).scheme}://{urlsplit(response.url).netloc}"
    if status == 403:
        return _forbidden(host, doing, who, namespace, facts)
    if "namespace" in message and ("multi-user" in message or "requires filtering by namespace" in message):
        return ApiError(f"{host} serves several users, and no namespace was named", fix="Set `namespace`", **facts)
    if status == 400 and all(word in message.lower() for word in ("http request", "https")):
        return ApiError(f"{host} speaks TLS on this port", fix="Write `https://…`", **facts)
    if status == 413:
        return ApiError(f"{host} does not take so much at once ({doing})", why=message, **facts)
    failed = "failed" if facts["transient"] else "refused"
    return ApiError(f"{host} {failed}: {doing}", why=_why(status, message), **facts)


def _forbidden(host: str, doing: str, who: str, namespace: str, facts: dict[str, Any]) -> ApiError:
    """What right is missing, for whom and where; KFP names all of it in its message."""
    message = facts["message"]
    found = {
        name: match[1] if (match := re.search(pattern, message)) else ""
        for name, pattern in (
            ("who", r"User '([^']+)'"),
            ("namespace", r"Namespace:([\w.@-]+)"),
            ("verb", r"Verb:(\w+)"),
            ("resource", r"Resource:([\w-]+)"),
            ("group", r"Group:([\w.-]+)"),
        )
    }
    who, namespace = found["who"] or who, found["namespace"] or namespace
    fix = f"Give {who} access" if who else "Set `kfp-sign-in`, or give everybody access"
    fix += f" to the namespace {namespace}" if namespace else ""
    if found["verb"] and found["resource"]:
        fix += f": the verb `{found['verb']}` on `{found['resource']}.{found['group']}`"
    return ApiError(
        f"{host} does not allow {doing}" + (f" to {who}" if who else ""), why=_why(403, message), fix=fix, **facts
    )


def json_of(response: Response) -> Json:
    """The response's JSON object.

    Raises:
        ApiError: it has none; a truncated response may be whole the next time.
    """
    body = response.json() if response.content else {}
    if isinstance(body, dict):
        return body
    start = " ".join(response.text[:80].split())
    raise ApiError(f"The response of {shown(response.url)} is not a JSON object", why=start, transient=True)


def _why(status: int, message: str) -> str:
    return f"HTTP {status}" + (f": {message}" if message else "")


def _without_stack(text: str) -> str:
    """A message up to the stack trace that KFP's API server appends: lines of functions and of indented files."""
    lines = []
    for line in text.splitlines():
        if line.startswith("\t") or re.match(r"[\w.-]+\.[\w-]+(/[\w.@()*-]+)+$|(main|runtime|net/http)\.\S+$", line):
            continue
        lines.append(line.strip())
    return " ".join(" ".join(lines).split())
