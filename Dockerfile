# The `wallet` command in an image: worker, sinks and operators' commands, one image for all.
# `make image` gives it version, revision and date. Nothing here names a processor: it builds on each that Docker has.
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The inner loops are compiled here; the image that runs them has no compiler.
RUN cp /var/lib/dpkg/status /base-status \
    && apt-get update && apt-get install --yes --no-install-recommends binutils gcc libc6-dev
RUN python -m venv /opt/wallet
WORKDIR /src
# The locked dependencies first: this layer stays while only the code changes.
COPY requirements.txt requirements-build.txt ./
RUN /opt/wallet/bin/pip install --no-compile --require-hashes -r requirements.txt -r requirements-build.txt
# What runs needs no tests and headers of its libraries, and no symbols but those they are linked by. Wheels with libraries
# in a folder NAME.libs have been patched by their makers, and strip would break those.
RUN cd /opt/wallet/lib/python3*/site-packages \
    && find . -type d -name tests -prune -exec rm -r {} + \
    && find . -type f '(' -name '*.pyi' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.[ach]' ')' -delete \
    && rm zstandard/_cffi.*.so \
    && for package in */; do [ -d "${package%/}.libs" ] || find "$package" -name '*.so' ! -path '*.libs/*' -exec strip --strip-unneeded {} +; done
# Audits compute with integers: without OpenBLAS the image is 28 MB smaller, and with it larger than the 250 MB that it may
# have. NumPy built without it (allow-noblas) would be another NumPy than the one that is tested, and minutes of a compiler.
# That the audit can still be imported is seen below. Wheels for other processors bring other libraries beside it.
COPY config/deployment/blas.c /blas/
RUN cd /opt/wallet/lib/python3*/site-packages \
    && nm --dynamic --undefined-only numpy/*/*.so | sed -n 's/^ *U \(scipy_.*\)/ABSENT(\1)/p' | sort -u | grep -v sdot > /blas/absent.h \
    && gcc -shared -fPIC -O2 -s -o numpy.libs/libscipy_openblas*.so /blas/blas.c \
    && rm -f numpy.libs/libgfortran* numpy.libs/libquadmath*
COPY pyproject.toml README.md LICENSE ./
COPY wallet_ledger wallet_ledger
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
# Without .git there is no tag to ask.
ARG VERSION=0.1.0.dev0
RUN SETUPTOOLS_SCM_PRETEND_VERSION_FOR_WALLET_LEDGER=$VERSION /opt/wallet/bin/pip install --no-compile --no-deps --no-build-isolation . \
    && /opt/wallet/bin/pip uninstall --yes setuptools-scm vcs-versioning setuptools pip
# That nothing was compiled is seen here, not months later in the worker's rate.
RUN cd / && /opt/wallet/bin/python -c 'import sys, wallet_ledger; sys.path.insert(0, str(wallet_ledger.APP)); \
    from schemas import native; assert native.post, "not compiled: see what gcc said above of schemas/native/_native.c"'
# The file system is read-only where it runs: the bytecode of what our programs import is made here, and only that.
RUN cd / && /opt/wallet/bin/python -c 'import sys; from importlib import import_module, metadata; from wallet_ledger import APP; \
    sys.path.insert(0, str(APP)); \
    [import_module(".".join(file.with_suffix("").parts[2:])) for file in metadata.files("wallet-ledger") \
     if file.suffix == ".py" and file.parts[1] == "app" and not file.name.startswith("__")]'
# Before there was a compiler here, Debian's packages were those of the image below.
RUN PYTHONDONTWRITEBYTECODE=1 /opt/wallet/bin/python -m operations.release.inventory sbom --system /base-status \
    > /opt/wallet/sbom.cdx.json

FROM python:${PYTHON_VERSION}-slim-bookworm
# A fixed id, so that volumes keep their owner when the image is built anew.
RUN useradd --uid 10001 --create-home wallet && install -d -o wallet -g wallet /var/lib/wallet
COPY --from=build /opt/wallet /opt/wallet
ENV PATH=/opt/wallet/bin:$PATH PYTHONUNBUFFERED=1 WALLET_STATE_DIR=/var/lib/wallet
ARG VERSION=0.1.0.dev0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="wallet-ledger" \
      org.opencontainers.image.description="A wallet ledger on Kafka: worker, sinks and the wallet command" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.licenses="Apache-2.0"
USER wallet
WORKDIR /home/wallet
ENTRYPOINT ["wallet"]
CMD ["--help"]
