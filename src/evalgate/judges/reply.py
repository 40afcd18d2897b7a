"""One question of a library to a model: decoding without chance, and a reply that is JSON from end to end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openai import AsyncOpenAI

ANY_OBJECT = {"type": "object"}


async def ask(
    client: AsyncOpenAI, model: str, prompt: str, max_tokens: int, schema: Mapping[str, Any] = ANY_OBJECT
) -> tuple[str, dict[str, Any]]:
    """Ask for one JSON object.

    Args:
        client: of the gateway.
        model: what to call the model by.
        prompt: the one message.
        max_tokens: of the reply.
        schema: JSON schema that the reply satisfies.

    Returns:
        The reply as it came, and the object that it is.

    Raises:
        ValueError: the reply was cut off, or is no such object, or one with something around it.
        openai.OpenAIError: there was no reply.
    """
    from jsonschema import ValidationError, validate

    completion = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": prompt}],
        temperature=0.0,
        seed=0,
        max_tokens=max_tokens,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "reply", "schema": dict(schema), "strict": True},
        },
    )
    choice = completion.choices[0]
    if choice.finish_reason == "length":
        raise ValueError(f"the judge's reply was cut off after {max_tokens} tokens: give a larger max_tokens")
    text = choice.message.content or ""
    try:
        reply = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
        validate(reply, schema)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the judge replied {_shown(text)}, expected one JSON object: {error}") from None
    except ValidationError as error:
        raise ValueError(f"the judge replied {_shown(text)}: {error.json_path}: {_shown(error.message)}") from None
    return text, reply


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names stand in it once: of two grades nobody knows which counts."""
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _shown(text: str, length: int = 120) -> str:
    return repr(text if len(text) <= length else f"{text[:length]}…")
