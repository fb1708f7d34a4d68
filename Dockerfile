# BuildKit builds this (docker 23 and later by default, DOCKER_BUILDKIT=1 before).
# The compiler runs on the builder's own platform and compiles for the target's.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY . .
ARG TARGETOS TARGETARCH TARGETVARIANT
ARG VERSION=dev
# An arm's variant (v6, v7) is Go's GOARM, which is 7 if unset; arm64's (v8) is not.
RUN --mount=type=cache,target=/gocache \
    if [ "$TARGETARCH" = arm ]; then export GOARM="${TARGETVARIANT#v}"; fi; \
    GOCACHE=/gocache CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /healthd .

FROM scratch
ARG VERSION=dev
LABEL org.opencontainers.image.title="healthd" \
      org.opencontainers.image.description="Answers GET /health: may traffic come here?" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build /healthd /healthd
# A number, because Kubernetes' runAsNonRoot cannot judge a name.
USER 65532:65532
EXPOSE 8080
# The probe reads the same environment as the server, but not the server's
# flags: in a container, set HEALTHD_ADDR, not -addr.
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s --retries=3 \
    CMD ["/healthd", "probe"]
ENTRYPOINT ["/healthd"]
