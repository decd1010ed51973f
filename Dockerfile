# Rexec's server, for where an engine is somebody else's: a platform with DOCKER_HOST=ssh://... (docs/deploy-paas.md).
# A bin/rexec that `make build` left is taken as it is; in a fresh clone it is compiled here. BASE_IMAGE is a Debian, or another
# glibc system at least as new as the one that built the binary.
ARG BASE_IMAGE=debian:bookworm-slim
ARG BUILD_IMAGE=rust:1.95.0-bookworm
ARG NODE_IMAGE=node:22-bookworm-slim

FROM ${NODE_IMAGE} AS node

FROM ${BUILD_IMAGE} AS build
USER root
COPY --from=node /usr/local/ /usr/local/
COPY . /src
RUN /src/docker/build server

FROM ${BASE_IMAGE}
USER root
WORKDIR /
# iptables closes this machine to workspaces, where the engine is this machine's; curl is for the health check.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates curl iptables \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 rexec \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/rexec --shell /usr/sbin/nologin rexec \
 && install -d -o rexec -g rexec -m 0700 /var/lib/rexec
COPY --from=build /out/rexec /usr/local/bin/rexec

# HOST is told here because a container's loopback is nobody's.
ENV HOST=0.0.0.0 PORT=8080 REXEC_DATA_DIR=/var/lib/rexec REXEC_MODE=release
VOLUME /var/lib/rexec
EXPOSE 8080 2222
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s CMD curl -fsS "http://127.0.0.1:${PORT}/health" || exit 1
# A number, so that a cluster can see that it is nobody's root. Beside the engine's own socket run it as root:
# docker/docker-compose.yml says why.
USER 10001:10001
ENTRYPOINT ["/usr/local/bin/rexec"]
CMD ["serve"]
