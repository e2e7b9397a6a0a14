package userfile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// readJSONLines reads a JSON object a line, with the members of PlainColumns and password. Others are ignored.
func readJSONLines(in *bufio.Reader, yield Yield) error {
	lines := &lineReader{in: in}
	for {
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var o struct {
			User, Username, Realm, Domain, Name, Email, Role, Lang, Password string

			HA1    string `json:"ha1"`
			HA1B   string `json:"ha1b"`
			SHA256 string `json:"ha1_sha256"`
		}
		r := row{line: lines.line}
		if json.Unmarshal(line, &o) != nil { // its error may quote a secret
			r.problem = "not a JSON object with texts"
		}
		r.values = map[string]string{
			"user": o.User, "username": o.Username, "realm": o.Realm, "domain": o.Domain, "name": o.Name,
			"email": o.Email, "role": o.Role, "lang": o.Lang, "password": o.Password, "ha1": o.HA1, "ha1b": o.HA1B,
			"ha1_sha256": o.SHA256,
		}
		if err := readPlain(r, yield); err != nil {
			return err
		}
	}
}
