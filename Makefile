# Every target is a thin line over the go command; `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

TOOLBIN := $(CURDIR)/.cache/bin

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

.PHONY: tools
tools: $(TOOLBIN)/.built ## Build the pinned tools into .cache/bin

$(TOOLBIN)/.built: tools/go.mod tools/go.sum
	@mkdir -p $(TOOLBIN)
	cd tools && GOWORK=off GOBIN=$(TOOLBIN) go install tool
	@touch $@

.PHONY: proto-deps
proto-deps: ## Print the third-party protos from the pinned Go modules
	cd tools && GOWORK=off go run ./protodeps ../third_party

.PHONY: generate
generate: tools proto-deps ## Lint the protos and generate Go code and OpenAPI
	PATH=$(TOOLBIN):$$PATH buf lint
	PATH=$(TOOLBIN):$$PATH buf generate

.PHONY: build
build: ## Build every command into bin/
	go build -o bin/ ./cmd/...

.PHONY: lint
lint: tools ## Run the linters over every module
	PATH=$(TOOLBIN):$$PATH golangci-lint run ./...
	cd test/e2e && PATH=$(TOOLBIN):$$PATH golangci-lint run -c ../../.golangci.yml ./...

.PHONY: cross
cross: ## Build for darwin and windows
	GOOS=darwin GOARCH=arm64 go build ./...
	GOOS=windows GOARCH=amd64 go build ./...

# The race detector needs a C compiler; without one the tests run all the same.
RACE := $(shell command -v gcc >/dev/null 2>&1 && echo -race)

.PHONY: test
test: ## Run every test that this machine allows; the last lines say what was skipped and why
	@{ go test -json $(RACE) -timeout 25m ./...; (cd test/e2e && go test -json -timeout 25m ./...); } | \
		(cd tools && GOWORK=off go run ./testsummary)

.PHONY: bench
bench: ## Measure against peers: one table, and the same as JSON in bench.json
	go run ./test/bench

.PHONY: fuzz
fuzz: ## Run every fuzz target for ten seconds
	@go list ./... | while read -r pkg; do \
		for target in $$(go test -list '^Fuzz' $$pkg 2>/dev/null | grep '^Fuzz'); do \
			echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime 10s $$pkg || exit 1; \
		done; \
	done

.PHONY: cover
cover: ## Measure test coverage over all packages
	go test -coverpkg=./... -coverprofile=.cache/cover.out ./... >/dev/null
	@go tool cover -func=.cache/cover.out | tail -n 1
