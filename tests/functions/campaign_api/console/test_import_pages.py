"""The console's pages of imports: a small file in a form, and a large one that is uploaded, checked and imported."""

from __future__ import annotations

import csv
import io
import re
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import sqlalchemy as sa

from sendledger.files.file_bucket import FileBucket
from sendledger.leads import import_files
from testbed.console_browser import HOST, Browser
from tests.functions.campaign_api.api_client import ApiClient

pytestmark = pytest.mark.usefixtures("bucket_of_the_api")

FILE = "E-mail;Vorname;Laden\nann@example.com;Ann;Acme\nann@example.com;Ann;Acme\nnobody;;\n"


def form_with_file(browser: Browser, button: str) -> Any:
    """What a browser sends of the form of a small file, when the button is pressed."""
    boundary = "b0undary"
    fields = {"name": "Fair", button: "1"} if button else {"name": "Fair"}
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}' for name, value in fields.items()]
    parts.append(f'Content-Disposition: form-data; name="file"; filename="fair.csv"\r\n\r\n{FILE}')
    body = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts) + f"--{boundary}--\r\n"
    headers = {"content-type": f"multipart/form-data; boundary={boundary}", "sec-fetch-site": "same-origin"}
    return browser.send("POST", "/console/import", body.encode(), headers, follow=True)


def upload(browser: Browser, content: str = FILE) -> str:
    """Send a file as the page for large ones says; the path where the browser is sent to."""
    page = browser.post("/console/import/uploads", {"name": "Fair", "request": "1" * 32})
    assert page.status == 200, page.text
    found = re.search(r'<form class="card stack" method="post" action="([^"]+)"', page.html)
    assert found
    host = urlsplit(found[1]).netloc
    assert f"form-action 'self' http://{host}" in page.headers["content-security-policy"]
    fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', page.html))
    sent = httpx.post(found[1], data=fields, files={"file": ("fair.csv", content)}, follow_redirects=False)
    assert sent.status_code == 303, sent.text
    assert sent.headers["location"].startswith(f"https://{HOST}/console/import/uploaded?")
    return sent.headers["location"].removeprefix(f"https://{HOST}")


def work(engine: sa.Engine, bucket: FileBucket, page: str) -> None:
    """What the function for files does when the file has arrived."""
    found = re.search(r"[0-9a-f-]{36}", page)
    assert found
    batch_id = import_files.lead_batch_of(f"imports/{found[0]}.csv")
    assert batch_id is not None
    assert not import_files.work(engine, bucket, batch_id, time.monotonic() + 60)


@pytest.fixture
def checked(browser: Browser, engine: sa.Engine, bucket: FileBucket) -> str:
    """The page of a large file that was checked."""
    shown = browser.get(upload(browser), follow=False)
    page = shown.headers["location"]
    work(engine, bucket, page)
    return page


def press(browser: Browser, page: str, **form: Any) -> None:
    request = browser.get(page).field("request")
    answered = browser.post(page, {"request": request, **form}, follow=False)
    assert answered.status == 303, answered.text


def test_rows_that_are_left_out_are_a_file(browser: Browser) -> None:
    shown = form_with_file(browser, "rejects")
    assert shown.headers["content-disposition"] == 'attachment; filename="rejects.csv"'
    header, rejected = csv.reader(io.StringIO(shown.html))
    assert header[-3:] == ["E-mail", "Vorname", "Laden"]
    assert (rejected[0], rejected[-3:]) == ("4", ["nobody", "", ""])
    assert "Nothing was imported yet" in browser.get("/console/import").text


def test_what_is_left_out_is_counted_by_reason(browser: Browser) -> None:
    assert (
        "What is left out, by reason The row has no address that SES could send to. 1"
        in form_with_file(browser, "check").text
    )


def test_large_file_is_checked_and_nothing_is_imported(browser: Browser, api: ApiClient, checked: str) -> None:
    text = browser.get(checked).text
    assert "Nothing is imported yet." in text
    assert "Rows read 3 New leads 1 There already 1 With errors 1" in text
    assert "Laden Acme" in text
    assert api.get("/v1/leads").json["items"] == []


def test_columns_of_a_large_file_are_corrected_and_kept(
    browser: Browser, api: ApiClient, engine: sa.Engine, bucket: FileBucket, checked: str
) -> None:
    press(browser, checked, column="company_name Laden", check="1")
    work(engine, bucket, checked)
    html = browser.get(checked).html
    assert '<option value="company_name Laden" title="The name of the company." selected>' in html or re.search(
        r'<option value="company_name Laden"[^>]* selected>', html
    )
    press(browser, checked, column="company_name Laden")
    assert "The file is being imported." in browser.get(checked).text
    work(engine, bucket, checked)
    (lead,) = api.get("/v1/leads").json["items"]
    assert (lead["email"], lead["company_name"]) == ("ann@example.com", "Acme")
    text = browser.get(checked).text
    assert "Leads imported 1 There already 1 With errors 1" in text
    assert "Make a campaign for them" in text
    assert "Get them as a file" in text


def test_import_that_has_failed_is_tried_again(
    browser: Browser, engine: sa.Engine, bucket: FileBucket, s3: Any, checked: str
) -> None:
    key = f"imports/{checked.rpartition('/')[2]}.csv"
    content = s3.get_object(Bucket=bucket.name, Key=key)["Body"].read()
    s3.delete_object(Bucket=bucket.name, Key=key)
    press(browser, checked)
    work(engine, bucket, checked)
    assert "The uploaded file is no longer there." in browser.get(checked).text
    s3.put_object(Bucket=bucket.name, Key=key, Body=content)
    press(browser, checked)
    work(engine, bucket, checked)
    assert "Leads imported 1" in browser.get(checked).text


def test_check_that_has_failed_is_made_again_and_nothing_is_imported(
    browser: Browser, engine: sa.Engine, bucket: FileBucket, s3: Any, checked: str
) -> None:
    key = f"imports/{checked.rpartition('/')[2]}.csv"
    content = s3.get_object(Bucket=bucket.name, Key=key)["Body"].read()
    s3.delete_object(Bucket=bucket.name, Key=key)
    press(browser, checked, check="1")
    work(engine, bucket, checked)
    shown = browser.get(checked)
    assert "The uploaded file is no longer there." in shown.text
    assert re.findall(r"<button[^>]*>([^<]+)", shown.html.partition("<main")[2]) == ["Check it again"]
    s3.put_object(Bucket=bucket.name, Key=key, Body=content)
    press(browser, checked, check="1")
    work(engine, bucket, checked)
    assert "Nothing is imported yet." in browser.get(checked).text


def test_viewer_sees_the_import_and_no_button_or_choice(browsers: dict[str, Browser], checked: str) -> None:
    browsers["viewer"].sign_in()
    shown = browsers["viewer"].get(checked)
    assert shown.status == 200
    assert "First name" in shown.text
    assert '<form class="actions"' not in shown.html
    assert "<select" not in shown.html
    assert browsers["viewer"].post(checked, {"request": "x"}).status == 403


def test_page_of_an_upload_can_be_used_once(browser: Browser) -> None:
    form = {"name": "Fair", "request": "2" * 32}
    browser.post("/console/import/uploads", form)
    assert "This page can be used once." in browser.post("/console/import/uploads", form).text
