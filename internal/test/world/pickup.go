package world

import (
	"sync/atomic"

	"dialtone/internal/mail/pickup"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
)

// Pickup is a pickup directory that a test can make fail. The methods whose error is set fail with it
// and do nothing, except that a message that cannot be published is discarded.
type Pickup struct {
	*pickup.Dir
	StageErr, PublishErr, SyncErr, WithdrawErr error
	// BeforePublish and BeforeSync, if not nil, are called first by Publish and Sync.
	BeforePublish, BeforeSync func()

	Staged, Synced atomic.Int32 // count the calls that did not fail
}

// Stage is Stage of pickup.Dir, or fails with StageErr.
func (p *Pickup) Stage(id mailmsg.ID, message []byte) (outbox.StagedMessage, error) {
	if p.StageErr != nil {
		return nil, p.StageErr
	}
	p.Staged.Add(1)
	s, err := p.Dir.Stage(id, message)
	return stagedMessage{s, p}, err
}

// Withdraw is Withdraw of pickup.Dir, or fails with WithdrawErr.
func (p *Pickup) Withdraw(id mailmsg.ID) error {
	if p.WithdrawErr != nil {
		return p.WithdrawErr
	}
	return p.Dir.Withdraw(id)
}

// Sync is Sync of pickup.Dir, or fails with SyncErr.
func (p *Pickup) Sync() error {
	if p.BeforeSync != nil {
		p.BeforeSync()
	}
	if p.SyncErr != nil {
		return p.SyncErr
	}
	p.Synced.Add(1)
	return p.Dir.Sync()
}

type stagedMessage struct {
	outbox.StagedMessage
	pickup *Pickup
}

func (m stagedMessage) Publish() error {
	if m.pickup.BeforePublish != nil {
		m.pickup.BeforePublish()
	}
	if m.pickup.PublishErr != nil {
		m.Discard()
		return m.pickup.PublishErr
	}
	return m.StagedMessage.Publish()
}
