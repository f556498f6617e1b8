"""The part of a template's page on which files are attached and removed."""

from __future__ import annotations

import pytest

from testbed.console_browser import Browser, Shown
from tests.functions.campaign_api.api_client import ApiClient

pytestmark = pytest.mark.usefixtures("bucket_of_the_api")


@pytest.fixture
def template_id(api: ApiClient) -> str:
    return str(api.post("/v1/email-templates", {"name": "A", "subject": "B", "body_text": "C"}).json["id"])


def send_file(browser: Browser, template_id: str, name: str, content: bytes, content_id: str = "") -> Shown:
    """Send the form as a browser does."""
    parts = [
        f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode() + content,
        f'Content-Disposition: form-data; name="content_id"\r\n\r\n{content_id}'.encode(),
    ]
    body = b"".join(b"--XyZ\r\n" + part + b"\r\n" for part in parts) + b"--XyZ--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=XyZ", "sec-fetch-site": "same-origin"}
    return browser.send("POST", f"/console/templates/{template_id}/attachments", body, headers, follow=True)


def test_files_are_attached_shown_and_removed(browser: Browser, api: ApiClient, template_id: str) -> None:
    assert "The file is attached." in send_file(browser, template_id, "Prospekt für Sie.pdf", b"%PDF").text
    shown = send_file(browser, template_id, "logo.png", b"png", "logo")
    assert "Prospekt für Sie.pdf application/pdf 4" in shown.text
    assert "logo.png image/png 3 cid:logo" in shown.text
    first, _ = api.get(f"/v1/email-templates/{template_id}/attachments").json["items"]
    left = browser.post(f"/console/templates/{template_id}/attachments/{first['id']}/delete")
    assert "The file is removed." in left.text
    assert "Prospekt" not in left.text


@pytest.mark.parametrize("name", ["setup.exe", "", "<b>.pdf"])
def test_file_that_is_refused_is_named(browser: Browser, api: ApiClient, template_id: str, name: str) -> None:
    shown = send_file(browser, template_id, name, b"content")
    assert (shown.status, "file_name" in shown.text) == (422, True)
    assert api.get(f"/v1/email-templates/{template_id}/attachments").json["items"] == []


def test_viewer_sees_the_files_and_no_form(browsers: dict[str, Browser], browser: Browser, template_id: str) -> None:
    send_file(browser, template_id, "a.pdf", b"%PDF")
    browsers["viewer"].sign_in()
    shown = browsers["viewer"].get(f"/console/templates/{template_id}")
    assert "a.pdf" in shown.text
    assert 'enctype="multipart/form-data"' not in shown.html
