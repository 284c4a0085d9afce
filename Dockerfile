# The `wallet` command in an image: worker, sinks and operators' commands, one image for all.
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The inner loops are compiled here; the image that runs them has no compiler.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
RUN python -m venv /opt/wallet
WORKDIR /src
# The locked dependencies first: this layer stays while only the code changes.
COPY requirements.txt requirements-build.txt ./
RUN /opt/wallet/bin/pip install --require-hashes -r requirements.txt -r requirements-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY config config
COPY schemas schemas
COPY topics topics
COPY vitals vitals
COPY streams streams
COPY sinks sinks
COPY audit audit
COPY console console
COPY operations operations
COPY local local
RUN /opt/wallet/bin/pip install --no-deps --no-build-isolation . && /opt/wallet/bin/pip uninstall -y setuptools pip
# That nothing was compiled is seen here, not months later in the worker's rate.
RUN cd / && /opt/wallet/bin/python -c 'from schemas import native; assert native.post'

FROM python:${PYTHON_VERSION}-slim-bookworm
# A fixed id, so that volumes keep their owner when the image is built anew.
RUN useradd --uid 10001 --create-home wallet && install -d -o wallet -g wallet /var/lib/wallet
COPY --from=build /opt/wallet /opt/wallet
ENV PATH=/opt/wallet/bin:$PATH PYTHONUNBUFFERED=1 WALLET_STATE_DIR=/var/lib/wallet
LABEL org.opencontainers.image.title="wallet-ledger" \
      org.opencontainers.image.description="A wallet ledger on Kafka: worker, sinks and the wallet command" \
      org.opencontainers.image.licenses="Apache-2.0"
USER wallet
WORKDIR /home/wallet
ENTRYPOINT ["wallet"]
CMD ["--help"]
