package secret

import (
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

func TestRingText(t *testing.T) {
	ring := NewRing(noon).Rotated(noon.Add(time.Hour), 3).Rotated(noon.Add(2*time.Hour), 3)
	for name, text := range map[string]string{
		"unchanged":                   ring.Text(),
		"without its last line break": strings.TrimSuffix(ring.Text(), "\n"),
		"with commas":                 strings.ReplaceAll(strings.TrimSuffix(ring.Text(), "\n"), "\n", ","),
	} {
		got, err := ParseRing(text)
		if err != nil || !slices.Equal(got.IDs(), ring.IDs()) || got.Text() != ring.Text() {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"", "\n", "hunter2", ring.Text() + "hunter2", ring.Text() + ","} {
		if _, err := ParseRing(text); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestInUse(t *testing.T) {
	ring := NewRing(noon)
	for i := 1; i <= 4; i++ {
		ring = ring.Rotated(noon.Add(time.Duration(i)*time.Hour), 10)
	}
	for since, want := range map[time.Duration]int{
		-time.Hour: 5, 0: 5, time.Hour: 4, 90 * time.Minute: 4,
		3 * time.Hour: 2, 4 * time.Hour: 1, 9 * time.Hour: 1,
	} {
		if got := ring.inUse(noon.Add(since)); got != want {
			t.Errorf("%d keys have signed since %v, want %d", got, since, want)
		}
	}
}

// A new key is accepted immediately, but signs only when every server has it.
func TestSigning(t *testing.T) {
	old := NewRing(noon)
	ring := old.Rotated(noon.Add(time.Hour), 2)
	message := []byte("message")
	signsWith := func(r, by *Ring) bool {
		code := NewMAC(r, "test").Sum(message)
		return NewMAC(by, "test").Verify(code[:], message)
	}
	newest := &Ring{keys: ring.keys[:1]}
	for age, young := range map[time.Duration]bool{
		0: true, SigningDelay - time.Nanosecond: true, SigningDelay: false, time.Hour: false,
	} {
		at := noon.Add(time.Hour + age)
		if got := signsWith(ring.Signing(at), old); got != young {
			t.Errorf("at the age of %v the old key signs: %v", age, got)
		}
		code := NewMAC(newest, "test").Sum(message)
		if !NewMAC(ring.Signing(at), "test").Verify(code[:], message) {
			t.Errorf("at the age of %v the new key is not accepted", age)
		}
	}
	if got := old.Signing(noon); !signsWith(got, old) {
		t.Error("the only key does not sign immediately")
	}
	if both := NewRing(noon).Rotated(noon, 2); !signsWith(both.Signing(noon), &Ring{keys: both.keys[1:]}) {
		t.Error("of two young keys, the older one does not sign")
	}
	third := ring.Rotated(noon.Add(2*time.Hour), 3).Signing(noon.Add(2 * time.Hour))
	if !signsWith(third, newest) || len(third.keys) != 3 {
		t.Error("the newest key of those that are old enough does not sign")
	}
}
