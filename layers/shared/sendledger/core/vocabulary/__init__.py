"""Every word that has a fixed set of values: statuses, reasons, error codes, event types, roles and audit actions.

Each value stands here once, with a sentence that says what it means. CHECK constraints of tables, the types of routes,
the OpenAPI document and the documentation are made from these enums. SQL text spells the values; a test compares.
"""

from __future__ import annotations

from sendledger.core.vocabulary.access import AuditAction, Role
from sendledger.core.vocabulary.campaigns import (
    ENDED_CAMPAIGN_STATUSES,
    OPEN_CAMPAIGN_STATUSES,
    STARTABLE_STATUSES,
    UNDER_WAY_STATUSES,
    WORKFLOW_STATUSES,
    CampaignStatus,
    CampaignType,
    Counted,
    CountedResult,
    IntakeOutcome,
    RemovalKind,
    StartType,
    StepCondition,
    TemplateCategory,
    WinnerBy,
)
from sendledger.core.vocabulary.emails import (
    LEFT_OUT_REASONS,
    TERMINAL_STATUSES,
    DeliveryStatus,
    EmailStatus,
    ErrorCode,
    EventType,
    Reason,
    ScheduledEmailStatus,
)
from sendledger.core.vocabulary.feedback import (
    AuthenticationResult,
    AutomaticKind,
    ReplyKind,
    ReplyMatch,
    ReplyOutcome,
    ReplySource,
    SuppressionReason,
    UnsubscribeMethod,
    UnsubscribeScope,
)
from sendledger.core.vocabulary.files import (
    ColumnUse,
    ExportKind,
    ExportReader,
    ExportStatus,
    LeadBatchStatus,
    RejectCode,
)
from sendledger.core.vocabulary.leads import (
    LEAD_STATUSES_WITHOUT_MAIL,
    CampaignContact,
    LeadEvent,
    LeadStatus,
    TimeZoneSource,
)
from sendledger.core.vocabulary.policy import Bottleneck, NoForecast, SenderAddressStatus, ZoneOf
from sendledger.core.vocabulary.webhooks import WebhookDeliveryStatus, WebhookEventType, WebhookOutcome
from sendledger.core.vocabulary.words import Word, described, quoted

__all__ = [
    "ENDED_CAMPAIGN_STATUSES",
    "LEAD_STATUSES_WITHOUT_MAIL",
    "LEFT_OUT_REASONS",
    "OPEN_CAMPAIGN_STATUSES",
    "STARTABLE_STATUSES",
    "TERMINAL_STATUSES",
    "UNDER_WAY_STATUSES",
    "WORKFLOW_STATUSES",
    "AuditAction",
    "AuthenticationResult",
    "AutomaticKind",
    "Bottleneck",
    "CampaignContact",
    "CampaignStatus",
    "CampaignType",
    "ColumnUse",
    "Counted",
    "CountedResult",
    "DeliveryStatus",
    "EmailStatus",
    "ErrorCode",
    "EventType",
    "ExportKind",
    "ExportReader",
    "ExportStatus",
    "IntakeOutcome",
    "LeadBatchStatus",
    "LeadEvent",
    "LeadStatus",
    "NoForecast",
    "Reason",
    "RejectCode",
    "RemovalKind",
    "ReplyKind",
    "ReplyMatch",
    "ReplyOutcome",
    "ReplySource",
    "Role",
    "ScheduledEmailStatus",
    "SenderAddressStatus",
    "StartType",
    "StepCondition",
    "SuppressionReason",
    "TemplateCategory",
    "TimeZoneSource",
    "UnsubscribeMethod",
    "UnsubscribeScope",
    "WebhookDeliveryStatus",
    "WebhookEventType",
    "WebhookOutcome",
    "WinnerBy",
    "Word",
    "ZoneOf",
    "described",
    "quoted",
]
