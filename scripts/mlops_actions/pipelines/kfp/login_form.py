"""The sign-in of a Kubeflow with Dex behind oauth2-proxy or AuthService, done as a browser does it.

What they have in common: a request without a session is led to a page with a form for user and password, and after it
back, with a session in a cookie (`oauth2_proxy_kubeflow`, `authservice_session`). On the way may stand a page of
oauth2-proxy with one button, Dex's choice of connectors (one with passwords is taken), and its question whether to
grant access.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import requests

from .answers import page_title
from .connection import ApiError, Connection, Host, is_transient, shown

_STEPS = 25
_CONNECTORS = ("local", "ldap", "atlassian-crowd", "keystone")
"""Dex's connectors that take a password, by type."""


@dataclass
class Form:
    """A form of a page: where and how it is sent, its fields with their values, and those by type."""

    action: str = ""
    method: str = "GET"
    fields: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)

    def of_type(self, *types: str) -> str:
        """The name of the first field of one of the types; "" when there is none."""
        return next((name for name, kind in self.types.items() if kind in types), "")


@dataclass
class Link:
    """A link of a page, and the classes of what is inside it."""

    target: str
    classes: list[str] = field(default_factory=list)


class Page(HTMLParser):
    """The forms and links of a web page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[Link] = []
        self._form: Form | None = None
        self._link: Link | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Of the parser."""
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = Form(values.get("action", ""), values.get("method", "get").upper())
            self.forms.append(self._form)
        elif tag == "input" and self._form is not None and values.get("name"):
            self._form.fields[values["name"]] = values.get("value", "")
            self._form.types[values["name"]] = values.get("type", "text").lower()
        elif tag == "a" and values.get("href"):
            self._link = Link(values["href"])
            self.links.append(self._link)
        elif self._link is not None:
            self._link.classes += values.get("class", "").split()

    def handle_endtag(self, tag: str) -> None:
        """Of the parser."""
        if tag == "form":
            self._form = None
        elif tag == "a":
            self._link = None


def log_in(host: Host, url: str) -> tuple[str, float | None]:
    """Sign in with user and password.

    Args:
        host: has user and password, proxies and certificates.
        url: where Kubeflow is.

    Returns:
        The Cookie header of the session, and how many seconds it lasts, when the cookies say so.

    Raises:
        ApiError: the password is wrong, there is no form, or a server fails.
    """
    browser = Connection(host, cookies=True)
    answer, sent = browser.send("GET", f"{url}/", headers=_ACCEPT), False
    for _ in range(_STEPS):
        if is_transient(answer.status_code):
            what = f"{shown(answer.url)} failed at the sign-in"
            raise ApiError(what, why=f"HTTP {answer.status_code}", status=answer.status_code, transient=True)
        if answer.is_redirect:
            answer = _go(browser, answer, "GET", answer.headers["Location"])
            continue
        if page_title(answer) is None:
            break
        page = Page(answer.text)
        form = next((form for form in page.forms if form.of_type("password")), None)
        if form is not None:
            if sent:
                why = "The page with the form came again"
                fix = "Check `kfp-user` and `kfp-token`, the password"
                raise ApiError(f"{shown(answer.url)} refused the user {host.user!r}", why=why, fix=fix, status=401)
            filled = {form.of_type("text", "email"): host.user, form.of_type("password"): host.secret}
            answer, sent = _submit(browser, answer, form, filled), True
            continue
        following = _onward(page)
        if following is None:
            break
        answer = (
            _submit(browser, answer, following, {})
            if isinstance(following, Form)
            else _go(browser, answer, "GET", following)
        )
    if not sent:
        why = f"{shown(answer.url)} answered HTTP {answer.status_code} without a form for a password"
        fix = "Choose another `kfp-sign-in`, or correct `kfp-host`"
        raise ApiError(f"{shown(url)} has no login form", why=why, fix=fix, status=answer.status_code)
    return _session(browser, url)


_ACCEPT = {"Accept": "text/html"}


def _onward(page: Page) -> Form | str | None:
    """What to press on a page that has no password form: oauth2-proxy's button, Dex's connector or its approval."""
    for form in page.forms:
        if form.fields.get("approval") == "approve" or "/oauth2/start" in form.action:
            return form
    for kind in _CONNECTORS:  # a connector's name is its administrator's choice, its icon is not
        for link in page.links:
            if urlsplit(link.target).path.endswith(f"/auth/{kind}") or f"dex-btn-icon--{kind}" in link.classes:
                return link.target
    return None


def _submit(browser: Connection, at: requests.Response, form: Form, filled: dict[str, str]) -> requests.Response:
    values = {**form.fields, **{name: value for name, value in filled.items() if name}}
    return _go(browser, at, form.method, form.action or at.url, values)


def _go(
    browser: Connection, at: requests.Response, method: str, target: str, values: dict[str, str] | None = None
) -> requests.Response:
    """Send the next request; nothing goes on unencrypted from where it was encrypted."""
    url = urljoin(at.url, target)
    if at.url.startswith("https:") and not url.startswith("https:"):
        why = f"It leads from {shown(at.url)} to {shown(url)}, and the password would go there unencrypted"
        raise ApiError("The sign-in is not safe", why=why, fix="Let every URL of the sign-in be https")
    if method == "POST":
        return browser.send("POST", url, data=values, headers=_ACCEPT)
    return browser.send("GET", url, params=values, headers=_ACCEPT)


def _session(browser: Connection, url: str) -> tuple[str, float | None]:
    cookies, ends = browser.cookies(url)
    if not cookies:
        fix = "Check that `kfp-host` is the URL that a browser uses"
        raise ApiError(f"{shown(url)} gave no session after the sign-in", why="It set no cookie", fix=fix)
    return cookies, ends - time.time() if ends else None
