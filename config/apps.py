"""The admin app, with a site of our own. Its pages come with the addresses (config.urls): workers load neither."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core.checks import CheckMessage, Tags, register


class AdminConfig(SimpleAdminConfig):
    default_site = "config.admin_site.SwitchyardAdminSite"

    def ready(self) -> None:
        """Instead of Django's own checks, which would look at the pages before there are any."""
        register(check_pages, Tags.admin)


def check_pages(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """What Django checks about an admin, once its pages are loaded."""
    import_module(settings.ROOT_URLCONF)
    return [*check_dependencies(), *check_admin_app(app_configs)]
