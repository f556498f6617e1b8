"""Attachments of email templates through the API: what is taken, what is refused and by which field."""

from __future__ import annotations

import base64
import io
import uuid
import zipfile
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from sendledger.files.file_bucket import FileBucket
from testbed.campaigns import make_campaign
from tests.functions.campaign_api.api_client import Answer, ApiClient

pytestmark = pytest.mark.usefixtures("bucket_of_the_api")

TEMPLATE = {"name": "Hello", "subject": "Hi", "body_text": "Dear you"}
MIB = 1024 * 1024
PROGRAM = b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0"


@pytest.fixture
def path(api: ApiClient) -> str:
    """Of the attachments of a new template."""
    return f"/v1/email-templates/{api.post('/v1/email-templates', TEMPLATE).json['id']}/attachments"


def attach(api: ApiClient, path: str, name: str = "brochure.pdf", content: bytes = b"%PDF", **fields: Any) -> Answer:
    encoded = base64.b64encode(content).decode()
    return api.post(path, {"file_name": name, "content": encoded, **fields})


def upload(api: ApiClient, path: str, content: bytes) -> str:
    """The id of an uploaded file."""
    begun = api.post(f"{path}/uploads", {"size": len(content)})
    assert begun.status == 201, begun.body
    put = httpx.put(begun.json["upload_url"], headers=begun.json["upload_headers"], content=content)
    assert put.status_code == 200
    return str(begun.json["upload_id"])


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    return buffer.getvalue()


def test_attachments_are_listed_in_their_order(api: ApiClient, path: str) -> None:
    assert attach(api, path).status == 201
    assert attach(api, path, "logo.png", b"png", content_id="logo").status == 201
    assert attach(api, path, "Angebot für Sie.xyz", b"x", content_type="application/x-own").status == 201
    items = api.get(path).json["items"]
    shown = [[item[name] for name in ("file_name", "content_type", "content_id", "size")] for item in items]
    assert shown == [
        ["brochure.pdf", "application/pdf", None, 4],
        ["logo.png", "image/png", "logo", 3],
        ["Angebot für Sie.xyz", "application/x-own", None, 1],
    ]
    lead = {"lead": {"first_name": "Ann"}}
    assert api.post(path.replace("attachments", "preview"), lead).json["attachments"] == items


def test_removed_attachment_is_gone(api: ApiClient, path: str) -> None:
    id_ = attach(api, path).json["id"]
    assert api.delete(f"{path}/{id_}").status == 204
    assert api.get(path).json == {"items": []}
    assert api.delete(f"{path}/{id_}").status == 404


def test_attachment_of_another_template_cannot_be_removed(api: ApiClient, path: str) -> None:
    id_ = attach(api, path).json["id"]
    other = api.post("/v1/email-templates", TEMPLATE).json["id"]
    assert api.delete(f"/v1/email-templates/{other}/attachments/{id_}").status == 404
    assert len(api.get(path).json["items"]) == 1


def test_template_that_does_not_exist_has_no_attachments(api: ApiClient) -> None:
    path = f"/v1/email-templates/{uuid.uuid4()}/attachments"
    begun = api.post(f"{path}/uploads", {"size": 5})
    for answer in (api.get(path), attach(api, path), begun, api.delete(f"{path}/{uuid.uuid4()}")):
        assert answer.status == 404


@pytest.mark.parametrize("size", [0, True, "5", 1.5, 10**30, None])
def test_size_of_an_upload_that_is_none_is_refused(api: ApiClient, path: str, size: object) -> None:
    refused = api.post(f"{path}/uploads", {"size": size})
    assert (refused.status, refused.fields) == (422, ["size"])


def test_template_with_attachments_can_be_deleted(api: ApiClient, path: str) -> None:
    attach(api, path)
    assert api.delete(path.removesuffix("/attachments")).status == 204
    assert api.get(path).status == 404


@pytest.mark.parametrize(
    "name",
    [
        *("setup.exe", "run.JS", "run.bat", "x.scr", "x.vbs", "x.jar", "x.msi", "x.ps1", "x.lnk", "x.iso", "x.hta"),
        *("invoice.pdf.exe", "setup.exe.gz", "x.exe.Z", "invoice.pdf.js"),
        *("../etc/passwd.txt", "a/b.pdf", "a\\b.pdf", "C:x.pdf", 'a".pdf', "a<b>.pdf", "what?.pdf", "a|b.pdf"),
        *("a\r\nBcc: x@example.com.pdf", "a\tb.pdf", "a\x7f.pdf", "a\u0085.pdf", "a\u2028b.pdf"),
        *("invoice\u202efdp.exe", "a\u200bb.pdf", "a\u2066.pdf", "\ufeffa.pdf"),
        *(
            ".htaccess",
            ".pdf",
            "brochure",
            "brochure.",
            "brochure.pdf ",
            " brochure.pdf",
            "x.\u0435xe",
            "brochure.pdf.",
        ),
        *("x" * 252 + ".pdf", "ü" * 126 + ".pdf", "x" * 1000),
    ],
)
def test_hostile_file_name_is_refused_by_field(api: ApiClient, path: str, name: str) -> None:
    answer = attach(api, path, name)
    assert (answer.status, answer.fields) == (422, ["file_name"])
    assert api.get(path).json["items"] == []


@pytest.mark.parametrize(
    "name", ["x" * 251 + ".pdf", "Prix – été.pdf", "价格.pdf", "v1.2 (final), copy.tar.gz", "O'Neil.docx"]
)
def test_ordinary_file_name_is_taken(api: ApiClient, path: str, name: str) -> None:
    assert attach(api, path, name).json["file_name"] == name


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"content": "not base64!"}, ["content"]),
        ({"content": ""}, ["content"]),
        ({"content": base64.b64encode(PROGRAM).decode()}, ["content"]),
        ({"content": base64.b64encode(b"\x7fELF" + bytes(60)).decode()}, ["content"]),
        ({"content": base64.b64encode(zipped("readme.txt", "bin/setup.exe")).decode()}, ["content"]),
        ({"content": None}, ["content", "upload_id"]),
        ({"upload_id": str(uuid.uuid4())}, ["content", "upload_id"]),
        ({"content": None, "upload_id": str(uuid.uuid4())}, ["upload_id"]),
        ({"content": None, "upload_id": "mine"}, ["upload_id"]),
        ({"content_type": "pdf"}, ["content_type"]),
        ({"content_type": "text/plain\r\nX: y"}, ["content_type"]),
        ({"content_type": "text/plain; charset=utf-8"}, ["content_type"]),
        ({"content_type": "a/" + "x" * 77}, ["content_type"]),
        ({"content_type": "multipart/mixed"}, ["content_type"]),
        ({"content_type": "message/rfc822"}, ["content_type"]),
        ({"content_type": "application/x-msdownload"}, ["content_type"]),
        ({"content_type": "image/png", "content_id": "<logo>"}, ["content_id"]),
        ({"content_type": "image/png", "content_id": "a b"}, ["content_id"]),
        ({"content_type": "image/png", "content_id": "x" * 79}, ["content_id"]),
        ({"content_id": "logo"}, ["content_id"]),
        ({"size": 5}, ["size"]),
        (
            {"file_name": "x.exe", "content": "", "content_type": "multipart/x"},
            ["file_name", "content_type", "content"],
        ),
    ],
)
def test_what_is_wrong_is_named_by_field(api: ApiClient, path: str, fields: dict[str, Any], refused: list[str]) -> None:
    body = {"file_name": "brochure.pdf", "content": base64.b64encode(b"%PDF").decode(), **fields}
    answer = api.post(path, body)
    assert (answer.status, answer.fields) == (422, refused), answer.body


def test_archive_of_ordinary_files_is_taken(api: ApiClient, path: str) -> None:
    assert attach(api, path, "photos.zip", zipped("a.jpg", "b/c.png")).status == 201
    assert attach(api, path, "broken.zip", b"PK\x03\x04 and no more").status == 201


def test_content_id_is_taken_once_in_a_template(api: ApiClient, path: str) -> None:
    assert attach(api, path, "a.png", content_id="logo").status == 201
    assert attach(api, path, "b.png", content_id="logo").fields == ["content_id"]
    other = f"/v1/email-templates/{api.post('/v1/email-templates', TEMPLATE).json['id']}/attachments"
    assert attach(api, other, "a.png", content_id="logo").status == 201


def test_large_file_is_uploaded_and_then_attached(api: ApiClient, path: str, bucket: FileBucket) -> None:
    content = bytes(range(256)) * 4096 * 10
    attached = api.post(path, {"file_name": "film.mp4", "upload_id": upload(api, path, content)})
    assert (attached.status, attached.json["size"]) == (201, 10 * MIB), attached.body
    assert bucket.content_of(f"attachments/{attached.json['id']}", 10 * MIB) == content
    # There is no room for another byte.
    assert attach(api, path, content=b"x").fields == ["content"]
    assert "10,485,760 are taken" in attach(api, path, content=b"x").json["errors"][0]["message"]


@pytest.mark.parametrize("size", [0, -1, 10 * MIB + 1, "large", None])
def test_upload_that_no_template_could_have_is_not_begun(api: ApiClient, path: str, size: Any) -> None:
    answer = api.post(f"{path}/uploads", {"size": size})
    assert (answer.status, answer.fields) == (422, ["size"])


@pytest.mark.parametrize("size", [4, 6, 11 * MIB])
def test_file_of_another_size_than_was_said_is_refused_when_it_is_put(api: ApiClient, path: str, size: int) -> None:
    begun = api.post(f"{path}/uploads", {"size": 5}).json
    put = httpx.put(begun["upload_url"], headers=begun["upload_headers"], content=bytes(size))
    assert put.status_code == 403
    answer = api.post(path, {"file_name": "film.mp4", "upload_id": begun["upload_id"]})
    assert (answer.status, answer.fields) == (422, ["upload_id"])


def test_upload_belongs_to_its_template(api: ApiClient, path: str) -> None:
    id_ = upload(api, path, b"content")
    other = f"/v1/email-templates/{api.post('/v1/email-templates', TEMPLATE).json['id']}/attachments"
    assert api.post(other, {"file_name": "a.pdf", "upload_id": id_}).fields == ["upload_id"]


def test_file_that_is_put_again_after_it_was_attached_changes_nothing(
    api: ApiClient, path: str, bucket: FileBucket
) -> None:
    begun = api.post(f"{path}/uploads", {"size": 5}).json
    for content in (b"first", b"other"):
        httpx.put(begun["upload_url"], headers=begun["upload_headers"], content=content)
        if content == b"first":
            attached = api.post(path, {"file_name": "a.pdf", "upload_id": begun["upload_id"]}).json
    assert bucket.content_of(f"attachments/{attached['id']}", MIB) == b"first"


def test_a_template_has_twenty_attachments_at_most(api: ApiClient, path: str) -> None:
    for number in range(20):
        assert attach(api, path, f"{number}.pdf").status == 201
    assert attach(api, path).fields == ["file_name"]


def test_body_that_is_too_large_is_told_where_to_upload(api: ApiClient, path: str) -> None:
    answer = attach(api, path, content=bytes(2_500_000))
    assert answer.status == 413
    assert "attachments/uploads" in answer.json["detail"]


def test_changes_are_in_the_audit_log(api: ApiClient, path: str) -> None:
    id_ = attach(api, path).json["id"]
    api.delete(f"{path}/{id_}")
    logged = api.get("/v1/audit-log", sort="-id", limit=2).json["items"]
    assert [entry["action"] for entry in logged] == ["email_template.detach", "email_template.attach"]
    for entry in logged:
        assert entry["entity_id"] in path
        assert entry["detail"] == {"id": id_, "file_name": "brochure.pdf", "size": 4}


def test_upload_url_is_shown_once(api: ApiClient, path: str) -> None:
    headers = {"Idempotency-Key": "k"}
    first, again = (api.request("POST", f"{path}/uploads", body={"size": 5}, headers=headers).json for _ in range(2))
    assert first["upload_url"]
    assert again == {**first, "upload_url": None}


def test_preflight_finds_pictures_without_a_file_and_files_without_a_place(
    api: ApiClient, engine: sa.Engine, connection: sa.Connection
) -> None:
    html = '<p><img src="cid:logo"><img src=\'cid:missing\'><td background="cid:a%40b"></td></p>'
    template = api.post("/v1/email-templates", {**TEMPLATE, "body_html": html}).json["id"]
    path = f"/v1/email-templates/{template}/attachments"
    for content_id in ("logo", "a@b", "unused"):
        assert attach(api, path, "a.png", content_id=content_id).status == 201
    campaign = make_campaign(connection, 1, email_template_id=uuid.UUID(template))
    found = api.get(f"/v1/campaigns/{campaign}/preflight").json
    by_check = {kind: {each["check"]: each for each in found[kind]} for kind in ("errors", "warnings")}
    assert by_check["errors"]["attachments"]["detail"] == {"step_number": 1, "content_ids": ["missing"]}
    assert by_check["warnings"]["attachments"]["detail"] == {"step_number": 1, "content_ids": ["unused"]}
    assert api.post(f"/v1/campaigns/{campaign}/start").status == 422
