// Bench measures the program against the machine's own limits, in one run on the same disk and CPUs.
//
// It builds the real binary, starts it on a fresh data directory, and drives it over loopback from
// as many 127/8 addresses as the limits require. The limits stay on, each signup has a captcha that
// was fetched and solved, and each message file is written. It compares the program with two
// limits. One is an empty net/http handler in its own process, driven by the same client. The other
// is the bare store: the same rows in groups of 64 with the same driver, and the same files,
// without HTTP and without rules.
//
// With -versus it compares two builds of the program in alternating turns. With -postgres it measures
// signups of one server and of two on a PostgreSQL database, and plain INSERTs by pgbench. With -lookups
// it measures look-ups by SIP servers; with -signups, too, during signups at that rate. With -growth it
// measures signups and sign-ins at several numbers of accounts, and with -processor the processor time of
// each kind of request. With -lists it measures pages of lists of accounts. With -flood, bots sign up, are
// stopped and are deleted, while others sign in.
//
// Absolute figures depend on the machine and on its load. Look at the ratios.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

type options struct {
	conns    []int
	duration time.Duration
	accounts []int
	lookups  []int
	lists    []int
	flood    int
	signups  int
	dir      string
	binary   string
	versus   string
	postgres bool
	cpu      bool
}

func main() {
	var o options
	conns := flag.String("conns", "1,8,64,256", "numbers of connections")
	accounts := flag.String("growth", "", "measure growth at these `numbers` of accounts, such as 1000,100000,1000000")
	lookedUp := flag.String("lookups", "",
		"measure look-ups by SIP servers at these `numbers` of accounts, such as 1000,1000000")
	listed := flag.String("lists", "",
		"measure pages of lists of accounts at these `numbers` of accounts, such as 1000000")
	flag.IntVar(&o.flood, "flood", 0,
		"measure how others are affected while this `number` of bots sign up, are stopped and deleted, such as 100000")
	flag.IntVar(&o.signups, "signups", 0, "with -lookups: signups per second at the same time")
	flag.DurationVar(&o.duration, "for", 5*time.Second, "how long to measure each figure")
	flag.StringVar(&o.dir, "dir", "", "`directory` on the disk to measure (default a temporary one)")
	flag.BoolVar(&o.postgres, "postgres", false,
		"measure signups on a new PostgreSQL database, with one server and with two; with -growth, growth there")
	flag.BoolVar(&o.cpu, "processor", false, "measure the CPU time of each kind of request instead of rates")
	flag.StringVar(&o.binary, "binary", "", "`program` to measure (default one built from this directory)")
	flag.StringVar(&o.versus, "versus", "", "another build of the `program`, to compare with in alternating turns")
	empty := flag.String("empty", "", "serve an empty handler at this `address` (used internally)")
	flag.Parse()
	if *empty != "" {
		fail(serveEmpty(*empty))
		return
	}
	o.conns, o.accounts, o.lookups, o.lists = numbers(*conns), numbers(*accounts), numbers(*lookedUp), numbers(*listed)
	dir, err := os.MkdirTemp(o.dir, "dialtone-bench-")
	fail(err)
	o.dir = dir
	defer os.RemoveAll(dir)
	fail(run(context.Background(), o))
}

func numbers(list string) (out []int) {
	for _, s := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
		n, err := strconv.Atoi(s)
		fail(err)
		out = append(out, n)
	}
	return out
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if o.binary == "" {
		o.binary = o.dir + "/dialtone"
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", o.binary, "./cmd/dialtone")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build: %w\n%s", err, out)
		}
	}
	describe()
	if o.cpu {
		return processor(ctx, o)
	}
	if o.versus != "" {
		return versus(ctx, o)
	}
	if len(o.accounts) > 0 {
		return growth(ctx, o)
	}
	if len(o.lookups) > 0 {
		return lookups(ctx, o)
	}
	if o.flood > 0 {
		return flood(ctx, o)
	}
	if len(o.lists) > 0 {
		return lists(ctx, o)
	}
	if o.postgres {
		return shared(ctx, o)
	}
	return throughput(ctx, o)
}

// describe prints machine, version, date and command.
func describe() {
	model := "unknown CPU"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	commit, _ := exec.Command("git", "describe", "--always", "--dirty").Output()
	fmt.Printf("%s, %d CPUs, %s, %s, commit %s\n", model, runtime.NumCPU(), runtime.Version(),
		time.Now().UTC().Format("2006-01-02 15:04 UTC"), strings.TrimSpace(string(commit)))
	fmt.Printf("command: go run ./bench %s\n\n", strings.Join(os.Args[1:], " "))
}
