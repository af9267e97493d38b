# The gate as a program of its own in front of one application: docs/sidecar.md.
#
#	docker build -t caddy-authentiq .

ARG GO_VERSION=1.26

# Go builds for any platform on this one.
FROM --platform=${BUILDPLATFORM} docker.io/library/golang:${GO_VERSION}-alpine AS build
ARG TARGETOS TARGETARCH VERSION=devel
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# The same source and the same Go give the same bytes, wherever they are built.
ENV CGO_ENABLED=0 GOFLAGS=-mod=readonly
RUN GOOS=${TARGETOS} GOARCH=${TARGETARCH} go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}" -o /out/caddy-authentiq ./cmd/caddy-authentiq
# Copied with the folder that it is in, it keeps its mode.
RUN mkdir /out/volume && mkdir -m 0700 /out/volume/data

FROM scratch
ARG VERSION=devel
ARG REVISION=unknown
LABEL org.opencontainers.image.title="caddy-authentiq" \
	org.opencontainers.image.description="Sign-in with Authentiq, or any OpenID Connect provider, in front of an application" \
	org.opencontainers.image.source="https://github.com/authentiq/caddy-authentiq" \
	org.opencontainers.image.documentation="https://github.com/authentiq/caddy-authentiq/blob/main/docs/sidecar.md" \
	org.opencontainers.image.licenses="Apache-2.0" \
	org.opencontainers.image.version="${VERSION}" \
	org.opencontainers.image.revision="${REVISION}"

# The time zones that claims are held to are in the program.
COPY --from=build /src/LICENSE /
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/caddy-authentiq /caddy-authentiq
COPY --from=build --chown=65532:65532 /out/volume/ /

# What is kept is in /data: keys of sessions, who has signed out, certificates. So is
# the socket of the admin endpoint, which no other container gets to.
ENV HOME=/data XDG_DATA_HOME=/data XDG_CONFIG_HOME=/data \
	CADDY_ADMIN=unix//data/admin-{system.hostname}.sock
VOLUME /data
USER 65532:65532
EXPOSE 8080 8443 8443/udp
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 CMD ["/caddy-authentiq", "health"]
ENTRYPOINT ["/caddy-authentiq"]
CMD ["sidecar"]
