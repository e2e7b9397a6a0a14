package form

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"dialtone/internal/fault"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		claim, text string
		mode        Mode
		want        string // user|name|lang, or the refusal in brackets
	}{
		{"an empty text has no fields", "", Strict, "||"},
		{"values are decoded", "user=al%65x&name=Alex+M", Strict, "alex|Alex M|"},
		{"names are decoded", "us%65r=alex", Strict, "alex||"},
		{"other fields are ignored", "x=1&user=alex&x=2", Strict, "alex||"},
		{"empty pairs are ignored", "&&user=alex&", Strict, "alex||"},
		{"an empty value is sent", "user=", Strict, "(empty)||"},
		{"a name alone is an empty value", "user", Strict, "(empty)||"},
		{"names have a case", "USER=alex", Strict, "||"},

		{"a field is sent once", "user=alex&user=alex", Strict, "[user: more than once]"},
		{"loosely, the same value may come again", "user=alex&user=al%65x", Loose, "alex||"},
		{"loosely, another value may not", "user=alex&user=kim", Loose, "[user: more than once]"},
		{"the text is well-formed", "user=%zz", Strict, "[: well-formed]"},
		{"names are well-formed", "%=1", Strict, "[: well-formed]"},
		{"other fields are well-formed", "user=alex&x=%", Strict, "[: well-formed]"},
		{"loosely, other fields need not be", "user=alex&x=%", Loose, "alex||"},
		{"loosely, a field must be", "user=%", Loose, "[: well-formed]"},
		{"semicolons do not separate", "user=alex;name=x", Strict, "[: well-formed]"},
		{"the text is UTF-8", "user=%ff", Strict, "[user: UTF-8]"},
		{"the text has no control characters", "user=a%00", Strict, "[user: control character]"},
		{"nor DEL", "user=a%7f", Strict, "[user: control character]"},
		{"nor C1 controls", "user=%c2%80", Strict, "[user: control character]"},
		{"a no-break space is text", "user=%c2%a0", Strict, "\u00a0||"},

		{"malformed comes before repeated", "user=1&user=2&x=%", Strict, "[: well-formed]"},
		{"repeated comes before the text", "user=%ff&name=1&name=2", Strict, "[name: more than once]"},
		{"fields are checked in their order", "name=%ff&user=%00", Strict, "[user: control character]"},

		{"an optional field is read", "lang=de", Strict, "||de"},
		{"an optional field may be repeated", "lang=de&lang=fr&user=alex", Strict, "alex||"},
		{"an optional field may be any bytes", "lang=%ff&user=alex", Strict, "alex||"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			var also string
			user, name := Field{Name: "user", Into: &also}, Field{Name: "name"}
			lang := Field{Name: "lang", Optional: true}
			err := Parse(c.text, c.mode, &user, &name, &lang)
			if field, says, refused := strings.Cut(strings.Trim(c.want, "[]"), ": "); refused {
				var fe *fault.Error
				if !errors.As(err, &fe) || fe.Kind != fault.Invalid || fe.Field != field ||
					!strings.Contains(fe.Message, says) {
					t.Fatalf("%v, want %s", err, c.want)
				}
				return
			}
			if also != user.Value {
				t.Errorf("%q was stored, and %q", user.Value, also)
			}
			if user.Sent && user.Value == "" {
				user.Value = "(empty)"
			}
			if got := user.Value + "|" + name.Value + "|" + lang.Value; err != nil || got != c.want {
				t.Errorf("%q, %v, want %q", got, err, c.want)
			}
		})
	}
}

// A strict parse accepts what the standard library accepts, and reads the same values.
func FuzzParse(f *testing.F) {
	f.Add("user=alex&name=Alex+M&x=%20")
	f.Add("user=%zz&&=;")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 8<<10 {
			return
		}
		user := Field{Name: "user"}
		err := Parse(text, Strict, &user)
		values, malformed := url.ParseQuery(text)
		if (malformed != nil) != errors.Is(err, errEncoding) {
			t.Fatalf("%v, and the standard library says %v", err, malformed)
		}
		if err == nil && (user.Value != values.Get("user") || user.Sent != values.Has("user")) {
			t.Errorf("%q, and the standard library reads %q", user.Value, values["user"])
		}
	})
}

func TestBody(t *testing.T) {
	for _, c := range []struct {
		claim, contentType, encoding, body string
		says                               string // empty where it is read
	}{
		{"a form is read", Type, "", "a=1", ""},
		{"the charset may be named", Type + "; charset=UTF-8", "", "a=1", ""},
		{"another charset is refused", Type + "; charset=latin1", "", "a=1", "UTF-8"},
		{"another type is refused", "text/plain", "", "a=1", Type},
		{"no type is refused", "", "", "a=1", Type},
		{"an encoded body is refused", Type, "gzip", "a=1", Type},
		{"the limit is allowed", Type, "", strings.Repeat("x", 1024), ""},
		{"one byte more is refused", Type, "", strings.Repeat("x", 1025), "1 KiB"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/", strings.NewReader(c.body))
			r.Header.Set("Content-Type", c.contentType)
			if c.encoding != "" {
				r.Header.Set("Content-Encoding", c.encoding)
			}
			body, err := Body(httptest.NewRecorder(), r, 1024)
			if c.says == "" && (err != nil || body != c.body) {
				t.Errorf("%q, %v", body, err)
			}
			if c.says != "" && (!fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%v, want an error with %q", err, c.says)
			}
		})
	}
	t.Run("a length over the limit is not read", func(t *testing.T) {
		r := httptest.NewRequest("POST", "/", iotest.ErrReader(errors.New("read")))
		r.Header.Set("Content-Type", Type)
		r.ContentLength = 1025
		w := httptest.NewRecorder()
		_, err := Body(w, r, 1024)
		if !fault.Is(err, fault.Invalid) || w.Header().Get("Connection") != "close" {
			t.Errorf("%v, Connection %q", err, w.Header().Get("Connection"))
		}
	})
	t.Run("a body that ends early is refused", func(t *testing.T) {
		broken := io.MultiReader(bytes.NewBufferString("a=1"), iotest.ErrReader(io.ErrUnexpectedEOF))
		r := httptest.NewRequest("POST", "/", broken)
		r.Header.Set("Content-Type", Type)
		if _, err := Body(httptest.NewRecorder(), r, 1024); !errors.Is(err, errTruncated) {
			t.Errorf("%v", err)
		}
	})
}

// A multipart form is read like the other type, and under the same rules.
func TestMultipart(t *testing.T) {
	const boundary = "----Boundary7MA4"
	part := func(disposition, value string) string {
		return "--" + boundary + "\r\nContent-Disposition: " + disposition + "\r\n\r\n" + value + "\r\n"
	}
	field := func(name, value string) string { return part(`form-data; name="`+name+`"`, value) }
	const end = "--" + boundary + "--\r\n"
	user, name := field("user", "alex"), field("name", "Alex & Söhne 50% +1;")
	for _, c := range []struct {
		claim, contentType, body string
		want                     string // user|name, or the refusal in brackets
	}{
		{"fields are read", "", user + name + end, "alex|Alex & Söhne 50% +1;"},
		{"an empty form is read", "", end, "|"},
		{"the preamble and the epilogue do not count", "", "hello\r\n" + user + end + "bye", "alex|"},
		{"a value may contain line breaks", "", field("x", "a\r\nb") + user + end, "alex|"},
		{"other fields are ignored", "", field("_charset_", "UTF-8") + user + end, "alex|"},
		{"a part may have a type", "", part("form-data; name=user\r\nContent-Type: text/plain", "alex") + end, "alex|"},
		{"a field is sent once", "", user + user + end, "[user: more than once]"},
		{"a value has no control characters", "", field("user", "al\tex") + end, "[user: control character]"},
		{"a value is UTF-8", "", field("user", "\xff") + end, "[user: UTF-8]"},
		{"a file is refused", "", user + part(`form-data; name="f"; filename="a.txt"`, "x") + end, "[: file]"},
		{"an empty file is refused", "", user + part(`form-data; name="f"; filename=""`, "") + end, "[: file]"},
		{"a part without a name is refused", "", part("form-data", "x") + end, "[: well-formed]"},
		{"a part of another kind is refused", "", part(`attachment; name="user"`, "x") + end, "[: well-formed]"},
		{
			"an encoded part is refused", "",
			part("form-data; name=user\r\nContent-Transfer-Encoding: base64", "YWxleA==") + end, "[: well-formed]",
		},
		{"a form without its end is refused", "", user + name, "[: well-formed]"},
		{"a form that ends within a part is refused", "", user + name[:70], "[: well-formed]"},
		{"another boundary is refused", Multipart + "; boundary=other", user + end, "[: well-formed]"},
		{"no boundary is refused", Multipart, user + end, "[: well-formed]"},
		{"the limit holds", "", field("x", strings.Repeat("x", 1024)) + user + end, "[: 1 KiB]"},
		{"another charset is refused", Multipart + "; charset=latin1; boundary=" + boundary, user + end, "[: UTF-8]"},
		{
			"another multipart type is refused", "multipart/mixed; boundary=" + boundary, user + end,
			"[: not as multipart/mixed]",
		},
		{"JSON is named in the refusal", "application/json", `{"user":"alex"}`, "[: not as application/json]"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/", strings.NewReader(c.body))
			r.Header.Set("Content-Type", cmp.Or(c.contentType, Multipart+"; boundary="+boundary))
			user, name := Field{Name: "user"}, Field{Name: "name"}
			body, err := Body(httptest.NewRecorder(), r, 1024)
			if err == nil {
				err = Parse(body, Strict, &user, &name)
			}
			if field, says, refused := strings.Cut(strings.Trim(c.want, "[]"), ": "); refused {
				var fe *fault.Error
				if !errors.As(err, &fe) || fe.Kind != fault.Invalid || fe.Field != field ||
					!strings.Contains(fe.Message, says) {
					t.Fatalf("%v, want %s", err, c.want)
				}
				return
			}
			if got := user.Value + "|" + name.Value; err != nil || got != c.want {
				t.Errorf("%q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestNoQuery(t *testing.T) {
	for address, ok := range map[string]bool{"/x": true, "/x?": false, "/x?a=1": false} {
		u, _ := url.Parse(address)
		if err := NoQuery(u); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestParseDoesNotAllocate(t *testing.T) {
	allocations := testing.AllocsPerRun(100, func() {
		user, realm := Field{Name: "user"}, Field{Name: "realm"}
		err := Parse("user=alex&realm=a.test&x=1", Strict, &user, &realm)
		if err != nil || realm.Value != "a.test" {
			t.Error("not read")
		}
	})
	if allocations > 0 {
		t.Errorf("%v allocations", allocations)
	}
}
