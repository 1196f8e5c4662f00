"""How long inputs are tried that nobody wrote.

`FUZZ_EXAMPLES` is how many are tried of each target. Without it they are few, and always the same. What is found
becomes an `@example`, or a case of the test of what was wrong.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_FEW = 60
_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES") or _FEW)
fuzz = settings(
    max_examples=_EXAMPLES, deadline=None, derandomize=_EXAMPLES <= _FEW, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
