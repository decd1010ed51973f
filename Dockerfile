# Rexec's server, from the binary that `make build` left in bin/: nothing is compiled here.
# The base must be a Debian (or another glibc system at least as new as the one that built the binary).
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}

USER root
WORKDIR /
# iptables closes the host to workspaces; curl is for the health check.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates curl iptables \
 && rm -rf /var/lib/apt/lists/*
COPY bin/rexec /usr/local/bin/rexec

# HOST is told here because a container's loopback is nobody's.
ENV HOST=0.0.0.0 PORT=8080 REXEC_DATA_DIR=/var/lib/rexec REXEC_MODE=release
VOLUME /var/lib/rexec
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s CMD curl -fsS "http://127.0.0.1:${PORT}/health" || exit 1
ENTRYPOINT ["/usr/local/bin/rexec"]
CMD ["serve"]
