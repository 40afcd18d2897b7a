"""Records and baselines on disk: written once, whole or absent, and checked in full whenever they are read."""

from evalgate.store.baselines import anchor_path, baseline_path, parse_baseline, read_baseline, write_baseline
from evalgate.store.files import file_name, write_atomically
from evalgate.store.record import FORMAT, Header, parse, read_header, serialise
from evalgate.store.records import Store, read_records

__all__ = [
    "FORMAT",
    "Header",
    "Store",
    "anchor_path",
    "baseline_path",
    "file_name",
    "parse",
    "parse_baseline",
    "read_baseline",
    "read_header",
    "read_records",
    "serialise",
    "write_atomically",
    "write_baseline",
]
