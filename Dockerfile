# The service without the demo's tests: not as root, and with nothing to write but the data directory.
#
#   docker build -t lactation-cds .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#     -v lactation-cds:/data -v "$PWD/clients.yaml:/etc/lactation-cds/clients.yaml:ro" \
#     -e CDS_BASE_URL=https://cds.example.org -p 8000:8000 lactation-cds
# By its digest, as your registry has it: --build-arg PYTHON_IMAGE=python@sha256:...
ARG PYTHON_IMAGE=python:3.11.11-slim-bookworm
FROM ${PYTHON_IMAGE} AS built
WORKDIR /build
COPY build.lock .
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r build.lock
COPY requirements.lock .
RUN python -m venv /opt/lactation-cds \
 && /opt/lactation-cds/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY . .
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel . \
 && /opt/lactation-cds/bin/pip install --no-cache-dir --no-deps /wheel/*.whl

FROM ${PYTHON_IMAGE}
RUN useradd --system --uid 10001 --no-create-home cds && install -d -o cds /data
COPY --from=built /opt/lactation-cds /opt/lactation-cds
USER 10001
WORKDIR /data
ENV PYTHONDONTWRITEBYTECODE=1 \
    CDS_CLIENTS=/etc/lactation-cds/clients.yaml \
    CDS_DATABASE_URL=sqlite:////data/lactation-cds.sqlite3
EXPOSE 8000
HEALTHCHECK CMD ["/opt/lactation-cds/bin/python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health/ready', timeout=2)"]
ENTRYPOINT ["/opt/lactation-cds/bin/cds-service"]
CMD ["serve", "--host", "0.0.0.0", "--workers", "2"]
