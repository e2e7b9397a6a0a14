package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"dialtone/internal/fault"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
)

// Compare compares all rows of two databases. It changes neither.
func Compare(ctx context.Context, from, to string, connect Connect, progress Progress) (err error) {
	c, err := open(ctx, from, to, false, connect, progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	n, err := engine.Count(c.to.Reads(ctx), `SELECT count(*) FROM revision WHERE subject = 'copy'`)
	if err != nil {
		return err
	}
	if n > 0 {
		return store.ErrUnfinished
	}
	return c.compare(ctx)
}

// compare compares all rows of both databases, in the order of their keys.
func (c *copier) compare(ctx context.Context) error {
	for _, t := range copied {
		if err := c.compareTable(ctx, t); err != nil {
			return err
		}
	}
	return c.compareNumbers(ctx)
}

func (c *copier) compareTable(ctx context.Context, t table) error {
	total, err := engine.Count(c.from, `SELECT count(*) FROM `+t.name)
	if err != nil {
		return err
	}
	var last []any
	var done int64
	for {
		c.progress("compare "+t.name, done, total)
		ours, err := t.after(c.from, last)
		if err != nil {
			return err
		}
		theirs, err := t.after(c.to.Reads(ctx), last)
		if err != nil {
			return err
		}
		for i := range max(len(ours), len(theirs)) {
			if i >= len(ours) || i >= len(theirs) || !slices.EqualFunc(ours[i], theirs[i], equal) {
				return t.different(ours, theirs, i)
			}
		}
		if len(ours) == 0 {
			return nil
		}
		last, done = t.keyOf(ours[len(ours)-1]), done+int64(len(ours))
	}
}

// equal reports whether two values of columns are equal.
func equal(a, b any) bool {
	x, isBytes := a.([]byte)
	y, areBytes := b.([]byte)
	if isBytes || areBytes {
		return isBytes && areBytes && bytes.Equal(x, y)
	}
	return a == b
}

// different returns an error that names a different row by its key. Other columns may be secret.
func (t table) different(ours, theirs [][]any, i int) error {
	row, what := ours, "differs"
	switch {
	case i >= len(ours):
		row, what = theirs, "is only in the target"
	case i >= len(theirs):
		what = "is missing in the target"
	}
	var key []string
	for _, v := range t.keyOf(row[i]) {
		if b, ok := v.([]byte); ok {
			v = fmt.Sprintf("%x", b)
		}
		key = append(key, fmt.Sprint(v))
	}
	return fault.New(fault.Conflict, "the row %s of %s %s; do not use the copy", strings.Join(key, " "), t.name, what)
}
