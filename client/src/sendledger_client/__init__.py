"""A typed client of Sendledger's API: `Sendledger` waits for answers, `AsyncSendledger` is for asyncio.

with Sendledger("https://…", "sl_…") as api:
    batch = api.import_file(Path("leads.csv"), name="Spring")
    campaign = api.create_campaign(body=models.NewCampaign(name="Spring", batch_ids=[batch.id], workflow_id=flow))
    api.start_campaign(campaign.id)
    for lead in each(api.list_leads, status=models.LeadStatus.NEW):
        …
"""

from sendledger_client.client import AsyncSendledger, Sendledger
from sendledger_client.errors import ApiError, NotReachable, SendledgerError, StillWorking, WorkFailed
from sendledger_client.generated import models
from sendledger_client.generated.types import UNSET, File, Unset
from sendledger_client.pages import each, each_async

__all__ = [
    "UNSET",
    "ApiError",
    "AsyncSendledger",
    "File",
    "NotReachable",
    "Sendledger",
    "SendledgerError",
    "StillWorking",
    "Unset",
    "WorkFailed",
    "each",
    "each_async",
    "models",
]
