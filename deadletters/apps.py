from importlib import import_module

from django.apps import AppConfig


class DeadLettersConfig(AppConfig):
    name = "deadletters"
    verbose_name = "Dead letters"

    def ready(self) -> None:
        import_module("deadletters.bulk")
        import_module("deadletters.burial")
        import_module("deadletters.tasks")
