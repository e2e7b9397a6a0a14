// Package doctor looks at what the domain of a sender says in the DNS of who sends for it (SPF, DKIM, DMARC), as whoever gets a message
// does, and tells what to add.
//
// It knows what this program knows: its keys, and the name of the relay. By which addresses a relay sends on is its own affair; so of SPF
// it can tell whether there is one record, and whether that lets anybody in or everybody, and not whether it lets the relay in.
package maildns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
)

// Resolver answers questions of the DNS; a *net.Resolver is one.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// Key is a signing key as the DNS is to have it.
type Key struct{ Selector, Record string }

// Finding is what was found of one thing.
type Finding struct {
	What string `json:"what"` // relay, spf, dkim SELECTOR, dmarc
	OK   bool   `json:"ok"`
	Says string `json:"says"`
	// Name and Add are the name and the text of a TXT record that is missing.
	Name string `json:"name,omitempty"`
	Add  string `json:"add,omitempty"`
}

// Examine looks at the sender's domain. The relay's host is for the SPF record that is proposed.
func Examine(ctx context.Context, dns Resolver, domain, relay string, keys []Key) []Finding {
	d := examination{ctx, dns, domain}
	list := []Finding{d.spf(relay)}
	for _, k := range keys {
		list = append(list, d.dkim(k))
	}
	if len(keys) == 0 {
		list = append(list, Finding{What: "dkim", Says: "messages are not signed here; make a key with dialtone mail dkim add, unless the relay signs"})
	}
	return append(list, d.dmarc())
}

type examination struct {
	ctx    context.Context
	dns    Resolver
	domain string
}

// records are the TXT records of a name that begin with a tag. No such name is no records.
func (d examination) records(name, tag string) (list []string, err error) {
	all, err := d.dns.LookupTXT(d.ctx, name)
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
		return nil, nil
	}
	for _, text := range all {
		if version, _, _ := strings.Cut(strings.ToLower(text)+" ", " "); strings.HasPrefix(version+";", tag+";") {
			list = append(list, text)
		}
	}
	return list, err
}

// spf looks at RFC 7208 §4.5: one record, and not for everybody.
func (d examination) spf(relay string) Finding {
	f := Finding{What: "spf"}
	list, err := d.records(d.domain, "v=spf1")
	switch {
	case err != nil:
		f.Says = unanswered(d.domain, err)
	case len(list) == 0:
		f.Says, f.Name, f.Add = "there is no record of who sends for "+d.domain, d.domain, "v=spf1 mx -all"
		if relay != "" && net.ParseIP(relay) == nil {
			f.Add = "v=spf1 mx a:" + relay + " -all"
			f.Says += "; where the relay is a provider's, put the include: of its manual in the place of a:" + relay
		}
	case len(list) > 1:
		f.Says = fmt.Sprintf("there are %d records, and whoever checks takes that for none; make one of them: %q", len(list), list)
	case everybody(list[0]):
		f.Says = fmt.Sprintf("%q lets everybody send for %s; end it with -all or ~all", list[0], d.domain)
	default:
		f.OK, f.Says = true, fmt.Sprintf("%q; whether it has the addresses that the relay sends by, ask whoever runs the relay", list[0])
	}
	return f
}

// everybody reports whether a record ends by letting everybody send (RFC 7208 §5.1).
func everybody(record string) bool {
	for _, term := range strings.Fields(strings.ToLower(record)) {
		if term == "all" || term == "+all" {
			return true
		}
	}
	return false
}

func (d examination) dkim(k Key) Finding {
	name := k.Selector + "._domainkey." + d.domain
	f := Finding{What: "dkim " + k.Selector, Name: name, Add: k.Record}
	all, err := d.dns.LookupTXT(d.ctx, name)
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
		all, err = nil, nil
	}
	switch {
	case err != nil:
		f.Says = unanswered(name, err)
	case len(all) == 0:
		f.Says = "the public key is not in the DNS"
	case len(all) > 1:
		f.Says = fmt.Sprintf("there are %d records where there may be one", len(all))
	case tagged(all[0])["p"] != tagged(k.Record)["p"]:
		f.Says = "the DNS has another key than this program signs with"
	case algorithm(all[0]) != algorithm(k.Record):
		f.Says = "the DNS says another algorithm than the key has"
	default:
		return Finding{What: f.What, OK: true, Says: "the DNS has the key that messages are signed with"}
	}
	return f
}

func algorithm(record string) string {
	if k, ok := tagged(record)["k"]; ok {
		return k
	}
	return "rsa" // RFC 6376 §3.6.1
}

// dmarc looks at RFC 7489 §6.6.3, with the domain above where the sender's has no record of its own.
func (d examination) dmarc() Finding {
	f := Finding{What: "dmarc"}
	var list []string
	var err error
	at := d.domain
	for {
		list, err = d.records("_dmarc."+at, "v=dmarc1")
		_, above, more := strings.Cut(at, ".")
		if err != nil || len(list) > 0 || !more || !strings.Contains(above, ".") {
			break
		}
		at = above
	}
	switch {
	case err != nil:
		f.Says = unanswered("_dmarc."+at, err)
	case len(list) == 0:
		f.Says, f.Name, f.Add = "there is no policy for messages that fail SPF and DKIM", "_dmarc."+d.domain, "v=DMARC1; p=none"
	case len(list) > 1:
		f.Says = fmt.Sprintf("there are %d records at _dmarc.%s, and whoever checks takes that for none", len(list), at)
	default:
		policy := strings.ToLower(tagged(list[0])["p"])
		f.OK = policy == "none" || policy == "quarantine" || policy == "reject"
		f.Says = fmt.Sprintf("%q at _dmarc.%s", list[0], at)
		if !f.OK {
			f.Says += " has no policy; it is p=none, p=quarantine or p=reject"
		}
	}
	return f
}

func unanswered(name string, err error) string {
	return fmt.Sprintf("the DNS does not tell of %s: %v", name, err)
}

// tagged are the tags of a record (RFC 6376 §3.2).
func tagged(record string) map[string]string {
	tags := make(map[string]string)
	for part := range strings.SplitSeq(record, ";") {
		name, value, _ := strings.Cut(part, "=")
		tags[strings.ToLower(strings.TrimSpace(name))] = strings.Join(strings.Fields(value), "")
	}
	return tags
}
