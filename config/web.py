"""The web process: pages and API in threads, the live feed beside them."""

from channels.routing import ProtocolTypeRouter

from api.bodysize import BodySizeLimit
from api.serving import ThreadedHandler
from api.stopping import lifespan
from monitoring.live import websocket
from monitoring.requestids import RequestIds

# Whether this process lives, and can work, is told whatever the database does; so is that it does nothing.
_http = BodySizeLimit(ThreadedHandler(apart=("/healthz", "/readyz"), twice=("/metrics",)))
application = RequestIds(ProtocolTypeRouter({"http": _http, "websocket": websocket, "lifespan": lifespan}))
