package conn

import (
	"database/sql"
	"fmt"
	"reflect"

	lib "modernc.org/sqlite/lib"
)

// Row is the current row of a statement. It is valid until the statement advances to the next row.
type Row struct{ s *statement }

// Scan copies the values of all columns to dst:
//
//   - an integer to *int64, *int, *bool (true unless it is 0), or a pointer to another integer type
//     that can hold it;
//   - text to *string, or a pointer to another string type;
//   - a blob to *[]byte;
//   - NULL to *[]byte, as nil;
//   - an integer or NULL to *sql.NullInt64;
//   - any value to *any or a sql.Scanner.
//
// Everything else is an error.
func (r *Row) Scan(dst ...any) error {
	tls, handle := r.s.c.tls, r.s.handle
	if n := int(lib.Xsqlite3_column_count(tls, handle)); n != len(dst) {
		return fmt.Errorf("the row has %d columns, but there are %d destinations", n, len(dst))
	}
	for i := range dst {
		if err := r.column(int32(i), dst[i]); err != nil {
			return fmt.Errorf("column %d: %w", i, err)
		}
	}
	return nil
}

// column scans column i.
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
	case *sql.NullInt64:
		switch kind {
		case lib.SQLITE_INTEGER:
			*d = sql.NullInt64{Int64: r.integer(i), Valid: true}
			return nil
		case lib.SQLITE_NULL:
			*d = sql.NullInt64{}
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
	return mismatch(dst, r.value(i))
}

// value returns column i as nil, int64, float64, string or []byte.
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

// text returns column i in SQLite's memory, which is valid as long as the row. The length must be
// read after the pointer, because reading the pointer may convert the value.
func (r *Row) text(i int32) []byte {
	p := lib.Xsqlite3_column_text(r.s.c.tls, r.s.handle, i)
	return bytesAt(p, int(lib.Xsqlite3_column_bytes(r.s.c.tls, r.s.handle, i)))
}

// blob is text for blobs.
func (r *Row) blob(i int32) []byte {
	p := lib.Xsqlite3_column_blob(r.s.c.tls, r.s.handle, i)
	return bytesAt(p, int(lib.Xsqlite3_column_bytes(r.s.c.tls, r.s.handle, i)))
}

// assign stores an integer or a string in a variable of another integer or string type.
func assign(dst, value any) error {
	p := reflect.ValueOf(dst)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return fmt.Errorf("cannot scan into a %T, which is not a pointer to a variable", dst)
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
	return mismatch(dst, value)
}

// mismatch returns an error that does not contain the value, because that may be a secret.
func mismatch(dst, value any) error { return fmt.Errorf("cannot scan a %T into a %T", value, dst) }
