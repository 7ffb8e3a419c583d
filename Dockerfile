# One image for every role: what a run needs, the code server, web UI and daemon need too, or nearly. The role is the
# command. Build it from a clean checkout: docker build -t kb-pipeline .

FROM python:3.11-slim-trixie AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# --build-arg EXTRAS=torch adds every embedding model but the default one, and more than a gigabyte.
ARG EXTRAS=
# Without pip of its own: what is copied below holds nothing to install or build with.
RUN python -m venv --without-pip /opt/venv
WORKDIR /src
# On PyPI torch for Linux brings CUDA, gigabytes that nothing here uses. Without its dependencies, which come pinned below.
RUN test "$EXTRAS" != torch \
 || pip --python /opt/venv/bin/python install --no-deps --index-url https://download.pytorch.org/whl/cpu "torch==2.13.0"
# The dependencies are a layer apart from the code, which changes more often.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY kb_pipeline/__init__.py kb_pipeline/version.py kb_pipeline/
RUN pip --python /opt/venv/bin/python install -c constraints.txt ".[docker,kubernetes,js${EXTRAS:+,$EXTRAS}]"
COPY kb_pipeline kb_pipeline
RUN pip --python /opt/venv/bin/python install --no-deps --force-reinstall .

FROM python:3.11-slim-trixie
# chromium runs the scripts of pages (render); tini passes signals on, so that Cancel reaches a run.
# Debian's newest chromium is wanted, so no version is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends chromium tini \
 && rm -rf /var/lib/apt/lists/* \
 && python -m pip uninstall --yes pip \
 && groupadd --gid 10001 kb \
 && useradd --uid 10001 --gid kb --no-create-home --home-dir /tmp --shell /usr/sbin/nologin kb \
 && install -d -o kb -g kb -m 750 /data
COPY --from=build /opt/venv /opt/venv
# Read-only, and new with every image: what Dagster writes goes to KB_HOME.
COPY kb_pipeline/defs/dagster.yaml deploy/workspace.yaml deploy/seccomp.json /opt/dagster/
# HOME is where Chromium and others put what they need only while they run; the root file system may be read-only.
ENV PATH=/opt/venv/bin:$PATH \
    DAGSTER_HOME=/opt/dagster \
    HOME=/tmp \
    KB_HOME=/data \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /opt/dagster
ENTRYPOINT ["tini", "--"]
CMD ["dagster", "code-server", "start", "--host", "0.0.0.0", "--port", "4000", "--module-name", "kb_pipeline.definitions"]
