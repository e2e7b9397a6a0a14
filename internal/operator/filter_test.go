package operator_test

import (
	"net/netip"
	"testing"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/operator"
)

func TestParseTime(t *testing.T) {
	now := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"":                          {},
		"24h":                       now.Add(-24 * time.Hour),
		"7d":                        now.Add(-7 * 24 * time.Hour),
		"2026-02-01":                time.Date(2026, time.February, 1, 0, 0, 0, 0, time.UTC),
		"2026-02-01T03:04:05Z":      time.Date(2026, time.February, 1, 3, 4, 5, 0, time.UTC),
		"2026-02-01T03:04:05+02:00": time.Date(2026, time.February, 1, 1, 4, 5, 0, time.UTC),
	} {
		if got, err := operator.ParseTime("since", text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"yesterday", "-1h", "2026-02-30", "0001-01-01", "36500d", "d", "-1d", "1.5d"} {
		if got, err := operator.ParseTime("since", text, now); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
	if got, err := operator.ParseEnd("expires", "90d", now); err != nil || !got.Equal(now.Add(90*24*time.Hour)) {
		t.Errorf("90d ends at %v, %v", got, err)
	}
}

func TestParseNetwork(t *testing.T) {
	for text, want := range map[string][2]string{ // the network, and that of a signup
		"192.0.2.77":         {"192.0.2.77/32", "192.0.2.0/24"},
		"192.0.2.77/16":      {"192.0.0.0/16", "192.0.0.0/16"},
		"::ffff:192.0.2.77":  {"192.0.2.77/32", "192.0.2.0/24"},
		"2001:db8:1:2:3::1":  {"2001:db8:1:2:3::1/128", "2001:db8:1::/48"},
		"2001:db8:1:2::1/40": {"2001:db8::/40", "2001:db8::/40"},
	} {
		got, err := operator.ParseNetwork("net", text)
		signup, signupErr := operator.ParseSignupNetwork("net", text)
		if err != nil || signupErr != nil || got.String() != want[0] || signup.String() != want[1] {
			t.Errorf("%q is %v and %v, %v, %v", text, got, signup, err, signupErr)
		}
	}
	for _, text := range []string{"x", "192.0.2.256", "192.0.2.0/33", "::ffff:192.0.2.0/120", "fe80::1%eth0"} {
		if got, err := operator.ParseNetwork("net", text); !fault.Is(err, fault.Invalid) || got != (netip.Prefix{}) {
			t.Errorf("%q is %v, %v", text, got, err)
		}
		if got, err := operator.ParseSignupNetwork("net", text); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
}
