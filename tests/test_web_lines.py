"""A batch's errors and lines, as people read them."""

import json
import re
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from batches import files, recording, tasks
from batches.core import rendering, showing
from batches.core.answers import Verdict
from batches.core.states import Status
from batches.models import Batch, File, Result
from batches.web import line
from tenants import clock
from tenants.models import AuditEvent, Tenant
from tests.conftest import Person, step
from tests.test_engine import Work, numbered, when
from tests.test_naughty import NAUGHTY, Tags
from tests.test_pause import submit
from tests.test_retry_batch import bytes_of, mixed
from tests.test_web import make_batches, member, shown
from tests.witness import Witness, request_line

pytestmark = pytest.mark.sqlite_only  # what is shown is the same on any database

MOST_QUERIES = 10
TOKEN = "0" * 32
SCRIPTS = 2  # of every page: htmx, and ours


def page(batch: Batch, rest: str) -> str:
    return f"/t/{batch.tenant.public_id}/batches/{batch.public_id}/{rest}"


def text(client: Client, batch: Batch, rest: str) -> str:
    """What a page says, its letters as they are."""
    return unescape(shown(client, page(batch, rest)))


def numbers(html: str) -> list[int]:
    """The lines that a list shows."""
    found = re.findall(r'data-label="Line"><a href="[^"]*/lines/(\d+)', html)
    return [int(each) for each in found]


def ended(owner: Person, work: Work, lines: list[Any], **fields: str) -> Batch:
    batch = submit(owner, lines, **fields)
    work()
    batch.refresh_from_db()
    return batch


FILL = """
WITH RECURSIVE lines(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM lines WHERE n < %s)
INSERT INTO batches_result (tenant_id, batch_id, line, seq, custom_id, error_code, status_code, flag, input_tokens,
    cached_tokens, output_tokens, cost, attempts, latency_ms, finished_at, segment_id, "offset", length)
SELECT %s, %s, n, n, printf('request-%%05d', n), CASE WHEN n %% 4 THEN '' ELSE CASE n / 4 %% 5 WHEN 0 THEN 'request_timeout'
    WHEN 1 THEN 'upstream_redirect' WHEN 2 THEN 'invalid_body' ELSE 'upstream_error' END END,
    CASE WHEN n %% 4 THEN 200 ELSE CASE n / 4 %% 5 WHEN 3 THEN 400 WHEN 4 THEN 429 END END,
    '', 0, 0, 0, 0, 1, 0, '2026-11-28 12:00:00', 0, 0, 300 FROM lines"""


def many(tenant: Tenant, total: int, **fields: Any) -> Batch:
    """A batch of so many lines in rows alone, a quarter of them failed in five ways."""
    [batch] = make_batches(tenant, total=total, **{"status": Status.COMPLETED, **fields})
    with connection.cursor() as cursor:
        cursor.execute(FILL, [total, tenant.pk, batch.pk])
    Batch.objects.filter(pk=batch.pk).update(completed=total - total // 4, failed=total // 4, last_seq=total)
    batch.refresh_from_db()
    return batch


# --- the digest -------------------------------------------------------------------------------------------------------


def causes_of(html: str) -> dict[str, int]:
    """The digest's causes with their counts."""
    found = re.findall(r"<h2>(?:HTTP |<code>)(\w+)(?:</code>)?</h2>\s*<p><strong>([\d,]+)</strong>", html)
    return {cause: int(count.replace(",", "")) for cause, count in found}


def test_failures_are_grouped_by_cause_with_what_to_do(owner: Person, witness: Witness, work: Work) -> None:
    batch = ended(owner, work, [*mixed(12), b"{", request_line("x", model="nobody")], on_invalid_line="skip")
    client = member(owner.tenant, role="member")
    html = text(client, batch, "digest")
    assert causes_of(html) == {"400": 3, "422": 3, "upstream_redirect": 3, "invalid_json_line": 1, "model_not_found": 1}
    assert "11 of 14 lines not delivered" in html and "21.4 %" in html and "7.1 %" in html
    assert "There is no model 'nobody' here for you." in html, "the message of a skipped line"
    assert "Read what it said, repair the line" in html and "which is never followed" in html
    assert html.count("Retry just these (3 lines)") == 3 and html.count("Retry just these") == 4, "no bad JSON"
    assert '/lines/2?show=400">line 2</a>, <code>1</code>' in html
    part = client.get(page(batch, "digest"), headers={"HX-Request": "true"}).content.decode()
    assert causes_of(part) == causes_of(html) and "<html" not in part


def test_the_digest_of_a_batch_that_runs(owner: Person, witness: Witness, work: Work, small_groups: None) -> None:
    witness.configure(latency_ms=[20, 30])
    batch, seen = submit(owner, mixed(400)), list[str]()
    client = member(owner.tenant, role="owner")
    shown(client)  # the session remembers the tenant

    def look() -> None:
        assert batch.tenant.pk  # is read
        with CaptureQueriesContext(connection) as captured:
            seen.append(text(client, batch, "digest"))
        seen.append("few" if len(captured) <= MOST_QUERIES else repr(captured.captured_queries))
        owner.post(f"/v1/batch/{batch.public_id}/cancel")

    work(stop=when(100, look))
    assert seen[1] == "few", seen[1]
    assert set(causes_of(seen[0])) == {"400", "422", "upstream_redirect"}
    assert "failed so far" in seen[0] and "Retry just these" not in seen[0] and '<blockquote class="said">' in seen[0]
    batch.refresh_from_db()
    left = batch.total - batch.completed - batch.failed
    assert batch.status == Status.CANCELLED and left > 0
    html = text(client, batch, "digest")
    assert causes_of(html)["batch_cancelled"] == left
    assert sum(causes_of(html).values()) == batch.total - batch.completed


def test_other_ends(owner: Person, witness: Witness, work: Work) -> None:
    client = member(owner.tenant, role="member")
    owner.submit([b"{", *numbered(2), b"[]"])
    step("validating", tasks.validate)
    never = Batch.objects.get(status=Status.FAILED)
    html = text(client, never, "digest")
    assert causes_of(html) == {"invalid_json_line": 2} and "The batch never ran" in html and "Retry just" not in html
    assert "First seen on line 1" in html
    assert "The batch never ran" in text(client, never, "lines")
    assert "The batch never ran: its input is not valid." in text(client, never, "lines/2")
    assert '"line:0' in text(client, never, "lines/2")
    good = ended(owner, work, numbered(2))
    assert "Every line of this batch was delivered" in text(client, good, "digest")
    waiting = submit(owner, numbered(2))
    assert "No line has failed so far" in text(client, waiting, "digest")


def retry_just(client: Client, batch: Batch, cause: str, token: str = TOKEN) -> Any:
    return client.post(page(batch, "digest/retry"), {"error_codes": cause, "form": token}, follow=True)


def test_retry_just_these(owner: Person, witness: Witness, work: Work) -> None:
    lines = [json.dumps(line).encode() + b" " * (n % 3) for n, line in enumerate(mixed(12))]
    batch = ended(owner, work, lines)
    client = member(owner.tenant, role="member")
    answer = retry_just(client, batch, "422")
    made = Batch.objects.get(retry_of=batch)
    assert f"run again as {made.public_id}" in answer.content.decode()
    assert bytes_of(made) == b"".join(lines[n] + b"\n" for n in (2, 6, 10))
    assert (made.retry_causes, made.api_key) == ("422", None)
    event = AuditEvent.objects.get()
    assert (event.actor, event.action, event.target) == ("member@example.com", "batch.retried", made.public_id)
    assert event.details == {"retry_of": batch.public_id, "error_codes": ["422"]}
    retry_just(client, batch, "422")
    assert Batch.objects.filter(retry_of=batch).count() == AuditEvent.objects.count() == 1, (
        "a form sent twice makes one"
    )
    retry_just(client, batch, "upstream_redirect", "1" * 32)
    assert Batch.objects.filter(retry_of=batch).count() == 2


def test_what_forbids_a_retry_is_said_on_the_digest(owner: Person, witness: Witness, work: Work) -> None:
    batch = ended(owner, work, mixed(4))
    client = member(owner.tenant, role="member")
    for cause, token, said in (
        ("nonsense", TOKEN, "nonsense is neither a code of a line"),
        ("\x00\ud800"[:1], TOKEN, "is neither a code"),
        ("429", TOKEN, "No line of the batch failed with one of these"),
        ("400", "", "load the page again"),
    ):
        answer = retry_just(client, batch, cause, token)
        assert said in unescape(answer.content.decode()) and answer.redirect_chain[-1][0].endswith("/digest")
    File.objects.update(deleted_at=clock.now())
    assert "not stored any more" in retry_just(client, batch, "400").content.decode()
    assert Client().post(page(batch, "digest/retry")).status_code == 302
    assert not AuditEvent.objects.exists() and not Batch.objects.exclude(retry_of=None).exists()


def test_readers_look_and_do_nothing(owner: Person, witness: Witness, work: Work) -> None:
    batch = ended(owner, work, mixed(4))
    client = member(owner.tenant, role="reader")
    assert "Retry just" not in text(client, batch, "digest")
    assert retry_just(client, batch, "400").status_code == 403
    assert "line:3" in text(client, batch, "lines/4")


def test_others_see_nothing(owner: Person, outsider: Person) -> None:
    batch, other = many(owner.tenant, 4), many(outsider.tenant, 4)
    client = member(owner.tenant)
    for rest in ("digest", "lines", "lines/1", "lines/1?part=request"):
        unknown = client.get(page(batch, rest).replace(batch.public_id, "batch_unknown"))
        foreign = client.get(page(batch, rest).replace(batch.public_id, other.public_id))
        assert (unknown.status_code, unknown.content) == (404, foreign.content)
        assert client.get(page(other, rest)).status_code == 404
        assert client.get(page(batch, rest).replace(batch.public_id, "%00")).status_code == 404


# --- the list ---------------------------------------------------------------------------------------------------------


def test_fifty_thousand_lines(owner: Person) -> None:
    """Every page of them costs few queries, and a search reads no other batch."""
    other = many(owner.tenant, 100)
    batch = many(owner.tenant, 50_000)
    client = member(owner.tenant)

    def ask(rest: str, of: Batch = batch) -> str:
        with CaptureQueriesContext(connection) as captured:
            html = text(client, of, rest)
        assert len(captured) <= MOST_QUERIES, captured.captured_queries
        return html

    ask("lines")
    assert sum(causes_of(ask("digest")).values()) == 12_500
    assert numbers(ask("lines")) == list(range(1, 51))
    assert numbers(ask("lines?after=50")) == list(range(51, 101))
    assert numbers(ask("lines?line=49,990")) == list(range(49_990, 50_001))
    assert numbers(ask("lines?show=failed&after=100")) == list(range(104, 304, 4))
    assert not {number % 4 for number in numbers(ask("lines?show=429"))} - {0}
    assert numbers(ask("lines?show=delivered"))[:4] == [1, 2, 3, 5]
    assert numbers(ask("lines?name=request-49999")) == [49_999]
    assert numbers(ask("lines?name=request-4999")) == list(range(49_990, 50_000))
    assert numbers(ask("lines?name=request-4999&show=failed")) == [49_992, 49_996]
    assert numbers(ask("lines?name=request-1&after=10049")) == list(range(10_050, 10_100))
    assert (
        numbers(ask("lines?name=Request")) == numbers(ask("lines?name=equest")) == numbers(ask("lines?name=%25")) == []
    )
    assert "No such lines" in ask("lines?name=nothing")
    assert "No further lines" in ask("lines?after=50000") and "request-00101" not in ask("lines", other)
    assert "Line 49,999" in ask("lines/50000?show=all")
    with CaptureQueriesContext(connection) as captured:
        ask("lines?name=request-4")
    searched = [
        query["sql"]
        for query in captured.captured_queries
        if "LEFT(" in query["sql"].upper() or "SUBSTR" in query["sql"]
    ]
    with connection.cursor() as cursor:
        plans = [str(cursor.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()) for sql in searched]
    assert plans and all("first_record_wins" in plan or "batch_id=?" in plan for plan in plans), plans


def test_the_very_custom_id_comes_first(owner: Person) -> None:
    batch = many(owner.tenant, 60)
    Result.objects.filter(line=55).update(custom_id="request")
    client = member(owner.tenant)
    assert numbers(text(client, batch, "lines?name=request"))[:3] == [55, 1, 2]
    assert numbers(text(client, batch, "lines?name=request&after=50")) == [51, 52, 53, 54, 56, 57, 58, 59, 60]


def test_lines_that_wait_are_shown_as_waiting(owner: Person, witness: Witness, work: Work, small_groups: None) -> None:
    witness.configure(latency_ms=[20, 30])
    batch, seen = submit(owner, numbered(300)), dict[str, str]()
    client = member(owner.tenant)
    assert numbers(text(client, batch, "lines")) == list(range(1, 51))
    assert "line:41" in text(client, batch, "lines/42") and "waits for its turn" in text(client, batch, "lines/42")

    def look() -> None:
        seen["page"] = text(client, batch, "lines?after=120")
        done = Result.objects.order_by("line").values_list("line", flat=True).first()
        assert batch.tenant.pk  # is read
        with CaptureQueriesContext(connection) as captured:
            seen["line"] = text(client, batch, f"lines/{done}")
        seen["queries"] = "few" if len(captured) <= MOST_QUERIES else repr(captured.captured_queries)
        owner.post(f"/v1/batch/{batch.public_id}/cancel")

    work(stop=when(100, look))
    assert seen["queries"] == "few", seen["queries"]
    assert numbers(seen["page"]) == list(range(121, 171)) and "Waiting" in seen["page"]
    assert '"choices"' in seen["line"] and "200 delivered" in seen["line"]
    batch.refresh_from_db()
    assert "were never run" in text(client, batch, "lines")
    lost = next(n for n in range(1, 301) if not Result.objects.filter(line=n).exists())
    html = text(client, batch, f"lines/{lost}")
    assert f"line:{lost - 1}" in html and "cancelled before this line was run" in html
    last = Result.objects.latest("line").line
    html = text(client, batch, f"lines/{last}")
    assert f'"custom_id": "line:{last - 1}"' in html and '"choices"' in html, "found in a file that has others, too"


def test_addresses_that_people_make_up(owner: Person) -> None:
    batch = many(owner.tenant, 3)
    client = member(owner.tenant)
    junk = [
        "\x00",
        "\ud800".encode(errors="surrogatepass").decode("latin-1"),
        "9" * 40,
        "-1",
        "é" * 9000,
        "%",
        "'",
        "1e3",
    ]
    for name in ("after", "line", "show", "name", "part"):
        for value in junk:
            for rest in ("lines/1",) if name == "part" else ("lines", "lines/1") if name == "show" else ("lines",):
                assert client.get(page(batch, rest), {name: value}).status_code == 200, (name, value)
    for number in ("0", "4", "9" * 9, "9" * 40):
        assert client.get(page(batch, f"lines/{number}")).status_code == 404
    assert client.get(page(batch, "lines/x")).status_code == 404
    assert client.post(page(batch, "lines")).status_code == 405 == client.get(page(batch, "digest/retry")).status_code


# --- one line ---------------------------------------------------------------------------------------------------------


def test_a_line_shows_its_request_and_response(owner: Person, witness: Witness, work: Work) -> None:
    first = b"\xef\xbb\xbf" + json.dumps(request_line("first")).encode()
    content = [first, b"", b" \t", *mixed(4), b"{", request_line("last")]
    batch = ended(owner, work, content, on_invalid_line="skip")
    client = member(owner.tenant)
    html = text(client, batch, "lines/1")
    assert '"custom_id": "first"' in html and '"content": "line:first"' in html and '"choices"' in html
    assert "/lines/4" in html and "\ufeff" not in html
    with CaptureQueriesContext(connection) as captured:
        html = text(client, batch, "lines/6")
    assert len(captured) <= MOST_QUERIES
    assert "HTTP 422" in html and "refuses a value in it" in html and '"status_code": 422' in html
    assert "/lines/5" in html and "/lines/7" in html
    assert "/lines/8?show=failed" in text(client, batch, "lines/7?show=failed"), "the next of those shown"
    bad = text(client, batch, "lines/8")
    assert "not strict JSON" in bad and "invalid_json_line" in bad
    assert '"custom_id": "last"' in text(client, batch, "lines/9")
    for number in (2, 3, 10):
        assert client.get(page(batch, f"lines/{number}")).status_code == 404, "blank, or beyond the end"
    for number, part, whole in ((1, "request", first[3:]), (9, "request", json.dumps(content[-1]).encode())):
        answer: Any = client.get(page(batch, f"lines/{number}?part={part}"))
        assert answer.getvalue() == whole
        assert "attachment" in answer["Content-Disposition"] and answer["Content-Type"] == "application/json"
        assert answer["X-Content-Type-Options"] == "nosniff"
    output = b"".join(owner.get(f"/v1/batch/{batch.public_id}/output").streaming_content).splitlines()
    answers = [client.get(page(batch, f"lines/{number}?part=response")) for number in (1, 4, 5, 6, 7, 8, 9)]
    assert [answer.content for answer in answers] == output
    assert client.get(page(batch, "lines/2?part=request")).status_code == 404


def test_a_long_line_is_cut_and_can_be_downloaded(owner: Person, witness: Witness, work: Work) -> None:
    long = [request_line("long", pad=showing.SHOWN), request_line("longer", pad=2 * 1024 * 1024)]
    batch = ended(owner, work, long)
    client = member(owner.tenant)
    for number, sent in enumerate(long, 1):
        html = text(client, batch, f"lines/{number}")
        assert len(html) < 4 * showing.SHOWN and html.count("Download this line") == 1
        answer: Any = client.get(page(batch, f"lines/{number}?part=request"))
        assert answer.getvalue() == json.dumps(sent).encode()


def test_what_is_not_stored_any_more_is_said(owner: Person, witness: Witness, work: Work) -> None:
    batch = ended(owner, work, mixed(4))
    client = member(owner.tenant)
    files.delete(owner.tenant, batch.input_file.public_id)
    html = text(client, batch, "lines/2")
    assert "input is not stored any more" in html and '"status_code": 400' in html
    assert batch.output_file and batch.results_file
    files.delete(owner.tenant, batch.output_file.public_id)
    html = text(client, batch, "lines/2")
    assert "results are not stored any more" in html and "Attempts" in html and "HTTP 400" in html
    assert client.get(page(batch, "lines/2?part=request")).status_code == 410
    assert client.get(page(batch, "lines/2?part=response")).status_code == 410
    assert causes_of(text(client, batch, "digest")) == {"400": 1, "422": 1, "upstream_redirect": 1}
    assert client.get(page(batch, "lines/5")).status_code == 404
    [gone] = make_batches(owner.tenant, status=Status.CANCELLED)
    assert "input is not stored any more" in text(client, gone, "lines/3")


def test_few_lines_are_read_at_once(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = many(owner.tenant, 1)
    client = member(owner.tenant)
    for _ in range(line.PLACES):
        assert line._places.acquire(blocking=False)
    try:
        answer = client.get(page(batch, "lines/1"))
    finally:
        for _ in range(line.PLACES):
            line._places.release()
    assert answer.status_code == 503 and client.get(page(batch, "lines/1")).status_code == 200


def test_naughty_strings_are_text(owner: Person, witness: Witness, work: Work) -> None:
    """As custom_id, prompt, answer and error message: the tags of the pages are those of plain texts."""
    some = [each for each in NAUGHTY if each.isprintable() and each.strip()][::3]
    body = {"model": "witness", "messages": [{"role": "user", "content": "line:x fault:422"}]}
    lines = [{"custom_id": each, "body": body | {"user": each}} for each in some]
    batch = ended(owner, work, lines)
    assert batch.failed == len(some) > 100
    client = member(owner.tenant)
    pages = [client.get(page(batch, f"lines?after={after}")) for after in range(0, len(some), 50)]
    html = unescape("".join(answer.content.decode() for answer in pages))
    assert [each for each in some if each not in html] == []
    wanted, found = None, []
    for number in range(1, len(some) + 1, 15):
        answer = client.get(page(batch, f"lines/{number}")).content.decode()
        found.append([tag for tag in Tags(answer).found if tag[0] != "a"])
        wanted = wanted or found[0]
        assert json.dumps(some[number - 1], ensure_ascii=False)[1:-1] in unescape(answer)
    assert all(each == wanted for each in found)


def test_naughty_answers_and_messages_are_text(owner: Person) -> None:
    some = [each for each in NAUGHTY if "<" in each and each.isprintable()]
    [batch] = make_batches(owner.tenant, status=Status.IN_PROGRESS, total=len(some))
    records = []
    for number, each in enumerate(some, 1):
        told = {"choices": [{"message": {"role": each, "content": each}}], "error": {"message": each}}
        status = 400 + number if number < 4 else 418
        verdict = Verdict(True, status=status, body=json.dumps(told).encode())
        body = rendering.render(batch.secret, number, b'"x"', verdict)
        records.append(recording.Record(body, number, each[:512], status, "upstream_error"))
    recording.record(batch, recording.pack(records), clock.now())
    client = member(owner.tenant)
    html = client.get(page(batch, "digest")).content.decode()
    assert all(each in unescape(html) for each in some[:3])
    assert [tag for tag, _ in Tags(html).found].count("script") == SCRIPTS
    pages = [client.get(page(batch, f"lines/{number}")).content.decode() for number in range(4, len(some) + 1, 12)]
    assert all(each in unescape(shown) for each, shown in zip(some[3::12], pages, strict=True))
    tags = [[tag for tag in Tags(shown).found if tag[0] != "a"] for shown in pages]
    assert all(each == tags[0] for each in tags)


# --- texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            rb'{"a":[1.0,1e400],"b":"\u00e9\u4f60\ud83d\ude00"}',
            '{\n  "a": [\n    1.0,\n    1e400\n  ],\n  "b": "é你😀"\n}',
        ),
        (rb'"\\u00e9 \u0000 \u0022 \u005c \u202e \ud800 \n"', r'"\\u00e9 \u0000 \u0022 \u005c \u202e \ud800 \n"'),
        (b"{", "{"),
        (b"\xff", "\ufffd"),
        (b"[" * 5000 + b"]" * 5000, None),
        (b"", ""),
    ],
)
def test_json_is_indented_and_escapes_are_letters(data: bytes, text: str | None) -> None:
    assert showing.pretty(data) == text if text is not None else showing.pretty(data)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            {
                "body": {
                    "messages": [
                        {"role": "system", "content": "Be\nkind"},
                        {"role": "user", "content": [{"text": "a"}, {"type": "image_url"}, {"text": "b"}]},
                    ]
                }
            },
            [("system", "Be\nkind"), ("user", "a\n\nb")],
        ),
        ({"body": {"prompt": "p"}}, [("prompt", "p")]),
        ({"body": {"prompt": ["p", "q"]}}, [("prompt", "p\nq")]),
        ({"body": {"prompt": [1, 2]}}, []),
        (
            {"body": {"input": ["a", "b"], "instructions": "i"}},
            [("instructions", "i"), ("prompt", "a"), ("prompt", "b")],
        ),
        ({"body": {"input": [{"role": "user", "content": "c"}]}}, [("user", "c")]),
        (
            {"response": {"body": {"choices": [{"message": {"role": "assistant", "content": "x"}}, {"text": "y"}]}}},
            [("assistant", "x"), ("answer", "y")],
        ),
        (
            {"response": {"body": {"output": [{"type": "message", "role": "assistant", "content": [{"text": "z"}]}]}}},
            [("assistant", "z")],
        ),
        ({"response": {"body": {"choices": [{"message": {"role": 1, "content": None}}, 2, None, [["a"]]]}}}, []),
        ({"response": None, "error": {}}, []),
        ({"body": {"prompt": "x" * 9000}}, [("prompt", "x" * showing.TURN + "…")]),
        ([1], []),
    ],
)
def test_a_conversation_is_read_from_a_line(line: Any, said: list[tuple[str, str]]) -> None:
    assert showing.conversation(json.dumps(line).encode()) == said
    assert showing.conversation(b"{" * 5000) == []
    deep = b'{"content":[' * 400 + b'{"text":"deep"}' + b"]}" * 400
    assert showing.conversation(b'{"body":{"messages":[%b],"prompt":"p"}}' % deep) == [("prompt", "p")]


def head(body: str) -> bytes:
    return (
        b'{"id":"resp_a","custom_id":"x","response":{"status_code":400,"request_id":"req_a","body":%b' % body.encode()
    )


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (head('{"error":{"type":"x","message":"too \\"long\\": \\u00e9"}}}'), 'too "long": é'),
        (head('{"detail":"no"}}'), "no"),
        (head('"plain"},"error":null}'), "plain"),
        (head('{"error":{"message":"cut \\u00'), "cut \\u00"),
        (head('{"error":{"message":"' + "x" * 400), "x" * 300 + "…"),
        (head("[1]"), "[1]"),
        (b'{"id":"resp_a","custom_id":null,"response":null,"error":{"code":"empty","message":"Ours."}}', "Ours."),
        (b"\xff", ""),
    ],
)
def test_what_a_failure_says(start: bytes, said: str) -> None:
    assert showing.message(start) == said


def test_messages_of_one_kind() -> None:
    one, other = "line req_1a2b at 4097 of 10.5", "line req_99 at 7 of 2"
    assert showing.kind_of(one) == showing.kind_of(other) == "line # at # of #" != showing.kind_of("line of")
