"""Submits the plan's jobs at their times, and goes on through outages: what was refused is tried again, same key."""

import threading
import time

from tests.chaos.monkey.plan import Order
from tests.chaos.monkey.systems import System

TRY_AGAIN = 0.2
PATIENCE = 120.0


class Submitter:
    """A thread beside the monkey. `accepted` maps the key of each order to the id the system gave it."""

    def __init__(self, system: System, orders: tuple[Order, ...]) -> None:
        self.system = system
        self.orders = orders
        self.accepted: dict[str, str] = {}
        self.refusals = 0
        self.slowest = 0.0
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="submitter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def is_busy(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        began = time.monotonic()
        try:
            for order in self.orders:
                if self._stop.wait(max(0.0, began + order.at - time.monotonic())):
                    return
                self._submit(order)
        except Exception as error:
            self.error = error

    def _submit(self, order: Order) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self._stop.is_set():
            asked = time.monotonic()
            try:
                self.accepted[order.key] = self.system.submit(order)
            except ConnectionError:
                self.refusals += 1
                if time.monotonic() > deadline:
                    raise
                self._stop.wait(TRY_AGAIN)
                continue
            self.slowest = max(self.slowest, time.monotonic() - asked)
            return
