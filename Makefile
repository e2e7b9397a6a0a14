# make run        a server to try things out, on http://localhost:8080
# make test       every test; installs the programs that are missing
# make check-fast the other checks of every change: gofmt, vet, staticcheck, generated files, the
#                 race detector on the packages with goroutines, 2,000 inputs of fuzzing for each parser
# make check      the same without fuzzing, with the race detector on every package; takes most of an hour
# make test-long  power cuts, kills, failing disks, floods and 20,000 simulated histories; takes long, and
#                 needs root, loop devices and strace
# make fuzz       one minute of fuzzing for each parser of outside input
# make mutation   changes the domain packages in small ways, one at a time, and counts how many of the
#                 changes make a test fail; takes hours
# make bench      benchmarks, compared with the limits of the machine; needs an idle machine
# make flood      100,000 signups from 10,000 networks, which are then stopped and deleted while others sign in
# make build      the program as it is shipped: one static file
# make release    archives, Debian packages, SBOMs and checksums of the commit that is checked out, in dist/
# make release-test  builds the release again, compares, and tries out all packages in directories and namespaces
#                 of their own; needs root and Debian, and takes a quarter of an hour
# make help       this list

GO ?= go

.PHONY: run help test test-long check check-fast lint race build tools fuzz mutation bench flood release release-test

run:
	$(GO) run ./cmd/dialtone serve --dev

help:
	@sed -n 's/^# \{0,1\}//p; /^$$/q' Makefile

# The packages with the longest tests start first, and one more package than there are processors
# runs at a time, since many tests wait for other programs. "make lint" runs all of vet. Compiling
# without debug information saves an eighth of its processor time; the tests that build the program
# use the same settings, and so the same compiled packages. Fewer garbage collections, in the compiler
# above all, save a sixth of the processor time of compiling; the largest package needs 900 MB instead of 640.
test: tools
	GOGC=400 GOFLAGS="$$($(GO) env GOFLAGS) -gcflags=all=-dwarf=false -ldflags=-w" CGO_ENABLED=0 $(GO) test -vet=off -p $$(($$(getconf _NPROCESSORS_ONLN) + 1)) -timeout 25m $(LONGEST) ./...

LONGEST = ./cmd/dialtone ./internal/http/web ./internal/store/postgres ./internal/test/conformance ./internal/test/durability

test-long:
	@tools/need strace e2fsck fsfreeze ip postgres haproxy git
	DIALTONE_SEEDS=20000 $(GO) test -timeout 60m -run 'TestSimulation$$' ./internal/test/durability
	DIALTONE_CHANCES=10 $(GO) test -timeout 60m -run 'TestEvery|TestCrashes' ./internal/test/durability
	DIALTONE_HISTORIES=20 $(GO) test -timeout 60m -run 'TestLinearizable' ./internal/test/conformance
	DIALTONE_QUERIES=3000 $(GO) test -timeout 60m -run '/Pages_of_accounts' ./internal/test/conformance
	$(GO) test -timeout 60m -run 'TestStoreThroughPgBouncer' ./internal/test/conformance
	DIALTONE_TEST_KILLS=50 $(GO) test -timeout 30m -run 'TestKill|TestTerminated' ./cmd/dialtone
	$(GO) test -tags long -timeout 60m -v -run Long ./cmd/dialtone

# The fuzzing is limited by the number of inputs: a time limit may end it with "context deadline
# exceeded".
check-fast: lint race
	@$(MAKE) --no-print-directory fuzz FUZZTIME=2000x

check: tools lint
	$(GO) test -race -timeout 40m ./...

lint:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo 'not in gofmt form:'; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags long ./cmd/dialtone
	CGO_ENABLED=0 GOOS=darwin $(GO) build -o /dev/null ./cmd/dialtone
	$(GO) tool staticcheck ./...
	@before=$$(git diff -- docs internal | cksum); $(GO) generate ./... && \
	  test "$$before" = "$$(git diff -- docs internal | cksum)" || \
	  { git diff --stat -- docs internal; echo 'generated files were not up to date; they are now: commit them'; exit 1; }
	$(GO) mod tidy -diff

# The packages with goroutines or locks whose tests run under the race detector on every change. Those
# that need PostgreSQL, a browser or minutes run in make check only.
RACED = account asynclog delivery digest hook hook/kamailio hook/webhook http/acme http/lookup http/ops http/server \
	mail/pickup mail/relay operator outage outbox recorder session sipserver sipserver/cache store/engine store/sqlite tenant throttle

race:
	$(GO) test -race -timeout 10m ./cmd/dialtone/internal/finding $(addprefix ./internal/,$(RACED))

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o dialtone ./cmd/dialtone

# Besides Go, this needs git, tar, gzip, GNU coreutils, awk and sed.
release:
	tools/release/build dist

release-test: release
	@tools/need mmdebstrap lintian mandoc buildah python3 ip openssl linphonec
	tools/release/test dist

# Installs what the tests need besides Go: browsers, curl, PostgreSQL, PgBouncer, HAProxy, nginx,
# Caddy, phones and the servers that they talk to, mail tools, Python for its mail parser, and
# packages from npm.
tools:
	@tools/need chromium chromium-headless-shell firefox-esr curl npm bash postgres pgbouncer haproxy nginx kamailio turnserver apache2 baresip linphonec zbarimg python3 postfix dkimverify fail2ban-regex prometheus caddy openssl zsh fish mandoc systemd-analyze docker-compose
	@tools/npm
	@cd tools/pebble && CGO_ENABLED=0 $(GO) tool -n pebble >/dev/null

FUZZTIME = 60s

fuzz:
	@for p in $$(git grep -l '^func Fuzz' -- 'internal/*_test.go' | xargs -n1 dirname | sort -u); do \
	  for f in $$(git grep -h '^func Fuzz' -- ":(glob)$$p/*_test.go" | sed 's/func \(Fuzz[A-Za-z0-9]*\).*/\1/'); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) ./$$p || exit 1; \
	  done; \
	done

# The packages that are tested by mutation, each with its own tests, the fast ones first.
MUTATED = fault turn captcha throttle digest provision mailmsg audit export session tenant sipserver \
	hook outbox delivery account

mutation:
	@failed=; for p in $(MUTATED); do \
	  GOFLAGS='-ldflags=-w -vet=off' $(GO) run github.com/go-gremlins/gremlins/cmd/gremlins@v0.6.0 \
	    unleash ./internal/$$p --workers 1 --timeout-coefficient 8 --exclude-files / --threshold-efficacy 97 || \
	    failed="$$failed $$p"; \
	done; test -z "$$failed" || { echo "too many mutants survive in:$$failed"; exit 1; }

bench:
	$(GO) run ./bench
	$(GO) run ./bench -growth 1000,100000,1000000
	$(GO) run ./bench -lookups 1000,1000000
	$(GO) run ./bench -lists 1000000
	$(GO) run ./bench -postgres -conns 64
	@tools/need kamailio sipp
	$(GO) test -run '^$$' -bench Kamailio -benchtime 1x ./internal/test/phonetest

flood:
	$(GO) run ./bench -flood 100000 -for 10s
