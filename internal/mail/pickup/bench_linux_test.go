package pickup_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dialtone/internal/mail/pickup"
	"dialtone/internal/mailmsg"
)

// BenchmarkStaging compares the two ways to stage a message, on the file system of TMPDIR.
// Blocks of messages alternate between them, and a Sync follows each block. For each way the
// benchmark reports the median time from Stage to Publish, the processor time per message, and
// the median time of Sync. One iteration is one pair of blocks.
//
//	TMPDIR=/mnt/xfs go test -run - -bench Staging -benchtime 20x ./internal/mail/pickup
func BenchmarkStaging(b *testing.B) {
	for _, c := range []struct {
		name             string
		deleted, writers int
	}{
		{"one_writer", 0, 1},
		{"eight_writers", 0, 8},
		{"after_deletions", 2000, 1},
	} {
		b.Run(c.name, func(b *testing.B) {
			const block = 500
			type figures struct {
				dir       *pickup.Dir
				took      []time.Duration
				syncs     []time.Duration
				processor time.Duration
			}
			ways := make([]figures, len(stagings))
			for i, s := range stagings {
				d, err := pickup.OpenOn(s.disk, filepath.Join(b.TempDir(), s.name))
				if err != nil {
					b.Fatal(err)
				}
				if d.UsesUnnamedFiles() != s.unnamed {
					b.Skip("the file system has no files without a name")
				}
				ways[i].dir = d
			}
			next := 0
			for round := range b.N {
				for i := range ways {
					w := &ways[(round+i)%len(ways)]
					for n := range c.deleted {
						path := filepath.Join(w.dir.Path(), fmt.Sprintf("old-%d", n))
						if err := os.WriteFile(path, make([]byte, 2000), 0o640); err != nil {
							b.Fatal(err)
						}
					}
					if err := w.dir.Sync(); err != nil {
						b.Fatal(err)
					}
					for n := range c.deleted {
						if err := os.Remove(filepath.Join(w.dir.Path(), fmt.Sprintf("old-%d", n))); err != nil {
							b.Fatal(err)
						}
					}
					letters := make([]mailmsg.Message, block)
					for n := range letters {
						next++
						letters[n] = message(next)
						letters[n].Text = letters[n].Text[:min(len(letters[n].Text), 1500)]
					}
					took := make([]time.Duration, block)
					before := processorTime(b)
					var all sync.WaitGroup
					for writer := range c.writers {
						all.Go(func() {
							for n := writer; n < block; n += c.writers {
								start := time.Now()
								draft, err := stage(w.dir, letters[n])
								if err == nil {
									err = draft.Publish()
								}
								if err != nil {
									b.Error(err)
									return
								}
								took[n] = time.Since(start)
							}
						})
					}
					all.Wait()
					w.processor += processorTime(b) - before
					w.took = append(w.took, took...)
					start := time.Now()
					if err := w.dir.Sync(); err != nil {
						b.Fatal(err)
					}
					w.syncs = append(w.syncs, time.Since(start))
					runtime.GC()
				}
			}
			for i, w := range ways {
				slices.Sort(w.took)
				slices.Sort(w.syncs)
				name := stagings[i].name
				b.ReportMetric(float64(w.took[len(w.took)/2].Nanoseconds())/1000, name+"-µs")
				b.ReportMetric(float64(w.processor.Nanoseconds())/float64(len(w.took))/1000, name+"-cpu-µs")
				b.ReportMetric(float64(w.syncs[len(w.syncs)/2].Microseconds())/1000, name+"-sync-ms")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// processorTime is the user and system time of this process so far.
func processorTime(b *testing.B) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}
