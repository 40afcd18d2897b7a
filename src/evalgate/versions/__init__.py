"""The folder of published versions: names, staging, what lies in a version, links of aliases, signatures."""

from __future__ import annotations

from evalgate.versions.aliases import linked, point
from evalgate.versions.folder import file_digest, list_versions, read_lineage, verify, version_folders
from evalgate.versions.names import ALIASES, check_alias, check_name, next_name
from evalgate.versions.origin import code_of, environment_of
from evalgate.versions.signing import SIGNATURE, require_signer, sign, verify_signature
from evalgate.versions.staging import Staging

__all__ = [
    "ALIASES",
    "SIGNATURE",
    "Staging",
    "check_alias",
    "check_name",
    "code_of",
    "environment_of",
    "file_digest",
    "linked",
    "list_versions",
    "next_name",
    "point",
    "read_lineage",
    "require_signer",
    "sign",
    "verify",
    "verify_signature",
    "version_folders",
]
