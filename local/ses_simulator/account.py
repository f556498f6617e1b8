"""The state of the simulated SES account: sending switches, quotas, identities, configuration sets, suppression list.

Every attribute can be set while the simulator runs. `admit` is the one place that decides whether the account may send
now; both limits count recipients, as in SES (https://docs.aws.amazon.com/ses/latest/dg/manage-sending-quotas.html).
"""

import time
from collections import deque
from datetime import datetime, timedelta
from typing import Any

from local.ses_simulator.send_request import SendRequest
from local.ses_simulator.ses_errors import (
    ACCOUNT_SUSPENDED,
    DAILY_QUOTA_EXCEEDED,
    RATE_EXCEEDED,
    SENDING_PAUSED,
    SesError,
    configuration_set_not_found,
    not_verified,
)

UNLIMITED_RATE = 1_000_000.0
MAILBOX_SIMULATOR_DOMAIN = "simulator.amazonses.com"
EVENT_TYPES = (
    "SEND", "REJECT", "BOUNCE", "COMPLAINT", "DELIVERY", "OPEN", "CLICK", "RENDERING_FAILURE", "DELIVERY_DELAY",
    "SUBSCRIPTION",
)  # fmt: skip


class Account:
    """`max_send_rate` of None and `max_24_hour_send` of -1 mean unlimited.

    `identities` and `configuration_sets` hold what differs from the default, in which every identity is verified and
    every configuration set exists and publishes all events to EventBridge: a name maps to the members that differ in
    the answer of GetEmailIdentity or GetConfigurationSet (for the latter also `EventDestinations`), or to None where
    it does not exist.
    """

    def __init__(self, *, region: str, max_send_rate: float | None, max_24_hour_send: int, latency_ms: float) -> None:
        self.region = region
        self.account_id = "123456789012"
        self._initially = (max_send_rate, max_24_hour_send, latency_ms)
        self.reset()

    def reset(self) -> None:
        """Back to the state it was made with, nothing sent."""
        max_send_rate, self.max_24_hour_send, self.latency_ms = self._initially
        self.max_send_rate = max_send_rate or None
        self.sending_enabled = True
        self.production_access = True
        self.enforcement_status = "HEALTHY"
        self.identities: dict[str, dict[str, Any] | None] = {}
        self.configuration_sets: dict[str, dict[str, Any] | None] = {}
        self.suppressed: dict[str, tuple[str, datetime]] = {}  # address in lower case -> reason, since when
        self._tokens = self.max_send_rate or 0.0
        self._tokens_at = time.monotonic()
        self._sent_by_minute: deque[tuple[datetime, int]] = deque()
        self._sent_last_24_hours = 0

    def admit(self, request: SendRequest, now: datetime) -> None:
        """Charge the recipients to both quotas. Raises SesError, and charges nothing, where SES would refuse."""
        self._check_switches()
        self._check_names(request)
        recipients = len(request.recipients)
        if 0 <= self.max_24_hour_send < self.sent_last_24_hours(now) + recipients:
            raise SesError("TooManyRequestsException", DAILY_QUOTA_EXCEEDED)
        self._take_tokens(recipients)
        self.count_sent(recipients, now)

    def _check_switches(self) -> None:
        if self.enforcement_status == "SHUTDOWN":
            raise SesError("AccountSuspendedException", ACCOUNT_SUSPENDED)
        if not self.sending_enabled:
            raise SesError("SendingPausedException", SENDING_PAUSED)

    def _check_names(self, request: SendRequest) -> None:
        if self.identities and request.from_address and not self._is_verified(request.from_address):
            raise not_verified([request.from_address], self.region)
        if not self.production_access:
            unverified = [each for each in request.recipients if not self._may_be_sent_to_in_sandbox(each)]
            if unverified:
                raise not_verified(unverified, self.region)
        if request.configuration_set and self.configuration_set(request.configuration_set) is None:
            raise configuration_set_not_found(request.configuration_set)

    def _is_verified(self, given: str) -> bool:
        address = given.rpartition("<")[2].rstrip(">").lower()
        domain = address.rpartition("@")[2]
        name = address if address in self.identities else domain
        identity = self.identity(name)
        return identity is not None and bool(identity["VerifiedForSendingStatus"])

    def _may_be_sent_to_in_sandbox(self, address: str) -> bool:
        domain = address.rpartition("@")[2].lower()
        if domain == MAILBOX_SIMULATOR_DOMAIN:
            return True
        # In the sandbox only named identities are verified. Otherwise it would not differ from production.
        verified = {each["IdentityName"].lower() for each in self.list_identities() if each["SendingEnabled"]}
        return not verified.isdisjoint((address.lower(), domain))

    def _take_tokens(self, recipients: int) -> None:
        rate = self.max_send_rate
        if not rate:
            return
        now = time.monotonic()
        # Burst: one second's worth, but never less than what one request may need.
        capacity = max(rate, 1.0)
        self._tokens = min(capacity, self._tokens + (now - self._tokens_at) * rate)
        self._tokens_at = now
        if self._tokens < min(recipients, capacity):
            raise SesError("TooManyRequestsException", RATE_EXCEEDED)
        self._tokens -= recipients

    def count_sent(self, recipients: int, at: datetime) -> None:
        minute = at.replace(second=0, microsecond=0)
        if self._sent_by_minute and self._sent_by_minute[-1][0] == minute:
            recipients_before = self._sent_by_minute.pop()[1]
        else:
            recipients_before = 0
        self._sent_by_minute.append((minute, recipients_before + recipients))
        self._sent_last_24_hours += recipients

    def sent_last_24_hours(self, now: datetime) -> int:
        horizon = now - timedelta(hours=24)
        while self._sent_by_minute and self._sent_by_minute[0][0] < horizon:
            self._sent_last_24_hours -= self._sent_by_minute.popleft()[1]
        return self._sent_last_24_hours

    def describe(self, now: datetime) -> dict[str, Any]:
        """The answer of GetAccount."""
        return {
            "DedicatedIpAutoWarmupEnabled": False,
            "EnforcementStatus": self.enforcement_status,
            "ProductionAccessEnabled": self.production_access,
            "SendingEnabled": self.sending_enabled,
            "SendQuota": {
                "Max24HourSend": float(self.max_24_hour_send),
                "MaxSendRate": float(self.max_send_rate or UNLIMITED_RATE),
                "SentLast24Hours": float(self.sent_last_24_hours(now)),
            },
            "SuppressionAttributes": {"SuppressedReasons": ["BOUNCE", "COMPLAINT"]},
            "Details": {
                "MailType": "MARKETING",
                "WebsiteURL": "https://example.com",
                "ContactLanguage": "EN",
                "ReviewDetails": {"Status": "GRANTED" if self.production_access else "PENDING"},
            },
        }

    def identity(self, name: str) -> dict[str, Any] | None:
        """The answer of GetEmailIdentity."""
        differs = self.identities.get(name.lower(), {})
        if differs is None:
            return None
        is_domain = "@" not in name
        domain = name.rpartition("@")[2]
        return {
            "IdentityType": "DOMAIN" if is_domain else "EMAIL_ADDRESS",
            "FeedbackForwardingStatus": True,
            "VerifiedForSendingStatus": True,
            "VerificationStatus": "SUCCESS",
            "DkimAttributes": {
                "SigningEnabled": True,
                "Status": "SUCCESS",
                "Tokens": ["simulated1", "simulated2", "simulated3"],
                "SigningAttributesOrigin": "AWS_SES",
                "CurrentSigningKeyLength": "RSA_2048_BIT",
                "NextSigningKeyLength": "RSA_2048_BIT",
            },
            "MailFromAttributes": {
                "MailFromDomain": f"mail.{domain}",
                "MailFromDomainStatus": "SUCCESS",
                "BehaviorOnMxFailure": "USE_DEFAULT_VALUE",
            },
            "Policies": {},
            "Tags": [],
        } | differs

    def list_identities(self) -> list[dict[str, Any]]:
        """The identities in the answer of ListEmailIdentities: those that have a name here."""
        known = ((name, self.identity(name)) for name in self.identities)
        return [
            {
                "IdentityName": name,
                "IdentityType": identity["IdentityType"],
                "SendingEnabled": identity["VerifiedForSendingStatus"],
                "VerificationStatus": identity["VerificationStatus"],
            }
            for name, identity in known
            if identity is not None
        ]

    def configuration_set(self, name: str) -> dict[str, Any] | None:
        """The answers of GetConfigurationSet and GetConfigurationSetEventDestinations in one."""
        differs = self.configuration_sets.get(name, {})
        if differs is None:
            return None
        return {
            "ConfigurationSetName": name,
            "DeliveryOptions": {"TlsPolicy": "REQUIRE"},
            "ReputationOptions": {"ReputationMetricsEnabled": True},
            "SendingOptions": {"SendingEnabled": True},
            "SuppressionOptions": {"SuppressedReasons": ["BOUNCE", "COMPLAINT"]},
            "Tags": [],
            "EventDestinations": [
                {
                    "Name": "eventbridge",
                    "Enabled": True,
                    "MatchingEventTypes": list(EVENT_TYPES),
                    "EventBridgeDestination": {
                        "EventBusArn": f"arn:aws:events:{self.region}:{self.account_id}:event-bus/default"
                    },
                }
            ],
        } | differs
