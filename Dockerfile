# One image for every part of the service: api, worker and migrate are commands of it (see docker-compose.yml).
# The package index is the one that pip and uv are set up with; BASE may name another Python 3.11 or 3.12.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
RUN python -m venv /opt/modeconn
COPY constraints.txt pyproject.toml README.md ./
RUN /opt/modeconn/bin/pip install --no-cache-dir -c constraints.txt uv
COPY api api
COPY client client
COPY intake intake
COPY migrations migrations
COPY modeconn_core modeconn_core
COPY store store
COPY worker worker
RUN VIRTUAL_ENV=/opt/modeconn /opt/modeconn/bin/uv pip install --no-cache --compile-bytecode \
      -c constraints.txt torch==2.13.0 torchvision==0.28.0 .

FROM ${BASE} AS service
RUN groupadd --gid 10001 modeconn \
 && useradd --uid 10001 --gid modeconn --no-create-home --home-dir /var/lib/modeconn modeconn \
 && install -d -o modeconn -g modeconn -m 0700 /var/lib/modeconn
COPY --from=build /opt/modeconn /opt/modeconn
ENV PATH=/opt/modeconn/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    STORAGE_URL=file:///var/lib/modeconn
USER 10001:10001
WORKDIR /var/lib/modeconn
VOLUME /var/lib/modeconn
EXPOSE 8000
CMD ["uvicorn", "api.app:app", "--host", "0.0.0.0", "--port", "8000", "--http", "h11", "--timeout-graceful-shutdown", "5"]
