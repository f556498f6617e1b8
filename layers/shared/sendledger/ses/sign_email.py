"""One email as a signed HTTP request to SES: a message in, the bytes out. Uses no table.

botocore serializes and signs one request in each second, with its endpoint rules and credentials. The others of that
second differ only in the body and the signature, which are made here in a tenth of the time (docs/decisions). A test
compares the requests with those of boto3's `send_email`.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import time
import uuid
from dataclasses import dataclass
from email.utils import formataddr, parseaddr
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from botocore.awsrequest import create_request_object, prepare_request_dict
from botocore.exceptions import NoCredentialsError
from pydantic_core import to_json

from sendledger.ses.attachments import ATTACHMENTS_BEFORE, EncodedAttachments


class OutgoingEmail(NamedTuple):
    """One message to one recipient, rendered, with the tags that SES events bring back."""

    scheduled_email_id: int
    campaign_id: uuid.UUID
    claim_token: uuid.UUID
    from_address: str
    to_address: str
    reply_to_addresses: tuple[str, ...]
    subject: str
    body_text: str
    body_html: str | None
    headers: tuple[tuple[str, str], ...] = ()
    track_opens: bool = False
    track_clicks: bool = False
    attachments: EncodedAttachments | None = None


class CannotSign(Exception):
    """No email can be signed now. `permanent` if that will not pass by itself."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


SignedRequest = tuple[bytes, ...]
"""A request in the parts in which it is sent. Emails with the same attachments share the part that contains them."""


@dataclass(frozen=True)
class _Second:
    """The parts that requests of the same second share: all but the body, its length and the signature."""

    number: int
    key: bytes
    """What signs, made of the secret key."""
    to_sign: str
    """What is signed, up to the hash of the canonical request, with which it ends.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html"""
    canonical: Any
    """The hash of the canonical request so far: what follows is the hash of the body."""
    head: str
    """Up to the value of Content-Length."""
    authorization: str
    """Up to the signature, with which it ends."""

    def signature(self, body_hash: str) -> str:
        canonical = self.canonical.copy()
        canonical.update(body_hash.encode())
        return hmac.digest(self.key, f"{self.to_sign}{canonical.hexdigest()}".encode(), "sha256").hex()


class EmailSigner:
    """Signs for one sender. For one thread at a time; make one for each tick."""

    def __init__(self, client: Any, configuration_set: str | None) -> None:
        """`client` is from `send_email.ses_client`."""
        self._client = client
        self._configuration_set = configuration_set
        self._operation = client.meta.service_model.operation_model("SendEmail")
        # Our parameters do not influence the choice of the endpoint, so it is made once.
        self._endpoint_url, self._context = _resolve(client)
        # The client's signer would determine this for each request with event handlers, which do nothing for SES.
        # Credentials are read each second, so that expiring ones are renewed.
        self._signer = client._request_signer
        signing = self._context.get("signing", {})
        self._signed_for = (
            signing.get("signing_name", self._signer.signing_name),
            signing.get("region", self._signer.region_name),
            self._context.get("auth_type") or self._signer.signature_version,
        )
        self._user_agent = client._user_agent_creator.to_string()
        self._second: _Second | None = None

    def signed(self, email: OutgoingEmail) -> SignedRequest:
        """The bytes of the request, in parts. SES accepts it for a few minutes.

        Raises:
            CannotSign: there are no credentials, for example.
            Exception: this email cannot be serialized.
        """
        parameters = send_email_parameters(email, self._configuration_set)
        body = to_json(parameters)  # in a fifth of the time of the standard library
        hashed, length = hashlib.sha256(), len(body)
        shared: SignedRequest = ()
        if email.attachments is not None:
            assert body.startswith(ATTACHMENTS_BEFORE)  # noqa: S101 (a test sends one)
            body = body[len(ATTACHMENTS_BEFORE) :]
            hashed, shared = email.attachments.hashed.copy(), (email.attachments.body,)
            length = len(body) + len(email.attachments.body)
        hashed.update(body)
        second = self._second
        is_new = second is None or second.number != int(time.time())
        request = self._client._serializer.serialize_to_request(parameters, self._operation) if is_new else {}
        try:
            if second is None or is_new:
                second = self._second = self._sign_in_full(request)
            signature = second.signature(hashed.hexdigest())
        except NoCredentialsError as error:
            raise CannotSign(str(error), permanent=True) from error
        except Exception as error:
            raise CannotSign(f"{type(error).__name__}: {error}", permanent=False) from error
        head = f"{second.head}{length}{second.authorization}{signature}\r\n\r\n".encode("latin-1")
        return (head, *shared, body) if shared else (head + body,)

    def _sign_in_full(self, request: dict[str, Any]) -> _Second:
        number = int(time.time())
        prepare_request_dict(
            request, endpoint_url=self._endpoint_url, user_agent=self._user_agent, context=dict(self._context)
        )
        unsigned = create_request_object(request)
        auth = self._signer.get_auth_instance(*self._signed_for)
        auth.add_auth(unsigned)
        authorization = unsigned.headers["Authorization"]
        del unsigned.headers["Authorization"]  # it is no part of what is signed
        canonical = auth.canonical_request(unsigned)
        to_sign = auth.string_to_sign(unsigned, canonical)
        signed = unsigned.prepare()
        headers = dict(signed.headers.items())
        del headers["Content-Length"]
        endpoint = endpoint_of(self._client)
        headers.setdefault("Host", endpoint.netloc)
        lines = [f"{signed.method} {endpoint.path} HTTP/1.1"]
        for name, value in headers.items():
            lines.append(f"{name}: {value if isinstance(value, str) else value.decode('latin-1')}")
        return _Second(
            number=number,
            key=_signing_key(auth.credentials.secret_key, auth.credential_scope(unsigned)),
            to_sign=to_sign.removesuffix(hashlib.sha256(canonical.encode()).hexdigest()),
            canonical=hashlib.sha256(canonical.removesuffix(hashlib.sha256(request["body"]).hexdigest()).encode()),
            head="\r\n".join((*lines, "Content-Length: ")),
            authorization=f"\r\nAuthorization: {authorization.rpartition('=')[0]}=",
        )


def _signing_key(secret_key: str, scope: str) -> bytes:
    """The key for a day, a region and a service, which the scope names."""
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _resolve(client: Any) -> tuple[str, dict[str, Any]]:
    """The URL of SendEmail, and the context of botocore for it."""
    operation = client.meta.service_model.operation_model("SendEmail")
    context = {
        "client_region": client.meta.region_name,
        "client_config": client.meta.config,
        "has_streaming_input": False,
        "auth_type": operation.resolved_auth_type,
        "unsigned_payload": operation.unsigned_payload,
        "auth_options": client.meta.service_model.metadata.get("auth"),
    }
    url, _, properties = client._resolve_endpoint_ruleset(operation, {}, context)
    return url, {**context, "endpoint_properties": properties}


def endpoint_of(client: Any) -> SplitResult:
    """The URL of SendEmail, with the path."""
    base = urlsplit(_resolve(client)[0])
    path: str = client.meta.service_model.operation_model("SendEmail").http["requestUri"]
    return base._replace(path=base.path.rstrip("/") + path)


def send_email_parameters(email: OutgoingEmail, configuration_set: str | None) -> dict[str, Any]:
    """The parameters of SESv2's SendEmail for one message, as boto3 would take them."""
    body = {"Text": {"Data": email.body_text, "Charset": "UTF-8"}}
    if email.body_html is not None:
        body["Html"] = {"Data": email.body_html, "Charset": "UTF-8"}
    parameters: dict[str, Any] = {
        # First, for `ATTACHMENTS_BEFORE`.
        "Content": {"Simple": {"Subject": {"Data": email.subject, "Charset": "UTF-8"}, "Body": body}},
        "FromEmailAddress": mailbox(email.from_address),
        "Destination": {"ToAddresses": [email.to_address]},
        "EmailTags": [
            {"Name": "scheduled_email_id", "Value": str(email.scheduled_email_id)},
            {"Name": "campaign_id", "Value": str(email.campaign_id)},
            {"Name": "claim_token", "Value": str(email.claim_token)},
        ],
    }
    parameters["ConfigurationOverrides"] = tracking(opens=email.track_opens, clicks=email.track_clicks)
    if email.headers:
        parameters["Content"]["Simple"]["Headers"] = [{"Name": name, "Value": value} for name, value in email.headers]
    if email.reply_to_addresses:
        parameters["ReplyToAddresses"] = [mailbox(address) for address in email.reply_to_addresses]
    if configuration_set:
        parameters["ConfigurationSetName"] = configuration_set
    return parameters


def tracking(*, opens: bool, clicks: bool) -> dict[str, Any]:
    """What a message says about tracking, whatever its configuration set says: without it SES would track.

    https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_TrackingConfigurationOverrides.html
    """
    said = {True: "ENABLED", False: "DISABLED"}
    return {"Tracking": {"OpenTrackingEnabled": said[opens], "ClickTrackingEnabled": said[clicks]}}


@functools.lru_cache(maxsize=1024)
def mailbox(value: str) -> str:
    """A mailbox with its display name encoded by RFC 2047, as SES accepts only ASCII here."""
    return formataddr(parseaddr(value))
