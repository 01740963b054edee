# Takt. `make help` lists the targets.
SHELL       := /bin/bash
GO          ?= go
BIN         := $(CURDIR)/bin
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS     := -X github.com/takt-dev/takt/internal/process.Version=$(VERSION)
GOLANGCI    := v2.15.0
TEST_FLAGS  ?= -race
PKGS        ?= ./...

.PHONY: help build run demo test lint fmt clean bench bench-growth bench-smoke chaos

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

SEED        ?= 1
DURATION    ?= 60s

chaos: build ## Hold the promises against faults, one plan for each SEED, for DURATION of load
	@deployments/ensure-redis.sh
	$(GO) build -o $(BIN)/nats-server github.com/nats-io/nats-server/v2
	$(GO) build -o $(BIN)/chaos ./internal/chaos
	@$(BIN)/chaos -bin $(BIN) -seed $(SEED) -duration $(DURATION) -report $(BIN)/chaos-report.json $(ARGS)

bench: ## Measure every row of docs/performance.md beside its reference, in under 9 minutes
	@deployments/ensure-redis.sh
	@mkdir -p $(BIN)
	cd bench && $(GO) run . -json $(BIN)/bench.json $(ARGS)

bench-growth: ## Measure with 1, 10 and 100 times as much stored
	@deployments/ensure-redis.sh
	@mkdir -p $(BIN)
	cd bench && $(GO) run . -growth -json $(BIN)/bench-growth.json $(ARGS)

bench-smoke: ## Test the bench harness and try each row of it for some seconds, without judging
	@deployments/ensure-redis.sh
	cd bench && $(GO) vet ./... && $(GO) test ./... && $(GO) run . -smoke $(ARGS)

lint: $(BIN)/golangci-lint ## Run the linters
	$(BIN)/golangci-lint run ./...

$(BIN)/golangci-lint:
	GOBIN=$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)

fmt: ## Format the code
	gofmt -w $$(git ls-files '*.go')

clean: ## Remove what was built
	rm -rf $(BIN)
