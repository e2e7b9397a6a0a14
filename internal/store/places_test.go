package store

import (
	"bytes"
	"path/filepath"
	"testing"

	"dialtone/internal/store/engine"
	"dialtone/internal/store/sqlite"
	"dialtone/internal/throttle"
)

// A cursor visits each bucket once, in steps of any size, and then begins again.
func TestBucketCursor(t *testing.T) {
	e, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "dialtone.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	const buckets, each = 20, 3
	err = e.Write(func(tx engine.Tx) error {
		for i := range buckets * each {
			b := throttle.Bucket{15: byte(i / each)}
			if _, err := tx.Exec(`INSERT INTO taken (bucket, at, account, until) VALUES ($1, $2, $3, $2)`, b[:], i,
				[]byte{1}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	q := e.Reads(t.Context())
	for _, n := range []int{1, 2, 3, 4, 7, 59, 60, 61} {
		var cursor bucketCursor
		for range 2 {
			seen := 0
			for steps := 0; ; steps++ {
				after, last, err := cursor.next(q, n)
				if err != nil {
					t.Fatal(err)
				}
				found, err := engine.Count(q, `SELECT count(*) FROM taken WHERE bucket > $1 AND bucket <= $2`,
					after, last)
				if err != nil || int(found) > n+each-1 {
					t.Errorf("a step of %d has %d places, %v", n, found, err)
				}
				seen += int(found)
				cursor.done(last)
				if bytes.Equal(last, lastBucket) {
					break
				}
				if steps > buckets {
					t.Fatalf("steps of %d do not end", n)
				}
			}
			if seen != buckets*each {
				t.Errorf("steps of %d: %d places, want %d", n, seen, buckets*each)
			}
		}
	}
}
