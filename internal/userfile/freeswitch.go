package userfile

import (
	"bufio"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"dialtone/internal/account"
	"dialtone/internal/fault"
)

// readXML reads users of FreeSWITCH's directory. Entities other than the five of XML are errors, and documents with a
// DOCTYPE are refused, so nothing is expanded or fetched. file is the name for the entries.
func readXML(file string, in io.Reader, yield Yield) error {
	limited := &xmlReader{in: bufio.NewReader(in), left: maxXML}
	d := xml.NewDecoder(limited)
	d.CharsetReader = xmlCharset
	var domains []string // the name of each open element domain
	var open []string
	var user *account.ImportEntry
	var depthOfUser int
	for {
		limited.ofToken = maxLine
		t, err := d.Token()
		line, _ := d.InputPos()
		switch {
		case errors.Is(err, errLongXML):
			return fault.New(fault.Invalid, "the XML is longer than %d MiB; split it", maxXML>>20)
		case errors.Is(err, errLongToken):
			return atLine(int64(line), "an element, a text or a comment is longer than %d MiB", maxLine>>20)
		case errors.Is(err, io.EOF):
			return nil
		case fault.Is(err, fault.Invalid):
			return err
		case err != nil:
			if charset, ok := errors.AsType[charsetError](err); ok {
				return atLine(int64(line), "%v", charset)
			}
			return atLine(int64(line), "this is not XML: %s", syntaxMessage(err))
		}
		switch t := t.(type) {
		case xml.Directive:
			return atLine(int64(line), "a DOCTYPE is not supported; remove it")
		case xml.StartElement:
			if open = append(open, t.Name.Local); len(open) > maxDepth {
				return atLine(int64(line), "there are more than %d nested elements", maxDepth)
			}
			switch t.Name.Local {
			case "domain":
				domains = append(domains, attribute(t, "name"))
			case "user":
				if user == nil && attribute(t, "type") != "pointer" {
					user = &account.ImportEntry{File: file, Line: int64(line), User: attribute(t, "id")}
					depthOfUser = len(open)
					if n := len(domains); n > 0 && !isVariable(domains[n-1]) {
						user.Realm = domains[n-1]
					}
				}
			case "param", "variable":
				if user != nil {
					setParam(user, attribute(t, "name"), attribute(t, "value"))
				}
			}
		case xml.EndElement:
			if user != nil && len(open) == depthOfUser {
				if err := yield(*user); err != nil {
					return err
				}
				user = nil
			}
			if t.Name.Local == "domain" && len(domains) > 0 {
				domains = domains[:len(domains)-1]
			}
			open = open[:len(open)-1]
		}
	}
}

// xmlReader limits the length of a document and of each token, since the decoder needs many times
// the memory of an element with many attributes. It is an io.ByteReader, so that the decoder does
// not read ahead.
type xmlReader struct {
	in            *bufio.Reader
	left, ofToken int // bytes
}

var (
	errLongXML   = errors.New("the XML is too long")
	errLongToken = errors.New("a token of the XML is too long")
)

// ReadByte implements io.ByteReader.
func (r *xmlReader) ReadByte() (byte, error) {
	b, err := r.in.ReadByte()
	if err != nil {
		return 0, err
	}
	if r.left--; r.left < 0 {
		return 0, errLongXML
	}
	if r.ofToken--; r.ofToken < 0 {
		return 0, errLongToken
	}
	return b, nil
}

// Read implements io.Reader. The decoder does not call it.
func (r *xmlReader) Read(to []byte) (int, error) {
	if len(to) == 0 {
		return 0, nil
	}
	b, err := r.ReadByte()
	if err != nil {
		return 0, err
	}
	to[0] = b
	return 1, nil
}

// syntaxMessage returns the message of an XML error, without texts of the file.
func syntaxMessage(err error) string {
	if e, ok := errors.AsType[*xml.SyntaxError](err); ok {
		return e.Msg
	}
	return fmt.Sprint(err)
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// isVariable reports whether FreeSWITCH would replace a part of a text.
func isVariable(text string) bool { return strings.Contains(text, "${") }

// setParam sets what a param or a variable says about a user.
func setParam(e *account.ImportEntry, name, value string) {
	if len(value) > maxValue {
		*e = unreadable(*e, "a value is too long")
		return
	}
	switch name {
	case "password", "a1-hash":
		switch {
		case value == "":
		case isVariable(value):
			*e = unreadable(*e, "the password is a variable of FreeSWITCH; write its value")
		case name == "password":
			setPassword(e, value)
		default:
			setHash(e, value)
		}
	case "effective_caller_id_name":
		if !isVariable(value) {
			e.Name = value
		}
	case "vm-mailto", "email":
		e.Email = value
	}
}
