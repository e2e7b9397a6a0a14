package digest_test

import (
	"testing"

	"dialtone/internal/digest"
)

// BenchmarkAnswer measures reading and checking an answer.
func BenchmarkAnswer(b *testing.B) {
	c := credential("Mufasa", "http-auth@example.org", "Circle of Life")
	b.ReportAllocs()
	for b.Loop() {
		a, err := digest.ParseAnswer(rfcMD5)
		if err != nil || !a.Proves(c, "GET") {
			b.Fatal(err)
		}
	}
}
