package certificate_test

import (
	"testing"
	"time"

	"dialtone/internal/certificate"
)

func TestBackoff(t *testing.T) {
	inHour, at := 1, time.Duration(0)
	last := time.Duration(0)
	for n := 1; n < 20; n++ {
		wait := certificate.Backoff(n, false)
		if wait < last || wait < certificate.Backoff(n, true) {
			t.Errorf("after %d failures: %v", n, wait)
		}
		if at += wait; at < time.Hour {
			inHour++
		}
		last = wait
	}
	if inHour > 4 || last > 12*time.Hour {
		t.Errorf("%d attempts in the first hour, and then every %v", inHour, last)
	}
}

func TestTimes(t *testing.T) {
	begin := time.Date(2026, time.March, 1, 0, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	for _, c := range []struct{ life, renewal, warning time.Duration }{
		{90 * day, 60 * day, 76 * day},
		{6 * day, 4 * day, 5 * day},
		{365 * day, 365 * day * 2 / 3, 351 * day},
	} {
		end := begin.Add(c.life)
		if at := certificate.RenewAt(begin, end); at.Sub(begin).Round(day) != c.renewal.Round(day) {
			t.Errorf("a certificate for %v is renewed after %v, want %v", c.life, at.Sub(begin), c.renewal)
		}
		for _, moment := range []time.Duration{c.warning - time.Second, c.warning + time.Second, c.life, c.life + day} {
			if got := certificate.ExpiresSoon(end, c.life, begin.Add(moment)); got != (moment > c.warning) {
				t.Errorf("a certificate for %v expires soon after %v: %t", c.life, moment, got)
			}
		}
	}
}

func TestEligible(t *testing.T) {
	for host, want := range map[string]bool{
		"phone.example.org": true, "a.test": true, "localhost": false, "a.localhost": false, "intranet": false,
		"192.0.2.1": false, "": false,
	} {
		if certificate.Eligible(host) != want {
			t.Errorf("%q: %t", host, !want)
		}
	}
}
