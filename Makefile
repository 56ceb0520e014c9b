# borgfleet: `make demo` shows it working, `make test` proves it. `make help` lists the rest.

VERSION ?= 0.6.0-dev
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
BUILD   := github.com/borgfleet/borgfleet/shared/build
LDFLAGS := -s -w -X $(BUILD).Version=$(VERSION) -X $(BUILD).Commit=$(COMMIT)
GOBUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

# Versions of the tools that `make lint` and `make secrets` run from the module cache.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GITLEAKS    := github.com/zricethezav/gitleaks/v8@v8.30.1

.DEFAULT_GOAL := help
.PHONY: help setup build demo test faults chaos overload bench lint vet fmt fmt-check layers secrets clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: ## install what is missing from Debian's packages (borg, sshd, chromium, …)
	@deploy/dev/setup.sh

build: ## build bin/borgfleet and bin/borgfleet-agent, static
	@mkdir -p bin
	$(GOBUILD) -o bin/borgfleet ./coordinator
	$(GOBUILD) -o bin/borgfleet-agent ./agent

demo: setup build ## coordinator, agent and real backups on this machine; Ctrl-C ends it (ONCE=1: ends by itself)
	@deploy/demo.sh

# Nothing comes from the cache: it does not see that the programs which the tests run have changed.
# A program with the race detector waits for a second before it ends, unless it is told not to. Vetting is
# `make lint`'s.
test: setup build ## all tests: unit and end to end, with the race detector
	GORACE=atexit_sleep_ms=0 go test -race -count 1 -vet off -timeout 40m work

# A case alone: make faults CASE='agent / kill / middle'. The directory is entered, since go test then shows what is printed.
FAULTS_FILE ?= e2e/FAULTS.md
faults: setup ## break everything at every moment, and see what became of the jobs; writes e2e/FAULTS.md (CASE=regexp: only those)
	cd e2e/faults && BORGFLEET_MATRIX='$(or $(CASE),all)' BORGFLEET_MATRIX_FILE='$(FAULTS_FILE)' \
		go test -count 1 -timeout 40m -parallel 12 -run 'TestMatrix$$'

chaos: setup ## random jobs and faults for MINUTES=1, from SEED, which replays a run
	cd e2e/faults && BORGFLEET_CHAOS=$(or $(SEED),$(shell date +%s)) BORGFLEET_CHAOS_MINUTES=$(or $(MINUTES),1) \
		go test -count 1 -timeout 120m -run 'TestChaos$$'

overload: setup ## 1,000 jobs on 50 agents, a log of 1 GB, 300,000 listed files (minutes)
	cd e2e/overload && BORGFLEET_OVERLOAD=full go test -count 1 -timeout 60m

bench: setup build ## measure against plain borg and ssh, in one run; prints a table with ratios
	BORGFLEET_BIN=$(CURDIR)/bin go test -run '^$$' -bench . -benchtime 1x -count 1 -timeout 30m ./e2e/bench

lint: fmt-check vet layers ## formatting, vet, imports, staticcheck
	go run $(STATICCHECK) $$(go list work)

vet: ## go vet
	go vet work

fmt: ## format all Go code
	gofmt -w agent coordinator e2e shared

fmt-check:
	@bad="$$(gofmt -l agent coordinator e2e shared)"; \
	if [ -n "$$bad" ]; then printf 'not formatted, run make fmt:\n%s\n' "$$bad" >&2; exit 1; fi

layers: ## fail on an import against the direction that ARCHITECTURE.md gives
	@deploy/dev/layers.sh

secrets: ## scan the tree and its history for secrets
	go run $(GITLEAKS) git --no-banner --redact --verbose --log-level warn --config deploy/dev/gitleaks.toml .

clean: ## remove what was built
	rm -rf bin tmp e2e/artifacts
