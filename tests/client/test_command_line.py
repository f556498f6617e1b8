"""`sendledger` against the API of the local stack: what it prints, what it does and how it ends."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import os
import re
import stat
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from sendledger_client import NotReachable, Sendledger, models
from tests.client.conftest import Run, Running


def name() -> str:
    return uuid.uuid4().hex


def new_lead(api: Sendledger) -> uuid.UUID:
    created: uuid.UUID = api.create_lead(body=models.NewLead(email=f"{name()}@example.com")).id
    return created


def new_campaign(api: Sendledger, leads: int = 2) -> models.Campaign:
    """A campaign with leads of its own, which can be started."""
    ids = [new_lead(api) for _ in range(leads)]
    template = api.create_email_template(body=models.NewEmailTemplate(name(), "Hello", body_text="Hi"))
    return api.create_campaign(
        body=models.NewCampaign(name=name(), lead_ids=ids, email_template_id=template.id, postal_address_waived=True)
    )


# Logging in, and how it ends


def test_login_keeps_a_good_key_for_this_user_only(
    run: Run, running: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SENDLEDGER_URL")
    monkeypatch.delenv("SENDLEDGER_API_KEY")
    assert run("campaigns", "list").code == 3
    # With the /v1 of the documentation, too.
    assert run("login", "--url", f"{running.stack.url}/v1", "--api-key", running.key).code == 0
    (kept,) = (tmp_path / "home").rglob("login.json")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert run("campaigns", "list").code == 0


def test_bad_key_is_not_kept(run: Run, running: Running, tmp_path: Path) -> None:
    ended = run("login", "--url", running.stack.url, "--api-key", "sl_wrong")
    assert (ended.code, list(tmp_path.rglob("login.json"))) == (3, [])


def test_kept_key_goes_to_no_other_host(run: Run, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    run("login", "--url", running.stack.url, "--api-key", running.key)
    monkeypatch.delenv("SENDLEDGER_API_KEY")
    assert run("campaigns", "list").code == 0
    monkeypatch.setenv("SENDLEDGER_URL", "http://127.0.0.1:1")
    assert run("campaigns", "list").code == 3


@pytest.mark.parametrize("url", ["http://mail.example.com", "ftp://localhost", "http://localhost@example.com", "x"])
def test_key_is_not_sent_unencrypted(run: Run, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    ended = run("login", "--url", url, "--api-key", "sl_x")
    assert (ended.code, "https://" in ended.err) == (2, True)
    monkeypatch.setenv("SENDLEDGER_URL", url)
    assert run("campaigns", "list").code == 3


def test_damaged_login_is_one_sentence(
    run: Run, running: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run("login", "--url", running.stack.url, "--api-key", running.key)
    monkeypatch.delenv("SENDLEDGER_API_KEY")
    (kept,) = (tmp_path / "home").rglob("login.json")
    kept.write_text("{")
    ended = run("campaigns", "list")
    assert ended.code == 3
    assert "sendledger login" in ended.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["campaigns", "show", str(uuid.UUID(int=1))], 4),
        (["campaigns", "show", "no such name"], 4),
        (["campaigns", "list", "--status", "gone"], 2),
        (["leads", "import", "no-such-file.csv"], 2),
        (["preview", str(uuid.UUID(int=1)), "--field", "first_name"], 2),
        (["templates", "push", "."], 0),
        (["no-such-command"], 2),
        ([], 2),
    ],
)
def test_exit_code_tells_the_kind_of_error(
    run: Run, arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run(*arguments)
    assert ended.code == code
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["campaigns", "start"],
        ["campaigns", "list", "--limit", "many"],
        ["campaigns", "list", "--no-such-option"],
        ["campaigns", "show", "a", "b"],
        ["export", "leads"],
        ["confirm", "sell", "x"],
    ],
)
def test_wrong_usage_is_one_sentence_that_says_where_help_is(run: Run, arguments: list[str]) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert re.fullmatch(r"sendledger: [^\n]+\. See sendledger[a-z ]* --help\.\n", ended.err), ended.err


def test_group_without_a_command_shows_its_help(run: Run) -> None:
    ended = run("campaigns")
    assert (ended.code, "pause" in ended.err) == (2, True)


def test_rows_are_not_broken_in_a_pipe(run: Run, api: Sendledger, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = new_campaign(api)
    monkeypatch.delenv("COLUMNS")
    lines = run("campaigns", "list", "--limit", 5).out.splitlines()
    assert [line for line in lines if str(campaign.id) in line and campaign.name in line]


def test_id_stays_whole_on_a_narrow_terminal(run: Run, api: Sendledger, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = new_campaign(api)
    monkeypatch.setattr("sendledger_client.commands.output.WIDTH_OF_A_PIPE", 90)
    shown = run("campaigns", "list", "--limit", 5).out
    assert str(campaign.id) in shown
    assert "…" not in shown


def test_no_to_the_question_starts_nothing(run: Run, api: Sendledger, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = new_campaign(api)
    answers = io.StringIO("n\n")
    monkeypatch.setattr(answers, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", answers)
    ended = run("campaigns", "start", campaign.id)
    assert (ended.code, "Nothing was done." in ended.err) == (1, True)
    assert api.get_campaign(campaign.id).status is models.CampaignStatus.DRAFT


def test_start_at_a_later_time_says_when(run: Run, api: Sendledger) -> None:
    campaign = new_campaign(api)
    at = dt.datetime(2100, 1, 31, 9, 0, tzinfo=dt.UTC)
    changes = models.CampaignChanges(start_type=models.StartType.SCHEDULED, scheduled_start_at=at)
    api.update_campaign(campaign.id, body=changes)
    assert "it starts at 2100-01-31 09:00:00 UTC" in run("campaigns", "start", campaign.id, "--yes").out


def test_api_that_cannot_be_reached_has_its_own_exit_code(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sendledger_client.retries.FIRST_PAUSE", 0.001)
    monkeypatch.setenv("SENDLEDGER_URL", "http://127.0.0.1:1")
    ended = run("campaigns", "list")
    assert ended.code == 6
    assert ended.err.startswith("sendledger: http://127.0.0.1:1 cannot be reached")
    assert ended.err.count("\n") == 1


def test_installed_program_shows_its_help_and_its_completion() -> None:
    program = Path(sys.executable).with_name("sendledger")
    help_ = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    assert "Exit codes" in help_.stdout
    environment = {"_SENDLEDGER_COMPLETE": "complete_bash", "COMP_WORDS": "sendledger camp", "COMP_CWORD": "1"}
    completed = subprocess.run([program], env=environment, capture_output=True, text=True, check=True)
    assert completed.stdout.split() == ["campaigns"]


# Campaigns


def test_campaign_is_started_paused_resumed_and_cancelled(run: Run, api: Sendledger) -> None:
    campaign = new_campaign(api)
    started = run("campaigns", "start", campaign.name)
    assert (started.code, "2 emails for 2 leads" in started.out) == (0, True), started.err
    again = run("campaigns", "start", campaign.id)
    assert (again.code, "running" in again.err) == (5, True)
    assert json.loads(run("campaigns", "pause", campaign.id, "--json").out)["emails_cancelled"] == 2
    assert "2 emails are pending again" in run("campaigns", "resume", campaign.id).out
    assert "2 emails are not sent" in run("campaigns", "cancel", campaign.id, "--yes").out
    assert api.get_campaign(campaign.id).status is models.CampaignStatus.CANCELLED


def test_campaigns_are_listed_and_shown(run: Run, api: Sendledger) -> None:
    campaign = new_campaign(api)
    (listed,) = json.loads(run("campaigns", "list", "--limit", "1", "--json").out)
    assert listed["id"] == str(campaign.id)
    assert campaign.name in run("campaigns", "list", "--status", "draft").out
    assert json.loads(run("campaigns", "show", campaign.id, "--json").out)["stats"]["status"] == "draft"
    assert "draft" in run("campaigns", "show", campaign.name).out


def test_two_campaigns_with_one_name_are_distinguished_by_id(run: Run, api: Sendledger) -> None:
    campaign = new_campaign(api)
    other = models.NewCampaign(campaign.name, email_template_id=campaign.email_template_id, lead_ids=[new_lead(api)])
    api.create_campaign(body=other)
    ended = run("campaigns", "pause", campaign.name)
    assert (ended.code, str(campaign.id) in ended.err) == (5, True)


def test_campaign_is_watched_to_its_end(run: Run, running: Running, api: Sendledger) -> None:
    campaign = new_campaign(api)
    api.start_campaign(campaign.id)
    running.stack.tick()
    watched = run("campaigns", "watch", campaign.id, "--every", "0.2", "--json")
    last = json.loads(watched.out.splitlines()[-1])
    assert (last["status"], last["sent"]) == ("completed", 2)
    assert "100%" in run("campaigns", "watch", campaign.id).out


def test_the_plan_of_a_campaign_lists_its_days(run: Run, api: Sendledger) -> None:
    campaign = new_campaign(api)
    (day,) = json.loads(run("campaigns", "plan", campaign.id, "--json").out)["days"]
    assert day["date"] in run("campaigns", "plan", campaign.name).out


def test_diagnosis_and_audit_log_of_a_campaign(run: Run, api: Sendledger) -> None:
    campaign = new_campaign(api)
    assert "draft" in run("diagnose", campaign.name).out
    api.start_campaign(campaign.id)
    actions = [entry["action"] for entry in json.loads(run("audit", "--entity", campaign.id, "--json").out)]
    assert "campaign.start" in actions
    assert "campaign.start" in run("audit", "--entity", campaign.id, "--action", "campaign.start").out


# Leads


def test_dry_run_says_what_is_wrong_and_keeps_nothing(run: Run, api: Sendledger, tmp_path: Path) -> None:
    address = f"{name()}@example.com"
    file = tmp_path / "leads.csv"
    file.write_text(f"Email\n{address}\nbroken\n")
    ended = run("leads", "import", file, "--dry-run")
    assert (ended.code, "nothing was imported" in ended.out, "3" in ended.out) == (0, True, True)
    found = json.loads(run("leads", "import", file, "--dry-run", "--json").out)
    assert (found["successful_imports"], found["errors"][0]["row"]) == (1, 3)
    assert api.list_leads(email=address).items == []
    assert [batch.name for batch in api.list_lead_batches().items if batch.name == "leads"] == []


def test_dry_run_of_a_large_file_is_about_its_first_rows(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sendledger_client.commands.leads.LARGEST_DIRECT_FILE", 60)
    file = tmp_path / "leads.csv"
    file.write_text("Email\n" + "".join(f"{number}-{name()}@example.com\n" for number in range(9)))
    ended = run("leads", "import", file, "--dry-run", "--json")
    assert json.loads(ended.out)["total_leads"] == 1
    assert "first" in ended.err


def test_import_says_what_became_of_the_rows(run: Run, api: Sendledger, tmp_path: Path) -> None:
    address = f"{name()}@example.com"
    file = tmp_path / "spring fair.csv"
    file.write_text(f"Email\n{address}\nbroken\n")
    ended = run("leads", "import", file)
    assert (ended.code, "spring fair" in ended.out) == (0, True)
    assert [lead.email for lead in api.list_leads(email=address).items] == [address]


def test_large_file_goes_over_the_bucket(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sendledger_client.client.LARGEST_DIRECT_FILE", 10)
    file = tmp_path / "leads.csv"
    file.write_text(f"Email\n{name()}@example.com\nbroken\n")
    batch = json.loads(run("leads", "import", file, "--name", "Large", "--json").out)
    assert (batch["status"], batch["successful_imports"]) == ("completed", 1)
    assert batch["rejects_url"]


# Templates


def test_commands_read_no_old_list_and_programs_choose(
    run: Run, api: Sendledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment may have a reader endpoint. A template that was pushed a moment ago must not be created again."""
    said: list[str | None] = []
    handle = httpx.HTTPTransport.handle_request

    def noted(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        said.append(request.headers.get("Cache-Control"))
        return handle(transport, request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", noted)
    assert run("templates", "list").code == 0
    assert said == ["no-cache"]
    api.list_email_templates(limit=1)
    assert said == ["no-cache", None]


def test_templates_survive_the_way_through_a_folder(run: Run, api: Sendledger, tmp_path: Path) -> None:
    html = "<p>Hi {{ first_name }}</p>\r\n---\n  <p>[b]ü[/b]</p>"
    new = [
        models.NewEmailTemplate(name(), "It's: [me]", body_html=html),
        models.NewEmailTemplate(name(), "It's: [me]", body_html=html, body_text="---\nHi\n"),
        models.NewEmailTemplate(name(), "It's: [me]", body_text="Hi {{ first_name }}\n"),
    ]
    made = [api.create_email_template(body=template) for template in new]
    assert run("templates", "pull", tmp_path / "mails").code == 0
    pushed = json.loads(run("templates", "push", tmp_path / "mails", "--json").out)["templates"]
    assert {item["done"] for item in pushed} == {"unchanged"}
    for template in made:
        api.delete_email_template(template.id)
    pushed = json.loads(run("templates", "push", tmp_path / "mails", "--json").out)["templates"]
    assert {item["done"] for item in pushed if item["name"] in {each.name for each in made}} == {"created"}
    found = {item.name: api.get_email_template(item.id) for item in api.list_email_templates(limit=200).items}
    for template in made:
        again = found[template.name]
        assert (again.subject, again.body_html, again.body_text) == (
            *(template.subject, template.body_html, template.body_text),
        )


def test_templates_whose_files_would_have_one_name_are_not_pulled(run: Run, api: Sendledger, tmp_path: Path) -> None:
    part = name()
    ids = [
        api.create_email_template(body=models.NewEmailTemplate(f"{part}{sign}b", "Hello", body_text="Hi")).id
        for sign in (" ", "/")
    ]
    ended = run("templates", "pull", tmp_path / "folder")
    assert (ended.code, f"{part}/b" in ended.err) == (5, True)
    assert list((tmp_path / "folder").iterdir()) == []
    for id_ in ids:
        api.delete_email_template(id_)


def test_control_characters_of_strangers_do_not_reach_the_terminal(run: Run, api: Sendledger) -> None:
    hostile = "\x1b]0;title\x07\x7f\x9b2J"
    template = api.create_email_template(
        body=models.NewEmailTemplate(f"{name()}{hostile}", f"S{hostile}", body_text=f"One{hostile}\r\n\tTwo")
    )
    for command in (["templates", "list"], ["templates", "list", "--json"], ["preview", template.id]):
        ended = run(*command)
        assert ended.code == 0
        assert not set("\x1b\x07\x7f\x9b") & set(ended.out)
    assert "\tTwo" in ended.out
    api.delete_email_template(template.id)


def test_changed_file_changes_only_its_template(run: Run, api: Sendledger, tmp_path: Path) -> None:
    template = api.create_email_template(
        body=models.NewEmailTemplate(name(), "Old", body_text="Hi", description="stays")
    )
    (tmp_path / "a.txt").write_text(f"---\nname: {template.name}\nsubject: New\n---\nHi")
    assert "updated" in run("templates", "push", tmp_path, "--dry-run").out
    assert api.get_email_template(template.id).subject == "Old"
    assert "updated" in run("templates", "push", tmp_path).out
    changed = api.get_email_template(template.id)
    assert (changed.subject, changed.description) == ("New", "stays")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<p>Hi</p>", "must begin with"),
        ("---\nname: A\n---\nHi", "subject"),
        ("---\nname: [\n---\nHi", "a.html"),
        ("---\nname: A\nsubject: B\ncolour: red\n---\nHi", "colour"),
        ("---\nname: A\nsubject: B\ncategory: none\n---\nHi", "none"),
        ("---\nname: A\nsubject: B\n---\n{{ first_name", "a.html"),
    ],
)
def test_file_that_is_no_template_is_named(run: Run, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.html").write_text(content)
    ended = run("templates", "push", tmp_path)
    assert (ended.code, message in ended.err) == (1, True), ended.err


def test_preview_of_a_lead(run: Run, api: Sendledger) -> None:
    body = models.NewEmailTemplate(name(), "Hello {{ first_name }}", body_html="<p>{{ custom_fields.plan }}</p>")
    template = api.create_email_template(body=body)
    shown = run("preview", template.name, "--field", "first_name=Zoë", "--field", "plan=Pro")
    assert (shown.code, "Subject: Hello Zoë" in shown.out, "<p>Pro</p>" in shown.out) == (0, True, True), shown.err
    lead = api.create_lead(body=models.NewLead(email=f"{name()}@example.com", first_name="Ann"))
    body = models.NewEmailTemplate(name(), "Hello {{ first_name }}", body_text="Hi")
    template = api.create_email_template(body=body)
    assert json.loads(run("preview", template.id, "--lead", lead.id, "--json").out)["subject"] == "Hello Ann"


# What comes back, and exports


def test_replies_are_listed(run: Run, api: Sendledger) -> None:
    address = f"{name()}@example.com"
    api.receive_reply(body=models.NewReply(from_address=address, subject="Re: [red]Hello[/red]", text="Yes"))
    assert "Re: [red]Hello[/red]" in run("replies").out
    assert address in [reply["from_address"] for reply in json.loads(run("replies", "--json").out)]


def test_file_is_replaced_only_by_a_whole_export(
    run: Run, api: Sendledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = api.wait(api.create_export(body=models.NewExport(kind=models.ExportKind.LEADS)))
    file = tmp_path / "leads.csv"
    file.write_text("before")
    whole = export.download_url
    export.download_url = "http://127.0.0.1:1/"
    with pytest.raises(NotReachable):
        api.download(export, file)
    assert (file.read_text(), list(tmp_path.glob("*.part"))) == ("before", [])
    export.download_url = whole
    assert api.download(export, file) == file.stat().st_size
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_export_is_written_to_a_file(run: Run, api: Sendledger, tmp_path: Path) -> None:
    campaign = new_campaign(api)
    api.start_campaign(campaign.id)
    ledger = tmp_path / "ledger.csv"
    ended = run("export", "ledger", campaign.name, "-o", ledger)
    assert (ended.code, ledger.read_text("utf-8").count("example.com")) == (0, 2)
    leads = tmp_path / "leads.csv"
    exported = json.loads(run("export", "leads", "-o", leads, "--excel", "--json").out)
    assert exported["bytes"] == leads.stat().st_size
    assert leads.read_bytes().startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize("output", ["-", "/dev/stdout"])
def test_export_goes_into_a_pipe_and_nothing_else_does(run: Run, api: Sendledger, output: str) -> None:
    campaign = new_campaign(api)
    api.start_campaign(campaign.id)
    ended = run("export", "ledger", campaign.name, "-o", output, "--json")
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert (ended.code, len(rows)) == (0, 2)
    assert all(row["email"].endswith("example.com") for row in rows)


def test_export_goes_into_a_named_pipe(run: Run, api: Sendledger, tmp_path: Path) -> None:
    api.start_campaign(new_campaign(api).id)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_text, "utf-8")
        assert run("export", "leads", "-o", pipe).code == 0
        assert "example.com" in read.result(timeout=300)


def test_template_of_another_product_is_imported_once_it_is_understood(
    run: Run, api: Sendledger, tmp_path: Path
) -> None:
    file = tmp_path / f"{name()}.html"
    body = "<title>Hi *|FNAME|*</title>\n<p>{{#if company}}{{{company}}}{{/if}}\n"
    file.write_text(body + "{{> footer}}</p>")
    refused = run("templates", "import", file)
    assert (refused.code, "1 place could not be translated" in refused.err) == (1, True)
    assert "parts of other templates" in refused.out
    assert json.loads(run("templates", "import", file, "--dry-run", "--json").out)["created"] is False
    file.write_text(body + "{{plan}}</p>")
    assert "Leads need these custom fields: plan." in run("templates", "import", file).out
    shown = run(
        "preview", file.stem, "--field", "first_name=Ann", "--field", "company_name=Acme", "--field", "plan=Pro"
    )
    assert shown.out.startswith("Subject: Hi Ann\n\n")
    assert "Acme Pro" in " ".join(shown.out.split())


def test_template_that_is_not_understood_can_be_imported_all_the_same(run: Run, tmp_path: Path) -> None:
    file = tmp_path / f"{name()}.txt"
    file.write_text("Hi {Hello|Hey} %FIRSTNAME%")
    assert (run("templates", "import", file).code, run("templates", "import", file, "--subject", "x").code) == (2, 1)
    assert run("templates", "import", file, "--subject", "x", "--keep").code == 0
    assert "Hi {Hello|Hey} Ann" in run("preview", file.stem, "--field", "first_name=Ann").out
