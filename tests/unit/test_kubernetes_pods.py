"""What is told of a pod by its status alone; `tests/cluster/test_cluster_pods.py` asks a real node."""

from __future__ import annotations

from typing import cast

import pytest

from mlops_actions.kubernetes.objects import Cluster
from mlops_actions.kubernetes.pods import explain

HERE, THERE = "localhost:5000/never/pushed:1", "ghcr.io/owner/private:2"
UNPACKED = f'failed to pull and unpack image "{HERE}": failed to resolve reference "{HERE}": {HERE}: not found'
DENIED = f'failed to resolve reference "{THERE}": failed to authorize: failed to fetch token: 401 Unauthorized'
AWAY = 'failed to do request: Head "https://nowhere/v2/x/manifests/1": dial tcp: lookup nowhere: no such host'


@pytest.mark.parametrize(
    ("image", "reason", "message", "said"),
    [
        (HERE, "ErrImagePull", UNPACKED, f"Cannot pull the image {HERE}: not found"),
        (HERE, "ImagePullBackOff", f'Back-off pulling image "{HERE}": ErrImagePull: {UNPACKED}', f"{HERE}: not found"),
        (THERE, "ErrImagePull", DENIED, f"Cannot pull the image {THERE}: failed to authorize"),
        ("nowhere/x:1", "ErrImagePull", AWAY, "lookup nowhere: no such host"),
    ],
)
def test_image_that_cannot_be_pulled_is_told_with_its_whole_name_and_the_last_cause(
    image: str, reason: str, message: str, said: str
) -> None:
    waiting = {"name": "main", "image": image, "state": {"waiting": {"reason": reason, "message": message}}}
    pod = {"metadata": {}, "status": {"phase": "Pending", "containerStatuses": [waiting]}}
    found = explain(cast(Cluster, None), pod)
    assert found and said in found.message
    assert found.message.count(image) == 1 and found.advice
