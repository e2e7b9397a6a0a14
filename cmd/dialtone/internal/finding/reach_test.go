package finding_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/internal/tenant"
)

// The advice names the public URL where it may be wrong, and never a DNS server that was not asked.
func TestAdviceOfReach(t *testing.T) {
	// With a Dial of its own, a resolver names the server that the system would have asked.
	dns := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("refused here")
	}}
	host := tenant.Tenant{ID: 1, Host: "phone.test", PublicURL: "https://phone.test:1"}
	p := finding.Public{Tenant: host, DNS: dns, Now: time.Now}
	list := append(p.Check(t.Context()), finding.Address(t.Context(), dns, "phone.test")...)
	p.DNS, p.Tenant.PublicURL = nil, "http://127.0.0.1:1"
	list = append(list, p.Check(t.Context())...)
	if len(list) != 3 {
		t.Fatalf("got %+v", list)
	}
	for _, f := range list {
		if strings.Contains(f.Cause, ":53") {
			t.Errorf("the cause names a server: %s", f.Cause)
		}
	}
	if next := list[2].Next; !strings.Contains(next, "dialtone tenant set phone.test --public-url URL") {
		t.Errorf("next: %s", next)
	}
}
