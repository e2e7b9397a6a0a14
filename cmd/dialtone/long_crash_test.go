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
)

// A data folder is taken through some rounds only, so that first starts are among what is
// interrupted, and a check of all there is stays quick.
const (
	longRounds        = 100 // of power cuts, for each mode of the journal of ext4
	longKills         = 500
	roundsInOneFolder = 20
	afterTheCut       = 400 * time.Millisecond
	tellingErrorsPer  = 2 // posts of a client after the cut
)

// Every round the power of the disk is cut while people sign up. The server, which does not know,
// must not promise anything from then on. With the power back, what it had promised is there.
func TestLongPowerCut(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	for _, mode := range []string{"data=ordered", "data=writeback"} {
		t.Run(mode, func(t *testing.T) {
			d := newDisk(t, 96<<20, mode)
			sum := &cuts{}
			for n := 0; n < longRounds; n += roundsInOneFolder {
				if n > 0 {
					d.unmount()
					d.make(96 << 20)
				}
				s := newKillTest(t)
				s.data = filepath.Join(d.dir, "data")
				s.pickup = filepath.Join(s.data, "pickup")
				c := &cuts{failed: map[string]bool{}}
				for range roundsInOneFolder {
					s.cutRound(d, c)
				}
				s.finish()
				sum.add(s, c)
			}
			t.Logf("%s: %d power cuts: %d signups answered, lost 0; %d unanswered but whole, %d answered "+
				"with an error by the cut and whole; "+
				"%d messages republished; without power %d requests answered with an error, %d not at "+
				"all, 0 with 200; %d accounts activated by their links",
				mode, sum.rounds, sum.answered, sum.unanswered, sum.failedWhole, sum.republished, sum.refused,
				sum.silent, sum.activated)
		})
	}
}

// cuts is what is counted.
type cuts struct {
	rounds, answered, unanswered, failedWhole, republished, activated int
	// refused and silent are requests that were made when the power was gone already.
	refused, silent int
	// failed are those who were told of an error.
	failed map[string]bool
}

func (c *cuts) add(s *killTest, o *cuts) {
	c.rounds += o.rounds
	c.answered += len(s.answered)
	c.unanswered += s.unanswered
	c.republished += s.republished
	c.activated += len(s.activated)
	c.refused += o.refused
	c.silent += o.silent
	for user := range o.failed {
		if s.seen[user] {
			c.failedWhole++
			c.unanswered--
		}
	}
}

// outage is a server whose disk loses its power.
type outage struct {
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
	o := &outage{killTest: s, serverProcess: p, sum: c}
	for i := range clients {
		o.clients.Go(func() { o.client(i%2 == 0) })
	}
	waitRandomly()
	if rand.N(5) == 0 { // now and then messages are on the disk already, and their outbox rows gone
		<-time.After(rand.N(2 * tendEvery))
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
	case <-time.After(rand.N(afterTheCut)):
	}
	p.kill()
	<-done
	c.rounds++
	s.republished += p.stderr.count(`"msg":"message.republish"`)
	p.noPanic(s.t)
	s.noTrouble()
	d.restore()
}

func (o *outage) client(hurried bool) {
	for told := 0; told < tellingErrorsPer; {
		v := newVisitor(o.address, "")
		if hurried {
			v.hurried()
		}
		for range 3 {
			user := o.newcomer(hurried)
			form, err := v.form(user)
			if err != nil {
				o.note(o.begins.Load(), fmt.Errorf("%s: %w", user, err))
				v.leave()
				return
			}
			without := o.over.Load()
			if !o.post(v, user, form, without) {
				v.leave()
				return
			}
			if without {
				told++
			}
		}
		v.leave()
	}
}

// newcomer is a name that nobody has asked for.
func (s *killTest) newcomer(hurried bool) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users++
	user := fmt.Sprintf("person-%d", s.users)
	s.hurried[user] = hurried
	return user
}

// note keeps an error that must not be.
func (o *outage) note(excused bool, err error) {
	if excused {
		return
	}
	o.mu.Lock()
	o.trouble = append(o.trouble, err)
	o.mu.Unlock()
}

// post signs somebody up, and says whether the server is still there. Without power none is to
// succeed.
func (o *outage) post(v *visitor, user string, form url.Values, without bool) bool {
	a, err := v.post(form)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch begins := o.begins.Load(); {
	case err != nil:
		if !begins {
			o.trouble = append(o.trouble, fmt.Errorf("%s, with the power on: %w", user, err))
		} else if without {
			o.sum.silent++
		}
		return false
	case a.Status == 200 && a.OK && a.User == user:
		o.answered[user] = true
		if without {
			o.trouble = append(o.trouble, fmt.Errorf("%s was answered 200 when the power was gone", user))
		}
	case a.Status == 500 && a.Error == "server_error" || a.Status == 503 && a.RetryAfter != "":
		o.sum.failed[user] = true
		if !begins {
			o.trouble = append(o.trouble, fmt.Errorf("%s, with the power on: %s", user, a))
		} else if without {
			o.sum.refused++
		}
	default:
		o.trouble = append(o.trouble, fmt.Errorf("%s: %s", user, a))
	}
	return true
}

// TestLongKill is TestKilledServerLosesNothing and TestKilledServerWithMailAgentLosesNothing for
// longer, with fresh data folders in between.
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
					for range roundsInOneFolder + 5 {
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
			t.Logf("%d kills: %d signups answered, lost 0; %d unanswered but whole; %d messages "+
				"republished, %d taken twice by the agent; %d accounts activated by their links",
				rounds, answered, unanswered, republished, twice, activated)
		})
	}
}
