"""Invoices as PDF: made again they are the same bytes, and no name of any script breaks them."""

import re
import subprocess
import sys
import threading
from datetime import date
from typing import Any

import pytest
from django.conf import settings as configured

from batches import documents
from batches.models import Batch
from billing import invoicing, ledger, pdf, typesetting
from billing.models import Invoice
from tenants.models import Tenant
from tests.conftest import Person
from tests.hostile import naughty_strings
from tests.test_api import error
from tests.test_invoices import USD, at, charge, taken
from tests.test_web import make_batches
from tests.threads import ThreadPoolExecutor

__all__ = ["at"]
pytestmark = pytest.mark.sqlite_only  # what is drawn is read by the tests of invoices
DAY = date(2026, 10, 5)


def invoice_of(person: Person, at: Any, *models: str) -> Invoice:
    at(2026, 10, 5)
    charge(person, "batch_1", *(taken(model, DAY, USD) for model in models))
    at(2026, 11, 1)
    [invoice] = invoicing.close_all()
    return invoice


def pages(document: bytes) -> int:
    assert document.startswith(b"%PDF-") and document.rstrip().endswith(b"%%EOF")
    return len(re.findall(rb"/Type /Page\b", document))


def document(person: Person, invoice: Invoice) -> Any:
    return person.get(f"/v1/invoices/{invoice.public_id}/pdf")


def test_it_is_served_with_a_name_and_an_etag_of_what_can_change(owner: Person, at: Any, settings: Any) -> None:
    invoice = invoice_of(owner, at, "org/a", "b")
    answer = document(owner, invoice)
    assert answer["Content-Type"] == "application/pdf" and pages(answer.content) == 1
    assert f'filename="2026-10_{invoice.public_id}.pdf"' in answer["Content-Disposition"]
    path = f"/v1/invoices/{invoice.public_id}/pdf"
    again = owner.get(path, **{"If-None-Match": answer["ETag"]})
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", answer["ETag"])
    assert document(owner, invoice).content == answer.content
    seen = {answer["ETag"]}
    Tenant.objects.filter(pk=owner.tenant.pk).update(name="renamed")
    seen.add(document(owner, invoice)["ETag"])
    settings.SELLER = "We GmbH\nBerlin"
    seen.add(document(owner, invoice)["ETag"])
    [batch] = make_batches(owner.tenant)
    Batch.objects.filter(pk=batch.pk).update(ended_at="2026-10-05T00:00Z", sla_met=False)
    seen.add(document(owner, invoice)["ETag"])
    invoicing.pay(invoice, "wire")
    seen.add(document(owner, invoice)["ETag"])
    assert len(seen) == 5


def test_not_all_threads_wait_for_it(owner: Person, at: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    invoice = invoice_of(owner, at, "a")
    monkeypatch.setattr(documents, "_places", threading.BoundedSemaphore(1))
    drawing, go_on = threading.Event(), threading.Event()

    def draw(*_: Any) -> bytes:
        drawing.set()
        assert go_on.wait(20)
        raise RuntimeError

    monkeypatch.setattr(pdf, "render", draw)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(documents._drawn, invoice, "")
        assert drawing.wait(20)
        answer = document(owner, invoice)
        assert (answer.status_code, error(answer, 503)) == (503, "too_many_transfers") and answer["Retry-After"]
        go_on.set()
        with pytest.raises(RuntimeError):
            first.result(20)
    monkeypatch.setattr(pdf, "render", lambda *_: b"%PDF-")
    assert document(owner, invoice).content == b"%PDF-", "its place is free again"


def test_many_lines_are_many_pages_and_too_many_are_added_up(
    owner: Person, at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice = invoice_of(owner, at, *(f"model-{n}" for n in range(120)))
    assert pages(document(owner, invoice).content) == 3
    monkeypatch.setattr(pdf, "MOST_LINES", 100)
    lines = [line for line in invoicing.lines(invoice) for _ in range(3)]
    added = pdf._by_model(lines)
    assert len(added) == 120 and sum(line.amount for line in added) == sum(line.amount for line in lines)
    assert {line.requests for line in added} == {3}
    assert pages(document(owner, invoice).content) == 3


def test_an_invoice_of_nothing_and_one_of_many_entries(owner: Person, at: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    at(2026, 10, 5)
    for n in range(5):
        ledger.post(owner.tenant.pk, "credit_grant", f"gift-{n}", USD, "x" * 200)
    at(2026, 11, 1)
    [invoice] = invoicing.close_all()
    assert pages(document(owner, invoice).content) == 1
    monkeypatch.setattr(pdf, "MOST_ENTRIES", 2)
    assert pages(document(owner, invoice).content) == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("org/llama-3.1 <b>&", "org/llama-3.1 &lt;b&gt;&amp;"),
        ("модель Ελλάδα", "модель Ελλάδα"),
        ("模型a", '<font name="STSong-Light">模型</font>a'),
        ("モデル", '<font name="HeiseiKakuGo-W5">モデル</font>'),
        ("모델", '<font name="HYGothic-Medium">모델</font>'),
        ("a אבג דה b", "a הד גבא b"),
        ("🤖\t\x00\u202e", r"\u{1F916}\u{9}\u{0}\u{202E}"),
    ],
)
def test_every_script_has_its_font_or_a_visible_escape(text: str, shown: str) -> None:
    assert typesetting.marked(text) == shown


def test_no_string_breaks_it(owner: Person, at: Any) -> None:
    naughty = sorted({text[:200].replace("\x00", "") for text in naughty_strings()})
    invoice = invoice_of(owner, at, *naughty)
    Tenant.objects.filter(pk=owner.tenant.pk).update(name="🤖" * 200)
    assert pages(document(owner, invoice).content) > 10
    Tenant.objects.filter(pk=owner.tenant.pk).update(name="模" * 200)
    assert document(owner, invoice).status_code == 200


def test_nothing_of_it_is_loaded_before_one_is_asked_for() -> None:
    loaded = "import sys, django; django.setup(); import provocative.urls; print([n for n in sys.modules if 'reportlab' in n])"
    environ = {"DJANGO_SETTINGS_MODULE": "provocative.settings", "PROVOCATIVE_HOME": str(configured.HOME)}
    done = subprocess.run(
        [sys.executable, "-c", loaded], env=environ, cwd=configured.BASE_DIR, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr
