# The image of every process: worker, beat, Flower, the receiver of webhooks, and the commands. docs/deployment.md

# --- build: has compilers, and is thrown away ---
FROM python:3.12-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY sagajobs ./sagajobs
# Without pip in it: what runs installs nothing.
RUN python -m venv --without-pip /opt/sagajobs \
    && python -m pip --python /opt/sagajobs/bin/python install --no-cache-dir --disable-pip-version-check ".[otel]"

# --- runtime ---
FROM python:3.12-slim-bookworm
LABEL org.opencontainers.image.title="sagajobs" \
      org.opencontainers.image.description="Sagas on Celery: keep a PostgreSQL database and a failing HTTP API in step" \
      org.opencontainers.image.licenses="MIT"
# A number that no other account has: files on a volume belong to it, whatever the image is built on.
RUN groupadd --gid 10001 sagajobs \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /app --shell /usr/sbin/nologin sagajobs
COPY --from=build /opt/sagajobs /opt/sagajobs
# Celery reads its configuration in the folder that it starts in.
WORKDIR /app
COPY celeryconfig.py ./
# The compiled files are in the image, and a read-only system takes no others.
ENV PATH=/opt/sagajobs/bin:$PATH \
    HOME=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
# Warm: Celery takes no more and finishes what it is at.
STOPSIGNAL SIGTERM
CMD ["celery", "-A", "sagajobs", "worker", "--without-gossip", "--without-mingle", "--loglevel=INFO"]
