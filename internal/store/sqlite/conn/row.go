package conn

import (
	"database/sql"
	"fmt"
	"reflect"

	lib "modernc.org/sqlite/lib"
)

// Row is the row that a statement is at. It is gone with the next one.
type Row struct{ s *statement }

// Scan copies the row's values: integers to *int64, *int and *bool, text to *string, blobs to
// *[]byte, anything to *any and to a sql.Scanner, and NULL to those that have a nil. Other kinds of
// integers and strings do as well, but for what does not fit.
func (r *Row) Scan(dst ...any) error {
	tls, handle := r.s.c.tls, r.s.handle
	if n := int(lib.Xsqlite3_column_count(tls, handle)); n != len(dst) {
		return fmt.Errorf("a row of %d columns is scanned into %d places", n, len(dst))
	}
	for i := range dst {
		if err := r.column(int32(i), dst[i]); err != nil {
			return fmt.Errorf("column %d: %w", i, err)
		}
	}
	return nil
}

func (r *Row) column(i int32, dst any) error {
	switch kind := lib.Xsqlite3_column_type(r.s.c.tls, r.s.handle, i); d := dst.(type) {
	case *int64:
		if kind == lib.SQLITE_INTEGER {
			*d = r.integer(i)
			return nil
		}
	case *int:
		if kind == lib.SQLITE_INTEGER {
			*d = int(r.integer(i))
			return nil
		}
	case *bool:
		if kind == lib.SQLITE_INTEGER {
			*d = r.integer(i) != 0
			return nil
		}
	case *string:
		if kind == lib.SQLITE_TEXT {
			*d = string(r.text(i))
			return nil
		}
	case *[]byte:
		switch kind {
		case lib.SQLITE_BLOB:
			*d = append([]byte{}, r.blob(i)...)
			return nil
		case lib.SQLITE_NULL:
			*d = nil
			return nil
		}
	case *any:
		*d = r.value(i)
		return nil
	case sql.Scanner:
		return d.Scan(r.value(i))
	default:
		return assign(dst, r.value(i))
	}
	return unfit(dst, r.value(i))
}

// value is what a column has: nil, int64, float64, string or []byte.
func (r *Row) value(i int32) any {
	switch lib.Xsqlite3_column_type(r.s.c.tls, r.s.handle, i) {
	case lib.SQLITE_INTEGER:
		return r.integer(i)
	case lib.SQLITE_FLOAT:
		return lib.Xsqlite3_column_double(r.s.c.tls, r.s.handle, i)
	case lib.SQLITE_TEXT:
		return string(r.text(i))
	case lib.SQLITE_BLOB:
		return append([]byte{}, r.blob(i)...)
	default:
		return nil
	}
}

func (r *Row) integer(i int32) int64 { return lib.Xsqlite3_column_int64(r.s.c.tls, r.s.handle, i) }

// text and blob are SQLite's own memory. The length is asked for behind the value, whose form it
// depends on.
func (r *Row) text(i int32) []byte {
	p := lib.Xsqlite3_column_text(r.s.c.tls, r.s.handle, i)
	return bytesAt(p, int(lib.Xsqlite3_column_bytes(r.s.c.tls, r.s.handle, i)))
}

func (r *Row) blob(i int32) []byte {
	p := lib.Xsqlite3_column_blob(r.s.c.tls, r.s.handle, i)
	return bytesAt(p, int(lib.Xsqlite3_column_bytes(r.s.c.tls, r.s.handle, i)))
}

// assign gives a value to a pointer of another type of the same kind.
func assign(dst, value any) error {
	p := reflect.ValueOf(dst)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return fmt.Errorf("%T is no place to scan to", dst)
	}
	switch d := p.Elem(); v := value.(type) {
	case int64:
		switch {
		case d.CanInt() && !d.OverflowInt(v):
			d.SetInt(v)
			return nil
		case d.CanUint() && v >= 0 && !d.OverflowUint(uint64(v)):
			d.SetUint(uint64(v))
			return nil
		}
	case string:
		if d.Kind() == reflect.String {
			d.SetString(v)
			return nil
		}
	}
	return unfit(dst, value)
}

// unfit does not say the value, which may be a secret.
func unfit(dst, value any) error { return fmt.Errorf("%T does not go into %T", value, dst) }
