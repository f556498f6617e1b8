"""Links to files: whoever gets one reaches the bucket in its region, with nothing of ours in between."""

from __future__ import annotations

from urllib.parse import urlsplit

import botocore.session
import pytest

from sendledger.files.file_bucket import FileBucket


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-west-1", "files.s3.eu-west-1.amazonaws.com"),
        ("eu-south-1", "files.s3.eu-south-1.amazonaws.com"),
        ("us-gov-west-1", "files.s3.us-gov-west-1.amazonaws.com"),
        ("us-east-1", "files.s3.amazonaws.com"),
    ],
)
def test_link_names_the_region_of_the_bucket(region: str, host: str) -> None:
    session = botocore.session.get_session()
    session.set_config_variable("region", region)
    session.set_credentials("key", "secret")
    bucket = FileBucket("files", session)
    links = [bucket.upload_url("imports/a.csv", 60), bucket.download_url("exports/a.csv", "a.csv", 60)]
    assert {urlsplit(link).hostname for link in links} == {host}
