"""Digests of recipes: a short name for all that decides what is made, under which a storage keeps it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any


def recipe_digest(recipe: Mapping[str, Any]) -> str:
    """Of `recipe`, in whatever order its entries stand; what JSON does not know counts as its text."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True, default=str).encode()).hexdigest()[:12]


def stated(settings: Any) -> dict[str, Any]:
    """What a settings object says that its class does not by itself, nested: settings that a later version adds are not in it."""
    default = type(settings)()
    found: dict[str, Any] = {}
    for item in fields(settings):
        value, usual = getattr(settings, item.name), getattr(default, item.name)
        if is_dataclass(value):
            if below := stated(value):
                found[item.name] = below
        elif value != usual:
            found[item.name] = value
    return found
