"""What `jobs` announces to the apps above it."""

from django.dispatch import Signal

# Sent inside the settling transaction with job (a settlement.Exhausted). Whoever answers must return
# a true value; when nobody does, the settlement is rolled back: no FAILURE without a letter.
job_exhausted = Signal()

# Sent with job_id after a claim that found nothing to run: a duplicate, or a ticket at the wrong time.
ticket_refused = Signal()
