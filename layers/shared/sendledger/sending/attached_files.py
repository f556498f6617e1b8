"""The attachments of the steps that one tick sends, read from the bucket once. Uses no table."""

from __future__ import annotations

import functools
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from sendledger.content.attachment_rules import MOST_BYTES
from sendledger.content.attachments import FILES
from sendledger.files.file_bucket import BucketUnreachable, FileBucket, NoSuchFile
from sendledger.ses.attachments import AttachedFile, EncodedAttachments

KEPT_BYTES = 60_000_000
"""Of requests' parts that are kept in memory. What is not kept is read again when it is needed again."""

PATIENCE_SECONDS = 5.0
TRIES = 2


class MissingFile(Exception):
    """A file of a step is not in the bucket, or the sender knows no bucket. Waiting does not help."""


class AttachedFiles:
    """For one tick. A bucket that was not reached is not asked again: the emails wait for a later tick."""

    def __init__(self, bucket: str | None) -> None:
        self._bucket = bucket
        self._kept: OrderedDict[str, EncodedAttachments] = OrderedDict()
        self._unreachable: BucketUnreachable | None = None

    def of(self, files: Sequence[Mapping[str, Any]]) -> EncodedAttachments | None:
        """The attachments of a step, whose files `campaign_steps` lists.

        Raises:
            MissingFile
            BucketUnreachable
        """
        if not files:
            return None
        key = json.dumps([dict(file) for file in files])
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if self._unreachable is not None:
            raise self._unreachable
        if self._bucket is None:
            raise MissingFile("The step has attachments, and the sender has no bucket (FILE_BUCKET).")
        needed = sum(file["size"] for file in files) * 4 // 3  # in base64
        while self._kept and needed + sum(len(each.body) for each in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)
        try:
            read = EncodedAttachments([_read(_file_bucket(self._bucket), file) for file in files])
        except BucketUnreachable as error:
            self._unreachable = error
            raise
        self._kept[key] = read
        return read


def _read(bucket: FileBucket, file: Mapping[str, Any]) -> AttachedFile:
    try:
        content = bucket.content_of(f"{FILES}{file['id']}", MOST_BYTES)
    except NoSuchFile as error:
        raise MissingFile(f"The attachment {file['file_name']} is not in the bucket any more.") from error
    return AttachedFile(file["file_name"], file["content_type"], file["content_id"], content)


@functools.cache
def _file_bucket(name: str) -> FileBucket:
    """Cached, because it loads the model of S3."""
    return FileBucket(name, tries=TRIES, patience=PATIENCE_SECONDS)
