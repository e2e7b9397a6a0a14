# make test    everything that must hold, in a few minutes; installs what is missing
# make check   what a change must pass besides: format, vet, staticcheck, generated files, race detector
# make run     a server to try things out, on http://localhost:8080
# make build   the program as it is shipped: one static file

GO ?= go

.PHONY: run test check build tools fuzz

run:
	$(GO) run ./cmd/dialtone serve --dev

test: tools
	$(GO) test -timeout 9m ./...

check: tools
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo 'not in gofmt form:'; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) generate ./...
	@git diff --exit-code --stat -- docs internal || { echo 'generated files were not up to date; they are now: commit them'; exit 1; }
	$(GO) mod tidy -diff
	$(GO) test -race -timeout 20m ./...

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o dialtone ./cmd/dialtone

# What the tests need besides Go: a browser, curl, and the accessibility rules that the browser runs.
tools:
	@tools/need chromium curl npm bash
	@tools/axe

# A minute for every parser of outside input.
fuzz:
	@for p in $$($(GO) list ./internal/...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime 60s $$p || exit 1; \
	  done; \
	done

# What the program does beside what the machine can do at best; an idle machine and some minutes.
.PHONY: bench
bench:
	$(GO) run ./bench
	$(GO) run ./bench -growth 1000,100000,1000000
