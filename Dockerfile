# The service on a CPU, for an exported model: without torch, not as root, writing nowhere but to /tmp and /scratch.
#
#   docker build --tag tinydefects .
#   docker build --tag tinydefects --build-arg EXTRAS=detector,serve .     # for a model that 'tinydefects fit' wrote
#
# compose.yaml runs it.

FROM python:3.11-slim AS build
ARG EXTRAS=runtime,serve
WORKDIR /checkout
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python -m venv /opt/tinydefects \
    && /opt/tinydefects/bin/pip install --no-cache-dir --constraint constraints.txt ".[${EXTRAS}]"

FROM python:3.11-slim
COPY --from=build /opt/tinydefects /opt/tinydefects
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin inspector \
    && mkdir /models /scratch && chown inspector /scratch
ENV PATH=/opt/tinydefects/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 TINYDEFECTS_OFFLINE=1
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as ask; ask.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["tinydefects", "serve", "--host", "0.0.0.0", "--port", "8000", "--scratch", "/scratch"]
CMD ["/models/model"]
