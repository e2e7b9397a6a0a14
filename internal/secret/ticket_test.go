package secret_test

import (
	"strings"
	"testing"
	"time"

	"dialtone/internal/secret"
)

var ticketFormats = map[string]secret.TicketFormat{
	"everything": {
		Purpose: "p", Version: 1, Account: true, Unit: time.Second, CodeSize: 32,
	},
	"bound first": {
		Purpose: "p", Version: 1, Account: true, Unit: time.Second, CodeSize: 16, BoundFirst: true,
	},
	"milliseconds": {Purpose: "p", Unit: time.Millisecond, CodeSize: 32},
	"only an ID":   {Purpose: "p", CodeSize: 16},
}

func TestTickets(t *testing.T) {
	ring := secret.NewRing(noon)
	for name, format := range ticketFormats {
		t.Run(name, func(t *testing.T) {
			tickets := secret.NewTickets(ring, format)
			want := secret.NewTicket(noon)
			if format.Unit == 0 {
				want.Issued = time.Time{}
			}
			if format.Account {
				want.Account, want.Epoch = [16]byte{1, 2, 3}, -4
			}
			token := tickets.Issue(7, want, "alex")
			got, ok := tickets.Read(7, token, "alex")
			if !ok || !got.Issued.Equal(want.Issued) {
				t.Fatalf("%+v, %v, want %+v", got, ok, want)
			}
			got.Issued = want.Issued
			if got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			refused := func(claim string, ok bool) {
				t.Helper()
				if ok {
					t.Errorf("accepted %s", claim)
				}
			}
			read := func(tickets *secret.Tickets, tenant int64, token string, bound ...string) bool {
				_, ok := tickets.Read(tenant, token, bound...)
				return ok
			}
			refused("for another tenant", read(tickets, 8, token, "alex"))
			refused("for another text", read(tickets, 7, token, "kim"))
			refused("for no text", read(tickets, 7, token))
			refused("for an additional text", read(tickets, 7, token, "alex", ""))
			refused("under another key",
				read(secret.NewTickets(secret.NewRing(noon), format), 7, token, "alex"))
			other := format
			other.Purpose = "q"
			refused("for another purpose", read(secret.NewTickets(ring, other), 7, token, "alex"))
			if format.Version != 0 {
				other = format
				other.Version = 2
				refused("of another version", read(secret.NewTickets(ring, other), 7, token, "alex"))
			}
			refused("nothing", read(tickets, 7, "", "alex"))
			refused("a longer token", read(tickets, 7, token+"AAAA", "alex"))
			refused("a shorter token", read(tickets, 7, token[4:], "alex"))
			refused("a line break", read(tickets, 7, token[:8]+"\n"+token[8:], "alex"))
			for i := range token {
				changed := "A"
				if token[i] == 'A' {
					changed = "B"
				}
				refused("a changed character",
					read(tickets, 7, token[:i]+changed+token[i+1:], "alex"))
			}

			rotated := secret.NewTickets(ring.Rotated(noon, 2), format)
			if !read(rotated, 7, token, "alex") {
				t.Error("refused after a rotation")
			}
		})
	}
}

// A format never changes. These tokens were issued by its first version.
func TestTicketsGolden(t *testing.T) {
	ring, err := secret.ParseRing("v1 1700000000 " +
		"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	if err != nil {
		t.Fatal(err)
	}
	const tenant = 5<<32 | 7
	for _, c := range []struct {
		format secret.TicketFormat
		bound  []string
		token  string
	}{
		{secret.TicketFormat{
			Purpose: "session", Version: 1, Account: true, Unit: time.Second, CodeSize: 32,
		}, nil, "AdIyTYZAmXq2YwqS51w-vhwBAgMEBQYHCAkKCwwNDg8QAAAAAAAAACoAAAAAaVc1pad_xSAn35yqUyUpS2" +
			"HidX5bDi4y9Igc4KQwIL_L_XB2"},
		{secret.TicketFormat{Purpose: "device", CodeSize: 32}, []string{"alex"},
			"m4BswdkGjbCnyIL_sL-LL5g6iypeGAgeaLLNZAGUyQkKLlmOmBgXAcrTQEwyBRc5"},
		{secret.TicketFormat{Purpose: "sign-in nonce", Unit: time.Millisecond, CodeSize: 32},
			[]string{"a.test"},
			"W1LZoMaAhRRiDTUVmgsf3AAAAZt8qY8uwE2muFph85dFGEf7eZIsEkx6IBpv76E3HR8eN5WZKb0"},
		{secret.TicketFormat{
			Purpose: "provisioning link", Version: 1, Account: true, Unit: time.Second, CodeSize: 16,
			BoundFirst: true,
		}, []string{"linphone"}, "Abvm7I1OHe-XePqK8FRA3hYBAgMEBQYHCAkKCwwNDg8QAAAAAAAAACoAAAAAaVc1pcw" +
			"joHbrT31b7B1M9H6KdXM"},
	} {
		tickets := secret.NewTickets(ring, c.format)
		k, ok := tickets.Read(tenant, c.token, c.bound...)
		if !ok {
			t.Errorf("%s: not read", c.format.Purpose)
		} else if again := tickets.Issue(tenant, k, c.bound...); again != c.token {
			t.Errorf("%s: issued again as %s", c.format.Purpose, again)
		}
	}
}

func TestFresh(t *testing.T) {
	k := secret.NewTicket(noon)
	for age, want := range map[time.Duration]bool{
		0: true, time.Hour - 1: true, time.Hour: false,
		-time.Minute: true, -time.Minute - 1: false,
	} {
		if got := k.Fresh(noon.Add(age), time.Hour, time.Minute); got != want {
			t.Errorf("at an age of %v: %v", age, got)
		}
	}
}

func TestTicketIDs(t *testing.T) {
	if a, b := secret.NewTicket(noon), secret.NewTicket(noon); a.ID == b.ID ||
		strings.Count(string(a.ID[:]), "\x00") == len(a.ID) {
		t.Errorf("IDs %x and %x", a.ID, b.ID)
	}
}
