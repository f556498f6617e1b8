"""The preflight finds what would keep a campaign from arriving, and a start refuses its errors."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import botocore.session
import pytest
import sqlalchemy as sa
from botocore.config import Config
from botocore.exceptions import ClientError

from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.core.errors import IllegalTransition, NobodyToEmail, NotFound, NotReady
from sendledger.core.settings import ApiSettings
from sendledger.core.tables import campaigns, email_templates, leads
from sendledger.policy import sender_addresses
from sendledger.preflight import check_delivery, diagnose
from sendledger.preflight.findings import Finding, Findings
from sendledger.preflight.preflight import preflight, refuse_start_unless_ready
from sendledger.sending.tick import send_due_emails
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_batch, make_campaign, make_template, pass_time
from testbed.senders import sender_resources

KEYS = "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
SETTINGS = {
    "PUBLIC_URL": "https://mail.example.com",
    "UNSUBSCRIBE_KEYS": KEYS,
    "POSTAL_ADDRESS": "1 Main Street, Springfield",
    "SENDER_FROM_ADDRESS": "Sales <sales@news.example.com>",
    "SES_CONFIGURATION_SET": "sendledger",
}

Run = Callable[..., Findings]


def dmarc(name: str) -> Sequence[str]:
    return ["v=DMARC1; p=reject"] if name == "_dmarc.example.com" else []


def client(url: str) -> Any:
    session = botocore.session.get_session()
    session.set_credentials("test", "test")
    once = Config(retries={"total_max_attempts": 1}, connect_timeout=60, read_timeout=60)
    return session.create_client("sesv2", region_name="us-east-1", endpoint_url=url, config=once)


@pytest.fixture
def run(engine: sa.Engine, ses: SesSimulator) -> Run:
    """Runs the preflight of a campaign, with a sender that has just ticked; keywords replace settings, and the finder
    of TXT records."""
    _tick(engine)

    def run_preflight(campaign_id: uuid.UUID, find: check_delivery.TxtRecords = dmarc, **settings: str) -> Findings:
        read = ApiSettings.read({**SETTINGS, **settings})
        return preflight(engine, campaign_id, read, lambda: client(ses.url), find)

    return run_preflight


def _tick(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        diagnose.note_tick(connection, 1.0, None)


def checks(findings: Sequence[Finding]) -> list[str]:
    return [finding.check for finding in findings]


def test_a_campaign_that_is_ready_has_neither_errors_nor_warnings(connection: sa.Connection, run: Run) -> None:
    campaign_id = make_campaign(connection, 3, [NO_DELAY, DAY])
    found = run(campaign_id)
    assert (found.errors, found.warnings) == ([], [])
    assert found.facts["dmarc"] == "v=DMARC1; p=reject"
    assert (found.facts["leads"], found.facts["steps"], found.facts["emails"]) == (3, 2, 6)
    assert (found.facts["leads_rendered"], found.facts["all_leads_rendered"]) == (3, True)
    assert (found.facts["identity"], found.facts["sandbox"]) == ("sales@news.example.com", False)


@pytest.mark.parametrize(("days_left", "expected"), [(1, ([], ["leads"])), (-1, (["leads"], []))])
def test_an_evergreen_campaign_may_start_without_leads_until_its_end(
    connection: sa.Connection, run: Run, days_left: int, expected: tuple[list[str], list[str]]
) -> None:
    end_at = dt.datetime.now(dt.UTC) + days_left * DAY
    found = run(make_campaign(connection, 0, evergreen=True, end_at=end_at))
    assert (checks(found.errors), checks(found.warnings)) == expected


def test_the_preflight_changes_nothing(engine: sa.Engine, connection: sa.Connection, run: Run) -> None:
    campaign_id = make_campaign(connection, 3)
    before = campaign_row(engine, campaign_id)
    run(campaign_id)
    assert campaign_row(engine, campaign_id) == before
    assert connection.scalar(sa.text("SELECT count(*) FROM campaign_steps")) == 0


def test_every_undefined_variable_is_reported_with_its_count_and_examples(connection: sa.Connection, run: Run) -> None:
    batch_id = make_batch(connection, [f"lead{n}@example.com" for n in range(10)])
    connection.execute(sa.update(leads).where(leads.c.email < "lead7").values(city="Bath"))
    template_id = make_template(connection, subject="{{ city }}", body_text="{{ pet }} {{ first_name }} {{ horse }}")
    campaign_id = make_campaign(connection, batch_ids=[batch_id], email_template_id=template_id)
    told = {each.detail["variable"]: each.detail for each in run(campaign_id).errors}
    assert {name: (each["count"], len(each["example_lead_ids"])) for name, each in told.items()} == {
        "city": (3, 3),
        "pet": (10, 5),
        "horse": (10, 5),
    }
    without_city = connection.scalars(sa.select(leads.c.id).where(leads.c.city.is_(None)))
    assert {uuid.UUID(each) for each in told["city"]["example_lead_ids"]} == set(without_city)


def test_leads_that_are_left_out_need_not_be_renderable(connection: sa.Connection, run: Run) -> None:
    batch_id = make_batch(connection, ["ann@example.com", "no address"])
    connection.execute(sa.update(leads).where(leads.c.email == "ann@example.com").values(city="Bath"))
    template_id = make_template(connection, body_text="{{ city }}")
    found = run(make_campaign(connection, batch_ids=[batch_id], email_template_id=template_id))
    assert found.errors == []
    assert found.facts["leads_left_out"] == {"invalid_address": 1}


def test_an_audience_of_several_chunks_is_rendered_completely(connection: sa.Connection, run: Run) -> None:
    found = run(make_campaign(connection, 4_500))
    assert (found.facts["leads_rendered"], found.errors) == (4_500, [])


def test_the_audience_is_judged_once(engine: sa.Engine, connection: sa.Connection, run: Run) -> None:
    judging: list[str] = []

    def look(_connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if "judged AS MATERIALIZED" in statement:
            judging.append(statement)

    sa.event.listen(engine, "before_cursor_execute", look)
    found = run(make_campaign(connection, ["a@example.com", "A@example.com", "nobody", None, "b@example.com"]))
    left_out = {"duplicate_address": 1, "invalid_address": 1, "no_address": 1}
    assert (found.facts["leads"], found.facts["leads_left_out"], len(judging)) == (2, left_out, 1)
    assert (found.facts["leads_rendered"], found.facts["all_leads_rendered"]) == (2, True)


def test_a_missing_custom_field_is_reported_with_its_path(connection: sa.Connection, run: Run) -> None:
    body = "{{ custom_fields.Plan }} {{ custom_fields.Seats }} {{ pet }}"
    template_id = make_template(connection, body_text=body)
    errors = run(make_campaign(connection, 2, email_template_id=template_id)).errors
    assert [each.detail["variable"] for each in errors] == ["custom_fields.Plan", "custom_fields.Seats", "pet"]
    assert "custom_fields.Plan has no value" in errors[0].message


def test_a_template_that_fails_otherwise_is_an_error(connection: sa.Connection, run: Run) -> None:
    template_id = make_template(connection, body_text="{{ custom_fields }}")
    (error,) = run(make_campaign(connection, 2, email_template_id=template_id)).errors
    assert (error.check, error.detail["code"], error.detail["count"]) == ("templates", "not_text", 2)


def test_a_subject_that_is_empty_for_a_lead_is_an_error(connection: sa.Connection, run: Run) -> None:
    template_id = make_template(connection, subject="{{ job_title | default('') }}")
    (error,) = run(make_campaign(connection, 2, email_template_id=template_id)).errors
    assert (error.check, error.detail["code"], error.detail["count"]) == ("templates", "empty_subject", 2)


def test_a_template_beyond_the_language_is_an_error_that_names_the_line(connection: sa.Connection, run: Run) -> None:
    template_id = make_template(connection, body_text="Hi\n{{ range(9) | join }}")
    (error,) = run(make_campaign(connection, 2, email_template_id=template_id)).errors
    assert (error.check, error.detail["step_number"]) == ("content", 1)
    assert error.detail["errors"][0]["message"].startswith("line 2: a call is not possible")


def test_links_are_tried_out_as_the_sender_makes_them(connection: sa.Connection, run: Run) -> None:
    body = (
        "{% if '/u/k1.' in unsubscribe_url and 'https://mail.example.com' in unsubscribe_url %}{{ gotcha }}{% endif %}x"
    )
    template_id = make_template(connection, body_text=body)
    (error,) = run(make_campaign(connection, 2, email_template_id=template_id)).errors
    assert error.detail["variable"] == "gotcha"


def test_a_name_that_no_lead_has_is_warned_of_also_where_a_fallback_hides_it(
    connection: sa.Connection, run: Run
) -> None:
    body = "{% set x = city | default('') %}{{ firstName | default('there') }} {{ contact.name | default('') }} {{ x }}"
    template_id = make_template(connection, body_text=body)
    found = run(make_campaign(connection, 1, email_template_id=template_id))
    (warning,) = [each for each in found.warnings if each.check == "variables"]
    assert (warning.detail["part"], warning.detail["variables"]) == ("body_text", ["contact", "firstName"])
    assert "There are company_name, contact_name, first_name" in warning.message


def test_placeholders_of_other_products_are_warned_of(connection: sa.Connection, run: Run) -> None:
    template_id = make_template(
        connection, subject="Hi *|FNAME|*", body_text="{FIRST_NAME} {{ first_name }}", body_html="<p>%%x%%</p>"
    )
    found = run(make_campaign(connection, 1, email_template_id=template_id))
    assert found.errors == []
    assert [(each.check, each.detail["part"], each.detail["placeholders"]) for each in found.warnings] == [
        ("placeholders", "subject", ["*|FNAME|*"]),
        ("placeholders", "body_text", ["{FIRST_NAME}"]),
        ("placeholders", "body_html", ["%%x%%"]),
    ]


@pytest.mark.parametrize(("size", "warned"), [(101_000, []), (104_000, ["html_size"])])
def test_html_that_gmail_clips_is_warned_of(connection: sa.Connection, run: Run, size: int, warned: list[str]) -> None:
    template_id = make_template(connection, body_html=f"<p>{{{{ first_name }}}}{'x' * size}</p>")
    assert checks(run(make_campaign(connection, 1, email_template_id=template_id)).warnings) == warned


def test_a_campaign_without_content_or_leads_is_an_error(connection: sa.Connection, run: Run) -> None:
    campaign_id = make_campaign(connection, [], email_template_id=None)
    assert checks(run(campaign_id).errors) == ["leads", "content"]


def test_unsubscribe_url_and_postal_address_must_be_there(connection: sa.Connection, run: Run) -> None:
    found = run(make_campaign(connection, 1), PUBLIC_URL="", POSTAL_ADDRESS="")
    assert checks(found.errors) == ["unsubscribe_url", "postal_address"]


def test_a_campaign_may_waive_the_postal_address(connection: sa.Connection, run: Run) -> None:
    found = run(make_campaign(connection, 1, postal_address_waived=True), POSTAL_ADDRESS="")
    assert (checks(found.errors), checks(found.warnings)) == ([], ["postal_address"])


@pytest.mark.parametrize(
    ("from_address", "identity", "covered"),
    [
        ("Sales <sales@example.com>", "example.com", True),
        ("sales@news.Example.com", "example.com", True),
        ("sales@example.com", "sales@example.com", True),
        ("sales@badexample.com", "example.com", False),
        ("other@example.com", "sales@example.com", False),
    ],
)
def test_the_sender_must_be_of_the_identity_that_the_sender_may_use(
    connection: sa.Connection, run: Run, from_address: str, identity: str, covered: bool
) -> None:
    campaign_id = make_campaign(connection, 1, from_address=from_address)
    found = run(campaign_id, SES_IDENTITY=identity).errors
    assert any("may send for" in error.message for error in found) is not covered


@pytest.mark.parametrize(
    ("identity", "errors", "warnings"),
    [
        (None, ["identity"], []),
        ({"VerifiedForSendingStatus": False}, ["identity"], []),
        ({"DkimAttributes": {"SigningEnabled": True, "Status": "PENDING"}}, ["dkim"], []),
        ({"DkimAttributes": {"SigningEnabled": False, "Status": "SUCCESS"}}, ["dkim"], []),
        ({"MailFromAttributes": {"BehaviorOnMxFailure": "USE_DEFAULT_VALUE"}}, [], ["mail_from"]),
        (
            {
                "MailFromAttributes": {
                    "MailFromDomain": "m.example.com",
                    "MailFromDomainStatus": "FAILED",
                    "BehaviorOnMxFailure": "REJECT_MESSAGE",
                }
            },
            ["mail_from"],
            [],
        ),
    ],
)
def test_the_identity_must_be_verified_and_sign(
    connection: sa.Connection,
    ses: SesSimulator,
    run: Run,
    identity: dict[str, Any] | None,
    errors: list[str],
    warnings: list[str],
) -> None:
    ses.account.identities = {"sales@news.example.com": None, "news.example.com": None, "example.com": identity}
    found = run(make_campaign(connection, 1))
    assert (checks(found.errors), checks(found.warnings)) == (errors, warnings)
    assert found.facts["identity"] == ("example.com" if identity else None)


def test_the_campaigns_own_sender_is_checked(connection: sa.Connection, ses: SesSimulator, run: Run) -> None:
    ses.account.identities = dict.fromkeys(("ann@other.org", "other.org"))
    (error,) = run(make_campaign(connection, 1, from_address="Ann <ann@other.org>")).errors
    assert (error.check, error.detail) == ("identity", {"domain": "other.org"})


@pytest.mark.parametrize(
    ("settings", "errors", "warnings"),
    [
        (None, ["configuration_set"], []),
        ({"SendingOptions": {"SendingEnabled": False}}, ["configuration_set"], []),
        ({"EventDestinations": []}, ["event_destination"], ["event_destination"]),
        (
            {
                "EventDestinations": [
                    {
                        "Name": "x",
                        "Enabled": True,
                        "MatchingEventTypes": ["BOUNCE", "COMPLAINT"],
                        "EventBridgeDestination": {
                            "EventBusArn": "arn:aws:events:us-east-1:123456789012:event-bus/default"
                        },
                    }
                ]
            },
            [],
            ["event_destination"],
        ),
    ],
)
def test_the_configuration_set_must_report_bounces_and_complaints(
    connection: sa.Connection,
    ses: SesSimulator,
    run: Run,
    settings: dict[str, Any] | None,
    errors: list[str],
    warnings: list[str],
) -> None:
    ses.account.configuration_sets = {"sendledger": settings}
    found = run(make_campaign(connection, 1))
    assert (checks(found.errors), checks(found.warnings)) == (errors, warnings)


def test_without_a_configuration_set_there_is_an_error(connection: sa.Connection, run: Run) -> None:
    assert checks(run(make_campaign(connection, 1), SES_CONFIGURATION_SET="").errors) == ["configuration_set"]


def test_in_the_sandbox_leads_whose_addresses_are_not_verified_are_an_error(
    connection: sa.Connection, ses: SesSimulator, run: Run
) -> None:
    ses.account.production_access = False
    ses.account.identities = {"ann@example.com": {}, "bob@example.com": {"VerifiedForSendingStatus": False}}
    addresses = ["Ann@Example.com", "bob@example.com", *(f"{n}@example.net" for n in range(6))]
    found = run(make_campaign(connection, addresses))
    (error,) = found.errors
    assert (error.check, error.detail["count"], found.facts["sandbox"]) == ("sandbox", 7, True)
    assert "7 leads have addresses that are not verified" in error.message
    ids = {str(each) for each in connection.scalars(sa.select(leads.c.id).where(leads.c.email != "Ann@Example.com"))}
    assert len(error.detail["example_lead_ids"]) == 5
    assert set(error.detail["example_lead_ids"]) <= ids


def test_in_the_sandbox_a_campaign_to_verified_addresses_and_the_mailbox_simulator_starts_and_is_sent(
    engine: sa.Engine, sender_engine: sa.Engine, connection: sa.Connection, ses: SesSimulator, run: Run
) -> None:
    ses.account.production_access = False
    ses.account.identities = {"ann@example.com": {}, "Mine.example": {}}
    addresses = ["Ann@Example.com", "bob@mine.example", "success+1@simulator.amazonses.com", "left out"]
    campaign_id = make_campaign(connection, addresses)
    found = run(campaign_id)
    assert (found.errors, checks(found.warnings)) == ([], ["sandbox"])
    refuse(engine, campaign_id, ses)
    lifecycle.start_campaign(engine, campaign_id)
    assert send_due_emails(sender_resources(sender_engine, ses.url), 20).sent == 3
    assert campaign_row(engine, campaign_id)["status"] == "completed"


def test_in_the_sandbox_identities_that_ses_does_not_tell_are_a_warning(
    engine: sa.Engine, connection: sa.Connection, ses: SesSimulator
) -> None:
    ses.account.production_access = False
    campaign_id = make_campaign(connection, 1)

    def without_the_right() -> Any:
        made = client(ses.url)
        made.meta.events.register("before-call.sesv2.ListEmailIdentities", _denied)
        return made

    _tick(engine)
    found = preflight(engine, campaign_id, ApiSettings.read(SETTINGS), without_the_right, dmarc)
    assert (found.errors, checks(found.warnings)) == ([], ["sandbox"])


def _denied(**_: Any) -> Any:
    raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "ListEmailIdentities")


def test_a_sender_that_does_not_run_is_a_warning_that_mentions_large_campaigns(
    engine: sa.Engine, connection: sa.Connection, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign_id = make_campaign(connection, 3, [NO_DELAY, DAY])
    pass_time(engine, DAY)
    (warning,) = run(campaign_id).warnings
    assert (warning.check, warning.detail["cause"]) == ("sender", "no_tick")
    assert "start of more" not in warning.message
    monkeypatch.setattr("sendledger.preflight.preflight.ROWS_PER_BUCKET", 5)
    (warning,) = run(campaign_id).warnings
    assert "Nor does a start of more than 5 emails get further" in warning.message


def test_an_account_that_may_not_send_is_an_error(connection: sa.Connection, ses: SesSimulator, run: Run) -> None:
    ses.account.sending_enabled = False
    assert checks(run(make_campaign(connection, 1)).errors) == ["account"]


def test_a_quota_that_does_not_suffice_is_a_warning(connection: sa.Connection, ses: SesSimulator, run: Run) -> None:
    ses.account.max_24_hour_send = 5
    assert checks(run(make_campaign(connection, 5)).warnings) == []
    assert checks(run(make_campaign(connection, 6)).warnings) == ["quota"]


def test_ses_that_does_not_answer_is_a_warning(engine: sa.Engine, connection: sa.Connection, run: Run) -> None:
    campaign_id = make_campaign(connection, 1)
    settings = ApiSettings.read(SETTINGS)
    _tick(engine)
    found = preflight(engine, campaign_id, settings, lambda: client("http://127.0.0.1:9"), dmarc)
    assert (found.errors, checks(found.warnings)) == ([], ["account", "identity", "configuration_set"])


def test_a_missing_dmarc_record_is_an_error_for_large_campaigns_only(connection: sa.Connection, run: Run) -> None:
    small, large = make_campaign(connection, 1), make_campaign(connection, 5_000)
    assert checks(run(small, find=lambda name: ["v=spf1 -all"]).warnings) == ["dmarc"]
    assert checks(run(large, find=lambda name: []).errors) == ["dmarc"]


def test_a_name_server_that_does_not_answer_is_a_warning(connection: sa.Connection, run: Run) -> None:
    def silent(name: str) -> Sequence[str]:
        raise OSError("The DNS does not answer (LifetimeTimeout).")

    found = run(make_campaign(connection, 5_000), find=silent)
    assert (found.errors, checks(found.warnings)) == ([], ["dmarc"])


def test_first_and_last_send_times_follow_from_steps_and_rate(
    connection: sa.Connection, ses: SesSimulator, run: Run
) -> None:
    ses.account.max_send_rate = 10.0
    now = connection.execute(sa.select(sa.func.now())).scalar_one()
    campaign_id = make_campaign(connection, 95, [NO_DELAY, DAY])
    facts = run(campaign_id).facts
    assert dt.timedelta(0) <= facts["first_send_at"] - now < dt.timedelta(seconds=20)
    assert facts["last_send_at"] - facts["first_send_at"] == DAY + dt.timedelta(seconds=10)
    later = now + 7 * DAY
    connection.execute(sa.update(campaigns).values(start_type="scheduled", scheduled_start_at=later))
    connection.commit()
    assert run(campaign_id).facts["first_send_at"] == later


def test_unknown_campaign_is_not_found(run: Run) -> None:
    with pytest.raises(NotFound):
        run(uuid.uuid4())


def refuse(engine: sa.Engine, campaign_id: uuid.UUID, ses: SesSimulator, **settings: str) -> None:
    # A reserved domain: the DNS is not asked.
    read = ApiSettings.read({**SETTINGS, "SENDER_FROM_ADDRESS": "sales@acme.example", **settings})
    refuse_start_unless_ready(engine, campaign_id, read, lambda: client(ses.url))


def test_a_start_is_refused_with_the_errors(engine: sa.Engine, connection: sa.Connection, ses: SesSimulator) -> None:
    campaign_id = make_campaign(connection, 1)
    refuse(engine, campaign_id, ses)
    ses.account.production_access = False
    with pytest.raises(NotReady, match="sandbox") as raised:
        refuse(engine, campaign_id, ses, POSTAL_ADDRESS="")
    assert [each["check"] for each in raised.value.data["preflight_errors"]] == ["postal_address", "sandbox"]


def test_a_running_campaign_is_a_conflict_instead(
    engine: sa.Engine, connection: sa.Connection, ses: SesSimulator
) -> None:
    campaign_id = make_campaign(connection, 1)
    lifecycle.start_campaign(engine, campaign_id)
    with pytest.raises(IllegalTransition):
        refuse(engine, campaign_id, ses, POSTAL_ADDRESS="")


def test_nobody_left_to_email_is_the_starts_own_error(
    engine: sa.Engine, connection: sa.Connection, ses: SesSimulator
) -> None:
    campaign_id = make_campaign(connection, ["nobody"])
    refuse(engine, campaign_id, ses)
    with pytest.raises(NobodyToEmail):
        lifecycle.start_campaign(engine, campaign_id)


def test_a_scheduled_start_that_is_not_ready_fails_with_the_reason(
    engine: sa.Engine, sender_engine: sa.Engine, connection: sa.Connection, ses: SesSimulator
) -> None:
    settings = {name: SETTINGS[name] for name in ("PUBLIC_URL", "UNSUBSCRIBE_KEYS", "POSTAL_ADDRESS")}
    resources = sender_resources(sender_engine, ses.url, **settings)
    soon = connection.execute(sa.select(sa.func.now())).scalar_one()
    ready = make_campaign(connection, 1, status="scheduled", start_type="scheduled", scheduled_start_at=soon)
    broken = make_campaign(connection, 1, status="scheduled", start_type="scheduled", scheduled_start_at=soon)
    template_id = campaign_row(engine, broken)["email_template_id"]
    connection.execute(
        sa.update(email_templates).where(email_templates.c.id == template_id).values(body_text="{{ pet }}")
    )
    connection.commit()
    send_due_emails(resources, 60.0)
    assert campaign_row(engine, ready)["status"] == "completed"
    failed = campaign_row(engine, broken)
    assert failed["status"] == "failed"
    assert "pet has no value" in failed["failure_reason"]


def test_every_sender_of_a_campaign_must_be_verified(
    engine: sa.Engine, connection: sa.Connection, run: Run, ses: SesSimulator
) -> None:
    verified = {
        "VerifiedForSendingStatus": True,
        "DkimAttributes": {"SigningEnabled": True, "Status": "SUCCESS"},
        "MailFromAttributes": {"MailFromDomain": "mail.example.com", "MailFromDomainStatus": "SUCCESS"},
    }
    ses.account.identities = {
        "ann@example.com": None,
        "bob@example.org": None,
        "example.com": verified,
        "example.org": None,
    }
    ann, bob = (
        sender_addresses.create(connection, {"from_address": address})["id"]
        for address in ("ann@example.com", "bob@example.org")
    )
    connection.commit()
    assert run(make_campaign(connection, 3, sender_ids=[ann])).errors == []
    found = run(make_campaign(connection, 3, sender_ids=[ann, bob]))
    assert [(error.check, error.detail) for error in found.errors] == [("identity", {"domain": "example.org"})]
    assert (found.facts["from_address"], found.facts["last_send_at"]) == ("ann@example.com", None)
    outside = run(make_campaign(connection, 3, sender_ids=[ann]), SES_IDENTITY="example.net").errors
    assert checks(outside) == ["identity"]
    further = {"SES_IDENTITY": "example.net", "MORE_SES_IDENTITIES": "example.org,example.com"}
    assert run(make_campaign(connection, 3, sender_ids=[ann]), **further).errors == []


def test_a_disabled_sender_is_a_warning(connection: sa.Connection, run: Run) -> None:
    values = {"from_address": "sales@news.example.com", "status": "disabled"}
    sender_id = sender_addresses.create(connection, values)["id"]
    connection.commit()
    found = run(make_campaign(connection, 3, sender_ids=[sender_id]))
    assert (found.errors, [warning.detail for warning in found.warnings]) == ([], [{"sender_id": str(sender_id)}])
