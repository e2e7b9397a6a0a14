package audit_test

import (
	"io"
	"log/slog"
	"net/netip"
	"testing"

	"dialtone/internal/audit"
)

// BenchmarkRecord measures writing the line of a sign-in.
func BenchmarkRecord(b *testing.B) {
	log := audit.Log{Logger: slog.New(slog.NewJSONHandler(io.Discard, nil))}
	b.ReportAllocs()
	for b.Loop() {
		log.Record(b.Context(), audit.Event{
			Action: audit.SignIn, Outcome: "ok", Tenant: "phone.test", User: "ann",
			Peer: netip.MustParseAddr("192.0.2.77"), Request: "3w5e11264sgsf",
		})
	}
}
