"""Scorers of structured output."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from evalgate.digest import canonical
from evalgate.errors import TaskError
from evalgate.scoring.answer import kind
from evalgate.scoring.scorer import Score, Scorer

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

    from evalgate.gate import Gate
    from evalgate.request import Completion
    from evalgate.task import Sample

_BRIEF = 200


def json_schema(
    schema: Mapping[str, Any] | None = None,
    *,
    field: str | None = None,
    gate: Gate | None = None,
    name: str | None = None,
) -> Scorer:
    """1 where the whole answer is one JSON value that satisfies the schema (JSON Schema, Draft 2020-12); else 0.

    The answer is parsed strictly: doubled keys, NaN, infinity and text around the value are invalid. `format` is an
    annotation and not checked, as the standard has it. A `$ref` is looked up in the schema only and never fetched.

    Args:
        schema: of every sample.
        field: name of the sample's field that holds its schema, where they differ.
        gate: margin and floor.
        name: of the metric, by default `json_schema`.

    Raises:
        TaskError: both or neither of schema and field are given; or, when eval data is read, the schema is none.
    """
    if (schema is None) == (field is None):
        raise TaskError("json_schema() takes a schema, or field=… where samples bring their own")
    try:
        fixed = canonical(schema)
    except (TypeError, ValueError) as error:
        raise TaskError(f"the schema holds what JSON cannot write: {error}", where="json_schema()") from None

    def text(sample: Sample) -> str:
        return fixed if field is None else canonical(sample.fields[field])

    def check(sample: Sample) -> str | None:
        if field is None:
            if fault := _fault(text(sample)):
                raise TaskError(fault, where="json_schema()")
            return None
        if not isinstance(sample.fields.get(field), dict):
            return f"expected a schema in the field {field!r}, found {kind(sample.fields.get(field))}"
        return _fault(text(sample))

    def score(completion: Completion, sample: Sample) -> Score:
        from jsonschema.exceptions import best_match

        validator = _validator(text(sample))
        try:
            value = parse_strictly(completion.text)
        except ValueError as error:
            return Score(0.0, explanation=f"not JSON: {error}"[:_BRIEF])
        worst = best_match(validator.iter_errors(value))
        return Score(1.0) if worst is None else Score(0.0, explanation=f"{worst.json_path}: {worst.message}"[:_BRIEF])

    settings = {"scorer": "json_schema", "schema": json.loads(fixed), "field": field}
    return Scorer(name or "json_schema", score, binary=True, gate=gate, settings=settings, check=check)


def parse_strictly(text: str) -> Any:
    """The JSON value that a text is.

    Raises:
        ValueError: it is none, or has doubled keys, NaN, a number beyond range, or nesting beyond what Python reads.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice")
        found[key] = value
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"{number[:40]} is beyond the range of numbers")
    return value


@lru_cache(maxsize=256)
def _validator(schema: str) -> Validator:
    """A validator whose registry holds the standard's own schemas and fetches nothing."""
    from jsonschema import Draft202012Validator
    from referencing import Registry

    return Draft202012Validator(json.loads(schema), registry=Registry())


@lru_cache(maxsize=256)
def _fault(schema: str) -> str | None:
    """Why this is no schema that can be used, if so."""
    from jsonschema import Draft202012Validator, SchemaError
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    contents = json.loads(schema)
    try:
        Draft202012Validator.check_schema(contents)
    except SchemaError as error:
        return f"not a JSON Schema of Draft 2020-12: {error.json_path}: {error.message}"[:_BRIEF]
    root: Resource[Any] = DRAFT202012.create_resource(contents)
    registry: Registry[Any] = Registry().with_resource("", root).crawl()
    pending = [(root, registry.resolver_with_root(root))]
    while pending:
        resource, resolver = pending.pop()
        reference = resource.contents.get("$ref") if isinstance(resource.contents, dict) else None
        try:
            if reference is not None:
                resolver.lookup(reference)
        except Unresolvable:
            return f"$ref {reference!r} is not in the schema, and nothing is ever fetched"
        pending += [(child, resolver.in_subresource(child)) for child in resource.subresources()]
    return None
