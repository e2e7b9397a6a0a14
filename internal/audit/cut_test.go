package audit_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
)

func TestCut(t *testing.T) {
	short := strings.Repeat("x", 4<<10)
	if audit.Cut(short) != short {
		t.Error("a text of 4 KiB is cut")
	}
	long := strings.Repeat("é", 50_000)
	cut := audit.Cut(long)
	if len(cut) > 4<<10 || !utf8.ValidString(cut) || !strings.HasPrefix(cut, "éé") ||
		!strings.Contains(cut, "[100000 bytes, SHA-256 ") || cut == audit.Cut(long+"é") {
		t.Errorf("%d bytes: …%s", len(cut), cut[len(cut)-100:])
	}
}

func TestCheckReason(t *testing.T) {
	for reason, want := range map[string]bool{
		"": true, "asked by phone": true, "a\nb": false, "a\u202eb": false, "a\u2028b": false, "a\u2066b": false,
		strings.Repeat("x", 500): true, strings.Repeat("x", 501): false, "a\xff": false,
	} {
		if err := audit.CheckReason(reason); (err == nil) != want || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", reason, err)
		}
	}
}
