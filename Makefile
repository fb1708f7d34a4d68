# run, build, test and bench need Go and make, nothing else.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
IMAGE   ?= healthd
DOCKER  ?= docker

STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

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

bench: ## measure the cost beside a bare net/http server, and each decision alone
	go run ./bench
	go test -run '^$$' -bench '^Benchmark(Health|Check)$$' -benchmem -benchtime 200ms . ./internal/auth

image: ## build the container image, IMAGE=healthd if not set
	DOCKER_BUILDKIT=1 $(DOCKER) build --build-arg VERSION=$(VERSION) -t $(IMAGE) .

help: ## list the targets
	@sed -n 's/^\([a-z0-9]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16
