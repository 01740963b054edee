# Takt. `make help` lists the targets.
SHELL       := /bin/bash
GO          ?= go
BIN         := $(CURDIR)/bin
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS     := -X github.com/takt-dev/takt/internal/process.Version=$(VERSION)
GOLANGCI    := v2.15.0
TEST_FLAGS  ?= -race
PKGS        ?= ./...

.PHONY: help build run demo test lint fmt clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build api, worker, trigger and takt into bin/
	@mkdir -p $(BIN)
	$(GO) build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/...

run: build ## Run everything in one process (installs redis-server where it can)
	@deployments/ensure-redis.sh
	@exec $(BIN)/takt dev $(ARGS)

demo: build ## Start takt dev in a temporary folder, run a real group through REST, print its history
	@deployments/ensure-redis.sh
	@exec $(BIN)/takt demo $(ARGS)

test: ## Run all tests with the race detector
	@deployments/ensure-redis.sh
	$(GO) vet $(PKGS)
	$(GO) test $(TEST_FLAGS) -timeout 9m $(PKGS)

lint: $(BIN)/golangci-lint ## Run the linters
	$(BIN)/golangci-lint run ./...

$(BIN)/golangci-lint:
	GOBIN=$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)

fmt: ## Format the code
	gofmt -w $$(git ls-files '*.go')

clean: ## Remove what was built
	rm -rf $(BIN)
