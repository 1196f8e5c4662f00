"""JSON web tokens (RFC 7519), as far as one may look into them without their key: what they say of themselves."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

JOB_ADDRESS, JOB_SECRET = "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
"""Variables of a job that may ask GitHub for a token; see `job_token`."""


def may_ask(environ: Mapping[str, str]) -> bool:
    """Whether this is a job with `permissions: id-token: write`."""
    return bool(environ.get(JOB_ADDRESS) and environ.get(JOB_SECRET))


def claims_of(token: str) -> dict[str, Any]:
    """What a JWT says, which nobody checked; nothing for another token."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}
