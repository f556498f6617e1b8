"""Leads, campaigns and their progress by their ids."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from testbed.campaigns import DAY, NO_DELAY, make_campaign
from tests.functions.campaign_api.api_client import ApiClient


@pytest.fixture
def campaign_ids(engine: sa.Engine, api: ApiClient) -> list[str]:
    """One that runs, with two steps to three leads, and a draft with one lead."""
    with engine.connect() as connection:
        made = [make_campaign(connection, 3, [NO_DELAY, DAY]), make_campaign(connection, 1)]
    assert api.post(f"/v1/campaigns/{made[0]}/start").status == 200
    return [str(each) for each in made]


@pytest.mark.parametrize("path", ["/v1/leads", "/v1/campaigns"])
def test_list_by_ids_has_these_only(api: ApiClient, campaign_ids: list[str], path: str) -> None:
    every = [item["id"] for item in api.get(path).json["items"]]
    wanted = [every[-1], str(uuid.uuid4())]
    assert [item["id"] for item in api.get(path, ids=",".join(wanted)).json["items"]] == [every[-1]]


@pytest.mark.parametrize("path", ["/v1/leads", "/v1/campaigns", "/v1/campaign-progress"])
@pytest.mark.parametrize("ids", ["nonsense", "", ",", ",".join(str(uuid.UUID(int=n)) for n in range(201))])
def test_wrong_ids_are_named(api: ApiClient, path: str, ids: str) -> None:
    answer = api.get(path, ids=ids)
    assert (answer.status, answer.fields) == (422, ["ids"])


def test_progress_is_that_of_the_statistics(api: ApiClient, campaign_ids: list[str]) -> None:
    listed = api.get("/v1/campaign-progress", ids=",".join(campaign_ids)).json["items"]
    found: dict[str, Any] = {each["campaign_id"]: each for each in listed}
    for campaign_id in campaign_ids:
        stats = api.get(f"/v1/campaigns/{campaign_id}/stats").json
        for name in ("by_status", "next_due_at", "expected_to_finish_at"):
            assert found[campaign_id][name] == stats[name]
    assert found[campaign_ids[0]]["by_status"]["pending"] == 6
