# A server without torch: docs/serving.md says how to build and run it. Not built on the machines of the tests.
FROM python:3.13-slim

WORKDIR /app
COPY requirements-serve.txt .
RUN pip install --no-cache-dir -r requirements-serve.txt

COPY pyproject.toml README.md LICENSE ./
COPY src src
# Without its dependencies: those of training would bring torch, and the line above has all that serving needs.
RUN pip install --no-cache-dir --no-deps . && useradd --system --no-create-home --uid 10001 headstart

USER 10001
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD \
    ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
# In a container, loopback is the container's own: it has to listen everywhere, and the port is published by -p.
ENTRYPOINT ["headstart", "serve", "--host", "0.0.0.0"]
CMD ["/model"]
