"""An invoice as PDF: the same bytes for the same invoice, any number of pages, any script in its names."""

import io
from collections import defaultdict
from functools import partial
from threading import Lock
from typing import Any

from django.conf import settings
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer, Table

from billing import invoicing, money, statement, typesetting, wording
from billing.invoicing import Line
from billing.models import Invoice
from billing.typesetting import BASE, BOLD

MOST_LINES = 2_000  # by day and model; more are added up by model: the CSV has all
MOST_ENTRIES = 200  # beside charges and the credits that paid for them
MARGIN = 36  # points, as all measures here
PADDING = 6  # of reportlab's frame
RULE = colors.HexColor("#b8b8b8")
WIDTHS = (54, 141, 52, 62, 58, 58, 98)
HEAD = ("Day (UTC)", "Model", "Requests", "Input tokens", "Cached input", "Output tokens", "USD")
ENTRY_WIDTHS = (54, 72, 221, 88, 88)
ENTRY_HEAD = ("Day (UTC)", "Entry", "For", "USD", "Your credits, USD")
TAXES = "Taxes are left to Stripe: its invoice says whether any are due, and its total is the one to be paid."

_alone = Lock()  # reportlab's fonts are not for two threads; and one invoice at a time is enough work for a web process
_TEXT = ParagraphStyle("text", fontName=BASE, fontSize=9, leading=12, splitLongWords=1)
_CELL = ParagraphStyle("cell", parent=_TEXT, fontSize=8, leading=10)
_TITLE = ParagraphStyle("title", parent=_TEXT, fontName=BOLD, fontSize=20, leading=26)
_HEADING = ParagraphStyle("heading", parent=_TEXT, fontName=BOLD, fontSize=10, leading=14, spaceBefore=12, spaceAfter=4)


def render(invoice: Invoice, kept: str) -> bytes:
    """The document. `kept` says how the month's batches kept their 24 hours, or is empty."""
    with _alone:
        file = io.BytesIO()
        document = SimpleDocTemplate(
            file, pagesize=A4, invariant=1, title=f"Invoice {invoice.public_id}", author="",
            leftMargin=MARGIN - PADDING, rightMargin=MARGIN - PADDING, topMargin=MARGIN, bottomMargin=MARGIN + 14,
        )  # fmt: skip
        footer = partial(_footer, f"Invoice {invoice.public_id}")
        document.build(_story(invoice, kept), onFirstPage=footer, onLaterPages=footer)
        return file.getvalue()


def _story(invoice: Invoice, kept: str) -> list[Flowable]:
    parts = invoicing.parts(invoice)
    return [
        *_heading(invoice),
        *_lines(invoicing.lines(invoice)),
        *_sums(invoice, statement.sums(invoice, parts)),
        *_entries(invoice),
        Spacer(0, 12),
        *(_paragraph(note, _CELL) for note in _notes(invoice, kept)),
    ]


def _paragraph(text: str, style: ParagraphStyle = _TEXT) -> Paragraph:
    return Paragraph("<br/>".join(map(typesetting.marked, text.split("\n"))), style)


def _heading(invoice: Invoice) -> list[Flowable]:
    settled = f", {invoice.settled_at:%Y-%m-%d}" if invoice.settled_at else ""
    about = [
        ("Number", invoice.public_id),
        ("Month (UTC)", f"{invoice.month:%Y-%m}"),
        ("Made on", f"{invoice.created_at:%Y-%m-%d}"),
        ("Status", f"{invoice.get_status_display()}{settled}"),
        ("To", invoice.tenant.name),
    ]
    cells = [[_paragraph(name), _paragraph(value)] for name, value in about]
    facts = Table(cells, colWidths=(70, 196))
    facts.setStyle([("TOPPADDING", (0, 0), (-1, -1), 0), ("BOTTOMPADDING", (0, 0), (-1, -1), 2)])
    table = Table([[_paragraph(settings.SELLER), facts]], colWidths=(257, 266))
    table.setStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0)])
    return [_paragraph("Invoice", _TITLE), Spacer(0, 8), table, Spacer(0, 8)]


def _lines(lines: list[Line]) -> list[Flowable]:
    if not lines:
        return []
    rows = [(f"{line.day}", *_cells(line)) for line in lines]
    if len(lines) > MOST_LINES:
        rows = [("", *_cells(line)) for line in _by_model(lines)]
    return [_paragraph("What batches took", _HEADING), _table((HEAD, *rows), WIDTHS, numbers_from=2)]


def _cells(line: Line) -> tuple[Any, ...]:
    counts = (line.requests, line.input_tokens, line.cached_tokens, line.output_tokens)
    return _paragraph(line.model, _CELL), *(f"{count:,}" for count in counts), money.usd(line.amount)


def _by_model(lines: list[Line]) -> list[Line]:
    sums: dict[str, list[int]] = defaultdict(lambda: [0] * len(invoicing.MEASURES))
    for line in lines:
        sums[line.model] = [have + more for have, more in zip(sums[line.model], line[2:], strict=True)]
    return [Line(model, lines[0].day, *measures) for model, measures in sorted(sums.items())]


def _sums(invoice: Invoice, sums: dict[str, int]) -> list[Flowable]:
    rounding = sums.pop("rounding")
    rows = [(wording.SUMS[name], money.usd(amount)) for name, amount in sums.items() if amount or name == "charges"]
    rows += [("Sum due, exact", money.usd(invoice.due)), (wording.SUMS["rounding"], money.usd(rounding))]
    rows += [("Total, USD", money.dollars(invoice.cents))]
    table = Table(rows, colWidths=(150, 110), hAlign="RIGHT")
    table.setStyle(
        [
            *_font(BASE, 9),
            ("ALIGN", (1, 0), (1, -1), "RIGHT"),
            ("LINEABOVE", (0, -3), (-1, -3), 0.5, RULE),
            ("LINEABOVE", (0, -1), (-1, -1), 1, colors.black),
            ("FONTNAME", (0, -1), (-1, -1), BOLD),
        ]
    )
    return [Spacer(0, 10), table]


def _entries(invoice: Invoice) -> list[Flowable]:
    rows = [
        (
            f"{entry.created_at:%Y-%m-%d}",
            wording.KINDS[entry.kind],
            _paragraph(f"{entry.reference}\n{entry.note}" if entry.note else entry.reference, _CELL),
            money.usd(entry.owed),
            money.usd(entry.credited),
        )
        for entry in statement.others(invoice)[: MOST_ENTRIES + 1]
    ]
    if not rows:
        return []
    table = _table((ENTRY_HEAD, *rows[:MOST_ENTRIES]), ENTRY_WIDTHS, numbers_from=3)
    more = [_paragraph(f"And more: the first {MOST_ENTRIES} are shown.", _CELL)] if len(rows) > MOST_ENTRIES else []
    return [_paragraph("Credits and corrections", _HEADING), table, *more]


def _notes(invoice: Invoice, kept: str) -> list[str]:
    by_stripe = bool(settings.STRIPE_API_KEY or invoice.stripe_id)
    notes = [kept, "Amounts are US dollars, exact to the last of up to 12 decimals; the total alone is rounded."]
    notes += [TAXES] if by_stripe else []
    notes += [f"To be paid at {invoice.stripe_url}"] if invoice.stripe_url and not invoice.settled_at else []
    return [note for note in notes if note]


def _table(rows: tuple[tuple[Any, ...], ...], widths: tuple[int, ...], numbers_from: int) -> Table:
    """With its first row on every page."""
    table = Table(rows, colWidths=widths, repeatRows=1)
    table.setStyle(
        [
            *_font(BASE, 8),
            ("FONTNAME", (0, 0), (-1, 0), BOLD),
            ("ALIGN", (numbers_from, 0), (-1, -1), "RIGHT"),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LINEBELOW", (0, 0), (-1, -1), 0.25, RULE),
            ("LINEBELOW", (0, 0), (-1, 0), 0.75, colors.black),
            ("LEFTPADDING", (0, 0), (-1, -1), 3),
            ("RIGHTPADDING", (0, 0), (-1, -1), 3),
        ]
    )
    return table


def _font(name: str, size: int) -> list[tuple[Any, ...]]:
    return [("FONT", (0, 0), (-1, -1), name, size, size + 2)]


def _footer(title: str, canvas: Any, document: Any) -> None:
    canvas.setFont(BASE, 8)
    canvas.drawString(MARGIN, MARGIN, title)
    canvas.drawRightString(A4[0] - MARGIN, MARGIN, f"Page {document.page}")
