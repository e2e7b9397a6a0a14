package config

import (
	"encoding"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"dialtone/internal/redact"
)

// format is the format of the value of a key, or of each element of a list.
type format struct {
	// name describes the value in the manual, want in a fault: "expected …".
	name, want string
	// kind is the kind of the value in the file: Int64, Bool or String, which is the default.
	kind reflect.Kind
	// hidden is set if a fault must not show the value.
	hidden bool
	// parse sets v, a field or an element of it, from a text. If the text is wrong, hint may say
	// what to do about it.
	parse func(v reflect.Value, text string) (hint string, ok bool)
}

// formatOf returns the format of a field by its type and its tags. A string may be empty if its
// default is.
func formatOf(field reflect.StructField) format {
	var f format
	switch field.Type {
	case reflect.TypeFor[Secret]():
		return format{name: "text", hidden: true, parse: parseSecret}
	case reflect.TypeFor[bool]():
		return format{name: "true or false", want: "true or false", kind: reflect.Bool, parse: parseBool}
	case reflect.TypeFor[[]netip.Prefix]():
		return format{
			name: "list of addresses and CIDR prefixes",
			want: "an address or CIDR prefix, such as 10.0.0.0/8", parse: parsePrefix,
		}
	case reflect.TypeFor[[]Htdigest]():
		return format{
			name: "list of HOST=FILE", parse: parseHtdigest,
			want: "a tenant's host name and a file, as in phone.example.org=/etc/apache2/phone.htdigest",
		}
	case reflect.TypeFor[[]File]():
		return format{name: "list of files", want: "the path of a file", parse: parsePath}
	case reflect.TypeFor[[]string]():
		return format{
			name: "list of host names", want: "a host name without a port", parse: parseHost,
		}
	case reflect.TypeFor[int]():
		return integer(field.Tag)
	case reflect.TypeFor[float64]():
		return fraction(field.Tag)
	case reflect.TypeFor[RelayURL]():
		f = format{
			name: "URL", hidden: true, parse: parseRelayURL,
			want: "smtps://user@host:465, smtp+starttls://user@host:587, smtp://127.0.0.1:25, or nothing",
		}
	default:
		if enum := field.Tag.Get("enum"); enum != "" {
			return enumeration(strings.Split(enum, ","))
		}
		f = stringFormats[field.Tag.Get("is")]
	}
	if parse := f.parse; field.Tag.Get("default") == "" {
		f.parse = func(v reflect.Value, text string) (string, bool) {
			if text == "" {
				return always(v, text)
			}
			return parse(v, text)
		}
	}
	return f
}

// stringFormats are the formats of strings, by the tag is.
var stringFormats = map[string]format{
	"directory": {name: "directory", want: "a directory", parse: parsePath},
	"file":      {name: "file", want: "the path of a file, or nothing", parse: parsePath},
	"address":   {name: "host:port", want: "host:port, such as 127.0.0.1:8080", parse: parseAddress},
	"collector": {
		name: "URL", want: "https://host:4318 or http://host:4318, or nothing for no traces",
		hidden: true, parse: parseCollectorURL,
	},
	"acme": {
		name: "URL", want: "https://host/path", parse: parseACMEURL,
	},
	"email": {name: "email address", want: "an email address, or nothing", parse: parseEmail},
	"database": {
		name: "URL", want: "postgres://user@host:5432/database, or nothing for SQLite",
		hidden: true, parse: parseDatabaseURL,
	},
}

func always(v reflect.Value, text string) (string, bool) {
	v.SetString(text)
	return "", true
}

func parseSecret(v reflect.Value, text string) (string, bool) {
	v.Set(reflect.ValueOf(redact.New(text)))
	return "", true
}

func parseBool(v reflect.Value, text string) (string, bool) {
	v.SetBool(text == "true")
	return "", text == "true" || text == "false"
}

// parsePath refuses NUL, at which system calls would cut off the path.
func parsePath(v reflect.Value, text string) (string, bool) {
	v.SetString(text)
	return "", strings.TrimSpace(text) != "" && !strings.ContainsRune(text, 0)
}

// integer is the format of a number between the tags min and max.
func integer(tag reflect.StructTag) format {
	least, _ := strconv.ParseInt(tag.Get("min"), 10, 64) // 0 without the tag
	most, err := strconv.ParseInt(tag.Get("max"), 10, 64)
	if err != nil {
		panic("config: a number needs the tag max")
	}
	return format{
		name: fmt.Sprintf("number, %d to %d", least, most), kind: reflect.Int64,
		want: fmt.Sprintf("a whole number from %d to %d", least, most),
		parse: func(v reflect.Value, text string) (string, bool) {
			n, err := strconv.ParseInt(text, 10, 64)
			v.SetInt(n)
			return "", err == nil && n >= least && n <= most
		},
	}
}

// fraction is the format of a number between the tags min and max that need not be an integer. In
// the file, it may be written with or without a decimal point.
func fraction(tag reflect.StructTag) format {
	least, err1 := strconv.ParseFloat(tag.Get("min"), 64)
	most, err2 := strconv.ParseFloat(tag.Get("max"), 64)
	if err1 != nil || err2 != nil {
		panic("config: a number needs the tags min and max")
	}
	return format{
		name: fmt.Sprintf("number, %v to %v", least, most), kind: reflect.Float64,
		want: fmt.Sprintf("a number from %v to %v", least, most),
		parse: func(v reflect.Value, text string) (string, bool) {
			n, err := strconv.ParseFloat(text, 64)
			v.SetFloat(n)
			return "", err == nil && n >= least && n <= most
		},
	}
}

// enumeration is the format of a field that allows certain words.
func enumeration(words []string) format {
	last := len(words) - 1
	choice := strings.Join(words[:last], ", ") + " or " + words[last]
	return format{name: choice, want: choice, parse: func(v reflect.Value, text string) (string, bool) {
		if !slices.Contains(words, text) {
			return didYouMean(similar(text, words), "%s"), false
		}
		if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
			return "", u.UnmarshalText([]byte(text)) == nil
		}
		return always(v, text)
	}}
}

// parseEmail accepts what the contact of an ACME account may contain (RFC 8555 section 7.3).
func parseEmail(v reflect.Value, text string) (string, bool) {
	v.SetString(text)
	local, domain, _ := strings.Cut(text, "@")
	return "", local != "" && isHost(domain) && !strings.ContainsAny(text, " ,?&<>\"\t\r\n")
}

func parseHost(v reflect.Value, text string) (string, bool) {
	v.SetString(strings.ToLower(text))
	return "", isHost(text)
}

func parseHtdigest(v reflect.Value, text string) (string, bool) {
	host, file, _ := strings.Cut(text, "=")
	v.Set(reflect.ValueOf(Htdigest{host, file}))
	return "", host != "" && !strings.ContainsAny(host, "/ ") && filepath.IsAbs(file) &&
		!strings.ContainsRune(file, 0)
}

func parseAddress(v reflect.Value, text string) (string, bool) {
	v.SetString(text)
	host, port, err := net.SplitHostPort(text)
	switch {
	case err == nil && !isPort(port):
		return "a port is a number up to 65535", false
	case err == nil:
		return "", host == "" || isHost(host)
	}
	switch scheme, _, ok := strings.Cut(text, "://"); {
	case ok:
		return "leave out " + quoteName(scheme) + "://", false
	case isPort(text):
		return didYouMean(text, "127.0.0.1:%s"), false
	case strings.Count(text, ":") > 1 && strings.Trim(text, "0123456789abcdefABCDEF:.") == "":
		return "an IPv6 address goes in brackets, as in [::1]:8080", false
	case isHost(text):
		return "the port is missing", false
	}
	return "", false
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && strconv.FormatUint(n, 10) == text
}

// isHost reports whether text is an IP address or could be a host name.
func isHost(text string) bool {
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	// Only digits and dots are a mistyped address, never a name.
	if strings.Trim(text, "0123456789.") == "" {
		return false
	}
	for label := range strings.SplitSeq(text, ".") {
		if strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") || quoteName(label) != label {
			return false
		}
	}
	return true
}

func parsePrefix(v reflect.Value, text string) (hint string, ok bool) {
	prefix, err := netip.ParsePrefix(text)
	if addr, addrErr := netip.ParseAddr(text); addrErr == nil {
		if addr.Zone() != "" {
			return "leave out the zone, %" + quoteName(addr.Zone()), false
		}
		prefix, err = addr.Prefix(addr.BitLen())
	}
	switch {
	case err != nil:
		return "", false
	case prefix != prefix.Masked():
		// Either the address or the length is wrong, and the two trust different peers.
		return fmt.Sprintf("did you mean %s or %s?", prefix.Masked(), prefix.Addr()), false
	case prefix.Bits() == 0 || prefix.Addr().Is4In6() && prefix.Bits() <= 96:
		return "that is every address, and any client could claim to be another", false
	case prefix.Addr().Is4In6():
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	v.Set(reflect.ValueOf(prefix))
	return "", true
}
