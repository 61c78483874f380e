"""The admin, named after the house."""

from django.contrib.admin import AdminSite
from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig


class SwitchyardAdminSite(AdminSite):
    site_header = "Switchyard"
    site_title = "Switchyard"
    index_title = "Control panel"
    enable_nav_sidebar = True


class AdminConfig(DjangoAdminConfig):
    default_site = "config.admin_site.SwitchyardAdminSite"
