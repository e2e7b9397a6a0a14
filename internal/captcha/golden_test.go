package captcha_test

import (
	"testing"
	"time"

	"dialtone/internal/captcha"
	"dialtone/internal/secret"
)

// A question that an older version of the program asked can still be answered after an upgrade.
func TestGoldenToken(t *testing.T) {
	const token = "AUXf042udNPMgpbP56RBqyIAAAAAaVc1pf45pYmEdzODUdry087B8AhSEiuncQVTAQeVabAMvnML"
	ring, err := secret.ParseRing("v1 1700000000 " +
		"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	if err != nil {
		t.Fatal(err)
	}
	asked := time.Date(2026, time.January, 2, 3, 4, 5, 0, time.UTC)
	issuer := captcha.NewIssuer(ring, func() time.Time { return asked.Add(time.Minute) })
	want := captcha.Proof{
		Ours: true, Right: true, Expires: asked.Add(16 * time.Minute).Local(),
		Nonce: [16]byte{
			0x45, 0xdf, 0xd3, 0x8d, 0xae, 0x74, 0xd3, 0xcc,
			0x82, 0x96, 0xcf, 0xe7, 0xa4, 0x41, 0xab, 0x22,
		},
	}
	const tenant = 5<<32 | 7
	if got := issuer.Check(tenant, token, "16"); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	want.Right = false
	if got := issuer.Check(tenant, token, "15"); got != want {
		t.Errorf("a wrong answer: %+v, want %+v", got, want)
	}
}
