"""Where an upstream may be: any network of the operator's, and not where clouds tell machines their secrets."""

import pytest
from django.core.management import CommandError, call_command

from batches import upstreams
from batches.models import Upstream

pytestmark = pytest.mark.sqlite_only

REFUSED = [
    "169.254.169.254", "169.254.170.2:80", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518",
    "[fe80::1]", "[fe80::1%25eth0]", "[fd00:ec2::254]", "[FD00:EC2:0::254]", "[::ffff:169.254.169.254]",
    "metadata.google.internal", "METADATA.google.internal.", "metadata",
]  # fmt: skip
TAKEN = [
    "127.0.0.1:8000", "localhost:8000", "10.1.2.3", "192.168.1.2:8000", "172.16.0.1", "[::1]:8000", "[fd00::1]", "[fc00:1::2]",
    "vllm", "gpu-1.internal", "metadata.example.com", "169.253.1.1", "2852039",
]  # fmt: skip


@pytest.mark.parametrize("host", REFUSED)
def test_a_clouds_metadata_is_no_upstream(host: str) -> None:
    with pytest.raises(ValueError, match="no model server is there"):
        upstreams.address(f"http://{host}/v1")


@pytest.mark.parametrize("host", TAKEN)
def test_private_networks_are(host: str) -> None:
    assert upstreams.address(f"http://{host}/v1/") == f"http://{host}/v1"


def test_the_command_says_why(transactional_db: None) -> None:
    with pytest.raises(CommandError, match="no model server is there"):
        call_command("upstream", "add", "m", "http://169.254.169.254/v1")
    assert not Upstream.objects.exists()
