# The programs in a container. For CPUs:
#
#     docker build -t skip-tuning .
#     docker run --rm -v "$PWD/out:/work/out" skip-tuning generate --outdir out/plain --seeds 0-15 --steps 10
#
# For NVIDIA GPUs, with the torch that brings its own CUDA (the machine needs a driver and the container toolkit):
#
#     docker build -t skip-tuning:cuda --build-arg TORCH_INDEX= .
#     docker run --rm --gpus all -v "$PWD/out:/work/out" skip-tuning:cuda generate --outdir out/plain --seeds 0-15
ARG BASE=python:3.11-slim
FROM ${BASE}

# Where torch comes from besides PyPI, whose torch has CUDA; empty: from PyPI.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Who owns what is written: --build-arg USER_ID="$(id -u)".
ARG USER_ID=1000

WORKDIR /opt/skip-tuning
COPY . .
RUN pip install --no-cache-dir -c constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} '.[programs,tables]' \
    && rm -rf build *.egg-info

RUN useradd --uid "$USER_ID" --create-home user && mkdir -p /work/out && chown -R user /work
USER user
WORKDIR /work
ENV PYTHONUNBUFFERED=1 SKIP_TUNING_CACHE=/work/out/.cache
ENTRYPOINT ["skip-tuning"]
CMD ["--help"]
