"""Digests of recipes: a short name for all that decides what is made, under which a storage keeps it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def recipe_digest(recipe: Mapping[str, Any]) -> str:
    """Of `recipe`, in whatever order its entries stand; what JSON does not know counts as its text."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True, default=str).encode()).hexdigest()[:12]
