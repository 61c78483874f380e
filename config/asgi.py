"""What uvicorn serves."""

import os

import django
from django.utils.module_loading import import_string

from config.refusing import refuse_mistakes

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# A request must be refused soon when PostgreSQL cannot be reached.
os.environ.setdefault("PGCONNECT_TIMEOUT", "2")

django.setup(set_prefix=False)
refuse_mistakes()
application = import_string("config.web.application")
