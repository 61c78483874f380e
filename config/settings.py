"""All settings, by topic. Everything from outside comes through the readers in config.env."""

import sys
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from pythonjsonlogger.core import RESERVED_ATTRS

from config import env

BASE_DIR = Path(__file__).resolve().parent.parent

# Where it runs
DEBUG = env.env_bool("DEBUG", False)
INSECURE_KEY = "insecure-only-for-development"
SECRET_KEY = env.env_text("SECRET_KEY", INSECURE_KEY)
if not DEBUG and SECRET_KEY == INSECURE_KEY:
    raise ImproperlyConfigured("SECRET_KEY must be set when DEBUG is off (DEBUG=1 allows the development key).")
ALLOWED_HOSTS = env.env_list("ALLOWED_HOSTS", "127.0.0.1,localhost")
SITE_URL = env.env_text("SITE_URL", "http://127.0.0.1:8000")
DATA_DIR = Path(env.env_text("DATA_DIR", str(BASE_DIR / ".data"))).resolve()

# PostgreSQL is the truth, Redis carries tickets
DATABASES = {"default": env.database(env.env_text("DATABASE_URL", "postgresql://localhost/switchyard"))}
REDIS_URL = env.env_text("REDIS_URL", "redis://localhost:6379/0")
PREPARED_STATEMENTS = env.env_bool("PREPARED_STATEMENTS", True)
# Django's default of None refuses even a statement that asks to be prepared (jobs.connections).
DATABASES["default"]["OPTIONS"]["prepare_threshold"] = 5 if PREPARED_STATEMENTS else None
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Jobs
POLICIES_FILE = Path(env.env_text("POLICIES_FILE", str(BASE_DIR / "config" / "policies.toml")))
PRIORITIES = ("high", "default", "low")
JOB_QUEUES = (*PRIORITIES, "solo", "system")
PAYLOAD_LIMIT_BYTES = 256 * 1024
RESULT_LIMIT_BYTES = 1024 * 1024
ERROR_LIMIT_CHARACTERS = 20_000
TASK_ACKS_LATE = env.env_bool("TASK_ACKS_LATE", True)
KEY_TTL_SECONDS = env.env_number("KEY_TTL_SECONDS", 24 * 3600, int)
KEY_PATIENCE_MS = 2000
RETENTION_DAYS = env.env_number("RETENTION_DAYS", 30, int)
# 0: RETENTION_DAYS. That of FAILURE counts from the resolution of the letter.
RETENTION_DAYS_BY_STATE = {
    "SUCCESS": env.env_number("RETENTION_DAYS_SUCCESS", 0, int),
    "REVOKED": env.env_number("RETENTION_DAYS_REVOKED", 0, int),
    "FAILURE": env.env_number("RETENTION_DAYS_FAILURE", 0, int),
}

# Liveness; PostgreSQL's clock decides
HEARTBEAT_SECONDS = env.env_number("HEARTBEAT_SECONDS", 5.0, float)
LEASE_SECONDS = env.env_number("LEASE_SECONDS", 30.0, float)
BEAT_LEASE_SECONDS = env.env_number("BEAT_LEASE_SECONDS", 15.0, float)
DISPATCH_SECONDS = env.env_number("DISPATCH_SECONDS", 1.0, float)
TICKET_GRACE_SECONDS = env.env_number("TICKET_GRACE_SECONDS", 10.0, float)

# Being watched: networks that may read /metrics without a token, and whom `manage.py watch` tells
METRICS_NETWORKS = env.env_list("METRICS_NETWORKS")
WATCH_SECONDS = env.env_number("WATCH_SECONDS", 10.0, float)
WATCH_RECIPIENTS = env.env_list("WATCH_RECIPIENTS")
WATCH_WEBHOOK_URL = env.env_text("WATCH_WEBHOOK_URL")
WATCH_WEB_URL = env.env_text("WATCH_WEB_URL")
RUNBOOK_URL = env.env_text("RUNBOOK_URL", "https://example.com/switchyard/docs/runbook.md")

# The world outside
PAYMENT_GATEWAY_URL = env.env_text("PAYMENT_GATEWAY_URL")
WEBHOOK_SECRET = env.env_text("WEBHOOK_SECRET", SECRET_KEY)
WEBHOOK_ALLOWED_HOSTS = env.env_list("WEBHOOK_ALLOWED_HOSTS")
PIPELINE_ROOTS = env.env_list("PIPELINE_ROOTS", f"{(DATA_DIR / 'sandbox').as_uri()}/,memory://")
REPORT_RECIPIENTS = env.env_list("REPORT_RECIPIENTS")
DEFAULT_FROM_EMAIL = env.env_text("DEFAULT_FROM_EMAIL", "switchyard@localhost")
EMAIL_TIMEOUT = 20
globals().update(env.mail(env.env_text("EMAIL_URL")))

# Its files only: as an app it would be loaded by every worker, which serves no API
NINJA = env.package("ninja")
INSTALLED_APPS = [
    "config.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "django_celery_results",
    "django_celery_beat",
    "csp",
    "api",
    "jobs",
    "deadletters",
    "monitoring",
]
MIDDLEWARE = [
    "api.problems.ProblemsOnly",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "api.contentpolicy.OnePolicy",
]
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates", NINJA / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
AUTHENTICATION_BACKENDS = ["api.logins.LoginThrottle", "django.contrib.auth.backends.ModelBackend"]
LOGIN_URL = "admin:login"
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / ".static"
STATICFILES_DIRS = [BASE_DIR / "config" / "static", NINJA / "static"]
WHITENOISE_USE_FINDERS = True

# Time
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
FORMAT_MODULE_PATH = "config.formats"

# Secure by default; plain HTTP only where DEBUG says so
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not DEBUG
CSRF_TRUSTED_ORIGINS = env.env_list("CSRF_TRUSTED_ORIGINS")
# Where the site is https a proxy in front ends TLS, says so, and overwrites what clients say
SECURE_SSL_REDIRECT = SITE_URL.startswith("https://")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if SECURE_SSL_REDIRECT else None
SECURE_REDIRECT_EXEMPT = ["^healthz$", "^readyz$", "^metrics$"]
SECURE_HSTS_SECONDS = 31_536_000 if SECURE_SSL_REDIRECT else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE_SSL_REDIRECT
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}

# The API
WEB_THREADS = env.env_number("WEB_THREADS", 16, int)
API_BODY_LIMIT_BYTES = 1024 * 1024
API_BULK_LIMIT_BYTES = env.env_number("API_BULK_LIMIT_BYTES", 32 * 1024 * 1024, int)
API_RATE_PER_SECOND = env.env_number("API_RATE_PER_SECOND", 500.0, float)
API_RATE_BURST = env.env_number("API_RATE_BURST", 1000, int)

# django-celery-beat
DJANGO_CELERY_BEAT_TZ_AWARE = True

# Logs: JSON lines unless a person is looking
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"job": {"()": "jobs.logs.JobFields"}},
    "formatters": {
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "fmt": "%(asctime)s %(levelname)s %(name)s %(message)s",
            "rename_fields": {"asctime": "ts", "levelname": "level", "name": "logger", "message": "msg"},
            # uvicorn says its message twice, once with colours.
            "reserved_attrs": [*RESERVED_ATTRS, "color_message"],
        },
        "plain": {"()": "jobs.logs.PlainFormatter"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": env.env_text(
                "LOG_FORMAT", "plain" if sys.stderr.isatty() else "json", among=("plain", "json")
            ),
            "filters": ["job"],
        }
    },
    # One line per transition is ours, Celery's own three per task say the same again; httpx logs whole URLs.
    "loggers": {
        "celery.app.trace": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
        # Django's own handlers would write every line a second time.
        "django": {"handlers": [], "level": "INFO"},
        # uvicorn has set up its own by now, which write no JSON.
        **{name: {"handlers": [], "propagate": True} for name in ("uvicorn", "uvicorn.access")},
    },
    "root": {"handlers": ["console"], "level": env.env_text("LOG_LEVEL", "INFO")},
}
