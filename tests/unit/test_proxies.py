"""Which proxy the variables name for a URL."""

from __future__ import annotations

import pytest

from mlops_actions.http.proxies import proxy_for

PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("host", "without", "around"),
    [
        ("127.0.0.1", "127.0.0.0/8", True),
        ("127.0.0.1", "10.0.0.1, 127.0.0.1", True),
        ("127.0.0.1", "10.0.0.0/8,1", False),
        ("10.77.0.1", "10.77.0.1/16,other", True),
        ("[::1]", "::1", True),
        ("[fd00::7]", "fd00::/8", True),
        ("[fd00::7]", "10.0.0.0/8", False),
        ("kfp.example.com", "example.com", True),
        ("KFP.example.com", ".EXAMPLE.com", True),
        ("kfp.example.com", "*.example.com", True),
        ("badexample.com", "example.com", False),
        ("badexample.com", "*example.com", False),
        ("kfp.example.com", "kfp.example.com:8080", True),
        ("kfp.example.com", "kfp.example.com:6443", False),
        ("me:word@kfp.example.com", "kfp.example.com", True),
        ("kfp.example.com", "*", True),
        ("kfp.example.com", "other, *", True),
        ("kfp.example.com", "", False),
        ("kfp.example.com", ",,", False),
    ],
)
def test_no_proxy_names_hosts_domains_and_networks(host: str, without: str, around: bool) -> None:
    found = proxy_for(f"http://{host}:8080/apis", {"http_proxy": PROXY, "NO_PROXY": without})
    assert found == ("" if around else PROXY)


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({"HTTPS_PROXY": PROXY}, PROXY),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other"}, PROXY),
        ({"https_proxy": "proxy:3128"}, PROXY),
        ({"ALL_PROXY": PROXY}, PROXY),
        ({"HTTPS_PROXY": PROXY, "ALL_PROXY": "http://other"}, PROXY),
        ({"HTTP_PROXY": PROXY}, ""),
        ({}, ""),
    ],
)
def test_the_variable_of_the_scheme_else_that_of_all(variables: dict[str, str], proxy: str) -> None:
    assert proxy_for("https://kfp.example.com/apis", variables) == proxy
