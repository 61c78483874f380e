"""Taking data back from somebody who was shown masks."""

from typing import Any

from api.masking import MASK


def unmasked(edited: Any, stored: Any) -> Any:
    """The edited value in which every mask is again what is stored at its place."""
    if edited == MASK and stored is not None:
        return stored
    match edited, stored:
        case dict(), dict():
            return {name: unmasked(value, stored.get(name)) for name, value in edited.items()}
        case list(), list():
            return [unmasked(value, stored[at] if at < len(stored) else None) for at, value in enumerate(edited)]
    return edited
