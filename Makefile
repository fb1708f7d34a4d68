# run, build and test need Go and make, nothing else; bench and lint fetch a tool the first time.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
IMAGE   ?= healthd
DOCKER  ?= docker

STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
BENCHSTAT   = go run golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da

# benchstat tells no confidence interval of fewer than six.
ROUNDS     ?= $(if $(SHORT),6,9)
BENCHFLAGS ?= -benchtime $(if $(SHORT),0.3s,1s)

.DEFAULT_GOAL := help
.PHONY: run build test race lint e2e bench image help

run: build ## serve on :8080 in the foreground; Ctrl-C stops it
	@./healthd

build: ## make ./healthd
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)" -o healthd .

test: ## run the tests
	go test ./...

race: ## run the tests with the race detector (needs a C compiler)
	go test -race ./...

lint: ## gofmt, go vet and staticcheck, with and without the e2e tests
	@bad=$$(gofmt -l .) && test -z "$$bad" || { echo "not gofmt'ed: $$bad"; exit 1; }
	go vet ./...
	go vet -tags e2e ./...
	$(STATICCHECK) ./...
	$(STATICCHECK) -tags e2e ./...

e2e: ## run the binary under real clients (needs root and the packages of .ci/run)
	go test -tags e2e -count=1 -timeout 30m ./e2e

bench: ## measure the cost beside a bare net/http server; SHORT=1 takes a minute
	@out=$$(mktemp) && trap 'rm -f "$$out"' EXIT && trap 'exit 1' INT TERM && \
	for round in $$(seq $(ROUNDS)); do \
		echo "round $$round of $(ROUNDS)" >&2; \
		go test ./bench -bench . -count=1 $(BENCHFLAGS) >>"$$out" || { cat "$$out"; exit 1; }; \
	done && \
	$(BENCHSTAT) -col /server "$$out"

image: ## build the container image, IMAGE=healthd if not set
	DOCKER_BUILDKIT=1 $(DOCKER) build --build-arg VERSION=$(VERSION) -t $(IMAGE) .

help: ## list the targets
	@sed -n 's/^\([a-z0-9]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16
