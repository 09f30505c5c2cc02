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
