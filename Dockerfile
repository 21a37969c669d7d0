# Roo from nothing: misc/image.sh puts the binary and the shared libraries it names into rootfs/ first.
FROM scratch
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Roo" \
      org.opencontainers.image.description="A Raft-clustered HTTPS reverse proxy with ACME, for Docker Swarm and beyond" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY rootfs/ /
ENV PATH=/usr/bin ROO_DATA_DIR=/data
VOLUME /data
# http, https, the API, Raft: publish the first two only.
EXPOSE 80 443 6299 6300
# Asks whether the process lives, not whether there is a quorum: Swarm kills what is unhealthy.
HEALTHCHECK --interval=3s --timeout=5s --start-period=60s --retries=5 CMD ["/usr/bin/roo", "healthcheck"]
ENTRYPOINT ["/usr/bin/roo"]
CMD ["run"]
