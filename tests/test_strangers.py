"""Requests without a valid key, by address: refused for longer each time, and never those with one."""

from typing import Any

import pytest

from tenants import strangers
from tenants.models import ApiKey
from tenants.throttling import Throttle
from tests import documented
from tests.conftest import Person
from tests.test_pause import code

pytestmark = pytest.mark.sqlite_only


def knock(owner: Person, key: str = "pk-prov-x", **at: str) -> Any:
    extra: dict[str, Any] = at
    answer = owner.client.get("/v1/batch", headers={"Authorization": f"Bearer {key}"} if key else {}, **extra)
    return documented.checked("GET", "/v1/batch", answer)


def test_bad_keys_are_limited_by_address_and_good_ones_pass(owner: Person, outsider: Person) -> None:
    ApiKey.objects.filter(tenant=outsider.tenant).update(revoked_at="2026-01-01T00:00:00Z")
    bad = ["", "pk-prov-x", outsider.key]
    codes = [code(knock(owner, bad[number % 3]), 401) for number in range(strangers.LIMIT)]
    assert set(codes) == {"missing_api_key", "invalid_api_key"}
    for key in bad:
        answer = knock(owner, key)
        assert code(answer, 429) == "too_many_bad_keys" and int(answer["Retry-After"]) >= 1
    assert owner.get("/v1/batch").status_code == 200
    assert code(knock(owner, REMOTE_ADDR="192.0.2.1"), 401) == "invalid_api_key"


@pytest.mark.parametrize("proxies", [0, 1])
def test_the_address_is_nobodys_to_forge(owner: Person, settings: Any, proxies: int) -> None:
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = proxies
    for number in range(strangers.LIMIT + 1):
        forged = f"10.0.0.{number}" + (", 192.0.2.7" if proxies else "")
        answer = knock(owner, HTTP_X_FORWARDED_FOR=forged)
    assert answer.status_code == 429
    assert knock(owner, HTTP_X_FORWARDED_FOR="10.0.0.1, 192.0.2.8").status_code == (401 if proxies else 429)


def test_a_network_of_ipv6_is_one_address(owner: Person) -> None:
    for number in range(strangers.LIMIT + 1):
        answer = knock(owner, REMOTE_ADDR=f"2001:db8::{number:x}")
    assert answer.status_code == 429
    assert knock(owner, REMOTE_ADDR="2001:db8:0:1::1").status_code == 401
    assert knock(owner, REMOTE_ADDR="").status_code == knock(owner, REMOTE_ADDR="unix:").status_code == 401


def test_memory_is_bounded_and_the_last_are_kept() -> None:
    throttle = Throttle(clock=lambda: 0, most=3)
    for address in ("a", "b", "c", "a", "d"):  # b was used longest ago
        throttle.take(address, 1)
    assert len(throttle) == 3
    assert [throttle.take(address, 1).allowed for address in ("a", "c", "d")] == [False] * 3
    assert throttle.take("b", 1).allowed
