package delivery_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wneessen/go-mail/smtp"

	"dialtone/internal/test/smtptest"
)

const (
	backlog     = 10_000
	connections = 4
)

// BenchmarkBacklog sends a backlog to a server on this machine. Before and after, a bare client
// sends the same messages with the same SMTP library, but reads no files and records nothing.
// It uses one connection, and then as many as the queue. The metrics ratio1 and ratio4 compare
// the rates.
func BenchmarkBacklog(b *testing.B) {
	o := newFixture(b)
	s := smtptest.Start(b, smtptest.Options{Forget: true})
	var one, many, ours []float64
	for range b.N {
		list := o.writeMany(backlog,
			func(i int) string { return fmt.Sprintf("user%d@mail%d.test", i, i%50) })
		bare := func() {
			one = append(one, rate(func() { bareClient(b, s.Address, list, 1) }))
			many = append(many, rate(func() { bareClient(b, s.Address, list, connections) }))
		}
		bare()
		o.enqueue(list...)
		before := s.Accepted()
		var stop func()
		ours = append(ours, rate(func() {
			stop = o.start(s.Address, connections)
			end := time.Now().Add(5 * time.Minute)
			for o.queue.Counts().Sent < backlog {
				if time.Now().After(end) {
					b.Fatalf("timeout: %d messages were sent", o.queue.Counts().Sent)
				}
				time.Sleep(2 * time.Millisecond)
			}
		}))
		stop()
		if got := s.Accepted() - before; got != backlog || len(o.Files("pickup")) != 0 {
			b.Fatalf("%d messages arrived, %d files are left", got, len(o.Files("pickup")))
		}
		bare()
	}
	b.ReportMetric(mean(one), "bare1/s")
	b.ReportMetric(mean(many), "bare4/s")
	b.ReportMetric(mean(ours), "messages/s")
	b.ReportMetric(mean(ours)/mean(one), "ratio1")
	b.ReportMetric(mean(ours)/mean(many), "ratio4")
}

func rate(do func()) float64 {
	began := time.Now()
	do()
	return backlog / time.Since(began).Seconds()
}

func mean(list []float64) (m float64) {
	for _, x := range list {
		m += x / float64(len(list))
	}
	return m
}

func bareClient(b *testing.B, address string, list []posted, connections int) {
	var all sync.WaitGroup
	for first := range connections {
		all.Go(func() {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				b.Error(err)
				return
			}
			c, err := smtp.NewClient(conn, "127.0.0.1")
			if err != nil {
				b.Error(err)
				return
			}
			for i := first; i < len(list); i += connections {
				if err := bareSend(c, list[i]); err != nil {
					b.Error(err)
					return
				}
			}
			c.Quit()
		})
	}
	all.Wait()
}

func bareSend(c *smtp.Client, p posted) error {
	if err := c.Mail("<no-reply@phone.test>"); err != nil {
		return err
	}
	if err := c.Rcpt("<" + p.Account.Email + ">"); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(p.text); err != nil {
		return err
	}
	return w.Close()
}

// BenchmarkMemory measures the memory of a queue with backlogs of two sizes. The metric is the
// growth of the live heap, at its largest during sending.
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{10_000, 40_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for range b.N {
				o := newFixture(b)
				s := smtptest.Start(b, smtptest.Options{Forget: true})
				o.enqueue(o.writeMany(n,
					func(i int) string { return fmt.Sprintf("user%d@mail%d.test", i, i%50) })...)
				liveHeap := func() uint64 {
					var m runtime.MemStats
					runtime.GC()
					runtime.ReadMemStats(&m)
					return m.HeapAlloc
				}
				before, largest := liveHeap(), uint64(0)
				stop := o.start(s.Address, connections)
				for o.queue.Counts().Sent < int64(n) {
					largest = max(largest, liveHeap())
				}
				stop()
				b.ReportMetric(float64(largest-min(before, largest))/1024, "live-KiB")
			}
		})
	}
}

// BenchmarkLoad measures reading a pickup directory that no mail agent empties.
func BenchmarkLoad(b *testing.B) {
	o := newFixture(b)
	for i := range 10_000 {
		name := filepath.Join(o.Pickup.Path(), strings.Repeat("0", 24)+fmt.Sprintf("%08x.eml", i))
		if err := os.WriteFile(name, nil, 0o640); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if n, _, err := o.Pickup.Load(); err != nil || n != 10_000 {
			b.Fatal(n, err)
		}
	}
}
