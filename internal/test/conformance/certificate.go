package conformance

import (
	"fmt"
	"time"

	"dialtone/internal/certificate"
	"dialtone/internal/fault"
	operators "dialtone/internal/operator"
)

const authority = "https://ca.test/directory"

// claimCertificate claims the certificate of a tenant for five minutes.
func (t *test) claimCertificate(tenant int64, from string, now time.Time) (certificate.State, bool) {
	t.Helper()
	s, ok, err := t.ClaimCertificate(t.ctx, tenant, from, now, now.Add(5*time.Minute))
	t.must(err)
	return s, ok
}

// mustClaim is claimCertificate where the certificate is due.
func (t *test) mustClaim(tenant int64, now time.Time) certificate.State {
	t.Helper()
	s, ok := t.claimCertificate(tenant, authority, now)
	if !ok {
		t.Fatal("the certificate is not due")
	}
	return s
}

// states returns the states of all tenants, as text.
func (t *test) states() (list []string) {
	t.Helper()
	states, err := t.CertificateStates(t.ctx)
	t.must(err)
	for _, s := range states {
		list = append(list, fmt.Sprintf("%+v", s))
	}
	return list
}

// issue stores a certificate that is valid for 90 days, and returns it.
func (t *test) issue(tenant int64, now time.Time) certificate.Certificate {
	t.Helper()
	c := certificate.Certificate{State: t.mustClaim(tenant, now), Chain: []byte("chain"), Sealed: []byte("sealed key")}
	c.Issued, c.NotBefore, c.NotAfter = now.Add(3*tick), now.Add(-time.Hour), now.Add(90*24*time.Hour)
	c.Due = certificate.RenewAt(c.NotBefore, c.NotAfter)
	t.must(t.KeepCertificate(t.ctx, c))
	c.Lease = time.UnixMicro(0).UTC()
	return c
}

var certificateTests = []testCase{
	{"keep every field", func(t *test) {
		_, err := t.Certificate(t.ctx, t.tenant)
		t.wantKind(err, fault.NotFound)
		c := t.issue(t.tenant, noon)
		got, err := t.Certificate(t.ctx, t.tenant)
		t.must(err)
		t.wantEqual([]string{fmt.Sprintf("%+v", got)}, []string{fmt.Sprintf("%+v", c)})
		t.wantEqual(t.states(), []string{fmt.Sprintf("%+v", c.State)})
	}},
	{"are ordered by one server at a time", func(t *test) {
		first := t.mustClaim(t.tenant, noon)
		if _, ok := t.claimCertificate(t.tenant, authority, noon.Add(5*time.Minute-tick)); ok {
			t.Error("claimed twice")
		}
		second := t.mustClaim(t.tenant, first.Lease)
		// The first server has lost its claim.
		t.must(t.KeepCertificate(t.ctx, certificate.Certificate{State: first, Chain: []byte("late")}))
		t.must(t.FailCertificate(t.ctx, first))
		t.wantKind(t.SetChallenge(t.ctx, first, certificate.Challenge{Authority: authority, Token: "late"}),
			fault.Conflict)
		_, err := t.Certificate(t.ctx, t.tenant)
		t.wantKind(err, fault.NotFound)
		t.must(t.SetChallenge(t.ctx, second, certificate.Challenge{Authority: authority, Token: "token"}))
		if _, ok := t.claimCertificate(t.addTenant("other.test"), authority, noon); !ok {
			t.Error("the claim of one tenant blocks another")
		}
	}},
	{"are claimed by one of many servers", func(t *test) {
		got := t.concurrently(20, func(int) error {
			_, ok, err := t.ClaimCertificate(t.ctx, t.tenant, authority, noon, noon.Add(time.Minute))
			if err == nil && !ok {
				err = fault.New(fault.Conflict, "claimed")
			}
			return err
		})
		if got[succeeded] != 1 {
			t.Errorf("%d servers have claimed the certificate", got[succeeded])
		}
	}},
	{"are claimed again if the clock was ahead", func(t *test) {
		t.mustClaim(t.tenant, noon.Add(24*time.Hour))
		t.mustClaim(t.tenant, noon)
	}},
	{"wait after a failure, and are kept", func(t *test) {
		c := t.issue(t.tenant, noon)
		s := t.mustClaim(t.tenant, c.Due)
		t.must(t.SetChallenge(t.ctx, s, certificate.Challenge{Authority: authority, Token: "token"}))
		s.Failures, s.Failure, s.Due = 3, "the host has no address", c.Due.Add(time.Hour)
		t.must(t.FailCertificate(t.ctx, s))
		_, err := t.ChallengeOf(t.ctx, t.tenant)
		t.wantKind(err, fault.NotFound)
		if _, ok := t.claimCertificate(t.tenant, authority, s.Due.Add(-tick)); ok {
			t.Error("claimed too soon")
		}
		s.Lease = time.UnixMicro(0).UTC()
		t.wantEqual(t.states(), []string{fmt.Sprintf("%+v", s)})
		got, err := t.Certificate(t.ctx, t.tenant)
		t.must(err)
		t.wantEqual([]string{string(got.Chain), string(got.Sealed)}, []string{"chain", "sealed key"})
		after := t.issue(t.tenant, s.Due)
		t.wantEqual(t.states(), []string{fmt.Sprintf("%+v", func() certificate.State {
			after.Failures, after.Failure = 0, ""
			return after.State
		}())})
	}},
	{"of another authority are due after a while", func(t *test) {
		t.issue(t.tenant, noon)
		const other = "https://other.test/directory"
		if _, ok := t.claimCertificate(t.tenant, other, noon.Add(certificate.ChangeWait-tick)); ok {
			t.Error("claimed too soon")
		}
		s, ok := t.claimCertificate(t.tenant, other, noon.Add(certificate.ChangeWait))
		if !ok || s.Authority != authority {
			t.Errorf("claimed %t, %+v", ok, s)
		}
	}},
	{"have a challenge while they are ordered", func(t *test) {
		_, err := t.ChallengeOf(t.ctx, t.tenant)
		t.wantKind(err, fault.NotFound)
		s := t.mustClaim(t.tenant, noon)
		want := certificate.Challenge{Authority: authority, Token: "token"}
		t.must(t.SetChallenge(t.ctx, s, want))
		if got, err := t.ChallengeOf(t.ctx, t.tenant); err != nil || got != want {
			t.Errorf("got %+v, %v", got, err)
		}
		_, err = t.ChallengeOf(t.ctx, t.addTenant("other.test"))
		t.wantKind(err, fault.NotFound)
		t.must(t.KeepCertificate(t.ctx, certificate.Certificate{State: s}))
		_, err = t.ChallengeOf(t.ctx, t.tenant)
		t.wantKind(err, fault.NotFound)
	}},
	{"have a status by host", func(t *test) {
		other := t.addTenant("a.test")
		c := t.issue(t.tenant, noon)
		s := t.mustClaim(other, noon)
		s.Failures, s.Failure, s.Due = 2, "the host has no address", noon.Add(time.Hour)
		t.must(t.FailCertificate(t.ctx, s))
		phone := fmt.Sprintf("%+v", operators.CertificateStatus{Host: "phone.test", Expires: c.NotAfter})
		failed := fmt.Sprintf("%+v", operators.CertificateStatus{Host: "a.test", Failures: 2, Failure: s.Failure})
		for tenant, want := range map[int64][]string{0: {failed, phone}, t.tenant: {phone}, other: {failed}} {
			list, err := t.CertificateStatuses(t.ctx, tenant)
			t.must(err)
			var got []string
			for _, c := range list {
				got = append(got, fmt.Sprintf("%+v", c))
			}
			t.wantEqual(got, want)
		}
	}},
	{"are removed with their tenant", func(t *test) {
		t.issue(t.tenant, noon)
		t.must(t.RemoveTenant(t.ctx, "phone.test", false, noon))
		t.wantEqual(t.states(), nil)
		if _, ok := t.claimCertificate(t.tenant, authority, noon.Add(time.Hour)); ok {
			t.Error("claimed for a tenant that was removed")
		}
	}},
	{"have one key for an authority", func(t *test) {
		_, err := t.AuthorityKey(t.ctx, authority)
		t.wantKind(err, fault.NotFound)
		for _, key := range []string{"first", "second"} {
			stored, err := t.AddAuthorityKey(t.ctx, authority, []byte(key), noon)
			t.must(err)
			t.wantEqual([]string{string(stored)}, []string{"first"})
		}
		stored, err := t.AuthorityKey(t.ctx, authority)
		t.must(err)
		t.wantEqual([]string{string(stored)}, []string{"first"})
	}},
}
