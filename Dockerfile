# One image for every process but Flower's, which adds Flower to it. Build: docker compose build
FROM python:3.13-slim-bookworm AS build
COPY requirements.txt /build/
# Wheels only, each with the hash in the lock: nothing is compiled and nothing else gets in.
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r /build/requirements.txt
COPY requirements-flower.txt /build/
# Not into the environment: the celery command would load it in every worker.
RUN /venv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: --target /flower -r /build/requirements-flower.txt

FROM python:3.13-slim-bookworm AS app
RUN useradd --system --uid 10001 --home-dir /app --no-create-home --shell /usr/sbin/nologin switchyard \
 && install -d -o switchyard /data
COPY --from=build /venv /venv
COPY . /app
WORKDIR /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DATA_DIR=/data
RUN SECRET_KEY=only-for-this-step python manage.py collectstatic --noinput
USER switchyard
EXPOSE 8000
CMD ["uvicorn", "config.asgi:application", "--host", "0.0.0.0", "--port", "8000", "--timeout-graceful-shutdown", "5"]

FROM app AS flower
COPY --from=build /flower /flower
ENV PYTHONPATH=/flower
EXPOSE 5555
CMD ["celery", "-A", "config", "flower", "--address=0.0.0.0", "--port=5555"]

# The last stage is what a build without a target makes.
FROM app
