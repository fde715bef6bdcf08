# pyllama-server for NVIDIA GPUs and, where none is handed in, any CPU. Not yet built by its authors: see docs/packaging.md.
#
#   docker build --file packaging/containers/cuda.Dockerfile --tag pyllama-server:cuda dist
#   docker run --rm --gpus all --publish 8080:8080 --volume /srv/models:/models:ro pyllama-server:cuda \
#     --model /models/model.gguf --n-gpu-layers 99

ARG CUDA=12.8.1
FROM nvidia/cuda:${CUDA}-devel-ubuntu24.04 AS build
# Real code for these architectures, and PTX of the last for newer ones: see CMake's CMAKE_CUDA_ARCHITECTURES.
ARG ARCHITECTURES=75-real;80-real;86-real;89-real;90
RUN apt-get update && apt-get install --yes --no-install-recommends g++ python3-dev python3-pip python3-venv \
  && rm -rf /var/lib/apt/lists/*
COPY pyllama_engine-*.tar.gz /sources/
# The driver's library is not in the image: its stub is what the linker sees.
RUN python3 -m venv /opt/build && /opt/build/bin/pip wheel --no-cache-dir --wheel-dir /wheels \
      /sources/pyllama_engine-*.tar.gz -C cmake.define.GGML_CUDA=ON -C cmake.define.GGML_RPC=ON \
      "-Ccmake.define.CMAKE_CUDA_ARCHITECTURES=${ARCHITECTURES}" \
      -C cmake.define.CMAKE_MODULE_LINKER_FLAGS=-L/usr/local/cuda/lib64/stubs

FROM nvidia/cuda:${CUDA}-runtime-ubuntu24.04
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 python3 python3-venv \
  && rm -rf /var/lib/apt/lists/* && useradd --system --user-group --no-create-home pyllama
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
  python3 -m venv /opt/pyllama && /opt/pyllama/bin/pip install --no-cache-dir --no-index --find-links /wheels pyllama-engine
ENV PATH=/opt/pyllama/bin:$PATH
USER pyllama
EXPOSE 8080
HEALTHCHECK --start-period=10m CMD ["python3", "-c", \
  "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=5)"]
ENTRYPOINT ["pyllama-server", "--host", "0.0.0.0", "--port", "8080"]
