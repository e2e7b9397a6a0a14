package account

import (
	"time"

	"dialtone/internal/mailmsg"
)

// NewBrowserNotice implements session.Notices.
func (s *Service) NewBrowserNotice(tenant int64, net string, at time.Time) Notice {
	n := s.newNotice(Account{Tenant: tenant}, mailmsg.NewBrowser, noticeLife, net)
	n.Made = at.UTC().Truncate(time.Microsecond)
	n.Until = n.Made.Add(noticeLife)
	return n
}

// WriteNotice implements session.Notices.
func (s *Service) WriteNotice(a Account, n Notice, err error) { s.writeAfter(a, n, err) }
