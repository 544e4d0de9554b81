# The image: the binary, the libraries it needs, and nothing else. No shell.
#
#     docker build --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" \
#       -t wal-sidecar:0.1.0 .
ARG RUST_VERSION=1.90
ARG DEBIAN=bookworm

FROM rust:${RUST_VERSION}-slim-${DEBIAN} AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ make pkg-config libssl-dev zlib1g-dev ca-certificates \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY Cargo.toml Cargo.lock build.rs ./
COPY proto proto
COPY src src
COPY benches benches
COPY k8s/image/root k8s/image/root
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked --bin wal-sidecar \
 && cp target/release/wal-sidecar /wal-sidecar
RUN strip --strip-debug /wal-sidecar && k8s/image/root /wal-sidecar /image

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="wal-sidecar" \
      org.opencontainers.image.description="Journals every cache mutation before forwarding it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image /
ENV PATH=/usr/local/bin
USER 65532:65532
EXPOSE 6380 9900 8443
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/wal-sidecar"]
CMD ["run"]
