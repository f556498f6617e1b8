"""The bucket of files, in S3: imports and exports are read and written in parts, so that memory is bounded.

No database.
"""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Self

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError

PART_BYTES = 8 * 1024 * 1024
"""Size of a part that is read or written. S3 requires at least 5 MiB and at most 10,000 parts, so files end at 80 GB.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""

CSV = "text/csv"
ANY_TYPE = "application/octet-stream"
_TRIES = 3


class NoSuchFile(Exception):
    """There is no file with this key."""


class FileReplaced(Exception):
    """The file was replaced while it was read."""


class FileTooLarge(Exception):
    """The file has more bytes than were asked for; `size` says how many."""

    def __init__(self, size: int) -> None:
        super().__init__(f"{size} bytes")
        self.size = size


class BucketUnreachable(OSError):
    """S3 does not answer as it should; later it may."""


@dataclass(frozen=True)
class StoredFile:
    """A file as it was found; `etag` changes with its content."""

    key: str
    etag: str
    size: int


class FileBucket:
    """One bucket. Create one per process, because it loads the model of S3."""

    def __init__(
        self, name: str, session: botocore.session.Session | None = None, *, tries: int = 4, patience: float = 60.0
    ) -> None:
        """`tries` of a request, each of which waits `patience` seconds for S3."""
        self.name = name
        config = Config(
            signature_version="s3v4",
            # The host of a presigned URL then names the region. Otherwise it is s3.amazonaws.com, which redirects
            # requests for new buckets (this breaks presigned URLs) and does not serve regions opened since 2019.
            # https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
            s3={"addressing_style": "virtual"},
            # With checksums, a multipart upload must repeat those of all its parts. TLS protects the parts as well.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "total_max_attempts": tries},
            connect_timeout=patience,
            read_timeout=patience,
        )
        self._client = (session or botocore.session.get_session()).create_client("s3", config=config)

    def find(self, key: str) -> StoredFile:
        """Raises:
        NoSuchFile
        """
        try:
            found = self._client.head_object(Bucket=self.name, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                raise NoSuchFile(key) from error
            raise
        return StoredFile(key, found["ETag"], found["ContentLength"])

    def content_of(self, key: str, most: int) -> bytes:
        """The whole of a small file.

        Raises:
            NoSuchFile
            FileTooLarge: it has more than `most` bytes.
            BucketUnreachable
        """
        try:
            answer = self._client.get_object(Bucket=self.name, Key=key)
            with answer["Body"] as body:
                if answer["ContentLength"] > most:
                    raise FileTooLarge(answer["ContentLength"])
                return bytes(body.read())
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                raise NoSuchFile(key) from error
            # A 403 is about the right to read, not about this file: the roles may list the bucket.
            raise BucketUnreachable(str(error)) from error
        except (BotoCoreError, IncompleteReadError) as error:
            raise BucketUnreachable(str(error)) from error

    def store(self, key: str, content: bytes, content_type: str) -> None:
        """Write a small file.

        Raises:
            BucketUnreachable
        """
        try:
            self._client.put_object(Bucket=self.name, Key=key, Body=content, ContentType=content_type)
        except (BotoCoreError, ClientError) as error:
            raise BucketUnreachable(str(error)) from error

    def keys_before(self, moment: dt.datetime, prefix: str) -> Iterator[list[str]]:
        """The keys of files that were written before that, up to a thousand at a time."""
        after = ""
        while True:
            listed = self._client.list_objects_v2(Bucket=self.name, Prefix=prefix, StartAfter=after)
            files = listed.get("Contents", [])
            yield [file["Key"] for file in files if file["LastModified"] < moment]
            if not listed["IsTruncated"]:
                return
            after = files[-1]["Key"]

    def delete_files(self, keys: Collection[str]) -> None:
        """Delete up to a thousand files."""
        objects = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        self._client.delete_objects(Bucket=self.name, Delete=objects)

    def reader(self, file: StoredFile) -> FileReader:
        return FileReader(self._client, self.name, file)

    def new_file(self, key: str) -> FileWriter:
        return FileWriter(self._client, self.name, key)

    def upload_url(self, key: str, seconds: int, content_type: str = CSV, size: int | None = None) -> str:
        """A URL to which a file can be PUT with this Content-Type, and of this size if one is given. No network is
        used."""
        parameters: dict[str, Any] = {"Bucket": self.name, "Key": key, "ContentType": content_type}
        if size is not None:
            # A part of the signature: S3 refuses another Content-Length.
            parameters["ContentLength"] = size
        return str(self._client.generate_presigned_url("put_object", Params=parameters, ExpiresIn=seconds))

    def upload_form(self, key: str, seconds: int, most_bytes: int, redirect_to: str) -> tuple[str, dict[str, str]]:
        """Where a browser sends a form with a file, and the fields before it. It is then sent on. No network is used.

        No rule for other origins is needed for that.
        https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTForms.html
        """
        fields = {"success_action_redirect": redirect_to, "Content-Type": CSV}
        conditions = [{name: value} for name, value in fields.items()] + [["content-length-range", 1, most_bytes]]
        form = self._client.generate_presigned_post(
            self.name, key, Fields=fields, Conditions=conditions, ExpiresIn=seconds
        )
        return str(form["url"]), {name: str(value) for name, value in form["fields"].items()}

    def download_url(self, key: str, file_name: str, seconds: int) -> str:
        """A URL that downloads the file under this name, ASCII without quotation marks. No network is used."""
        shown = f'attachment; filename="{file_name}"'
        parameters = {"Bucket": self.name, "Key": key, "ResponseContentDisposition": shown}
        return str(self._client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds))


class FileReader(io.RawIOBase):
    """Reads a file from the beginning, one request for each part. No connection stays open between parts.

    Raises, when read from:
        NoSuchFile: it was deleted meanwhile.
        FileReplaced
    """

    def __init__(self, client: Any, bucket: str, file: StoredFile) -> None:
        self._client = client
        self._bucket = bucket
        self._file = file
        self._position = 0
        self._part = memoryview(b"")

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position - len(self._part)

    def readinto(self, buffer: Any) -> int:
        if not self._part and self._position < self._file.size:
            self._part = memoryview(self._get_part())
            self._position += len(self._part)
        target = memoryview(buffer).cast("B")
        piece = self._part[: len(target)]
        target[: len(piece)] = piece
        self._part = self._part[len(piece) :]
        return len(piece)

    def _get_part(self) -> bytes:
        last = min(self._position + PART_BYTES, self._file.size) - 1
        request = {"Range": f"bytes={self._position}-{last}", "IfMatch": self._file.etag}
        for attempt in range(1, _TRIES + 1):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._file.key, **request)
                return bytes(answer["Body"].read())
            except ClientError as error:
                match error.response["ResponseMetadata"]["HTTPStatusCode"]:
                    case 404:
                        raise NoSuchFile(self._file.key) from error
                    case 412:
                        raise FileReplaced(self._file.key) from error
                raise
            except (HTTPClientError, IncompleteReadError):
                # botocore retries requests, but not reading a response body that breaks off.
                if attempt == _TRIES:
                    raise
        raise AssertionError("unreachable")


class FileWriter:
    """Writes a file in parts. The file exists after `complete`, and not before.

    Parts that a crash leaves behind are deleted by the bucket's lifecycle rule.
    """

    def __init__(self, client: Any, bucket: str, key: str) -> None:
        self.key = key
        self._client = client
        self._where = {"Bucket": bucket, "Key": key}
        self._upload_id: str | None = None
        self._parts: list[dict[str, Any]] = []
        self._buffer = bytearray()
        self._completed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._upload_id is not None and not self._completed:
            self._client.abort_multipart_upload(**self._where, UploadId=self._upload_id)

    def write(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= PART_BYTES:
            self._send_part()

    def complete(self) -> None:
        if self._upload_id is None:
            self._client.put_object(**self._where, Body=bytes(self._buffer), ContentType=f"{CSV}; charset=utf-8")
        else:
            if self._buffer:
                self._send_part()
            self._client.complete_multipart_upload(
                **self._where, UploadId=self._upload_id, MultipartUpload={"Parts": self._parts}
            )
        self._completed = True

    def _send_part(self) -> None:
        if self._upload_id is None:
            started = self._client.create_multipart_upload(**self._where, ContentType=f"{CSV}; charset=utf-8")
            self._upload_id = started["UploadId"]
        number = len(self._parts) + 1
        sent = self._client.upload_part(
            **self._where, UploadId=self._upload_id, PartNumber=number, Body=bytes(self._buffer)
        )
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"]})
        self._buffer.clear()
