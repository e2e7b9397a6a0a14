package account

import (
	"time"

	"dialtone/internal/mailmsg"
)

// NewBrowserNotice implements session.Notices.
func (s *Service) NewBrowserNotice(tenant int64, net, browser string, at time.Time) Notice {
	n := s.newNotice(Account{Tenant: tenant}, mailmsg.NewBrowser, NoticeLife, net)
	n.Detail = browser
	n.Made = at.UTC().Truncate(time.Microsecond)
	n.Until = n.Made.Add(NoticeLife)
	return n
}

// WriteNotice implements session.Notices.
func (s *Service) WriteNotice(a Account, n Notice, err error) { s.writeAfter(a, n, err) }
