// Bench measures the shipped program beside what the machine can do at best, in one run on the same disk and cores.
//
// It builds the real binary, starts it on a fresh data folder, and drives it over loopback from as many 127/8 addresses as
// the limits ask for: the limits stay on, every signup has a captcha that was fetched and solved, and every message file is
// written. Beside that it measures the bare limit: the same rows in groups of 64 with the same driver and the same files,
// without HTTP and without a rule; and an empty net/http handler, in a process of its own, driven by the same client.
//
// With -postgres it measures signups of one server and of two on a PostgreSQL database, beside plain INSERTs by pgbench.
//
// With -lookups it measures look-ups by phone servers beside the empty handler; with -signups too, while people sign up
// at that rate.
//
// Absolute figures belong to a machine and a moment. The ratios are what to look at.
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
	signups  int
	dir      string
	binary   string
	postgres bool
	cpu      bool
}

func main() {
	var o options
	conns := flag.String("conns", "1,8,64,256", "numbers of connections")
	accounts := flag.String("growth", "", "numbers of accounts to measure growth at, for instance 1000,100000,1000000")
	lookedUp := flag.String("lookups", "", "numbers of accounts to measure look-ups by phone servers at, for instance 1000,1000000")
	flag.IntVar(&o.signups, "signups", 0, "signups per second beside the look-ups of -lookups")
	flag.DurationVar(&o.duration, "for", 5*time.Second, "how long each figure is measured")
	flag.StringVar(&o.dir, "dir", "", "folder on the disk to measure (a temporary one)")
	flag.BoolVar(&o.postgres, "postgres", false, "measure signups on a PostgreSQL database that is made for it, by one server and by two")
	flag.BoolVar(&o.cpu, "processor", false, "measure the processor time of each kind of request instead of rates")
	flag.StringVar(&o.binary, "binary", "", "program to measure (one that is built from here)")
	empty := flag.String("empty", "", "serve an empty handler at this address; for the program itself")
	flag.Parse()
	if *empty != "" {
		fail(serveEmpty(*empty))
		return
	}
	o.conns, o.accounts, o.lookups = numbers(*conns), numbers(*accounts), numbers(*lookedUp)
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
	if len(o.accounts) > 0 {
		return growth(ctx, o)
	}
	if len(o.lookups) > 0 {
		return lookups(ctx, o)
	}
	if o.postgres {
		return shared(ctx, o)
	}
	return throughput(ctx, o)
}

// describe prints what the figures belong to.
func describe() {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	commit, _ := exec.Command("git", "describe", "--always", "--dirty").Output()
	fmt.Printf("%s, %d processors, %s, %s, commit %s\n", model, runtime.NumCPU(), runtime.Version(),
		time.Now().UTC().Format("2006-01-02 15:04 UTC"), strings.TrimSpace(string(commit)))
	fmt.Printf("command: go run ./bench %s\n\n", strings.Join(os.Args[1:], " "))
}
