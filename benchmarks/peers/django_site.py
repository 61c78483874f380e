"""Django settings shared by the peers that are Django apps."""

import os

from psycopg.conninfo import conninfo_to_dict

_given = conninfo_to_dict(os.environ.get("DATABASE_URL", ""))
SECRET_KEY = "bench"
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _given.get("dbname"),
        "USER": _given.get("user"),
        "PASSWORD": _given.get("password"),
        "HOST": _given.get("host"),
        "PORT": _given.get("port"),
        "CONN_MAX_AGE": None,
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django_celery_results",
    "django_tasks",
    "django_tasks_db",
    "django_q",
]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
Q_CLUSTER = {"name": "bench", "orm": "default", "workers": 2, "timeout": 60, "retry": 120, "log_level": "WARNING"}
LOGGING = {"version": 1, "disable_existing_loggers": False, "root": {"level": "WARNING"}}
LOGGING["loggers"] = {"django_tasks": {"level": "WARNING"}, "django_tasks_db": {"level": "WARNING"}}
