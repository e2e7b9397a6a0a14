package setup

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/sipserver"
)

// question asks for one answer, which a flag gives or a person types.
type question struct {
	to         *string // where the answer goes
	flag, text string  // without a text, the question is not asked on a terminal
	fallback   func() string
	optional   bool
	skip       func() bool // whether the answer is not needed
	check      func() error
}

// questions returns the questions in their order. An answer may depend on earlier ones.
func (s *setup) questions() []question {
	host := func() string { return s.Host }
	none := func() string { return "" }
	existing := func() bool { return !s.fresh }
	known := func() bool { return s.tenant != nil }
	notFiles := func() bool { return !s.fresh || s.TLS != "files" }
	return []question{
		{to: &s.Host, flag: "host", text: "Host name, such as phone.example.org", check: s.checkHost},
		{to: &s.Realm, flag: "realm", text: "Digest realm, fixed once there are accounts", fallback: host, skip: known,
			check: func() error { return checkTenant(s.Host, s.Realm, "") }},
		{to: &s.Product, flag: "product", text: "Name of the platform for people", fallback: host, skip: known,
			check: func() error { return checkTenant(s.Host, "", s.Product) }},
		{to: &s.TLS, flag: "tls", text: "TLS by a proxy, by certificate files, or by ACME (proxy, files, acme)",
			fallback: s.usualTLS, skip: existing, check: s.checkTLS},
		{to: &s.TLSCert, flag: "tls-cert", text: "File with the certificate chain", skip: notFiles,
			check: s.checkCerts},
		{to: &s.TLSKey, flag: "tls-key", text: "File with its private key", skip: notFiles, check: s.checkPair},
		{to: &s.Listen, flag: "listen", fallback: none, optional: true, skip: existing,
			check: func() error { return s.checkKey("listen", s.Listen) }},
		{to: &s.Relay, flag: "mail-relay",
			text:     "SMTP relay, such as smtps://user@mail.example.org:465, or nothing for the pickup directory",
			fallback: none, optional: true, skip: existing, check: s.checkRelay},
		{to: &s.PasswordFile, flag: "mail-relay-password-file", text: "File with the password for the relay",
			skip:  func() bool { return !s.fresh || s.PasswordFile == "" && !s.needsPassword() },
			check: func() error { return s.checkFile(&s.PasswordFile) }},
		{to: &s.Admin, flag: "admin", text: "User name of the first operator", check: s.checkAdmin},
		{to: &s.Email, flag: "email", text: "E-mail address of the first operator",
			skip: func() bool { return s.exists }, check: s.checkEmail},
		{to: &s.PhoneServer, flag: "phone-server", fallback: func() string { return "kamailio" },
			check: func() error { return withoutField(sipserver.CheckName(s.PhoneServer)) }},
	}
}

// askAll asks for the missing answers, and checks all answers. On a terminal, it repeats the question after a wrong
// answer.
func (s *setup) askAll() error {
	if s.fresh {
		s.useGiven()
	}
	interactive := !s.Yes && terminal.Interactive(s.Stdin)
	in := bufio.NewReader(s.Stdin)
	var wrong []string
	for _, q := range s.questions() {
		if q.skip != nil && q.skip() {
			continue
		}
		err := s.answer(q, interactive, in)
		if _, ok := errors.AsType[AnswerError](err); ok && q.to != &s.Host {
			wrong = append(wrong, err.Error())
		} else if err != nil {
			return err
		}
	}
	if len(wrong) > 0 {
		return AnswerError{errors.New(strings.Join(wrong, "; "))}
	}
	return nil
}

// answer gets the answer to a question. It fails with AnswerError if the answer is missing or wrong and no person can
// be asked.
func (s *setup) answer(q question, interactive bool, in *bufio.Reader) error {
	given := *q.to != ""
	fallback := ""
	if q.fallback != nil {
		fallback = q.fallback()
	}
	for {
		switch {
		case given:
		case interactive && q.text != "":
			if err := s.ask(q, fallback, in); err != nil {
				return err
			}
		case q.fallback == nil:
			return AnswerError{fault.New(fault.Invalid, "--%s is missing, and there is no terminal to ask on", q.flag)}
		default:
			*q.to = fallback
		}
		if *q.to == "" && q.optional {
			return nil
		}
		err := errors.New("an answer is needed")
		if *q.to != "" {
			err = account.NameField(q.check())
		}
		switch _, refused := errors.AsType[*fault.Error](err); {
		case err == nil:
			return nil
		case given || !interactive:
			if refused {
				err = AnswerError{fmt.Errorf("--%s: %w", q.flag, err)}
			}
			return err
		case *q.to != "" && !refused:
			return err
		}
		fmt.Fprintf(terminal.To(s.Stderr), "  %v\n", err)
		*q.to = ""
	}
}

// ask asks a question on the terminal once.
func (s *setup) ask(q question, fallback string, in *bufio.Reader) error {
	fmt.Fprint(s.Stderr, q.text)
	if fallback != "" {
		fmt.Fprintf(terminal.To(s.Stderr), " [%s]", fallback)
	}
	fmt.Fprint(s.Stderr, ": ")
	text, err := terminal.ReadLine(s.ctx, in, s.Stderr)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if *q.to = cmp.Or(text, fallback); *q.to == "" && !q.optional && err != nil {
		return fault.New(fault.Conflict, "the questions were not answered")
	}
	return nil
}

// withoutField removes the field of an error, which NameField would take for the field of an account.
func withoutField(err error) error {
	if err == nil {
		return nil
	}
	return fault.New(fault.Invalid, "%v", err)
}
