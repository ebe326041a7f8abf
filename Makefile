# Orkestra, from a checkout: Go and make are all it needs. `make` says what there is to do.

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Everything is compiled in one way, that of the images: what a test, a program of the local stack and an image need is
# compiled once.
export CGO_ENABLED := 0
export GOFLAGS     := $(strip $(filter-out -trimpath,$(shell go env GOFLAGS)) -trimpath)

# The modules of the workspace. They are asked for when they are needed.
modules = $(patsubst $(CURDIR)/%,./%,$(shell go list -m -f '{{.Dir}}'))
units   = $(addsuffix /...,$(filter-out ./test,$(modules)))
# Modules of ours outside the workspace: what they need should not lift what the others require.
outside = $(patsubst %/go.mod,%,$(filter-out tools/lint/% tools/natscli/%,$(wildcard tools/*/go.mod)))
e2e     = ./test/chart ./test/e2e ./test/interop ./test/repository
# As the local stack and tools/images build them: local/stack/build.go says why.
tags    = grpcnotrace
mains   = $(addprefix ./,$(wildcard services/*/cmd/* cli/cmd/* local/cmd/* examples/cmd/*))

# Go builds a tool anew when its module or the Go release has changed.
go_version    := $(shell go env GOVERSION)
tools         := bin/.stamps/tools-$(go_version)
golangci_lint := bin/.stamps/golangci-lint-$(go_version)
gotestsum      = bin/gotestsum --hide-summary=skipped --format-hide-empty-pkg
crd           := deploy/crds/orkestra.azure.microsoft.com_applicationgroups.yaml

# RUN picks e2e tests by a regular expression: make test-e2e RUN=Rollback
RUN ?= .

.PHONY: help
help: ## Say what there is to do
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

## The product

.PHONY: demo up status down
demo: ## Bring a whole Orkestra up on this machine and roll out the bookinfo group
	go run ./examples/cmd/orkestra-demo

up: ## Bring a whole Orkestra up on this machine, without root and without containers; NODE=containerd has real pods, as root
	go run ./local/cmd/orkestra-local up --node $(or $(NODE),kwok)

status: ## Show what runs on this machine
	go run ./local/cmd/orkestra-local status

down: ## Stop what runs on this machine and forget its state; what was built stays
	go run ./local/cmd/orkestra-local down --wipe

.PHONY: build
build: ## Compile every module; services and command lines go to .local/bin
	go build $(addsuffix /...,$(modules))
	go build -buildvcs=false -tags $(tags) -o .local/bin/.orkestra/ $(mains)
	@for main in $(notdir $(filter ./services/%,$(mains))); do ln -sfn ".orkestra/$$main" ".local/bin/orkestra-$$main"; done
	@for main in $(notdir $(filter-out ./services/%,$(mains))); do ln -sfn ".orkestra/$$main" ".local/bin/$$main"; done

# PLATFORMS and IMAGES pick: make images PLATFORMS=linux/amd64,linux/arm64 IMAGES=orkestra-executor
PLATFORMS ?= linux/$(shell go env GOARCH)

.PHONY: images
images: ## Build all images, without a container engine, to .local/images
	GOWORK=off go -C tools/images run . --root ../.. --platforms $(PLATFORMS) $(IMAGES)

## Its tests

.PHONY: test test-unit test-e2e e2e-node node containerd
test: test-unit test-e2e ## Run all tests: the unit tests, then the e2e tests on a stack of their own

test-unit: $(tools) ## Run the unit tests of every module; what has not changed is not run again
	status=0; \
	$(gotestsum) --format pkgname-and-test-fails -- -timeout 10m $(units) || status=1; \
	for module in $(outside); do \
		(cd $$module && GOWORK=off ../../$(gotestsum) --format pkgname-and-test-fails -- -timeout 10m ./...) || status=1; \
	done; \
	exit $$status

# One package after the other, each with all that it says while it says it: they share a stack and two cores, and the
# first run builds that stack, which takes a quarter of an hour.
test-e2e: $(tools) node ## Run the e2e tests, on a stack of their own; RUN=<regexp> picks some
	$(gotestsum) --format standard-verbose -- -count=1 -p 1 -timeout 90m -run '$(RUN)' $(e2e)

# It wants root, and leaves nothing of itself behind but what it had apt install. There is one such node on a machine: one
# package after the other, each with NODE_TIMEOUT: the first run builds all images.
NODE_TIMEOUT ?= 60m
e2e-node: $(tools) containerd ## As root: run the tests on a node with real pods, among them that of an installation of the chart
	$(gotestsum) --format standard-verbose -- -count=1 -p 1 -timeout $(NODE_TIMEOUT) ./test/e2enode ./test/e2enode/installation

# The clients of the interoperability tests that are not ours are written in JavaScript.
node:
	@hack/node

containerd:
	@hack/containerd

# FUZZTIME is how long each target gets: make fuzz FUZZTIME=10m
FUZZTIME ?= 60s

.PHONY: fuzz bench bench-guard
fuzz: ## Fuzz every fuzz target for a minute each; what is found becomes a seed in testdata
	FUZZTIME=$(FUZZTIME) hack/fuzz

bench: ## Measure rollouts against a perfect sequencer and peers, webhooks, memory, and staging, on stacks of their own; writes docs/benchmarks
	go run ./bench/rollout
	go run ./bench/webhooks
	go run ./bench/groups
	go run ./bench/staging

# What is worse is measured again, twice at most: somebody else may have been busy on this machine.
guard = go run ./bench/rollout -quick -guard docs/benchmarks/guard.json
again = { echo "=== measuring once more" && $(guard); }
bench-guard: ## Measure a few small rollouts, and fail where a ratio is worse by more than a third than docs/benchmarks/guard.json
	$(guard) || $(again) || $(again)

## Its code

.PHONY: generate
generate: $(tools) ## Write what is generated: deepcopy functions, the CRDs, schemas and catalogue of the events
	cd api && ../bin/controller-gen object paths=./... crd:generateEmbeddedObjectMeta=false output:crd:dir=../deploy/crds
	cd tools/crd && GOWORK=off go run . ../../$(crd)
	cd pkg/events && GOWORK=off go generate ./...
	hack/chart
	cd cli && GOWORK=off go generate ./internal/doctor

.PHONY: fmt
fmt: $(golangci_lint) ## Format the code and order its imports
	bin/golangci-lint fmt $(modules) $(outside)

.PHONY: lint
lint: $(golangci_lint) ## Run the lints, the architecture among them, on every module
	bin/golangci-lint run $(addsuffix /...,$(modules))
	for module in $(outside); do (cd $$module && GOWORK=off ../../bin/golangci-lint run ./...); done

.PHONY: tidy
tidy: ## Bring go.mod and go.sum of every module in line with its imports, and with each other
	go work sync
	@for module in $(modules) tools tools/lint $(outside); do (cd "$$module" && GOWORK=off go mod tidy); done

.PHONY: verify
verify: $(tools) $(golangci_lint) ## Check what a change has to pass besides the tests; changes no file
	hack/verify

.PHONY: clean
clean: ## Remove the tools and Orkestra's own programs; the servers and the local stack stay
	rm -rf bin .local/bin/.orkestra

## The tools, each built once

$(tools): tools/go.mod tools/go.sum
	@echo "building controller-gen and gotestsum (half a minute, once)"
	cd tools && GOWORK=off GOBIN="$(CURDIR)/bin" go install tool
	@mkdir -p $(@D) && touch $@

$(golangci_lint): tools/lint/go.mod tools/lint/go.sum
	@echo "building golangci-lint (minutes, once)"
	cd tools/lint && GOWORK=off GOBIN="$(CURDIR)/bin" go install tool
	@mkdir -p $(@D) && touch $@
