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
from http.client import HTTPResponse
from http.cookiejar import CookieJar
from types import SimpleNamespace
from typing import cast
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import Request

from ....http.client import HttpClient, Response
from ....http.faults import shown
from .connection import ApiError
from .oauth import FORM
from .responses import page_title

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


class Browser:
    """Sends requests as a browser does: with the cookies that were set.

    Args:
        client: sends them.
    """

    def __init__(self, client: HttpClient) -> None:
        self._client, self._jar = client, CookieJar()

    def go(self, url: str, *, at: str = "", method: str = "GET", values: dict[str, str] | None = None) -> Response:
        """Send the next request; nothing goes on unencrypted from where it was encrypted.

        Args:
            url: where to; relative to `at`.
            at: the page that leads there.
            method, values: of a form.
        """
        url = urljoin(at, url)
        if at.startswith("https:") and not url.startswith("https:"):
            why = f"It leads from {shown(at)} to {shown(url)}, and the password would go there unencrypted"
            raise ApiError("The sign-in is not safe", why=why, fix="Let every URL of the sign-in be https")
        headers = {"Accept": "text/html", **({"Cookie": cookies} if (cookies := self.cookies(url)) else {})}
        if method == "POST":
            body = urlencode(values or {})
            response = self._client.send("POST", url, body=body, headers=headers | FORM)
        else:
            response = self._client.send("GET", url, query=values, headers=headers)
        said = SimpleNamespace(info=lambda: response.headers)
        self._jar.extract_cookies(cast(HTTPResponse, said), Request(url))
        return response

    def cookies(self, url: str) -> str:
        """The Cookie header for a URL; "" for none."""
        asked = Request(url)
        self._jar.add_cookie_header(asked)
        return str(asked.get_header("Cookie") or "")

    def ends(self, header: str) -> float | None:
        """When the first of the cookies in a header ends (seconds since 1970), if any does."""
        names = {pair.partition("=")[0] for pair in header.split("; ")}
        return min((one.expires for one in self._jar if one.name in names and one.expires), default=None)


def log_in(client: HttpClient, url: str, user: str, password: str) -> tuple[str, float | None]:
    """Sign in with user and password.

    Args:
        client: has proxies and certificates.
        url: where Kubeflow is.
        user, password: who signs in.

    Returns:
        The Cookie header of the session, and how many seconds it lasts, when the cookies say so.

    Raises:
        ApiError: the password is wrong, there is no form, or a server fails.
    """
    browser = Browser(client)
    response, sent = browser.go(f"{url}/"), False
    for _ in range(_STEPS):
        if response.facts["transient"]:
            what = f"{shown(response.url)} failed at the sign-in"
            raise ApiError(what, why=f"HTTP {response.status}", **response.facts)
        if response.location:
            response = browser.go(response.location, at=response.url)
            continue
        if page_title(response) is None:
            break
        page = Page(response.text)
        form = next((form for form in page.forms if form.of_type("password")), None)
        if form is not None and sent:
            why, fix = "The page with the form came again", "Check `kfp-user` and `kfp-token`, the password"
            raise ApiError(f"{shown(response.url)} refused the user {user!r}", why=why, fix=fix, status=401)
        if form is not None:
            filled = {form.of_type("text", "email"): user, form.of_type("password"): password}
            response, sent = _submit(browser, response, form, filled), True
            continue
        following = _onward(page)
        if following is None:
            break
        if isinstance(following, Form):
            response = _submit(browser, response, following, {})
        else:
            response = browser.go(following, at=response.url)
    if not sent:
        why = f"{shown(response.url)} responded with HTTP {response.status} and without a form for a password"
        fix = "Choose another `kfp-sign-in`, or correct `kfp-host`"
        raise ApiError(f"{shown(url)} has no login form", why=why, fix=fix, status=response.status)
    cookies = browser.cookies(url)
    if not cookies:
        fix = "Check that `kfp-host` is the URL that a browser uses"
        raise ApiError(f"{shown(url)} gave no session after the sign-in", why="It set no cookie", fix=fix)
    ends = browser.ends(cookies)
    return cookies, ends - time.time() if ends else None


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


def _submit(browser: Browser, at: Response, form: Form, filled: dict[str, str]) -> Response:
    values = {**form.fields, **{name: value for name, value in filled.items() if name}}
    return browser.go(form.action or at.url, at=at.url, method=form.method, values=values)
