# pyllama-server for any CPU. The context is the folder of the source distribution, so nothing is fetched but the build
# requirements and the Python dependencies:
#
#   python packaging/sdist.py --out dist
#   docker build --file packaging/containers/cpu.Dockerfile --tag pyllama-server dist
#   docker run --rm --publish 8080:8080 --volume /srv/models:/models:ro pyllama-server --model /models/model.gguf

FROM python:3.13-slim-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
COPY pyllama_engine-*.tar.gz /sources/
RUN pip wheel --no-cache-dir --wheel-dir /wheels /sources/pyllama_engine-*.tar.gz \
      -C cmake.define.GGML_CPU_ALL_VARIANTS=ON -C cmake.define.GGML_RPC=ON

FROM python:3.13-slim-bookworm
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
  && useradd --system --user-group --no-create-home pyllama
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
  pip install --no-cache-dir --no-index --find-links /wheels pyllama-engine && pyllama info
USER pyllama
EXPOSE 8080
HEALTHCHECK --start-period=10m CMD ["python", "-c", \
  "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=5)"]
ENTRYPOINT ["pyllama-server", "--host", "0.0.0.0", "--port", "8080"]
