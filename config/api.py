"""The HTTP API: what the apps offer, mounted in one place."""

from ninja import NinjaAPI

from api.tokens import SessionAuth, TokenAuth
from monitoring.api import router as monitoring_router

api = NinjaAPI(title="Switchyard", version="1", auth=[TokenAuth(), SessionAuth()], docs_url=None)
api.add_router("", monitoring_router)
