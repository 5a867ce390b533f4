# The programs in a container. For CPUs:
#
#     docker build -t skip-tuning --build-arg USER_ID="$(id -u)" .
#     mkdir -p out    # or Docker makes it, as root's
#     docker run --rm -v "$PWD/out:/home/user/out" skip-tuning generate --outdir out/plain --seeds 0-15 --steps 10
#
# For NVIDIA GPUs, with PyPI's torch, which brings its own CUDA (the machine needs a driver and the container toolkit):
#
#     docker build -t skip-tuning:cuda --build-arg TORCH_INDEX= --build-arg USER_ID="$(id -u)" .
#     docker run --rm --gpus all -v "$PWD/out:/home/user/out" skip-tuning:cuda generate --outdir out/plain --seeds 0-15
#
# Downloads are kept in a volume of their own: -v skip-tuning-cache:/cache
ARG BASE=python:3.11-slim
FROM ${BASE}

# Where torch comes from besides PyPI, whose torch has CUDA; empty: from PyPI.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Who owns what is written.
ARG USER_ID=1000

# Alone, as the largest part, so that it is fetched again only when the pins change.
WORKDIR /opt/skip-tuning
COPY constraints.txt .
RUN pip install --no-cache-dir -c constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch

COPY . .
RUN pip install --no-cache-dir -c constraints.txt '.[programs,tables]' && rm -rf build ./*.egg-info

RUN useradd --uid "$USER_ID" --non-unique --create-home user \
    && mkdir -p /home/user/out /cache && chown -R "$USER_ID" /home/user /cache
USER ${USER_ID}
WORKDIR /home/user
ENV PYTHONUNBUFFERED=1 SKIP_TUNING_CACHE=/cache
VOLUME /cache
ENTRYPOINT ["skip-tuning"]
CMD ["--help"]
