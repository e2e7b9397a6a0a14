package userfile

import (
	"bufio"
	"errors"
	"io"
	"strings"

	"dialtone/internal/account"
)

// defaultRealm is the realm of Asterisk where nothing else is configured.
const defaultRealm = "asterisk"

// maxSections limits how many sections of an Asterisk file are kept in memory.
const maxSections = 1_000_000

// authSection is a section with type=auth of pjsip.conf, or a row of ps_auths.
type authSection struct {
	name, user, kind, realm, md5 string
	password                     string
	digests                      []string
}

// fill sets the entry of the section. realm is the default of the file.
func (a authSection) fill(e *account.ImportEntry, realm string) {
	e.User = a.user
	if e.User == "" {
		e.User = a.name
	}
	var sum string
	switch kind := strings.ToLower(a.kind); kind {
	case "", "userpass", "md5", "digest":
		if kind != "md5" {
			setPassword(e, a.password)
		}
		if kind != "userpass" || a.password == "" {
			setHash(e, a.md5)
		}
	default:
		e.Problem, e.Detail = account.ImportNoPassword, "another auth_type"
		return
	}
	for _, d := range a.digests {
		algorithm, hash, _ := strings.Cut(strings.TrimSpace(d), ":")
		switch strings.ToUpper(strings.TrimSpace(algorithm)) {
		case "MD5":
			setHash(e, hash)
		case "SHA-256":
			sum = hash
		}
	}
	setVariants(e, "", sum)
	// The realm of a plain password is only what the server sends; HA1 contains it.
	if e.HA1 != nil || e.SHA256 != nil {
		if e.Realm = a.realm; e.Realm == "" {
			e.Realm = realm
		}
		if e.Realm == "" {
			e.Realm = defaultRealm
		}
	}
}

// startsWithSection reports whether a text is a configuration file of Asterisk.
func startsWithSection(in *bufio.Reader) bool {
	start, _ := in.Peek(maxValue)
	for line := range strings.Lines(string(start)) {
		line = strings.TrimSpace(line)
		if line != "" && line[0] != ';' {
			return line[0] == '['
		}
	}
	return false
}

// section is a section of a configuration file.
type section struct {
	line     int64
	name     string
	template bool
	of       []string // templates
	keys     []setting
}

type setting struct{ key, value string }

// readAsterisk reads pjsip.conf or sip.conf. It keeps the sections in memory until the end, because
// a template or a reference to a section may follow later.
func readAsterisk(in *bufio.Reader, yield Yield) error {
	lines := &lineReader{in: in}
	var all []*section
	var included []account.ImportEntry
	inComment := false
	settings := 0
	for {
		raw, err := lines.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		var text string
		text, inComment = uncommented(string(raw), inComment)
		switch {
		case text == "":
		case text[0] == '#':
			switch strings.Fields(text)[0] {
			case "#include", "#tryinclude", "#exec":
				included = append(included, unreadable(account.ImportEntry{Line: lines.line},
					"an included file is not read; import it too"))
			}
		case text[0] == '[':
			s := newSection(text)
			if s == nil {
				return atLine(lines.line, "the name of a section does not end with ]")
			}
			if len(all) == maxSections {
				return atLine(lines.line, "there are more than %d sections", maxSections)
			}
			s.line = lines.line
			all = append(all, s)
		case len(all) == 0:
			return atLine(lines.line, "a setting is before the first section")
		default:
			key, value, ok := strings.Cut(text, "=")
			if !ok {
				continue
			}
			if settings++; settings > 20*maxSections {
				return atLine(lines.line, "there are too many settings")
			}
			value = strings.TrimSpace(strings.TrimPrefix(value, ">"))
			last := all[len(all)-1]
			last.keys = append(last.keys, setting{strings.ToLower(strings.TrimSpace(key)), value})
		}
	}
	for _, e := range included {
		if err := yield(e); err != nil {
			return err
		}
	}
	return yieldSections(all, yield)
}

// uncommented returns a line without comments: after a semicolon without a backslash, and between ;-- and --;.
func uncommented(line string, inComment bool) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(line); i++ {
		switch rest := line[i:]; {
		case inComment:
			if strings.HasPrefix(rest, "--;") {
				inComment = false
				i += 2
			}
		case strings.HasPrefix(rest, `\;`):
			b.WriteByte(';')
			i++
		case strings.HasPrefix(rest, ";--") && !strings.HasPrefix(rest, ";---"):
			inComment = true
			i += 2
		case rest[0] == ';':
			return strings.TrimSpace(b.String()), false
		default:
			b.WriteByte(rest[0])
		}
	}
	return strings.TrimSpace(b.String()), inComment
}

// newSection returns the section of a line [name](options), or nil.
func newSection(text string) *section {
	name, options, ok := strings.Cut(text[1:], "]")
	if !ok {
		return nil
	}
	s := &section{name: strings.TrimSpace(name)}
	options = strings.Trim(strings.TrimSpace(options), "()")
	for o := range strings.SplitSeq(options, ",") {
		switch o = strings.TrimSpace(o); o {
		case "", "+":
		case "!":
			s.template = true
		default:
			s.of = append(s.of, o)
		}
	}
	return s
}

// visitsEach is how many sections may be examined, on average, for each section: for its keys, and
// those in its templates. Templates that name each other often would otherwise take forever.
const visitsEach = 200

// sections finds sections by their names.
type sections struct {
	named map[string]*section
	// visits is how many sections may still be examined.
	visits int
}

// get returns the values of a key, including those of templates, the most specific last. It returns
// none if no visits are left.
func (ss *sections) get(s *section, key string, depth int) (values []string) {
	const maxTemplates = 8 // nested
	if ss.visits--; ss.visits < 0 {
		return nil
	}
	if depth < maxTemplates {
		for _, name := range s.of {
			if t := ss.named[name]; t != nil && t != s {
				values = append(values, ss.get(t, key, depth+1)...)
			}
		}
	}
	for _, k := range s.keys {
		if k.key == key {
			values = append(values, k.value)
		}
	}
	return values
}

// last returns the value of the first of the keys that has one.
func (ss *sections) last(s *section, keys ...string) string {
	for _, key := range keys {
		if values := ss.get(s, key, 0); len(values) > 0 {
			return values[len(values)-1]
		}
	}
	return ""
}

// yieldSections yields the accounts of the sections.
func yieldSections(all []*section, yield Yield) error {
	named := &sections{make(map[string]*section, len(all)), visitsEach * (len(all) + 100)}
	for _, s := range all {
		if s.template || named.named[s.name] == nil {
			named.named[s.name] = s
		}
	}
	outbound, names, realm := make(map[string]bool), make(map[string]string), ""
	pjsip := false
	for _, s := range all {
		switch kind := named.last(s, "type"); {
		case kind == "auth" || kind == "endpoint" || kind == "aor":
			pjsip = true
		case kind == "global":
			realm = named.last(s, "default_realm")
		case s.name == "general" && kind == "":
			realm = named.last(s, "realm")
		}
		for _, auth := range strings.Split(named.last(s, "outbound_auth"), ",") {
			outbound[strings.TrimSpace(auth)] = true
		}
		if caller, _, ok := strings.Cut(named.last(s, "callerid"), "<"); ok {
			for _, auth := range strings.Split(named.last(s, "auth"), ",") {
				names[strings.TrimSpace(auth)] = strings.Trim(strings.TrimSpace(caller), `"`)
			}
		}
	}
	for _, s := range all {
		if s.template {
			continue
		}
		e := account.ImportEntry{Line: s.line}
		var ok bool
		if pjsip {
			ok = named.pjsipAuth(s, &e, realm)
			e.Name = names[s.name]
			if ok && outbound[s.name] {
				e.Problem = account.ImportTrunk
			}
		} else {
			ok = named.sipPeer(s, &e, realm)
		}
		if named.visits < 0 {
			return atLine(s.line, "the templates name each other too often")
		}
		if !ok {
			continue
		}
		if err := yield(e); err != nil {
			return err
		}
	}
	return nil
}

// pjsipAuth sets the entry of a section with type=auth.
func (ss *sections) pjsipAuth(s *section, e *account.ImportEntry, realm string) bool {
	if ss.last(s, "type") != "auth" {
		return false
	}
	a := authSection{
		name: s.name, user: ss.last(s, "username"), kind: ss.last(s, "auth_type"), realm: ss.last(s, "realm"),
		password: ss.last(s, "password"), md5: ss.last(s, "md5_cred"), digests: ss.get(s, "password_digest", 0),
	}
	a.fill(e, realm)
	return true
}

// sipPeer sets the entry of a peer of sip.conf.
func (ss *sections) sipPeer(s *section, e *account.ImportEntry, realm string) bool {
	switch ss.last(s, "type") {
	case "friend", "peer", "user":
	default:
		return false
	}
	e.User = s.name
	if host := ss.last(s, "host"); host != "" && !strings.EqualFold(host, "dynamic") {
		e.Problem = account.ImportTrunk
		return true
	}
	if caller, _, ok := strings.Cut(ss.last(s, "callerid"), "<"); ok {
		e.Name = strings.Trim(strings.TrimSpace(caller), `"`)
	} else {
		e.Name = ss.last(s, "fullname")
	}
	setPassword(e, ss.last(s, "secret"))
	if setHash(e, ss.last(s, "md5secret")); e.HA1 != nil {
		setPassword(e, "") // Asterisk ignores secret then
		if e.Realm = realm; e.Realm == "" {
			e.Realm = defaultRealm
		}
	}
	return true
}
