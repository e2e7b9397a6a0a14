# make run        a server to try things out, on http://localhost:8080
# make test       every test; installs the programs that are missing
# make check      what a change must also pass: gofmt, vet, staticcheck, generated files, race detector
# make test-long  power cuts, kills, failing disks, floods and 20,000 simulated histories; takes long, and
#                 needs root, loop devices and strace
# make fuzz       one minute of fuzzing for each parser of outside input
# make mutation   changes the domain packages in small ways, one at a time, and counts how many of the
#                 changes make a test fail; takes hours
# make bench      benchmarks beside what the machine can do at best; needs an idle machine
# make build      the program as it is shipped: one static file
# make help       this list

GO ?= go

.PHONY: run help test test-long check build tools fuzz mutation bench

run:
	$(GO) run ./cmd/dialtone serve --dev

help:
	@sed -n 's/^# \{0,1\}//p; /^$$/q' Makefile

# The packages whose tests take longest start first, and one package more than there are processors runs
# at a time, since many tests wait for other programs.
test: tools
	$(GO) test -p $$(($$(getconf _NPROCESSORS_ONLN) + 1)) -timeout 25m $(LONGEST) ./...

LONGEST = ./cmd/dialtone ./internal/test/durability ./internal/store/postgres ./internal/http/web

test-long:
	@tools/need strace e2fsck fsfreeze ip postgres
	DIALTONE_SEEDS=20000 $(GO) test -timeout 60m -run 'TestSimulation$$' ./internal/test/durability
	DIALTONE_CHANCES=10 $(GO) test -timeout 60m -run 'TestEvery|TestCrashes' ./internal/test/durability
	DIALTONE_TEST_KILLS=50 $(GO) test -timeout 30m -run 'TestKilled|TestTerminated' ./cmd/dialtone
	$(GO) test -tags long -timeout 60m -v -run Long ./cmd/dialtone

check: tools
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo 'not in gofmt form:'; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags long ./cmd/dialtone
	$(GO) tool staticcheck ./...
	$(GO) generate ./...
	@git diff --exit-code --stat -- docs internal || { echo 'generated files were not up to date; they are now: commit them'; exit 1; }
	$(GO) mod tidy -diff
	$(GO) test -race -timeout 20m ./...

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o dialtone ./cmd/dialtone

# Installs what the tests need besides Go: two browsers, curl, PostgreSQL, PgBouncer, HAProxy, nginx, phones
# and the servers that they talk to, mail tools, Python, whose parser reads messages, and packages from
# npm.
tools:
	@tools/need chromium firefox-esr curl npm bash postgres pgbouncer haproxy nginx kamailio turnserver apache2 baresip linphonec zbarimg python3 postfix dkimverify
	@tools/npm

fuzz:
	@for p in $$($(GO) list ./internal/...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime 60s $$p || exit 1; \
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
	done; test -z "$$failed" || { echo "too many mutants live in:$$failed"; exit 1; }

bench:
	$(GO) run ./bench
	$(GO) run ./bench -growth 1000,100000,1000000
	$(GO) run ./bench -lookups 1000,1000000
	$(GO) run ./bench -postgres -conns 64
	@tools/need kamailio sipp
	$(GO) test -run '^$$' -bench Kamailio -benchtime 1x ./internal/test/phonetest
