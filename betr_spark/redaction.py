"""Takes credentials out of what this package prints, logs or records: those in URIs and settings, and known values."""

import os
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

_MARK = "***"
_SHORTEST = 8  # a shorter value is a word of other texts, too
_SECRET_VARIABLE = re.compile(
    r"(SECRET|SECRET_(ACCESS_)?KEY|ACCESS_KEY(_ID)?|ACCOUNT_KEY|STORAGE_KEY|TOKEN|PASSWORD)$", re.IGNORECASE
)
# Settings of Hadoop's file systems; those that end in the second group name a class, a file or a number.
_SECRET_SETTING = re.compile(r"(secret|password|token|access[._]?key|account[._]?key|[.-]sas\b)", re.IGNORECASE)
_NOT_SECRET_SETTING = re.compile(
    r"(provider|type|endpoint|path|file|class|algorithm|interval|lifetime|impl)$", re.IGNORECASE
)
# `scheme://user:password@`. A secret key of S3 may contain slashes that its user did not encode; a bucket has no port.
_IN_URI = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?:(?<=s3://|3a://|3n://)(?:[^\s:/@'\"]+:[^\s@'\"]*|[^\s/@'\"]+)|[^\s:/@'\"]+:[^\s/@'\"]*)@",
    re.IGNORECASE,
)
# Names of Hadoop and Spark, and of variables; not, for example, `max_tokens`.
_IN_SETTING = re.compile(
    r"(?P<name>\b(?:(?:spark|fs|hadoop)\.[\w.-]+|\w*(?:secret_(?:access_)?key|access_key_id|session_token|password)))"
    r"(?P<equals>\s*[=:]\s*)[^\s,;'\")}\]]+",
    re.IGNORECASE,
)
_IN_QUERY = re.compile(r"(?P<name>[?&](?:sig|X-Amz-(?:Signature|Credential|Security-Token))=)[^&\s'\"]+", re.IGNORECASE)

_values: set[str] = set()


def remember(values: Iterable[str]) -> None:
    """Take these values out of every text from now on; values of less than eight characters are ignored."""
    for value in values:
        if len(value) >= _SHORTEST:
            _values.update((value, quote(value, safe="")))


def remember_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Remember the values of variables such as AWS_SECRET_ACCESS_KEY."""
    remember(value for name, value in environment.items() if _SECRET_VARIABLE.search(name))


def is_secret_setting(name: str) -> bool:
    """Whether the value of a setting of Hadoop or Spark is a secret, by its name.

    >>> is_secret_setting("fs.s3a.secret.key")
    True
    >>> is_secret_setting("fs.s3a.aws.credentials.provider")
    False
    """
    return bool(_SECRET_SETTING.search(name)) and not _NOT_SECRET_SETTING.search(name)


def redacted(text: str) -> str:
    """The text without credentials.

    >>> redacted("s3a://AKIA:pass/word@bucket/docs: no such file; spark.hadoop.fs.s3a.secret.key=abc")
    's3a://***@bucket/docs: no such file; spark.hadoop.fs.s3a.secret.key=***'
    """
    for value in sorted(_values, key=len, reverse=True):
        text = text.replace(value, _MARK)
    text = _IN_URI.sub(rf"\g<scheme>{_MARK}@", text)
    text = _IN_SETTING.sub(_without_value, text)
    return _IN_QUERY.sub(rf"\g<name>{_MARK}", text)


def _without_value(match: re.Match[str]) -> str:
    return f"{match['name']}{match['equals']}{_MARK}" if is_secret_setting(match["name"]) else match[0]


def has_credentials(uri: str) -> bool:
    """Whether a path carries a user's password or an access key: `scheme://KEY:SECRET@...`, also where SECRET has a slash.

    >>> has_credentials("s3a://KEY:SEC/RET@bucket/docs"), has_credentials("abfss://container@account/docs")
    (True, False)
    >>> has_credentials("hdfs://namenode:8020/me@home")
    False
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return False
    authority = rest.partition("/")[0]
    if scheme.lower() in ("s3", "s3a", "s3n"):  # a bucket's name has neither
        return "@" in authority or (":" in authority and "@" in rest)
    return ":" in authority.rpartition("@")[0]


remember_environment()
