package main

import (
	"context"
	"fmt"
	"path/filepath"
)

// versus measures the program and another build of it in alternating turns. The figures of one run can
// be compared even if other work changes the speed of the machine from minute to minute.
func versus(ctx context.Context, o options) error {
	ours, err := startDialtone(ctx, o.binary, filepath.Join(o.dir, "data-ours"))
	if err != nil {
		return err
	}
	defer ours.stop()
	other, err := startDialtone(ctx, o.versus, filepath.Join(o.dir, "data-other"))
	if err != nil {
		return fmt.Errorf("%s: %w", o.versus, err)
	}
	defer other.stop()
	idle := [2]float64{ours.memory("VmRSS"), other.memory("VmRSS")}
	slice := o.duration / turns

	fmt.Print("| | connections | this build | the other | ratio | processor time, each | the other | ratio " +
		"| KiB written, each | the other |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, conns := range o.conns {
		row := func(name string, work [2]func(*client) func() error) error {
			run := func(p *process, work func(*client) func() error) func() (figures, error) {
				return func() (figures, error) { return p.driveWithUsage(conns, slice, work) }
			}
			a, b, ratio, err := compare(run(ours, work[0]), run(other, work[1]), byRate)
			if err != nil {
				return err
			}
			if failed := a.failed + b.failed; failed > 0 {
				return fmt.Errorf("%s: %d requests failed: %v %v", name, failed, a.firstFailure, b.firstFailure)
			}
			took, written := a.perRequest()
			otherTook, otherWritten := b.perRequest()
			fmt.Printf("| %s | %d | %.0f/s, p99 %s | %.0f/s, p99 %s | %s | %d µs | %d µs | %.2f | %.1f | %.1f |\n",
				name, conns, a.rate, show(a.p99), b.rate, show(b.p99), asText(ratio, "of the other"),
				took.Microseconds(), otherTook.Microseconds(), float64(took)/float64(otherTook),
				float64(written)/1024, float64(otherWritten)/1024)
			return nil
		}
		same := func(work func(*client) func() error) [2]func(*client) func() error {
			return [2]func(*client) func() error{work, work}
		}
		if err := row("captchas", same(repeat("/captcha.ashx"))); err != nil {
			return err
		}
		var posts [2]func(*client) func() error
		for i, p := range []*process{ours, other} {
			captchas, err := prefetch(p.target, captchaRate*int(o.duration.Seconds()+1))
			if err != nil {
				return err
			}
			posts[i] = signups(captchas)
		}
		if err := row("signups, the POST alone", posts); err != nil {
			return err
		}
		if err := row("visits (captcha and signup)", same(visits)); err != nil {
			return err
		}
		var proofs [2]func(*client) func() error
		for i, p := range []*process{ours, other} {
			users, _, err := activateAll(p, conns, o.duration)
			if err != nil {
				return err
			}
			proofs[i] = signins(users)
		}
		if err := row("sign-ins (challenge and proof)", proofs); err != nil {
			return err
		}
	}
	fmt.Printf("\nmemory at start: %.0f MiB, the other %.0f MiB; at the peak: %.0f MiB, the other %.0f MiB\n"+
		"first answer: %s, the other %s after start\n\n", idle[0], idle[1],
		ours.memory("VmHWM"), other.memory("VmHWM"), show(ours.first), show(other.first))
	return nil
}
