"""The web process: pages and API in threads, the live feed beside them."""

from channels.routing import ProtocolTypeRouter

from api.bodysize import BodySizeLimit
from api.serving import ThreadedHandler
from monitoring.live import websocket

application = ProtocolTypeRouter({"http": BodySizeLimit(ThreadedHandler()), "websocket": websocket})
