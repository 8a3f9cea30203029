"""What is kept at the fake Stripe, and what its calls and its time do to it."""

import copy
import itertools
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

Object = dict[str, Any]
GOOD, DECLINED = "pm_card_visa", "pm_card_chargeDeclined"


class Refusal(Exception):
    """An error in Stripe's shape."""

    def __init__(self, status: int, kind: str, code: str | None, message: str = "") -> None:
        super().__init__(code)
        self.status, self.body = status, {"error": {"type": kind, "code": code, "message": message}}


def invalid(code: str, status: int = 400) -> Refusal:
    return Refusal(status, "invalid_request_error", code)


class Objects:
    """All objects by their ids, in the order of their making. Calls are methods, found by ROUTES."""

    def __init__(self) -> None:
        self.all: dict[str, Object] = {}
        self.events: list[Object] = []
        self.charges: list[tuple[str, int]] = []  # for what, cents
        self.ahead = 0.0  # seconds of this clock before ours
        self._numbers = itertools.count(1)

    def now(self) -> int:
        return int(time.time() + self.ahead)

    def of(self, kind: str) -> list[Object]:
        return [each for each in self.all.values() if each["object"] == kind]

    def make(self, prefix: str, kind: str, **fields: Any) -> Object:
        made = {"id": f"{prefix}_{next(self._numbers):06d}", "object": kind, "created": self.now(), "livemode": False}
        made |= {"metadata": {}} | fields
        self.all[str(made["id"])] = made
        return made

    def get(self, an_id: Any, kind: str, status: int = 404) -> Object:
        found = self.all.get(an_id)
        if found is None or found["object"] != kind:
            raise invalid("resource_missing", status)
        return found

    def emit(self, kind: str, subject: Object, **previous: Any) -> None:
        data = {"object": copy.deepcopy(subject)} | ({"previous_attributes": previous} if previous else {})
        self.events.append(
            {"id": f"evt_{next(self._numbers):06d}", "object": "event", "type": kind, "created": self.now(),
             "livemode": False, "data": data}
        )  # fmt: skip

    def listed(self, found: list[Object], sent: Object, url: str) -> Object:
        """A page, newest first."""
        since = int(sent.get("created", {}).get("gte", 0))
        found = [each for each in reversed(found) if each["created"] >= since]
        if after := sent.get("starting_after"):
            found = found[[each["id"] for each in found].index(after) + 1 :]
        limit = int(sent.get("limit", 10))
        return {"object": "list", "url": url, "has_more": len(found) > limit, "data": found[:limit]}

    # --- customers and what they pay with ------------------------------------------------------------------------

    def create_customer(self, sent: Object) -> Object:
        made = self.make("cus", "customer", email=None, invoice_settings={"default_payment_method": None})
        made |= {key: sent[key] for key in ("name", "email", "metadata") if key in sent}
        self.emit("customer.created", made)
        return made

    def list_customers(self, sent: Object) -> Object:
        return self.listed(self.of("customer"), sent, "/v1/customers")

    def retrieve_customer(self, sent: Object, an_id: str) -> Object:
        found = self.all.get(an_id, {})
        return found if found.get("deleted") else self.get(an_id, "customer")

    def update_customer(self, sent: Object, an_id: str) -> Object:
        found = self.get(an_id, "customer")
        found["invoice_settings"] |= sent.pop("invoice_settings", {})
        found |= sent
        self.emit("customer.updated", found)
        return found

    def delete_customer(self, sent: Object, an_id: str) -> Object:
        self.emit("customer.deleted", self.get(an_id, "customer"))
        self.all[an_id] = {"id": an_id, "object": "customer", "deleted": True, "created": 0, "metadata": {}}
        return self.all[an_id]

    def attach(self, customer: str, card: str = GOOD) -> Object:
        made = self.make("pm", "payment_method", customer=customer, card=card)
        self.emit("payment_method.attached", made)
        return made

    def detach(self, sent: Object, an_id: str) -> Object:
        found = self.get(an_id, "payment_method")
        settings = self.get(found["customer"], "customer")["invoice_settings"]
        if settings["default_payment_method"] == an_id:
            settings["default_payment_method"] = None
        customer, found["customer"] = found["customer"], None
        self.emit("payment_method.detached", found, customer=customer)
        return found

    # --- pages ----------------------------------------------------------------------------------------------------

    def create_session(self, sent: Object) -> Object:
        self.get(sent["customer"], "customer", 400)
        prices = [line["price_data"]["unit_amount"] for line in sent.get("line_items", [])]
        made = self.make(
            "cs_test", "checkout.session", mode=sent["mode"], customer=sent["customer"], currency="usd", status="open",
            payment_status="unpaid" if prices else "no_payment_required", amount_subtotal=sum(map(int, prices)) or None,
            success_url=sent["success_url"], cancel_url=sent.get("cancel_url"), setup_intent=None, payment_intent=None,
            expires_at=self.now() + 86_400, payment_method_types=sent.get("payment_method_types"),
        )  # fmt: skip
        made |= {"metadata": sent.get("metadata", {}), "url": f"https://checkout.example/{made['id']}"}
        return made

    def list_sessions(self, sent: Object) -> Object:
        found = [each for each in self.of("checkout.session") if each["status"] == sent.get("status", each["status"])]
        return self.listed(found, sent, "/v1/checkout/sessions")

    def retrieve_session(self, sent: Object, an_id: str) -> Object:
        return self.get(an_id, "checkout.session")

    def retrieve_setup(self, sent: Object, an_id: str) -> Object:
        return self.get(an_id, "setup_intent")

    def create_portal(self, sent: Object) -> Object:
        self.get(sent["customer"], "customer", 400)
        made = self.make("bps", "billing_portal.session", **sent)
        return made | {"url": f"https://portal.example/{made['id']}"}

    def complete(self, session_id: str, card: str = GOOD, paid: bool = True) -> Object:
        """What a person does on the page."""
        session = self.get(session_id, "checkout.session")
        session["status"] = "complete"
        if session["mode"] == "setup":
            method = self.attach(session["customer"], card)
            session["setup_intent"] = self.make("seti", "setup_intent", payment_method=method["id"])["id"]
        else:
            session["payment_intent"] = self.make("pi", "payment_intent")["id"]
            if paid:
                self.pay_session(session)
        self.emit("checkout.session.completed", session)
        return session

    def pay_session(self, session: Object) -> None:
        session["payment_status"] = "paid"
        self.charges.append((session["id"], session["amount_subtotal"]))

    # --- invoices -------------------------------------------------------------------------------------------------

    def create_invoice(self, sent: Object) -> Object:
        self.get(sent["customer"], "customer", 400)
        known = ("customer", "currency", "collection_method", "auto_advance", "description", "metadata")
        return self.make(
            "in", "invoice", status="draft", attempted=False, due_date=None, hosted_invoice_url=None, subtotal=0,
            **{key: sent.get(key) for key in known},
        )  # fmt: skip

    def list_invoices(self, sent: Object) -> Object:
        wanted = {key: sent[key] for key in ("customer", "status") if key in sent}
        found = [each for each in self.of("invoice") if all(each[key] == value for key, value in wanted.items())]
        return self.listed(found, sent, "/v1/invoices")

    def retrieve_invoice(self, sent: Object, an_id: str) -> Object:
        return self.get(an_id, "invoice")

    def update_invoice(self, sent: Object, an_id: str) -> Object:
        if set(sent) == {"metadata"}:  # taken whatever its status is
            found = self.get(an_id, "invoice")
            found["metadata"] |= sent["metadata"]
            return found
        found = self._draft(an_id)
        if sent.get("collection_method") == "send_invoice" and not self.all[found["customer"]].get("email"):
            raise invalid("customer_email_missing")
        found |= sent
        return found

    def create_item(self, sent: Object) -> Object:
        found = self._draft(sent["invoice"])
        assert found["customer"] == sent["customer"] and sent["period"]["start"] <= sent["period"]["end"]
        made = self.make("ii", "invoiceitem", **(sent | {"amount": int(sent["amount"])}))
        found["subtotal"] += made["amount"]
        return made

    def list_items(self, sent: Object) -> Object:
        found = [each for each in self.of("invoiceitem") if each["invoice"] == sent["invoice"]]
        return self.listed(found, sent, "/v1/invoiceitems")

    def finalize_invoice(self, sent: Object, an_id: str) -> Object:
        found = self._draft(an_id)
        found |= {
            "status": "open",
            "auto_advance": sent["auto_advance"],
            "hosted_invoice_url": f"https://pay.example/{an_id}",
        }
        if found["collection_method"] == "send_invoice":
            found["due_date"] = self.now() + 86_400 * int(found["days_until_due"])
        self.emit("invoice.finalized", found)
        return found

    def _draft(self, an_id: Any) -> Object:
        found = self.get(an_id, "invoice", 400)
        if found["status"] != "draft":
            raise invalid("invoice_not_editable")
        return found

    def retrieve_charge(self, sent: Object, an_id: str) -> Object:
        return self.get(an_id, "charge")

    def collect(self) -> None:
        """An hour later: what is charged automatically is tried, once; what is overdue is said to be."""
        for found in self.of("invoice"):
            if found["status"] == "open" and found["auto_advance"]:
                if found["collection_method"] == "charge_automatically" and not found["attempted"]:
                    self.charge(found["id"])
                elif found["due_date"] and found["due_date"] < self.now():
                    self.emit("invoice.overdue", found)

    def charge(self, an_id: str) -> None:
        found = self.get(an_id, "invoice")
        method = self.all[found["customer"]]["invoice_settings"]["default_payment_method"]
        found["attempted"] = True
        if method and self.all[method]["card"] == GOOD:
            self.pay(an_id)
        else:
            self.emit("invoice.payment_failed", found)

    def pay(self, an_id: str) -> None:
        """Also by the customer on the invoice's own page."""
        found = self.get(an_id, "invoice")
        assert found["status"] in ("open", "uncollectible")
        self.charges.append((an_id, found["subtotal"]))
        found["status"] = "paid"
        self.emit("invoice.paid", found)

    def pay_invoice(self, sent: Object, an_id: str) -> Object:
        """Out of schedule, by the API."""
        found = self.get(an_id, "invoice")
        if found["status"] != "open":
            raise invalid("invoice_already_paid")
        self.charge(an_id)
        if found["status"] != "paid":
            raise Refusal(402, "card_error", "card_declined")
        return found

    def end(self, an_id: str, status: str) -> None:
        """By the operator in the dashboard: void, uncollectible."""
        found = self.get(an_id, "invoice")
        found["status"] = status
        self.emit({"void": "invoice.voided", "uncollectible": "invoice.marked_uncollectible"}[status], found)


ROUTES: list[tuple[str, str, Callable[..., Object]]] = [
    ("POST", "customers", Objects.create_customer),
    ("GET", "customers", Objects.list_customers),
    ("GET", "customers/(cus_[^/]+)", Objects.retrieve_customer),
    ("POST", "customers/(cus_[^/]+)", Objects.update_customer),
    ("DELETE", "customers/(cus_[^/]+)", Objects.delete_customer),
    ("POST", "payment_methods/(pm_[^/]+)/detach", Objects.detach),
    ("POST", "checkout/sessions", Objects.create_session),
    ("GET", "checkout/sessions", Objects.list_sessions),
    ("GET", "checkout/sessions/([^/]+)", Objects.retrieve_session),
    ("GET", "setup_intents/([^/]+)", Objects.retrieve_setup),
    ("POST", "billing_portal/sessions", Objects.create_portal),
    ("POST", "invoices", Objects.create_invoice),
    ("GET", "invoices", Objects.list_invoices),
    ("GET", "invoices/([^/]+)", Objects.retrieve_invoice),
    ("POST", "invoices/([^/]+)", Objects.update_invoice),
    ("POST", "invoices/([^/]+)/finalize", Objects.finalize_invoice),
    ("POST", "invoices/([^/]+)/pay", Objects.pay_invoice),
    ("POST", "invoiceitems", Objects.create_item),
    ("GET", "invoiceitems", Objects.list_items),
    ("GET", "charges/([^/]+)", Objects.retrieve_charge),
]


def routed(method: str, path: str) -> Iterator[tuple[Callable[..., Object], tuple[str, ...]]]:
    for known, pattern, call in ROUTES:
        if known == method and (match := re.fullmatch(f"/v1/{pattern}", path)):
            yield call, match.groups()
