"""The admin app, with a site of our own, which is imported only once all models are there."""

from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig


class AdminConfig(DjangoAdminConfig):
    default_site = "config.admin_site.SwitchyardAdminSite"
