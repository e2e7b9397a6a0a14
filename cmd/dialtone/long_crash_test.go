//go:build long

package main

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dialtone/cmd/dialtone/internal/serve"
)

// A data directory is used for some rounds only, so that first starts are interrupted too, and
// checking all accounts does not take long.
const (
	longRounds      = 100 // power cuts for each journal mode of ext4
	longKills       = 500
	roundsPerDir    = 20
	maxTimeAfterCut = 400 * time.Millisecond
	signupsAfterCut = 2 // for each client
)

// In every round, the power of the disk is cut during signups. The server does not know, but must
// not answer 200 from then on. When the power is back, every signup that was answered 200 must be
// there.
func TestLongPowerCut(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	for _, mode := range []string{"data=ordered", "data=writeback"} {
		t.Run(mode, func(t *testing.T) {
			d := newDisk(t, 96<<20, mode)
			sum := &cuts{}
			for n := 0; n < longRounds; n += roundsPerDir {
				if n > 0 {
					d.unmount()
					d.make(96 << 20)
				}
				s := newKillTest(t)
				s.data = filepath.Join(d.dir, "data")
				s.pickup = filepath.Join(s.data, "pickup")
				c := &cuts{failed: map[string]bool{}}
				for range roundsPerDir {
					s.cutRound(d, c)
				}
				s.finish()
				sum.add(s, c)
			}
			t.Logf("%s: %d power cuts: %d signups answered, lost 0; %d saved without an answer, %d saved "+
				"though the cut made the answer an error; "+
				"%d messages republished; without power %d requests answered with an error, %d not at "+
				"all, 0 with 200; %d accounts activated by their links",
				mode, sum.rounds, sum.answered, sum.unanswered, sum.failedSaved, sum.republished, sum.refused,
				sum.unansweredAfter, sum.activated)
		})
	}
}

// cuts counts the results.
type cuts struct {
	rounds, answered, unanswered, failedSaved, republished, activated int
	// refused and unansweredAfter count requests that began after the cut.
	refused, unansweredAfter int
	// failed has the users who got an error.
	failed map[string]bool
}

func (c *cuts) add(s *killTest, o *cuts) {
	c.rounds += o.rounds
	c.answered += len(s.answered)
	c.unanswered += s.unanswered
	c.republished += s.republished
	c.activated += len(s.activated)
	c.refused += o.refused
	c.unansweredAfter += o.unansweredAfter
	for user := range o.failed {
		if s.seen[user] {
			c.failedSaved++
			c.unanswered--
		}
	}
}

// powerCut is a server whose disk loses its power.
type powerCut struct {
	*killTest
	*serverProcess
	sum          *cuts
	begins, over atomic.Bool
	clients      sync.WaitGroup
}

func (s *killTest) cutRound(d *disk, c *cuts) {
	s.t.Helper()
	p := s.start()
	s.check(p)
	verified(s.t, s.data, s.pickup)
	o := &powerCut{killTest: s, serverProcess: p, sum: c}
	for i := range clients {
		o.clients.Go(func() { o.client(i%2 == 0) })
	}
	waitRandomly()
	if rand.N(5) == 0 { // sometimes wait until messages are durable and their outbox rows are removed
		<-time.After(rand.N(2 * serve.FlushInterval))
	}
	o.begins.Store(true)
	if err := d.cut(); err != nil {
		s.t.Fatal("power cut: ", err)
	}
	o.over.Store(true)
	done := make(chan struct{})
	go func() {
		o.clients.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(rand.N(maxTimeAfterCut)):
	}
	p.Kill()
	<-done
	c.rounds++
	s.republished += p.stderr.Count(`"msg":"message.republish"`)
	p.noPanic(s.t)
	s.failIfBroken()
	d.restore()
}

func (o *powerCut) client(newConn bool) {
	for after := 0; after < signupsAfterCut; {
		v := newVisitor(o.address, "")
		if newConn {
			v.useNewConnections()
		}
		for range 3 {
			user := o.newUser(newConn)
			form, err := v.form(user)
			if err != nil {
				o.note(o.begins.Load(), fmt.Errorf("%s: %w", user, err))
				v.leave()
				return
			}
			withoutPower := o.over.Load()
			if !o.post(v, user, form, withoutPower) {
				v.leave()
				return
			}
			if withoutPower {
				after++
			}
		}
		v.leave()
	}
}

// newUser returns an unused name.
func (s *killTest) newUser(newConn bool) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users++
	user := fmt.Sprintf("person-%d", s.users)
	s.newConn[user] = newConn
	return user
}

// note records an error, unless it is excused.
func (o *powerCut) note(excused bool, err error) {
	if excused {
		return
	}
	o.mu.Lock()
	o.failures = append(o.failures, err)
	o.mu.Unlock()
}

// post signs up, and reports whether the server answers. Without power, no signup may succeed.
func (o *powerCut) post(v *visitor, user string, form url.Values, withoutPower bool) bool {
	a, err := v.post(form)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch begins := o.begins.Load(); {
	case err != nil:
		if !begins {
			o.failures = append(o.failures, fmt.Errorf("%s, with the power on: %w", user, err))
		} else if withoutPower {
			o.sum.unansweredAfter++
		}
		return false
	case a.Status == 200 && a.OK && a.User == user:
		o.answered[user] = true
		if withoutPower {
			o.failures = append(o.failures, fmt.Errorf("%s was answered 200 without power", user))
		}
	case a.Status == 500 && a.Error == "server_error" || a.Status == 503 && a.RetryAfter != "":
		o.sum.failed[user] = true
		if !begins {
			o.failures = append(o.failures, fmt.Errorf("%s, with the power on: %s", user, a))
		} else if withoutPower {
			o.sum.refused++
		}
	default:
		o.failures = append(o.failures, fmt.Errorf("%s: %s", user, a))
	}
	return true
}

// TestLongKill is TestKilledServerLosesNothing and TestKilledServerWithMailAgentLosesNothing for
// longer, with several data directories.
func TestLongKill(t *testing.T) {
	for _, agent := range []bool{false, true} {
		t.Run(fmt.Sprintf("agent=%v", agent), func(t *testing.T) {
			var rounds, answered, unanswered, republished, twice, activated int
			for rounds < longKills/2 {
				t.Run("", func(t *testing.T) {
					s := newKillTest(t)
					if agent {
						s.agent = newAgent(t, s.pickup)
					}
					for range roundsPerDir + 5 {
						s.killedRound()
						rounds++
					}
					s.finish()
					answered += len(s.answered)
					unanswered += s.unanswered
					republished += s.republished
					activated += len(s.activated)
					if agent {
						twice += s.agent.twice
					}
				})
				if t.Failed() {
					return
				}
			}
			t.Logf("%d kills: %d signups answered, lost 0; %d saved without an answer; %d messages "+
				"republished, %d taken twice by the agent; %d accounts activated by their links",
				rounds, answered, unanswered, republished, twice, activated)
		})
	}
}
