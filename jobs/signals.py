"""What `jobs` announces to the apps above it."""

from django.dispatch import Signal

# Sent inside the settling transaction with job (a settlement.Exhausted). Whoever answers must return
# a true value; when nobody does, the settlement is rolled back: no FAILURE without a letter.
job_exhausted = Signal()
