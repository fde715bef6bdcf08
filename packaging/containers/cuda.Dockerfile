# pyllama-server for NVIDIA GPUs from Turing on (CUDA 13) and, where none is handed in, any CPU. Compiler and libraries are
# packages of the index; the driver comes with the machine. The context is the folder of the source distribution:
#
#   python packaging/sdist.py --out dist
#   docker build --file packaging/containers/cuda.Dockerfile --tag pyllama-server:cuda dist
#   docker run --rm --gpus all --publish 8080:8080 --volume /srv/models:/models:ro pyllama-server:cuda \
#     --model /models/model.gguf --n-gpu-layers 99

FROM python:3.13-slim-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
COPY pyllama_engine-*.tar.gz /sources/
RUN tar --extract --file /sources/pyllama_engine-*.tar.gz --directory /sources --strip-components 1 \
      --wildcards '*/packaging/*' && python /sources/packaging/cuda_toolkit.py cuda13 /opt/cuda
# What takes so long is each generation of GPUs. One alone:
# --build-arg OPTIONS="-C cmake.define.CMAKE_CUDA_ARCHITECTURES=89-real"
ARG OPTIONS=""
RUN CUDACXX=$(echo /opt/cuda/packages/nvidia/*/bin/nvcc) pip wheel --no-cache-dir --wheel-dir /wheels \
      /sources/pyllama_engine-*.tar.gz -C cmake.define.GGML_CUDA=ON \
      -C cmake.define.GGML_NATIVE=OFF -C cmake.define.GGML_RPC=ON $OPTIONS
RUN pip wheel --no-cache-dir --wheel-dir /wheels $(python /sources/packaging/backends.py requires cuda13)

FROM python:3.13-slim-bookworm
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
  && useradd --system --user-group --no-create-home pyllama
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
  pip install --no-cache-dir --no-index --no-deps /wheels/*.whl && pip check && pyllama info
# What NVIDIA's container runtime hands in of a machine's driver.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER pyllama
EXPOSE 8080
HEALTHCHECK --start-period=10m CMD ["python", "-c", \
  "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=5)"]
ENTRYPOINT ["pyllama-server", "--host", "0.0.0.0", "--port", "8080"]
