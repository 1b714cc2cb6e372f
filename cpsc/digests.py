"""Digests of recipes: a short name for everything that determines a result; the storage keeps the result under it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def recipe_digest(recipe: Mapping[str, Any]) -> str:
    """Digest of `recipe`, independent of the order of its entries; values that JSON cannot encode count as their text."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True, default=str).encode()).hexdigest()[:12]
