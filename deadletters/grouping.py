"""Letters of one problem: the same kind of error, in the same words, at the same place."""

from typing import Any

from django.db.models import Count, Max, Min, QuerySet

from deadletters.models import DeadLetter


def groups(letters: QuerySet[DeadLetter], limit: int) -> list[dict[str, Any]]:
    """The biggest groups of a set of letters, each with its newest letter as a sample."""
    by_size = (
        letters.order_by()
        .values("fingerprint")
        .annotate(count=Count("pk"), first=Min("created_at"), last=Max("created_at"), newest=Max("pk"))
        .order_by("-count", "-newest")
    )
    found = list(by_size[:limit])
    samples = DeadLetter.objects.in_bulk([group["newest"] for group in found])
    return [group | {"sample": samples[group["newest"]]} for group in found if group["newest"] in samples]
